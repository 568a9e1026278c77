//! MESSAGE: the hot path out.
//!
//! Nothing is pushed into a session. When its server has room in the socket it asks for so many bytes, and the session
//! visits its ready subscriptions in turn, a few messages each, and writes frames straight from the engine's messages. What
//! was taken and did not fit the budget waits here and goes first the next time; it is a few messages, held by reference.
//!
//! A subscription is visited while it finds something; then it asks its queue for a notice (`Turn::Armed`), or waits for the
//! client to settle something (`Full`).

use std::collections::VecDeque;

use wherry_engine::{Delivery, Outcome};
use wherry_session::Turn;

use super::connection::Connection;
use super::headers;
use super::refusal::Refusal;
use super::subscriptions::{AckMode, DUPLICATE, Subscription, Subscriptions};
use crate::codec::{Version, write_body, write_number};

/// Messages that one visit takes at most: enough that the visit's own cost does not show, few enough that subscriptions
/// take turns within one socket buffer.
const TAKEN_MAX: usize = 64;

/// A delivery that was taken and is not written.
struct Pending {
    slot: u32,
    delivery: Delivery,
}

/// Buffers of the writer, kept between calls.
#[derive(Default)]
pub(super) struct Writer {
    pending: VecDeque<Pending>,
    taken: Vec<Delivery>,
    /// Subscriptions that found nothing and were told to look again: in the next call, so that this one ends.
    again: Vec<u32>,
}

impl Writer {
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The client ended a subscription: what was taken for it and not written goes back to its queue, or where nothing can
    /// go back, to the client before it hears of the end.
    pub(super) fn withdraw(&mut self, slot: u32, one: &mut Subscription, cn: &mut Connection) {
        let mut rest = VecDeque::with_capacity(self.pending.len());
        let mut out = std::mem::take(cn.output.ready());
        for pending in self.pending.drain(..) {
            if pending.slot != slot {
                rest.push_back(pending);
            } else if one.mode == AckMode::Auto {
                write_one(one, cn, &pending.delivery, &mut out);
            } else {
                unwritten(one, &pending.delivery);
            }
        }
        self.pending = rest;
        *cn.output.ready() = out;
    }

    /// The connection ends: what was not written goes back as if it had not been taken.
    pub(super) fn clear(&mut self, subscriptions: &mut Subscriptions) {
        for pending in self.pending.drain(..) {
            if let Some(one) = subscriptions.get_mut(pending.slot) {
                unwritten(one, &pending.delivery);
            }
        }
        *self = Writer::default();
    }

    /// Writes deliveries until `out` has `end` bytes or nothing is ready. An error is a subscription that the server ended.
    pub(super) fn write(
        &mut self,
        subscriptions: &mut Subscriptions,
        cn: &mut Connection,
        out: &mut Vec<u8>,
        end: usize,
    ) -> Result<(), Refusal> {
        let before = cn.traffic.messages_out;
        while out.len() < end
            && let Some(Pending { slot, delivery }) = self.pending.pop_front()
        {
            if let Some(one) = subscriptions.get_mut(slot) {
                write_one(one, cn, &delivery, out);
            }
        }
        let mut outcome = Ok(());
        while out.len() < end
            && outcome.is_ok()
            && let Some(slot) = cn.ready.pop_front()
        {
            if let Some(one) = subscriptions.get_mut(slot) {
                outcome = self.visit(slot, one, cn, out, end);
            }
        }
        cn.ready.extend(self.again.drain(..));
        let written = cn.traffic.messages_out - before;
        if written != 0 {
            cn.front.counters().delivered.add(written);
        }
        outcome
    }

    fn visit(
        &mut self,
        slot: u32,
        one: &mut Subscription,
        cn: &mut Connection,
        out: &mut Vec<u8>,
        end: usize,
    ) -> Result<(), Refusal> {
        if one.leaving {
            return Ok(());
        }
        if one.consumer.is_cancelled() {
            return Err(cancelled(one));
        }
        let fits = (end - out.len()) / one.delivery_bytes + 1;
        let most = fits.min(TAKEN_MAX);
        let taken = one.consumer.take(most, &mut self.taken);
        if taken == most {
            cn.ready.push_back(slot);
        } else if rest(one) {
            if taken == 0 {
                self.again.push(slot);
            } else {
                cn.ready.push_back(slot);
            }
        }
        for delivery in self.taken.drain(..) {
            if out.len() < end {
                write_one(one, cn, &delivery, out);
            } else {
                self.pending.push_back(Pending { slot, delivery });
            }
        }
        Ok(())
    }
}

fn unwritten(one: &Subscription, delivery: &Delivery) {
    if one.mode != AckMode::Auto {
        // Unknown if its queue is gone.
        let _ = one.consumer.settle(delivery.tag, false, Outcome::Release);
    }
}

/// The queue of a subscription is gone.
fn cancelled(one: &Subscription) -> Refusal {
    Refusal {
        subscription: one.id().map(Into::into),
        ..Refusal::new(
            "Server cancelled subscription",
            "The server has canceled a subscription: its queue is gone.\n",
        )
    }
}

/// A subscription that found less than it wanted: what must happen before it is visited again. True: nothing.
fn rest(one: &mut Subscription) -> bool {
    let no_ack = one.mode == AckMode::Auto;
    one.turn = Turn::after_less(&one.consumer, no_ack, || one.is_lending());
    one.turn == Turn::Listed
}

#[inline]
fn write_one(one: &mut Subscription, cn: &mut Connection, delivery: &Delivery, out: &mut Vec<u8>) {
    one.last = one.last.max(delivery.tag);
    if one.mode != AckMode::Auto && one.is_lending() {
        one.lend(delivery.tag, cn.limits().unacked_per_channel_max);
    }
    let start = out.len();
    write_message(one, cn.version, delivery, delivery.redelivered, false, out);
    one.delivery_bytes = out.len() - start;
    cn.traffic.messages_out += 1;
    if cn.front.faults().take_duplicate() {
        write_message(one, cn.version, delivery, true, true, out);
    }
}

fn write_message(
    one: &mut Subscription,
    version: Version,
    delivery: &Delivery,
    redelivered: bool,
    duplicate: bool,
    out: &mut Vec<u8>,
) {
    let message = &delivery.message;
    let escapes = version.escapes();
    out.extend_from_slice((one.head).of(message.exchange(), message.routing_key(), escapes));
    let number = one.number(delivery.tag);
    let finish_name = |out: &mut Vec<u8>| {
        if duplicate {
            out.push(DUPLICATE as u8);
        }
        write_number(number, out);
    };
    finish_name(out);
    if version == Version::V1_2 && one.mode != AckMode::Auto {
        out.extend_from_slice(b"\nack:");
        out.extend_from_slice(one.head.name());
        finish_name(out);
    }
    out.extend_from_slice(if redelivered {
        b"\nredelivered:true\n"
    } else {
        b"\nredelivered:false\n"
    });
    let counts = one.consumer.queue().counts_attempts();
    if counts && delivery.delivery_count != 0 {
        out.extend_from_slice(b"x-delivery-count:");
        write_number(delivery.delivery_count.into(), out);
        out.push(b'\n');
    }
    headers::write(message.properties_bytes(), counts, escapes, out);
    write_body(message.body(), out);
}
