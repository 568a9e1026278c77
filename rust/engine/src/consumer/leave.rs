//! How a consumer leaves its queue, and what becomes of what it holds.

use std::sync::atomic::Ordering;

use super::Consumer;
use crate::delivery::Outcome;

impl Consumer {
    /// Ends the consumer; what it held returns to its place, with no verdict. Idempotent.
    pub fn cancel(&self) {
        self.leave(Outcome::Release);
    }

    /// Ends the consumer because its connection or channel went away: what it held ends as [`Outcome::Lost`].
    /// Idempotent.
    pub fn cancel_lost(&self) {
        self.leave(Outcome::Lost);
    }

    /// Takes nothing more and no longer counts in its queue. What it holds stays with it and can be settled, until
    /// `cancel`, `cancel_lost` or its drop ends that as well. Idempotent.
    ///
    /// A queue with auto-delete goes with its last consumer, whatever that one holds: settling it is then no error
    /// and has no effect.
    pub fn cancel_keeping(&self) {
        if !self.cancelled.swap(true, Ordering::Relaxed) {
            // A `take` that was under way is over once the lock was had; later ones see the flag.
            let mut ledger = self.ledger.lock();
            let assigned = std::mem::take(&mut ledger.assigned);
            self.note_held(&mut ledger);
            drop(ledger);
            let n = assigned.len();
            self.queue.return_unseen(assigned);
            self.step_down(n);
        }
    }

    fn leave(&self, outcome: Outcome) {
        let first = !self.cancelled.swap(true, Ordering::Relaxed);
        // Under the lock, so that a `take` that was under way is either seen here or sees the flag.
        let mut ledger = self.ledger.lock();
        ledger.ended = true;
        let assigned = std::mem::take(&mut ledger.assigned);
        let held = ledger.remove_up_to(u64::MAX - 1);
        self.note_held(&mut ledger);
        drop(ledger);
        let n = held.len() + assigned.len();
        self.queue.return_unseen(assigned);
        // What comes back wakes others below; a failure of the journal is seen by the publishers.
        let _ = self.decide(held.into_iter().map(|(_, unacked)| unacked), outcome);
        self.queue.core.forget_consumer(self.id);
        if first {
            self.step_down(n);
        }
    }

    /// Its place in the queue's list goes to others, and `returned` messages with it.
    fn step_down(&self, returned: usize) {
        if let Some(shared) = self.shared.get() {
            shared.forget(self.id);
        }
        self.queue.waiters().unregister(self);
        let left = self.queue.consumers.remove(self);
        if left.is_some() {
            self.queue.tell_consumers();
        }
        self.queue.touch();
        self.queue.ready.trim();
        self.queue.waiters().trim();
        if left == Some(0) {
            self.queue.consumers.trim();
        }
        // For what it gave back, for a notice that was spent on it, and for whoever may take now that it is gone.
        if self.queue.ready.has_ready() {
            self.queue.after_entry(returned.max(1));
        }
        self.notify();
        self.queue.consumers.tell_active();
        if left == Some(0)
            && self.queue.options().auto_delete
            && !self.queue.is_deleted()
            && let Ok(vhost) = self.queue.vhost()
        {
            let _ = vhost.delete_queue(self.queue.name(), true, false);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.cancel();
    }
}
