//! Who consumes from a queue, and who of them may take now: exclusive consumers, single active consumer, priorities.
//! Plain queues with plain consumers never come here while taking.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::consumer::Consumer;

pub(crate) struct Consumers {
    /// In order of registration.
    list: Mutex<Vec<Weak<Consumer>>>,
    /// Length of `list`. Relaxed: a count.
    count: AtomicUsize,
    single_active: bool,
    /// Whether consumers differ, so that taking must ask. Relaxed: set before such a consumer is first seen to wait.
    restricted: AtomicBool,
}

impl Consumers {
    pub(crate) fn new(single_active: bool) -> Consumers {
        Consumers {
            list: Mutex::default(),
            count: AtomicUsize::new(0),
            single_active,
            restricted: AtomicBool::new(single_active),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn is_restricted(&self) -> bool {
        self.restricted.load(Ordering::Relaxed)
    }

    /// Adds a consumer unless an exclusive one has the queue, or it wants the queue exclusively and is not alone.
    pub(crate) fn add(&self, consumer: &Arc<Consumer>) -> bool {
        let mut list = self.list.lock();
        let others = !list.is_empty();
        let exclusive_there = list
            .iter()
            .filter_map(Weak::upgrade)
            .any(|c| c.options().exclusive);
        if exclusive_there || (consumer.options().exclusive && others) {
            return false;
        }
        list.push(Arc::downgrade(consumer));
        self.update(&list);
        true
    }

    /// How many are left; none if it was not there.
    pub(crate) fn remove(&self, consumer: &Consumer) -> Option<usize> {
        let mut list = self.list.lock();
        let before = list.len();
        list.retain(|known| !std::ptr::eq(known.as_ptr(), consumer));
        self.update(&list);
        (list.len() != before).then_some(list.len())
    }

    fn update(&self, list: &[Weak<Consumer>]) {
        self.count.store(list.len(), Ordering::Relaxed);
        let prioritised = list
            .iter()
            .filter_map(Weak::upgrade)
            .any(|c| c.options().priority != 0);
        self.restricted
            .store(self.single_active || prioritised, Ordering::Relaxed);
    }

    /// Whether this one may take now. Hidden consumers (`get`) always may, as with RabbitMQ's `basic.get`.
    pub(crate) fn may_take(&self, consumer: &Consumer) -> bool {
        if consumer.options().hidden {
            return true;
        }
        let list = self.list.lock();
        if self.single_active {
            return list
                .first()
                .is_some_and(|first| std::ptr::eq(first.as_ptr(), consumer));
        }
        !list
            .iter()
            .filter_map(Weak::upgrade)
            .any(|other| other.options().priority > consumer.options().priority && other.has_room())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Consumer>> {
        self.list.lock().iter().filter_map(Weak::upgrade).collect()
    }
}
