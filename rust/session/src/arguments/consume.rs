//! `basic.consume`.

use std::time::Duration;

use wherry_engine::table::{TableView, ValueView};

use super::Reader;
use crate::failure::Failure;

/// What a consumer asks for in its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumeArguments {
    /// Higher ones are served first. Values beyond 32 bits count as the nearest.
    pub priority: i32,
    /// The consumer's own lease; none: the queue's.
    pub lease: Option<Duration>,
}

/// Arguments of streams; a queue that is none cannot honour them.
const STREAM_ONLY: [&str; 3] = [
    "x-stream-offset",
    "x-stream-filter",
    "x-stream-match-unfiltered",
];

/// What a client's consume arguments ask for. `queue` and `virtual_host` are for error texts.
///
/// `x-consumer-timeout` is accepted without effect; `x-cancel-on-ha-failover` likewise, with its type checked.
///
/// # Errors
/// [`FailureKind::PreconditionFailed`](crate::FailureKind::PreconditionFailed) in RabbitMQ's words.
pub fn consume_arguments(
    virtual_host: &str,
    queue: &str,
    arguments: TableView<'_>,
) -> Result<ConsumeArguments, Failure> {
    if arguments.is_empty() {
        return Ok(ConsumeArguments::default());
    }
    let reader = Reader {
        arguments,
        thing: "queue",
        name: queue,
        virtual_host,
    };
    for key in STREAM_ONLY {
        if reader.has(key) {
            return Err(reader.of_other_type(key));
        }
    }
    if let Some(value) = reader.get("x-cancel-on-ha-failover")
        && !matches!(value, ValueView::Bool(_))
    {
        return Err(reader.wrong_type("x-cancel-on-ha-failover", &value));
    }
    let priority = reader.integer("x-priority")?.unwrap_or(0);
    Ok(ConsumeArguments {
        priority: priority.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
        lease: reader.positive_duration("x-lease")?,
    })
}
