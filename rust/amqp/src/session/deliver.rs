//! Delivering: the hot path out.
//!
//! Nothing is pushed into a session. When its server has room in the socket it asks for so many bytes, and the session
//! visits its ready consumers in turn, a few messages each, and writes frames straight from the engine's messages. What
//! was taken and did not fit the budget waits here and goes first the next time; it is a few messages, held by reference.
//!
//! A consumer is visited while it finds something; then it asks its queue for a notice (`Turn::Armed`), or waits for the
//! client to settle something (`Full`), or for its channel to be allowed more (`Parked`).

use std::borrow::Cow;
use std::collections::VecDeque;

use wherry_engine::properties::Properties;
use wherry_engine::table::Value;
use wherry_engine::{Delivery, Message};
use wherry_session::Turn;

use super::channel::{Channel, DUPLICATE_SLOT, REPLY_SLOT, Role};
use super::connection::Connection;
use super::state::Channels;
use crate::codec::{Method, write_deliver};

/// Messages that one visit takes at most: enough that the visit's own cost does not show, few enough that consumers
/// take turns within one socket buffer.
const TAKEN_MAX: usize = 64;

/// Bytes of a delivery's frames beside names, properties and body.
const DELIVERY_BYTES: usize = 56;

/// A delivery that was taken and is not written.
pub(super) struct Pending {
    pub(super) channel: u16,
    pub(super) slot: u32,
    delivery: Delivery,
}

/// Buffers of the writer, kept between calls.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) pending: VecDeque<Pending>,
    taken: Vec<Delivery>,
    replies: Vec<Message>,
    /// Consumers that found nothing and were told to look again: in the next call, so that this one ends.
    again: Vec<(u16, u32)>,
}

pub(super) fn delivery_guess(properties: usize, body: usize) -> usize {
    DELIVERY_BYTES + properties + body
}

const DELIVERY_COUNT: &str = "x-delivery-count";

/// The properties of a delivery: those of the message, and for one that came back how often, where the queue counts.
/// There a count that its publisher sent along, who may have had it from elsewhere, is not taken for the queue's.
pub(super) fn properties_of(delivery: &Delivery, counts_attempts: bool) -> Cow<'_, [u8]> {
    let bytes = delivery.message.properties_bytes();
    let has_count = || {
        let headers = delivery.message.properties().headers();
        headers.is_some_and(|headers| headers.get(DELIVERY_COUNT).is_some())
    };
    if !counts_attempts || (delivery.delivery_count == 0 && !has_count()) {
        return Cow::Borrowed(bytes);
    }
    let mut owned = if bytes.is_empty() {
        Properties::default()
    } else {
        match delivery.message.properties().to_properties() {
            Ok(owned) => owned,
            Err(_) => return Cow::Borrowed(bytes), // too many headers to take apart: they go as they came
        }
    };
    owned
        .headers
        .get_or_insert_default()
        .insert(DELIVERY_COUNT, Value::I64(delivery.delivery_count.into()));
    owned.encode().map_or(Cow::Borrowed(bytes), Cow::Owned)
}

impl Writer {
    /// Takes out what waits for a slot (or a whole channel), and gives it back to its queue.
    pub(super) fn withdraw(&mut self, ch: &mut Channel, slot: Option<u32>) {
        let number = ch.number;
        self.pending.retain(|pending| {
            let mine = pending.channel == number && slot.is_none_or(|slot| slot == pending.slot);
            if mine {
                ch.unwritten(pending.slot, pending.delivery.tag);
            }
            !mine
        });
    }

    /// Writes deliveries until `out` has `end` bytes or nothing is ready.
    pub(super) fn write(
        &mut self,
        channels: &mut Channels,
        cn: &mut Connection,
        out: &mut Vec<u8>,
        end: usize,
    ) {
        let before = cn.traffic.messages_out;
        self.write_pending(channels, cn, out, end);
        // What waits behind a held answer goes before anything newer of its consumer, so nothing newer is taken.
        while self.pending.is_empty()
            && out.len() < end
            && let Some((number, slot)) = cn.ready.pop_front()
        {
            let Some(ch) = channels.get_mut(number) else {
                continue;
            };
            if slot == REPLY_SLOT {
                self.visit_replies(ch, cn, out, end);
            } else {
                self.visit(ch, cn, slot, out, end);
            }
        }
        cn.ready.extend(self.again.drain(..));
        let written = cn.traffic.messages_out - before;
        if written != 0 {
            cn.front.counters().delivered.add(written);
        }
    }

    fn write_pending(
        &mut self,
        channels: &mut Channels,
        cn: &mut Connection,
        out: &mut Vec<u8>,
        end: usize,
    ) {
        while out.len() < end
            && let Some(next) = self.pending.front()
        {
            if cn.output.is_holding(next.channel) {
                return;
            }
            let Some(Pending {
                channel,
                slot,
                delivery,
            }) = self.pending.pop_front()
            else {
                return;
            };
            if let Some(ch) = channels.get_mut(channel) {
                write_one(ch, cn, slot, &delivery, out);
            }
        }
    }

