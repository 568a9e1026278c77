//! AMQP 0-9-1: one channel on a connection; confirms, `basic.qos` and multiple acknowledgements.

pub(crate) mod frames;

use std::time::Instant;

use self::frames::{Fields, Frame, MethodId};
use super::{Confirm, Destination, Outgoing, Subscription, Topology, Wire};
use crate::counter::Counter;
use crate::entities::ENTITY_DIGITS;
use crate::link::{Failure, Link, ReplyDeadline, Target};
use crate::options::Options;

const CHANNEL: u16 = 1;
/// Few enough that their replies fit into the sockets' buffers while we still write.
const REQUESTS_AHEAD: usize = 100;

/// The place of an entity's number in a frame.
const NO_ENTITY: &str = "00000000";
const _: () = assert!(NO_ENTITY.len() == ENTITY_DIGITS);

/// A connection with channel 1 open.
pub(crate) struct Amqp {
    link: Link,
    scratch: Vec<u8>,
    consuming: Consuming,
}

/// Where a consumer stands; apart from the link, whose buffer the frames borrow.
#[derive(Default)]
struct Consuming {
    body_bytes: u64,
    ack_every: u64,
    last_tag: u64,
    unacked: u64,
    acks: Vec<u8>,
}

impl Wire for Amqp {
    fn open(target: &Target, inbox_bytes: usize) -> Result<Amqp, Failure> {
        let mut amqp = Amqp {
            link: Link::connect(target, inbox_bytes)?,
            scratch: Vec::new(),
            consuming: Consuming::default(),
        };
        amqp.log_in(target)?;
        let (id, ok) = (frames::CHANNEL_OPEN, frames::CHANNEL_OPEN_OK);
        amqp.call(CHANNEL, id, ok, |out| out.push(0))?;
        Ok(amqp)
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn close(mut self) -> Result<(), Failure> {
        let (id, ok) = (frames::CHANNEL_CLOSE, frames::CHANNEL_CLOSE_OK);
        self.call(CHANNEL, id, ok, close_arguments)?;
        let (id, ok) = (frames::CONNECTION_CLOSE, frames::CONNECTION_CLOSE_OK);
        self.call(0, id, ok, close_arguments)?;
        Ok(())
    }

    fn declare(&mut self, topology: &Topology, options: &Options) -> Result<(), Failure> {
        let durable = u8::from(options.durable) << 1;
        let (id, ok) = (frames::QUEUE_DECLARE, frames::QUEUE_DECLARE_OK);
        self.call_for_each(&topology.queues, id, ok, |out, name| {
            out.extend_from_slice(&[0, 0]);
            frames::short(out, name);
            out.push(durable);
            frames::table(out, &options.arguments);
        })?;
        let Some(exchange) = &topology.exchange else {
            return Ok(());
        };
        let (id, ok) = (frames::EXCHANGE_DECLARE, frames::EXCHANGE_DECLARE_OK);
        self.call(CHANNEL, id, ok, |out| {
            out.extend_from_slice(&[0, 0]);
            frames::short(out, &exchange.name);
            frames::short(out, &exchange.kind);
            out.push(durable);
            frames::table(out, &[]);
        })?;
        let (id, ok) = (frames::QUEUE_BIND, frames::QUEUE_BIND_OK);
        self.call_for_each(&topology.queues, id, ok, |out, name| {
            out.extend_from_slice(&[0, 0]);
            frames::short(out, name);
            frames::short(out, &exchange.name);
            frames::short(out, exchange.binding_key);
            out.push(0);
            frames::table(out, &[]);
        })
    }

    fn waiting(&mut self, queues: &[String]) -> Result<Option<u64>, Failure> {
        let mut waiting = 0;
        for queue in queues {
            let (id, ok) = (frames::QUEUE_DECLARE, frames::QUEUE_DECLARE_OK);
            let reply = self.call(CHANNEL, id, ok, |out| {
                out.extend_from_slice(&[0, 0]);
                frames::short(out, queue);
                out.push(1); // passive
                frames::table(out, &[]);
            })?;
            let mut fields = Fields(&reply);
            fields.short()?;
            waiting += u64::from(fields.u32()?);
        }
        Ok(Some(waiting))
    }

    fn delete(&mut self, topology: &Topology) -> Result<bool, Failure> {
        let (id, ok) = (frames::QUEUE_DELETE, frames::QUEUE_DELETE_OK);
        self.call_for_each(&topology.queues, id, ok, |out, name| {
            out.extend_from_slice(&[0, 0]);
            frames::short(out, name);
            out.push(0);
        })?;
        if let Some(exchange) = &topology.exchange {
            let (id, ok) = (frames::EXCHANGE_DELETE, frames::EXCHANGE_DELETE_OK);
            self.call(CHANNEL, id, ok, |out| {
                out.extend_from_slice(&[0, 0]);
                frames::short(out, &exchange.name);
                out.push(0);
            })?;
        }
        Ok(true)
    }

    fn expect_confirms(&mut self) -> Result<(), Failure> {
        let (id, ok) = (frames::CONFIRM_SELECT, frames::CONFIRM_SELECT_OK);
        self.call(CHANNEL, id, ok, |out| out.push(0)).map(drop)
    }

    fn publish(out: &mut Vec<u8>, message: &Outgoing<'_>) {
        let (exchange, key) = match message.destination {
            Destination::Queue(name, _) => ("", name.as_str()),
            Destination::Fanout(exchange) => (exchange.as_str(), ""),
            Destination::Entities(exchange) => (exchange.as_str(), NO_ENTITY),
        };
        frames::publish(
            out,
            CHANNEL,
            exchange,
            key,
            message.persistent,
            message.body,
        );
    }

    /// The start of the first body frame: behind it come the rest of the body and the frames around its parts.
    fn body_at(frame_bytes: usize, body_bytes: usize) -> usize {
        let frame_body_max = frames::FRAME_BYTES_MAX as usize - frames::FRAME_OVERHEAD;
        let parts = body_bytes.div_ceil(frame_body_max);
        frame_bytes - body_bytes - (parts - 1) * frames::FRAME_OVERHEAD - 1
    }

    #[inline]
    fn entity(frames: &mut [u8], exchange: &str, digits: [u8; ENTITY_DIGITS]) {
        frames::set_routing_key(frames, exchange, digits);
    }

    #[inline]
    fn number(_: &mut [u8], _: usize, _: u64) {}

    fn confirms(
        &mut self,
        mut each: impl FnMut(Confirm) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while let Some(frame) = self.link.inbox.next(frames::cut)? {
            if frame.kind != frames::KIND_METHOD {
                continue;
            }
            let mut fields = Fields(frame.payload);
            let id = fields.method_id()?;
            if id == frames::BASIC_ACK || id == frames::BASIC_NACK {
                each(Confirm {
                    tag: fields.u64()?,
                    multiple: fields.u8()? & 1 == 1,
                    refused: id == frames::BASIC_NACK,
                })?;
            } else {
                refuse_close(id, fields)?;
            }
        }
        Ok(())
    }

    fn consume(&mut self, wanted: &Subscription<'_>) -> Result<(), Failure> {
        self.consuming.ack_every = wanted.ack_every;
        let (id, ok) = (frames::BASIC_QOS, frames::BASIC_QOS_OK);
        self.call(CHANNEL, id, ok, |out| {
            out.extend_from_slice(&0u32.to_be_bytes());
            out.extend_from_slice(&wanted.prefetch.to_be_bytes());
            out.push(0);
        })?;
        for (index, name) in wanted.queues {
            // Without a reply: replies would come mixed with deliveries. The tag is the queue's index.
            self.request(CHANNEL, frames::BASIC_CONSUME, |out| {
                out.extend_from_slice(&[0, 0]);
                frames::short(out, name);
                frames::short(out, &index.to_string());
                let no_ack = u8::from(wanted.ack_every == 0) << 1;
                out.push(no_ack | 1 << 3);
                frames::table(out, &[]);
            })?;
        }
        Ok(())
    }

    #[inline]
    fn deliveries(&mut self, counter: &mut Counter) -> Result<(), Failure> {
        while let Some(frame) = self.link.inbox.next(frames::cut)? {
            self.consuming.frame(frame, counter)?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, everything: bool, deadline: Instant) -> Result<(), Failure> {
        let consuming = &mut self.consuming;
        if everything && consuming.unacked > 0 {
            frames::ack(&mut consuming.acks, CHANNEL, consuming.last_tag, true);
            consuming.unacked = 0;
        }
        if !consuming.acks.is_empty() {
            self.link.send(&consuming.acks, deadline)?;
            consuming.acks.clear();
        }
        Ok(())
    }
}

impl Amqp {
    fn log_in(&mut self, target: &Target) -> Result<(), Failure> {
        self.link
            .send(&frames::PROTOCOL_HEADER, ReplyDeadline::start().0)?;
        self.reply(0, frames::CONNECTION_START)?;
        self.request(0, frames::CONNECTION_START_OK, |out| {
            frames::table(out, &[]);
            frames::short(out, "PLAIN");
            let response = format!("\0{}\0{}", target.user, target.password);
            frames::long(out, response.as_bytes());
            frames::short(out, "en_US");
        })?;
        let tune = self.reply(0, frames::CONNECTION_TUNE)?;
        let mut fields = Fields(&tune);
        let channel_max = fields.u16()?;
        let frame_max = match fields.u32()? {
            0 => frames::FRAME_BYTES_MAX,
            offered => offered.min(frames::FRAME_BYTES_MAX),
        };
        if frame_max < frames::FRAME_BYTES_MAX {
            return Err("the server offers frames below 128 KiB, which this program needs".into());
        }
        self.request(0, frames::CONNECTION_TUNE_OK, |out| {
            out.extend_from_slice(&channel_max.to_be_bytes());
            out.extend_from_slice(&frame_max.to_be_bytes());
            out.extend_from_slice(&[0, 0]); // no heartbeats: runs are short and bounded
        })?;
        let (id, ok) = (frames::CONNECTION_OPEN, frames::CONNECTION_OPEN_OK);
        self.call(0, id, ok, |out| {
            frames::short(out, &target.vhost);
            out.extend_from_slice(&[0, 0]);
        })?;
        Ok(())
    }

    /// Sends a method and waits for `reply`; other frames before it are dropped. Returns the reply's arguments.
    fn call(
        &mut self,
        channel: u16,
        id: MethodId,
        reply: MethodId,
        arguments: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<u8>, Failure> {
        self.request(channel, id, arguments)?;
        self.reply(channel, reply)
    }

    /// A call for each of `names`, some requests ahead of their replies.
    fn call_for_each(
        &mut self,
        names: &[String],
        id: MethodId,
        reply: MethodId,
        arguments: impl Fn(&mut Vec<u8>, &str),
    ) -> Result<(), Failure> {
        for names in names.chunks(REQUESTS_AHEAD) {
            for name in names {
                self.request(CHANNEL, id, |out| arguments(out, name))?;
            }
            for _ in names {
                self.reply(CHANNEL, reply)?;
            }
        }
        Ok(())
    }

    /// Sends a method.
    fn request(
        &mut self,
        channel: u16,
        id: MethodId,
        arguments: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Failure> {
        self.scratch.clear();
        frames::method(&mut self.scratch, channel, id, arguments);
        self.link.send(&self.scratch, ReplyDeadline::start().0)
    }

    /// Waits for the method `id` and returns its arguments; other frames before it are dropped.
    fn reply(&mut self, channel: u16, id: MethodId) -> Result<Vec<u8>, Failure> {
        let deadline = ReplyDeadline::start();
        loop {
            while let Some(frame) = self.link.inbox.next(frames::cut)? {
                if frame.kind != frames::KIND_METHOD {
                    continue;
                }
                let mut fields = Fields(frame.payload);
                let found = fields.method_id()?;
                if found == id && frame.channel == channel {
                    return Ok(fields.0.to_vec());
                }
                refuse_close(found, fields)?;
            }
            if !self.link.receive()? {
                deadline.check(&id)?;
            }
        }
    }
}

impl Consuming {
    #[inline]
    fn frame(&mut self, frame: Frame<'_>, counter: &mut Counter) -> Result<(), Failure> {
        match frame.kind {
            frames::KIND_METHOD => self.method(Fields(frame.payload), counter),
            frames::KIND_HEADER => {
                let mut fields = Fields(frame.payload);
                fields.u32()?; // class and weight
                self.body_bytes = fields.u64()?;
                if self.body_bytes == 0 {
                    self.arrived(counter);
                }
                Ok(())
            }
            frames::KIND_BODY => {
                if counter.part(frame.payload) >= self.body_bytes {
                    self.arrived(counter);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn method(&mut self, mut fields: Fields<'_>, counter: &mut Counter) -> Result<(), Failure> {
        let id = fields.method_id()?;
        if id != frames::BASIC_DELIVER {
            if id == frames::BASIC_CANCEL {
                return Err("the server cancelled a consumer".into());
            }
            return refuse_close(id, fields);
        }
        let queue = super::decimal(fields.short()?);
        self.last_tag = fields.u64()?;
        counter.begin(queue, fields.u8()? & 1 == 1);
        Ok(())
    }

    #[inline]
    fn arrived(&mut self, counter: &mut Counter) {
        counter.arrived();
        if self.ack_every > 0 {
            self.unacked += 1;
            if self.unacked == self.ack_every {
                self.unacked = 0;
                counter.acknowledging();
                let multiple = self.ack_every > 1;
                frames::ack(&mut self.acks, CHANNEL, self.last_tag, multiple);
            }
        }
    }
}

fn close_arguments(out: &mut Vec<u8>) {
    out.extend_from_slice(&200u16.to_be_bytes());
    frames::short(out, "");
    out.extend_from_slice(&[0; 4]);
}

/// A close of the server, as an error with its code and text.
fn refuse_close(id: MethodId, mut arguments: Fields<'_>) -> Result<(), Failure> {
    if id != frames::CONNECTION_CLOSE && id != frames::CHANNEL_CLOSE {
        return Ok(());
    }
    let code = arguments.u16()?;
    let text = String::from_utf8_lossy(arguments.short()?);
    Err(format!("the server closed: {code} {text}").into())
}
