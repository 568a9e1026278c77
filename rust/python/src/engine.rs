//! An opened broker: what the public `Broker` classes, awaiting and blocking, stand on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wherry_engine::clock::Clock as EngineClock;
use wherry_engine::{Broker, BrokerOptions, Durability, OnCorruption, Ticket};

use crate::clock::{Clock, VirtualClock};
use crate::convert::{duration, maybe_duration};
use crate::errors::{Error, Result};
use crate::parker::{deadline, next_slice};
use crate::port::Port;
use crate::shared::Shared;
use crate::statistics;
use crate::whole;

/// An opened broker. Private: use `wherry.open` or `wherry.blocking.open`.
#[pyclass(frozen, module = "wherry._core")]
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    clock: Py<PyAny>,
}

/// The first exception of a progress callback; it ends the opening.
type Raised = Arc<Mutex<Option<PyErr>>>;

fn progress_callback(callback: Py<PyAny>, raised: Raised) -> Box<dyn FnMut(u64, u64) + Send> {
    Box::new(move |done, total| {
        let mut raised = raised.lock().unwrap_or_else(PoisonError::into_inner);
        if raised.is_none() {
            *raised = Python::attach(|py| callback.call1(py, (done, total)).err());
        }
    })
}

fn durability_of(word: &str, sync_interval: f64) -> Result<Durability> {
    match word {
        "always" => Ok(Durability::Always),
        "interval" => Ok(Durability::Interval(duration(
            "sync_interval",
            sync_interval,
        )?)),
        "never" => Ok(Durability::Never),
        other => Err(Error::invalid(format!(
            "durability='{other}': use 'always', 'interval' or 'never'"
        ))),
    }
}

fn on_corruption_of(word: &str) -> Result<OnCorruption> {
    match word {
        "refuse" => Ok(OnCorruption::Refuse),
        "salvage" => Ok(OnCorruption::SalvageReport),
        other => Err(Error::invalid(format!(
            "on_corruption='{other}': use 'refuse' or 'salvage'"
        ))),
    }
}

/// Damage of a journal, with what tells more about it.
fn advised(error: wherry_engine::Error, directory: Option<&Path>) -> Error {
    match (error, directory) {
        (wherry_engine::Error::JournalCorrupt(text), Some(directory)) => {
            let directory = directory.display();
            wherry_engine::Error::JournalCorrupt(format!(
                "{text}: `wherry journal verify {directory}` tells what else is damaged, and what to do"
            ))
            .into()
        }
        (error, _) => error.into(),
    }
}

