//! STOMP 1.1, the newest version that all servers under load take without asking for more: CoilMQ wants its own host name for
//! 1.2. A queue is `/queue/NAME`, a fan-out is subscriptions to one `/topic/NAME`, a confirm is a receipt.

mod frames;

use std::time::Instant;

use self::frames::{Frame, RECEIPT_DIGITS};
use super::{Confirm, Destination, Outgoing, Subscription, Topology, Wire};
use crate::counter::Counter;
use crate::entities::ENTITY_DIGITS;
use crate::link::{Failure, Link, ReplyDeadline, Target};
use crate::options::{Options, Value};

/// A connection that is logged in.
pub(crate) struct Stomp {
    link: Link,
    scratch: Vec<u8>,
    /// Receipts asked for, apart from those of messages, whose names are numbers alone.
    requests: u64,
    consuming: Consuming,
}

/// Where a consumer stands; apart from the link, whose buffer the frames borrow.
#[derive(Default)]
struct Consuming {
    ack_every: u64,
    /// By index of the queue: an acknowledgement of many is for one subscription.
    unacked: Vec<Unacked>,
    acks: Vec<u8>,
}

/// What a subscription has not acknowledged.
#[derive(Clone, Default)]
struct Unacked {
    count: u64,
    last_message_id: Vec<u8>,
}

