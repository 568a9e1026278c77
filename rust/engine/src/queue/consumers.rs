//! Who consumes from a queue, and who of them may take now: exclusive consumers, single active consumer, priorities.
//! Plain queues with plain consumers never come here while taking. Consumers that are served in turn are dispatched to
//! (dispatch.rs) in the order of this list.
//!
//! The list holds its consumers weakly. To upgrade one is to own it for a moment, and to drop the last owner is to
//! cancel it, which comes back to this list: so nothing is upgraded and dropped while the list is locked.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::arrivals::Arrivals;
use super::candidates::{Candidates, Key};
use super::dispatch::Turn;
use crate::consumer::Consumer;

pub(super) struct Registered {
    pub(super) consumer: Weak<Consumer>,
    pub(super) priority: i32,
    pub(super) in_turn: bool,
}

impl Registered {
    fn is(&self, consumer: &Consumer) -> bool {
        std::ptr::eq(self.consumer.as_ptr(), consumer)
    }

    fn key(&self, number: u64) -> Key {
        (Reverse(self.priority), number)
    }
}

/// In order of registration.
#[derive(Default)]
struct List {
    consumers: Arrivals<Registered>,
    /// How many of them have a priority.
    prioritised: usize,
    /// Whether the one that is there wants to stay alone.
    exclusive: bool,
    /// How many are served in turn of each priority, the highest first.
    in_turn: BTreeMap<Reverse<i32>, usize>,
    /// Of those that are served in turn who may have room. Made when it is first asked for.
    candidates: Option<Arc<Candidates>>,
}

