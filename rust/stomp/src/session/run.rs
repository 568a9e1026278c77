//! SENDs in a row: one call of the engine for many of them.
//!
//! A client that sends fast has dozens of whole frames in one read. Those to the destination of the last SEND that have
//! nothing for the session to look at are handed over together: routed once, one journal record. What the engine does not take of
//! them is worked off one by one, as is everything else, so that the outcome of each is what it would have been alone.

use std::ops::Range;

use smallvec::SmallVec;
use wherry_engine::{Delay, NewMessage, Ticket};
use wherry_session::{RUN_BYTES_MAX, RUN_MAX, Replies};

use super::connection::Phase;
use super::headers;
use super::send::{Sender, settle};
use super::state::Core;
use crate::codec::{Ahead, Frame, Name};

/// One SEND of a run.
struct Item {
    /// In the run's properties.
    properties: Range<usize>,
    /// In the bytes that were read.
    body: Range<usize>,
    /// In the run's receipts.
    receipt: Option<Range<usize>>,
    /// Where the frame ends in the bytes that were read.
    end: usize,
}

#[derive(Default)]
struct Run {
    /// Nothing is allocated for a message that comes alone.
    items: SmallVec<[Item; 1]>,
    properties: Vec<u8>,
    receipts: String,
}

/// Publishes what `bytes` begin with, as far as it is such a run. Returns how many bytes that took.
pub(super) fn publish(core: &mut Core, ahead: &mut Ahead, bytes: &[u8]) -> usize {
    let cn = &core.cn;
    let sender = &mut core.sender;
    if !bytes.starts_with(b"SEND\n") || cn.phase != Phase::Running {
        return 0;
    }
    if sender.alone != 0 {
        sender.alone -= 1;
        return 0;
    }
    // Who has to wait, or may not, is told for each message.
    let Ok(open) = cn.open() else {
        return 0;
    };
    if cn.front.alarms().any() {
        return 0;
    }
    let version = open.access.version();
    let room = (cn.limits().unconfirmed_per_channel_max as usize).saturating_sub(cn.output.held());
    let Some((place, run)) = gather(sender, ahead, bytes, version, RUN_MAX.min(room.max(1))) else {
        return 0;
    };

    let target = &sender.targets[place];
    let messages: SmallVec<[NewMessage<'_>; 1]> = run
        .items
        .iter()
        .map(|item| NewMessage {
            routing_key: &target.key,
            properties: &run.properties[item.properties.clone()],
            body: &bytes[item.body.clone()],
            persistent: false,
            mandatory: false,
            delay: Delay::None,
        })
        .collect();
    let outcome = match &*messages {
        [one] => target.exchange.publish(one),
        many => target.exchange.publish_batch(many),
    };
    let (taken, ticket) = match outcome {
        Ok(published) => (published.accepted, published.ticket),
        // Nothing was published: what is wrong is found again, and told, in its turn.
        Err(_) => (0, Ticket::NONE),
    };
    drop(messages);
    sender.alone = run.items.len() - taken;
    core.cn.traffic.messages_in += taken as u64;
    let mut end = 0;
    for item in &run.items[..taken] {
        let receipt = item.receipt.clone().map(|range| &run.receipts[range]);
        end = item.end;
        match settle(&core.cn, Ok(ticket), receipt.is_some()) {
            Ok(_) => core.done(ticket, receipt),
            Err(refusal) => {
                core.fail(&refusal, receipt);
                break;
            }
        }
    }
    end
}

/// The SENDs at the beginning of `bytes` that can go together, `most` at most, and the place of their target. None: the
/// first one cannot.
fn gather(
    sender: &mut Sender,
    ahead: &mut Ahead,
    bytes: &[u8],
    access_version: u64,
    most: usize,
) -> Option<(usize, Run)> {
    let mut run = Run::default();
    let mut place = None;
    let (mut at, mut body_bytes) = (0, 0);
    while run.items.len() < most
        && body_bytes < RUN_BYTES_MAX
        && let Some(seen) = ahead.next(&bytes[at..])
    {
        let frame = &seen.frame;
        let Some(destination) = frame.known(Name::Destination) else {
            break;
        };
        let raw = destination.raw_value();
        match place {
            None => place = Some(first(sender, raw, access_version)?),
            Some(place) if *sender.targets[place].raw == *raw => {}
            Some(_) => break,
        }
        let Some(properties) = run.accept(frame, sender) else {
            break;
        };
        let receipt = frame.known(Name::Receipt).map(|header| {
            let start = run.receipts.len();
            run.receipts.push_str(header.raw_value()); // as it came: nothing plain is escaped
            start..run.receipts.len()
        });
        body_bytes += seen.body.len();
        run.items.push(Item {
            properties,
            body: at + seen.body.start..at + seen.body.end,
            receipt,
            end: at + seen.bytes,
        });
        at += seen.bytes;
    }
    sender.shrink();
    (!run.items.is_empty()).then_some((place?, run))
}

/// The place of the target of a run's first SEND: one that is known, and no reply inbox.
fn first(sender: &mut Sender, raw: &str, access_version: u64) -> Option<usize> {
    let place = sender.find(raw, access_version)?;
    let target = &sender.targets[place];
    let is_inbox = target.exchange.name().is_empty() && Replies::is_reserved(&target.key);
    (!is_inbox).then_some(place)
}

impl Run {
    /// Where the properties of a SEND are, if it can be part of the run: nothing in it concerns the session.
    fn accept(&mut self, frame: &Frame<'_>, sender: &mut Sender) -> Option<Range<usize>> {
        let concerns = [Name::MessageId, Name::ReplyTo, Name::Transaction];
        if frame.command() != "SEND" || concerns.into_iter().any(|name| frame.has(name)) {
            return None;
        }
        let Sender {
            properties, table, ..
        } = sender;
        // What is wrong with it is told in its turn.
        let noted = headers::properties(frame, None, table, properties).ok()?;
        if !noted.is_empty() {
            return None;
        }
        let start = self.properties.len();
        self.properties.extend_from_slice(properties);
        Some(start..self.properties.len())
    }
}
