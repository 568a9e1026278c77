//! Every change of a message's state in a queue, one function each.
//!
//! ```text
//!                     due                    take
//!   scheduled ─────────────────▶ ready ───────────────▶ leased
//!       ▲                        │   ▲                  │ │ │
//!       │                        │   └──────────────────┘ │ │
//!       │                        │         requeue        │ │
//!       └────────────────────────┼────────────────────────┘ │
//!                 fail (retry)   │ expire, drop_head,       │ settle (ack), bury
//!                                │ purge, move_to           ▼
//!                                └──────────────────────▶ settled
//! ```
//!
//! What the journal must know is appended in the same function. Plain settling changes the slot first and appends
//! then; whatever must be atomic (dead-lettering, moving, transactions) appends first, under the compaction lock.

mod removal;
mod returns;

use std::sync::atomic::Ordering;

use parking_lot::RwLockReadGuard;
use smallvec::SmallVec;
use wherry_journal::Class;

use super::counters::add;
use super::note::Note;
use super::ready::{TakeBuffer, Token};
use super::schedule::{Dead, Retry, Waiting};
use super::{Queue, heap_of};
use crate::commit::{PublishRun, commit};
use crate::core::Event;
use crate::deadletter::{self, Reason};
use crate::draft::Draft;
use crate::entries::{self, Place, Run, Runs, push_run};
use crate::error::Error;
use crate::message::{Message, Stored};
use crate::storage::{Storage, Ticket};

/// A message for which the journal had no room, dead or due, is tried again after this time.
const AGAIN_NS: u64 = 100_000_000;
/// A message that could not be read is tried again after this time.
const READ_AGAIN_NS: u64 = 1_000_000_000;
/// A message with a time to live of zero may be taken by consumers that were waiting when it came; this bounds how
/// long they have.
const ZERO_TTL_GRACE_NS: u64 = 1_000_000_000;
/// Positions for which one journal entry says "may have been handed out": one entry in so many deliveries, and as many
/// messages more than necessary flagged as redelivered after a crash.
const CEILING_STEP: u64 = 1024;
/// Messages moved by one journal record.
const MOVE_BATCH: usize = 256;
/// Their bytes, unless it is a single message.
const MOVE_BYTES: usize = 4 << 20;

impl Queue {
    /// leased → settled, as part of a record that is written already.
    pub(crate) fn settle_recorded(&self, token: Token) {
        let at = token.stored().at();
        drop(self.ready.settle(token));
        if let (Some(storage), true) = (self.storage(), at != 0) {
            storage.journal().release(at, 1);
        }
        add(&self.counters.done.returned, 1);
        add(&self.counters.done.acknowledged, 1);
        self.wake_group();
    }

    fn storage(&self) -> Option<&Storage> {
        self.core.storage()
    }

    /// Keeps compaction away while a message is in no place where it would look: between its slot and its next entry.
    fn steady(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.storage().map(|s| s.compaction.read_recursive())
    }

    pub(super) fn message(&self, stored: &Stored) -> Result<Message, Error> {
        stored.message(self.storage().map(|s| &**s.journal()))
    }

    fn place(&self, level: u8, position: u64) -> Place {
        Place {
            queue: self.id(),
            level,
            position,
        }
    }

    /// Room and notice for messages that just became ready: published, or returned. Of the latter the oldest go first if
    /// others took their room meanwhile, as in RabbitMQ.
    pub(crate) fn after_entry(&self, n: usize) {
        if self.may_drop() {
            self.drop_head();
        }
        self.wake(n);
    }

    /// Has a message expire on time.
    pub(crate) fn watch_deadline(&self, deadline_ns: u64, event: Event) {
        let now = self.core.clock.now_ns();
        if deadline_ns > now {
            self.core.timer.schedule(deadline_ns, event);
        } else if self.waiters().any() {
            self.core.timer.schedule(now + ZERO_TTL_GRACE_NS, event);
        } else if let Event::Expire {
            level, position, ..
        } = event
        {
            self.expire(level, position);
        }
    }

