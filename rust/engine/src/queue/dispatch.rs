//! Serving consumers in turn, as RabbitMQ does: one message each, around and around.
//!
//! A consumer of this engine pulls, so whoever calls first would take all there is. Consumers that ask for it
//! (`ConsumerOptions::in_turn`) are therefore served by whichever of them calls: it deals what is ready out to all
//! that have room, and takes its own share. What is dealt lies in the receiver's ledger, counts as unacked there, and
//! comes out first in the receiver's own `take`.
//!
//! Room is what the prefetch leaves, and less than [`IN_TURN_AHEAD_MAX`](crate::IN_TURN_AHEAD_MAX) assigned deliveries:
//! so who does not take does not starve the others. The highest level of priority that has room comes first, in turn
//! inside a level; behind a single active consumer nobody else is served. Consumers that are not served in turn take
//! beside all this, and one of higher priority that has room keeps those of lower priority waiting.
//!
//! Of many consumers only those are asked for room that may have some (candidates.rs): with thousands whose prefetch is used
//! up, a take must not ask each of them each time.
//!
//! A place of a prefetch that consumers share (`SharedPrefetch`) is reserved before a message is taken for it.
//!
//! Progress: dispatching is under one lock of the queue, which publishers never take and which a single consumer does
//! not need. Under it the ledgers of the receivers are locked, one at a time; nobody who holds a ledger waits for
//! this lock.
//!
//! Not promised: the turn of a consumer that joins or leaves meanwhile, and strict alternation with consumers that take
//! by themselves or messages that come back.

use std::sync::{Arc, Weak};

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::Queue;
use super::candidates::Candidates;
use super::consumers::{Consumers, Registered};
use super::ready::{TakeBuffer, Token};
use crate::consumer::{Ahead, Consumer, Reserved};
use crate::message::Message;

/// Messages dealt in one go: what a dispatch holds in its hand while the queue's lock is held.
const DEAL_MAX: usize = 256;

/// Consumers of a queue that are all asked: of so few that costs less than to keep account of who has room.
const WALKED_MAX: usize = 16;

#[cfg(test)]
thread_local! {
    /// What this thread has in its place.
    static WALKED: std::cell::Cell<usize> = const { std::cell::Cell::new(WALKED_MAX) };
}

fn walked_max() -> usize {
    #[cfg(test)]
    return WALKED.get();
    #[cfg(not(test))]
    WALKED_MAX
}

struct Member {
    sequence: u64,
    consumer: Weak<Consumer>,
}

/// Consumers of one priority.
struct Level {
    priority: i32,
    /// In order of registration. Of many consumers none is listed: the candidates among them are asked.
    members: Vec<Member>,
    /// The first member of this sequence number or a later one is next.
    next: u64,
}

/// Whose turn it is.
#[derive(Default)]
pub(super) struct Turn {
    /// Of the list that `levels` was made of; 0 = none yet.
    version: u32,
    /// Highest priority first.
    levels: Vec<Level>,
    /// Those who take by themselves, with their priorities.
    pullers: Vec<(i32, Weak<Consumer>)>,
    /// Of the consumers that are served in turn, if they are many.
    candidates: Option<Arc<Candidates>>,
    buffer: TakeBuffer,
}

/// A consumer with room, and what it is given.
struct Hand {
    sequence: u64,
    consumer: Arc<Consumer>,
    room: usize,
    /// Its places of a limit that it shares with others: then `room` is as many.
    reserved: Option<Reserved>,
    given: Vec<(Token, Message)>,
}

