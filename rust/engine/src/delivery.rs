//! Deliveries: what a consumer gets of a message, and what it can say of it.

use crate::message::Message;

/// What a consumer says of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the message is gone.
    Ack,
    /// Not done. With `requeue` the attempt counts as failed and the queue's retry policy or delivery limit decides;
    /// without, the message is dead-lettered.
    Nack {
        /// Back to its place rather than dead.
        requeue: bool,
    },
    /// As `Nack`.
    Reject {
        /// Back to its place rather than dead.
        requeue: bool,
    },
    /// The handler failed: as `Nack` with `requeue`.
    Failed,
    /// Nothing is said of the message: back to its place, no attempt counted, no retry delay. What leaving a consumer
    /// does with all it holds.
    Release,
    /// The consumer's connection or channel went away: back to its place, without delay. Counts towards the queue's
    /// delivery limit if it has one, never towards a retry policy's attempts.
    Lost,
}

impl Outcome {
    pub(crate) fn kind(self) -> Verdict {
        match self {
            Outcome::Ack => Verdict::Settle,
            Outcome::Nack { requeue: true }
            | Outcome::Reject { requeue: true }
            | Outcome::Failed => Verdict::Fail,
            Outcome::Release => Verdict::Release,
            Outcome::Lost => Verdict::Lose,
            Outcome::Nack { requeue: false } | Outcome::Reject { requeue: false } => {
                Verdict::Reject
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Settle,
    Fail,
    Reject,
    Release,
    Lose,
}

/// One hand-out of a message to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Names it to its consumer; counts from 1.
    pub tag: u64,
    /// The message.
    pub message: Message,
    /// It may have been handed out before.
    pub redelivered: bool,
    /// Earlier attempts that ended without an ack.
    pub delivery_count: u32,
    /// Its position in the queue (in its priority level).
    pub position: u64,
    /// Its level in a priority queue, else 0.
    pub priority: u8,
}
