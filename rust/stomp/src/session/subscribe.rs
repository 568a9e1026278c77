//! SUBSCRIBE and UNSUBSCRIBE.

use std::borrow::Cow;
use std::sync::Arc;

use wherry_engine::table::TableView;
use wherry_engine::{ConsumerOptions, Queue, Ticket};
use wherry_session::{Action, Failure, Resource, arguments as declared};

use super::arguments::{self, Of};
use super::destination::{Destination, TOPIC_EXCHANGE, not_for};
use super::endpoint::{self, Life};
use super::headers::number;
use super::refusal::{Refusal, shown};
use super::state::{Core, Then};
use super::subscriptions::{AckMode, Subscription};
use crate::codec::{Frame, Version};

fn ack_mode(frame: &Frame<'_>) -> Result<AckMode, Refusal> {
    match frame.header("ack").as_deref() {
        None | Some("auto") => Ok(AckMode::Auto),
        Some("client") => Ok(AckMode::Client),
        Some("client-individual") => Ok(AckMode::Individual),
        Some(other) => Err(Refusal::invalid(
            "ack",
            other,
            "use auto, client or client-individual",
        )),
    }
}

/// Whether there may be another subscription.
pub(super) fn check_room(core: &Core) -> Result<(), Refusal> {
    let most = core.cn.limits().consumers_per_channel_max as usize;
    if core.subscriptions.len() >= most {
        return Err(Refusal::new(
            "Too many subscriptions",
            format!(
                "A connection may have {most}, those included that were ended and have unsettled messages\n"
            ),
        ));
    }
    Ok(())
}

/// What names a subscription: its id. In 1.0, where it may have none, its destination.
fn key_of(core: &Core, frame: &Frame<'_>) -> Option<(String, Option<String>)> {
    if let Some(id) = frame.header("id") {
        return Some((format!("T_{id}"), Some(id.into_owned())));
    }
    let destination = frame.header("destination")?;
    (core.cn.version == Version::V1_0).then(|| (format!("Q_{destination}"), None))
}

/// The queue that a subscription is about, and what the client hears of when it is durable.
struct Source {
    queue: Arc<Queue>,
    ticket: Ticket,
    /// Whether the frame's arguments were the queue's.
    declared: bool,
    /// Goes with the subscription if the client says so.
    durable: bool,
}

fn source(core: &mut Core, frame: &Frame<'_>, text: &str) -> Result<Source, Refusal> {
    let existing = |core: &Core, name: &str| -> Result<Source, Refusal> {
        Ok(Source {
            queue: endpoint::find(&core.cn, name)?,
            ticket: Ticket::NONE,
            declared: false,
            durable: false,
        })
    };
    let (exchange, pattern): (Cow<'_, str>, _) = match Destination::parse(text)? {
        Destination::Queue(name) => {
            let (queue, ticket) = endpoint::declare_shared(&mut core.cn, frame, &name)?;
            return Ok(Source {
                queue,
                ticket,
                declared: true,
                durable: false,
            });
        }
        Destination::AmqQueue(name) => return existing(core, &name),
        Destination::ReplyQueue(name) => return existing(core, name),
        Destination::TempQueue => return Err(not_for("SUBSCRIBE", text)),
        Destination::Topic(pattern) => (TOPIC_EXCHANGE.into(), pattern),
        Destination::Exchange { name, key } => (name, key),
    };
    core.cn.open()?.host.exchange(&exchange)?; // before a queue is made for it
    let life = Life::of_subscription(frame)?;
    let name = endpoint::subscription_queue(frame, text, life.durable)?;
    let (queue, ticket) = endpoint::declare(&mut core.cn, frame, &name, life)?;
    let bound = endpoint::bind(&core.cn, &queue, &exchange, &pattern)?;
    Ok(Source {
        queue,
        ticket: ticket.max(bound),
        declared: true,
        durable: life.durable,
    })
}

