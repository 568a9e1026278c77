//! What every object of one broker shares: the engine's broker, its loop, and whether it is open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use wherry_engine::{Broker, WatchId};

use crate::errors::{Error, Result};
use crate::port::{COMMITS, Call, Inner, Port};

/// What every object of one broker shares.
pub(crate) struct Shared {
    pub(crate) broker: Arc<Broker>,
    port: OnceLock<(Arc<Inner>, WatchId)>,
    /// Set once, before the engine closes; Release, read with Acquire in `is_closed`.
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(broker: Arc<Broker>) -> Shared {
        Shared {
            broker,
            port: OnceLock::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Gives the wake-ups of this broker to a loop. Once.
    pub(crate) fn attach(&self, port: &Port) -> Result<()> {
        let watch = self.broker.watch(Arc::clone(&port.inner) as _, COMMITS);
        self.port
            .set((Arc::clone(&port.inner), watch))
            .map_err(|(_, watch)| {
                self.broker.unwatch(watch);
                Error::invalid("this broker has its loop already")
            })
    }

    /// Marks a call that may make something ready.
    #[inline]
    pub(crate) fn enter(&self) -> Call<'_> {
        Call::enter(self.port())
    }

    #[inline]
    pub(crate) fn port(&self) -> Option<&Inner> {
        self.port.get().map(|(port, _)| &**port)
    }

    /// An error once the broker is closed, for calls that the engine would answer otherwise.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            Err(wherry_engine::Error::Closed.into())
        } else {
            Ok(())
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The engine is about to be closed.
    pub(crate) fn close(&self) {
        // Pairs with the Acquire in `is_closed`.
        self.closed.store(true, Ordering::Release);
    }

    /// Closes it in a process that has it by a fork only.
    pub(crate) fn abandon(&self) {
        self.close();
        self.broker.abandon();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some((_, watch)) = self.port.get() {
            self.broker.unwatch(*watch);
        }
    }
}

/// How many body bytes a batch must have before it is worth letting other threads run: about a tenth of a millisecond
/// of copying.
pub(crate) const DETACH_BYTES: usize = 1 << 20;

/// The longest single batch that is published without letting other threads run.
pub(crate) const DETACH_MESSAGES: usize = 4096;
