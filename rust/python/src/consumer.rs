//! Consumers: taking, waiting to take, settling many.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::PyList;
use wherry_engine::{
    Consumer as EngineConsumer, ConsumerOptions, Delivery as EngineDelivery, Error as EngineError,
    Notify, Outcome, VirtualHost as EngineHost,
};

use crate::awaitable::Completed;
use crate::convert::maybe_duration;
use crate::delivery::{Delivery, list_of};
use crate::errors::{Error, Result};
use crate::host::EMBEDDER;
use crate::parker::{Parker, deadline};
use crate::port::Port;
use crate::queue::Queue;
use crate::shared::Shared;
use crate::whole;

/// An engine consumer with what its deliveries need to settle themselves. When the last delivery and the last Python
/// object let go of it, the engine returns what is unacknowledged.
pub(crate) struct HandOut {
    pub(crate) shared: Arc<Shared>,
    pub(crate) consumer: Arc<EngineConsumer>,
    pub(crate) no_ack: bool,
    host: Arc<EngineHost>,
    /// Takes for `get`: a delivery that nobody holds any more goes back.
    pub(crate) for_get: bool,
    /// `cancel` was called from our side. Release in `cancel`, Acquire in `check`.
    left: AtomicBool,
}

impl HandOut {
    pub(crate) fn new(
        queue: &Queue,
        consumer: Arc<EngineConsumer>,
        no_ack: bool,
        for_get: bool,
    ) -> Self {
        HandOut {
            shared: Arc::clone(&queue.shared),
            consumer,
            no_ack,
            for_get,
            host: Arc::clone(&queue.host),
            left: AtomicBool::new(false),
        }
    }

    /// An error if nothing will ever come.
    #[cold]
    pub(crate) fn check(&self) -> Result<()> {
        // What is settled after closing would not reach the disk.
        self.shared.check_open()?;
        if self.left.load(Ordering::Acquire) {
            return Err(Error::invalid(
                "this consumer was left: open another with queue.consume()",
            ));
        }
        let queue = self.consumer.queue();
        // Who waits in `get` is no consumer that the engine cancels with the queue.
        if queue.is_deleted() || self.consumer.is_cancelled() {
            return Err(EngineError::UnknownQueue {
                name: queue.name().to_owned(),
                virtual_host: self.host.name().to_owned(),
            }
            .into());
        }
        Ok(())
    }

    pub(crate) fn settle(&self, tag: u64, multiple: bool, outcome: Outcome) -> Result<()> {
        self.shared.check_open()?;
        // Room in the prefetch, the next of a group, a requeued message: all may wake somebody.
        let _call = self.shared.enter();
        self.consumer.settle(tag, multiple, outcome)?;
        Ok(())
    }

    fn cancel(&self) {
        self.left.store(true, Ordering::Release);
        let _call = self.shared.enter();
        self.consumer.cancel();
    }
}

/// `async for` gives other tasks a turn after this many deliveries ...
const TURN_DELIVERIES: u32 = 100;
/// ... or after this time, whichever comes first.
const TURN_NS: u64 = 1_000_000;

/// The part of a consumer that does not wait. Base of `wherry.Consumer`.
#[pyclass(frozen, subclass, module = "wherry._core")]
pub(crate) struct Consumer {
    pub(crate) hand_out: Arc<HandOut>,
    token: u64,
    born: Instant,
    /// Deliveries of `async for` since other tasks had a turn. The iterating task only, hence Relaxed; two tasks that
    /// iterate over one consumer merely share the budget.
    handed: AtomicU32,
    /// When that turn was, in nanoseconds after `born`. Likewise.
    turn_ns: AtomicU64,
}

