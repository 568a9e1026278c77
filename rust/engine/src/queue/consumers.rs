//! Who consumes from a queue, and who of them may take now: exclusive consumers, single active consumer, priorities.
//! Plain queues with plain consumers never come here while taking. Consumers that are served in turn are dispatched to
//! (dispatch.rs) in the order of this list.
//!
//! The list holds its consumers weakly. To upgrade one is to own it for a moment, and to drop the last owner is to
//! cancel it, which comes back to this list: so nothing is upgraded and dropped while the list is locked.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::dispatch::Turn;
use crate::consumer::Consumer;

pub(super) struct Registered {
    pub(super) consumer: Weak<Consumer>,
    pub(super) priority: i32,
    exclusive: bool,
    pub(super) in_turn: bool,
    /// Its number in the order of registration.
    pub(super) sequence: u64,
}

impl Registered {
    fn is(&self, consumer: &Consumer) -> bool {
        std::ptr::eq(self.consumer.as_ptr(), consumer)
    }
}

pub(crate) struct Consumers {
    /// In order of registration. Not a `Vec`: without consumers it takes no memory, and with one not that of four.
    list: Mutex<Box<[Registered]>>,
    /// Made when a second consumer that is served in turn comes.
    pub(super) turn: Mutex<Option<Box<Turn>>>,
    /// Length of `list`. Relaxed: a count.
    count: AtomicU32,
    /// Those in `list` that are served in turn. Relaxed: one that is late to see a second takes a batch by itself.
    in_turn: AtomicU32,
    /// Changes with `list`. Relaxed: read under the lock of `turn`, who is late dispatches once by the old list.
    version: AtomicU32,
    single_active: bool,
    /// Whether consumers differ, so that taking must ask. Relaxed: set before such a consumer is first seen to wait.
    restricted: AtomicBool,
}

impl Consumers {
    pub(crate) fn new(single_active: bool) -> Consumers {
        Consumers {
            list: Mutex::default(),
            turn: Mutex::new(None),
            count: AtomicU32::new(0),
            in_turn: AtomicU32::new(0),
            version: AtomicU32::new(0),
            single_active,
            restricted: AtomicBool::new(single_active),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn in_turn(&self) -> usize {
        self.in_turn.load(Ordering::Relaxed) as usize
    }

    pub(super) fn version(&self) -> u32 {
        self.version.load(Ordering::Relaxed)
    }

    pub(super) fn is_single_active(&self) -> bool {
        self.single_active
    }

    /// Calls `f` with the list and its version.
    pub(super) fn with_list<R>(&self, f: impl FnOnce(&[Registered], u32) -> R) -> R {
        let list = self.list.lock();
        f(&list, self.version())
    }

    /// False for who waits behind a single active consumer.
    pub(crate) fn may_be_active(&self, consumer: &Consumer) -> bool {
        !self.single_active
            || self
                .list
                .lock()
                .first()
                .is_some_and(|first| first.is(consumer))
    }

    /// Somebody left: who is the single active consumer now has not waited for messages, and looks.
    pub(crate) fn tell_active(&self) {
        if !self.single_active {
            return;
        }
        let first = {
            let list = self.list.lock();
            let first = list.first().filter(|first| first.in_turn);
            first.and_then(|first| first.consumer.upgrade())
        };
        if let Some(first) = first {
            first.notify();
        }
    }

    pub(crate) fn is_restricted(&self) -> bool {
        self.restricted.load(Ordering::Relaxed)
    }

    /// Nobody is left: what was known of turns goes. Not while somebody deals out, who may be the caller.
    pub(crate) fn trim(&self) {
        if let Some(mut turn) = self.turn.try_lock() {
            *turn = None;
        }
    }

    /// Adds a consumer unless an exclusive one has the queue, or it wants the queue exclusively and is not alone.
    pub(crate) fn add(&self, consumer: &Arc<Consumer>) -> bool {
        let mut list = self.list.lock();
        let exclusive = consumer.options().exclusive;
        if list.iter().any(|other| other.exclusive) || (exclusive && !list.is_empty()) {
            return false;
        }
        let sequence = list.last().map_or(0, |last| last.sequence + 1);
        let registered = Registered {
            consumer: Arc::downgrade(consumer),
            priority: consumer.options().priority,
            exclusive,
            in_turn: consumer.options().in_turn,
            sequence,
        };
        *list = std::mem::take(&mut *list)
            .into_iter()
            .chain([registered])
            .collect();
        self.update(&list);
        true
    }

    /// How many are left; none if it was not there.
    pub(crate) fn remove(&self, consumer: &Consumer) -> Option<usize> {
        let mut list = self.list.lock();
        let before = list.len();
        *list = std::mem::take(&mut *list)
            .into_iter()
            .filter(|known| !known.is(consumer))
            .collect();
        self.update(&list);
        (list.len() != before).then_some(list.len())
    }

    fn update(&self, list: &[Registered]) {
        self.count.store(list.len() as u32, Ordering::Relaxed);
        let in_turn = list.iter().filter(|known| known.in_turn).count();
        self.in_turn.store(in_turn as u32, Ordering::Relaxed);
        let version = self.version().wrapping_add(1).max(1); // 0 means none
        self.version.store(version, Ordering::Relaxed);
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

    /// Messages for which those have room that are served in turn and may take.
    pub(super) fn room(&self) -> usize {
        if self.in_turn() == 0 {
            return 0;
        }
        let list = self.list.lock();
        let served = if self.single_active {
            &list[..list.len().min(1)]
        } else {
            &list[..]
        };
        let in_turn: Vec<Arc<Consumer>> = served
            .iter()
            .filter(|known| known.in_turn)
            .filter_map(|known| known.consumer.upgrade())
            .collect();
        drop(list);
        in_turn
            .iter()
            .fold(0usize, |sum, one| sum.saturating_add(one.room_now()))
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
