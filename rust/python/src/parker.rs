//! Waiting for the engine on a plain thread, with the interpreter released and Ctrl-C heard.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use wherry_engine::Notify;

use crate::errors::Result;

/// Signals reach Python code only when the main thread is back in the interpreter, so a wait is cut into slices.
/// A twentieth of a second is not noticed by who presses Ctrl-C, and twenty wake-ups a second cost nothing.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// Counts notifications; a thread waits until the count differs from one it saw. Waits for a stalled notifier only
/// as long as that one holds the mutex around an addition.
#[derive(Default)]
pub(crate) struct Parker {
    notified: Mutex<u64>,
    changed: Condvar,
}

impl Notify for Parker {
    fn notify(&self, _token: u64) {
        *self.notified.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }
}

impl Parker {
    /// The count to give to [`Parker::wait`]. Take it before arming the consumer.
    pub(crate) fn seen(&self) -> u64 {
        *self.notified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a notification after `seen`. False when the deadline came first.
    pub(crate) fn wait(
        &self,
        py: Python<'_>,
        seen: u64,
        deadline: Option<Instant>,
    ) -> Result<bool> {
        loop {
            let Some(slice) = next_slice(deadline) else {
                return Ok(false);
            };
            let notified = py.detach(|| {
                let guard = self.notified.lock().unwrap_or_else(PoisonError::into_inner);
                let (guard, _) = self
                    .changed
                    .wait_timeout_while(guard, slice, |now| *now == seen)
                    .unwrap_or_else(PoisonError::into_inner);
                *guard != seen
            });
            py.check_signals()?;
            if notified {
                return Ok(true);
            }
        }
    }
}

/// The next piece of a wait; none when the deadline has passed.
pub(crate) fn next_slice(deadline: Option<Instant>) -> Option<Duration> {
    match deadline {
        None => Some(SLICE),
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                None
            } else {
                Some(left.min(SLICE))
            }
        }
    }
}

/// The instant at which a wait of `timeout` ends; none for no limit.
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    // A timeout too long to be an instant is no limit.
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