impl Consumer {
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python function"
    )]
    fn open(
        queue: &Queue,
        notify: Option<(Arc<dyn Notify>, u64)>,
        prefetch: u32,
        no_ack: bool,
        priority: i32,
        exclusive: bool,
        tag: Option<String>,
        hidden: bool,
    ) -> Result<Self> {
        let options = ConsumerOptions {
            tag: tag.unwrap_or_default(),
            prefetch,
            no_ack,
            priority,
            exclusive,
            owner: EMBEDDER,
            hidden,
            ..ConsumerOptions::default()
        };
        let token = notify.as_ref().map_or(0, |(_, token)| *token);
        let consumer = queue.queue.consume(options, notify)?;
        Ok(Consumer {
            hand_out: Arc::new(HandOut::new(queue, consumer, no_ack, hidden)),
            token,
            born: Instant::now(),
            handed: AtomicU32::new(0),
            turn_ns: AtomicU64::new(0),
        })
    }

    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Counts one delivery against the budget; false when other tasks must have a turn first.
    #[inline]
    fn within_turn(&self) -> bool {
        let handed = self.handed.load(Ordering::Relaxed);
        if handed >= TURN_DELIVERIES
            || self
                .elapsed_ns()
                .saturating_sub(self.turn_ns.load(Ordering::Relaxed))
                >= TURN_NS
        {
            return false;
        }
        self.handed.store(handed + 1, Ordering::Relaxed);
        true
    }

    fn take(&self, max: usize) -> Result<Vec<EngineDelivery>> {
        let mut taken = Vec::with_capacity(max.min(128));
        let _call = self.hand_out.shared.enter();
        if self.hand_out.consumer.take(max, &mut taken) == 0 {
            self.hand_out.check()?;
        }
        Ok(taken)
    }

    fn settle_many(&self, deliveries: &Bound<'_, PyAny>, outcome: Outcome) -> Result<()> {
        let mut owned = Vec::with_capacity(deliveries.len().unwrap_or(0));
        for item in deliveries.try_iter()? {
            owned.push(item?.cast_into::<Delivery>().map_err(PyErr::from)?);
        }
        let deliveries = owned;
        let mut tags = Vec::with_capacity(deliveries.len());
        for delivery in &deliveries {
            tags.push(self.own(delivery.get())?);
        }
        self.hand_out.shared.check_open()?;
        let _call = self.hand_out.shared.enter();
        self.hand_out.consumer.settle_many(&tags, outcome)?;
        for delivery in &deliveries {
            delivery.get().mark_settled();
        }
        Ok(())
    }

    /// The tag of a delivery of this consumer.
    fn own(&self, delivery: &Delivery) -> Result<u64> {
        if Arc::ptr_eq(&delivery.hand_out, &self.hand_out) {
            return Ok(delivery.tag());
        }
        Err(Error::Engine(EngineError::UnknownDelivery {
            tag: delivery.tag(),
        }))
    }
}

