//! BEGIN, COMMIT and ABORT.
//!
//! Stronger than RabbitMQ's, which plays a transaction back frame by frame: the messages and acknowledgements of a COMMIT are
//! one journal record, all there after a crash or none. Nothing of a transaction happens before: its messages are in no
//! queue, and what it acknowledges stays outstanding and can be acknowledged elsewhere, which makes its COMMIT fail.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;
use wherry_engine::{Consumer, Error, Exchange, NewMessage, Outcome, Ticket, Transaction};

use super::refusal::{Refusal, shown};
use super::send;
use super::settle::UNKNOWN;
use super::state::Core;
use crate::codec::Frame;

/// Open transactions of a connection. RabbitMQ's.
pub const TRANSACTIONS_MAX: usize = 16;

/// Messages and acknowledgements of one transaction. RabbitMQ's.
pub const ACTIONS_MAX: usize = 1024;

/// Bytes of messages that the open transactions of a connection may hold: they wait in memory, whatever the broker's limits.
pub const TRANSACTION_BYTES_MAX: usize = 64 << 20;

struct Open {
    transaction: Transaction,
    actions: usize,
    publishes: usize,
    bytes: usize,
    /// Receipts that its frames asked for: they come when it is done.
    receipts: Vec<Box<str>>,
    /// Subscriptions that it settles something of.
    slots: SmallVec<[u32; 4]>,
    /// What it settles of deliveries under a lease: slot, number, whether all up to it.
    lent: Vec<(u32, u64, bool)>,
}

/// The open transactions of a connection.
#[derive(Default)]
pub(super) struct Transactions {
    open: HashMap<Box<str>, Open>,
    bytes: usize,
}

/// The name in a frame that is about a transaction.
pub(super) fn name_of(frame: &Frame<'_>) -> Result<Box<str>, Refusal> {
    match frame.header("transaction") {
        Some(name) => Ok((*name).into()),
        None => Err(Refusal::new(
            "Missing transaction",
            format!(
                "\"{}\" must include a 'transaction' header\n",
                frame.command()
            ),
        )),
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(
        "Bad transaction",
        format!("Invalid transaction identifier: \"{}\"\n", shown(name)),
    )
}

fn too_large(text: String) -> Refusal {
    Refusal::new("Transaction too large", text)
}

fn too_many_bytes() -> Refusal {
    too_large(format!(
        "The open transactions of a connection may hold {TRANSACTION_BYTES_MAX} bytes\n"
    ))
}

impl Transactions {
    fn get(&mut self, name: &str) -> Result<&mut Open, Refusal> {
        let open = self.open.get_mut(name).ok_or_else(|| unknown(name))?;
        if open.actions >= ACTIONS_MAX {
            return Err(too_large(format!(
                "A transaction may have {ACTIONS_MAX} messages and acknowledgements\n"
            )));
        }
        Ok(open)
    }

    pub(super) fn publish(
        &mut self,
        name: &str,
        exchange: &Arc<Exchange>,
        message: &NewMessage<'_>,
    ) -> Result<(), Refusal> {
        let bytes = message.body.len() + message.properties.len() + message.routing_key.len();
        let all = self.bytes + bytes;
        let open = self.get(name)?;
        if all > TRANSACTION_BYTES_MAX {
            return Err(too_many_bytes());
        }
        open.transaction.publish(exchange, message)?;
        open.actions += 1;
        open.publishes += 1;
        open.bytes += bytes;
        self.bytes = all;
        Ok(())
    }

    pub(super) fn settle(
        &mut self,
        name: &str,
        slot: u32,
        consumer: &Arc<Consumer>,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Refusal> {
        let open = self.get(name)?;
        open.transaction
            .settle(consumer, tag, multiple, outcome)
            .map_err(refusal)?;
        open.actions += 1;
        if !open.slots.contains(&slot) {
            open.slots.push(slot);
        }
        Ok(())
    }

    /// What it settles was under a lease: used up when it is committed.
    pub(super) fn note_lent(&mut self, name: &str, slot: u32, number: u64, multiple: bool) {
        if let Some(open) = self.open.get_mut(name) {
            open.lent.push((slot, number, multiple));
        }
    }

    /// A frame of the transaction asks for a receipt.
    pub(super) fn note_receipt(&mut self, name: &str, receipt: &str) -> Result<(), Refusal> {
        let all = self.bytes + receipt.len();
        let open = self.open.get_mut(name).ok_or_else(|| unknown(name))?;
        if all > TRANSACTION_BYTES_MAX {
            return Err(too_many_bytes());
        }
        open.receipts.push(receipt.into());
        open.bytes += receipt.len();
        self.bytes = all;
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Option<Open> {
        let open = self.open.remove(name)?;
        self.bytes -= open.bytes;
        Some(open)
    }

    pub(super) fn clear(&mut self) {
        *self = Transactions::default();
    }
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::UnknownDelivery { .. } => Refusal::new(
            UNKNOWN,
            "A message that the transaction settles is not outstanding any more",
        ),
        error => send::refusal(error),
    }
}

/// BEGIN.
pub(super) fn begin(core: &mut Core, frame: &Frame<'_>) -> Result<(), Refusal> {
    let name = name_of(frame)?;
    let transactions = &mut core.transactions.open;
    if transactions.contains_key(&name) {
        return Err(Refusal::new(
            "Bad transaction",
            format!("Transaction \"{}\" is open already\n", shown(&name)),
        ));
    }
    if transactions.len() >= TRANSACTIONS_MAX {
        return Err(Refusal::new(
            "Too many transactions",
            format!("A connection may have {TRANSACTIONS_MAX} open transactions\n"),
        ));
    }
    let open = Open {
        transaction: core.cn.open()?.host.transaction(),
        actions: 0,
        publishes: 0,
        bytes: 0,
        receipts: Vec::new(),
        slots: SmallVec::new(),
        lent: Vec::new(),
    };
    transactions.insert(name, open);
    Ok(())
}

/// ABORT.
pub(super) fn abort(core: &mut Core, frame: &Frame<'_>) -> Result<(), Refusal> {
    let name = name_of(frame)?;
    match core.transactions.remove(&name) {
        Some(_) => Ok(()),
        None => Err(unknown(&name)),
    }
}

/// COMMIT, now or when there is room. None: there is none now.
pub(super) fn try_commit(core: &mut Core, name: &str) -> Result<Option<Ticket>, Refusal> {
    let Some(open) = core.transactions.open.get_mut(name) else {
        return Err(unknown(name));
    };
    if open.publishes != 0 && core.cn.front.alarms().any() {
        return Ok(None);
    }
    let ticket = match open.transaction.commit() {
        Ok(ticket) => ticket,
        Err(error) if error.is_passing() => return Ok(None),
        Err(error) => return Err(refusal(error)),
    };
    if let Some(open) = core.transactions.remove(name) {
        for (slot, number, multiple) in open.lent {
            // Numbers are never given twice: one of a slot that is another's by now is not there.
            if let Some(subscription) = core.subscriptions.get_mut(slot) {
                subscription.take_back(number, multiple);
            }
        }
        for slot in open.slots {
            super::settle::settled(core, slot);
        }
        for receipt in open.receipts {
            core.done(ticket, Some(&receipt));
        }
    }
    Ok(Some(ticket))
}
