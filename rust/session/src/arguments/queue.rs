//! `queue.declare`.

use std::time::Duration;

use wherry_engine::table::{TableView, ValueView};
use wherry_engine::{Overflow, OwnerId, QueueOptions, RetryKind, RetryPolicy};

use super::{Reader, dedup::dedup};
use crate::failure::{Failure, FailureKind};

/// Deliveries again before a message of a quorum queue is dead, unless the queue says otherwise. RabbitMQ's since 4.0.
const QUORUM_DELIVERY_LIMIT: u32 = 20;

/// Delay before the second attempt, unless given: that of the Python API.
const RETRY_FIRST: Duration = Duration::from_millis(200);

/// Growth of an exponential delay, unless given: that of the Python API.
const RETRY_FACTOR: f64 = 2.0;

/// Arguments of streams, which are refused on anything else.
const STREAM_ONLY: [&str; 4] = [
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
];

/// What belongs to a retry policy and says nothing without `x-retry-attempts`.
const RETRY_DETAILS: [&str; 6] = [
    "x-retry-kind",
    "x-retry-first",
    "x-retry-factor",
    "x-retry-max",
    "x-retry-jitter",
    "x-retry-dead-letter",
];

/// How a queue is declared, from a client's arguments. `queue` and `virtual_host` are for error texts.
///
/// The arguments stay with the queue as they came. Checked for type and otherwise without effect are `x-queue-mode`,
/// `x-queue-version`, `x-queue-leader-locator`, `x-queue-master-locator`, `x-quorum-initial-group-size`,
/// `x-max-in-memory-length`, `x-max-in-memory-bytes` and `x-dead-letter-strategy` (dead-lettering is always atomic);
/// `x-consumer-timeout`, `x-consumer-disconnected-timeout` and what is unknown are not even checked, as in RabbitMQ.
///
/// # Errors
/// [`FailureKind::PreconditionFailed`] in RabbitMQ's words; [`FailureKind::NotImplemented`] for streams.
pub fn queue_options(
    virtual_host: &str,
    queue: &str,
    durable: bool,
    exclusive: Option<OwnerId>,
    auto_delete: bool,
    arguments: TableView<'_>,
) -> Result<QueueOptions, Failure> {
    let mut options = QueueOptions {
        durable,
        exclusive,
        auto_delete,
        ..QueueOptions::default()
    };
    if arguments.is_empty() {
        return Ok(options);
    }
    let reader = Reader {
        arguments,
        thing: "queue",
        name: queue,
        virtual_host,
    };
    let quorum = queue_type(&reader, &options)?;
    check_without_effect(&reader)?;

    options.message_ttl = reader.duration("x-message-ttl")?;
    options.expires = reader.positive_duration("x-expires")?;
    options.max_length = reader.count("x-max-length")?;
    options.max_length_bytes = reader.count("x-max-length-bytes")?;
    if let Some(word) = reader.text("x-overflow")? {
        options.overflow = word
            .parse::<Overflow>()
            .map_err(|_| reader.invalid("x-overflow", "invalid_overflow"))?;
    }
    options.dead_letter_exchange = reader
        .exchange_name("x-dead-letter-exchange")?
        .map(str::to_owned);
    options.dead_letter_routing_key = reader.name("x-dead-letter-routing-key")?.map(str::to_owned);
    if options.dead_letter_routing_key.is_some() && options.dead_letter_exchange.is_none() {
        return Err(reader.invalid(
            "x-dead-letter-routing-key",
            "routing_key_but_no_dlx_defined",
        ));
    }
    options.max_priority = max_priority(&reader)?;
    options.single_active_consumer = reader.flag("x-single-active-consumer")?.unwrap_or(false);
    options.group_by = group_by(&reader)?;
    options.lease = reader.positive_duration("x-lease")?;
    options.retry = retry(&reader)?;
    options.delivery_limit = delivery_limit(&reader, quorum && options.retry.is_none())?;
    if options.retry.is_none() {
        options.retry = delayed_retry(&reader, options.delivery_limit)?;
    }
    let plugin = reader.flag("x-message-deduplication")?.unwrap_or(false);
    options.dedup = dedup(&reader, plugin)?;
    if let Some(dedup) = &options.dedup
        && dedup.window.is_none()
        && dedup.size.is_none()
    {
        return Err(reader.invalid(
            "x-message-deduplication",
            "\"needs x-cache-ttl or x-cache-size: ids are remembered for a window here\"",
        ));
    }
    contradictions(&reader, &options)?;
    options.arguments = reader.table()?;
    Ok(options)
}

