//! The table of all methods: classes and methods of AMQP 0-9-1 (specification, section 1.2 and 1.3) with RabbitMQ's extensions
//! (exchange.bind, basic.nack, confirm.select, connection.blocked, connection.update-secret, and the deprecated access class).
//!
//! One entry a method, in the order of the bytes on the wire:
//!
//! ```text
//! class, method, "name", Variant [reserved fields] { fields } bits { flags of one octet } { fields } then [reserved fields];
//! ```
//!
//! Every part behind the variant may be absent. The names are the specification's, except `virtual_host` and `kind` (of an exchange), which are
//! abbreviated or a Rust keyword there.

use wherry_engine::table::TableView;

use super::errors::{EncodeError, MethodError};
use super::wire::{Field, Reader, write_bits};

macro_rules! methods {
    ($(
        $(#[$doc:meta])*
        $class:literal, $method:literal, $name:literal, $variant:ident
        $([$($lead:ty),*])?
        $({ $($field:ident: $type:ty),* })?
        $(bits { $($bit:ident),* } $({ $($after:ident: $after_type:ty),* })?)?
        $(then [$($tail:ty),*])?;
    )*) => {
        /// A method with its fields.
        ///
        /// Short strings are `&str`, long strings `&[u8]`; tables are checked when they come out of [`Method::decode`]. Reserved
        /// fields are left out.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the fields are the specification's")]
        pub enum Method<'a> {
            $($(#[$doc])* $variant {
                $($($field: $type,)*)?
                $($($bit: bool,)* $($($after: $after_type,)*)?)?
            },)*
        }

        impl<'a> Method<'a> {
            /// Class id and method id.
            pub const fn id(&self) -> (u16, u16) {
                match self {
                    $(Self::$variant { .. } => ($class, $method),)*
                }
            }

            /// The specification's name, for example `basic.publish`.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)*
                }
            }

            /// Reads what follows the ids.
            #[inline]
            pub(super) fn read_fields(
                class_id: u16,
                method_id: u16,
                reader: &mut Reader<'a>,
            ) -> Result<Self, MethodError> {
                match (class_id, method_id) {
                    $(($class, $method) => {
                        $($(<$lead as Field>::read(reader)?;)*)?
                        $($(let $field = <$type as Field>::read(reader)?;)*)?
                        $(
                            let [$($bit),*] = reader.bits()?;
                            $($(let $after = <$after_type as Field>::read(reader)?;)*)?
                        )?
                        $($(<$tail as Field>::read(reader)?;)*)?
                        Ok(Self::$variant {
                            $($($field,)*)?
                            $($($bit,)* $($($after,)*)?)?
                        })
                    })*
                    _ => Err(MethodError::Unknown { class_id, method_id }),
                }
            }

            /// Appends what follows the ids.
            pub(super) fn write_fields(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                match self {
                    $(Self::$variant {
                        $($($field,)*)?
                        $($($bit,)* $($($after,)*)?)?
                    } => {
                        $($(<$lead>::default().write(out)?;)*)?
                        $($($field.write(out)?;)*)?
                        $(
                            write_bits([$(*$bit),*], out);
                            $($($after.write(out)?;)*)?
                        )?
                        $($(<$tail>::default().write(out)?;)*)?
                    })*
                }
                Ok(())
            }
        }
    };
}

