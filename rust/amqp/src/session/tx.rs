//! Transactions: publishes and settlements that are held until the commit, and then happen together.
//!
//! Stronger than RabbitMQ's: the publishes and acks of a commit are one journal record. Deliveries that are settled in a
//! transaction leave the channel's outstanding ones at once, so that settling one twice is found at once; rolling back
//! makes them outstanding again and returns nothing to a queue.

use std::collections::HashSet;
use std::sync::Arc;

use wherry_engine::{Error, Exchange, NewMessage, Outcome, Transaction, VirtualHost};
use wherry_session::{Failure, Handout, Handouts, Pause, Turn};

use super::channel::{Channel, DUPLICATE_SLOT};
use super::connection::Connection;
use super::failing::precondition_failed;
use super::publish::{give_back, refusal};
use super::stuck::{Stuck, StuckPublish};
use crate::codec::Method;

/// Bytes of messages that one transaction may hold: they wait in memory, whatever the broker's limits, and have to fit
/// one journal record.
pub const TRANSACTION_BYTES_MAX: usize = 64 << 20;

struct Settlement {
    /// Of `Tx::withdrawn`.
    range: std::ops::Range<usize>,
    outcome: Outcome,
}

pub(super) struct Tx {
    transaction: Transaction,
    bytes: usize,
    withdrawn: Vec<Handout>,
    /// Slots of `withdrawn`.
    slots: HashSet<u32>,
    settlements: Vec<Settlement>,
    publishes: usize,
    /// Mandatory messages by their number among the publishes: they may have to be given back.
    mandatory: Vec<(usize, StuckPublish)>,
}

impl Tx {
    fn new(host: &Arc<VirtualHost>) -> Tx {
        Tx {
            transaction: host.transaction(),
            bytes: 0,
            withdrawn: Vec::new(),
            slots: HashSet::new(),
            settlements: Vec::new(),
            publishes: 0,
            mandatory: Vec::new(),
        }
    }

    /// Whether deliveries of a slot are settled by the commit to come.
    pub(super) fn settles_of(&self, slot: u32) -> bool {
        self.slots.contains(&slot)
    }

    pub(super) fn publish(
        &mut self,
        channel: u16,
        exchange: &Arc<Exchange>,
        message: &NewMessage<'_>,
    ) -> Result<(), Failure> {
        self.bytes += message.body.len() + message.properties.len() + message.routing_key.len();
        if self.bytes > TRANSACTION_BYTES_MAX {
            return Err(precondition_failed(format!(
                "transaction of more than {TRANSACTION_BYTES_MAX} bytes"
            )));
        }
        self.transaction
            .publish(exchange, message)
            .map_err(|error| refusal(error, message))?;
        if message.mandatory {
            let copy = StuckPublish::new(channel, exchange, message);
            self.mandatory.push((self.publishes, copy));
        }
        self.publishes += 1;
        Ok(())
    }

    pub(super) fn settle(
        &mut self,
        handouts: &mut Handouts,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let start = self.withdrawn.len();
        handouts.withdraw(tag, multiple, &mut self.withdrawn)?;
        let slots = self.withdrawn[start..].iter();
        self.slots.extend(slots.map(|handout| handout.consumer));
        self.settlements.push(Settlement {
            range: start..self.withdrawn.len(),
            outcome,
        });
        Ok(())
    }
}

/// `tx.select`.
pub(super) fn select(ch: &mut Channel, cn: &mut Connection) -> Result<(), Failure> {
    if ch.confirms.is_selected() {
        return Err(precondition_failed("cannot switch from confirm to tx mode"));
    }
    if ch.tx.is_none() {
        ch.tx = Some(Box::new(Tx::new(&cn.host()?)));
    }
    cn.output.send(ch.number, &Method::TxSelectOk {});
    Ok(())
}

/// `tx.rollback`.
pub(super) fn rollback(ch: &mut Channel, cn: &mut Connection) -> Result<(), Failure> {
    let Some(tx) = &mut ch.tx else {
        return Err(precondition_failed("channel is not transactional"));
    };
    ch.handouts.put_back(&tx.withdrawn);
    **tx = Tx::new(&cn.host()?);
    cn.output.send(ch.number, &Method::TxRollbackOk {});
    Ok(())
}

/// `tx.commit`.
pub(super) fn commit(ch: &mut Channel, cn: &mut Connection) -> Result<(), Failure> {
    let Some(tx) = &mut ch.tx else {
        return Err(precondition_failed("channel is not transactional"));
    };
    // The settlements go into the engine's transaction now: until the commit they could have been rolled back.
    for settlement in std::mem::take(&mut tx.settlements) {
        for handout in &tx.withdrawn[settlement.range] {
            if handout.consumer == DUPLICATE_SLOT {
                continue;
            }
            let Some(holder) = ch.holders.get(handout.consumer) else {
                continue;
            };
            match tx
                .transaction
                .settle(&holder.consumer, handout.tag, false, settlement.outcome)
            {
                // Its queue is gone, or its lease is over: the first means nothing, the second must not be committed.
                Err(Error::UnknownDelivery { .. }) if holder.consumer.queue().is_deleted() => {}
                other => other?,
            }
        }
    }
    if try_commit(ch, cn)? {
        return Ok(());
    }
    cn.stuck = Some(Stuck::Commit(ch.number));
    cn.pause.set(Pause::ROOM);
    Ok(())
}

/// Commits if there is room, and answers. False: not now.
pub(super) fn try_commit(ch: &mut Channel, cn: &mut Connection) -> Result<bool, Failure> {
    let Some(tx) = &mut ch.tx else {
        return Ok(true);
    };
    if tx.publishes != 0 && cn.front.alarms().any() {
        return Ok(false);
    }
    let committed = match tx.transaction.commit_returning() {
        Ok(committed) => committed,
        Err(error) if error.is_passing() => return Ok(false),
        Err(Error::PublishRejected { queue }) => {
            return Err(precondition_failed(format!(
                "nothing of the transaction was committed: queue '{queue}' is at its length limit"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    for (number, publish) in std::mem::take(&mut tx.mandatory) {
        if committed.returned.contains(&number) {
            give_back(ch.number, cn, publish.exchange.name(), &publish.message())?;
        }
    }
    let withdrawn = std::mem::take(&mut tx.withdrawn);
    **tx = Tx::new(&cn.host()?);
    for handout in withdrawn {
        if ch
            .holder(handout.consumer)
            .is_some_and(|holder| holder.turn == Turn::Full)
        {
            ch.list(cn, handout.consumer);
        }
        ch.tidy_slot(handout.consumer);
    }
    ch.unpark(cn);
    let durable = cn.front.broker().durable();
    cn.output
        .send_when_durable(ch.number, &Method::TxCommitOk {}, committed.ticket, durable);
    Ok(true)
}
