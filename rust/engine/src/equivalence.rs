//! Whether a declaration asks for what is there already, in RabbitMQ's words: people and programs read them.
//!
//! Asked of RabbitMQ 3.10: flags come before arguments, and arguments in the order of the lists below, which differs
//! with the queue's type. Integers are equal whatever their width; anything else differs if its type does. Only the
//! arguments named here are compared: `x-consumer-timeout` and what the broker does not know may change freely, and
//! `x-queue-type` "classic" is the same as none. An argument that was given as it is by default is still not none.
//!
//! Arguments are compared as they were received, which the options keep (`arguments`); who declares by options alone
//! gets what a client would have sent. So both kinds of declarations meet.
//!
//! What policies make of a declaration is not looked at, since clients that declare know nothing of it.
//!
//! Otherwise than there, `x-delivery-limit` is compared for all types, since here all of them honour it.

use std::time::Duration;

use crate::dedup::{Dedup, DedupKey};
use crate::error::{Error, Refusal};
use crate::options::{ExchangeOptions, Overflow, QueueOptions};
use crate::retry::RetryPolicy;
use crate::table::Value;

const CLASSIC: &[&str] = &[
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
    "x-delivery-limit",
];

const QUORUM: &[&str] = &[
    "x-queue-type",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-max-priority",
    "x-overflow",
    "x-single-active-consumer",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-message-ttl",
];

/// Our own.
const OURS: &[&str] = &[
    "x-group-by",
    "x-lease",
    "x-dedup-header",
    "x-dedup-window",
    "x-dedup-size",
];

/// What is compared: its name, and whose it is.
struct Subject<'a> {
    kind: &'static str,
    name: &'a str,
    virtual_host: &'a str,
}

impl Subject<'_> {
    fn differs(&self, arg: &str, received: &str, current: &str) -> Error {
        let Subject {
            kind,
            name,
            virtual_host,
        } = self;
        Error::PreconditionFailed(Refusal::advised(
            format!(
                "inequivalent arg '{arg}' for {kind} '{name}' in vhost '{virtual_host}': received {received} but current is {current}"
            ),
            "; declare it as it is, or delete it first",
        ))
    }

    fn same(
        &self,
        arg: &str,
        received: impl ToString + PartialEq,
        current: impl ToString + PartialEq,
    ) -> Result<(), Error> {
        let (received, current) = (received.to_string(), current.to_string());
        if received == current {
            return Ok(());
        }
        Err(self.differs(arg, &format!("'{received}'"), &format!("'{current}'")))
    }

    fn same_argument(
        &self,
        arg: &str,
        received: Option<Value>,
        current: Option<Value>,
    ) -> Result<(), Error> {
        let typed =
            |value: &Value| format!("the value '{}' of type '{}'", shown(value), type_of(value));
        match (received, current) {
            (None, None) => Ok(()),
            (Some(received), None) => Err(self.differs(arg, &typed(&received), "none")),
            (None, Some(current)) => Err(self.differs(arg, "none", &typed(&current))),
            (Some(received), Some(current)) if are_equal(&received, &current) => Ok(()),
            (Some(received), Some(current)) => Err(self.differs(
                arg,
                &format!("'{}'", shown(&received)),
                &format!("'{}'", shown(&current)),
            )),
        }
    }
}

fn are_equal(a: &Value, b: &Value) -> bool {
    match (a.as_integer(), b.as_integer()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// RabbitMQ's name of a value's type.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::I8(_) => "byte",
        Value::U8(_) => "unsignedbyte",
        Value::I16(_) => "short",
        Value::U16(_) => "unsignedshort",
        Value::I32(_) => "signedint",
        Value::U32(_) => "unsignedint",
        Value::I64(_) | Value::U64(_) => "long",
        Value::F32(_) => "float",
        Value::F64(_) => "double",
        Value::Decimal { .. } => "decimal",
        Value::Str(_) => "longstr",
        Value::Bytes(_) => "binary",
        Value::Array(_) => "array",
        Value::Table(_) => "table",
        Value::Timestamp(_) => "timestamp",
        Value::Void => "void",
    }
}