#[pymethods]
impl Consumer {
    #[new]
    #[pyo3(signature = (queue, port, *, prefetch=0, no_ack=false, priority=0, exclusive=false, tag=None, hidden=false))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python function"
    )]
    fn new(
        queue: &Queue,
        port: &Port,
        #[pyo3(from_py_with = whole::prefetch)] prefetch: u32,
        no_ack: bool,
        #[pyo3(from_py_with = whole::priority)] priority: i32,
        exclusive: bool,
        tag: Option<String>,
        hidden: bool,
    ) -> Result<Self> {
        let notify: Arc<dyn Notify> = Arc::clone(&port.inner) as _;
        let token = port.inner.next_token();
        Consumer::open(
            queue,
            Some((notify, token)),
            prefetch,
            no_ack,
            priority,
            exclusive,
            tag,
            hidden,
        )
    }

    /// Its name, chosen by the broker unless given.
    #[getter]
    fn tag(&self) -> &str {
        self.hand_out.consumer.tag()
    }

    /// How many deliveries may be unacknowledged at a time; 0 is no limit. May be set at any time.
    #[getter]
    fn prefetch(&self) -> u32 {
        self.hand_out.consumer.prefetch()
    }

    #[setter]
    fn set_prefetch(&self, #[pyo3(from_py_with = whole::prefetch)] prefetch: u32) {
        let _call = self.hand_out.shared.enter();
        self.hand_out.consumer.set_prefetch(prefetch);
    }

    /// How many deliveries are unacknowledged now.
    #[getter]
    fn unacked(&self) -> usize {
        self.hand_out.consumer.unacked()
    }

    /// Takes up to `max` messages without waiting; an empty list when none is ready, or the prefetch is used up.
    ///
    /// Raises:
    ///     UnknownQueue: the queue was deleted.
    ///     BrokerClosed: the broker was closed.
    #[pyo3(signature = (max=100))]
    fn take_nowait<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = whole::max)] max: usize,
    ) -> Result<Bound<'py, PyList>> {
        let taken = self.take(max)?;
        Ok(list_of(py, &self.hand_out, taken)?)
    }

    /// Acknowledges this delivery and every earlier one of this consumer. Does not wait for the disk.
    ///
    /// Raises:
    ///     UnknownDelivery: it is of another consumer, or settled; nothing changed.
    fn ack_up_to(&self, delivery: &Bound<'_, Delivery>) -> Result<()> {
        let delivery = delivery.get();
        self.hand_out
            .settle(self.own(delivery)?, true, Outcome::Ack)?;
        delivery.mark_settled();
        Ok(())
    }

    /// Acknowledges these deliveries, all or none. Does not wait for the disk.
    ///
    /// Raises:
    ///     UnknownDelivery: one is of another consumer, or settled; nothing changed.
    fn ack_many(&self, deliveries: &Bound<'_, PyAny>) -> Result<()> {
        self.settle_many(deliveries, Outcome::Ack)
    }

    /// Returns these deliveries to their places, or drops (dead-letters) them, all or none.
    ///
    /// Raises:
    ///     UnknownDelivery: one is of another consumer, or settled; nothing changed.
    #[pyo3(signature = (deliveries, requeue=true))]
    fn nack_many(&self, deliveries: &Bound<'_, PyAny>, requeue: bool) -> Result<()> {
        self.settle_many(deliveries, Outcome::Nack { requeue })
    }

    /// The handling of these deliveries failed: the queue's retry policy decides.
    fn _fail_many(&self, deliveries: &Bound<'_, PyAny>) -> Result<()> {
        self.settle_many(deliveries, Outcome::Failed)
    }

    /// These deliveries return to their places as if they had not been handed out.
    fn _release_many(&self, deliveries: &Bound<'_, PyAny>) -> Result<()> {
        self.settle_many(deliveries, Outcome::Release)
    }

    /// The token that the port reports when `_arm` asked for it.
    #[getter]
    fn _token(&self) -> u64 {
        self.token
    }

    /// Asks for one wake-up; true when something is ready now, and nothing was asked for.
    fn _arm(&self) -> bool {
        self.hand_out.consumer.arm()
    }

    /// Takes the request back; a wake-up already spent on it goes to another waiter.
    fn _disarm(&self) {
        let _call = self.hand_out.shared.enter();
        self.hand_out.consumer.disarm();
    }

    /// Returns what is unacknowledged, and ends it. May be repeated.
    fn _cancel(&self) {
        self.hand_out.cancel();
    }

    /// Other tasks just had a turn.
    fn _turned(&self) {
        self.handed.store(0, Ordering::Relaxed);
        self.turn_ns.store(self.elapsed_ns(), Ordering::Relaxed);
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// The next delivery: at once if one is ready, else (and when other tasks must have a turn) by `_next`, a
    /// coroutine method of the subclass.
    fn __anext__<'py>(slf: &Bound<'py, Self>) -> Result<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.within_turn()
            && let Some(delivery) = this.take(1)?.pop()
        {
            let delivery = Delivery::new(Arc::clone(&this.hand_out), delivery)
                .into_object(py)?
                .unbind();
            return Ok(Completed::new(delivery).into_pyobject(py)?.into_any());
        }
        Ok(slf.call_method0(pyo3::intern!(py, "_next"))?)
    }
}

