//! Dead-lettering: a message that ends without an acknowledgement goes to the queue's dead-letter exchange with its
//! history in the `x-death` header, in RabbitMQ's form (https://www.rabbitmq.com/docs/dlx#effects).

use std::sync::Arc;

use smallvec::SmallVec;
use wherry_journal::Class;

use crate::commit::{PublishRun, commit};
use crate::draft::Draft;
use crate::entries::Run;
use crate::error::Error;
use crate::message::{Facts, Message, Parts};
use crate::properties::Properties;
use crate::publish::with_route;
use crate::queue::Queue;
use crate::table::{Table, Value};

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Rejected,
    Expired,
    MaxLength,
    DeliveryLimit,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::MaxLength => "maxlen",
            Reason::DeliveryLimit => "delivery_limit",
        }
    }
}

fn text(bytes: impl Into<Vec<u8>>) -> Value {
    Value::Str(bytes.into())
}

fn has_text(entry: &Table, name: &str, text: &[u8]) -> bool {
    matches!(entry.get(name), Some(Value::Str(bytes)) if bytes == text)
}

/// Whether an entry says all that a broker writes into one. Others are clients' own, and RabbitMQ since 3.13 forgets
/// them with the next death: what they mean nobody could count on.
fn is_whole(entry: &Value) -> bool {
    let Value::Table(entry) = entry else {
        return false;
    };
    let is_text = |name: &str| matches!(entry.get(name), Some(Value::Str(_)));
    ["queue", "reason", "exchange"].into_iter().all(is_text)
        && matches!(entry.get("routing-keys"), Some(Value::Array(_)))
        && entry.get("count").is_some_and(|n| n.as_integer().is_some())
        && (entry.get("time"))
            .is_some_and(|t| matches!(t, Value::Timestamp(_)) || t.as_integer().is_some())
}

/// The deaths that the message had, the last one first.
fn deaths(headers: &Table) -> Vec<Value> {
    match headers.get("x-death") {
        Some(Value::Array(entries)) => entries.iter().filter(|e| is_whole(e)).cloned().collect(),
        _ => Vec::new(),
    }
}

/// Adds this death to the history: one entry for each (queue, reason), the newest first.
fn add_death(
    properties: &mut Properties,
    message: &Message,
    queue: &str,
    reason: Reason,
    now_ns: u64,
) {
    let expiration = properties.expiration.take();
    let headers = properties.headers.get_or_insert_default();
    let mut history = deaths(headers);
    let is_first = history.is_empty();
    let known = history.iter().position(|entry| {
        matches!(entry, Value::Table(t)
            if has_text(t, "queue", queue.as_bytes()) && has_text(t, "reason", reason.as_str().as_bytes()))
    });
    let entry = match known.map(|index| history.remove(index)) {
        Some(Value::Table(mut entry)) => {
            let count = entry.get("count").and_then(Value::as_integer).unwrap_or(1);
            entry.insert(
                "count",
                Value::I64(i64::try_from(count + 1).unwrap_or(i64::MAX)),
            );
            entry
        }
        _ => {
            let mut keys = vec![text(message.routing_key())];
            if let Some(Value::Array(copies)) = headers.get("CC") {
                keys.extend(copies.iter().cloned());
            }
            let mut entry = Table::default();
            entry.insert("count", Value::I64(1));
            entry.insert("reason", text(reason.as_str()));
            entry.insert("queue", text(queue));
            entry.insert("time", Value::Timestamp(now_ns / 1_000_000_000));
            entry.insert("exchange", text(message.exchange()));
            entry.insert("routing-keys", Value::Array(keys));
            if let Some(expiration) = expiration {
                entry.insert("original-expiration", text(expiration));
            }
            entry
        }
    };
    history.insert(0, Value::Table(entry));
    headers.insert("x-death", Value::Array(history));
    for (part, value) in [
        ("queue", queue),
        ("reason", reason.as_str()),
        ("exchange", message.exchange()),
    ] {
        let first = format!("x-first-death-{part}");
        // A client that sends a message on may have kept these of a history that it left out.
        if is_first || headers.get(&first).is_none() {
            headers.insert(first, text(value));
        }
        headers.insert(format!("x-last-death-{part}"), text(value));
    }
}