impl Wire for Stomp {
    fn open(target: &Target, inbox_bytes: usize) -> Result<Stomp, Failure> {
        let mut stomp = Stomp {
            link: Link::connect(target, inbox_bytes)?,
            scratch: Vec::new(),
            requests: 0,
            consuming: Consuming::default(),
        };
        let mut out = Vec::new();
        frames::head(&mut out, "CONNECT");
        frames::header(&mut out, "accept-version", "1.1");
        // In CONNECT nothing is escaped, for 1.0's sake.
        for (name, text) in [
            ("host", &target.vhost),
            ("login", &target.user),
            ("passcode", &target.password),
        ] {
            frames::plain_header(&mut out, name, text.as_bytes());
        }
        frames::plain_header(&mut out, "heart-beat", b"0,0");
        frames::end(&mut out, b"");
        stomp.link.send(&out, ReplyDeadline::start().0)?;
        stomp.await_frame(&"CONNECTED", |frame| frame.command == b"CONNECTED")?;
        Ok(stomp)
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn close(mut self) -> Result<(), Failure> {
        self.request("DISCONNECT", |_| {})
    }

    /// SUBSCRIBE makes a queue; nothing needs to be made for a topic.
    fn declare(&mut self, topology: &Topology, options: &Options) -> Result<(), Failure> {
        if topology.exchange.is_some() {
            return Ok(());
        }
        for name in &topology.queues {
            self.request("SUBSCRIBE", |out| {
                frames::header(out, "id", "declare");
                destination(out, &Destination::Queue(name.clone(), Vec::new()));
                arguments(out, &options.arguments);
            })?;
            self.request("UNSUBSCRIBE", |out| {
                frames::header(out, "id", "declare");
                // Not of the standard, but CoilMQ finds a subscription by it.
                destination(out, &Destination::Queue(name.clone(), Vec::new()));
            })?;
        }
        Ok(())
    }

    fn waiting(&mut self, _: &[String]) -> Result<Option<u64>, Failure> {
        Ok(None)
    }

    fn delete(&mut self, _: &Topology) -> Result<bool, Failure> {
        Ok(false)
    }

    fn expect_confirms(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn publish(out: &mut Vec<u8>, message: &Outgoing<'_>) {
        frames::head(out, "SEND");
        destination(out, message.destination);
        if let Destination::Queue(_, queue_arguments) = message.destination {
            arguments(out, queue_arguments);
        }
        if message.persistent {
            frames::header(out, "persistent", "true");
        }
        frames::header(out, "content-length", &message.body.len().to_string());
        if message.confirmed {
            // The last one, so that its place is known.
            frames::plain_header(out, "receipt", &[b'0'; RECEIPT_DIGITS]);
        }
        frames::end(out, message.body);
    }

    fn body_at(frame_bytes: usize, body_bytes: usize) -> usize {
        frame_bytes - body_bytes - 1
    }

    /// [`options`](crate::options) refuses entities.
    fn entity(_: &mut [u8], _: &str, _: [u8; ENTITY_DIGITS]) {
        unreachable!("entities are for AMQP");
    }

    #[inline]
    fn number(frame: &mut [u8], body_at: usize, sequence: u64) {
        frames::number(frame, body_at, sequence);
    }

    fn confirms(
        &mut self,
        mut each: impl FnMut(Confirm) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while let Some(frame) = self.link.inbox.next(frames::cut)? {
            refuse_error(&frame)?;
            if let Some(sequence) = frame.receipt_number() {
                each(Confirm {
                    tag: sequence + 1,
                    multiple: false,
                    refused: false,
                })?;
            }
        }
        Ok(())
    }

    fn consume(&mut self, wanted: &Subscription<'_>) -> Result<(), Failure> {
        self.consuming.ack_every = wanted.ack_every;
        let indices = wanted.queues.iter().map(|&(index, _)| index as usize + 1);
        self.consuming.unacked = vec![Unacked::default(); indices.max().unwrap_or(0)];
        let mode = match wanted.ack_every {
            0 => "auto",
            _ if wanted.individual => "client-individual",
            _ => "client",
        };
        for (index, name) in wanted.queues {
            let to = match wanted.exchange {
                Some(topic) => Destination::Fanout(topic.to_owned()),
                None => Destination::Queue(name.clone(), Vec::new()),
            };
            let subscribe = |out: &mut Vec<u8>| {
                frames::header(out, "id", &index.to_string());
                destination(out, &to);
                frames::header(out, "ack", mode);
                if wanted.prefetch > 0 {
                    frames::header(out, "prefetch-count", &wanted.prefetch.to_string());
                }
                arguments(out, wanted.arguments);
            };
            if wanted.exchange.is_some() {
                // A topic has only those that are there when a message comes. Nothing is published before.
                self.request("SUBSCRIBE", subscribe)?;
            } else {
                // Without a receipt, which would come mixed with deliveries.
                self.scratch.clear();
                frames::head(&mut self.scratch, "SUBSCRIBE");
                subscribe(&mut self.scratch);
                frames::end(&mut self.scratch, b"");
                self.link.send(&self.scratch, ReplyDeadline::start().0)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn deliveries(&mut self, counter: &mut Counter) -> Result<(), Failure> {
        while let Some(frame) = self.link.inbox.next(frames::cut)? {
            if frame.command != b"MESSAGE" {
                refuse_error(&frame)?;
                continue;
            }
            let queue = super::decimal(frame.subscription);
            counter.begin(queue, frame.redelivered);
            counter.part(frame.body);
            counter.arrived();
            self.consuming.arrived(queue, &frame);
        }
        Ok(())
    }

    fn acknowledge(&mut self, everything: bool, deadline: Instant) -> Result<(), Failure> {
        let consuming = &mut self.consuming;
        if everything {
            for (queue, unacked) in (0..).zip(&mut consuming.unacked) {
                if std::mem::take(&mut unacked.count) > 0 {
                    frames::ack(&mut consuming.acks, queue, &unacked.last_message_id);
                }
            }
        }
        if !consuming.acks.is_empty() {
            self.link.send(&consuming.acks, deadline)?;
            consuming.acks.clear();
        }
        Ok(())
    }
}

impl Stomp {
    /// Sends a frame with the headers that `write` appends and a receipt, and waits for it.
    fn request(&mut self, command: &str, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        self.requests += 1;
        let receipt = format!("request-{}", self.requests);
        self.scratch.clear();
        frames::head(&mut self.scratch, command);
        write(&mut self.scratch);
        frames::header(&mut self.scratch, "receipt", &receipt);
        frames::end(&mut self.scratch, b"");
        self.link.send(&self.scratch, ReplyDeadline::start().0)?;
        self.await_frame(&receipt, |frame| {
            frame.command == b"RECEIPT" && frame.receipt_id == receipt.as_bytes()
        })
    }

    /// Waits for a frame; others before it are dropped.
    fn await_frame(
        &mut self,
        what: &dyn std::fmt::Debug,
        found: impl Fn(&Frame<'_>) -> bool,
    ) -> Result<(), Failure> {
        let deadline = ReplyDeadline::start();
        loop {
            while let Some(frame) = self.link.inbox.next(frames::cut)? {
                if found(&frame) {
                    return Ok(());
                }
                refuse_error(&frame)?;
            }
            if !self.link.receive()? {
                deadline.check(what)?;
            }
        }
    }
}

impl Consuming {
    #[inline]
    fn arrived(&mut self, queue: u32, frame: &Frame<'_>) {
        if self.ack_every == 0 {
            return;
        }
        // A queue that is not ours is told by the tally.
        let Some(unacked) = self.unacked.get_mut(queue as usize) else {
            return;
        };
        unacked.count += 1;
        if unacked.count == self.ack_every {
            unacked.count = 0;
            frames::ack(&mut self.acks, queue, frame.message_id);
        } else {
            unacked.last_message_id.clear();
            unacked.last_message_id.extend_from_slice(frame.message_id);
        }
    }
}

fn destination(out: &mut Vec<u8>, to: &Destination) {
    let text = match to {
        Destination::Queue(name, _) => format!("/queue/{name}"),
        Destination::Fanout(name) => format!("/topic/{name}"),
        Destination::Entities(_) => unreachable!("entities are for AMQP"),
    };
    frames::header(out, "destination", &text);
}

fn arguments(out: &mut Vec<u8>, arguments: &[(String, Value)]) {
    for (name, value) in arguments {
        let text = match value {
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Text(value) => value.clone(),
        };
        frames::header(out, name, &text);
    }
}

/// An ERROR frame, as an error with its texts.
fn refuse_error(frame: &Frame<'_>) -> Result<(), Failure> {
    if frame.command != b"ERROR" {
        return Ok(());
    }
    let text = [frame.message, frame.body].map(String::from_utf8_lossy);
    Err(format!("the server closed: {}: {}", text[0], text[1]).into())
}