    /// (published with a delay) → scheduled
    pub(crate) fn schedule_delayed(&self, id: u64, due_ns: u64, stored: Stored) {
        self.wait(id, due_ns, Waiting::Delayed(stored));
    }

    /// Of a new queue: its delayed messages after a restart, with their ids and when they are due.
    pub(crate) fn restore_delayed(&self, delayed: Vec<(u64, u64, Stored)>) {
        for (id, ..) in &delayed {
            self.skip_schedule_id(*id);
        }
        // In the journal, they take nothing of the memory that is limited. And most queues have no schedule.
        if let Some(first_ns) = delayed.iter().map(|(_, due_ns, _)| *due_ns).min() {
            self.schedule().restore(delayed.into_iter());
            self.wait_until(first_ns);
        }
    }

    /// Into the schedule. What waits there counts as memory as what waits in the queue does.
    pub(crate) fn wait(&self, id: u64, due_ns: u64, waiting: Waiting) {
        self.meter(waiting.heap_bytes(), 1);
        self.schedule().insert(id, due_ns, waiting);
        self.wait_until(due_ns);
    }

    /// Has the timer look at the schedule by then.
    fn wait_until(&self, due_ns: u64) {
        if self.schedule().is_earlier(due_ns) {
            let event = Event::Due { queue: self.id() };
            self.core.timer.schedule(due_ns, event);
        }
    }

    /// scheduled → ready, for everything that is due. The timer's call.
    pub(crate) fn activate_due(&self, now_ns: u64) {
        loop {
            let _steady = self.steady();
            let mut schedule = self.schedule();
            let Some((due_ns, id, waiting)) = schedule.pop_due(now_ns) else {
                let next_ns = schedule.fired(now_ns);
                drop(schedule);
                next_ns
                    .into_iter()
                    .for_each(|due_ns| self.wait_until(due_ns));
                return;
            };
            drop(schedule);
            self.meter(waiting.heap_bytes(), -1);
            match waiting {
                Waiting::Delayed(stored) => {
                    if let Err(stored) = self.activate(id, stored) {
                        // It keeps its time: the others that are due are looked at later, too, and come after it.
                        let waiting = Waiting::Delayed(stored);
                        self.meter(waiting.heap_bytes(), 1);
                        let mut schedule = self.schedule();
                        schedule.insert(id, due_ns, waiting);
                        schedule.fired(now_ns);
                        drop(schedule);
                        self.wait_until(now_ns + AGAIN_NS);
                        return;
                    }
                }
                Waiting::Retry(retry) => {
                    let Retry {
                        token,
                        note,
                        body_bytes,
                    } = *retry;
                    if self.is_expired(&token) {
                        self.bury_expired(token);
                        continue;
                    }
                    self.enter(token.stored(), body_bytes);
                    self.return_to_place(token, note);
                    self.after_entry(1);
                }
                Waiting::Dead(dead) => self.bury(dead.stored, dead.place, dead.reason),
            }
        }
    }

    /// A delayed message gets its place at the end: in the journal a new entry, since its place is part of it.
    fn activate(&self, id: u64, stored: Stored) -> Result<(), Stored> {
        let Some(this) = self.core.queue_by_id(self.id()) else {
            return Ok(());
        };
        let Ok(message) = self.message(&stored) else {
            return Err(stored);
        };
        let mut facts = message.facts();
        facts.published_ns = facts.published_ns.max(facts.due_ns); // it enters the queue now
        facts.due_ns = 0;
        let draft = Draft {
            parts: message.parts(),
            facts,
            priority: message.properties().priority().unwrap_or(0),
        };
        let at = stored.at();
        let unscheduled = [self.place(0, id)];
        let unscheduled = if at == 0 { &[][..] } else { &unscheduled[..] };
        let run = PublishRun {
            queues: std::slice::from_ref(&this),
            drafts: &[draft],
        };
        if commit(&self.core, &[run], &[], unscheduled, Class::Settle).is_err() {
            return Err(stored);
        }
        self.counters
            .input
            .published
            .fetch_sub(1, Ordering::Relaxed); // counted when it was scheduled
        if let (Some(storage), true) = (self.storage(), at != 0) {
            storage.journal().release(at, 1);
        }
        Ok(())
    }

