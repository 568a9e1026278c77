//! One hand-out of a message. Made once per message taken, so it is small and decodes nothing until asked.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyType};
use wherry_engine::{Delivery as EngineDelivery, Error as EngineError, Outcome};

use crate::awaitable::Completed;
use crate::browse::deaths;
use crate::consumer::HandOut;
use crate::convert::{NS, duration};
use crate::errors::{Error, Result};
use crate::properties::{View, maybe_text};

/// One hand-out of a message to one consumer. It belongs to you until it is settled.
///
/// Settle it once: with `ack`, `nack` or `reject`, or by `async with delivery:` (`with` in blocking code), which acks
/// on success; on an exception the queue's retry policy decides, or else it returns to its place, and the exception
/// goes on; when the block is cancelled or interrupted it returns to its place without counting as a failure.
/// Settling does not wait for the disk; `broker.sync()` does. One that came from `get` and is dropped unsettled returns
/// to its place; one that came from a consumer does so when the consumer is left.
///
/// Attributes are decoded when read, each time; keep what you use often. Safe to use from any thread.
#[pyclass(frozen, module = "wherry")]
pub(crate) struct Delivery {
    pub(crate) hand_out: Arc<HandOut>,
    delivery: EngineDelivery,
    body: Body,
    /// Settled through this object. Relaxed: a hint for `__exit__`; the engine decides.
    settled: AtomicBool,
}

/// A `bytes` that is made when it is first asked for. Asking never waits: if two threads make one at the same time, the
/// second one drops its own. A `PyOnceLock` does more, and takes six times as long.
#[derive(Default)]
struct Body(AtomicPtr<ffi::PyObject>);

impl Body {
    fn get(&self, py: Python<'_>, content: &[u8]) -> Py<PyBytes> {
        // Acquire: pairs with the Release below; the object is seen as it was made.
        let mut object = self.0.load(Ordering::Acquire);
        if object.is_null() {
            let made = PyBytes::new(py, content);
            // AcqRel: Release publishes the object, Acquire, also on failure, is for another's.
            let placed = self.0.compare_exchange(
                ptr::null_mut(),
                made.as_ptr(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            object = match placed {
                Ok(_) => made.into_ptr(), // its reference is ours now
                Err(others) => others,
            };
        }
        // SAFETY: a `bytes` was stored, with a reference that we own and keep until we are dropped.
        unsafe { Bound::from_borrowed_ptr(py, object).cast_into_unchecked() }.unbind()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let object = *self.0.get_mut();
        if !object.is_null() {
            // SAFETY: one was made, so this is in a Python object that is being deallocated, for which Python is attached;
            // the reference is ours, and ends here.
            unsafe { drop(Bound::from_owned_ptr(Python::assume_attached(), object)) };
        }
    }
}

impl Delivery {
    #[inline]
    pub(crate) fn new(hand_out: Arc<HandOut>, delivery: EngineDelivery) -> Self {
        let settled = AtomicBool::new(hand_out.no_ack);
        Delivery {
            hand_out,
            delivery,
            body: Body::default(),
            settled,
        }
    }

    pub(crate) fn tag(&self) -> u64 {
        self.delivery.tag
    }

    pub(crate) fn mark_settled(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    #[inline]
    fn settle(&self, outcome: Outcome) -> Result<()> {
        self.hand_out.settle(self.delivery.tag, false, outcome)?;
        self.mark_settled();
        Ok(())
    }

    /// The end of a `with` block.
    fn leave(&self, raised: &Bound<'_, PyAny>) -> Result<()> {
        if self.settled.load(Ordering::Relaxed) {
            return Ok(());
        }
        if raised.is_none() {
            return self.settle(Outcome::Ack);
        }
        let class = raised.cast::<PyType>().map_err(PyErr::from)?;
        let outcome = if class.is_subclass_of::<PyException>()? {
            Outcome::Failed
        } else {
            // Cancelled or interrupted: no fault of the message.
            Outcome::Release
        };
        match self.settle(outcome) {
            // The consumer, the lease or the broker is gone, so the message is back already. The user's exception
            // says more than ours would.
            Err(Error::Engine(EngineError::UnknownDelivery { .. } | EngineError::Closed)) => Ok(()),
            other => other,
        }
    }

    fn view(&self) -> View<'_> {
        View(&self.delivery.message)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.hand_out.for_get && !*self.settled.get_mut() {
            // Settled otherwise, or its broker is closed: then there is nothing to give back.
            let _ = self
                .hand_out
                .settle(self.delivery.tag, false, Outcome::Release);
        }
    }
}

impl Delivery {
    /// As a Python object.
    #[inline]
    pub(crate) fn into_object(self, py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        let object = Bound::new(py, self)?;
        // The garbage collector has nothing to do here: no cycle goes through what a delivery holds. Without this it would look
        // at all deliveries of a batch again and again.
        // SAFETY: the first may be asked of any object. What it says is tracked has the collector's header, which is all that
        // the second needs; whether our type has one is for PyO3 to choose.
        unsafe {
            if ffi::PyObject_GC_IsTracked(object.as_ptr()) != 0 {
                ffi::PyObject_GC_UnTrack(object.as_ptr().cast());
            }
        }
        Ok(object)
    }
}

/// A list of deliveries.
pub(crate) fn list_of<'py>(
    py: Python<'py>,
    hand_out: &Arc<HandOut>,
    taken: Vec<EngineDelivery>,
) -> PyResult<Bound<'py, PyList>> {
    let made = taken
        .into_iter()
        .map(|delivery| Delivery::new(Arc::clone(hand_out), delivery).into_object(py))
        .collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, made)
}

