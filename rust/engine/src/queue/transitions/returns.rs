//! Transitions of a leased message that was not acknowledged.

use super::*;

impl Queue {
    /// leased → ready, at its own place; no verdict on the message. That it was handed out outlives a restart: an
    /// orderly close writes it down (`returned_runs`), after a crash the ceiling says so.
    pub(crate) fn give_back(&self, token: Token, body_bytes: u64) {
        add(&self.counters.done.returned, 1);
        let note = Note(token.note()).returned();
        self.requeue(token, note, body_bytes);
    }

    /// leased → ready, because its consumer went away: no failed attempt, no delay. A delivery limit counts it.
    pub(crate) fn lose(&self, token: Token, body_bytes: u64) -> Result<Ticket, Error> {
        let limit = self
            .counts_attempts()
            .then(|| self.in_force().delivery_limit);
        let Some(limit) = limit.flatten().filter(|_| !self.is_deleted()) else {
            self.give_back(token, body_bytes);
            self.after_entry(1);
            return Ok(Ticket::NONE);
        };
        let _steady = self.steady();
        add(&self.counters.done.returned, 1);
        let note = Note(token.note()).lost();
        if note.delivery_count() > limit {
            self.bury_leased(token, Reason::DeliveryLimit);
            return Ok(Ticket::NONE);
        }
        if self.is_expired(&token) {
            self.bury_expired(token);
            return Ok(Ticket::NONE);
        }
        let ticket = self.record_requeue(&token, note, 0);
        self.requeue(token, note, body_bytes);
        self.after_entry(1);
        ticket
    }

    /// leased → ready, as if they had not been handed out: nobody saw them.
    pub(crate) fn return_unseen(&self, assigned: impl IntoIterator<Item = (Token, Message)>) {
        for (token, message) in assigned {
            if self.is_deleted() {
                add(&self.counters.done.returned, 1);
                self.gone(token);
            } else if self.is_over(&message) {
                self.expire_assigned(token);
            } else {
                self.undo_take(token, &message);
            }
        }
    }

    /// leased → settled: its time was over before a consumer saw it.
    pub(crate) fn expire_assigned(&self, token: Token) {
        add(&self.counters.done.returned, 1);
        self.bury_expired(token);
    }

    /// Whether a message's time in this queue is over.
    #[inline]
    pub(crate) fn is_over(&self, message: &Message) -> bool {
        let facts = message.facts();
        let deadline_ns = self.deadline(&facts);
        deadline_ns != 0
            && deadline_ns > facts.published_ns.max(facts.due_ns) // not a time to live of zero: see watch_deadline
            && deadline_ns <= self.core.clock.now_ns()
    }

    /// leased → settled, with its queue.
    fn gone(&self, token: Token) {
        let stored = self.ready.settle(token);
        if let (Some(storage), true) = (self.storage(), stored.at() != 0) {
            storage.journal().release(stored.at(), 1);
        }
    }

    /// leased → settled, and to the dead-letter exchange.
    fn bury_leased(&self, token: Token, reason: Reason) {
        let place = self.place(token.level(), token.position());
        let stored = self.ready.settle(token);
        self.bury(stored, place, reason);
        self.wake_group();
    }

    pub(super) fn requeue(&self, token: Token, note: Note, body_bytes: u64) {
        if self.is_deleted() {
            self.gone(token);
            return;
        }
        if self.is_expired(&token) {
            self.bury_expired(token);
            return;
        }
        add(&self.counters.done.requeued, 1);
        self.enter(token.stored(), body_bytes);
        self.return_to_place(token, note);
    }

    pub(super) fn return_to_place(&self, token: Token, note: Note) {
        self.ready.requeue(token, note.0);
    }

    pub(super) fn is_expired(&self, token: &Token) -> bool {
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
            self.gone(token);
            return Ok(Ticket::NONE);
        }
        let note = Note(token.note()).failed();
        let options = self.counts_attempts().then(|| self.in_force());
        let limit = options.as_ref().and_then(|options| options.delivery_limit);
        let over_limit = limit.is_some_and(|limit| note.delivery_count() > limit);
        let delay = match options.as_ref().and_then(|options| options.retry.as_ref()) {
            None => Some(std::time::Duration::ZERO),
            Some(policy) => policy.delay(note.failures(), self.core.random()),
        };
        let (Some(delay), false) = (delay, over_limit) else {
            self.bury_leased(token, Reason::DeliveryLimit);
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
            self.after_entry(1);
        } else {
            add(&self.counters.done.requeued, 1);
            self.put_off(token, note, body_bytes, due_ns);
        }
        ticket
    }

    pub(super) fn record_requeue(
        &self,
        token: &Token,
        note: Note,
        due_ns: u64,
    ) -> Result<Ticket, Error> {
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
        self.wait(
            id,
            due_ns,
            Waiting::Retry(Box::new(Retry {
                token,
                note,
                body_bytes,
            })),
        );
    }

    /// leased → settled: refused for good, goes to the dead-letter exchange.
    pub(crate) fn reject(&self, token: Token) -> Result<Ticket, Error> {
        let _steady = self.steady();
        add(&self.counters.done.returned, 1);
        if self.is_deleted() {
            self.gone(token);
            return Ok(Ticket::NONE);
        }
        self.bury_leased(token, Reason::Rejected);
        Ok(Ticket::NONE)
    }
}
