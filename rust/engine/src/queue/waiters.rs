//! Consumers that found nothing and want to hear when there is something.
//!
//! The publisher's side is one fence and one load while nobody waits. It is the classic pair: the consumer registers
//! and then looks at the queue, the publisher fills and then looks for waiters; a SeqCst fence on each side between
//! the two steps means that at least one sees the other, so that no wake-up is lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::consumer::Consumer;

#[derive(Default)]
pub(crate) struct Waiters {
    /// Length of `list`; written under its lock.
    count: AtomicUsize,
    list: Mutex<VecDeque<Weak<Consumer>>>,
}

impl Waiters {
    /// The caller looks at the queue once more afterwards.
    pub(crate) fn register(&self, consumer: &Arc<Consumer>) {
        let mut list = self.list.lock();
        if !consumer.waits.swap(true, Ordering::Relaxed) {
            list.push_back(Arc::downgrade(consumer));
        }
        self.count.store(list.len(), Ordering::Relaxed); // ordered by the fence
        drop(list);
        fence(Ordering::SeqCst); // pairs with `any`
    }

    /// True when it was still registered; false means that a wake-up was spent on it.
    pub(crate) fn unregister(&self, consumer: &Consumer) -> bool {
        let mut list = self.list.lock();
        if !consumer.waits.swap(false, Ordering::Relaxed) {
            return false;
        }
        let before = list.len();
        list.retain(|w| !std::ptr::eq(w.as_ptr(), consumer));
        self.count.store(list.len(), Ordering::Relaxed);
        list.len() != before
    }

    /// The caller has made something ready just before.
    pub(crate) fn any(&self) -> bool {
        fence(Ordering::SeqCst); // pairs with `register`
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Takes up to `max` waiters, those who have waited longest first.
    pub(crate) fn take(&self, max: usize) -> Vec<Arc<Consumer>> {
        let mut list = self.list.lock();
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(waiter) = list.pop_front()
        {
            if let Some(waiter) = waiter.upgrade() {
                waiter.waits.store(false, Ordering::Relaxed);
                taken.push(waiter);
            }
        }
        self.count.store(list.len(), Ordering::Relaxed);
        taken
    }
}