/// Whether the arguments ask for a quorum queue.
pub fn is_quorum(arguments: TableView<'_>) -> bool {
    matches!(
        arguments.get("x-queue-type"),
        Some(ValueView::Str(b"quorum"))
    )
}

/// Whether it is to be a quorum queue; an error if it cannot be what it asks for.
fn queue_type(reader: &Reader<'_>, options: &QueueOptions) -> Result<bool, Failure> {
    let stream = match reader.text("x-queue-type")? {
        None | Some("classic") => return stream_arguments(reader).map(|()| false),
        Some("quorum") => false,
        Some("stream") => true,
        Some(other) => {
            return Err(reader.invalid(
                "x-queue-type",
                format_args!("\"unsupported queue type '{other}'\""),
            ));
        }
    };
    if stream {
        return Err(Failure::new(
            FailureKind::NotImplemented,
            "stream queues are not supported yet",
        ));
    }
    stream_arguments(reader)?;
    let property = if options.auto_delete {
        "auto-delete"
    } else if options.exclusive.is_some() {
        "exclusive-owner"
    } else if !options.durable {
        "non-durable"
    } else {
        return Ok(true);
    };
    Err(Failure::precondition_failed(format!(
        "invalid property '{property}' for queue '{}' in vhost '{}'",
        reader.name, reader.virtual_host
    )))
}

fn stream_arguments(reader: &Reader<'_>) -> Result<(), Failure> {
    match STREAM_ONLY.into_iter().find(|key| reader.has(key)) {
        Some(key) => Err(reader.of_other_type(key)),
        None => Ok(()),
    }
}

/// What tells RabbitMQ how to store or place a queue; here it says nothing, but a wrong type is a mistake all the same.
fn check_without_effect(reader: &Reader<'_>) -> Result<(), Failure> {
    let one_of = |key: &str, words: &[&str], why: &dyn Fn(&str) -> String| match reader.text(key)? {
        Some(word) if !words.contains(&word) => Err(reader.invalid(key, why(word))),
        _ => Ok(()),
    };
    one_of("x-queue-mode", &["default", "lazy"], &|word| {
        format!("\"unsupported queue mode '{word}'\"")
    })?;
    match reader.count("x-queue-version")? {
        None | Some(1 | 2) => {}
        Some(n) => {
            return Err(reader.invalid(
                "x-queue-version",
                format_args!("\"unsupported queue version '{n}'\""),
            ));
        }
    }
    let places = ["client-local", "balanced", "random", "least-leaders"];
    one_of("x-queue-leader-locator", &places, &|_| {
        "invalid_queue_locator_arg".into()
    })?;
    one_of(
        "x-dead-letter-strategy",
        &["at-most-once", "at-least-once"],
        &|_| "invalid_dlx_strategy".into(),
    )?;
    reader.text("x-queue-master-locator")?;
    reader.positive("x-quorum-initial-group-size")?;
    reader.count("x-max-in-memory-length")?;
    reader.count("x-max-in-memory-bytes")?;
    Ok(())
}

fn max_priority(reader: &Reader<'_>) -> Result<Option<u8>, Failure> {
    let key = "x-max-priority";
    match reader.count(key)? {
        None | Some(0) => Ok(None),
        Some(n) => u8::try_from(n)
            .map(Some)
            .map_err(|_| reader.invalid(key, format_args!("{{max_value_exceeded,{n}}}"))),
    }
}

fn group_by(reader: &Reader<'_>) -> Result<Option<String>, Failure> {
    match reader.name("x-group-by")? {
        Some("") => Err(reader.invalid("x-group-by", "\"name a header or a property\"")),
        other => Ok(other.map(str::to_owned)),
    }
}

