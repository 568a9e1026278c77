//! How queues and exchanges were declared, as a client would have to declare them: for an export of definitions.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wherry_engine::table::{Table, Value};
use wherry_engine::{Dedup, DedupKey, Overflow, Queue, QueueOptions, RetryPolicy};

use crate::errors::Result;
use crate::headers;
use crate::host::VirtualHost;

fn number(value: impl TryInto<i64>) -> Value {
    Value::I64(value.try_into().unwrap_or(i64::MAX))
}

fn milliseconds(duration: Duration) -> Value {
    number(duration.as_millis())
}

fn text(value: &str) -> Value {
    Value::Str(value.into())
}

fn retry_arguments(retry: &RetryPolicy, arguments: &mut Table) {
    arguments.insert("x-retry-attempts", number(retry.attempts));
    arguments.insert("x-retry-kind", text(retry.kind.as_str()));
    arguments.insert("x-retry-first", milliseconds(retry.first));
    arguments.insert("x-retry-factor", Value::F64(retry.factor));
    if let Some(maximum) = retry.maximum {
        arguments.insert("x-retry-max", milliseconds(maximum));
    }
    arguments.insert("x-retry-jitter", Value::Bool(retry.jitter));
    if let Some(queue) = &retry.dead_letter {
        arguments.insert("x-retry-dead-letter", text(queue));
    }
}

fn dedup_arguments(dedup: &Dedup, arguments: &mut Table) {
    if let DedupKey::Named(name) = &dedup.by {
        arguments.insert("x-dedup-header", text(name));
    }
    if let Some(window) = dedup.window {
        arguments.insert("x-dedup-window", milliseconds(window));
    }
    if let Some(size) = dedup.size {
        arguments.insert("x-dedup-size", number(size));
    }
}

/// The arguments of a queue. Those that a client declared are kept as they came; a queue of the embedded API has fields
/// instead, which become the arguments of the same meaning.
fn queue_arguments(options: &QueueOptions) -> Table {
    let mut arguments = options.arguments.clone();
    if arguments.iter().any(|(name, _)| name.starts_with(b"x-")) {
        return arguments;
    }
    let counts = [
        ("x-max-priority", options.max_priority.map(number)),
        ("x-message-ttl", options.message_ttl.map(milliseconds)),
        ("x-expires", options.expires.map(milliseconds)),
        ("x-max-length", options.max_length.map(number)),
        ("x-max-length-bytes", options.max_length_bytes.map(number)),
        ("x-delivery-limit", options.delivery_limit.map(number)),
        ("x-lease", options.lease.map(milliseconds)),
        ("x-group-by", options.group_by.as_deref().map(text)),
        (
            "x-dead-letter-exchange",
            options.dead_letter_exchange.as_deref().map(text),
        ),
        (
            "x-dead-letter-routing-key",
            options.dead_letter_routing_key.as_deref().map(text),
        ),
        (
            "x-single-active-consumer",
            options.single_active_consumer.then_some(Value::Bool(true)),
        ),
        (
            "x-overflow",
            (options.overflow != Overflow::DropHead).then(|| text(options.overflow.as_str())),
        ),
    ];
    for (name, value) in counts {
        if let Some(value) = value {
            arguments.insert(name, value);
        }
    }
    if let Some(dedup) = &options.dedup {
        dedup_arguments(dedup, &mut arguments);
    }
    if let Some(retry) = &options.retry {
        retry_arguments(retry, &mut arguments);
    }
    arguments
}

/// How a queue was declared.
#[pyfunction]
pub(crate) fn describe_queue<'py>(
    py: Python<'py>,
    host: &VirtualHost,
    name: &str,
) -> Result<Bound<'py, PyDict>> {
    let queue = host.host.queue(name)?;
    let options = queue.options();
    let result = PyDict::new(py);
    result.set_item("name", name)?;
    result.set_item("durable", options.durable)?;
    result.set_item("auto_delete", options.auto_delete)?;
    result.set_item("exclusive", options.exclusive.is_some())?;
    result.set_item("arguments", headers::dict(py, &queue_arguments(options))?)?;
    Ok(result)
}

/// Who consumes from a queue, in the order in which they came.
pub(crate) fn consumers<'py>(py: Python<'py>, queue: &Queue) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let consumers = queue.consumers();
    let described = consumers.iter().map(|consumer| {
        let options = consumer.options();
        let result = PyDict::new(py);
        result.set_item("id", consumer.id())?;
        result.set_item("tag", consumer.tag())?;
        result.set_item("no_ack", options.no_ack)?;
        result.set_item("prefetch", consumer.prefetch())?;
        result.set_item("unacked", consumer.unacked())?;
        result.set_item("priority", options.priority)?;
        result.set_item("exclusive", options.exclusive)?;
        result.set_item("active", consumer.is_active())?;
        Ok(result)
    });
    described.collect()
}

/// How an exchange was declared.
#[pyfunction]
pub(crate) fn describe_exchange<'py>(
    py: Python<'py>,
    host: &VirtualHost,
    name: &str,
) -> Result<Bound<'py, PyDict>> {
    let exchange = host.host.exchange(name)?;
    let options = exchange.options();
    let mut arguments = options.arguments.clone();
    if let Some(alternate) = &options.alternate_exchange
        && arguments.get("alternate-exchange").is_none()
    {
        arguments.insert("alternate-exchange", text(alternate));
    }
    let kind = options
        .type_name
        .as_deref()
        .unwrap_or_else(|| options.kind.as_str());
    let result = PyDict::new(py);
    result.set_item("name", name)?;
    result.set_item("type", kind)?;
    result.set_item("durable", options.durable)?;
    result.set_item("auto_delete", options.auto_delete)?;
    result.set_item("internal", options.internal)?;
    result.set_item("arguments", headers::dict(py, &arguments)?)?;
    Ok(result)
}
