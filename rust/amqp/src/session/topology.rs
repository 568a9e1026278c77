//! Classes exchange and queue: declare, delete, bind, purge.
//!
//! Checks come in RabbitMQ's order, so that the same mistake gets the same answer. An answer about something durable is
//! given when that is on stable storage. Names lose carriage returns and line feeds where RabbitMQ strips them.

use std::borrow::Cow;
use std::sync::Arc;

use wherry_engine::table::{BYTES_MAX, DEPTH_MAX, Table, TableView, ValueView};
use wherry_engine::{Error, ExchangeKind, Queue, Ticket, VirtualHost};
use wherry_session::{Action, Failure, Replies, Resource, arguments};

use super::channel::Channel;
use super::connection::Connection;
use super::failing::{access_refused, not_found, precondition_failed, resource_locked};
use crate::codec::Method;

/// The flags of a declaration.
#[derive(Clone, Copy)]
pub(super) struct Flags {
    pub(super) passive: bool,
    pub(super) durable: bool,
    /// Of exchanges: internal. Of queues: exclusive.
    pub(super) special: bool,
    pub(super) auto_delete: bool,
    pub(super) no_wait: bool,
}

/// A binding as asked for: to `destination`, from `source`.
#[derive(Clone, Copy)]
pub(super) struct Binding<'a> {
    pub(super) destination: &'a str,
    pub(super) source: &'a str,
    pub(super) routing_key: &'a str,
    pub(super) arguments: TableView<'a>,
    pub(super) bind: bool,
    pub(super) no_wait: bool,
}

fn stripped(name: &str) -> Cow<'_, str> {
    if name.contains(['\r', '\n']) {
        Cow::Owned(name.replace(['\r', '\n'], ""))
    } else {
        Cow::Borrowed(name)
    }
}

fn answer(ch: &Channel, cn: &mut Connection, method: &Method<'_>, no_wait: bool, ticket: Ticket) {
    if !no_wait {
        let durable = cn.front.broker().durable();
        cn.output
            .send_when_durable(ch.number, method, ticket, durable);
    }
}

fn refuse_default(exchange: &str) -> Result<(), Failure> {
    if exchange.is_empty() {
        return Err(access_refused(
            "operation not permitted on the default exchange",
        ));
    }
    Ok(())
}

/// The queue that a method means: the one declared last on the channel if it names none.
pub(super) fn named<'a>(ch: &'a Channel, queue: &'a str) -> Result<&'a str, Failure> {
    if !queue.is_empty() {
        return Ok(queue);
    }
    if ch.last_queue.is_empty() {
        return Err(not_found("no previously declared queue"));
    }
    Ok(&ch.last_queue)
}

/// The queue of that name, unless it is another connection's.
pub(super) fn find_queue(
    cn: &Connection,
    host: &VirtualHost,
    name: &str,
) -> Result<Arc<Queue>, Failure> {
    let queue = host.queue(name)?;
    queue.check_owner(cn.owner)?;
    Ok(queue)
}

/// `exchange.declare`.
pub(super) fn declare_exchange(
    ch: &Channel,
    cn: &mut Connection,
    name: &str,
    kind: &str,
    flags: Flags,
    table: TableView<'_>,
) -> Result<(), Failure> {
    let host = cn.host()?;
    let name = &*stripped(name);
    let mut ticket = Ticket::NONE;
    if flags.passive {
        refuse_default(name)?;
        host.exchange(name)?;
    } else {
        check_depth(cn, table)?;
        let access = &cn.open()?.access;
        let options = arguments::exchange_options(
            host.name(),
            name,
            kind,
            flags.durable,
            flags.auto_delete,
            flags.special,
            table,
        )?;
        refuse_default(name)?;
        access.check(Action::Configure, Resource::Exchange(name))?;
        if host.exchange(name).is_err()
            && let Some(alternate) = &options.alternate_exchange
        {
            access.check(Action::Read, Resource::Exchange(name))?;
            access.check(Action::Write, Resource::Exchange(alternate))?;
        }
        (_, ticket) = host.declare_exchange(name, options)?;
    }
    answer(ch, cn, &Method::ExchangeDeclareOk {}, flags.no_wait, ticket);
    Ok(())
}

