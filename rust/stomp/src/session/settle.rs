//! ACK and NACK.
//!
//! The name of a delivery is in `id` (1.2) or `message-id` (before). In mode `client` it stands for everything up to it of
//! its subscription. A NACK goes back to its queue, or with `requeue:false` to the dead letters; both count as a failed
//! attempt where the queue counts.
//!
//! A delivery whose lease has ended is settled with no effect, once: its message went back to the queue, and the client could
//! not know. In a transaction it is an error, since what was to go together with it must not happen without it.

use wherry_engine::{Error, Outcome, Ticket};
use wherry_session::Turn;

use super::endpoint::flag_of;
use super::refusal::{Refusal, shown};
use super::state::{Core, Then};
use super::subscriptions::{AckMode, Named, Unfound};
use crate::codec::{Frame, Version};

/// ACK, or NACK.
pub(super) fn settle(core: &mut Core, frame: &Frame<'_>, nack: bool) -> Result<Then, Refusal> {
    let command = if nack { "NACK" } else { "ACK" };
    let header = match core.cn.version {
        Version::V1_2 => "id",
        _ => "message-id",
    };
    let Some(name) = frame.header(header) else {
        return Err(Refusal::missing(command, header));
    };
    let Some(named) = Named::parse(&name) else {
        return Err(Refusal::new(
            "Invalid header",
            format!("\"{command}\" must include a valid \"{header}\" header\n"),
        ));
    };
    let outcome = if nack {
        Outcome::Nack {
            requeue: flag_of(frame, "requeue")?.unwrap_or(true),
        }
    } else {
        Outcome::Ack
    };
    if named.session != core.cn.session {
        // A name of an earlier connection: whoever had it has lost it.
        return Err(Unfound::Subscription.refusal(&name));
    }
    let Some(number) = named.number else {
        return Ok(Then::Receipt(Ticket::NONE));
    };
    let (slot, tag) = core
        .subscriptions
        .delivery(named.key, number)
        .map_err(|unfound| unfound.refusal(&name))?;
    let Some(subscription) = core.subscriptions.get_mut(slot) else {
        return Err(Unfound::Subscription.refusal(&name));
    };
    let multiple = subscription.mode == AckMode::Client;
    let consumer = subscription.consumer.clone();
    if let Some(transaction) = frame.header("transaction") {
        core.transactions
            .settle(&transaction, slot, &consumer, tag, multiple, outcome)
            .map_err(|refusal| named_refusal(refusal, &name))?;
        if subscription.has_lent() {
            core.transactions
                .note_lent(&transaction, slot, number, multiple);
        }
        return Ok(Then::AtCommit(Ticket::NONE));
    }
    let was_lent = subscription.has_lent() && subscription.take_back(number, multiple);
    let before = consumer.unacked();
    let ticket = match consumer.settle(tag, multiple, outcome) {
        Ok(ticket) => ticket,
        Err(Error::UnknownDelivery { .. }) if was_lent => Ticket::NONE,
        Err(Error::UnknownDelivery { .. }) => return Err(Unfound::Message.refusal(&name)),
        Err(error) => return Err(error.into()),
    };
    if !nack {
        let settled = before.saturating_sub(consumer.unacked());
        core.cn.front.counters().acknowledged.add(settled as u64);
    }
    settled(core, slot);
    Ok(Then::Receipt(ticket))
}

fn named_refusal(refusal: Refusal, name: &str) -> Refusal {
    if refusal.message == UNKNOWN {
        return Refusal::new(
            UNKNOWN,
            format!("Message with id \"{}\" is not outstanding", shown(name)),
        );
    }
    refusal
}

/// The header of the refusal of a delivery that is not outstanding.
pub(super) const UNKNOWN: &str = "Message not found";

/// Something of a subscription was settled: it may have room again, or be done.
pub(super) fn settled(core: &mut Core, slot: u32) {
    if let Some(subscription) = core.subscriptions.get_mut(slot) {
        if subscription.leaving {
            core.subscriptions.tidy(slot);
        } else if subscription.turn == Turn::Full {
            core.list(slot);
        }
    }
}