fn shown(value: &Value) -> String {
    if let Some(n) = value.as_integer() {
        return n.to_string();
    }
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::F32(n) => format!("{n:?}"),
        Value::F64(n) => format!("{n:?}"),
        Value::Str(text) | Value::Bytes(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Timestamp(n) => n.to_string(),
        Value::Void => "undefined".into(),
        other => format!("{other:?}"),
    }
}

/// A number as clients send it: in four bytes if it fits.
fn number(n: u64) -> Value {
    i32::try_from(n).map_or_else(|_| Value::U64(n), Value::I32)
}

fn millis(time: Duration) -> Value {
    if time.subsec_nanos().is_multiple_of(1_000_000) {
        number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    } else {
        Value::F64(time.as_secs_f64() * 1000.0)
    }
}

fn text(text: &str) -> Value {
    Value::Str(text.into())
}

/// An argument as it was received, or as a client would have sent it.
fn argument(options: &QueueOptions, name: &str) -> Option<Value> {
    if let Some(value) = options.arguments.get(name) {
        return Some(value.clone()).filter(|v| name != "x-queue-type" || *v != text("classic"));
    }
    let dedup = options.dedup.as_ref();
    match name {
        "x-expires" => options.expires.map(millis),
        "x-message-ttl" => options.message_ttl.map(millis),
        "x-dead-letter-exchange" => options.dead_letter_exchange.as_deref().map(text),
        "x-dead-letter-routing-key" => options.dead_letter_routing_key.as_deref().map(text),
        "x-max-length" => options.max_length.map(number),
        "x-max-length-bytes" => options.max_length_bytes.map(number),
        "x-max-priority" => options.max_priority.map(|n| number(n.into())),
        "x-overflow" => {
            (options.overflow != Overflow::DropHead).then(|| text(options.overflow.as_str()))
        }
        "x-single-active-consumer" => options.single_active_consumer.then_some(Value::Bool(true)),
        // That a quorum queue has a limit by default is not an argument.
        "x-delivery-limit" if options.is_quorum() => None,
        "x-delivery-limit" => options.delivery_limit.map(|n| number(n.into())),
        "x-group-by" => options.group_by.as_deref().map(text),
        "x-lease" => options.lease.map(millis),
        _ => dedup.and_then(|dedup| dedup_argument(dedup, name)),
    }
}

fn dedup_argument(dedup: &Dedup, name: &str) -> Option<Value> {
    match name {
        "x-dedup-header" => match &dedup.by {
            DedupKey::Default => None,
            DedupKey::Named(name) => Some(text(name)),
        },
        "x-dedup-window" => dedup.window.map(millis),
        "x-dedup-size" => dedup.size.map(number),
        _ => None,
    }
}

fn retry_shown(policy: Option<&RetryPolicy>) -> String {
    policy.map_or_else(
        || "none".into(),
        |RetryPolicy {
             kind,
             attempts,
             first,
             factor,
             maximum,
             jitter,
             dead_letter,
         }| {
            format!(
                "the value '{}, attempts {attempts}, first {first:?}, factor {factor}, maximum {maximum:?}, jitter {jitter}, dead_letter {dead_letter:?}'",
                kind.as_str()
            )
        },
    )
}

