//! Watching how many consumers the queues of a virtual host have.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use wherry_engine::{ConsumerWatch as EngineWatch, Notify};

use crate::convert::maybe_duration;
use crate::errors::{Error, Result};
use crate::host::VirtualHost;
use crate::parker::{Parker, deadline};
use crate::port::Port;
use crate::shared::Shared;
use crate::whole;

/// Whom the engine tells.
enum Waiter {
    /// A task of an event loop, by token.
    Task(u64),
    Thread(Arc<Parker>),
}

/// What the public `ConsumerWatch` classes stand on. With a port for an event loop, without one for plain threads.
#[pyclass(frozen, module = "wherry._core")]
pub(crate) struct ConsumerWatch {
    shared: Arc<Shared>,
    /// None when it was left.
    watch: Mutex<Option<Arc<EngineWatch>>>,
    waiter: Waiter,
}

impl ConsumerWatch {
    fn watch(&self) -> Result<Arc<EngineWatch>> {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.clone().ok_or_else(|| {
            Error::invalid("this watch was left: open another with watch_consumers()")
        })
    }
}

#[pymethods]
impl ConsumerWatch {
    #[new]
    #[pyo3(signature = (host, port=None))]
    fn new(host: &VirtualHost, port: Option<&Port>) -> Result<Self> {
        host.shared.check_open()?;
        let (waiter, notify): (Waiter, (Arc<dyn Notify>, u64)) = match port {
            Some(port) => {
                let token = port.inner.next_token();
                (Waiter::Task(token), (Arc::clone(&port.inner) as _, token))
            }
            None => {
                let parker = Arc::new(Parker::default());
                (Waiter::Thread(Arc::clone(&parker)), (parker as _, 1))
            }
        };
        let watch = host.host.watch_consumers(Some(notify))?;
        Ok(ConsumerWatch {
            shared: Arc::clone(&host.shared),
            watch: Mutex::new(Some(Arc::new(watch))),
            waiter,
        })
    }

    /// Up to `max` queues whose number of consumers has changed, and what it is now.
    fn take_nowait(
        &self,
        #[pyo3(from_py_with = whole::max)] max: usize,
    ) -> Result<Vec<(String, usize)>> {
        self.shared.check_open()?;
        let mut taken = Vec::new();
        self.watch()?.take(max, &mut taken)?;
        Ok(taken
            .into_iter()
            .map(|(queue, consumers)| (queue.to_string(), consumers))
            .collect())
    }

    /// As `take_nowait`, waiting for the first one on a plain thread; an empty list when `timeout` seconds passed.
    fn wait_take(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = whole::max)] max: usize,
        timeout: Option<f64>,
    ) -> Result<Vec<(String, usize)>> {
        let Waiter::Thread(parker) = &self.waiter else {
            return Err(Error::invalid("this watch is an event loop's"));
        };
        let deadline = deadline(maybe_duration("timeout", timeout)?);
        loop {
            let seen = parker.seen();
            let taken = self.take_nowait(max)?;
            if !taken.is_empty() || max == 0 {
                return Ok(taken);
            }
            if self.watch()?.arm() {
                continue;
            }
            if !parker.wait(py, seen, deadline)? {
                return Ok(taken);
            }
        }
    }

    /// The token that the port reports when `_arm` asked for it.
    #[getter]
    fn _token(&self) -> u64 {
        match self.waiter {
            Waiter::Task(token) => token,
            Waiter::Thread(_) => 0,
        }
    }

    /// Asks for one wake-up; true when there is something to take now, and nothing was asked for.
    fn _arm(&self) -> bool {
        self.watch().map_or(true, |watch| watch.arm())
    }

    /// Takes the request back.
    fn _disarm(&self) {
        if let Ok(watch) = self.watch() {
            watch.disarm();
        }
    }

    /// Ends it. May be repeated.
    fn _cancel(&self) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let left = watch.take();
        drop(watch);
        drop(left);
    }
}