/// `exchange.delete`: of one that is not there succeeds.
pub(super) fn delete_exchange(
    ch: &Channel,
    cn: &mut Connection,
    name: &str,
    if_unused: bool,
    no_wait: bool,
) -> Result<(), Failure> {
    let host = cn.host()?;
    let name = &*stripped(name);
    refuse_default(name)?;
    if name.starts_with("amq.") {
        return Err(access_refused(format!(
            "deletion of system exchange '{name}' in vhost '{}' not allowed",
            host.name()
        )));
    }
    cn.open()?
        .access
        .check(Action::Configure, Resource::Exchange(name))?;
    let ticket = match host.delete_exchange(name, if_unused) {
        Err(Error::UnknownExchange { .. }) => Ticket::NONE,
        other => other?,
    };
    answer(ch, cn, &Method::ExchangeDeleteOk {}, no_wait, ticket);
    Ok(())
}

/// `exchange.bind`, `exchange.unbind`.
pub(super) fn bind_exchange(
    ch: &Channel,
    cn: &mut Connection,
    b: Binding<'_>,
) -> Result<(), Failure> {
    let host = cn.host()?;
    check_binding(cn, &host, Resource::Exchange(b.destination), &b)?;
    let table = owned(cn, b.arguments)?;
    let ticket = if b.bind {
        check_match(&host, &b)?;
        host.bind_exchange(b.destination, b.source, b.routing_key, table)?
    } else {
        unless_gone(host.unbind_exchange(b.destination, b.source, b.routing_key, table))?
    };
    let method = if b.bind {
        Method::ExchangeBindOk {}
    } else {
        Method::ExchangeUnbindOk {}
    };
    answer(ch, cn, &method, b.no_wait, ticket);
    Ok(())
}

/// `queue.bind`, `queue.unbind`.
pub(super) fn bind_queue(ch: &Channel, cn: &mut Connection, b: Binding<'_>) -> Result<(), Failure> {
    let host = cn.host()?;
    let queue = named(ch, b.destination)?;
    // RabbitMQ's shortcut: neither named means the queue by its own name.
    let routing_key = if b.destination.is_empty() && b.routing_key.is_empty() {
        queue
    } else {
        b.routing_key
    };
    let b = Binding { routing_key, ..b };
    check_binding(cn, &host, Resource::Queue(queue), &b)?;
    let table = owned(cn, b.arguments)?;
    if let Ok(queue) = host.queue(queue) {
        queue.check_owner(cn.owner)?;
    }
    let ticket = if b.bind {
        check_match(&host, &b)?;
        host.bind_queue(queue, b.source, routing_key, table)?
    } else {
        unless_gone(host.unbind_queue(queue, b.source, routing_key, table))?
    };
    let method = if b.bind {
        Method::QueueBindOk {}
    } else {
        Method::QueueUnbindOk {}
    };
    answer(ch, cn, &method, b.no_wait, ticket);
    Ok(())
}

/// Tables in tables, as far as the server allows. The codec has found the levels that it can read.
pub(super) fn check_depth(cn: &Connection, table: TableView<'_>) -> Result<(), Failure> {
    let depth_max = cn.limits().table_depth_max as usize;
    if depth_max >= DEPTH_MAX || table.validate(depth_max, BYTES_MAX).is_ok() {
        return Ok(());
    }
    Err(precondition_failed(format!(
        "table of more than {depth_max} levels"
    )))
}