/// SUBSCRIBE.
pub(super) fn subscribe(core: &mut Core, frame: &Frame<'_>) -> Result<Then, Refusal> {
    let Some(destination) = frame.header("destination") else {
        return Err(Refusal::new(
            "Missing destination",
            "\"SUBSCRIBE\" must include a 'destination' header\n",
        ));
    };
    let Some((key, id)) = key_of(core, frame) else {
        return Err(Refusal::missing("SUBSCRIBE", "id"));
    };
    if core.subscriptions.find(&key).is_some() {
        return Err(Refusal::new(
            "Duplicated subscription identifier",
            format!(
                "A subscription identified by '{}' already exists.",
                shown(&key)
            ),
        ));
    }
    check_room(core)?;
    let mode = ack_mode(frame)?;
    let most = core.cn.limits().unacked_per_channel_max;
    let prefetch = match frame.header("prefetch-count") {
        Some(text) => number::<u16>("prefetch-count", &text)?.into(),
        None => 0,
    };
    let source = source(core, frame, &destination)?;
    let name = source.queue.name();
    let cn = &core.cn;
    let open = cn.open()?;
    open.access.check(Action::Read, Resource::Queue(name))?;
    let mut table = arguments::of_frame(frame, Of::Consumer);
    if !source.declared
        && let Some(lease) = arguments::of_frame(frame, Of::Queue).remove("x-lease")
    {
        table.push("x-lease", lease); // nothing is declared: it is the subscription's own
    }
    let bytes = table.encode().map_err(|error| {
        Refusal::from(Failure::precondition_failed(format!("arguments: {error}")))
    })?;
    let asked = declared::consume_arguments(open.host.name(), name, TableView::new(&bytes))?;
    let options = ConsumerOptions {
        tag: String::new(),
        prefetch: if prefetch == 0 {
            most
        } else {
            prefetch.min(most)
        },
        no_ack: mode == AckMode::Auto,
        priority: asked.priority,
        owner: cn.owner,
        in_turn: true,
        lease: asked.lease,
        ..ConsumerOptions::default()
    };
    let slot = core.subscriptions.next_slot();
    let notify = (
        cn.wakeups.clone() as Arc<dyn wherry_engine::Notify>,
        slot.into(),
    );
    let consumer = source.queue.consume(options, Some(notify))?;
    let mut subscription = Subscription::new(
        consumer,
        &key,
        id.as_deref(),
        &cn.session,
        cn.escapes(),
        mode,
    );
    subscription.has_lease = asked.lease.is_some();
    subscription.durable_queue = source.durable.then(|| name.into());
    core.add_subscription(subscription);
    Ok(Then::Receipt(source.ticket))
}

/// UNSUBSCRIBE. What was delivered can be settled still. With `durable:true` the queue of a durable subscription goes, too.
pub(super) fn unsubscribe(core: &mut Core, frame: &Frame<'_>) -> Result<Then, Refusal> {
    let by_destination = || Some((format!("Q_{}", frame.header("destination")?), None));
    let Some((key, id)) = key_of(core, frame).or_else(by_destination) else {
        return Err(Refusal::new(
            "Missing destination or id",
            "UNSUBSCRIBE must include a 'destination' or 'id' header",
        ));
    };
    let Some(slot) = core.subscriptions.find(&key) else {
        let what = match id {
            Some(id) => format!("id='{}'", shown(&id)),
            None => format!("destination='{}'", shown(&key[2..])),
        };
        return Err(Refusal::new(
            "No subscription found",
            format!(
                "UNSUBSCRIBE must refer to an existing subscription.\nSubscription to \"{what}\" not found.\n"
            ),
        ));
    };
    let durable_queue = core
        .subscriptions
        .get_mut(slot)
        .and_then(|subscription| subscription.durable_queue.take());
    core.withdraw(slot);
    core.subscriptions.retire(slot);
    let ticket = match durable_queue {
        Some(name) if endpoint::is_durable(frame)? => endpoint::delete(&mut core.cn, &name)?,
        _ => Ticket::NONE,
    };
    core.subscriptions.tidy(slot);
    Ok(Then::Receipt(ticket))
}
