//! A queue's messages that are not deliverable yet: published with a delay, or waiting for their next attempt.
//! Behind a short mutex: these are rare beside what a queue does otherwise. But there may be millions of delayed
//! messages, so that they are kept small; the timer knows of the earliest only.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::heap_of;
use super::note::Note;
use super::ready::Token;
use crate::deadletter::Reason;
use crate::entries::Place;
use crate::message::Stored;

pub(crate) enum Waiting {
    /// Published with a delay: has no place yet, gets one at the end of the queue when it is due.
    Delayed(Stored),
    Retry(Box<Retry>),
    Dead(Box<Dead>),
}

const _: () = assert!(size_of::<Waiting>() == 16);

/// A failed message: still leased, so that it keeps its place and its group stays behind it.
pub(crate) struct Retry {
    pub(crate) token: Token,
    pub(crate) note: Note,
    pub(crate) body_bytes: u64,
}

/// A dead message for which the journal had no room: settled in its queue, not yet anywhere else.
pub(crate) struct Dead {
    pub(crate) stored: Stored,
    pub(crate) place: Place,
    pub(crate) reason: Reason,
}

impl Waiting {
    pub(crate) fn stored(&self) -> &Stored {
        match self {
            Waiting::Delayed(stored) => stored,
            Waiting::Retry(retry) => retry.token.stored(),
            Waiting::Dead(dead) => &dead.stored,
        }
    }

    fn place(&self) -> Option<(u8, u64)> {
        match self {
            Waiting::Delayed(_) => None,
            Waiting::Retry(retry) => Some((retry.token.level(), retry.token.position())),
            Waiting::Dead(dead) => Some((dead.place.level, dead.place.position)),
        }
    }

    /// What it takes of the memory that is limited.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let stored = self.stored();
        if stored.at() != 0 {
            return 0;
        }
        heap_of(stored, stored.message(None).map_or(0, |m| m.body_bytes()))
    }

    pub(crate) fn is_retry(&self) -> bool {
        !matches!(self, Waiting::Delayed(_))
    }
}

#[derive(Default)]
pub(crate) struct Schedule {
    /// When the timer will look at it next. It may also come at other times, which were once the next.
    timer_ns: Option<u64>,
    by_time: BTreeMap<(u64, u64), Waiting>,
    /// Keys are our own numbers, here and below: no need for a hash that resists enemies.
    due_by_id: HashMap<u64, u64, RandomState>,
    /// Retries and dead messages have a place in the queue, by which compaction finds them.
    id_by_place: HashMap<(u8, u64), u64, RandomState>,
}

impl Schedule {
    pub(crate) fn insert(&mut self, id: u64, due_ns: u64, waiting: Waiting) {
        self.due_by_id.insert(id, due_ns);
        if let Some(place) = waiting.place() {
            self.id_by_place.insert(place, id);
        }
        self.by_time.insert((due_ns, id), waiting);
    }

    /// Puts delayed messages back that survived a restart, with their ids and when they are due. Together, since a tree
    /// that is built of sorted entries is built faster, and fuller.
    pub(crate) fn restore(&mut self, delayed: impl Iterator<Item = (u64, u64, Stored)>) {
        let entries: Vec<_> = delayed
            .map(|(id, due_ns, stored)| ((due_ns, id), Waiting::Delayed(stored)))
            .collect();
        self.due_by_id
            .extend(entries.iter().map(|((due_ns, id), _)| (*id, *due_ns)));
        let mut restored: BTreeMap<_, _> = entries.into_iter().collect();
        self.by_time.append(&mut restored);
    }

    /// Whether the timer would come later than `due_ns` by what it was told so far. If so the caller tells it.
    pub(crate) fn is_earlier(&mut self, due_ns: u64) -> bool {
        let is_earlier = self.timer_ns.is_none_or(|timer_ns| due_ns < timer_ns);
        if is_earlier {
            self.timer_ns = Some(due_ns);
        }
        is_earlier
    }

    /// The timer came at `now_ns`. What is the first now, which it may not know of.
    pub(crate) fn fired(&mut self, now_ns: u64) -> Option<u64> {
        self.timer_ns = self.timer_ns.filter(|timer_ns| *timer_ns > now_ns);
        self.by_time.keys().next().map(|(due_ns, _)| *due_ns)
    }

    /// The first that is due at `now_ns`.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<(u64, u64, Waiting)> {
        let first = self.by_time.first_entry()?;
        if first.key().0 > now_ns {
            return None;
        }
        let ((due_ns, id), waiting) = first.remove_entry();
        self.due_by_id.remove(&id);
        self.forget_place(&waiting);
        Some((due_ns, id, waiting))
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<(u64, Waiting)> {
        let due_ns = self.due_by_id.remove(&id)?;
        let waiting = self.by_time.remove(&(due_ns, id))?;
        self.forget_place(&waiting);
        Some((due_ns, waiting))
    }

    fn forget_place(&mut self, waiting: &Waiting) {
        if let Some(place) = waiting.place() {
            self.id_by_place.remove(&place);
        }
    }

    pub(crate) fn get_by_place(&self, level: u8, position: u64) -> Option<(u64, &Waiting)> {
        self.get(*self.id_by_place.get(&(level, position))?)
    }

    pub(crate) fn get(&self, id: u64) -> Option<(u64, &Waiting)> {
        let due_ns = *self.due_by_id.get(&id)?;
        Some((due_ns, self.by_time.get(&(due_ns, id))?))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64, &Waiting)> {
        self.by_time
            .iter()
            .map(|((due_ns, id), waiting)| (*due_ns, *id, waiting))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_time.len()
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u64, Waiting)> {
        self.due_by_id.clear();
        self.id_by_place.clear();
        std::mem::take(&mut self.by_time)
            .into_iter()
            .map(|((_, id), waiting)| (id, waiting))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::clock::Clock;
    use crate::{Broker, BrokerOptions, Delay, NewMessage, QueueOptions};

    #[test]
    fn the_timer_knows_of_the_earliest_only_and_each_comes_at_its_time() {
        let broker = Broker::open(BrokerOptions {
            clock: Clock::virtual_at(1_000_000_000),
            ..Default::default()
        })
        .unwrap();
        let host = broker.virtual_host("/").unwrap();
        let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
        let exchange = host.exchange("").unwrap();
        let publish = |seconds: u64| {
            let message = NewMessage {
                delay: Delay::For(Duration::from_secs(seconds)),
                ..NewMessage::new("q", b"x")
            };
            exchange.publish(&message).unwrap();
        };
        let timers = || queue.core.timer.len();
        (1..=1000).for_each(|n| publish(5 + n));
        assert_eq!(timers(), 1);
        // Earlier ones, which the timer hears of; the later one is not told again and again.
        (1..=5).rev().for_each(publish);
        assert_eq!(timers(), 6);
        // The first is cancelled: the timer comes for nothing, and goes on from there.
        let first = queue.scheduled()[0].id;
        assert!(queue.cancel_scheduled(first).unwrap().0);
        for second in 1..=1005 {
            broker.advance(Duration::from_secs(1)).unwrap();
            assert_eq!(queue.statistics().ready, second - 1);
            assert!(timers() <= 7);
        }
        assert_eq!((queue.statistics().scheduled, timers()), (0, 0));
        publish(1);
        broker.advance(Duration::from_secs(1)).unwrap();
        assert_eq!(queue.statistics().ready, 1005);
    }
}