/// -1 is RabbitMQ 4's word for "none".
fn delivery_limit(reader: &Reader<'_>, limited: bool) -> Result<Option<u32>, Failure> {
    let key = "x-delivery-limit";
    match reader.integer(key)? {
        None => Ok(limited.then_some(QUORUM_DELIVERY_LIMIT)),
        Some(-1) => Ok(None),
        Some(n) => match u64::try_from(n) {
            Ok(n) => reader.small(key, n).map(Some),
            Err(_) => Err(reader.invalid(key, format_args!("{{value_negative,{n}}}"))),
        },
    }
}

fn retry(reader: &Reader<'_>) -> Result<Option<RetryPolicy>, Failure> {
    let Some(attempts) = reader.positive("x-retry-attempts")? else {
        return match RETRY_DETAILS.into_iter().find(|key| reader.has(key)) {
            Some(key) => Err(reader.invalid(key, "\"needs x-retry-attempts\"")),
            None => Ok(None),
        };
    };
    let attempts = reader.small("x-retry-attempts", attempts)?;
    let kind = match reader.text("x-retry-kind")? {
        None => RetryKind::Exponential,
        Some(word) => word.parse().map_err(|_| {
            reader.invalid(
                "x-retry-kind",
                format_args!("\"unsupported retry kind '{word}'\""),
            )
        })?,
    };
    let dead_letter = match reader.name("x-retry-dead-letter")? {
        Some("") => return Err(reader.invalid("x-retry-dead-letter", "\"name a queue\"")),
        other => other.map(str::to_owned),
    };
    Ok(Some(RetryPolicy {
        kind,
        attempts,
        first: reader.duration("x-retry-first")?.unwrap_or(RETRY_FIRST),
        factor: retry_factor(reader)?,
        maximum: reader.duration("x-retry-max")?,
        jitter: reader.flag("x-retry-jitter")?.unwrap_or(false),
        dead_letter,
    }))
}

/// A number of any kind, at least 1.
fn retry_factor(reader: &Reader<'_>) -> Result<f64, Failure> {
    let key = "x-retry-factor";
    let Some(value) = reader.get(key) else {
        return Ok(RETRY_FACTOR);
    };
    let factor = match value {
        ValueView::F32(x) => f64::from(x),
        ValueView::F64(x) => x,
        ValueView::Decimal { scale, value } => f64::from(value) / 10f64.powi(scale.into()),
        other => match other.as_integer() {
            Some(n) => n as f64,
            None => return Err(reader.wrong_type(key, &other)),
        },
    };
    if factor.is_finite() && factor >= 1.0 {
        return Ok(factor);
    }
    Err(reader.invalid(key, format_args!("{{value_out_of_range,{factor}}}")))
}

/// RabbitMQ 4.3's delayed retry: `min(first * attempts, max)`, which is a linear policy without an end of its own.
fn delayed_retry(
    reader: &Reader<'_>,
    delivery_limit: Option<u32>,
) -> Result<Option<RetryPolicy>, Failure> {
    let key = "x-delayed-retry-type";
    let first = reader.positive_duration("x-delayed-retry-min")?;
    let maximum = reader.positive_duration("x-delayed-retry-max")?;
    match reader.text(key)? {
        None | Some("disabled") => return Ok(None),
        Some("all" | "failed" | "returned") => {}
        Some(_) => return Err(reader.invalid(key, "invalid_delayed_retry_type")),
    }
    let Some(first) = first else {
        return Err(reader.invalid(key, "\"needs x-delayed-retry-min\""));
    };
    Ok(Some(RetryPolicy {
        kind: RetryKind::Linear,
        attempts: delivery_limit.map_or(u32::MAX, |n| n.saturating_add(1)),
        first,
        factor: RETRY_FACTOR,
        maximum,
        jitter: false,
        dead_letter: None,
    }))
}

/// What the engine would refuse anyway, in the words of arguments.
fn contradictions(reader: &Reader<'_>, options: &QueueOptions) -> Result<(), Failure> {
    if options.group_by.is_some() && options.max_priority.is_some() {
        return Err(reader.invalid("x-group-by", "\"not together with x-max-priority\""));
    }
    let own = options.retry.as_ref().and_then(|r| r.dead_letter.as_ref());
    if own.is_some() && options.dead_letter_exchange.is_some() {
        return Err(reader.invalid(
            "x-retry-dead-letter",
            "\"not together with x-dead-letter-exchange\"",
        ));
    }
    Ok(())
}
