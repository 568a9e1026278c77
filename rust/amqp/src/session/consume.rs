//! Consumers of a channel: consume, cancel, get, and the limits of qos.

use std::sync::Arc;

use wherry_engine::table::TableView;
use wherry_engine::{ConsumerOptions, Queue};
use wherry_session::{Action, Failure, REPLY_TO, Resource, Turn, arguments};

use super::channel::{Channel, Holder, REPLY_SLOT, Role};
use super::connection::Connection;
use super::deliver::{delivery_guess, properties_of};
use super::failing::{not_allowed, not_implemented, precondition_failed};
use super::reply::Reply;
use super::topology::{check_depth, find_queue, named};
use super::wakeups;
use crate::codec::Method;

/// The flags of `basic.consume`; `no_local` has no effect, as in RabbitMQ.
#[derive(Clone, Copy)]
pub(super) struct Flags {
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    pub(super) no_wait: bool,
}

/// `basic.consume`.
pub(super) fn consume(
    ch: &mut Channel,
    cn: &mut Connection,
    queue: &str,
    tag: &str,
    flags: Flags,
    table: TableView<'_>,
) -> Result<(), Failure> {
    if queue == REPLY_TO {
        return consume_replies(ch, cn, tag, flags);
    }
    let host = cn.host()?;
    let name: Box<str> = named(ch, queue)?.into();
    cn.open()?
        .access
        .check(Action::Read, Resource::Queue(&name))?;
    check_tag(ch, cn, tag)?;
    check_depth(cn, table)?;
    let asked = arguments::consume_arguments(host.name(), &name, table)?;
    let queue = find_queue(cn, &host, &name)?;
    let slot = ch.holders.next_number();
    let options = ConsumerOptions {
        tag: tag.to_string(),
        prefetch: ch.prefetch,
        no_ack: flags.no_ack,
        priority: asked.priority,
        exclusive: flags.exclusive,
        owner: cn.owner,
        in_turn: true,
        lease: asked.lease,
        ..ConsumerOptions::default()
    };
    let token = wakeups::token(ch.number, slot);
    let consumer = queue.consume(options, Some((cn.wakeups.clone(), token)))?;
    if let Some(shared) = &ch.prefetch_global {
        consumer.share_prefetch(shared);
    }
    let mut holder = new_holder(consumer, Role::Consuming, flags.no_ack);
    holder.has_lease = asked.lease.is_some();
    let tag = holder.tag.clone();
    if !flags.no_wait {
        cn.output
            .send(ch.number, &Method::BasicConsumeOk { consumer_tag: &tag });
    }
    let slot = ch.holders.add(holder);
    ch.consumers.insert(tag, slot);
    ch.prefetch_live = None;
    ch.list(cn, slot);
    Ok(())
}

fn check_tag(ch: &Channel, cn: &Connection, tag: &str) -> Result<(), Failure> {
    let taken = ch.reply.as_ref().is_some_and(|reply| &*reply.tag == tag);
    if !tag.is_empty() && (taken || ch.consumers.contains_key(tag)) {
        return Err(not_allowed(format!(
            "attempt to reuse consumer tag '{tag}'"
        )));
    }
    let most = cn.limits().consumers_per_channel_max;
    if ch.consumers.len() >= most as usize {
        return Err(not_allowed(format!(
            "reached maximum ({most}) of consumers per channel"
        )));
    }
    Ok(())
}

fn new_holder(consumer: Arc<wherry_engine::Consumer>, role: Role, no_ack: bool) -> Holder {
    Holder {
        role,
        turn: Turn::Armed,
        tag: consumer.tag().into(),
        no_ack,
        has_lease: false,
        delivery_bytes: delivery_guess(0, 0),
        consumer,
    }
}

