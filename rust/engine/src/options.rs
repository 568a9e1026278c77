//! What a user asks for when declaring exchanges, queues and consumers, and the names and reasons of the limits.

use std::time::Duration;

use crate::dedup::Dedup;
use crate::error::{Error, Refusal};
use crate::retry::RetryPolicy;
use crate::routing::ExchangeKind;
use crate::table::{Table, Value};

/// Who owns an exclusive queue: a connection, or the embedding program.
pub type OwnerId = u64;

/// Names of exchanges, queues and routing keys are short strings on every wire we know of: one length byte.
pub const NAME_BYTES_MAX: usize = 255;

/// Body and properties of one message. RabbitMQ's default is 16 MiB, its hard limit 512 MiB; ours is chosen so that a
/// message always fits a journal record with room for its routing.
pub const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// Encoded properties of one message; a frame of AMQP's default frame size holds as much.
pub const PROPERTIES_BYTES_MAX: usize = 128 << 10;

/// The longest time that can be asked for anywhere: a thousand years in nanoseconds would overflow, ten do not, and
/// RabbitMQ refuses above 2^32-1 milliseconds (49 days) for the same reason: a typing error.
pub const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Largest length limit: field tables have no unsigned 64-bit numbers.
pub const LENGTH_MAX: u64 = i64::MAX as u64;

/// What happens to a publish (or to the oldest message) when a queue is at its length limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest ready message makes room, and is dead-lettered with reason `maxlen`.
    #[default]
    DropHead,
    /// The new message is refused.
    RejectPublish,
    /// The new message is refused and dead-lettered.
    RejectPublishDeadLetter,
}

impl Overflow {
    /// RabbitMQ's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Overflow::DropHead => "drop-head",
            Overflow::RejectPublish => "reject-publish",
            Overflow::RejectPublishDeadLetter => "reject-publish-dlx",
        }
    }
}

impl std::str::FromStr for Overflow {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "drop-head" => Ok(Overflow::DropHead),
            "reject-publish" => Ok(Overflow::RejectPublish),
            "reject-publish-dlx" => Ok(Overflow::RejectPublishDeadLetter),
            other => Err(Error::InvalidArgument(format!(
                "unknown overflow '{other}': use drop-head, reject-publish or reject-publish-dlx"
            ))),
        }
    }
}

/// How an exchange is declared.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeOptions {
    /// How it routes.
    pub kind: ExchangeKind,
    /// The word it was declared with, if that is not its kind's own: `x-delayed-message`, which is an exchange of the
    /// kind that its argument `x-delayed-type` names.
    pub type_name: Option<String>,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted when its last binding goes.
    pub auto_delete: bool,
    /// Takes messages from other exchanges only.
    pub internal: bool,
    /// Where messages go that no binding takes.
    pub alternate_exchange: Option<String>,
    /// Remembers the ids of messages and takes each once.
    pub dedup: Option<Dedup>,
    /// Arguments that the engine keeps but does not read.
    pub arguments: Table,
}

impl Default for ExchangeOptions {
    fn default() -> Self {
        ExchangeOptions {
            kind: ExchangeKind::Direct,
            type_name: None,
            durable: true,
            auto_delete: false,
            internal: false,
            alternate_exchange: None,
            dedup: None,
            arguments: Table::default(),
        }
    }
}