pub(crate) struct Consumers {
    /// Made when the first one comes: most queues of an idle broker have none.
    list: Mutex<Option<Box<List>>>,
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

/// Of the list all, or the single active one, with their numbers.
fn served(
    list: &Option<Box<List>>,
    single_active: bool,
) -> impl Iterator<Item = (u64, &Registered)> {
    let most = if single_active { 1 } else { usize::MAX };
    let consumers = list.iter().flat_map(|list| list.consumers.iter());
    consumers.take(most)
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

    /// Calls `f` with each consumer that can be served, and its number in the order of registration. Returns the version
    /// of the list.
    pub(super) fn each_served(&self, mut f: impl FnMut(u64, &Registered)) -> u32 {
        let list = self.list.lock();
        for (number, known) in served(&list, self.single_active) {
            f(number, known);
        }
        self.version()
    }

    /// Calls `f` with each priority that consumers have who are served in turn, the highest first, and `puller` with each
    /// of the others. As [`each_served`](Self::each_served), but looks at consumers only if there are others.
    pub(super) fn each_priority(
        &self,
        mut f: impl FnMut(i32),
        mut puller: impl FnMut(&Registered),
    ) -> u32 {
        let list = self.list.lock();
        if let Some(list) = &*list {
            list.in_turn
                .keys()
                .for_each(|Reverse(priority)| f(*priority));
            if list.in_turn.values().sum::<usize>() < list.consumers.len() {
                let others = list.consumers.iter().filter(|(_, known)| !known.in_turn);
                others.for_each(|(_, known)| puller(known));
            }
        }
        self.version()
    }

    /// False for who waits behind a single active consumer.
    pub(crate) fn may_be_active(&self, consumer: &Consumer) -> bool {
        !self.single_active || self.is_first(consumer)
    }

    fn is_first(&self, consumer: &Consumer) -> bool {
        let list = self.list.lock();
        let first = list.as_ref().and_then(|list| list.consumers.first());
        first.is_some_and(|first| first.is(consumer))
    }

    /// Somebody left: who is the single active consumer now has not waited for messages, and looks.
    pub(crate) fn tell_active(&self) {
        if !self.single_active {
            return;
        }
        if let Some(active) = self.active_in_turn() {
            active.notify();
        }
    }

    /// The single active consumer, if it is served in turn.
    fn active_in_turn(&self) -> Option<Arc<Consumer>> {
        let list = self.list.lock();
        let first = list.as_ref().and_then(|list| list.consumers.first());
        let first = first.filter(|first| first.in_turn);
        first.and_then(|first| first.consumer.upgrade())
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
        let options = consumer.options();
        let mut list = self.list.lock();
        let list = list.get_or_insert_default();
        if list.exclusive || (options.exclusive && !list.consumers.is_empty()) {
            return false;
        }
        list.exclusive = options.exclusive;
        list.prioritised += usize::from(options.priority != 0);
        let number = list.consumers.push(Registered {
            consumer: Arc::downgrade(consumer),
            priority: options.priority,
            in_turn: options.in_turn,
        });
        consumer.registered.store(number, Ordering::Relaxed);
        if options.in_turn {
            *list.in_turn.entry(Reverse(options.priority)).or_default() += 1;
            if let Some(candidates) = &list.candidates {
                let key = (Reverse(options.priority), number);
                candidates.add(key, Arc::downgrade(consumer));
            }
            self.in_turn.fetch_add(1, Ordering::Relaxed);
        }
        self.update(list);
        true
    }

    /// How many are left; none if it was not there.
    pub(crate) fn remove(&self, consumer: &Consumer) -> Option<usize> {
        let mut place = self.list.lock();
        let list = place.as_mut()?;
        let number = consumer.registered.swap(0, Ordering::Relaxed);
        let known = list.consumers.remove(number, |known| known.is(consumer))?;
        list.exclusive = false;
        list.prioritised -= usize::from(known.priority != 0);
        if known.in_turn {
            if let Entry::Occupied(mut same) = list.in_turn.entry(Reverse(known.priority)) {
                *same.get_mut() -= 1;
                if *same.get() == 0 {
                    same.remove();
                }
            }
            if let Some(candidates) = &list.candidates {
                candidates.remove(known.key(number));
            }
            self.in_turn.fetch_sub(1, Ordering::Relaxed);
        }
        self.update(list);
        let left = list.consumers.len();
        if left == 0 {
            *place = None;
        }
        Some(left)
    }

    fn update(&self, list: &List) {
        let count = list.consumers.len() as u32;
        self.count.store(count, Ordering::Relaxed);
        let version = self.version().wrapping_add(1).max(1); // 0 means none
        self.version.store(version, Ordering::Relaxed);
        let restricted = self.single_active || list.prioritised > 0;
        self.restricted.store(restricted, Ordering::Relaxed);
    }

    /// Whether this one may take now. Hidden consumers (`get`) always may, as with RabbitMQ's `basic.get`.
    pub(crate) fn may_take(&self, consumer: &Consumer) -> bool {
        if consumer.options().hidden {
            return true;
        }
        if self.single_active {
            return self.is_first(consumer);
        }
        let list = self.list.lock();
        let higher: Vec<Arc<Consumer>> = served(&list, false)
            .filter(|(_, other)| other.priority > consumer.options().priority)
            .filter_map(|(_, other)| other.consumer.upgrade())
            .collect();
        drop(list);
        !higher.iter().any(|other| other.has_room())
    }

    /// Of those that are served in turn who may have room. None when there are none; of a single active consumer all
    /// others do not count.
    pub(super) fn candidates(&self) -> Option<Arc<Candidates>> {
        if self.single_active || self.in_turn() == 0 {
            return None;
        }
        let mut list = self.list.lock();
        let list = list.as_mut()?;
        let made = list.candidates.get_or_insert_with(|| {
            let candidates = Arc::<Candidates>::default();
            for (number, known) in list.consumers.iter().filter(|(_, known)| known.in_turn) {
                candidates.add(known.key(number), known.consumer.clone());
            }
            candidates
        });
        Some(made.clone())
    }

    /// Messages for which those have room that are served in turn and may take, as far as they are wanted.
    pub(super) fn room(&self, wanted: usize) -> usize {
        if self.single_active {
            let active = self.active_in_turn();
            return active.map_or(0, |active| active.room_now().min(wanted));
        }
        self.candidates().map_or(0, |them| them.room(wanted))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Consumer>> {
        let list = self.list.lock();
        let all = served(&list, false)
            .filter_map(|(_, known)| known.consumer.upgrade())
            .collect();
        drop(list);
        all
    }
}
