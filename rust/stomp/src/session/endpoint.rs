//! From destinations to exchanges and queues, with everything that has to be declared on the way.
//!
//! Permissions are asked for as AMQP would ask: configure to declare, write to publish and to bind a queue, read to consume
//! and to bind from an exchange.

use std::sync::Arc;

use wherry_engine::table::{Table, TableView};
use wherry_engine::{Error, ExchangeKind, Queue, QueueOptions, Ticket, VirtualHost};
use wherry_session::{
    Access, Action, Failure, FailureKind, Resource, arguments as declared, random_name,
};

use super::arguments::{self, Of};
use super::connection::Connection;
use super::headers::flag;
use super::refusal::Refusal;
use crate::codec::Frame;

/// How a queue is to be declared.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) exclusive: bool,
}

/// `true` or `false` in a header, or what holds without it.
pub(super) fn flag_of(frame: &Frame<'_>, name: &str) -> Result<Option<bool>, Refusal> {
    frame.header(name).map(|text| flag(name, &text)).transpose()
}

impl Life {
    /// Of `/queue/N`: lasting and everybody's, unless the frame says otherwise.
    fn shared(frame: &Frame<'_>) -> Result<Life, Refusal> {
        Ok(Life {
            durable: true,
            auto_delete: flag_of(frame, "auto-delete")?.unwrap_or(false),
            exclusive: flag_of(frame, "exclusive")?.unwrap_or(false),
        })
    }

    /// Of the queue behind a subscription to a topic or exchange: the subscription's own, unless it is to be durable. One
    /// that the client names can be found by others, who may want to share it.
    pub(super) fn of_subscription(frame: &Frame<'_>) -> Result<Life, Refusal> {
        let durable = is_durable(frame)?;
        let named = frame.find("x-queue-name").is_some();
        Ok(Life {
            durable,
            auto_delete: flag_of(frame, "auto-delete")?.unwrap_or(!durable),
            exclusive: flag_of(frame, "exclusive")?.unwrap_or(!durable && !named),
        })
    }
}

/// Makes sure that there is the queue of `/queue/N`. One that this connection has declared is taken as it is by a frame that
/// says nothing of queues: arguments stand in the SUBSCRIBE, and the SENDs behind it need not repeat them.
pub(super) fn declare_shared(
    cn: &mut Connection,
    frame: &Frame<'_>,
    name: &str,
) -> Result<(Arc<Queue>, Ticket), Refusal> {
    if !arguments::any_of_queue(frame)
        && let Some(queue) = cn.declared(name)
    {
        cn.open()?
            .access
            .check(Action::Configure, Resource::Queue(name))?;
        return Ok((queue, Ticket::NONE));
    }
    let life = Life::shared(frame)?;
    let (queue, ticket) = declare(cn, frame, name, life)?;
    cn.remember_declared(&queue);
    Ok((queue, ticket))
}

/// Whether a subscription asks to outlast its connection. `persistent` is the older word.
pub(super) fn is_durable(frame: &Frame<'_>) -> Result<bool, Refusal> {
    Ok(match flag_of(frame, "durable")? {
        Some(durable) => durable,
        None => flag_of(frame, "persistent")?.unwrap_or(false),
    })
}

/// Makes sure that a queue exists as asked for; an empty name lets the broker choose one.
pub(super) fn declare(
    cn: &mut Connection,
    frame: &Frame<'_>,
    name: &str,
    life: Life,
) -> Result<(Arc<Queue>, Ticket), Refusal> {
    let table = arguments::of_frame(frame, Of::Queue);
    let bytes = table.encode().map_err(|error| {
        Refusal::from(Failure::precondition_failed(format!("arguments: {error}")))
    })?;
    let open = cn.open()?;
    let (host, access) = (open.host.clone(), &open.access);
    let exists = !name.is_empty() && host.queue(name).is_ok();
    if !exists && name.starts_with("amq.") {
        return Err(Failure::new(
            FailureKind::AccessRefused,
            format!("queue name '{name}' contains reserved prefix 'amq.*'"),
        )
        .into());
    }
    // A name of the server's choice is subject to permissions as any other.
    let by_server = name.is_empty();
    let generated;
    let name = if by_server {
        generated = host.generated_queue_name();
        &generated
    } else {
        name
    };
    access.check(Action::Configure, Resource::Queue(name))?;
    let options = declared::queue_options(
        host.name(),
        name,
        life.durable,
        life.exclusive.then_some(cn.owner),
        life.auto_delete,
        TableView::new(&bytes),
    )?;
    if !exists {
        check_new_queue(cn, &host, access, name, &options)?;
    }
    let (queue, ticket) = if by_server {
        host.declare_queue_generated(name, options)?
    } else {
        host.declare_queue(name, options)?
    };
    if life.exclusive {
        cn.exclusive.remember(&host, queue.name());
    }
    Ok((queue, ticket))
}