/// How a queue is declared.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueOptions {
    /// Survives a restart, and with it its persistent messages.
    pub durable: bool,
    /// Belongs to this owner only.
    pub exclusive: Option<OwnerId>,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// Header, property (`message-id`, `correlation-id`, `type`, `app-id`, `user-id`, `reply-to`) or `routing-key`
    /// whose value is the message's group.
    pub group_by: Option<String>,
    /// What to do with a message whose handling failed.
    pub retry: Option<RetryPolicy>,
    /// Highest priority, 1 to 255; none means a plain queue.
    pub max_priority: Option<u8>,
    /// Time that a message may wait.
    pub message_ttl: Option<Duration>,
    /// The queue is deleted after this time without consumers, gets or redeclaration.
    pub expires: Option<Duration>,
    /// Ready messages at most.
    pub max_length: Option<u64>,
    /// Bytes of ready messages at most.
    pub max_length_bytes: Option<u64>,
    /// What happens at either limit.
    pub overflow: Overflow,
    /// Where dead messages go; `Some("")` is the default exchange.
    pub dead_letter_exchange: Option<String>,
    /// Their routing key; none keeps the message's own.
    pub dead_letter_routing_key: Option<String>,
    /// Redeliveries before a message is dead-lettered with reason `delivery_limit`.
    pub delivery_limit: Option<u32>,
    /// One consumer at a time gets messages, in order of registration.
    pub single_active_consumer: bool,
    /// A delivery not settled in this time returns to its place.
    pub lease: Option<Duration>,
    /// Remembers the ids of messages and takes each once.
    pub dedup: Option<Dedup>,
    /// Arguments that the engine keeps but does not read.
    pub arguments: Table,
}

impl Default for QueueOptions {
    fn default() -> Self {
        QueueOptions {
            durable: true,
            exclusive: None,
            auto_delete: false,
            group_by: None,
            retry: None,
            max_priority: None,
            message_ttl: None,
            expires: None,
            max_length: None,
            max_length_bytes: None,
            overflow: Overflow::DropHead,
            dead_letter_exchange: None,
            dead_letter_routing_key: None,
            delivery_limit: None,
            single_active_consumer: false,
            lease: None,
            dedup: None,
            arguments: Table::default(),
        }
    }
}

/// How a consumer is registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Its name; empty lets the broker choose.
    pub tag: String,
    /// Unsettled deliveries at most; 0 means no limit.
    pub prefetch: u32,
    /// Deliveries count as settled when they are handed out.
    pub no_ack: bool,
    /// Higher ones are served first while they have room.
    pub priority: i32,
    /// Refuses, and excludes, any other consumer.
    pub exclusive: bool,
    /// Who consumes: matters for exclusive queues.
    pub owner: OwnerId,
    /// For `get`: not counted as a consumer, and never the single active one.
    pub hidden: bool,
    /// Served in turn with the others of its kind, one message each, instead of taking all it can (queue/dispatch.rs).
    pub in_turn: bool,
    /// A delivery not settled in this time returns to its place; none leaves it to the queue.
    pub lease: Option<Duration>,
}

pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Error> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::InvalidArgument(format!(
            "{what} of {} bytes: the limit is {NAME_BYTES_MAX}",
            name.len()
        )));
    }
    Ok(())
}

pub(crate) fn check_duration(
    what: &str,
    value: Option<Duration>,
    zero_allowed: bool,
) -> Result<(), Error> {
    match value {
        Some(d) if d > DURATION_MAX => Err(Error::InvalidArgument(format!(
            "{what} of {} s: the limit is ten years",
            d.as_secs()
        ))),
        Some(d) if d.is_zero() && !zero_allowed => Err(Error::InvalidArgument(format!(
            "{what} of zero: give a positive time, or leave it out"
        ))),
        _ => Ok(()),
    }
}

fn dedup_of(table: &Table) -> Option<Dedup> {
    match table.get("dedup") {
        Some(Value::Table(dedup)) => Some(Dedup::from_table(dedup)),
        _ => None,
    }
}