    /// ready → leased, up to `max` messages in order. What turns out to be expired is buried on the way.
    pub(crate) fn take(
        &self,
        max: usize,
        buffer: &mut TakeBuffer,
        mut f: impl FnMut(Token, Message),
    ) -> usize {
        let mut taken = 0;
        let mut bytes = 0;
        let mut heap_bytes = 0;
        let mut redelivered = 0;
        let mut highest = 0;
        let mut dead: SmallVec<[(Token, u64); 0]> = SmallVec::new();
        let mut unreadable: SmallVec<[Token; 0]> = SmallVec::new();
        self.ready.take(max, buffer, |token| {
            let Ok(message) = self.message(token.stored()) else {
                unreadable.push(token);
                return;
            };
            if self.is_over(&message) {
                dead.push((token, message.body_bytes()));
                return;
            }
            taken += 1;
            let body_bytes = message.body_bytes();
            bytes += body_bytes;
            heap_bytes += heap_of(token.stored(), body_bytes);
            redelivered += u64::from(Note(token.note()).redelivered());
            highest = highest.max(token.position() + 1);
            f(token, message);
        });
        if taken > 0 {
            self.leave_many(taken, bytes, heap_bytes);
            add(&self.counters.output.delivered, taken);
            if redelivered > 0 {
                add(&self.counters.output.redelivered, redelivered);
            }
            if self.is_durable() && highest > self.ceiling().load(Ordering::Relaxed) {
                self.raise_ceiling(highest);
            }
        }
        let _steady = if dead.is_empty() { None } else { self.steady() };
        for (token, body_bytes) in dead {
            self.leave(token.stored(), body_bytes);
            add(&self.counters.done.expired, 1);
            let place = self.place(token.level(), token.position());
            let stored = self.ready.settle(token);
            self.bury(stored, place, Reason::Expired);
        }
        for token in unreadable {
            // Not handed out and not lost: it keeps its place and is tried again.
            self.leave(token.stored(), 0);
            let note = Note(token.note());
            self.put_off(token, note, 0, self.core.clock.now_ns() + READ_AGAIN_NS);
        }
        taken as usize
    }

    /// Lets a recovery after a crash know what may have been handed out. Not waited for: it is a hint.
    fn raise_ceiling(&self, highest: u64) {
        let ceiling = highest + CEILING_STEP;
        if let Some(storage) = self.storage() {
            let place = self.place(0, ceiling);
            let written = storage.append(entries::PLACE_BYTES, Class::Settle, |out| {
                entries::write_place(out, entries::CEILING, place);
            });
            if written.is_err() {
                return; // the next delivery tries again
            }
        }
        self.ceiling().fetch_max(ceiling, Ordering::Relaxed);
    }

    /// leased → settled. The messages are gone.
    pub(crate) fn settle(&self, tokens: impl Iterator<Item = Token>) -> Result<Ticket, Error> {
        let mut runs = Runs::new();
        let mut settled = 0;
        self.ready.settle_many(tokens, |level, position, stored| {
            settled += 1;
            self.forget(&stored, self.place(level, position), &mut runs);
        });
        add(&self.counters.done.returned, settled);
        add(&self.counters.done.acknowledged, settled);
        if settled > 0 && self.ready.is_grouped() {
            self.wake(settled as usize);
        }
        self.record(&runs)
    }

    /// Notes that a settled message's journal entry is no longer needed here.
    fn forget(&self, stored: &Stored, place: Place, runs: &mut Runs) {
        let at = stored.at();
        if at != 0
            && let Some(storage) = self.storage()
        {
            storage.journal().release(at, 1);
            push_run(runs, place);
        }
    }

