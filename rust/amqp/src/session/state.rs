//! The inside of a session: from bytes to frames to methods, and from what is ready to bytes.
//!
//! Everything here runs under the session's mutex and never waits. Frames are worked off in order until something
//! pauses the connection (`Pause`); what stands behind is kept, bounded, and worked off when the pause is over.

use std::sync::Arc;

use wherry_engine::Broker;
use wherry_session::{Failure, Verdict};

use super::channel::{Channel, End};
use super::connection::{Connection, Pause, Phase};
use super::content::Expect;
use super::deliver::{self, Writer};
use super::failing::{
    channel_error, command_invalid, frame_error, not_allowed, not_implemented, reply_code,
    reply_text, resource_error, unexpected_frame,
};
use super::input::Input;
use super::output::short;
use super::status::Status;
use super::stuck::Stuck;
use super::time::Times;
use super::{dispatch, publish, tx};
use crate::codec::{
    Frame, FrameKind, Method, MethodError, PROTOCOL_HEADER, ProtocolHeader, ReplyCode, method_ids,
    parse_frame, parse_protocol_header,
};

/// Channels by number.
#[derive(Default)]
pub(super) struct Channels {
    slots: Vec<Option<Box<Channel>>>,
    pub(super) open: usize,
}

impl Channels {
    #[inline]
    pub(super) fn get_mut(&mut self, number: u16) -> Option<&mut Channel> {
        self.slots.get_mut(usize::from(number))?.as_deref_mut()
    }

    pub(super) fn get(&self, number: u16) -> Option<&Channel> {
        self.slots.get(usize::from(number))?.as_deref()
    }

    fn insert(&mut self, channel: Channel) {
        let number = usize::from(channel.number);
        if self.slots.len() <= number {
            self.slots.resize_with(number + 1, || None);
        }
        self.slots[number] = Some(Box::new(channel));
        self.open += 1;
    }

    fn remove(&mut self, number: u16) -> Option<Box<Channel>> {
        let channel = self.slots.get_mut(usize::from(number))?.take()?;
        self.open -= 1;
        Some(channel)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.slots.iter().flatten().map(|channel| &**channel)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.slots
            .iter_mut()
            .flatten()
            .map(|channel| &mut **channel)
    }
}

pub(super) struct State {
    pub(super) cn: Connection,
    pub(super) channels: Channels,
    input: Input,
    writer: Writer,
    pub(super) times: Times,
    /// Messages that the front end's counters know of.
    counted_in: u64,
}

/// What a method on a channel asks of the connection.
pub(super) enum Then {
    /// Nothing; so many bytes behind the frame were used.
    Used(usize),
    /// The channel was closed by the client.
    CloseChannel,
    /// A consumer was cancelled by the client.
    Cancel { slot: Option<u32>, no_wait: bool },
}

impl State {
    pub(super) fn new(cn: Connection) -> State {
        State {
            cn,
            channels: Channels::default(),
            input: Input::default(),
            writer: Writer::default(),
            times: Times::default(),
            counted_in: 0,
        }
    }

    fn broker(&self) -> &Arc<Broker> {
        self.cn.front.broker()
    }

