//! SEND: the hot path in.
//!
//! A session keeps what the destinations that it sent to mean, with the answer to "may it": a SEND looks up its destination
//! as it came, and nothing else. The body goes from where the socket's reader put it into the engine, which makes the only
//! copy of it.

use std::collections::HashMap;
use std::sync::Arc;

use wherry_engine::{
    ConsumerOptions, Delay, Error, Exchange, ExchangeKind, Message, NewMessage, Queue, Ticket,
};
use wherry_session::{Action, Failure, FailureKind, Pause, Replies, Resource};

use super::connection::Connection;
use super::destination::{Destination, TOPIC_EXCHANGE, not_for};
use super::endpoint;
use super::headers::{self, Noted};
use super::refusal::{Refusal, shown};
use super::state::{Core, Then};
use super::subscribe;
use super::subscriptions::{AckMode, Subscription};
use crate::codec::{Frame, Name};

/// Destinations that a session remembers. A program sends to a few; who sends to more pays for a look-up again.
const TARGETS_MAX: usize = 256;

/// Bytes that the buffers keep between two messages.
const KEPT_BYTES: usize = 64 << 10;

/// What a destination means.
pub(super) struct Target {
    /// The destination, as it came.
    pub(super) raw: Box<str>,
    pub(super) exchange: Arc<Exchange>,
    pub(super) key: Box<str>,
    /// The queue that was declared for it: when it is gone it is declared again.
    queue: Option<Arc<Queue>>,
    /// Of the permissions under which the user may send to it.
    access_version: u64,
}

impl Target {
    fn is_valid(&self, version: u64) -> bool {
        self.access_version == version
            && !self.exchange.is_deleted()
            && self.queue.as_ref().is_none_or(|queue| !queue.is_deleted())
    }
}

/// What a session keeps for SEND.
#[derive(Default)]
pub(super) struct Sender {
    pub(super) targets: Vec<Target>,
    /// Where in `targets` a destination is. Few, so that nobody gains by names that collide.
    places: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    /// The place of the last one: most programs send to one destination again and again.
    last: usize,
    pub(super) properties: Vec<u8>,
    pub(super) table: Vec<u8>,
    /// SENDs that are to be worked off one by one: a run with them did not go through.
    pub(super) alone: usize,
}

/// A message that was accepted and could not be published.
pub(super) struct StuckSend {
    exchange: Arc<Exchange>,
    key: Box<str>,
    properties: Box<[u8]>,
    body: Box<[u8]>,
    delay: Delay,
    /// Of the queue's declaration.
    declared: Ticket,
    pub(super) receipt: Option<Box<str>>,
}

/// Work for which there was no room: kept, and done when there is. While something is stuck no frame is worked off, so there
/// is one of these at most.
pub(super) enum Stuck {
    Send(Box<StuckSend>),
    Commit {
        transaction: Box<str>,
        receipt: Option<Box<str>>,
    },
}

/// SEND.
pub(super) fn send(core: &mut Core, frame: &Frame<'_>) -> Result<Then, Refusal> {
    if frame.has(Name::MessageId) {
        return Err(Refusal::new(
            "Invalid header",
            "'message-id' is not allowed on 'SEND'.\n",
        ));
    }
    let Some(destination) = frame.known(Name::Destination) else {
        return Err(Refusal::new(
            "Missing destination",
            "\"SEND\" must include a 'destination' header\n",
        ));
    };
    let reply_to = match frame.known(Name::ReplyTo) {
        Some(header) if header.value().starts_with("/temp-queue/") => {
            Some(temporary_queue(core, &header.value())?)
        }
        _ => None,
    };
    let raw = destination.raw_value();
    let version = core.cn.open()?.access.version(); // before the checks: see `Access::version`
    let (place, declared) = match core.sender.find(raw, version) {
        Some(place) => (place, Ticket::NONE),
        None => aim(core, frame, raw, &destination.value(), version)?,
    };
    let Sender {
        targets,
        properties,
        table,
        ..
    } = &mut core.sender;
    let target = &targets[place];
    let noted = headers::properties(frame, reply_to.as_deref(), table, properties)?;
    let message = NewMessage {
        routing_key: &target.key,
        properties,
        body: frame.body(),
        persistent: false,
        mandatory: false,
        delay: inspect(&core.cn, &noted)?,
    };
    core.cn.traffic.messages_in += 1;
    let wants_receipt = frame.has(Name::Receipt);
    let then = if target.exchange.name().is_empty() && Replies::is_reserved(&target.key) {
        answer_request(&core.cn, &message)?;
        Then::Receipt(Ticket::NONE)
    } else if let Some(transaction) = frame.known(Name::Transaction) {
        core.transactions
            .publish(&transaction.value(), &target.exchange, &message)?;
        Then::AtCommit(declared)
    } else {
        let outcome = if core.cn.front.alarms().any() {
            None
        } else {
            let outcome = target.exchange.publish(&message);
            settle(&core.cn, outcome.map(|done| done.ticket), wants_receipt)?
        };
        match outcome {
            Some(ticket) => Then::Receipt(ticket.max(declared)),
            None => {
                core.cn.stuck = Some(Stuck::Send(Box::new(StuckSend {
                    exchange: target.exchange.clone(),
                    key: target.key.clone(),
                    properties: properties.as_slice().into(),
                    body: frame.body().into(),
                    delay: message.delay,
                    declared,
                    receipt: frame
                        .known(Name::Receipt)
                        .map(|text| (*text.value()).into()),
                })));
                core.cn.pause.set(Pause::ROOM);
                Then::Later
            }
        }
    };
    core.sender.shrink();
    Ok(then)
}