fn consume_replies(
    ch: &mut Channel,
    cn: &mut Connection,
    tag: &str,
    flags: Flags,
) -> Result<(), Failure> {
    if !flags.no_ack {
        return Err(precondition_failed("reply consumer cannot acknowledge"));
    }
    if ch.reply.is_some() {
        return Err(precondition_failed("reply consumer already set"));
    }
    check_tag(ch, cn, tag)?;
    let token = wakeups::token(ch.number, REPLY_SLOT);
    let bytes_max = cn.limits().reply_inbox_bytes_max;
    let inbox = cn
        .front
        .replies()
        .open(cn.wakeups.clone(), token, bytes_max)?;
    let tag: Box<str> = if tag.is_empty() {
        // Unguessable, since it is part of the inbox's name, and therefore nobody else's.
        let name = inbox.name();
        format!("amq.ctag-{}", &name[name.len() - 22..]).into()
    } else {
        tag.into()
    };
    if !flags.no_wait {
        cn.output
            .send(ch.number, &Method::BasicConsumeOk { consumer_tag: &tag });
    }
    ch.reply = Some(Reply {
        inbox,
        tag,
        listed: false,
    });
    Ok(())
}

/// `basic.cancel`: of a tag that is not there succeeds. Deliveries that were written can be settled still. Returns the
/// slot, whose deliveries that were not written must go back.
pub(super) fn cancel(ch: &mut Channel, tag: &str) -> Option<u32> {
    if ch.reply.as_ref().is_some_and(|reply| &*reply.tag == tag) {
        ch.reply = None;
        return None;
    }
    ch.consumers.remove(tag)
}

/// `basic.get`.
pub(super) fn get(
    ch: &mut Channel,
    cn: &mut Connection,
    queue: &str,
    no_ack: bool,
) -> Result<(), Failure> {
    let host = cn.host()?;
    let name = named(ch, queue)?;
    cn.open()?
        .access
        .check(Action::Read, Resource::Queue(name))?;
    let queue = find_queue(cn, &host, name)?;
    let slot = match ch.getter(&queue, no_ack) {
        Some(slot) => slot,
        None => add_getter(ch, cn, &queue, no_ack)?,
    };
    let mut taken = Vec::new();
    // RabbitMQ hands a message to a consumer when it is published, so a get does not see it.
    if queue.is_awaited() {
        queue.touch();
    } else if ch.handouts.live() < cn.limits().unacked_per_channel_max as usize
        && let Some(holder) = ch.holder(slot)
    {
        holder.consumer.take(1, &mut taken);
    }
    let Some(delivery) = taken.pop() else {
        cn.output.send(ch.number, &Method::BasicGetEmpty {});
        return Ok(());
    };
    let delivery_tag = if no_ack {
        ch.handouts.skip()
    } else {
        ch.handouts.push(slot, delivery.tag)
    };
    let counts = ch
        .holder(slot)
        .is_some_and(|holder| holder.consumer.queue().counts_attempts());
    let properties = properties_of(&delivery, counts);
    cn.traffic.messages_out += 1;
    let frame_max = cn.frame_max;
    cn.output.send_content(
        ch.number,
        &Method::BasicGetOk {
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange: delivery.message.exchange(),
            routing_key: delivery.message.routing_key(),
            message_count: u32::try_from(queue.message_count()).unwrap_or(u32::MAX),
        },
        &properties,
        delivery.message.body(),
        frame_max,
    );
    Ok(())
}

fn add_getter(
    ch: &mut Channel,
    cn: &Connection,
    queue: &Arc<Queue>,
    no_ack: bool,
) -> Result<u32, Failure> {
    let options = ConsumerOptions {
        no_ack,
        owner: cn.owner,
        hidden: true,
        ..ConsumerOptions::default()
    };
    let consumer = queue.consume(options, None)?;
    Ok(ch.add_getter(new_holder(consumer, Role::Getting, no_ack)))
}

/// `basic.qos`. A limit for each consumer is for those that start from now on; if none starts, it is for those that
/// run, from the next settlement or tick on. So clients that change the limit of running consumers are served as well as
/// those that give each consumer its own.
pub(super) fn qos(
    ch: &mut Channel,
    cn: &mut Connection,
    prefetch_size: u32,
    prefetch: u16,
    global: bool,
) -> Result<(), Failure> {
    if prefetch_size != 0 {
        return Err(not_implemented(format!(
            "prefetch_size!=0 ({prefetch_size})"
        )));
    }
    if global {
        ch.set_prefetch_global(prefetch.into());
    } else {
        ch.set_prefetch_global(0); // as in RabbitMQ: the limit of the channel holds beside it only if it is set later
        ch.prefetch = prefetch.into();
        ch.prefetch_live = (!ch.consumers.is_empty()).then_some(prefetch.into());
    }
    cn.output.send(ch.number, &Method::BasicQosOk {});
    Ok(())
}
