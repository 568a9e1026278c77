//! What can be seen of a queue without any effect on it: its messages and its numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::message::Message;
use crate::queue::Queue;
use crate::queue::note::Note;

/// A waiting message as seen by `browse`.
#[derive(Clone, Debug)]
pub struct Browsed {
    /// Its position in the queue (in its priority level).
    pub position: u64,
    /// Its level in a priority queue, else 0.
    pub priority: u8,
    /// Whether it was handed out before.
    pub redelivered: bool,
    /// Attempts that ended without an ack.
    pub delivery_count: u32,
    /// The message.
    pub message: Message,
}

/// A message that is not deliverable yet.
#[derive(Clone, Debug)]
pub struct ScheduledMessage {
    /// Names it for `cancel_scheduled`.
    pub id: u64,
    /// When it becomes deliverable, in nanoseconds since the UNIX epoch.
    pub due_ns: u64,
    /// True for a failed message that waits for its next attempt, false for one published with a delay.
    pub retry: bool,
    /// The message.
    pub message: Message,
}

/// A queue's state and history since the broker was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each name says what it counts; docs/guarantees.md defines the states"
)]
pub struct QueueStatistics {
    pub ready: u64,
    pub unacked: u64,
    pub scheduled: u64,
    pub ready_bytes: u64,
    pub consumers: u64,
    pub published: u64,
    pub delivered: u64,
    pub acknowledged: u64,
    pub redelivered: u64,
    pub requeued: u64,
    pub expired: u64,
    pub dead_lettered: u64,
    pub dropped: u64,
    pub rejected: u64,
    pub duplicates: u64,
    pub groups: u64,
    pub oldest_published_ns: Option<u64>,
}

impl Queue {
    /// Waiting messages in the order in which they would be delivered, without any effect on them. In a queue with
    /// groups messages that wait behind others of their group are included, in order of position.
    pub fn browse(&self, offset: usize, limit: usize) -> Vec<Browsed> {
        let mut seen = 0;
        let mut found = Vec::new();
        let journal = self.core.storage().map(|s| s.journal().clone());
        self.ready.browse(
            offset.saturating_add(limit),
            |level, position, note, stored| {
                seen += 1;
                if seen <= offset {
                    return;
                }
                if let Ok(message) = stored.message(journal.as_deref()) {
                    let note = Note(note);
                    found.push(Browsed {
                        position,
                        priority: level,
                        redelivered: note.redelivered(),
                        delivery_count: note.delivery_count(),
                        message,
                    });
                }
            },
        );
        found
    }

    /// Messages that are not deliverable yet, the soonest first.
    pub fn scheduled(&self) -> Vec<ScheduledMessage> {
        let journal = self.core.storage().map(|s| s.journal().clone());
        let schedule = self.schedule.lock();
        schedule
            .iter()
            .flat_map(|schedule| schedule.iter())
            .filter_map(|(due_ns, id, waiting)| {
                let message = waiting.stored().message(journal.as_deref()).ok()?;
                Some(ScheduledMessage {
                    id,
                    due_ns,
                    retry: waiting.is_retry(),
                    message,
                })
            })
            .collect()
    }

    /// State now, and history since the broker was opened.
    pub fn statistics(&self) -> QueueStatistics {
        let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let (input, output, done) = (
            &self.counters.input,
            &self.counters.output,
            &self.counters.done,
        );
        let scheduled = self.schedule.lock().as_ref().map_or(0, |s| s.len()) as u64;
        let mut oldest_published_ns = None;
        let journal = self.core.storage().map(|s| s.journal().clone());
        self.ready.browse(1, |_, _, _, stored| {
            oldest_published_ns = stored
                .message(journal.as_deref())
                .ok()
                .map(|m| m.published_ns());
        });
        QueueStatistics {
            ready: self.ready.len(),
            unacked: self.counters.unacked(),
            scheduled,
            ready_bytes: self.counters.ready_bytes(),
            consumers: self.consumers.count() as u64,
            published: count(&input.published),
            delivered: count(&output.delivered),
            acknowledged: count(&done.acknowledged),
            redelivered: count(&output.redelivered),
            requeued: count(&done.requeued),
            expired: count(&done.expired),
            dead_lettered: count(&done.dead_lettered),
            dropped: count(&done.dropped),
            rejected: count(&input.rejected),
            duplicates: count(&input.duplicates),
            groups: self.ready.groups(),
            oldest_published_ns,
        }
    }
}
