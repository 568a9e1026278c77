//! A prefetch that several consumers share: what AMQP's `basic.qos` with `global` asks of a channel.
//!
//! Every delivery that is assigned to or held by one of them takes a place, and gives it back when it is settled or
//! returned. Places are reserved before messages are taken from a queue, so that what was taken always fits: a message
//! that had to be put back would be overtaken.
//!
//! Progress: one atomic to reserve; giving back also takes the lock of the list of those who wait. Consumers without a
//! shared limit never come here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::core::Notify;
use crate::queue::candidates::Absent;

/// A limit on the unsettled deliveries of several consumers together.
#[derive(Default)]
pub struct SharedPrefetch {
    /// 0 = none. Relaxed: who sees a new one late takes by the old one once more, as if it had come before.
    limit: AtomicUsize,
    /// Places that are taken. Relaxed: a count; who waits looks at it under the lock of `waiting`, which also orders it.
    held: AtomicUsize,
    waiting: Mutex<Waiting>,
}

/// Consumers that found no place, by id. It holds their notices and not them: to drop a consumer is to cancel it, which
/// would come back here.
#[derive(Default)]
struct Waiting {
    next: u64,
    notices: HashMap<u32, Notice, foldhash::fast::RandomState>,
    /// Their places among the consumers of their queues that may have room.
    absent: HashMap<u32, Absent, foldhash::fast::RandomState>,
}

struct Notice {
    /// Who has waited longest for something to take is told first.
    order: u64,
    notify: Arc<dyn Notify>,
    token: u64,
}

/// Places that were reserved and are not used yet; they go back when it is dropped.
pub(crate) struct Reserved {
    shared: Arc<SharedPrefetch>,
    places: usize,
}

impl Reserved {
    /// One more. False: there is none.
    pub(crate) fn grow(&mut self) -> bool {
        let grown = self.shared.take(1) == 1;
        self.places += usize::from(grown);
        grown
    }

    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// They are accounted for by who holds the deliveries.
    pub(crate) fn into_places(mut self) -> usize {
        std::mem::take(&mut self.places)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shared.give_back(self.places);
    }
}

impl SharedPrefetch {
    /// Without a limit yet.
    pub fn new() -> Arc<SharedPrefetch> {
        Arc::default()
    }

    /// Sets the limit for what is taken from now on; 0 is none. What is held already stays.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit as usize, Ordering::Relaxed);
        self.tell();
    }

    /// The limit; 0 is none.
    pub fn limit(&self) -> u32 {
        u32::try_from(self.limit.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    /// Deliveries that the consumers hold together.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn room_beside(&self, held: usize) -> usize {
        match self.limit.load(Ordering::Relaxed) {
            0 => usize::MAX,
            limit => limit.saturating_sub(held),
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.room_beside(self.held())
    }

    fn take(&self, wanted: usize) -> usize {
        let mut taken = 0;
        let _ = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                taken = wanted.min(self.room_beside(held));
                (taken != 0).then_some(held + taken)
            });
        taken
    }

    /// Up to so many places; None when there are none.
    pub(crate) fn reserve(self: &Arc<Self>, wanted: usize) -> Option<Reserved> {
        let places = self.take(wanted);
        (places != 0).then(|| Reserved {
            shared: self.clone(),
            places,
        })
    }

    /// What is held whether there is room or not.
    pub(crate) fn add(&self, places: usize) {
        self.held.fetch_add(places, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, places: usize) {
        if places != 0 {
            self.held.fetch_sub(places, Ordering::Relaxed);
            self.tell();
        }
    }

    /// One notice when there may be room. The caller looks once more afterwards. `since` is the consumer's place among
    /// those that wait: it keeps it until it has taken something, or who is told first would be first for ever.
    pub(crate) fn wait(
        &self,
        consumer: u32,
        notify: &Arc<dyn Notify>,
        token: u64,
        since: &AtomicU64,
    ) {
        let mut waiting = self.waiting.lock();
        let mut order = since.load(Ordering::Relaxed);
        if order == 0 {
            waiting.next += 1;
            order = waiting.next;
            since.store(order, Ordering::Relaxed);
        }
        waiting.notices.entry(consumer).or_insert_with(|| Notice {
            order,
            notify: notify.clone(),
            token,
        });
    }

    pub(crate) fn forget(&self, consumer: u32) {
        let mut waiting = self.waiting.lock();
        waiting.notices.remove(&consumer);
        waiting.absent.remove(&consumer);
    }

    /// Whoever deals out found no room for this consumer: it is not asked again until something is given back.
    pub(crate) fn step_aside(&self, consumer: u32, absent: Absent) {
        let mut waiting = self.waiting.lock();
        if self.room() == 0 {
            absent.leave();
            waiting.absent.insert(consumer, absent);
        }
    }

    /// All of them, since the one with room may find its queue empty.
    fn tell(&self) {
        let mut waiting = self.waiting.lock();
        if self.room() > 0 {
            for (_, absent) in std::mem::take(&mut waiting.absent) {
                absent.come_back();
            }
        }
        if waiting.notices.is_empty() {
            return;
        }
        let mut told: Vec<Notice> = waiting.notices.drain().map(|(_, notice)| notice).collect();
        drop(waiting);
        told.sort_unstable_by_key(|notice| notice.order);
        for notice in told {
            notice.notify.notify(notice.token);
        }
    }
}

impl std::fmt::Debug for SharedPrefetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedPrefetch")
            .field("limit", &self.limit)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