/// A consumer for plain threads: waits in the engine, with the interpreter released. Base of
/// `wherry.blocking.Consumer`.
#[pyclass(frozen, subclass, extends = Consumer, module = "wherry._core")]
pub(crate) struct BlockingConsumer {
    parker: Arc<Parker>,
}

impl BlockingConsumer {
    fn wait(
        &self,
        py: Python<'_>,
        base: &Consumer,
        max: usize,
        timeout: Option<f64>,
    ) -> Result<Vec<EngineDelivery>> {
        let deadline = deadline(maybe_duration("timeout", timeout)?);
        loop {
            let taken = base.take(max)?;
            if !taken.is_empty() || max == 0 {
                return Ok(taken);
            }
            let seen = self.parker.seen();
            if base.hand_out.consumer.arm() {
                continue;
            }
            let outcome = self.parker.wait(py, seen, deadline);
            if !matches!(outcome, Ok(true)) {
                base._disarm();
                // What came between the deadline and `disarm` is not left behind, unless an exception wants out.
                return if outcome? {
                    Ok(Vec::new())
                } else {
                    base.take(max)
                };
            }
        }
    }
}

#[pymethods]
impl BlockingConsumer {
    #[new]
    #[pyo3(signature = (queue, *, prefetch=0, no_ack=false, priority=0, exclusive=false, tag=None, hidden=false))]
    fn new(
        queue: &Queue,
        #[pyo3(from_py_with = whole::prefetch)] prefetch: u32,
        no_ack: bool,
        #[pyo3(from_py_with = whole::priority)] priority: i32,
        exclusive: bool,
        tag: Option<String>,
        hidden: bool,
    ) -> Result<PyClassInitializer<Self>> {
        let parker = Arc::new(Parker::default());
        let notify: Arc<dyn Notify> = Arc::clone(&parker) as _;
        let base = Consumer::open(
            queue,
            Some((notify, 1)),
            prefetch,
            no_ack,
            priority,
            exclusive,
            tag,
            hidden,
        )?;
        Ok(PyClassInitializer::from(base).add_subclass(BlockingConsumer { parker }))
    }

    /// Takes up to `max` messages, waiting for the first one; an empty list when `timeout` seconds passed.
    ///
    /// Raises:
    ///     UnknownQueue: the queue was deleted.
    ///     BrokerClosed: the broker was closed.
    ///     KeyboardInterrupt: on Ctrl-C; no message was taken.
    #[pyo3(signature = (max=100, timeout=None))]
    fn take<'py>(
        slf: &Bound<'py, Self>,
        #[pyo3(from_py_with = whole::max)] max: usize,
        timeout: Option<f64>,
    ) -> Result<Bound<'py, PyList>> {
        let base = slf.as_super().get();
        let taken = slf.get().wait(slf.py(), base, max, timeout)?;
        Ok(list_of(slf.py(), &base.hand_out, taken)?)
    }

    /// Appends to `deliveries` until there are `max`, or `seconds` passed.
    fn _take_more(
        slf: &Bound<'_, Self>,
        deliveries: &Bound<'_, PyList>,
        #[pyo3(from_py_with = whole::max)] max: usize,
        seconds: f64,
    ) -> Result<()> {
        let base = slf.as_super().get();
        let end = deadline(maybe_duration("max_seconds", Some(seconds))?);
        while deliveries.len() < max {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()).as_secs_f64());
            let taken = slf
                .get()
                .wait(slf.py(), base, max - deliveries.len(), left)?;
            if taken.is_empty() {
                break;
            }
            for delivery in list_of(slf.py(), &base.hand_out, taken)? {
                deliveries.append(delivery)?;
            }
        }
        Ok(())
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> Result<Bound<'py, Delivery>> {
        let base = slf.as_super().get();
        match slf.get().wait(slf.py(), base, 1, None)?.pop() {
            Some(delivery) => {
                let delivery = Delivery::new(Arc::clone(&base.hand_out), delivery);
                Ok(delivery.into_object(slf.py())?)
            }
            None => Err(Error::Python(PyStopIteration::new_err(()))),
        }
    }
}