#[pymethods]
impl Delivery {
    /// The message's body. Made when first read.
    #[getter]
    fn body(&self, py: Python<'_>) -> Py<PyBytes> {
        self.body.get(py, self.delivery.message.body())
    }

    /// The message's headers, as a new dict.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.view().headers(py)
    }

    /// All properties of the message, as a `wherry.Properties`.
    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.view().properties(py)
    }

    /// The exchange it was published to; empty for the default exchange.
    #[getter]
    fn exchange(&self) -> &str {
        self.delivery.message.exchange()
    }

    /// The routing key it was published with.
    #[getter]
    fn routing_key(&self) -> &str {
        self.delivery.message.routing_key()
    }

    /// The name of the queue it was taken from.
    #[getter]
    fn queue(&self) -> &str {
        self.hand_out.consumer.queue().name()
    }

    /// Its number among the deliveries of its consumer, from 1.
    #[getter]
    fn delivery_tag(&self) -> u64 {
        self.delivery.tag
    }

    /// Its place in the queue; requeued, it goes back there.
    #[getter]
    fn position(&self) -> u64 {
        self.delivery.position
    }

    /// As published; 0 when the publisher gave none.
    #[getter]
    fn priority(&self) -> u8 {
        self.delivery.message.properties().priority().unwrap_or(0)
    }

    /// It was handed out before.
    #[getter]
    fn redelivered(&self) -> bool {
        self.delivery.redelivered
    }

    /// How many earlier attempts there were.
    #[getter]
    fn delivery_count(&self) -> u32 {
        self.delivery.delivery_count
    }

    /// Why and where the message was dead-lettered, the latest first; empty if it never was.
    #[getter]
    fn deaths<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        deaths(&self.view().headers(py)?)
    }

    /// It survives a restart, in a durable queue.
    #[getter]
    fn persistent(&self) -> bool {
        self.delivery.message.persistent()
    }

    /// When the broker took it, in Unix seconds.
    #[getter]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a float of Unix seconds has microseconds, as time.time()"
    )]
    fn published(&self) -> f64 {
        self.delivery.message.published_ns() as f64 / NS
    }

    /// The publisher's id of the message.
    #[getter]
    fn message_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe_text(py, self.delivery.message.properties().message_id())
    }

    /// The publisher's id of the request that it answers.
    #[getter]
    fn correlation_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe_text(py, self.delivery.message.properties().correlation_id())
    }

    /// Where the publisher wants an answer.
    #[getter]
    fn reply_to<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe_text(py, self.delivery.message.properties().reply_to())
    }

    /// The body's MIME type.
    #[getter]
    fn content_type<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe_text(py, self.delivery.message.properties().content_type())
    }

    /// The body's encoding.
    #[getter]
    fn content_encoding<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe_text(py, self.delivery.message.properties().content_encoding())
    }

    /// The publisher's name for the kind of message.
    #[getter]
    fn r#type<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe_text(py, self.delivery.message.properties().type_())
    }

    /// The publishing application.
    #[getter]
    fn app_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe_text(py, self.delivery.message.properties().app_id())
    }

    /// The publishing user.
    #[getter]
    fn user_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        maybe_text(py, self.delivery.message.properties().user_id())
    }

    /// The publisher's time, in whole seconds.
    #[getter]
    fn timestamp<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.view().timestamp(py)
    }

    /// Its time to live in seconds, as published.
    #[getter]
    fn expiration(&self) -> Option<f64> {
        self.view().expiration()
    }

    /// Done: the message leaves the queue for good. Does not wait for the disk.
    ///
    /// Raises:
    ///     UnknownDelivery: it is settled already, its lease ran out, or its consumer is gone.
    fn ack(&self) -> Result<()> {
        self.settle(Outcome::Ack)
    }

    /// Not done: the message returns to its own place, or with `requeue=False` it is dead-lettered or dropped.
    ///
    /// Returned, the attempt counts as failed: the queue's retry policy and delivery limit apply.
    ///
    /// Raises:
    ///     UnknownDelivery: it is settled already, its lease ran out, or its consumer is gone.
    #[pyo3(signature = (requeue=true))]
    fn nack(&self, requeue: bool) -> Result<()> {
        self.settle(Outcome::Nack { requeue })
    }

    /// Refused: the message is dead-lettered, or dropped if the queue has no dead-letter exchange.
    ///
    /// Raises:
    ///     UnknownDelivery: it is settled already, its lease ran out, or its consumer is gone.
    #[pyo3(signature = (requeue=false))]
    fn reject(&self, requeue: bool) -> Result<()> {
        self.settle(Outcome::Reject { requeue })
    }

    /// Makes the lease end `seconds` from now.
    ///
    /// Raises:
    ///     UnknownDelivery: it is settled already, or its lease ran out.
    ///     PreconditionFailed: the queue has no lease.
    fn extend(&self, seconds: f64) -> Result<()> {
        Ok(self
            .hand_out
            .consumer
            .extend(self.delivery.tag, duration("extend", seconds)?)?)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> Result<()> {
        self.leave(exc_type)
    }

    fn __aenter__(slf: Py<Self>) -> Completed {
        Completed::new(slf)
    }

    fn __aexit__(
        &self,
        exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> Result<Completed> {
        self.leave(exc_type)?;
        Ok(Completed::none())
    }

    fn __repr__(&self) -> String {
        format!(
            "<wherry.Delivery {} of queue '{}', {} bytes, routing_key='{}'>",
            self.delivery.tag,
            self.queue(),
            self.delivery.message.body().len(),
            self.routing_key(),
        )
    }
}