fn check_new_queue(
    cn: &Connection,
    host: &VirtualHost,
    access: &Access,
    name: &str,
    options: &QueueOptions,
) -> Result<(), Refusal> {
    let queues_now = || host.queues().len() as u64;
    cn.front.check_queue_room(host.name(), name, queues_now)?;
    access.check_dead_letters(name, options, |queue| host.queue(queue).is_ok())?;
    Ok(())
}

/// A queue of that name that is there already, and not another connection's.
pub(super) fn find(cn: &Connection, name: &str) -> Result<Arc<Queue>, Refusal> {
    let queue = cn.open()?.host.queue(name)?;
    queue.check_owner(cn.owner)?;
    Ok(queue)
}

/// The name of the queue behind a subscription to a topic or exchange.
pub(super) fn subscription_queue(
    frame: &Frame<'_>,
    destination: &str,
    durable: bool,
) -> Result<String, Refusal> {
    if let Some(name) = frame.header("x-queue-name") {
        return Ok(name.into_owned());
    }
    if !durable {
        return Ok(format!("stomp-subscription-{}", random_name()?));
    }
    match frame.header("id") {
        Some(id) => Ok(durable_queue(destination, &id)),
        None => Err(Refusal::new(
            "Missing Header",
            "Header 'id' is required for durable subscriptions",
        )),
    }
}

/// The same name for the same subscription, whenever and by whomever it is made. FNV-1a with 128 bits: who may use the names
/// can make two subscriptions share a queue, which he could by `x-queue-name` as well.
fn durable_queue(destination: &str, id: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    // No destination has a NUL, so that no two pairs run together into the same bytes.
    let bytes = destination.bytes().chain([0]).chain(id.bytes());
    let hash = bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    });
    format!("stomp-subscription-{hash:032x}")
}

/// Binds a subscription's queue to its exchange.
pub(super) fn bind(
    cn: &Connection,
    queue: &Queue,
    exchange: &str,
    pattern: &str,
) -> Result<Ticket, Refusal> {
    let open = cn.open()?;
    if exchange.is_empty() {
        return Err(Failure::new(
            FailureKind::AccessRefused,
            "operation not permitted on the default exchange",
        )
        .into());
    }
    let access = &open.access;
    access.check(Action::Write, Resource::Queue(queue.name()))?;
    access.check(Action::Read, Resource::Exchange(exchange))?;
    if open.host.exchange(exchange)?.kind() == ExchangeKind::Topic {
        access.check_topic(Action::Read, exchange, pattern)?;
    }
    Ok(open
        .host
        .bind_queue(queue.name(), exchange, pattern, Table::default())?)
}

/// Deletes the queue of a durable subscription. One that is gone is deleted.
pub(super) fn delete(cn: &mut Connection, name: &str) -> Result<Ticket, Refusal> {
    let open = cn.open()?;
    open.access
        .check(Action::Configure, Resource::Queue(name))?;
    if let Ok(queue) = open.host.queue(name) {
        queue.check_owner(cn.owner)?;
    }
    let ticket = match open.host.delete_queue(name, false, false) {
        Ok((_, ticket)) => ticket,
        Err(Error::UnknownQueue { .. }) => Ticket::NONE,
        Err(error) => return Err(error.into()),
    };
    cn.exclusive.forget(name);
    Ok(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_subscription_finds_its_queue_again() {
        let name = durable_queue("/topic/a", "1");
        // Queues with these names are on disks.
        assert_eq!(name, "stomp-subscription-af2afbc80334560fc462b74bc917822e");
        assert_ne!(name, durable_queue("/topic/a1", ""));
        assert_ne!(name, durable_queue("/topic/a", "2"));
    }
}
