//! What the threads of a run tell each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Relaxed counters: nothing else is published through them.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    /// How many deliveries there must be; `u64::MAX` while publishing goes on.
    pub(crate) expected: AtomicU64,
}

impl Progress {
    pub(crate) fn new() -> Arc<Progress> {
        Arc::new(Progress {
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            expected: AtomicU64::new(u64::MAX),
        })
    }

    pub(crate) fn publishing_ended(&self, expected: u64) {
        self.expected.store(expected, Ordering::Release);
    }
}
