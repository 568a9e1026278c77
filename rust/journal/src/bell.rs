//! Wakes the committer: a publisher rings only if the committer sleeps, so a busy journal makes no system call for it.
//!
//! The classic handshake of two flags with a full fence on each side (Dekker): the ringer publishes work, then looks at
//! `asleep`; the sleeper sets `asleep`, then looks for work. One of them sees the other. Any thread may ring, one may wait.

use crate::sync::{AtomicBool, Mutex, Ordering, fence};

#[cfg(wherry_loom)]
use loom::thread;
#[cfg(not(wherry_loom))]
use std::thread;

pub(crate) struct Bell {
    /// The waiter sleeps or is about to. Set by the waiter, cleared by whoever is first to wake it.
    asleep: AtomicBool,
    sleeper: Mutex<Option<thread::Thread>>,
    /// The waiter knows of work that is not urgent and comes for it in time without being rung for. Set by it before it sleeps
    /// over such work, cleared by it before it looks what there is.
    knows: AtomicBool,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self {
            asleep: AtomicBool::new(false),
            sleeper: Mutex::new(None),
            knows: AtomicBool::new(false),
        }
    }

    /// Says that there is work, published before, that is not urgent. True if it rang, because the waiter does not know of such.
    pub(crate) fn ring_quietly(&self) -> bool {
        // Pairs with the fence in `forget`: either we see that the waiter forgot, or it sees our work.
        fence(Ordering::SeqCst);
        let unknown = !self.knows.load(Ordering::Relaxed);
        if unknown {
            self.ring();
        }
        unknown
    }

    /// The waiter will come for what is not urgent, at a time of its own.
    pub(crate) fn remember(&self) {
        self.knows.store(true, Ordering::Relaxed);
    }

    /// The waiter is about to look what there is.
    pub(crate) fn forget(&self) {
        self.knows.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst); // pairs with `ring_quietly`
    }

    /// Says that there is work, which the caller has published before.
    pub(crate) fn ring(&self) {
        // Pairs with the fence in `wait`.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::AcqRel)
            && let Some(sleeper) = &*self.sleeper.lock()
        {
            sleeper.unpark();
        }
    }

    /// Sleeps until somebody rings, unless `work` says that there is something to do. May return for no reason.
    pub(crate) fn wait(&self, timeout: Option<std::time::Duration>, work: impl Fn() -> bool) {
        {
            let mut sleeper = self.sleeper.lock();
            if sleeper.is_none() {
                *sleeper = Some(thread::current());
            }
        }
        self.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`: either the ringer sees `asleep` or we see its work.
        fence(Ordering::SeqCst);
        if !work() {
            Self::park(timeout);
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    #[cfg(not(wherry_loom))]
    fn park(timeout: Option<std::time::Duration>) {
        match timeout {
            Some(timeout) => thread::park_timeout(timeout),
            None => thread::park(),
        }
    }

    #[cfg(wherry_loom)]
    fn park(_timeout: Option<std::time::Duration>) {
        thread::park();
    }
}