/// The message's properties with this death in their headers, encoded, and those headers.
fn with_history(
    message: &Message,
    queue: &Queue,
    reason: Reason,
    now_ns: u64,
    key_is_replaced: bool,
) -> Option<(Vec<u8>, Option<Table>)> {
    let mut properties = message.properties().to_properties().ok()?;
    add_death(&mut properties, message, queue.name(), reason, now_ns);
    if key_is_replaced && let Some(headers) = &mut properties.headers {
        headers.remove("CC"); // an explicit key replaces all of the message's own
    }
    Some((properties.encode().ok()?, properties.headers))
}

/// A queue that the message already died in, with no rejection since: sending it there again could go on for ever.
fn is_cycle(headers: Option<&Table>, target: &Queue) -> bool {
    let Some(headers) = headers else { return false };
    for entry in deaths(headers) {
        let Value::Table(entry) = entry else { continue };
        if has_text(&entry, "reason", b"rejected") {
            return false;
        }
        if has_text(&entry, "queue", target.name().as_bytes()) {
            return true;
        }
    }
    false
}

/// Sends a dead message on, and settles `runs` in the same journal record. False: there was nowhere to send it, and
/// only `runs` were settled. An error has changed nothing.
pub(crate) fn publish(
    queue: &Queue,
    message: &Message,
    reason: Reason,
    now_ns: u64,
    runs: &[Run],
) -> Result<bool, Error> {
    let settle_only = || commit(&queue.core, &[], runs, &[], Class::Settle).map(|_| false);
    if queue.is_deleted() {
        return settle_only();
    }
    let options = queue.in_force();
    let Some((exchange, key)) = options.dead_letter() else {
        return settle_only();
    };
    let Ok(exchange) = queue.vhost().and_then(|vhost| vhost.exchange(exchange)) else {
        return settle_only();
    };
    let (encoded, headers) = with_history(message, queue, reason, now_ns, key.is_some())
        // Headers that are valid but too many to decode cannot be added to: the message goes without its history,
        // rather than not at all.
        .unwrap_or_else(|| (message.properties_bytes().to_vec(), None));
    let draft = Draft {
        parts: Parts {
            exchange: exchange.name(),
            routing_key: key.unwrap_or(message.routing_key()),
            properties: &encoded,
            body: message.body(),
        },
        facts: Facts {
            published_ns: now_ns,
            expires_ns: 0,
            due_ns: 0,
            persistent: message.persistent(),
        },
        priority: message.properties().priority().unwrap_or(0),
    };
    with_route(&exchange, draft, |queues, draft| {
        let allowed: SmallVec<[Arc<Queue>; 2]> = queues
            .iter()
            .filter(|target| reason == Reason::Rejected || !is_cycle(headers.as_ref(), target))
            .cloned()
            .collect();
        if allowed.is_empty() {
            return settle_only();
        }
        let runs_of_messages = [PublishRun {
            queues: &allowed,
            drafts: &[draft],
        }];
        commit(&queue.core, &runs_of_messages, runs, &[], Class::Settle)?;
        exchange.count(1, 0);
        Ok(true)
    })?
}

impl Queue {
    /// A publish that `reject-publish-dlx` refused: it was never in the queue, but it dies there.
    pub(crate) fn dead_letter_refused(&self, draft: &Draft<'_>) {
        let message = Message::new(&draft.parts, draft.facts, 0);
        if publish(
            self,
            &message,
            Reason::MaxLength,
            self.core.clock.now_ns(),
            &[],
        )
        .unwrap_or(false)
        {
            crate::queue::counters::add(&self.counters.done.dead_lettered, 1);
        }
    }
}
