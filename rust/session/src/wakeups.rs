//! Wake-ups: from a publisher's thread to the session whose consumer can go on.
//!
//! The engine calls [`Wakeups::notify`] from any thread, often inside another session's `receive`, so it must not take
//! this session's mutex: the token of what became ready goes on a lock-free queue (crossbeam's `SegQueue`), and the
//! server is told once until the session has looked. What is on the queue is bounded by the consumers: each asks for
//! one notice at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::SegQueue;
use wherry_engine::Notify;

/// The receiver of every notice for one session.
pub struct Wakeups {
    ready: SegQueue<u64>,
    /// Whether the server was told and the session has not looked since.
    told: AtomicBool,
    outer: Arc<dyn Notify>,
    token: u64,
}

impl Wakeups {
    /// Tells `outer` with `token`.
    pub fn new(outer: Arc<dyn Notify>, token: u64) -> Wakeups {
        Wakeups {
            ready: SegQueue::new(),
            told: AtomicBool::new(false),
            outer,
            token,
        }
    }

    /// Before the queue is emptied: what comes from now on is told again.
    pub fn look(&self) {
        // AcqRel: pairs with the swap in `notify`. A notice that came before is on the queue already.
        self.told.swap(false, Ordering::AcqRel);
    }

    /// The token of something that became ready.
    pub fn pop(&self) -> Option<u64> {
        self.ready.pop()
    }

    /// Whether `pop` has something.
    pub fn any(&self) -> bool {
        !self.ready.is_empty()
    }
}

impl Notify for Wakeups {
    fn notify(&self, token: u64) {
        self.ready.push(token);
        if !self.told.swap(true, Ordering::AcqRel) {
            self.outer.notify(self.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Notify for Count {
        fn notify(&self, token: u64) {
            assert_eq!(token, 7);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_server_is_told_once_until_the_session_looks() {
        let count = Arc::new(Count::default());
        let wakeups = Wakeups::new(count.clone(), 7);
        wakeups.notify(u64::MAX);
        wakeups.notify(2);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        wakeups.look();
        assert_eq!(wakeups.pop(), Some(u64::MAX));
        assert_eq!(wakeups.pop(), Some(2));
        assert!(!wakeups.any());
        wakeups.notify(3);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
