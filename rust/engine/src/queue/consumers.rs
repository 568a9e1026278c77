//! Who consumes from a queue, and who of them may take now: exclusive consumers, single active consumer, priorities.
//! Plain queues with plain consumers never come here while taking.
//!
//! The list holds its consumers weakly. To upgrade one is to own it for a moment, and to drop the last owner is to
//! cancel it, which comes back to this list: so nothing is upgraded and dropped while the list is locked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::consumer::Consumer;

struct Registered {
    consumer: Weak<Consumer>,
    priority: i32,
    exclusive: bool,
}

impl Registered {
    fn is(&self, consumer: &Consumer) -> bool {
        std::ptr::eq(self.consumer.as_ptr(), consumer)
    }
}

pub(crate) struct Consumers {
    /// In order of registration.
    list: Mutex<Vec<Registered>>,
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
        let exclusive = consumer.options().exclusive;
        if list.iter().any(|other| other.exclusive) || (exclusive && !list.is_empty()) {
            return false;
        }
        list.push(Registered {
            consumer: Arc::downgrade(consumer),
            priority: consumer.options().priority,
            exclusive,
        });
        self.update(&list);
        true
    }

    /// How many are left; none if it was not there.
    pub(crate) fn remove(&self, consumer: &Consumer) -> Option<usize> {
        let mut list = self.list.lock();
        let before = list.len();
        list.retain(|known| !known.is(consumer));
        self.update(&list);
        (list.len() != before).then_some(list.len())
    }

    fn update(&self, list: &[Registered]) {
        self.count.store(list.len(), Ordering::Relaxed);
        let prioritised = list.iter().any(|known| known.priority != 0);
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
            return list.first().is_some_and(|first| first.is(consumer));
        }
        let higher: Vec<Arc<Consumer>> = list
            .iter()
            .filter(|other| other.priority > consumer.options().priority)
            .filter_map(|other| other.consumer.upgrade())
            .collect();
        drop(list);
        !higher.iter().any(|other| other.has_room())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Consumer>> {
        let list = self.list.lock();
        let all = list
            .iter()
            .filter_map(|known| known.consumer.upgrade())
            .collect();
        drop(list);
        all
    }
}
