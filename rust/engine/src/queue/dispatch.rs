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
use super::consumers::Consumers;
use super::ready::{TakeBuffer, Token};
use crate::consumer::{Ahead, Consumer, Reserved};
use crate::message::Message;

/// Messages dealt in one go: what a dispatch holds in its hand while the queue's lock is held.
const DEAL_MAX: usize = 256;

struct Member {
    sequence: u64,
    consumer: Weak<Consumer>,
}

/// Consumers of one priority, in order of registration.
struct Level {
    priority: i32,
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
        self.pullers.clear();
        self.version = consumers.each_served(|sequence, known| {
            if !known.in_turn {
                self.pullers.push((known.priority, known.consumer.clone()));
                return;
            }
            let place = self
                .levels
                .binary_search_by(|level| known.priority.cmp(&level.priority));
            let index = place.unwrap_or_else(|index| {
                let next = old
                    .iter()
                    .find(|level| level.priority == known.priority)
                    .map_or(0, |level| level.next);
                let level = Level {
                    priority: known.priority,
                    members: Vec::new(),
                    next,
                };
                self.levels.insert(index, level);
                index
            });
            self.levels[index].members.push(Member {
                sequence,
                consumer: known.consumer.clone(),
            });
        });
    }
}

impl Level {
    /// The members that have room, from whose turn it is on, but not more than there are messages. Also the room that
    /// they have together, which is known only when all were asked; else it is one each. Publishers ask the
    /// `candidates` among them only.
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
            'levels: for level in &mut turn.levels {
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