fn owned(cn: &Connection, arguments: TableView<'_>) -> Result<Table, Failure> {
    check_depth(cn, arguments)?;
    arguments
        .to_table()
        .map_err(|error| precondition_failed(format!("arguments: {error}")))
}

/// The source, which is the first that is looked for, and `x-match` if it is a headers exchange: the engine knows that
/// too, and not RabbitMQ's words for what it is not.
fn check_match(host: &VirtualHost, b: &Binding<'_>) -> Result<(), Failure> {
    if host.exchange(b.source)?.kind() != ExchangeKind::Headers {
        return Ok(());
    }
    match b.arguments.get("x-match") {
        None | Some(ValueView::Str(b"all" | b"any" | b"all-with-x" | b"any-with-x")) => Ok(()),
        Some(ValueView::Str(other)) => Err(precondition_failed(format!(
            "Invalid x-match field value <<\"{}\">>; expected all, any, all-with-x, or any-with-x",
            String::from_utf8_lossy(other)
        ))),
        Some(other) => {
            let value = match other {
                ValueView::Void => " (value undefined)".into(),
                ValueView::Bool(value) => format!(" (value {value})"),
                other => other
                    .as_integer()
                    .map_or_else(String::new, |number| format!(" (value {number})")),
            };
            Err(precondition_failed(format!(
                "Invalid x-match field type {}{value}; expected longstr",
                arguments::type_word(&other)
            )))
        }
    }
}

/// To remove a binding of something that is gone is to have removed it.
fn unless_gone(outcome: Result<Ticket, Error>) -> Result<Ticket, Failure> {
    match outcome {
        Err(Error::UnknownExchange { .. } | Error::UnknownQueue { .. }) => Ok(Ticket::NONE),
        other => Ok(other?),
    }
}

/// Write on the destination, read on the source, and for a topic exchange read on the key; neither is the default
/// exchange.
fn check_binding(
    cn: &Connection,
    host: &VirtualHost,
    destination: Resource<'_>,
    b: &Binding<'_>,
) -> Result<(), Failure> {
    let access = &cn.open()?.access;
    access.check(Action::Write, destination)?;
    if let Resource::Exchange(name) = destination {
        refuse_default(name)?;
    }
    refuse_default(b.source)?;
    access.check(Action::Read, Resource::Exchange(b.source))?;
    if host
        .exchange(b.source)
        .is_ok_and(|source| source.kind() == ExchangeKind::Topic)
    {
        access.check_topic(Action::Read, b.source, b.routing_key)?;
    }
    Ok(())
}

fn declared(ch: &mut Channel, cn: &mut Connection, queue: &Queue, no_wait: bool, ticket: Ticket) {
    let method = Method::QueueDeclareOk {
        queue: queue.name(),
        message_count: saturated(queue.message_count()),
        consumer_count: saturated(queue.consumer_count() as u64),
    };
    answer(ch, cn, &method, no_wait, ticket);
    ch.last_queue = queue.name().into();
}

fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// `queue.declare`.
pub(super) fn declare_queue(
    ch: &mut Channel,
    cn: &mut Connection,
    name: &str,
    flags: Flags,
    table: TableView<'_>,
) -> Result<(), Failure> {
    let host = cn.host()?;
    let name = &*stripped(name);
    if Replies::is_reserved(name) {
        return declare_reply(ch, cn, &host, name, flags.no_wait);
    }
    if flags.passive {
        let queue = find_queue(cn, &host, name)?;
        queue.touch(); // to ask for it is to use it, as in RabbitMQ
        declared(ch, cn, &queue, flags.no_wait, Ticket::NONE);
        return Ok(());
    }
    let existing = if name.is_empty() {
        None
    } else {
        host.queue(name).ok()
    };
    let exists = existing.is_some();
    if !exists && name.starts_with("amq.") {
        return Err(access_refused(format!(
            "queue name '{name}' contains reserved prefix 'amq.*'"
        )));
    }
    // A name of the server's choice is subject to permissions as any other.
    let by_server = name.is_empty();
    let generated;
    let name = if by_server {
        if arguments::is_quorum(table) {
            return Err(precondition_failed(
                "Cannot declare a server-named queue for type rabbit_quorum_queue",
            ));
        }
        generated = host.generated_queue_name();
        &generated
    } else {
        name
    };
    let access = &cn.open()?.access;
    access.check(Action::Configure, Resource::Queue(name))?;
    // After the permission: who has none is not told whose the queue is.
    if let Some(queue) = existing
        && queue.options().exclusive.is_some() != flags.special
    {
        queue.check_owner(cn.owner)?; // somebody else's
        return Err(resource_locked(format!(
            "cannot obtain exclusive access to locked queue '{name}' in vhost '{}'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.",
            host.name()
        )));
    }
    check_depth(cn, table)?;
    let options = arguments::queue_options(
        host.name(),
        name,
        flags.durable,
        flags.special.then_some(cn.owner),
        flags.auto_delete,
        table,
    )?;
    if !exists {
        let queues_now = || host.queues().len() as u64;
        cn.front.check_queue_room(host.name(), name, queues_now)?;
        access.check_dead_letters(name, &options, |queue| host.queue(queue).is_ok())?;
    }
    let (queue, ticket) = if by_server {
        host.declare_queue_generated(name, options)?
    } else {
        host.declare_queue(name, options)?
    };
    if flags.special {
        cn.exclusive.remember(&host, queue.name());
    }
    declared(ch, cn, &queue, flags.no_wait, ticket);
    Ok(())
}

/// The short name of direct replies exists always, a long one while its consumer does.
fn declare_reply(
    ch: &mut Channel,
    cn: &mut Connection,
    host: &VirtualHost,
    name: &str,
    no_wait: bool,
) -> Result<(), Failure> {
    if name != wherry_session::REPLY_TO && !cn.front.replies().exists(name) {
        return Err(not_found(format!(
            "no queue '{name}' in vhost '{}'",
            host.name()
        )));
    }
    let method = Method::QueueDeclareOk {
        queue: name,
        message_count: 0,
        consumer_count: 1,
    };
    answer(ch, cn, &method, no_wait, Ticket::NONE);
    Ok(())
}

/// `queue.purge`.
pub(super) fn purge_queue(
    ch: &Channel,
    cn: &mut Connection,
    name: &str,
    no_wait: bool,
) -> Result<(), Failure> {
    let host = cn.host()?;
    let name = named(ch, name)?;
    cn.open()?
        .access
        .check(Action::Read, Resource::Queue(name))?;
    let (count, ticket) = find_queue(cn, &host, name)?.purge()?;
    let method = Method::QueuePurgeOk {
        message_count: saturated(count),
    };
    answer(ch, cn, &method, no_wait, ticket);
    Ok(())
}

/// `queue.delete`: of one that is not there succeeds.
pub(super) fn delete_queue(
    ch: &Channel,
    cn: &mut Connection,
    name: &str,
    (if_unused, if_empty): (bool, bool),
    no_wait: bool,
) -> Result<(), Failure> {
    let host = cn.host()?;
    let name = named(ch, name)?;
    cn.open()?
        .access
        .check(Action::Configure, Resource::Queue(name))?;
    if let Ok(queue) = host.queue(name) {
        queue.check_owner(cn.owner)?;
    }
    let (count, ticket) = match host.delete_queue(name, if_unused, if_empty) {
        Err(Error::UnknownQueue { .. }) => (0, Ticket::NONE),
        Err(error @ Error::PreconditionFailed(_)) => {
            return Err(precondition_failed(error.wire_text()));
        }
        other => other?,
    };
    cn.exclusive.forget(name);
    let method = Method::QueueDeleteOk {
        message_count: saturated(count),
    };
    answer(ch, cn, &method, no_wait, ticket);
    Ok(())
}
