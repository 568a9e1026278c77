//! A queue: taking without waiting, looking, and the rare operations.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use wherry_engine::{
    ConsumerOptions, Delivery as EngineDelivery, Queue as EngineQueue, VirtualHost as EngineHost,
};

use crate::browse;
use crate::consumer::HandOut;
use crate::delivery::{Delivery, list_of};
use crate::describe;
use crate::errors::{Error, Result};
use crate::host::{EMBEDDER, VirtualHost};
use crate::policies;
use crate::shared::Shared;
use crate::statistics;
use crate::whole;

/// The part of a queue that does not wait. Base of `wherry.Queue` and `wherry.blocking.Queue`.
#[pyclass(frozen, subclass, module = "wherry._core")]
pub(crate) struct Queue {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Arc<EngineQueue>,
    pub(crate) host: Arc<EngineHost>,
    /// Who takes for `get_nowait`; made at the first call. One that acknowledges, one that does not.
    getters: [OnceLock<Arc<HandOut>>; 2],
}

impl Queue {
    #[inline]
    fn getter(&self, no_ack: bool) -> Result<&Arc<HandOut>> {
        let cell = &self.getters[usize::from(no_ack)];
        match cell.get() {
            Some(getter) => Ok(getter),
            None => self.new_getter(cell, no_ack),
        }
    }

    #[cold]
    fn new_getter<'a>(
        &self,
        cell: &'a OnceLock<Arc<HandOut>>,
        no_ack: bool,
    ) -> Result<&'a Arc<HandOut>> {
        let options = ConsumerOptions {
            no_ack,
            hidden: true,
            owner: EMBEDDER,
            ..ConsumerOptions::default()
        };
        let consumer = self.queue.consume(options, None)?;
        Ok(cell.get_or_init(|| Arc::new(HandOut::new(self, consumer, no_ack, true))))
    }

    fn take(&self, max: usize, no_ack: bool) -> Result<(&Arc<HandOut>, Vec<EngineDelivery>)> {
        let getter = self.getter(no_ack)?;
        let mut taken = Vec::with_capacity(max.min(128));
        // Taking may make something ready: an expired head is dead-lettered, a no_ack group goes on.
        let _call = self.shared.enter();
        if getter.consumer.take(max, &mut taken) == 0 {
            getter.check()?;
        }
        Ok((getter, taken))
    }
}

#[pymethods]
impl Queue {
    #[new]
    fn new(host: &VirtualHost, name: &str) -> Result<Self> {
        host.shared.check_open()?;
        let queue = host.host.queue(name)?;
        Ok(Queue {
            shared: Arc::clone(&host.shared),
            queue,
            host: Arc::clone(&host.host),
            getters: [OnceLock::new(), OnceLock::new()],
        })
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.queue.name()
    }

    /// Takes the next message, or raises `QueueEmpty`.
    #[pyo3(signature = (no_ack=false))]
    fn get_nowait<'py>(&self, py: Python<'py>, no_ack: bool) -> Result<Bound<'py, Delivery>> {
        let (getter, mut taken) = self.take(1, no_ack)?;
        match taken.pop() {
            Some(delivery) => Ok(Delivery::new(Arc::clone(getter), delivery).into_object(py)?),
            None => Err(Error::QueueEmpty(self.queue.name().to_owned())),
        }
    }

    /// Takes up to `max` messages; an empty list when there is none.
    #[pyo3(signature = (max, no_ack=false))]
    fn get_many_nowait<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = whole::max)] max: usize,
        no_ack: bool,
    ) -> Result<Bound<'py, PyList>> {
        let (getter, taken) = self.take(max, no_ack)?;
        Ok(list_of(py, getter, taken)?)
    }

    /// Looks at ready messages without taking them.
    fn _browse<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = whole::limit)] limit: usize,
        #[pyo3(from_py_with = whole::offset)] offset: usize,
    ) -> Result<Vec<Bound<'py, PyAny>>> {
        self.shared.check_open()?;
        let found = py.detach(|| self.queue.browse(offset, limit));
        let messages = found.iter().map(|message| browse::browsed(py, message));
        Ok(messages.collect::<PyResult<_>>()?)
    }

    /// Drops all ready messages; their number and a receipt.
    fn _purge(&self, py: Python<'_>) -> Result<(u64, u64)> {
        let _call = self.shared.enter();
        let (count, ticket) = py.detach(|| self.queue.purge())?;
        Ok((count, ticket.0))
    }

    /// Moves ready messages to another queue; their number and a receipt.
    #[pyo3(signature = (to, limit=None))]
    fn _move(
        &self,
        py: Python<'_>,
        to: &Queue,
        #[pyo3(from_py_with = whole::limit)] limit: Option<u64>,
    ) -> Result<(u64, u64)> {
        let _call = self.shared.enter();
        let (count, ticket) = py.detach(|| self.queue.move_to(&to.queue, limit))?;
        Ok((count, ticket.0))
    }

    /// The delayed messages and those that wait for their next attempt.
    fn _scheduled<'py>(&self, py: Python<'py>) -> Result<Vec<Bound<'py, PyAny>>> {
        self.shared.check_open()?;
        let found = py.detach(|| self.queue.scheduled());
        let messages = found.iter().map(|message| browse::scheduled(py, message));
        Ok(messages.collect::<PyResult<_>>()?)
    }

    /// Drops a scheduled message; whether it was there, and a receipt.
    fn _cancel_scheduled(&self, #[pyo3(from_py_with = whole::id)] id: u64) -> Result<(bool, u64)> {
        let _call = self.shared.enter();
        let (found, ticket) = self.queue.cancel_scheduled(id)?;
        Ok((found, ticket.0))
    }

    /// The policies that act on it, and what they say together: policy, operator_policy, effective_policy_definition.
    fn _policies<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        self.shared.check_open()?;
        Ok(policies::of_queue(py, &self.queue)?)
    }

    /// Who consumes, in the order in which they came: id, tag, no_ack, prefetch, unacked, priority, exclusive, active.
    fn _consumers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        describe::consumers(py, &self.queue)
    }

    /// The numbers of `QueueStatistics`, by field name.
    fn _statistics<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        self.shared.check_open()?;
        Ok(statistics::queue(py, &self.queue.statistics())?)
    }
}