impl Sender {
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.properties, &mut self.table] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
    }

    /// Where a destination is that is known and still means the same.
    #[inline]
    pub(super) fn find(&mut self, raw: &str, version: u64) -> Option<usize> {
        let is_last = (self.targets.get(self.last)).is_some_and(|target| *target.raw == *raw);
        if !is_last {
            self.last = *self.places.get(raw)?;
        }
        self.targets[self.last]
            .is_valid(version)
            .then_some(self.last)
    }

    fn remember(&mut self, target: Target) -> usize {
        let known = self.places.get(&target.raw).copied();
        if known.is_none() && self.targets.len() >= TARGETS_MAX {
            self.targets.clear();
            self.places.clear();
        }
        let place = known.unwrap_or(self.targets.len());
        if place == self.targets.len() {
            self.places.insert(target.raw.clone(), place);
            self.targets.push(target);
        } else {
            self.targets[place] = target;
        }
        self.last = place;
        place
    }

    pub(super) fn clear(&mut self) {
        *self = Sender::default();
    }
}

/// Finds out what a destination means, and whether the user may send to it. Returns where it is kept, and when its queue is
/// durable.
fn aim(
    core: &mut Core,
    frame: &Frame<'_>,
    raw: &str,
    text: &str,
    access_version: u64,
) -> Result<(usize, Ticket), Refusal> {
    let (mut declared, mut queue) = (Ticket::NONE, None);
    let (exchange, key) = match Destination::parse(text)? {
        Destination::Queue(name) => {
            let (found, ticket) = endpoint::declare_shared(&mut core.cn, frame, &name)?;
            (declared, queue) = (ticket, Some(found));
            ("".into(), name)
        }
        Destination::AmqQueue(name) => ("".into(), name),
        Destination::ReplyQueue(name) => ("".into(), name.into()),
        Destination::Topic(key) => (TOPIC_EXCHANGE.into(), key),
        Destination::Exchange { name, key } => (name, key),
        Destination::TempQueue => return Err(not_for("SEND", text)),
    };
    let open = core.cn.open()?;
    open.access
        .check(Action::Write, Resource::Exchange(&exchange))?;
    let found = open.host.exchange(&exchange)?;
    if found.options().internal {
        return Err(Failure::new(
            FailureKind::AccessRefused,
            format!(
                "cannot publish to internal exchange '{exchange}' in vhost '{}'",
                open.host.name()
            ),
        )
        .into());
    }
    if found.kind() == ExchangeKind::Topic {
        open.access.check_topic(Action::Write, &exchange, &key)?;
    }
    let place = core.sender.remember(Target {
        raw: raw.into(),
        exchange: found,
        key: (*key).into(),
        queue,
        access_version,
    });
    Ok((place, declared))
}