/// # Errors
/// [`Error::PreconditionFailed`] names the first difference.
pub(crate) fn exchange(
    name: &str,
    virtual_host: &str,
    received: &ExchangeOptions,
    current: &ExchangeOptions,
) -> Result<(), Error> {
    let subject = Subject {
        kind: "exchange",
        name,
        virtual_host,
    };
    subject.same("type", received.type_name(), current.type_name())?;
    subject.same("durable", received.durable, current.durable)?;
    subject.same("auto_delete", received.auto_delete, current.auto_delete)?;
    subject.same("internal", received.internal, current.internal)?;
    let alternate = |options: &ExchangeOptions| options.alternate_exchange.as_deref().map(text);
    subject.same_argument(
        "alternate-exchange",
        alternate(received),
        alternate(current),
    )?;
    let (kind, declared) = (received.kind.as_str(), current.kind.as_str());
    subject.same("x-delayed-type", kind, declared)?;
    for arg in OURS {
        let argument = |options: &ExchangeOptions| {
            let dedup = options.dedup.as_ref()?;
            dedup_argument(dedup, arg)
        };
        subject.same_argument(arg, argument(received), argument(current))?;
    }
    Ok(())
}

/// # Errors
/// [`Error::PreconditionFailed`] names the first difference.
pub(crate) fn queue(
    name: &str,
    virtual_host: &str,
    received: &QueueOptions,
    current: &QueueOptions,
) -> Result<(), Error> {
    let subject = Subject {
        kind: "queue",
        name,
        virtual_host,
    };
    subject.same("durable", received.durable, current.durable)?;
    subject.same("auto_delete", received.auto_delete, current.auto_delete)?;
    let list = if current.is_quorum() { QUORUM } else { CLASSIC };
    for arg in list.iter().chain(OURS) {
        subject.same_argument(arg, argument(received, arg), argument(current, arg))?;
    }
    if received.retry != current.retry {
        let (received, current) = (received.retry.as_ref(), current.retry.as_ref());
        return Err(subject.differs("x-retry", &retry_shown(received), &retry_shown(current)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    fn with(name: &str, value: Value) -> QueueOptions {
        let mut arguments = Table::default();
        arguments.insert(name, value);
        QueueOptions {
            arguments,
            ..Default::default()
        }
    }

    fn told(received: &QueueOptions, current: &QueueOptions) -> String {
        queue("q", "/", received, current).unwrap_err().wire_text()
    }

    /// Word for word what RabbitMQ 3.10.8 answers.
    #[test]
    fn differences_are_told_in_rabbitmqs_words() {
        let plain = QueueOptions::default();
        let transient = QueueOptions {
            durable: false,
            ..plain.clone()
        };
        let kept = QueueOptions {
            auto_delete: true,
            ..plain.clone()
        };
        let cases = [
            (&transient, &plain, "durable", "'false'", "'true'"),
            (&plain, &kept, "auto_delete", "'false'", "'true'"),
            (
                &plain,
                &with("x-max-priority", Value::I32(10)),
                "x-max-priority",
                "none",
                "the value '10' of type 'signedint'",
            ),
            (
                &with("x-max-length", Value::I64(5)),
                &plain,
                "x-max-length",
                "the value '5' of type 'long'",
                "none",
            ),
            (
                &with("x-message-ttl", Value::I32(2000)),
                &with("x-message-ttl", Value::I32(1000)),
                "x-message-ttl",
                "'2000'",
                "'1000'",
            ),
            (
                &with("x-overflow", text("drop-head")),
                &plain,
                "x-overflow",
                "the value 'drop-head' of type 'longstr'",
                "none",
            ),
            (
                &with("x-single-active-consumer", Value::Bool(true)),
                &plain,
                "x-single-active-consumer",
                "the value 'true' of type 'bool'",
                "none",
            ),
            (
                &with("x-max-length", text("5")),
                &with("x-max-length", Value::I32(5)),
                "x-max-length",
                "'5'",
                "'5'",
            ),
            (
                &plain,
                &with("x-queue-type", text("quorum")),
                "x-queue-type",
                "none",
                "the value 'quorum' of type 'longstr'",
            ),
        ];
        for (received, current, arg, was, is) in cases {
            assert_eq!(
                told(received, current),
                format!(
                    "inequivalent arg '{arg}' for queue 'q' in vhost '/': received {was} but current is {is}"
                )
            );
        }
    }

    #[test]
    fn what_rabbitmq_does_not_compare_may_differ() {
        let plain = QueueOptions::default();
        for (name, value) in [
            ("x-consumer-timeout", Value::I32(1)),
            ("x-unknown", text("a")),
            ("x-queue-type", text("classic")),
        ] {
            let other = with(name, value);
            assert!(queue("q", "/", &plain, &other).is_ok());
            assert!(queue("q", "/", &other, &plain).is_ok());
        }
        let wide = with("x-max-length", Value::I64(5));
        let narrow = with("x-max-length", Value::U8(5));
        assert!(queue("q", "/", &wide, &narrow).is_ok());
    }

    #[test]
    fn declarations_by_options_meet_those_by_arguments() {
        let raw = with("x-message-ttl", Value::I32(1500));
        let by_arguments = QueueOptions {
            message_ttl: Some(Duration::from_millis(1500)),
            ..raw
        };
        let by_options = QueueOptions {
            message_ttl: Some(Duration::from_millis(1500)),
            ..Default::default()
        };
        assert!(queue("q", "/", &by_arguments, &by_options).is_ok());
        assert!(queue("q", "/", &by_options, &by_arguments).is_ok());
        let longer = QueueOptions {
            message_ttl: Some(Duration::from_micros(1500)),
            ..Default::default()
        };
        assert_eq!(
            told(&longer, &by_options),
            "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '1.5' but current is '1500'"
        );
        let grouped = QueueOptions {
            group_by: Some("it's".into()),
            ..Default::default()
        };
        assert!(told(&grouped, &by_options).contains("x-message-ttl"));
        assert!(
            told(&grouped, &Default::default())
                .ends_with("received the value 'it's' of type 'longstr' but current is none")
        );
    }

    #[test]
    fn our_own_options_are_compared() {
        let plain = QueueOptions::default();
        let retry = QueueOptions {
            retry: Some(RetryPolicy {
                kind: crate::RetryKind::Constant,
                attempts: 2,
                first: Duration::from_secs(1),
                factor: 1.0,
                maximum: None,
                jitter: false,
                dead_letter: None,
            }),
            ..plain.clone()
        };
        assert!(told(&plain, &retry).contains("x-retry"));
        let dedup = |size| QueueOptions {
            dedup: Some(Dedup {
                size: Some(size),
                ..Default::default()
            }),
            ..plain.clone()
        };
        assert!(told(&plain, &dedup(1)).contains("x-dedup-size"));
        assert!(told(&dedup(2), &dedup(1)).contains("received '2' but current is '1'"));
        let exchanges = [
            None,
            Some(Dedup {
                size: Some(1),
                ..Default::default()
            }),
        ];
        let [a, b] = exchanges.map(|dedup| ExchangeOptions {
            dedup,
            ..Default::default()
        });
        assert!(exchange("x", "/", &a, &b).is_err());
        assert!(exchange("x", "/", &b, &b).is_ok());
    }

    #[test]
    fn exchanges_are_compared_in_rabbitmqs_order() {
        let plain = ExchangeOptions::default();
        let other = ExchangeOptions {
            kind: crate::ExchangeKind::Topic,
            durable: false,
            ..plain.clone()
        };
        assert_eq!(
            exchange("e", "/", &other, &plain).unwrap_err().wire_text(),
            "inequivalent arg 'type' for exchange 'e' in vhost '/': received 'topic' but current is 'direct'"
        );
        let alternate = ExchangeOptions {
            alternate_exchange: Some("a".into()),
            ..plain.clone()
        };
        assert_eq!(
            exchange("e", "/", &plain, &alternate)
                .unwrap_err()
                .wire_text(),
            "inequivalent arg 'alternate-exchange' for exchange 'e' in vhost '/': received none but current is the value 'a' of type 'longstr'"
        );
    }
}
