//! Which consumers of a queue may have room, for who deals messages out to them in turn, and for publishers who ask because
//! the queue is at its limit of length: with thousands of consumers whose prefetch is used up, neither must ask each of
//! them each time.
//!
//! Whoever is asked and has no room leaves the set, and leaves an [`Absent`] where its room will be made: in its own
//! ledger, or at the limit that it shares with others. Who makes room there puts it back. So an entry that is asked in
//! vain was paid for by who put it there. The set may name consumers without room, but never misses one with room: an
//! entry is removed, and put back, under the lock of that place, which also orders what is held there.
//!
//! The set is made when it is first asked for. Takes and settlements never lock it unless their consumer left it, and
//! nobody holds its lock while he waits for another.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::consumer::Consumer;

/// Priority, the highest first, and number in the list of consumers.
pub(super) type Key = (Reverse<i32>, u64);

/// Candidates that are owned at a time.
const ASKED_MAX: usize = 64;

#[derive(Default)]
pub(crate) struct Candidates {
    entries: Mutex<BTreeMap<Key, Weak<Consumer>>>,
}

/// The place of a consumer that left the set because it has no room.
pub(crate) struct Absent {
    candidates: Arc<Candidates>,
    key: Key,
    consumer: Weak<Consumer>,
}

impl Absent {
    /// Under the lock of where this is kept until there is room.
    pub(crate) fn leave(&self) {
        self.candidates.remove(self.key);
    }

    /// Under the same lock. One that left its queue meanwhile has no room, and goes when it is asked.
    pub(crate) fn come_back(self) {
        self.candidates.add(self.key, self.consumer);
    }
}

impl Candidates {
    pub(super) fn add(&self, key: Key, consumer: Weak<Consumer>) {
        self.entries.lock().insert(key, consumer);
    }

    pub(super) fn remove(&self, key: Key) {
        self.entries.lock().remove(&key);
    }

    /// The first of a range, up to `max` of them.
    fn first(&self, keys: Range<Key>, max: usize) -> Vec<(Key, Arc<Consumer>)> {
        let mut found = Vec::new();
        let mut gone = Vec::new();
        let mut entries = self.entries.lock();
        for (key, consumer) in entries.range(keys) {
            match consumer.upgrade() {
                Some(consumer) => found.push((*key, consumer)),
                None => gone.push(*key),
            }
            if found.len() == max {
                break;
            }
        }
        for key in gone {
            entries.remove(&key);
        }
        found
    }

    /// Calls `f` with those of a range that have room, and their room, in order, until it wants no more.
    fn each_with_room(
        self: &Arc<Self>,
        mut keys: Range<Key>,
        mut f: impl FnMut(Key, Arc<Consumer>, usize) -> bool,
    ) {
        let mut max = 1; // the first one is often enough
        loop {
            let some = self.first(keys.clone(), max);
            let Some(((priority, number), _)) = some.last() else {
                return;
            };
            keys.start = (*priority, number + 1);
            for (key, consumer) in some {
                let room = consumer.room_now();
                if room == 0 {
                    crate::core::interruptible();
                    consumer.step_aside(Absent {
                        candidates: self.clone(),
                        key,
                        consumer: Arc::downgrade(&consumer),
                    });
                } else if !f(key, consumer, room) {
                    return;
                }
            }
            max = (2 * max).min(ASKED_MAX);
        }
    }

    /// The highest priority up to this one that any of them has.
    pub(super) fn highest(&self, priority: i32) -> Option<i32> {
        let entries = self.entries.lock();
        let mut from = entries.range((Reverse(priority), 0)..);
        from.next().map(|((Reverse(priority), _), _)| *priority)
    }

    /// Messages for which they have room together, as far as they are wanted.
    pub(super) fn room(self: &Arc<Self>, wanted: usize) -> usize {
        let all = (Reverse(i32::MAX), 0)..(Reverse(i32::MIN), u64::MAX);
        let mut sum = 0usize;
        self.each_with_room(all, |_, _, room| {
            sum = sum.saturating_add(room);
            sum < wanted
        });
        sum.min(wanted)
    }

