//! Settling deliveries: ack, nack, reject, recover.
//!
//! Tags of a channel become tags of its consumers (`Handouts`), the outcome is the engine's to carry out. A delivery that
//! is gone meanwhile because its queue is gone is settled with no effect, as in RabbitMQ. So is one whose lease ran out:
//! its message went back to the queue, and the client could not know. Either way the tag is used up, and unknown if it
//! comes again.
//!
//! With `requeue` both nack and reject count as a failed attempt where the queue counts: a message that nobody can handle
//! must not go round for ever. (RabbitMQ counts so up to 4.2; 4.3 no longer counts nacks.)

use smallvec::SmallVec;
use wherry_engine::{Error, Outcome};
use wherry_session::{Failure, Settled, Turn};

use super::channel::{Channel, DUPLICATE_SLOT};
use super::connection::Connection;

/// Consumers that one settlement concerns: nearly always one.
pub(super) type SettledList = SmallVec<[Settled; 4]>;

/// `basic.ack`, `basic.nack`, `basic.reject`.
#[inline]
pub(super) fn settle(
    ch: &mut Channel,
    cn: &mut Connection,
    tag: u64,
    multiple: bool,
    outcome: Outcome,
) -> Result<(), Failure> {
    if let Some(tx) = &mut ch.tx {
        tx.settle(&mut ch.handouts, tag, multiple, outcome)?;
    } else {
        let mut settled = SettledList::new();
        let count = ch.handouts.settle(tag, multiple, &mut settled)?;
        if outcome == Outcome::Ack {
            cn.front.counters().acknowledged.add(count.into());
        }
        carry_out(ch, cn, &settled, outcome)?;
    }
    ch.apply_prefetch(cn);
    Ok(())
}

/// Tells the consumers, and lets those go on that have room now.
pub(super) fn carry_out(
    ch: &mut Channel,
    cn: &mut Connection,
    settled: &[Settled],
    outcome: Outcome,
) -> Result<(), Failure> {
    for one in settled {
        if one.consumer == DUPLICATE_SLOT {
            continue;
        }
        let Some(holder) = ch.holder(one.consumer) else {
            continue;
        };
        match holder.consumer.settle(one.tag, one.multiple, outcome) {
            Ok(_) => {}
            // The queue is gone, or the lease was over.
            Err(Error::UnknownDelivery { .. }) => {}
            // It is settled, and may come back after a restart: what an acknowledgement promises. Publishers are the
            // ones to be told of a journal that failed.
            Err(Error::JournalFailed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if holder.turn == Turn::Full {
            ch.list(cn, one.consumer);
        }
        ch.tidy_slot(one.consumer);
    }
    ch.unpark(cn);
    Ok(())
}

/// `basic.recover`: everything goes back to its place. As in RabbitMQ a delivery limit counts that, or a message that
/// nobody can handle would go round for ever; a retry policy does not.
pub(super) fn recover(ch: &mut Channel, cn: &mut Connection) -> Result<(), Failure> {
    let mut settled = SettledList::new();
    if ch.tx.is_some() {
        // One by one: up to the last of a consumer would be those as well that the transaction has settled.
        let mut handouts = Vec::new();
        ch.handouts.withdraw(0, true, &mut handouts)?;
        settled.extend(handouts.iter().map(|handout| Settled {
            consumer: handout.consumer,
            tag: handout.tag,
            multiple: false,
        }));
    } else {
        ch.handouts.drain(&mut settled);
    }
    carry_out(ch, cn, &settled, Outcome::Lost)
}