#[pymethods]
impl Engine {
    /// Opens a broker. Blocks while a journal is recovered, with the interpreter released.
    #[new]
    #[pyo3(signature = (path=None, *, durability="always", sync_interval=0.05, clock=None, segment_bytes=16<<20, memory_bytes_max=None, on_corruption="refuse", progress=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python function"
    )]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        durability: &str,
        sync_interval: f64,
        clock: Option<Bound<'_, VirtualClock>>,
        #[pyo3(from_py_with = whole::segment_bytes)] segment_bytes: u32,
        #[pyo3(from_py_with = whole::memory_bytes_max)] memory_bytes_max: Option<u64>,
        on_corruption: &str,
        progress: Option<Py<PyAny>>,
    ) -> Result<Self> {
        let raised = Raised::default();
        let options = BrokerOptions {
            path,
            durability: durability_of(durability, sync_interval)?,
            segment_bytes,
            memory_bytes_max,
            on_corruption: on_corruption_of(on_corruption)?,
            clock: clock
                .as_ref()
                .map_or_else(EngineClock::real, |clock| clock.get().clock.clone()),
            progress: progress.map(|callback| progress_callback(callback, Arc::clone(&raised))),
            ..BrokerOptions::default()
        };
        if let Some(clock) = &clock {
            clock.get().refuse_second_broker()?;
        }
        let directory = options.path.clone();
        let broker = py
            .detach(|| Broker::open(options))
            .map_err(|error| advised(error, directory.as_deref()))?;
        if let Some(error) = raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
            py.detach(|| broker.close())?;
            return Err(error.into());
        }
        let shared = Arc::new(Shared::new(broker));
        crate::fork::remember(py, &shared)?;
        let clock = match clock {
            Some(clock) => {
                clock.get().attach(&shared);
                clock.into_any().unbind()
            }
            None => Clock::new(shared.broker.clock().clone())
                .into_pyobject(py)?
                .into_any()
                .unbind(),
        };
        Ok(Engine { shared, clock })
    }

    /// Gives the wake-ups of this broker to a loop. Once.
    fn attach(&self, port: &Port) -> Result<()> {
        self.shared.attach(port)
    }

    /// The broker's clock.
    #[getter]
    fn clock(&self, py: Python<'_>) -> Py<PyAny> {
        self.clock.clone_ref(py)
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Everything up to this receipt is on stable storage.
    fn durable(&self) -> u64 {
        self.shared.broker.durable().0
    }

    /// Changes how many bytes messages waiting in memory may take; at once, and until the broker is closed.
    fn set_memory_bytes_max(
        &self,
        #[pyo3(from_py_with = whole::memory_bytes_max)] bytes: u64,
    ) -> Result<()> {
        let _call = self.shared.enter();
        Ok(self.shared.broker.set_memory_bytes_max(bytes)?)
    }

    /// A receipt for everything done so far.
    fn barrier(&self) -> Result<u64> {
        Ok(self.shared.broker.barrier()?.0)
    }

    /// True when the receipt is durable; false while it is on its way.
    fn is_durable(&self, #[pyo3(from_py_with = whole::receipt)] receipt: u64) -> Result<bool> {
        if self.shared.broker.durable().0 >= receipt {
            return Ok(true);
        }
        if let Some(error) = self.shared.broker.failed() {
            return Err(error.into());
        }
        self.shared.check_open()?;
        self.shared.broker.hurry(Ticket(receipt)); // whoever asks waits for it
        Ok(false)
    }

    /// Blocks until the receipt is durable; false when `timeout` seconds passed first.
    #[pyo3(signature = (receipt, timeout=None))]
    fn wait_durable(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = whole::receipt)] receipt: u64,
        timeout: Option<f64>,
    ) -> Result<bool> {
        let deadline = deadline(maybe_duration("timeout", timeout)?);
        if self.is_durable(receipt)? {
            return Ok(true);
        }
        while let Some(slice) = next_slice(deadline) {
            if py.detach(|| {
                self.shared
                    .broker
                    .wait_durable(Ticket(receipt), Some(slice))
            })? {
                return Ok(true);
            }
            py.check_signals()?;
        }
        Ok(false)
    }

    /// Blocks until there may be room for a refused publish; false when `timeout` seconds passed first.
    #[pyo3(signature = (timeout=None))]
    fn wait_space(&self, py: Python<'_>, timeout: Option<f64>) -> Result<bool> {
        let deadline = deadline(maybe_duration("timeout", timeout)?);
        while let Some(slice) = next_slice(deadline) {
            if py.detach(|| self.shared.broker.wait_space(Some(slice))) {
                return Ok(true);
            }
            py.check_signals()?;
        }
        Ok(false)
    }

    /// The names of the virtual hosts.
    fn virtual_hosts(&self) -> Result<Vec<String>> {
        self.shared.check_open()?;
        Ok(self.shared.broker.virtual_hosts())
    }

    /// Adds a virtual host; a receipt.
    fn add_virtual_host(&self, name: &str) -> Result<u64> {
        Ok(self.shared.broker.add_virtual_host(name)?.1.0)
    }

    /// Deletes a virtual host with all that is in it; a receipt.
    fn delete_virtual_host(&self, py: Python<'_>, name: &str) -> Result<u64> {
        let _call = self.shared.enter();
        Ok(py
            .detach(|| self.shared.broker.delete_virtual_host(name))?
            .0)
    }

    /// The numbers of `BrokerStatistics`, by field name.
    fn statistics<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        self.shared.check_open()?;
        Ok(statistics::broker(py, &self.shared.broker.statistics())?)
    }

    /// Why the journal cannot grow for now, and what would let it: both as text.
    fn obstacle(&self) -> Option<(String, &'static str)> {
        let obstacle = self.shared.broker.obstacle()?;
        Some((obstacle.to_string(), obstacle.advice()))
    }

    /// Syncs what is left, ends the hidden threads and wakes whoever waits. Blocks; may be repeated.
    fn close(&self, py: Python<'_>) -> Result<()> {
        self.shared.close();
        let _call = self.shared.enter();
        Ok(py.detach(|| self.shared.broker.close())?)
    }
}
