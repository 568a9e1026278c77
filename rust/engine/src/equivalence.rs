//! Whether a declaration asks for what is there already, in the words that RabbitMQ's users know: people and programs
//! read them.

use std::time::Duration;

use crate::error::{Error, Refusal};
use crate::options::{ExchangeOptions, Overflow, QueueOptions};
use crate::retry::RetryPolicy;

fn inequivalent(
    arg: &str,
    kind: &str,
    name: &str,
    vhost: &str,
    received: &str,
    current: &str,
) -> Error {
    Error::PreconditionFailed(Refusal::advised(
        format!(
            "inequivalent arg '{arg}' for {kind} '{name}' in vhost '{vhost}': received {received} but current is {current}"
        ),
        "; declare it as it is, or delete it first",
    ))
}

/// A value as a user wrote it, not as this program holds it.
trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_as_text {
    ($($type:ty),*) => {
        $(impl Shown for $type {
            fn shown(&self) -> String {
                format!("'{self}'")
            }
        })*
    };
}

shown_as_text!(bool, u8, u32, u64, String);

impl Shown for Duration {
    fn shown(&self) -> String {
        format!("'{} ms'", self.as_secs_f64() * 1000.0)
    }
}

impl Shown for Overflow {
    fn shown(&self) -> String {
        format!("'{}'", self.as_str())
    }
}

impl Shown for RetryPolicy {
    fn shown(&self) -> String {
        let RetryPolicy {
            kind,
            attempts,
            first,
            factor,
            maximum,
            jitter,
            dead_letter,
        } = self;
        format!(
            "'{}, attempts {attempts}, first {first:?}, factor {factor}, maximum {maximum:?}, jitter {jitter}, dead_letter {dead_letter:?}'",
            kind.as_str()
        )
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        match self {
            Some(value) => format!("the value {}", value.shown()),
            None => "none".into(),
        }
    }
}

macro_rules! compare {
    ($kind:literal, $name:expr, $vhost:expr, $received:expr, $current:expr, $($field:ident => $arg:literal),* $(,)?) => {
        $(if $received.$field != $current.$field {
            return Err(inequivalent(
                $arg, $kind, $name, $vhost, &$received.$field.shown(), &$current.$field.shown(),
            ));
        })*
    };
}

/// # Errors
/// [`Error::PreconditionFailed`] names the first difference.
pub(crate) fn exchange(
    name: &str,
    vhost: &str,
    received: &ExchangeOptions,
    current: &ExchangeOptions,
) -> Result<(), Error> {
    for (arg, received, current) in [
        ("type", received.type_name(), current.type_name()),
        (
            "x-delayed-type",
            received.kind.as_str(),
            current.kind.as_str(),
        ),
    ] {
        if received != current {
            let (received, current) = (format!("'{received}'"), format!("'{current}'"));
            return Err(inequivalent(
                arg, "exchange", name, vhost, &received, &current,
            ));
        }
    }
    compare!("exchange", name, vhost, received, current,
        durable => "durable", auto_delete => "auto_delete", internal => "internal",
        alternate_exchange => "alternate-exchange");
    Ok(())
}

/// # Errors
/// [`Error::PreconditionFailed`] names the first difference.
pub(crate) fn queue(
    name: &str,
    vhost: &str,
    received: &QueueOptions,
    current: &QueueOptions,
) -> Result<(), Error> {
    compare!("queue", name, vhost, received, current,
        durable => "durable", auto_delete => "auto_delete", exclusive => "exclusive",
        max_priority => "x-max-priority", message_ttl => "x-message-ttl", expires => "x-expires",
        max_length => "x-max-length", max_length_bytes => "x-max-length-bytes", overflow => "x-overflow",
        dead_letter_exchange => "x-dead-letter-exchange",
        dead_letter_routing_key => "x-dead-letter-routing-key", delivery_limit => "x-delivery-limit",
        single_active_consumer => "x-single-active-consumer", group_by => "x-group-by",
        lease => "x-lease", retry => "x-retry");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_in_the_words_of_a_declaration() {
        let plain = QueueOptions::default();
        let cases = [
            (
                QueueOptions {
                    durable: false,
                    ..plain.clone()
                },
                "'durable'",
                "received 'false' but current is 'true'",
            ),
            (
                QueueOptions {
                    overflow: Overflow::RejectPublish,
                    ..plain.clone()
                },
                "'x-overflow'",
                "received 'reject-publish' but current is 'drop-head'",
            ),
            (
                QueueOptions {
                    message_ttl: Some(Duration::from_millis(1500)),
                    ..plain.clone()
                },
                "'x-message-ttl'",
                "received the value '1500 ms' but current is none",
            ),
            (
                QueueOptions {
                    group_by: Some("it's".into()),
                    ..plain.clone()
                },
                "'x-group-by'",
                "received the value 'it's' but current is none",
            ),
        ];
        for (received, argument, difference) in cases {
            let text = queue("q", "/", &received, &plain).unwrap_err().to_string();
            assert!(
                text.contains(argument) && text.contains(difference),
                "{text}"
            );
        }
        assert!(queue("q", "/", &plain, &plain).is_ok());
    }
}