impl Turn {
    /// Follows the list of consumers. Whose turn it is stays.
    fn refresh(&mut self, consumers: &Consumers) {
        if self.version == consumers.version() {
            return;
        }
        let old = std::mem::take(&mut self.levels);
        let new = |priority| Level {
            priority,
            members: Vec::new(),
            next: find(&old, priority).map_or(0, |index| old[index].next),
        };
        let (levels, pullers) = (&mut self.levels, &mut self.pullers);
        pullers.clear();
        let mut pull = |known: &Registered| pullers.push((known.priority, known.consumer.clone()));
        let many = consumers.in_turn() > walked_max();
        self.candidates = many.then(|| consumers.candidates()).flatten();
        // Of many this is done anew for each that comes or goes, and must not look at all the others.
        self.version = if self.candidates.is_some() {
            consumers.each_priority(|priority| levels.push(new(priority)), pull)
        } else {
            consumers.each_served(|sequence, known| {
                if !known.in_turn {
                    return pull(known);
                }
                let index = find(levels, known.priority).unwrap_or_else(|index| {
                    levels.insert(index, new(known.priority));
                    index
                });
                levels[index].members.push(Member {
                    sequence,
                    consumer: known.consumer.clone(),
                });
            })
        };
    }
}

/// Where the level of a priority is, or would be.
fn find(levels: &[Level], priority: i32) -> Result<usize, usize> {
    levels.binary_search_by(|level| priority.cmp(&level.priority))
}

impl Level {
    /// The members that have room, from whose turn it is on, but not more than there are messages. Also the room that
    /// they have together, which is known only when all were asked; else it is one each. Only the `candidates` among
    /// them are asked, if they are known.
    fn hands(
        &self,
        messages: usize,
        why: Ahead,
        candidates: Option<&Arc<Candidates>>,
    ) -> (Vec<Hand>, usize) {
        let mut hands: Vec<Hand> = Vec::new();
        let mut ask = |sequence, consumer: Arc<Consumer>| {
            let room = consumer.turn_room(why);
            if room > 0
                && let Ok(reserved) = consumer.reserve_turn()
            {
                hands.push(Hand {
                    sequence,
                    consumer,
                    room,
                    reserved,
                    given: Vec::new(),
                });
            }
            hands.len() < messages
        };
        if let Some(candidates) = candidates {
            candidates.each_in_turn(self.priority, self.next, ask);
        } else {
            let members = self.members.len();
            let start = self.members.partition_point(|m| m.sequence < self.next);
            for step in 0..members {
                let member = &self.members[(start + step) % members];
                if let Some(consumer) = member.consumer.upgrade()
                    && !ask(member.sequence, consumer)
                {
                    break;
                }
            }
        }
        if hands.len() == messages {
            return (hands, messages);
        }
        reserve_in_turn(&mut hands, messages);
        let room = hands
            .iter()
            .fold(0usize, |sum, hand| sum.saturating_add(hand.room));
        (hands, room.min(messages))
    }
}

/// Of limits that consumers share, each gets a place at a time, until all have what they can use of `messages`.
fn reserve_in_turn(hands: &mut [Hand], messages: usize) {
    let mut left = messages.saturating_sub(hands.len());
    let mut grew = true;
    while grew && left > 0 {
        grew = false;
        for hand in hands.iter_mut() {
            if let Some(reserved) = &mut hand.reserved
                && left > 0
                && reserved.places() < hand.room
                && reserved.grow()
            {
                left -= 1;
                grew = true;
            }
        }
    }
    for hand in hands {
        if let Some(reserved) = &hand.reserved {
            hand.room = reserved.places();
        }
    }
}

impl Queue {
    /// Deals what is ready out to the consumers that are served in turn, until nothing is ready or nobody has room.
    /// `caller` is about to take and needs no notice.
    pub(crate) fn dispatch(&self, caller: &Consumer) {
        if self.ready.has_ready() && !self.core.is_closed() {
            self.deal(self.consumers.turn.lock(), Some(caller), Ahead::Turn, None);
        }
    }

