//! Arguments of queues and consumers in headers. STOMP knows text only, so that the name of an argument says its type.
//!
//! A value that is not of its type goes on as text: `wherry_session::arguments` refuses it in the words that AMQP clients
//! get.

use wherry_engine::table::{Table, Value};

use super::value::truth;
use crate::codec::Frame;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Number,
    Flag,
    Text,
}

/// Whom an argument concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Queue,
    Consumer,
}

/// Arguments of queues. Every header of these names is one, and never part of a message.
const QUEUE: [(&str, Kind); 44] = [
    ("x-message-ttl", Kind::Integer),
    ("x-expires", Kind::Integer),
    ("x-max-length", Kind::Integer),
    ("x-max-length-bytes", Kind::Integer),
    ("x-max-priority", Kind::Integer),
    ("x-delivery-limit", Kind::Integer),
    ("x-consumer-timeout", Kind::Integer),
    ("x-consumer-disconnected-timeout", Kind::Integer),
    ("x-queue-version", Kind::Integer),
    ("x-quorum-initial-group-size", Kind::Integer),
    ("x-max-in-memory-length", Kind::Integer),
    ("x-max-in-memory-bytes", Kind::Integer),
    ("x-delayed-retry-min", Kind::Integer),
    ("x-delayed-retry-max", Kind::Integer),
    ("x-retry-attempts", Kind::Integer),
    ("x-retry-first", Kind::Integer),
    ("x-retry-max", Kind::Integer),
    ("x-lease", Kind::Integer),
    ("x-dedup-window", Kind::Integer),
    ("x-dedup-size", Kind::Integer),
    ("x-cache-size", Kind::Integer),
    ("x-cache-ttl", Kind::Integer),
    ("x-stream-max-segment-size-bytes", Kind::Integer),
    ("x-stream-filter-size-bytes", Kind::Integer),
    ("x-initial-cluster-size", Kind::Integer),
    ("x-retry-factor", Kind::Number),
    ("x-single-active-consumer", Kind::Flag),
    ("x-retry-jitter", Kind::Flag),
    ("x-message-deduplication", Kind::Flag),
    ("x-cache-persistence", Kind::Text),
    ("x-overflow", Kind::Text),
    ("x-dead-letter-exchange", Kind::Text),
    ("x-dead-letter-routing-key", Kind::Text),
    ("x-dead-letter-strategy", Kind::Text),
    ("x-queue-type", Kind::Text),
    ("x-queue-mode", Kind::Text),
    ("x-queue-leader-locator", Kind::Text),
    ("x-queue-master-locator", Kind::Text),
    ("x-delayed-retry-type", Kind::Text),
    ("x-group-by", Kind::Text),
    ("x-retry-kind", Kind::Text),
    ("x-retry-dead-letter", Kind::Text),
    ("x-dedup-header", Kind::Text),
    ("x-max-age", Kind::Text),
];

const CONSUMER: [(&str, Kind); 5] = [
    ("x-priority", Kind::Integer),
    ("x-stream-offset", Kind::Text),
    ("x-stream-filter", Kind::Text),
    ("x-stream-match-unfiltered", Kind::Flag),
    ("x-cancel-on-ha-failover", Kind::Flag),
];

fn kind_of(name: &str, of: Of) -> Option<Kind> {
    if !name.starts_with("x-") {
        return None;
    }
    let list = match of {
        Of::Queue => &QUEUE[..],
        Of::Consumer => &CONSUMER[..],
    };
    let (_, kind) = list.iter().find(|(known, _)| *known == name)?;
    Some(*kind)
}

/// Whether a header of SEND is an argument of the queue, which the message does not get.
pub(super) fn is_of_queue(name: &str) -> bool {
    kind_of(name, Of::Queue).is_some()
}

/// Whether a frame says how its queue is to be.
pub(super) fn any_of_queue(frame: &Frame<'_>) -> bool {
    frame.headers().any(|header| {
        let name = header.name();
        matches!(&*name, "auto-delete" | "exclusive") || is_of_queue(&name)
    })
}

fn typed(value: &str, kind: Kind) -> Value {
    let value_as = match kind {
        Kind::Integer => value.parse().ok().map(Value::I64),
        Kind::Number => value.parse().ok().map(Value::F64),
        Kind::Flag => truth(value).map(Value::Bool),
        Kind::Text => None,
    };
    value_as.unwrap_or_else(|| Value::Str(value.as_bytes().to_vec()))
}

/// The arguments in a frame.
pub(super) fn of_frame(frame: &Frame<'_>, of: Of) -> Table {
    let mut table = Table::new();
    for header in frame.headers() {
        let name = header.name();
        if let Some(kind) = kind_of(&name, of)
            && table.get(name.as_bytes()).is_none()
        {
            table.push(name.into_owned().into_bytes(), typed(&header.value(), kind));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_type() {
        assert_eq!(typed("5", Kind::Integer), Value::I64(5));
        assert_eq!(typed("-1", Kind::Integer), Value::I64(-1));
        assert_eq!(typed("5x", Kind::Integer), Value::Str(b"5x".to_vec()));
        assert_eq!(typed("true", Kind::Flag), Value::Bool(true));
        assert_eq!(typed("False", Kind::Flag), Value::Bool(false));
        assert_eq!(typed("yes", Kind::Flag), Value::Str(b"yes".to_vec()));
        assert_eq!(typed("1.5", Kind::Number), Value::F64(1.5));
        assert_eq!(typed("42", Kind::Text), Value::Str(b"42".to_vec()));
        assert!(is_of_queue("x-max-length") && !is_of_queue("x-delay"));
        assert!(kind_of("x-priority", Of::Consumer).is_some());
    }
}