    /// Those of one priority that have room, from the number `next` on and around, until `f` wants no more.
    pub(super) fn each_in_turn(
        self: &Arc<Self>,
        priority: i32,
        next: u64,
        mut f: impl FnMut(u64, Arc<Consumer>) -> bool,
    ) {
        let key = |number| (Reverse(priority), number);
        let mut more = true;
        for keys in [key(next)..key(u64::MAX), key(0)..key(next)] {
            if more {
                self.each_with_room(keys, |(_, number), consumer, _| {
                    more = f(number, consumer);
                    more
                });
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::consumer::ASKED;
    use crate::delivery::Outcome;
    use crate::random::numbers;
    use crate::{
        Broker, BrokerOptions, ConsumerOptions, Exchange, NewMessage, Overflow, Queue,
        QueueOptions, SharedPrefetch,
    };

    fn full_queue(overflow: Overflow) -> (Arc<Broker>, Arc<Queue>, Arc<Exchange>) {
        let broker = Broker::open(BrokerOptions::default()).unwrap();
        let host = broker.virtual_host("/").unwrap();
        let options = QueueOptions {
            max_length: Some(1),
            overflow,
            ..Default::default()
        };
        let (queue, _) = host.declare_queue("q", options).unwrap();
        let exchange = host.exchange("").unwrap();
        (broker, queue, exchange)
    }

    /// A consumer that is served in turn.
    pub(in crate::queue) fn in_turn(
        queue: &Arc<Queue>,
        prefetch: u32,
        priority: i32,
    ) -> Arc<Consumer> {
        let options = ConsumerOptions {
            in_turn: true,
            prefetch,
            priority,
            ..Default::default()
        };
        queue.consume(options, None).unwrap()
    }

    fn publish(exchange: &Exchange) -> bool {
        exchange.publish(&NewMessage::new("q", b"x")).is_ok()
    }

    #[test]
    fn consumers_without_room_are_not_asked_by_each_publisher() {
        for shared in [None, Some(SharedPrefetch::new())] {
            let (_broker, queue, exchange) = full_queue(Overflow::RejectPublish);
            let prefetch = if shared.is_some() { 0 } else { 2 };
            let consumers: Vec<_> = (0..1000).map(|_| in_turn(&queue, prefetch, 0)).collect();
            if let Some(shared) = &shared {
                shared.set_limit(2000);
                consumers.iter().for_each(|c| c.share_prefetch(shared));
            }
            // What each has room for, and one that stands in the queue.
            let accepted = (0..2500).filter(|_| publish(&exchange)).count();
            assert_eq!(accepted, 2001);
            ASKED.take();
            for _ in 0..500 {
                assert!(!publish(&exchange));
            }
            assert_eq!(ASKED.take(), 0);

            // One makes room, and is asked alone unless its limit is also that of others.
            let settled = &consumers[700];
            assert_eq!(settled.take(1, &mut Vec::new()), 1);
            settled.settle(1, false, Outcome::Ack).unwrap();
            assert!(publish(&exchange));
            assert!(!publish(&exchange));
            assert_eq!(consumers.iter().map(|c| c.unacked()).sum::<usize>(), 2000);
            // A place of a shared limit may be anybody's.
            let most = if shared.is_some() { 5_000 } else { 50 };
            assert!((1..most).contains(&ASKED.take()));
        }
    }

    #[test]
    fn one_with_room_does_not_have_the_others_asked() {
        for overflow in [Overflow::RejectPublish, Overflow::DropHead] {
            let (_broker, queue, exchange) = full_queue(overflow);
            let full: Vec<_> = (0..1000).map(|_| in_turn(&queue, 1, 0)).collect();
            for _ in 0..1001 {
                publish(&exchange);
            }
            let stalled = in_turn(&queue, 0, 0);
            publish(&exchange);
            ASKED.take();
            for _ in 0..500 {
                assert!(publish(&exchange));
            }
            assert!(ASKED.take() <= 500 * 20);
            assert!(stalled.unacked() >= 500);
            assert!(full.iter().all(|c| c.unacked() == 1));
        }
    }

    /// Nobody who has room is missed, whatever gave it to him.
    #[test]
    fn the_room_is_that_of_all_consumers() {
        let mut random = numbers(11);
        for _ in 0..40 {
            let (_broker, queue, exchange) = full_queue(Overflow::RejectPublish);
            let shared = [SharedPrefetch::new(), SharedPrefetch::new()];
            let mut consumers: Vec<Arc<Consumer>> = Vec::new();
            for _ in 0..400 {
                let which = random(consumers.len().max(1));
                match (random(12), consumers.get(which)) {
                    (0, _) if consumers.len() < 12 => {
                        let consumer = in_turn(&queue, random(4) as u32, random(3) as i32);
                        if let Some(shared) = shared.get(random(4)) {
                            consumer.share_prefetch(shared);
                        }
                        consumers.push(consumer);
                    }
                    (1, Some(_)) if random(3) == 0 => drop(consumers.swap_remove(which)),
                    (2, Some(consumer)) if random(3) == 0 => consumer.cancel_keeping(),
                    (3, Some(consumer)) => consumer.set_prefetch(1 + random(3) as u32),
                    (4, _) => shared[random(2)].set_limit(random(6) as u32),
                    (5, Some(consumer)) => {
                        let _ = consumer.settle(0, true, Outcome::Ack);
                    }
                    (6, Some(consumer)) => {
                        let _ = consumer.settle(0, true, Outcome::Release);
                    }
                    (7, Some(consumer)) => {
                        consumer.take(2, &mut Vec::new());
                    }
                    (8, Some(consumer)) => {
                        // As a transaction that fails, or is committed.
                        let withdrawn = consumer.withdraw(0, true).unwrap();
                        publish(&exchange);
                        if random(2) == 0 {
                            consumer.put_back(withdrawn);
                        } else {
                            let tokens = withdrawn.into_iter().map(|(_, unacked)| unacked.token);
                            queue.settle(tokens).unwrap();
                            consumer.settled_elsewhere();
                        }
                    }
                    _ => {
                        publish(&exchange);
                    }
                }
                let all = queue.consumers.all();
                let room = all
                    .iter()
                    .fold(0usize, |sum, one| sum.saturating_add(one.room_now()));
                for wanted in [1, 3, usize::MAX] {
                    assert_eq!(queue.consumers.room(wanted), room.min(wanted));
                }
            }
        }
    }
}