    /// For a publisher that finds the queue at its limit of length: what consumers have room for is theirs and does not
    /// count, as in RabbitMQ, which hands it to them when it is published. Waits for nobody, since publishers may hold
    /// another queue's locks (a dead letter's do); then the consumers come too late for this one.
    pub(crate) fn deal_out(&self) {
        if self.consumers.in_turn() == 0 || !self.ready.has_ready() || self.core.is_closed() {
            return;
        }
        let candidates = self.consumers.candidates();
        if candidates.as_ref().is_some_and(|them| them.room(1) == 0) {
            return;
        }
        if let Some(turn) = self.consumers.turn.try_lock() {
            self.deal(turn, None, Ahead::Overflow, candidates.as_ref());
        }
    }

    fn deal(
        &self,
        mut turn: MutexGuard<'_, Option<Box<Turn>>>,
        caller: Option<&Consumer>,
        why: Ahead,
        candidates: Option<&Arc<Candidates>>,
    ) {
        let mut told: SmallVec<[Arc<Consumer>; 4]> = SmallVec::new();
        let mut came_back = 0;
        {
            let turn = turn.get_or_insert_default();
            turn.refresh(&self.consumers);
            let candidates = candidates.or(turn.candidates.as_ref());
            let mut index = 0;
            'levels: while index < turn.levels.len() {
                if let Some(candidates) = candidates {
                    let Some(priority) = candidates.highest(turn.levels[index].priority) else {
                        break;
                    };
                    index = find(&turn.levels, priority).unwrap_or_else(|index| index);
                }
                let Some(level) = turn.levels.get_mut(index) else {
                    break;
                };
                index += 1;
                let above = turn.pullers.iter().filter(|(p, _)| *p > level.priority);
                if above
                    .filter_map(|(_, puller)| puller.upgrade())
                    .any(|puller| puller.has_room())
                {
                    break; // they come and take
                }
                loop {
                    let ready = usize::try_from(self.ready.len()).unwrap_or(usize::MAX);
                    let (mut hands, wanted) =
                        level.hands(ready.clamp(1, DEAL_MAX), why, candidates);
                    if wanted == 0 {
                        break;
                    }
                    let mut at = 0;
                    let taken = self.take(wanted, &mut turn.buffer, |token, message| {
                        while hands[at].given.len() == hands[at].room {
                            at = (at + 1) % hands.len();
                        }
                        hands[at].given.push((token, message));
                        level.next = hands[at].sequence + 1;
                        at = (at + 1) % hands.len();
                    });
                    let mut is_refused = false;
                    for hand in hands {
                        if hand.given.is_empty() {
                            continue;
                        }
                        let is_callers = caller.is_some_and(|it| std::ptr::eq(it, &*hand.consumer));
                        let (refused, is_first) =
                            hand.consumer.assign(hand.given, hand.reserved, why);
                        is_refused |= !refused.is_empty();
                        came_back += refused.len();
                        self.return_unseen(refused);
                        if is_first && !is_callers {
                            told.push(hand.consumer);
                        }
                    }
                    if is_refused && why == Ahead::Overflow {
                        break 'levels; // somebody is at that consumer now, and is not waited for
                    }
                    // Fewer may also mean that some had expired.
                    if taken < wanted && !self.ready.has_ready() {
                        break 'levels;
                    }
                }
            }
        }
        drop(turn);
        for consumer in told {
            // It is told now, and must not use up a notice that another one waits for.
            self.waiters().unregister(&consumer);
            consumer.notify();
        }
        if came_back > 0 {
            self.wake(came_back);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::ASKED;
    use crate::delivery::Outcome;
    use crate::queue::candidates::tests::in_turn;
    use crate::random::numbers;
    use crate::{
        Broker, BrokerOptions, ConsumerOptions, Exchange, NewMessage, QueueOptions, SharedPrefetch,
    };

    fn world() -> (Arc<Broker>, Arc<Queue>, Arc<Exchange>) {
        let broker = Broker::open(BrokerOptions::default()).unwrap();
        let host = broker.virtual_host("/").unwrap();
        let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
        let exchange = host.exchange("").unwrap();
        (broker, queue, exchange)
    }

    fn publish(exchange: &Exchange, number: u64) {
        let body = number.to_le_bytes();
        exchange.publish(&NewMessage::new("q", &body)).unwrap();
    }

    fn take(consumer: &Consumer, max: usize) -> Vec<u64> {
        let mut out = Vec::new();
        consumer.take(max, &mut out);
        out.iter()
            .map(|one| u64::from_le_bytes(one.message.body().try_into().unwrap()))
            .collect()
    }

    #[test]
    fn a_take_does_not_ask_those_whose_prefetch_is_used_up() {
        for priorities in [1, 1000] {
            let (_broker, queue, exchange) = world();
            let consumers: Vec<_> = (0..1000)
                .map(|n| in_turn(&queue, 1, n % priorities))
                .collect();
            (0..2000).for_each(|number| publish(&exchange, number));
            for consumer in &consumers {
                take(consumer, 1);
            }
            assert!(consumers.iter().all(|one| one.unacked() == 1));
            let one = &consumers[300];
            for round in 0..50 {
                one.settle(0, true, Outcome::Ack).unwrap();
                // The first time those leave who have used up their room since they were last asked.
                if round == 1 {
                    ASKED.take();
                }
                assert_eq!(take(one, 1), [1000 + round]);
            }
            assert!(ASKED.take() <= 49 * 12);
        }
    }

    /// Everything that consumers get of a story of random events, whoever of them is asked for room.
    fn story(seed: u64, walked: usize) -> Vec<(usize, Vec<u64>)> {
        WALKED.set(walked);
        let mut random = numbers(seed);
        let (_broker, queue, exchange) = world();
        let shared = [SharedPrefetch::new(), SharedPrefetch::new()];
        let mut consumers: Vec<(usize, Arc<Consumer>)> = Vec::new();
        let (mut published, mut came) = (0, 0);
        let mut got = Vec::new();
        for _ in 0..600 {
            let which = random(consumers.len().max(1));
            match (random(16), consumers.get(which)) {
                (0 | 1, _) if consumers.len() < 14 => {
                    let options = ConsumerOptions {
                        in_turn: random(12) != 0,
                        no_ack: random(8) == 0,
                        prefetch: random(4) as u32,
                        priority: random(4) as i32 / 2,
                        ..Default::default()
                    };
                    let consumer = queue.consume(options, None).unwrap();
                    if let Some(shared) = shared.get(random(5)) {
                        consumer.share_prefetch(shared);
                    }
                    consumers.push((came, consumer));
                    came += 1;
                }
                (2, Some(_)) if random(3) == 0 => drop(consumers.swap_remove(which)),
                (2, Some((_, consumer))) if random(3) == 0 => consumer.cancel_keeping(),
                (3, Some((_, consumer))) => consumer.set_prefetch(random(5) as u32),
                (4, _) => shared[random(2)].set_limit(random(6) as u32),
                (5, Some((_, consumer))) => {
                    let _ = consumer.settle(0, true, Outcome::Ack);
                }
                (6, Some((_, consumer))) => {
                    let _ = consumer.settle(0, true, Outcome::Release);
                }
                (7 | 8, Some((_, consumer))) => {
                    let _ = consumer.settle(1 + random(40) as u64, false, Outcome::Ack);
                }
                (9..13, Some((number, consumer))) => {
                    got.push((*number, take(consumer, 1 + random(3))));
                }
                _ => {
                    for _ in 0..1 + random(4) {
                        publish(&exchange, published);
                        published += 1;
                    }
                }
            }
        }
        WALKED.set(WALKED_MAX);
        got
    }

    #[test]
    fn turns_are_the_same_whoever_is_asked_for_room() {
        for seed in 0..400 {
            assert_eq!(story(seed, 0), story(seed, usize::MAX), "seed {seed}");
        }
    }
}
