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

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLockReadGuard;
use smallvec::SmallVec;
use wherry_journal::Class;

use super::Queue;
use super::counters::add;
use super::note::Note;
use super::ready::{TakeBuffer, Token};
use super::schedule::Waiting;
use crate::commit::{PublishRun, commit};
use crate::core::Event;
use crate::deadletter::{self, Reason};
use crate::draft::Draft;
use crate::entries::{self, Place, Run, Runs, push_run};
use crate::error::Error;
use crate::message::{Message, Stored};
use crate::options::Overflow;
use crate::storage::{Storage, Ticket};

/// A dead message for which the journal had no room is tried again after this time.
const BURY_AGAIN_NS: u64 = 100_000_000;
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

    fn message(&self, stored: &Stored) -> Result<Message, Error> {
        stored.message(self.storage().map(|s| &**s.journal()))
    }

    fn place(&self, level: u8, position: u64) -> Place {
        Place {
            queue: self.id(),
            level,
            position,
        }
    }

    /// Room and notice for messages that just became ready.
    pub(crate) fn after_publish(&self, n: usize) {
        let options = self.options();
        if options.overflow == Overflow::DropHead
            && (options.max_length.is_some() || options.max_length_bytes.is_some())
        {
            self.drop_head();
        }
        self.wake(n);
    }

    /// Has a message expire on time.
    pub(crate) fn watch_deadline(&self, deadline_ns: u64, event: Event) {
        let now = self.core.clock.now_ns();
        if deadline_ns > now {
            self.core.timer.schedule(deadline_ns, event);
        } else if self.waiters.any() {
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
        self.schedule().insert(id, due_ns, Waiting::Delayed(stored));
        self.core
            .timer
            .schedule(due_ns, Event::Due { queue: self.id() });
    }

    /// scheduled → ready, for everything that is due.
    pub(crate) fn activate_due(&self, now_ns: u64) {
        loop {
            let _steady = self.steady();
            let Some((due_ns, id, waiting)) = self.schedule().pop_due(now_ns) else {
                return;
            };
            match waiting {
                Waiting::Delayed(stored) => {
                    if let Err(stored) = self.activate(id, stored) {
                        let again = now_ns + BURY_AGAIN_NS;
                        self.schedule()
                            .insert(id, again.max(due_ns), Waiting::Delayed(stored));
                        self.core
                            .timer
                            .schedule(again, Event::Due { queue: self.id() });
                        return;
                    }
                }
                Waiting::Retry {
                    token,
                    note,
                    body_bytes,
                } => {
                    if self.is_expired(&token) {
                        self.bury_expired(token);
                        continue;
                    }
                    self.enter(1, body_bytes);
                    self.return_to_place(token, note);
                    self.wake(1);
                }
                Waiting::Dead {
                    stored,
                    place,
                    reason,
                } => self.bury(stored, place, reason),
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
        let mut redelivered = 0;
        let mut highest = 0;
        let mut dead: SmallVec<[(Token, u64); 0]> = SmallVec::new();
        let mut unreadable: SmallVec<[Token; 0]> = SmallVec::new();
        self.ready.take(max, buffer, |token| {
            let Ok(message) = self.message(token.stored()) else {
                unreadable.push(token);
                return;
            };
            let facts = message.facts();
            let deadline_ns = self.deadline(&facts);
            if deadline_ns != 0
                && deadline_ns > facts.published_ns.max(facts.due_ns) // not a time to live of zero: see watch_deadline
                && deadline_ns <= self.core.clock.now_ns()
            {
                dead.push((token, message.body_bytes()));
                return;
            }
            taken += 1;
            bytes += message.body_bytes();
            redelivered += u64::from(Note(token.note()).redelivered());
            highest = highest.max(token.position() + 1);
            f(token, message);
        });
        if taken > 0 {
            self.leave(taken, bytes);
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
            self.leave(1, body_bytes);
            add(&self.counters.done.expired, 1);
            let place = self.place(token.level(), token.position());
            let stored = self.ready.settle(token);
            self.bury(stored, place, Reason::Expired);
        }
        for token in unreadable {
            // Not handed out and not lost: it keeps its place and is tried again.
            self.leave(1, 0);
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
        let mut unblocked = 0;
        for token in tokens {
            let place = self.place(token.level(), token.position());
            let stored = self.ready.settle(token);
            settled += 1;
            unblocked += usize::from(self.ready.is_grouped());
            self.forget(&stored, place, &mut runs);
        }
        add(&self.counters.done.returned, settled);
        add(&self.counters.done.acknowledged, settled);
        if unblocked > 0 {
            self.wake(unblocked);
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

    /// leased → ready, at its own place; no verdict on the message. That it was handed out outlives a restart: an
    /// orderly close writes it down (`returned_runs`), after a crash the ceiling says so.
    pub(crate) fn give_back(&self, token: Token, body_bytes: u64) {
        add(&self.counters.done.returned, 1);
        let note = Note(token.note()).returned();
        self.requeue(token, note, body_bytes);
    }

    fn requeue(&self, token: Token, note: Note, body_bytes: u64) {
        if self.is_deleted() {
            drop(self.ready.settle(token));
            return;
        }
        if self.is_expired(&token) {
            self.bury_expired(token);
            return;
        }
        add(&self.counters.done.requeued, 1);
        self.enter(1, body_bytes);
        self.return_to_place(token, note);
    }

    fn return_to_place(&self, token: Token, note: Note) {
        self.ready.requeue(token, note.0);
    }

    fn is_expired(&self, token: &Token) -> bool {
        let Ok(message) = self.message(token.stored()) else {
            return false;
        };
        let facts = message.facts();
        let deadline_ns = self.deadline(&facts);
        deadline_ns != 0 && deadline_ns <= self.core.clock.now_ns()
    }

    /// leased → ready or scheduled or settled: the attempt failed; retry policy and delivery limit decide.
    pub(crate) fn fail(&self, token: Token, body_bytes: u64) -> Result<Ticket, Error> {
        let _steady = self.steady();
        add(&self.counters.done.returned, 1);
        if self.is_deleted() {
            drop(self.ready.settle(token));
            return Ok(Ticket::NONE);
        }
        let note = Note(token.note()).failed();
        let options = self.options();
        let over_limit = options
            .delivery_limit
            .is_some_and(|limit| note.delivery_count() > limit);
        let delay = match &options.retry {
            None => Some(std::time::Duration::ZERO),
            Some(policy) => policy.delay(note.delivery_count(), self.core.random()),
        };
        let (Some(delay), false) = (delay, over_limit) else {
            let place = self.place(token.level(), token.position());
            let stored = self.ready.settle(token);
            self.bury(stored, place, Reason::DeliveryLimit);
            self.wake_group();
            return Ok(Ticket::NONE);
        };
        let due_ns = if delay.is_zero() {
            0
        } else {
            self.core.clock.now_ns() + delay.as_nanos() as u64
        };
        if due_ns == 0 && self.is_expired(&token) {
            self.bury_expired(token);
            return Ok(Ticket::NONE);
        }
        let ticket = self.record_requeue(&token, note, due_ns);
        if due_ns == 0 {
            self.requeue(token, note, body_bytes);
            self.wake(1);
        } else {
            add(&self.counters.done.requeued, 1);
            self.put_off(token, note, body_bytes, due_ns);
        }
        ticket
    }

    fn record_requeue(&self, token: &Token, note: Note, due_ns: u64) -> Result<Ticket, Error> {
        match self.storage() {
            Some(storage) if token.stored().at() != 0 => {
                let place = self.place(token.level(), token.position());
                storage.requeue(place, note.0, due_ns)
            }
            _ => Ok(Ticket::NONE),
        }
    }

    /// leased → scheduled
    pub(crate) fn put_off(&self, token: Token, note: Note, body_bytes: u64, due_ns: u64) {
        let id = self.new_schedule_ids(1);
        self.schedule().insert(
            id,
            due_ns,
            Waiting::Retry {
                token,
                note,
                body_bytes,
            },
        );
        self.core
            .timer
            .schedule(due_ns, Event::Due { queue: self.id() });
    }

    /// leased → settled: refused for good, goes to the dead-letter exchange.
    pub(crate) fn reject(&self, token: Token) -> Result<Ticket, Error> {
        let _steady = self.steady();
        add(&self.counters.done.returned, 1);
        let place = self.place(token.level(), token.position());
        let stored = self.ready.settle(token);
        if self.is_deleted() {
            return Ok(Ticket::NONE);
        }
        self.bury(stored, place, Reason::Rejected);
        self.wake_group();
        Ok(Ticket::NONE)
    }

    fn wake_group(&self) {
        if self.ready.is_grouped() {
            self.wake(1);
        }
    }

    /// ready → settled: its time is over, wherever it stands. A leased one is looked at when it comes back.
    pub(crate) fn expire(&self, level: u8, position: u64) {
        let now = self.core.clock.now_ns();
        let is_due = self.ready.inspect(level, position, |_, stored| {
            self.message(stored).is_ok_and(|m| {
                let deadline_ns = self.deadline(&m.facts());
                deadline_ns != 0 && deadline_ns <= now
            })
        });
        if is_due != Some(true) {
            return;
        }
        let _steady = self.steady();
        let Some((stored, _)) = self.ready.remove(level, position) else {
            return;
        };
        let body_bytes = self.message(&stored).map(|m| m.body_bytes()).unwrap_or(0);
        self.leave(1, body_bytes);
        add(&self.counters.done.expired, 1);
        self.bury(stored, self.place(level, position), Reason::Expired);
        self.wake_group();
    }

    /// ready → settled: the oldest make room, in a priority queue those of the lowest level.
    fn drop_head(&self) {
        let options = self.options();
        let mut buffer = TakeBuffer::default();
        while options
            .max_length
            .is_some_and(|max| self.counters.ready() > max)
            || options
                .max_length_bytes
                .is_some_and(|max| self.counters.ready_bytes() > max)
        {
            let _steady = self.steady();
            let Some((level, position, stored)) = self.ready.take_least(&mut buffer) else {
                return;
            };
            let body_bytes = self.message(&stored).map(|m| m.body_bytes()).unwrap_or(0);
            self.leave(1, body_bytes);
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
                let again = now + BURY_AGAIN_NS;
                self.schedule().insert(
                    id,
                    again,
                    Waiting::Dead {
                        stored,
                        place,
                        reason,
                    },
                );
                self.core
                    .timer
                    .schedule(again, Event::Due { queue: self.id() });
            }
        }
    }

    /// ready → settled, for all that are ready now. Not dead-lettered.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::JournalFailed`].
    pub fn purge(&self) -> Result<(u64, Ticket), Error> {
        self.check_usable()?;
        let mut runs = Runs::new();
        let mut purged = 0;
        let mut bytes = 0;
        self.ready.purge(|level, position, stored, _| {
            purged += 1;
            bytes += self.message(&stored).map(|m| m.body_bytes()).unwrap_or(0);
            let at = stored.at();
            if at != 0
                && let Some(storage) = self.storage()
            {
                storage.journal().release(at, 1);
                push_run(&mut runs, self.place(level, position));
            }
        });
        self.leave(purged, bytes);
        Ok((purged, self.record(&runs)?))
    }

    /// ready here → ready there: up to `limit` messages in order, each batch as one journal record. They arrive as
    /// they were, without death history.
    ///
    /// # Errors
    /// Those of a publish to `destination`; what was moved before stays moved.
    pub fn move_to(
        &self,
        destination: &Arc<Queue>,
        limit: Option<u64>,
    ) -> Result<(u64, Ticket), Error> {
        self.check_usable()?;
        destination.check_usable()?;
        if std::ptr::eq(self, &**destination) {
            return Err(Error::InvalidArgument(
                "move: source and destination are one queue; name another destination".into(),
            ));
        }
        // A queue that is filled meanwhile is not followed for ever.
        let limit = limit.unwrap_or_else(|| self.ready.len());
        let mut buffer = TakeBuffer::default();
        let mut moved = 0;
        let mut ticket = Ticket::NONE;
        while moved < limit {
            let mut taken: Vec<(Token, Message)> = Vec::new();
            let max = MOVE_BATCH.min((limit - moved) as usize);
            self.take(max, &mut buffer, |token, message| {
                taken.push((token, message))
            });
            // One record holds them all, so that large ones go fewer at a time; the rest keeps its place.
            let mut bytes = 0;
            let too_much = taken.iter().position(|(_, message)| {
                bytes += message.content().len();
                bytes > MOVE_BYTES
            });
            for (token, message) in
                taken.split_off(too_much.unwrap_or(taken.len()).max(1).min(taken.len()))
            {
                self.undo_take(token, &message);
            }
            if taken.is_empty() {
                break;
            }
            let outcome = {
                let _steady = self.steady();
                let drafts: Vec<Draft<'_>> = taken
                    .iter()
                    .map(|(_, message)| Draft {
                        parts: message.parts(),
                        facts: message.facts(),
                        priority: message.properties().priority().unwrap_or(0),
                    })
                    .map(|mut draft| {
                        draft.facts.due_ns = 0; // it was due already
                        draft
                    })
                    .collect();
                let mut runs = Runs::new();
                for (token, _) in taken.iter().filter(|(token, _)| token.stored().at() != 0) {
                    push_run(&mut runs, self.place(token.level(), token.position()));
                }
                let queues = std::slice::from_ref(destination);
                let outcome = commit(
                    &self.core,
                    &[PublishRun {
                        queues,
                        drafts: &drafts,
                    }],
                    &runs,
                    &[],
                    Class::Publish,
                );
                if outcome.is_ok() {
                    let n = drafts.len() as u64;
                    drop(drafts);
                    for (token, _) in taken.drain(..) {
                        let at = token.stored().at();
                        drop(self.ready.settle(token));
                        if let (Some(storage), true) = (self.storage(), at != 0) {
                            storage.journal().release(at, 1);
                        }
                    }
                    add(&self.counters.done.returned, n);
                    moved += n;
                }
                outcome
            };
            match outcome {
                Ok(t) => ticket = ticket.max(t),
                Err(error) => {
                    for (token, message) in taken {
                        self.undo_take(token, &message);
                    }
                    return Err(error);
                }
            }
        }
        Ok((moved, ticket))
    }

    /// leased → ready, as if it had not been taken.
    fn undo_take(&self, token: Token, message: &Message) {
        add(&self.counters.done.returned, 1);
        self.enter(1, message.body_bytes());
        let note = Note(token.note());
        self.return_to_place(token, note);
    }

    /// scheduled → settled
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::JournalFailed`].
    pub fn cancel_scheduled(&self, id: u64) -> Result<(bool, Ticket), Error> {
        self.check_usable()?;
        let mut schedule = self.schedule();
        let mut ticket = Ticket::NONE;
        if let (Some(storage), Some((_, Waiting::Delayed(stored)))) =
            (self.storage(), schedule.get(id))
            && stored.at() != 0
        {
            // Before it goes, under the lock: a journal that refuses leaves the message as it was.
            let place = self.place(0, id);
            ticket = storage.append(entries::PLACE_BYTES, Class::Settle, |out| {
                entries::write_place(out, entries::CANCEL, place);
            })?;
            storage.journal().release(stored.at(), 1);
        }
        let removed = schedule.remove(id);
        drop(schedule);
        match removed {
            None => Ok((false, Ticket::NONE)),
            Some((_, Waiting::Delayed(_))) => Ok((true, ticket)),
            Some((_, Waiting::Retry { token, .. })) => {
                let place = self.place(token.level(), token.position());
                let stored = self.ready.settle(token);
                let mut runs = Runs::new();
                self.forget(&stored, place, &mut runs);
                self.wake_group();
                Ok((true, self.record(&runs)?))
            }
            Some((_, Waiting::Dead { stored, place, .. })) => {
                let mut runs = Runs::new();
                self.forget(&stored, place, &mut runs);
                Ok((true, self.record(&runs)?))
            }
        }
    }

    /// For closing: the messages in the journal that were handed out and came back, so that a reopened journal says so.
    pub(crate) fn returned_runs(&self, runs: &mut Runs) {
        // Relaxed: see `ceiling`; below it is all that was ever handed out.
        if !self.is_durable() || self.is_deleted() || self.ceiling().load(Ordering::Relaxed) == 0 {
            return;
        }
        self.ready
            .browse(usize::MAX, |level, position, note, stored| {
                if Note(note).redelivered() && stored.at() != 0 {
                    push_run(runs, self.place(level, position));
                }
            });
    }

    /// Everything → settled, with the queue. The journal's entry of the deletion speaks for all of it.
    pub(crate) fn discard_all(&self) -> u64 {
        let mut discarded = 0;
        self.leave(self.counters.ready(), self.counters.ready_bytes());
        let release = |stored: &Stored| {
            if let (Some(storage), true) = (self.storage(), stored.at() != 0) {
                storage.journal().release(stored.at(), 1);
            }
        };
        self.ready.purge(|_, _, stored, _| {
            discarded += 1;
            release(&stored);
        });
        for (_, waiting) in self.schedule().drain() {
            release(waiting.stored());
            if let Waiting::Retry { token, .. } = waiting {
                drop(self.ready.settle(token));
            }
        }
        discarded
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
