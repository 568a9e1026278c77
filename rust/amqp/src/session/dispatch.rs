//! Which method of a channel is worked off where.

use wherry_engine::Outcome;
use wherry_session::Failure;

use super::channel::Channel;
use super::connection::Connection;
use super::failing::{channel_error, not_implemented, precondition_failed};
use super::state::{Then, unimplemented_method};
use super::topology::{Binding, Flags};
use super::{consume, publish, settle, topology, tx};
use crate::codec::Method;

/// Works off a method of an open channel that expects one. `following` is what was received behind its frame.
#[inline]
pub(super) fn method(
    ch: &mut Channel,
    cn: &mut Connection,
    method: &Method<'_>,
    following: &[u8],
) -> Result<Then, Failure> {
    match *method {
        Method::BasicPublish {
            exchange,
            routing_key,
            mandatory,
            immediate,
        } => {
            let asked = (exchange, routing_key, mandatory, immediate);
            return Ok(Then::Used(publish::publish(ch, cn, asked, following)?));
        }
        Method::BasicAck {
            delivery_tag,
            multiple,
        } => settle::settle(ch, cn, delivery_tag, multiple, Outcome::Ack)?,
        Method::BasicNack {
            delivery_tag,
            multiple,
            requeue,
        } => settle::settle(ch, cn, delivery_tag, multiple, Outcome::Nack { requeue })?,
        Method::BasicReject {
            delivery_tag,
            requeue,
        } => settle::settle(ch, cn, delivery_tag, false, Outcome::Reject { requeue })?,
        Method::BasicGet { queue, no_ack } => consume::get(ch, cn, queue, no_ack)?,
        Method::BasicCancel {
            consumer_tag,
            no_wait,
        } => {
            cn.stint.slow(&mut cn.pause);
            let slot = consume::cancel(ch, consumer_tag);
            return Ok(Then::Cancel { slot, no_wait });
        }
        Method::ChannelClose { .. } => {
            cn.stint.slow(&mut cn.pause);
            return Ok(Then::CloseChannel);
        }
        _ => {
            cn.stint.slow(&mut cn.pause);
            rare(ch, cn, method)?;
        }
    }
    Ok(Then::Used(0))
}

/// Methods that nobody sends by the thousand.
fn rare(ch: &mut Channel, cn: &mut Connection, method: &Method<'_>) -> Result<(), Failure> {
    match *method {
        Method::ChannelOpen {} => return Err(channel_error("second 'channel.open' seen")),
        Method::ChannelFlow { active: true } => {
            cn.output
                .send(ch.number, &Method::ChannelFlowOk { active: true });
        }
        Method::ChannelFlow { active: false } => return Err(not_implemented("active=false")),
        Method::AccessRequest { .. } => {
            cn.output
                .send(ch.number, &Method::AccessRequestOk { ticket: 1 });
        }
        Method::ExchangeDeclare {
            exchange,
            kind,
            passive,
            durable,
            auto_delete,
            internal,
            no_wait,
            arguments,
        } => {
            let flags = Flags {
                passive,
                durable,
                special: internal,
                auto_delete,
                no_wait,
            };
            topology::declare_exchange(ch, cn, exchange, kind, flags, arguments)?;
        }
        Method::ExchangeDelete {
            exchange,
            if_unused,
            no_wait,
        } => topology::delete_exchange(ch, cn, exchange, if_unused, no_wait)?,
        Method::ExchangeBind {
            destination,
            source,
            routing_key,
            no_wait,
            arguments,
        }
        | Method::ExchangeUnbind {
            destination,
            source,
            routing_key,
            no_wait,
            arguments,
        } => {
            let binding = Binding {
                destination,
                source,
                routing_key,
                arguments,
                bind: matches!(method, Method::ExchangeBind { .. }),
                no_wait,
            };
            topology::bind_exchange(ch, cn, binding)?;
        }
        Method::QueueDeclare {
            queue,
            passive,
            durable,
            exclusive,
            auto_delete,
            no_wait,
            arguments,
        } => {
            let flags = Flags {
                passive,
                durable,
                special: exclusive,
                auto_delete,
                no_wait,
            };
            topology::declare_queue(ch, cn, queue, flags, arguments)?;
        }
        Method::QueueBind {
            queue,
            exchange,
            routing_key,
            no_wait,
            arguments,
        } => {
            let binding = Binding {
                destination: queue,
                source: exchange,
                routing_key,
                arguments,
                bind: true,
                no_wait,
            };
            topology::bind_queue(ch, cn, binding)?;
        }
        Method::QueueUnbind {
            queue,
            exchange,
            routing_key,
            arguments,
        } => {
            let binding = Binding {
                destination: queue,
                source: exchange,
                routing_key,
                arguments,
                bind: false,
                no_wait: false,
            };
            topology::bind_queue(ch, cn, binding)?;
        }
        Method::QueuePurge { queue, no_wait } => topology::purge_queue(ch, cn, queue, no_wait)?,
        Method::QueueDelete {
            queue,
            if_unused,
            if_empty,
            no_wait,
        } => topology::delete_queue(ch, cn, queue, (if_unused, if_empty), no_wait)?,
        Method::BasicQos {
            prefetch_size,
            prefetch_count,
            global,
        } => consume::qos(ch, cn, prefetch_size, prefetch_count, global)?,
        Method::BasicConsume {
            queue,
            consumer_tag,
            no_local: _,
            no_ack,
            exclusive,
            no_wait,
            arguments,
        } => {
            let flags = consume::Flags {
                no_ack,
                exclusive,
                no_wait,
            };
            consume::consume(ch, cn, queue, consumer_tag, flags, arguments)?;
        }
        Method::BasicRecover { requeue } | Method::BasicRecoverAsync { requeue } => {
            if !requeue {
                return Err(not_implemented("requeue=false"));
            }
            settle::recover(ch, cn)?;
            if matches!(method, Method::BasicRecover { .. }) {
                cn.output.send(ch.number, &Method::BasicRecoverOk {});
            }
        }
        Method::ConfirmSelect { no_wait } => {
            if ch.tx.is_some() {
                return Err(precondition_failed("cannot switch from tx to confirm mode"));
            }
            ch.confirms.select();
            if !no_wait {
                cn.output.send(ch.number, &Method::ConfirmSelectOk {});
            }
        }
        Method::TxSelect {} => tx::select(ch, cn)?,
        Method::TxCommit {} => tx::commit(ch, cn)?,
        Method::TxRollback {} => tx::rollback(ch, cn)?,
        _ => return Err(unimplemented_method()),
    }
    Ok(())
}