impl QueueOptions {
    /// Refuses what can never work, before anything is changed.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_duration("message_ttl", self.message_ttl, true)?;
        check_duration("expires", self.expires, false)?;
        check_duration("lease", self.lease, false)?;
        if self.max_priority == Some(0) {
            return Err(Error::InvalidArgument(
                "max_priority of 0: use 1 to 255, or leave it out for a plain queue".into(),
            ));
        }
        if self.max_priority.is_some() && self.group_by.is_some() {
            return Err(Error::InvalidArgument(
                "max_priority with group_by: a group is strictly first in, first out, so that a priority could not be honoured; use one of them".into(),
            ));
        }
        if self.max_length.is_some_and(|n| n > LENGTH_MAX)
            || self.max_length_bytes.is_some_and(|n| n > LENGTH_MAX)
        {
            return Err(Error::InvalidArgument(format!(
                "max_length or max_length_bytes above {LENGTH_MAX}: leave it out for no limit"
            )));
        }
        if let Some(name) = &self.group_by
            && (name.is_empty() || name.len() > NAME_BYTES_MAX)
        {
            return Err(Error::InvalidArgument(
                "group_by: name a header or property of 1 to 255 bytes".into(),
            ));
        }
        if let Some(name) = &self.dead_letter_exchange {
            check_name("dead_letter_exchange", name)?;
        }
        if let Some(key) = &self.dead_letter_routing_key {
            check_name("dead_letter_routing_key", key)?;
            if self.dead_letter_exchange.is_none() {
                return Err(Error::PreconditionFailed(Refusal::advised(
                    "invalid arg 'x-dead-letter-routing-key': a routing key without dead_letter_exchange has no exchange to go to",
                    "; give both",
                )));
            }
        }
        if let Some(dedup) = &self.dedup {
            dedup.validate()?;
        }
        if let Some(retry) = &self.retry {
            retry.validate()?;
            if retry.dead_letter.is_some() && self.dead_letter_exchange.is_some() {
                return Err(Error::InvalidArgument(
                    "retry.dead_letter and dead_letter_exchange both say where dead messages go: give one of them"
                        .into(),
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn is_quorum(&self) -> bool {
        self.arguments.get("x-queue-type").and_then(Value::as_str) == Some("quorum")
    }

    /// Whether its delivery limit is the one that a quorum queue has unless something is said.
    pub(crate) fn has_default_delivery_limit(&self) -> bool {
        self.is_quorum() && self.arguments.get("x-delivery-limit").is_none()
    }

    /// Where dead messages of this queue go: exchange and routing key (none keeps the message's own).
    pub(crate) fn dead_letter(&self) -> Option<(&str, Option<&str>)> {
        if let Some(exchange) = &self.dead_letter_exchange {
            return Some((exchange, self.dead_letter_routing_key.as_deref()));
        }
        let queue = self.retry.as_ref()?.dead_letter.as_ref()?;
        Some(("", Some(queue)))
    }

    /// As written in the journal. Names are RabbitMQ's where it has one.
    /// For the journal. What is as by default is left out: queues are many.
    pub(crate) fn to_table(&self) -> Table {
        let mut table = Table::default();
        let nanos = |d: Duration| Value::I64(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
        for (name, flag) in [
            ("durable", self.durable),
            ("auto-delete", self.auto_delete),
            ("single-active-consumer", self.single_active_consumer),
        ] {
            if flag {
                table.insert(name, Value::Bool(true));
            }
        }
        if let Some(owner) = self.exclusive {
            table.insert("exclusive", Value::U64(owner));
        }
        let mut text = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                table.insert(name, Value::Str(value.clone().into_bytes()));
            }
        };
        text("group-by", &self.group_by);
        text("dead-letter-exchange", &self.dead_letter_exchange);
        text("dead-letter-routing-key", &self.dead_letter_routing_key);
        if let Some(retry) = &self.retry {
            table.insert("retry", Value::Table(retry.to_table()));
        }
        if let Some(dedup) = &self.dedup {
            table.insert("dedup", Value::Table(dedup.to_table()));
        }
        if let Some(levels) = self.max_priority {
            table.insert("max-priority", Value::U8(levels));
        }
        if let Some(ttl) = self.message_ttl {
            table.insert("message-ttl-ns", nanos(ttl));
        }
        if let Some(time) = self.expires {
            table.insert("expires-ns", nanos(time));
        }
        if let Some(time) = self.lease {
            table.insert("lease-ns", nanos(time));
        }
        if let Some(n) = self.max_length {
            table.insert("max-length", Value::U64(n));
        }
        if let Some(n) = self.max_length_bytes {
            table.insert("max-length-bytes", Value::U64(n));
        }
        if let Some(n) = self.delivery_limit {
            table.insert("delivery-limit", Value::U32(n));
        }
        if self.overflow != Overflow::default() {
            table.insert("overflow", Value::Str(self.overflow.as_str().into()));
        }
        if !self.arguments.is_empty() {
            table.insert("arguments", Value::Table(self.arguments.clone()));
        }
        table
    }

    pub(crate) fn from_table(table: &Table) -> Result<Self, Error> {
        let text = |name: &str| match table.get(name) {
            Some(Value::Str(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        };
        let flag = |name: &str| matches!(table.get(name), Some(Value::Bool(true)));
        let count = |name: &str| {
            table
                .get(name)?
                .as_integer()
                .and_then(|n| u64::try_from(n).ok())
        };
        let time = |name: &str| count(name).map(Duration::from_nanos);
        Ok(QueueOptions {
            durable: flag("durable"),
            exclusive: count("exclusive"),
            auto_delete: flag("auto-delete"),
            group_by: text("group-by"),
            retry: match table.get("retry") {
                Some(Value::Table(t)) => Some(RetryPolicy::from_table(t)?),
                _ => None,
            },
            dedup: dedup_of(table),
            max_priority: count("max-priority").and_then(|n| u8::try_from(n).ok()),
            message_ttl: time("message-ttl-ns"),
            expires: time("expires-ns"),
            max_length: count("max-length"),
            max_length_bytes: count("max-length-bytes"),
            overflow: text("overflow").as_deref().unwrap_or("drop-head").parse()?,
            dead_letter_exchange: text("dead-letter-exchange"),
            dead_letter_routing_key: text("dead-letter-routing-key"),
            delivery_limit: count("delivery-limit").and_then(|n| u32::try_from(n).ok()),
            single_active_consumer: flag("single-active-consumer"),
            lease: time("lease-ns"),
            arguments: match table.get("arguments") {
                Some(Value::Table(t)) => t.clone(),
                _ => Table::default(),
            },
        })
    }
}

impl ExchangeOptions {
    /// The type as a listing shows it.
    pub fn type_name(&self) -> &str {
        self.type_name.as_deref().unwrap_or(self.kind.as_str())
    }

    pub(crate) fn to_table(&self) -> Table {
        let mut table = Table::default();
        table.insert("type", Value::Str(self.kind.as_str().into()));
        if let Some(word) = &self.type_name {
            table.insert("declared-type", Value::Str(word.clone().into_bytes()));
        }
        table.insert("durable", Value::Bool(self.durable));
        table.insert("auto-delete", Value::Bool(self.auto_delete));
        table.insert("internal", Value::Bool(self.internal));
        if let Some(name) = &self.alternate_exchange {
            table.insert("alternate-exchange", Value::Str(name.clone().into_bytes()));
        }
        if let Some(dedup) = &self.dedup {
            table.insert("dedup", Value::Table(dedup.to_table()));
        }
        table.insert("arguments", Value::Table(self.arguments.clone()));
        table
    }

    pub(crate) fn from_table(table: &Table) -> Result<Self, Error> {
        let text = |name: &str| match table.get(name) {
            Some(Value::Str(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        };
        let flag = |name: &str| matches!(table.get(name), Some(Value::Bool(true)));
        let kind = text("type").unwrap_or_default();
        Ok(ExchangeOptions {
            kind: kind
                .parse()
                .map_err(|_| Error::InvalidArgument(format!("unknown exchange type '{kind}'")))?,
            type_name: text("declared-type"),
            durable: flag("durable"),
            auto_delete: flag("auto-delete"),
            internal: flag("internal"),
            alternate_exchange: text("alternate-exchange"),
            dedup: dedup_of(table),
            arguments: match table.get("arguments") {
                Some(Value::Table(t)) => t.clone(),
                _ => Table::default(),
            },
        })
    }
}
