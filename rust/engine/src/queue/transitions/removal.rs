//! Transitions of messages that are taken out by hand: purged, moved, cancelled, or gone with their queue.

use std::sync::Arc;

use super::*;
use crate::queue::heap_of;

impl Queue {
    /// ready → settled, for all that are ready now. Not dead-lettered.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::JournalFailed`].
    pub fn purge(&self) -> Result<(u64, Ticket), Error> {
        self.check_usable()?;
        let mut runs = Runs::new();
        let mut purged = 0;
        let mut bytes = 0;
        let mut heap_bytes = 0;
        self.ready.purge(|level, position, stored, _| {
            purged += 1;
            let body_bytes = self.message(&stored).map(|m| m.body_bytes()).unwrap_or(0);
            bytes += body_bytes;
            heap_bytes += heap_of(&stored, body_bytes);
            let at = stored.at();
            if at != 0
                && let Some(storage) = self.storage()
            {
                storage.journal().release(at, 1);
                push_run(&mut runs, self.place(level, position));
            }
        });
        self.leave_many(purged, bytes, heap_bytes);
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
    pub(super) fn undo_take(&self, token: Token, message: &Message) {
        add(&self.counters.done.returned, 1);
        self.enter(token.stored(), message.body_bytes());
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
        if let Some((_, waiting)) = &removed {
            self.meter(waiting.heap_bytes(), -1);
        }
        match removed {
            None => Ok((false, Ticket::NONE)),
            Some((_, Waiting::Delayed(_))) => Ok((true, ticket)),
            Some((_, Waiting::Retry(retry))) => {
                let token = retry.token;
                let place = self.place(token.level(), token.position());
                let stored = self.ready.settle(token);
                let mut runs = Runs::new();
                self.forget(&stored, place, &mut runs);
                self.wake_group();
                Ok((true, self.record(&runs)?))
            }
            Some((_, Waiting::Dead(dead))) => {
                let mut runs = Runs::new();
                self.forget(&dead.stored, dead.place, &mut runs);
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

    /// Of a queue that was deleted: its messages go, and who waits for some hears of it. How many messages it had.
    pub(crate) fn empty_deleted(&self) -> u64 {
        let discarded = self.discard_all();
        for consumer in self.consumers.all() {
            consumer.cancel();
        }
        // Those who wait without being consumers (`get`) hear of it as well.
        for waiter in self.waiters().take(usize::MAX) {
            waiter.notify();
        }
        discarded
    }

    /// Everything → settled, with the queue. The journal's entry of the deletion speaks for all of it.
    pub(crate) fn discard_all(&self) -> u64 {
        let mut discarded = 0;
        let release = |stored: &Stored| {
            if let (Some(storage), true) = (self.storage(), stored.at() != 0) {
                storage.journal().release(stored.at(), 1);
            }
        };
        self.ready.purge(|_, _, stored, _| {
            discarded += 1;
            // A message in the journal need not be read for what it takes there.
            let on_heap = stored.at() == 0;
            let body_bytes = if on_heap {
                self.message(&stored).map(|m| m.body_bytes()).unwrap_or(0)
            } else {
                0
            };
            self.meter(heap_of(&stored, body_bytes), -1);
            release(&stored);
        });
        let (ready, bytes) = (self.counters.ready(), self.counters.ready_bytes());
        self.counters.leave(ready, bytes);
        let Some(mut schedule) = self.schedule_if_any() else {
            return discarded;
        };
        for (_, waiting) in schedule.drain() {
            self.meter(waiting.heap_bytes(), -1);
            release(waiting.stored());
            if let Waiting::Retry(retry) = waiting {
                drop(self.ready.settle(retry.token));
            }
        }
        discarded
    }
}

impl Drop for Queue {
    /// A publisher that had found the queue before it was deleted may have put something into it after it was emptied.
    fn drop(&mut self) {
        if self.is_deleted() {
            self.discard_all();
        }
    }
}