    fn visit(
        &mut self,
        ch: &mut Channel,
        cn: &mut Connection,
        slot: u32,
        out: &mut Vec<u8>,
        end: usize,
    ) {
        let held = cn.output.is_holding(ch.number);
        let room = ch.room(cn);
        let Some(holder) = ch.holder(slot) else {
            return;
        };
        if holder.role != Role::Consuming {
            return;
        }
        if holder.consumer.is_cancelled() {
            return cancelled(ch, cn, slot);
        }
        if held || (room == 0 && !holder.no_ack) {
            return ch.park(slot);
        }
        let fits = (end - out.len()) / holder.delivery_bytes + 1;
        let most = fits.min(TAKEN_MAX);
        let most = if holder.no_ack { most } else { most.min(room) };
        let taken = holder.consumer.take(most, &mut self.taken);
        if taken == most {
            cn.ready.push_back((ch.number, slot));
        } else if rest(ch, slot) {
            let list = (ch.number, slot);
            if taken == 0 {
                self.again.push(list);
            } else {
                cn.ready.push_back(list);
            }
        }
        for delivery in self.taken.drain(..) {
            if out.len() < end {
                write_one(ch, cn, slot, &delivery, out);
            } else {
                self.pending.push_back(Pending {
                    channel: ch.number,
                    slot,
                    delivery,
                });
            }
        }
    }

    fn visit_replies(
        &mut self,
        ch: &mut Channel,
        cn: &mut Connection,
        out: &mut Vec<u8>,
        end: usize,
    ) {
        let Some(reply) = &mut ch.reply else {
            return;
        };
        if cn.output.is_holding(ch.number) {
            return ch.park_replies();
        }
        reply.listed = false;
        while out.len() < end && reply.inbox.take(1, &mut self.replies) == 1 {
            let Some(message) = self.replies.pop() else {
                return;
            };
            let tag = ch.handouts.skip();
            let _ = write_deliver(
                ch.number,
                &reply.tag,
                tag,
                false,
                message.exchange(),
                message.routing_key(),
                message.properties_bytes(),
                message.body(),
                cn.frame_max,
                out,
            );
            cn.traffic.messages_out += 1;
        }
        if !reply.inbox.is_empty() {
            reply.listed = true;
            cn.ready.push_back((ch.number, REPLY_SLOT));
        }
    }
}

/// A consumer that found less than it wanted: what must happen before it is visited again. True: nothing.
fn rest(ch: &mut Channel, slot: u32) -> bool {
    let Some(holder) = ch.holder(slot) else {
        return false;
    };
    let is_lending = || holder.has_lease || holder.consumer.queue().has_lease();
    holder.turn = Turn::after_less(&holder.consumer, holder.no_ack, is_lending);
    holder.turn == Turn::Listed
}

/// A notice came for a slot.
pub(super) fn notified(ch: &mut Channel, cn: &mut Connection, slot: u32) {
    if slot == REPLY_SLOT {
        if let Some(reply) = &mut ch.reply
            && !reply.listed
        {
            reply.listed = true;
            cn.ready.push_back((ch.number, REPLY_SLOT));
        }
    } else {
        ch.list(cn, slot);
    }
}

/// The queue of a consumer is gone.
fn cancelled(ch: &mut Channel, cn: &mut Connection, slot: u32) {
    let Some(holder) = ch.holder(slot) else {
        return;
    };
    let tag = std::mem::take(&mut holder.tag);
    ch.consumers.remove(&tag);
    ch.retire(slot);
    if cn.client.hears_of_cancel {
        cn.output.send(
            ch.number,
            &Method::BasicCancel {
                consumer_tag: &tag,
                no_wait: true,
            },
        );
    }
}

#[inline]
fn write_one(
    ch: &mut Channel,
    cn: &mut Connection,
    slot: u32,
    delivery: &Delivery,
    out: &mut Vec<u8>,
) {
    let Some(holder) = ch.holders.get_mut(slot) else {
        return;
    };
    let tag = if holder.no_ack {
        ch.handouts.skip()
    } else {
        ch.handouts.push(slot, delivery.tag)
    };
    let message = &delivery.message;
    let properties = properties_of(delivery, holder.consumer.queue().counts_attempts());
    let body = message.body();
    holder.delivery_bytes = delivery_guess(properties.len(), body.len());
    let mut write = |tag, redelivered| {
        // Names fit: they came in short strings.
        let written = write_deliver(
            ch.number,
            &holder.tag,
            tag,
            redelivered,
            message.exchange(),
            message.routing_key(),
            &properties,
            body,
            cn.frame_max,
            out,
        );
        debug_assert!(written.is_ok(), "a name over 255 bytes");
    };
    write(tag, delivery.redelivered);
    cn.traffic.messages_out += 1;
    if cn.front.faults().take_duplicate() {
        let twin = if holder.no_ack {
            ch.handouts.skip()
        } else {
            ch.handouts.push(DUPLICATE_SLOT, 0)
        };
        write(twin, true);
    }
}