methods! {
    /// The server begins.
    10, 10, "connection.start", ConnectionStart {
        version_major: u8, version_minor: u8, server_properties: TableView<'a>, mechanisms: &'a [u8], locales: &'a [u8]
    };
    /// The client chooses a mechanism and says who it is.
    10, 11, "connection.start-ok", ConnectionStartOk {
        client_properties: TableView<'a>, mechanism: &'a str, response: &'a [u8], locale: &'a str
    };
    /// The mechanism asks again.
    10, 20, "connection.secure", ConnectionSecure { challenge: &'a [u8] };
    /// The client answers.
    10, 21, "connection.secure-ok", ConnectionSecureOk { response: &'a [u8] };
    /// The server proposes limits: channels, bytes of a frame, heartbeat in seconds; 0 is none.
    10, 30, "connection.tune", ConnectionTune { channel_max: u16, frame_max: u32, heartbeat: u16 };
    /// The client decides on the limits.
    10, 31, "connection.tune-ok", ConnectionTuneOk { channel_max: u16, frame_max: u32, heartbeat: u16 };
    /// The client enters a virtual host.
    10, 40, "connection.open", ConnectionOpen { virtual_host: &'a str } then [&'a str, u8];
    /// The connection is open.
    10, 41, "connection.open-ok", ConnectionOpenOk [&'a str];
    /// Either side ends the connection; the ids are those of the method at fault, or 0.
    10, 50, "connection.close", ConnectionClose { reply_code: u16, reply_text: &'a str, class_id: u16, method_id: u16 };
    /// The connection is closed.
    10, 51, "connection.close-ok", ConnectionCloseOk;
    /// RabbitMQ: the server takes no messages for now.
    10, 60, "connection.blocked", ConnectionBlocked { reason: &'a str };
    /// RabbitMQ: the server takes messages again.
    10, 61, "connection.unblocked", ConnectionUnblocked;
    /// RabbitMQ: the client renews its credentials.
    10, 70, "connection.update-secret", ConnectionUpdateSecret { new_secret: &'a [u8], reason: &'a str };
    /// RabbitMQ: the credentials are accepted.
    10, 71, "connection.update-secret-ok", ConnectionUpdateSecretOk;

    /// Opens the channel.
    20, 10, "channel.open", ChannelOpen [&'a str];
    /// The channel is open.
    20, 11, "channel.open-ok", ChannelOpenOk [&'a [u8]];
    /// Stops or resumes deliveries.
    20, 20, "channel.flow", ChannelFlow bits { active };
    /// Deliveries are stopped or resumed.
    20, 21, "channel.flow-ok", ChannelFlowOk bits { active };
    /// Either side ends the channel; the ids are those of the method at fault, or 0.
    20, 40, "channel.close", ChannelClose { reply_code: u16, reply_text: &'a str, class_id: u16, method_id: u16 };
    /// The channel is closed.
    20, 41, "channel.close-ok", ChannelCloseOk;

    /// AMQP 0-8: asks for access. Some clients still do.
    30, 10, "access.request", AccessRequest { realm: &'a str } bits { exclusive, passive, active, write, read };
    /// AMQP 0-8: access is granted.
    30, 11, "access.request-ok", AccessRequestOk { ticket: u16 };

    /// Creates an exchange, or asks whether it exists.
    40, 10, "exchange.declare", ExchangeDeclare [u16] { exchange: &'a str, kind: &'a str }
        bits { passive, durable, auto_delete, internal, no_wait } { arguments: TableView<'a> };
    /// The exchange exists.
    40, 11, "exchange.declare-ok", ExchangeDeclareOk;
    /// Deletes an exchange.
    40, 20, "exchange.delete", ExchangeDelete [u16] { exchange: &'a str } bits { if_unused, no_wait };
    /// The exchange is gone.
    40, 21, "exchange.delete-ok", ExchangeDeleteOk;
    /// RabbitMQ: binds `destination`, an exchange, to `source`.
    40, 30, "exchange.bind", ExchangeBind [u16] { destination: &'a str, source: &'a str, routing_key: &'a str }
        bits { no_wait } { arguments: TableView<'a> };
    /// RabbitMQ: the binding exists.
    40, 31, "exchange.bind-ok", ExchangeBindOk;
    /// RabbitMQ: removes a binding between exchanges.
    40, 40, "exchange.unbind", ExchangeUnbind [u16] { destination: &'a str, source: &'a str, routing_key: &'a str }
        bits { no_wait } { arguments: TableView<'a> };
    /// RabbitMQ: the binding is gone. The id is 51, not 41.
    40, 51, "exchange.unbind-ok", ExchangeUnbindOk;

    /// Creates a queue, or asks whether it exists.
    50, 10, "queue.declare", QueueDeclare [u16] { queue: &'a str }
        bits { passive, durable, exclusive, auto_delete, no_wait } { arguments: TableView<'a> };
    /// The queue exists, with this many ready messages.
    50, 11, "queue.declare-ok", QueueDeclareOk { queue: &'a str, message_count: u32, consumer_count: u32 };
    /// Binds a queue to an exchange.
    50, 20, "queue.bind", QueueBind [u16] { queue: &'a str, exchange: &'a str, routing_key: &'a str }
        bits { no_wait } { arguments: TableView<'a> };
    /// The binding exists.
    50, 21, "queue.bind-ok", QueueBindOk;
    /// Deletes the ready messages of a queue.
    50, 30, "queue.purge", QueuePurge [u16] { queue: &'a str } bits { no_wait };
    /// The messages are gone.
    50, 31, "queue.purge-ok", QueuePurgeOk { message_count: u32 };
    /// Deletes a queue.
    50, 40, "queue.delete", QueueDelete [u16] { queue: &'a str } bits { if_unused, if_empty, no_wait };
    /// The queue is gone, with this many ready messages.
    50, 41, "queue.delete-ok", QueueDeleteOk { message_count: u32 };
    /// Removes a binding. It has no `no_wait`.
    50, 50, "queue.unbind", QueueUnbind [u16] {
        queue: &'a str, exchange: &'a str, routing_key: &'a str, arguments: TableView<'a>
    };
    /// The binding is gone.
    50, 51, "queue.unbind-ok", QueueUnbindOk;

    /// Limits unacknowledged deliveries.
    60, 10, "basic.qos", BasicQos { prefetch_size: u32, prefetch_count: u16 } bits { global };
    /// The limit holds.
    60, 11, "basic.qos-ok", BasicQosOk;
    /// Starts a consumer.
    60, 20, "basic.consume", BasicConsume [u16] { queue: &'a str, consumer_tag: &'a str }
        bits { no_local, no_ack, exclusive, no_wait } { arguments: TableView<'a> };
    /// The consumer exists under this tag.
    60, 21, "basic.consume-ok", BasicConsumeOk { consumer_tag: &'a str };
    /// Ends a consumer; RabbitMQ's server sends it too.
    60, 30, "basic.cancel", BasicCancel { consumer_tag: &'a str } bits { no_wait };
    /// The consumer is gone.
    60, 31, "basic.cancel-ok", BasicCancelOk { consumer_tag: &'a str };
    /// Publishes the message that follows.
    60, 40, "basic.publish", BasicPublish [u16] { exchange: &'a str, routing_key: &'a str } bits { mandatory, immediate };
    /// Gives back the message that follows.
    60, 50, "basic.return", BasicReturn {
        reply_code: u16, reply_text: &'a str, exchange: &'a str, routing_key: &'a str
    };
    /// Delivers the message that follows. Servers use [`write_deliver`](super::write_deliver).
    60, 60, "basic.deliver", BasicDeliver { consumer_tag: &'a str, delivery_tag: u64 } bits { redelivered }
        { exchange: &'a str, routing_key: &'a str };
    /// Asks for one message.
    60, 70, "basic.get", BasicGet [u16] { queue: &'a str } bits { no_ack };
    /// Hands out the message that follows; `message_count` are still ready.
    60, 71, "basic.get-ok", BasicGetOk { delivery_tag: u64 } bits { redelivered }
        { exchange: &'a str, routing_key: &'a str, message_count: u32 };
    /// There is no message.
    60, 72, "basic.get-empty", BasicGetEmpty [&'a str];
    /// Settles deliveries; RabbitMQ's server confirms publishes with it.
    60, 80, "basic.ack", BasicAck { delivery_tag: u64 } bits { multiple };
    /// Gives a delivery back.
    60, 90, "basic.reject", BasicReject { delivery_tag: u64 } bits { requeue };
    /// As [`Method::BasicRecover`], without an answer.
    60, 100, "basic.recover-async", BasicRecoverAsync bits { requeue };
    /// Asks for all unacknowledged deliveries of the channel again.
    60, 110, "basic.recover", BasicRecover bits { requeue };
    /// The deliveries are back in their queues.
    60, 111, "basic.recover-ok", BasicRecoverOk;
    /// RabbitMQ: gives deliveries back; the server refuses publishes with it.
    60, 120, "basic.nack", BasicNack { delivery_tag: u64 } bits { multiple, requeue };

    /// RabbitMQ: asks for confirms of publishes.
    85, 10, "confirm.select", ConfirmSelect bits { no_wait };
    /// RabbitMQ: publishes will be confirmed.
    85, 11, "confirm.select-ok", ConfirmSelectOk;

    /// Makes the channel transactional.
    90, 10, "tx.select", TxSelect;
    /// The channel is transactional.
    90, 11, "tx.select-ok", TxSelectOk;
    /// Commits publishes and acknowledgements.
    90, 20, "tx.commit", TxCommit;
    /// They are committed.
    90, 21, "tx.commit-ok", TxCommitOk;
    /// Drops publishes and acknowledgements.
    90, 30, "tx.rollback", TxRollback;
    /// They are dropped.
    90, 31, "tx.rollback-ok", TxRollbackOk;
}
