//! The broker's clock as Python sees it: real, or moved by a test.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use wherry_engine::clock::Clock as EngineClock;

use crate::convert::{NS, duration, unix_ns};
use crate::errors::{Error, Result};
use crate::shared::Shared;

/// Where a virtual clock starts unless told: 2000-01-01 00:00 UTC, so that tests read well.
const VIRTUAL_START_NS: u64 = 946_684_800_000_000_000;

#[expect(
    clippy::cast_precision_loss,
    reason = "a float of Unix seconds has microseconds, as time.time()"
)]
fn seconds(clock: &EngineClock) -> f64 {
    clock.now_ns() as f64 / NS
}

/// The real time, as the broker sees it.
#[pyclass(frozen, module = "wherry")]
pub(crate) struct Clock {
    clock: EngineClock,
}

impl Clock {
    pub(crate) fn new(clock: EngineClock) -> Self {
        Clock { clock }
    }
}

#[pymethods]
impl Clock {
    /// Unix seconds.
    fn now(&self) -> f64 {
        seconds(&self.clock)
    }

    /// Asked for what is not there: whoever wants to move it is told which clock can be moved.
    fn __getattr__(&self, name: &str) -> PyResult<Py<PyAny>> {
        Err(PyAttributeError::new_err(if name == "advance" {
            "this broker follows the real time, which cannot be moved: give it a clock that can, as in wherry.open(clock=wherry.VirtualClock()) or wherry.testing.broker(virtual_time=True)".to_owned()
        } else {
            format!("'Clock' object has no attribute '{name}'")
        }))
    }
}

/// A clock for tests: it stands still until `advance` moves it.
///
/// Give it to one broker, as in `wherry.open(clock=wherry.VirtualClock())`: time-to-live, delays, retries, leases and
/// queue expiry then follow it. Safe to use from any thread.
///
/// Args:
///     start: Unix seconds, or a datetime with a time zone. 2000-01-01 00:00 UTC unless given.
#[pyclass(frozen, module = "wherry")]
pub(crate) struct VirtualClock {
    pub(crate) clock: EngineClock,
    broker: Mutex<Weak<Shared>>,
}

#[pymethods]
impl VirtualClock {
    #[new]
    #[pyo3(signature = (start=None))]
    fn new(start: Option<&Bound<'_, PyAny>>) -> Result<Self> {
        let start = start.map_or(Ok(VIRTUAL_START_NS), |start| unix_ns("start", start))?;
        Ok(VirtualClock {
            clock: EngineClock::virtual_at(start),
            broker: Mutex::default(),
        })
    }

    /// Unix seconds.
    fn now(&self) -> f64 {
        seconds(&self.clock)
    }

    /// Moves time forward and lets everything happen that was due, in order of its own time, before it returns.
    ///
    /// Args:
    ///     seconds, minutes, hours, days: together the distance; not negative.
    ///
    /// Raises:
    ///     InvalidArgument: a negative or infinite distance.
    #[pyo3(signature = (seconds=0.0, minutes=0.0, hours=0.0, days=0.0))]
    fn advance(
        &self,
        py: Python<'_>,
        seconds: f64,
        minutes: f64,
        hours: f64,
        days: f64,
    ) -> Result<()> {
        let by: Duration = duration(
            "advance",
            seconds + 60.0 * minutes + 3600.0 * hours + 86400.0 * days,
        )?;
        match self.shared() {
            Some(shared) => {
                let _call = shared.enter();
                Ok(py.detach(|| shared.broker.advance(by))?)
            }
            None => self
                .clock
                .advance(by)
                .map(|_| ())
                .map_err(|e| Error::invalid(format!("advance: {e}"))),
        }
    }
}

impl VirtualClock {
    fn shared(&self) -> Option<Arc<Shared>> {
        let broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        broker.upgrade().filter(|shared| !shared.is_closed())
    }

    /// One clock fires the timers of one broker.
    pub(crate) fn refuse_second_broker(&self) -> Result<()> {
        if self.shared().is_some() {
            return Err(Error::invalid(
                "this VirtualClock belongs to a broker that is open: give each broker its own, or close the first",
            ));
        }
        Ok(())
    }

    pub(crate) fn attach(&self, shared: &Arc<Shared>) {
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(shared);
    }
}
