//! The inside of a session: from bytes to frames to methods, and from what is ready to bytes.
//!
//! Everything here runs under the session's mutex and never waits. Frames are worked off in order until something
//! pauses the connection (`Pause`); what stands behind is kept, bounded, and worked off when the pause is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use wherry_engine::Broker;
use wherry_session::{End, Failure, Input, Pause};

use super::channel::Channel;
use super::connection::{Connection, Phase};
use super::content::Expect;
use super::deliver::Writer;
use super::failing::{
    channel_error, command_invalid, frame_error, not_allowed, not_implemented, resource_error,
    unexpected_frame,
};
use super::stuck::Stuck;
use super::time::Times;
use super::{dispatch, publish, tx};
use crate::codec::{
    Frame, FrameKind, Method, MethodError, PROTOCOL_HEADER, ProtocolHeader, method_ids,
    missing_bytes, parse_frame, parse_protocol_header,
};

/// Clients number their channels from 1: those below this are in a table, which costs eight bytes for each number up to the
/// highest. Any number may be used (RabbitMQ limits how many are open, not which), and one is enough to fill such a table.
const DENSE_NUMBERS: u16 = 2048;

/// Channels by number.
#[derive(Default)]
pub(super) struct Channels {
    dense: Vec<Option<Box<Channel>>>,
    sparse: BTreeMap<u16, Box<Channel>>,
    pub(super) open: usize,
}

impl Channels {
    #[inline]
    pub(super) fn get_mut(&mut self, number: u16) -> Option<&mut Channel> {
        if number < DENSE_NUMBERS {
            self.dense.get_mut(usize::from(number))?.as_deref_mut()
        } else {
            self.sparse.get_mut(&number).map(|channel| &mut **channel)
        }
    }

    pub(super) fn get(&self, number: u16) -> Option<&Channel> {
        if number < DENSE_NUMBERS {
            self.dense.get(usize::from(number))?.as_deref()
        } else {
            self.sparse.get(&number).map(|channel| &**channel)
        }
    }

    fn insert(&mut self, channel: Channel) {
        let (number, channel) = (channel.number, Box::new(channel));
        if number < DENSE_NUMBERS {
            let index = usize::from(number);
            if self.dense.len() <= index {
                self.dense.resize_with(index + 1, || None);
            }
            self.dense[index] = Some(channel);
        } else {
            self.sparse.insert(number, channel);
        }
        self.open += 1;
    }

    pub(super) fn remove(&mut self, number: u16) -> Option<Box<Channel>> {
        let channel = if number < DENSE_NUMBERS {
            self.dense.get_mut(usize::from(number))?.take()?
        } else {
            self.sparse.remove(&number)?
        };
        self.open -= 1;
        Some(channel)
    }

    pub(super) fn numbers(&self) -> Vec<u16> {
        self.iter().map(|channel| channel.number).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        let dense = self.dense.iter().flatten();
        dense.chain(self.sparse.values()).map(|channel| &**channel)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        let dense = self.dense.iter_mut().flatten();
        dense
            .chain(self.sparse.values_mut())
            .map(|channel| &mut **channel)
    }
}

pub(super) struct State {
    pub(super) cn: Connection,
    pub(super) channels: Channels,
    pub(super) input: Input,
    pub(super) writer: Writer,
    pub(super) times: Times,
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
        }
    }

    pub(super) fn broker(&self) -> &Arc<Broker> {
        self.cn.front.broker()
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        if self.cn.phase.is_deaf() {
            return;
        }
        self.cn.heard = true;
        if !self.cn.pause.any() {
            self.cn.stint.begin(&mut self.cn.pause);
        }
        let counters = self.cn.front.counters();
        self.cn.traffic.received(bytes.len(), counters);
        let mut rest = bytes;
        // What is kept while nothing pauses is the beginning of a frame: only what it lacks is copied to it.
        while !self.input.is_empty() && !self.is_paused() && !rest.is_empty() {
            let (lacking, behind) =
                rest.split_at(missing_bytes(self.input.bytes()).min(rest.len()));
            self.input.push(lacking);
            rest = behind;
            self.work_off();
        }
        if self.input.is_empty() && !self.is_paused() {
            let used = self.process(rest);
            rest = &rest[used..];
        }
        if self.cn.phase.is_deaf() {
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

    pub(super) fn count(&mut self) {
        self.cn.traffic.count_published(self.cn.front.counters());
    }

    pub(super) fn is_paused(&self) -> bool {
        self.cn.pause.any() || self.cn.phase.is_deaf()
    }

    /// Works off what was kept, as far as it goes.
    pub(super) fn work_off(&mut self) {
        if self.input.is_empty() || self.is_paused() {
            return;
        }
        let (bytes, start) = self.input.take();
        let used = self.process(&bytes[start..]);
        if self.cn.phase.is_deaf() {
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
                self.cn.phase = Phase::Left;
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
        let most = usize::from(self.cn.channel_max);
        let allowed = self.cn.limits().channels_per_connection_max as usize;
        if self.channels.open >= most.min(allowed) {
            let limit = if allowed < most {
                format!("maximum allowed connection limit of ({allowed})")
            } else {
                format!("negotiated channel_max ({most})")
            };
            return self.fail(
                not_allowed(format!(
                    "number of channels opened ({}) has reached the {limit}",
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
            Err(failure) => self.fail(failure, (0, 0)), // as in RabbitMQ, like the one above
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
            self.tell_unblocked();
        }
        self.work_off();
        self.count();
    }

    pub(super) fn retry(&mut self, stuck: Stuck) {
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