    // ---- bytes in ----

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        if self.cn.phase == Phase::Closed {
            return;
        }
        self.cn.heard = true;
        self.cn.traffic.bytes_in += bytes.len() as u64;
        self.cn
            .front
            .counters()
            .bytes_received
            .add(bytes.len() as u64);
        let mut rest = bytes;
        // What is kept while nothing pauses is the beginning of a frame: only what it lacks is copied to it.
        while !self.input.is_empty() && !self.is_paused() && !rest.is_empty() {
            let (lacking, behind) = rest.split_at(self.input.missing().min(rest.len()));
            self.input.push(lacking);
            rest = behind;
            self.work_off();
        }
        if self.input.is_empty() && !self.is_paused() {
            let used = self.process(rest);
            rest = &rest[used..];
        }
        if self.cn.phase == Phase::Closed {
            self.input.clear();
        } else if !rest.is_empty() {
            self.keep(rest);
        }
        self.count();
    }

    fn keep(&mut self, rest: &[u8]) {
        let bytes = self.input.len() + rest.len();
        // A frame under way is bounded by the negotiated size: this is about frames behind a pause.
        let most = (self.cn.limits().input_bytes_max).max(self.cn.frame_max.into());
        if self.is_paused() && bytes as u64 > most {
            self.input.clear();
            self.fail(
                resource_error(format!(
                    "{bytes} bytes were sent while the connection was paused; the limit is {most}"
                )),
                (0, 0),
            );
            return;
        }
        self.input.push(rest);
    }

    fn count(&mut self) {
        let new = self.cn.traffic.messages_in - self.counted_in;
        if new != 0 {
            self.cn.front.counters().published.add(new);
            self.counted_in = self.cn.traffic.messages_in;
        }
    }

    fn is_paused(&self) -> bool {
        self.cn.pause.any() || self.cn.phase == Phase::Closed
    }

    /// Works off what was kept, as far as it goes.
    fn work_off(&mut self) {
        if self.input.is_empty() || self.is_paused() {
            return;
        }
        let (bytes, start) = self.input.take();
        let used = self.process(&bytes[start..]);
        if self.cn.phase == Phase::Closed {
            return;
        }
        self.input.put_back(bytes, start + used);
    }

    /// Works off whole frames; returns the bytes that they took.
    fn process(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        if self.cn.phase == Phase::Header {
            match parse_protocol_header(bytes) {
                None => return 0,
                Some(ProtocolHeader::Other) => {
                    self.cn.refuse_protocol();
                    return bytes.len();
                }
                Some(ProtocolHeader::Amqp091) => {
                    self.cn.start();
                    used = PROTOCOL_HEADER.len();
                }
            }
        }
        let output_max = self.cn.limits().output_bytes_max;
        while !self.is_paused() {
            match parse_frame(&bytes[used..], self.cn.frame_max) {
                Ok(None) => break,
                Ok(Some((frame, frame_bytes))) => {
                    used += frame_bytes;
                    used += self.frame(&frame, &bytes[used..]);
                    if self.cn.output.bytes() as u64 > output_max {
                        self.cn.pause.set(Pause::OUTPUT);
                    }
                }
                Err(error) => {
                    self.fail(frame_error(error.to_string()), (0, 0));
                    // Where the next frame begins nobody knows.
                    self.cn.phase = Phase::Closed;
                    return bytes.len();
                }
            }
        }
        used
    }

    /// One frame; `following` is what stands behind it. Returns how much of that was used too.
    #[inline]
    fn frame(&mut self, frame: &Frame<'_>, following: &[u8]) -> usize {
        if frame.channel == 0 {
            self.connection_frame(frame);
            return 0;
        }
        if self.cn.phase != Phase::Running {
            if self.cn.phase != Phase::Closing {
                self.fail(
                    channel_error("frames of channels must come after connection.open-ok"),
                    method_ids(frame.payload).unwrap_or_default(),
                );
            }
            return 0;
        }
        let Some(ch) = self.channels.get_mut(frame.channel) else {
            self.open_channel(frame);
            return 0;
        };
        if ch.closing {
            self.closing_channel_frame(frame);
            return 0;
        }
        if ch.expect != Expect::Method {
            let outcome = publish::content(ch, &mut self.cn, frame);
            if let Err(failure) = outcome {
                self.fail_channel(frame.channel, failure, (60, 40));
            }
            return 0;
        }
        if frame.kind != FrameKind::Method {
            self.fail(not_a_method(frame), (0, 0));
            return 0;
        }
        let outcome = Method::decode(frame.payload)
            .map_err(undecodable)
            .and_then(|method| dispatch::method(ch, &mut self.cn, &method, following));
        match outcome {
            Ok(Then::Used(used)) => return used,
            Ok(Then::CloseChannel) => self.channel_closed(frame.channel),
            Ok(Then::Cancel { slot, no_wait }) => {
                self.consumer_cancelled(frame, slot, no_wait);
            }
            Err(failure) => {
                let ids = method_ids(frame.payload).unwrap_or_default();
                self.fail_channel(frame.channel, failure, ids);
            }
        }
        0
    }

    fn connection_frame(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            FrameKind::Heartbeat if frame.payload.is_empty() => return,
            FrameKind::Method => {}
            _ => {
                let failure = if frame.kind == FrameKind::Heartbeat {
                    frame_error("heartbeat with a payload")
                } else {
                    unexpected_frame("content on channel 0")
                };
                return self.fail(failure, (0, 0));
            }
        }
        let ids = method_ids(frame.payload).unwrap_or_default();
        let method = match Method::decode(frame.payload) {
            Ok(method) => method,
            Err(error) => return self.fail(undecodable(error), ids),
        };
        match (self.cn.phase, &method) {
            (Phase::Closing, Method::ConnectionCloseOk {}) => self.cn.phase = Phase::Closed,
            (Phase::Closing | Phase::Running, Method::ConnectionClose { .. }) => {
                self.end(End::Clean);
                self.cn.output.send(0, &Method::ConnectionCloseOk {});
                self.cn.phase = Phase::Closed;
            }
            (Phase::Closing, _) => {}
            (phase, Method::ConnectionClose { .. }) if phase.is_handshake() => {
                self.cn.output.send(0, &Method::ConnectionCloseOk {});
                self.cn.phase = Phase::Closed;
            }
            _ => {
                if let Err(failure) = self.cn.method(&method) {
                    self.fail(failure, ids);
                }
            }
        }
    }

    // ---- channels ----

    /// A frame on a channel that is not open: only `channel.open` may be.
    fn open_channel(&mut self, frame: &Frame<'_>) {
        if frame.kind != FrameKind::Method {
            return self.fail(not_a_method(frame), (0, 0));
        }
        let ids = method_ids(frame.payload).unwrap_or_default();
        match Method::decode(frame.payload) {
            Err(error) => return self.fail(undecodable(error), ids),
            Ok(Method::ChannelOpen {}) => {}
            // An answer to a close that crossed the client's own, or a close that crossed an error.
            Ok(Method::ChannelCloseOk {}) => return,
            Ok(_) => return self.fail(channel_error("expected 'channel.open'"), ids),
        }
        let most = usize::from(self.cn.channel_max)
            .min(self.cn.limits().channels_per_connection_max as usize);
        if self.channels.open >= most || frame.channel > self.cn.channel_max {
            return self.fail(
                not_allowed(format!(
                    "number of channels opened ({}) has reached the negotiated channel_max ({most})",
                    self.channels.open
                )),
                (0, 0),
            );
        }
        let admitted = self
            .cn
            .open()
            .and_then(|open| open.admission.open_channel());
        match admitted {
            Ok(admission) => {
                self.channels.insert(Channel::new(frame.channel, admission));
                self.cn.front.counters().channels_opened.add(1);
                self.cn
                    .output
                    .send(frame.channel, &Method::ChannelOpenOk {});
            }
            Err(failure) => self.fail(failure, ids),
        }
    }

    /// A frame on a channel that we closed: everything is ignored until the client has heard of it.
    fn closing_channel_frame(&mut self, frame: &Frame<'_>) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match method_ids(frame.payload) {
            Some((20, 41)) => {
                self.channels.remove(frame.channel);
            }
            Some((20, 40)) => {
                self.cn
                    .output
                    .send(frame.channel, &Method::ChannelCloseOk {});
            }
            _ => {}
        }
    }

    fn channel_closed(&mut self, number: u16) {
        self.end_channel(number, End::Clean);
        self.channels.remove(number);
        self.cn.output.send(number, &Method::ChannelCloseOk {});
    }

    fn consumer_cancelled(&mut self, frame: &Frame<'_>, slot: Option<u32>, no_wait: bool) {
        let Some(ch) = self.channels.get_mut(frame.channel) else {
            return;
        };
        if let Some(slot) = slot {
            self.writer.withdraw(ch, Some(slot));
            ch.retire(slot);
        }
        if !no_wait
            && let Ok(Method::BasicCancel { consumer_tag, .. }) = Method::decode(frame.payload)
        {
            self.cn
                .output
                .send(frame.channel, &Method::BasicCancelOk { consumer_tag });
        }
    }

    fn end_channel(&mut self, number: u16, end: End) {
        if let Some(ch) = self.channels.get_mut(number) {
            let was_open = !ch.closing;
            self.writer.withdraw(ch, None);
            ch.end(end);
            if was_open {
                self.cn.front.counters().channels_closed.add(1);
            }
        }
    }

    /// A refusal on a channel: the channel is closed, or the connection, as its kind says.
    fn fail_channel(&mut self, number: u16, failure: Failure, ids: (u16, u16)) {
        if failure.kind.ends_connection() {
            return self.fail(failure, ids);
        }
        self.end_channel(number, End::Lost);
        if let Some(ch) = self.channels.get_mut(number) {
            ch.closing = true;
            ch.expect = Expect::Method;
        }
        self.cn.output.send(
            number,
            &Method::ChannelClose {
                reply_code: reply_code(failure.kind).code(),
                reply_text: &reply_text(&failure),
                class_id: ids.0,
                method_id: ids.1,
            },
        );
    }

    // ---- the connection's end ----

    /// Closes the connection for an error.
    fn fail(&mut self, failure: Failure, ids: (u16, u16)) {
        self.close(reply_code(failure.kind), &reply_text(&failure), ids);
    }

    fn close(&mut self, code: ReplyCode, text: &str, (class_id, method_id): (u16, u16)) {
        if self.cn.phase.is_over() {
            return;
        }
        let known = matches!(self.cn.phase, Phase::Opening | Phase::Running);
        let spoken_to = self.cn.phase != Phase::Header;
        self.end(End::Lost);
        if spoken_to {
            self.cn.output.send(
                0,
                &Method::ConnectionClose {
                    reply_code: code.code(),
                    reply_text: &short(text),
                    class_id,
                    method_id,
                },
            );
        }
        // Who was not let in gets the reason and no time.
        self.cn.phase = if known { Phase::Closing } else { Phase::Closed };
    }

    pub(super) fn shut_down(&mut self, code: ReplyCode, text: &str) {
        self.close(code, &format!("{} - {text}", code.name()), (0, 0));
    }

    /// Everything that the connection has is given back. Idempotent.
    pub(super) fn end(&mut self, end: End) {
        for number in 0..self.channels.slots.len() {
            self.end_channel(number as u16, end);
        }
        self.channels = Channels::default();
        self.cn.output.drop_held();
        self.cn.stuck = None;
        self.cn.credentials = None;
        self.cn.pause = Pause::default();
        self.cn.ready.clear();
        self.cn.confirming.clear();
        self.input.clear();
        if let Some(open) = self.cn.open.take() {
            for name in std::mem::take(&mut self.cn.exclusive) {
                let mine = open
                    .host
                    .queue(&name)
                    .is_ok_and(|queue| queue.options().exclusive == Some(self.cn.owner));
                if mine {
                    // Not in the journal, which therefore cannot refuse.
                    let _ = open.host.delete_queue(&name, false, false);
                }
            }
            self.cn.front.counters().connections_closed.add(1);
        }
        self.count();
    }

    pub(super) fn lost(&mut self) {
        self.end(End::Lost);
        self.cn.phase = Phase::Closed;
    }

    // ---- the server's answers ----

    pub(super) fn authenticated(&mut self, user: &str) {
        self.cn.authenticated(user);
        self.work_off();
    }

    pub(super) fn refused(&mut self) {
        self.cn.front.counters().logins_refused.add(1);
        match self.cn.refused() {
            Ok(()) => self.work_off(),
            Err(failure) => self.fail(failure, (10, 70)),
        }
    }

    /// Tries again what there was no room for, and goes on.
    pub(super) fn resume(&mut self) {
        if let Some(stuck) = self.cn.stuck.take() {
            self.retry(stuck);
        }
        if self.cn.stuck.is_none() {
            self.cn.pause.clear(Pause::ROOM);
            if self.cn.told_blocked && !self.cn.front.alarms().any() {
                self.cn.told_blocked = false;
                if self.cn.client.hears_of_blocked && self.cn.phase == Phase::Running {
                    self.cn.output.send(0, &Method::ConnectionUnblocked {});
                }
            }
        }
        self.work_off();
        self.count();
    }

    fn retry(&mut self, stuck: Stuck) {
        let number = match &stuck {
            Stuck::Publish(publish) => publish.channel,
            Stuck::Commit(channel) => *channel,
        };
        let Some(ch) = self.channels.get_mut(number) else {
            return;
        };
        let (outcome, ids) = match &stuck {
            Stuck::Publish(publish) => (publish::retry(ch, &mut self.cn, publish), (60, 40)),
            Stuck::Commit(_) => (tx::try_commit(ch, &mut self.cn), (90, 20)),
        };
        match outcome {
            Ok(true) => {}
            Ok(false) => self.cn.stuck = Some(stuck),
            Err(failure) => self.fail_channel(number, failure, ids),
        }
    }

    /// Tells the client why nothing is read from it, once.
    fn tell_blocked(&mut self) {
        let alarms = self.cn.front.alarms();
        if self.cn.stuck.is_none() || self.cn.told_blocked || !alarms.any() {
            return;
        }
        self.cn.told_blocked = true;
        if self.cn.client.hears_of_blocked {
            let reason = match (alarms.memory, alarms.disk) {
                (true, true) => "low on memory & disk",
                (true, false) => "low on memory",
                _ => "low on disk",
            };
            self.cn
                .output
                .send(0, &Method::ConnectionBlocked { reason });
        }
    }

    // ---- bytes out ----

    pub(super) fn write_into(&mut self, out: &mut Vec<u8>, budget: usize) {
        let start = out.len();
        let end = start.saturating_add(budget);
        self.look_at_disk();
        self.look_at_notices();
        self.tell_blocked();
        self.cn.output.move_into(out);
        self.write_confirms(out);
        self.look_at_failure(out);
        if self.cn.phase == Phase::Running {
            self.writer
                .write(&mut self.channels, &mut self.cn, out, end);
            // Visits may have answered, too: a queue that was deleted.
            self.cn.output.move_into(out);
        }
        if self.cn.pause.has(Pause::OUTPUT)
            && (self.cn.output.bytes() as u64) <= self.cn.limits().output_bytes_max
        {
            self.cn.pause.clear(Pause::OUTPUT);
        }
        if self.cn.pause.has(Pause::UNCONFIRMED) && self.has_room_for_confirms() {
            self.cn.pause.clear(Pause::UNCONFIRMED);
        }
        self.work_off();
        self.count();
        let written = out.len() - start;
        if written != 0 {
            self.cn.spoke = true;
            self.cn.traffic.bytes_out += written as u64;
            self.cn.front.counters().bytes_sent.add(written as u64);
        }
    }

    fn has_room_for_confirms(&self) -> bool {
        let most = self.cn.limits().unconfirmed_per_channel_max as usize;
        self.channels
            .iter()
            .all(|ch| ch.confirms.unconfirmed() < most)
    }

    fn waits_for_disk(&self) -> bool {
        self.cn.output.has_held()
            || self
                .channels_confirming()
                .any(|ch| ch.confirms.waits_for_disk())
    }

    fn channels_confirming(&self) -> impl Iterator<Item = &Channel> {
        self.cn
            .confirming
            .iter()
            .filter_map(|&number| self.channels.get(number))
    }

    /// Lets go what is durable by now. If the journal failed, nothing ever will be.
    fn look_at_disk(&mut self) {
        if !self.cn.output.has_held() && self.cn.confirming.is_empty() {
            return;
        }
        let durable = self.broker().durable();
        if durable != self.cn.durable {
            self.cn.durable = durable;
            self.cn.confirms_due = true;
            let mut freed: smallvec::SmallVec<[u16; 4]> = smallvec::SmallVec::new();
            self.cn
                .output
                .release(durable, |channel| freed.push(channel));
            for number in freed {
                if let Some(ch) = self.channels.get_mut(number) {
                    ch.unpark(&mut self.cn);
                }
            }
        }
    }

    /// A journal that failed makes nothing durable any more. What it had made durable is confirmed all the same; the rest
    /// is refused: confirms become nacks, held answers the connection's end.
    fn look_at_failure(&mut self, out: &mut Vec<u8>) {
        let waits = self.waits_for_disk();
        let Some(error) = waits.then(|| self.broker().failed()).flatten() else {
            return;
        };
        self.look_at_disk(); // for the last time: what it says now stays
        self.write_confirms(out);
        if self.cn.output.has_held() {
            self.fail(Failure::from(error), (0, 0));
        }
        for &number in &self.cn.confirming {
            if let Some(ch) = self.channels.get_mut(number) {
                ch.confirms.fail_waiting();
                self.cn.confirms_due = true;
            }
        }
        self.write_confirms(out);
        self.cn.output.move_into(out);
    }

    fn look_at_notices(&mut self) {
        if !self.cn.wakeups.any() {
            return;
        }
        self.cn.wakeups.look();
        while let Some((number, slot)) = self.cn.wakeups.pop() {
            if let Some(ch) = self.channels.get_mut(number) {
                deliver::notified(ch, &mut self.cn, slot);
            }
        }
    }

    fn write_confirms(&mut self, out: &mut Vec<u8>) {
        if !self.cn.confirms_due {
            return;
        }
        self.cn.confirms_due = false;
        let (durable, front) = (self.cn.durable, self.cn.front.clone());
        let (mut acked, mut nacked) = (0, 0);
        let (channels, output) = (&mut self.channels, &self.cn.output);
        self.cn.confirming.retain(|&number| {
            let Some(ch) = channels.get_mut(number) else {
                return false;
            };
            if output.is_holding(number) {
                return true; // an answer that was asked for earlier goes first
            }
            ch.confirms.settle(durable, &mut |confirm| {
                let refused =
                    confirm.verdict == Verdict::Nack || front.faults().take_refused_confirm();
                let (delivery_tag, multiple) = (confirm.tag, confirm.multiple);
                let method = if refused {
                    nacked += 1;
                    Method::BasicNack {
                        delivery_tag,
                        multiple,
                        requeue: false,
                    }
                } else {
                    acked += 1;
                    Method::BasicAck {
                        delivery_tag,
                        multiple,
                    }
                };
                let written = method.write(number, out);
                debug_assert!(written.is_ok(), "numbers only");
            });
            ch.listed_confirming = ch.confirms.unconfirmed() != 0;
            ch.listed_confirming
        });
        front.counters().confirmed.add(acked);
        front.counters().refused.add(nacked);
    }

    pub(super) fn status(&self) -> Status {
        let cn = &self.cn;
        let mut status = Status::IDLE;
        if cn.output.has_ready() {
            status |= Status::OUTPUT;
        }
        if cn.phase == Phase::Closed {
            return status | Status::CLOSE;
        }
        if cn.phase == Phase::Running
            && (cn.confirms_due
                || !cn.ready.is_empty()
                || !self.writer.pending.is_empty()
                || cn.wakeups.any())
        {
            status |= Status::OUTPUT;
        }
        if self.waits_for_disk() {
            status |= Status::WAITS_FOR_DISK;
            if self.broker().durable() != cn.durable {
                status |= Status::OUTPUT;
            }
        }
        if cn.pause.any() {
            status |= Status::PAUSE_READING;
        }
        if cn.stuck.is_some() {
            status |= Status::WAITS_FOR_ROOM;
            if !cn.told_blocked && cn.client.hears_of_blocked && cn.front.alarms().any() {
                status |= Status::OUTPUT;
            }
        }
        if cn.credentials.is_some() {
            status |= Status::AUTHENTICATE;
        }
        status
    }
}

fn not_a_method(frame: &Frame<'_>) -> Failure {
    if frame.kind == FrameKind::Heartbeat {
        return unexpected_frame("heartbeat on a channel other than 0");
    }
    unexpected_frame("expected method frame, got non method frame instead")
}

/// A method that cannot be read. RabbitMQ resets the connection for an unknown one; ours gives the reason.
fn undecodable(error: MethodError) -> Failure {
    match error {
        MethodError::Unknown { .. } => not_implemented(error.to_string()),
        error => frame_error(error.to_string()),
    }
}

/// A method that only a server sends, or that belongs to channel 0.
pub(super) fn unimplemented_method() -> Failure {
    command_invalid("unimplemented method")
}
