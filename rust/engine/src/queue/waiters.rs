//! Consumers that found nothing and want to hear when there is something.
//!
//! The publisher's side is one fence and one load while nobody waits. It is the classic pair: the consumer registers
//! and then looks at the queue, the publisher fills and then looks for waiters; a SeqCst fence on each side between
//! the two steps means that at least one sees the other, so that no wake-up is lost.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::arrivals::Arrivals;
use crate::consumer::Consumer;

#[derive(Default)]
pub(crate) struct Waiters {
    /// Made when the first one waits.
    list: Mutex<Option<Box<List>>>,
    /// Length of `list`; written under its lock.
    count: AtomicU32,
}

#[derive(Default)]
struct List {
    consumers: Arrivals<Weak<Consumer>>,
}

impl Waiters {
    /// The caller looks at the queue once more afterwards.
    pub(crate) fn register(&self, consumer: &Arc<Consumer>) {
        let mut list = self.list.lock();
        let waiting = &mut list.get_or_insert_default().consumers;
        if consumer.waits.load(Ordering::Relaxed) == 0 {
            let number = waiting.push(Arc::downgrade(consumer));
            consumer.waits.store(number, Ordering::Relaxed);
        }
        self.count_them(waiting); // ordered by the fence
        drop(list);
        fence(Ordering::SeqCst); // pairs with `any`
    }

    /// True when it was still registered; false means that a wake-up was spent on it.
    pub(crate) fn unregister(&self, consumer: &Consumer) -> bool {
        let mut list = self.list.lock();
        let number = consumer.waits.swap(0, Ordering::Relaxed);
        let Some(list) = &mut *list else {
            return false;
        };
        let waiting = &mut list.consumers;
        let is = |waiter: &Weak<Consumer>| std::ptr::eq(waiter.as_ptr(), consumer);
        let found = waiting.remove(number, is).is_some();
        self.count_them(waiting);
        found
    }

    /// Gives the memory of an empty list back.
    pub(crate) fn trim(&self) {
        let mut list = self.list.lock();
        if list.as_ref().is_some_and(|list| list.consumers.is_empty()) {
            *list = None;
        }
    }

    /// Under the list's lock. Of more than four billion that wait it is enough to know that there are some.
    fn count_them(&self, waiting: &Arrivals<Weak<Consumer>>) {
        let count = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        self.count.store(count, Ordering::Relaxed);
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
        let Some(list) = &mut *list else {
            return taken;
        };
        let waiting = &mut list.consumers;
        while taken.len() < max
            && let Some(waiter) = waiting.pop_first()
        {
            if let Some(waiter) = waiter.upgrade() {
                waiter.waits.store(0, Ordering::Relaxed);
                taken.push(waiter);
            }
        }
        self.count_them(waiting);
        taken
    }
}