    fn record(&self, runs: &[Run]) -> Result<Ticket, Error> {
        match self.storage() {
            Some(storage) if !runs.is_empty() && !self.is_deleted() => storage.settle(runs),
            _ => Ok(Ticket::NONE),
        }
    }

    fn wake_group(&self) {
        if self.ready.is_grouped() {
            self.wake(1);
        }
    }

    /// ready → settled: its time is over, wherever it stands. A leased one is looked at when it comes back.
    pub(crate) fn expire(&self, level: u8, position: u64) {
        let now = self.core.clock.now_ns();
        let deadline_ns = self.ready.inspect(level, position, |_, stored| {
            let message = self.message(stored).ok();
            message.map_or(0, |m| self.deadline(&m.facts()))
        });
        match deadline_ns {
            None | Some(0) => return,
            // A policy has given it more time.
            Some(deadline_ns) if deadline_ns > now => {
                let event = Event::Expire {
                    queue: self.id(),
                    level,
                    position,
                };
                self.core.timer.schedule(deadline_ns, event);
                return;
            }
            Some(_) => {}
        }
        let _steady = self.steady();
        let Some((stored, _)) = self.ready.remove(level, position) else {
            return;
        };
        let body_bytes = self.message(&stored).map(|m| m.body_bytes()).unwrap_or(0);
        self.leave(&stored, body_bytes);
        add(&self.counters.done.expired, 1);
        self.bury(stored, self.place(level, position), Reason::Expired);
        self.wake_group();
    }

    /// ready → settled: the oldest make room, in a priority queue those of the lowest level.
    fn drop_head(&self) {
        let mut buffer = TakeBuffer::default();
        if self.is_over_length() {
            self.deal_out();
        }
        while self.is_over_length() {
            let _steady = self.steady();
            let Some((level, position, stored)) = self.ready.take_least(&mut buffer) else {
                return;
            };
            let body_bytes = self.message(&stored).map(|m| m.body_bytes()).unwrap_or(0);
            self.leave(&stored, body_bytes);
            self.bury(stored, self.place(level, position), Reason::MaxLength);
        }
    }

    /// The end of a message that was not acknowledged: to the dead-letter exchange if there is one. Its slot is
    /// settled already, by the caller, who holds `steady` since before; in the journal, its end here and its beginning
    /// there are one record.
    pub(crate) fn bury(&self, stored: Stored, place: Place, reason: Reason) {
        crate::core::interruptible();
        let now = self.core.clock.now_ns();
        let outcome = self.message(&stored).and_then(|message| {
            let runs: SmallVec<[Run; 1]> = if stored.at() != 0 && !self.is_deleted() {
                SmallVec::from_elem(
                    Run {
                        first: place,
                        count: 1,
                    },
                    1,
                )
            } else {
                SmallVec::new()
            };
            deadletter::publish(self, &message, reason, now, &runs)
        });
        match outcome {
            Ok(lettered) => {
                if let (Some(storage), true) = (self.storage(), stored.at() != 0) {
                    storage.journal().release(stored.at(), 1);
                }
                let done = &self.counters.done;
                add(
                    if lettered {
                        &done.dead_lettered
                    } else {
                        &done.dropped
                    },
                    1,
                );
            }
            Err(_) => {
                // No room or no journal: it is not lost, neither here nor on disk.
                let id = self.new_schedule_ids(1);
                let again = now + AGAIN_NS;
                self.wait(
                    id,
                    again,
                    Waiting::Dead(Box::new(Dead {
                        stored,
                        place,
                        reason,
                    })),
                );
            }
        }
    }

    fn bury_expired(&self, token: Token) {
        add(&self.counters.done.expired, 1);
        let place = self.place(token.level(), token.position());
        let _steady = self.steady();
        let stored = self.ready.settle(token);
        self.bury(stored, place, Reason::Expired);
        self.wake_group();
    }
}