/// The real name of a queue that a reply is to come to; made at its first use.
fn temporary_queue(core: &mut Core, destination: &str) -> Result<String, Refusal> {
    Destination::parse(destination)?;
    let key = format!("T_{destination}");
    if let Some(slot) = core.subscriptions.find(&key)
        && let Some(subscription) = core.subscriptions.get_mut(slot)
    {
        return Ok(subscription.consumer.queue().name().to_string());
    }
    subscribe::check_room(core)?;
    let cn = &mut core.cn;
    let life = wherry_engine::QueueOptions {
        durable: false,
        exclusive: Some(cn.owner),
        auto_delete: true,
        ..wherry_engine::QueueOptions::default()
    };
    let open = cn.open()?;
    let host = open.host.clone();
    let name = host.generated_queue_name();
    for action in [Action::Configure, Action::Read] {
        open.access.check(action, Resource::Queue(&name))?;
    }
    let (queue, _) = host.declare_queue_generated(&name, life)?;
    cn.exclusive.remember(&host, queue.name());
    let options = ConsumerOptions {
        tag: String::new(),
        no_ack: true,
        owner: cn.owner,
        ..ConsumerOptions::default()
    };
    let slot = core.subscriptions.next_slot();
    let consumer = queue.consume(options, Some((cn.wakeups.clone(), slot.into())))?;
    let subscription = Subscription::new(
        consumer,
        &key,
        Some(destination),
        &cn.session,
        cn.escapes(),
        AckMode::Auto,
    );
    core.add_subscription(subscription);
    Ok(queue.name().to_string())
}

/// Checks what a message claims, and when it is due.
fn inspect(cn: &Connection, noted: &Noted<'_>) -> Result<Delay, Refusal> {
    let refused = |text: String| Err(Refusal::from(Failure::precondition_failed(text)));
    if noted.carbon_copy {
        // Lists of routing keys, which a header cannot be.
        return refused(
            "invalid message: {unacceptable_type_in_header,\"CC\",longstr}".to_string(),
        );
    }
    if let Some(claimed) = &noted.user_id
        && **claimed != *cn.user
        && !cn.open()?.access.has_tag("impersonator")
    {
        return refused(format!(
            "user_id property set to '{}' but authenticated user was '{}'",
            shown(claimed),
            cn.user
        ));
    }
    match noted.deliver_at_ms {
        None => Ok(Delay::None),
        Some(ms) => match ms.checked_mul(1_000_000) {
            Some(ns) => Ok(Delay::At(ns)),
            None => refused("invalid x-deliver-at: give milliseconds since 1970".into()),
        },
    }
}

/// A message to the name of a reply inbox: a client of AMQP asked, and gets the answer directly, at most once.
fn answer_request(cn: &Connection, message: &NewMessage<'_>) -> Result<(), Refusal> {
    let reply = Message::from_parts("", message.routing_key, message.properties, message.body)?;
    cn.front.replies().send(message.routing_key, reply);
    Ok(())
}

/// What the outcome of a publish means. None: there is no room now.
pub(super) fn settle(
    cn: &Connection,
    outcome: Result<Ticket, Error>,
    wants_receipt: bool,
) -> Result<Option<Ticket>, Refusal> {
    match outcome {
        Ok(_) if wants_receipt && cn.front.faults().take_refused_confirm() => {
            Err(Refusal::new("Message refused", "refused on purpose"))
        }
        Ok(ticket) => Ok(Some(ticket)),
        // Who wants no receipt has not asked to hear of it.
        Err(Error::PublishRejected { .. }) if !wants_receipt => {
            cn.front.counters().refused.add(1);
            Ok(Some(Ticket::NONE))
        }
        Err(error) if error.is_passing() => Ok(None),
        Err(error) => Err(refusal(error)),
    }
}

/// What is wrong with a message, or with the queues that it is for.
pub(super) fn refusal(error: Error) -> Refusal {
    if let Error::PublishRejected { queue } = &error {
        return Refusal::new(
            "Message refused",
            format!("queue '{}' is full and refuses messages", shown(queue)),
        );
    }
    error.into()
}

impl StuckSend {
    /// Tries again. None: there is no room still.
    pub(super) fn retry(&self, cn: &Connection) -> Result<Option<Ticket>, Refusal> {
        if cn.front.alarms().any() {
            return Ok(None);
        }
        let message = NewMessage {
            routing_key: &self.key,
            properties: &self.properties,
            body: &self.body,
            persistent: false,
            mandatory: false,
            delay: self.delay,
        };
        let outcome = self.exchange.publish(&message).map(|done| done.ticket);
        let ticket = settle(cn, outcome, self.receipt.is_some())?;
        Ok(ticket.map(|ticket| ticket.max(self.declared)))
    }
}
