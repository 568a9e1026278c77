//! The settings that a policy can have, by the names that RabbitMQ gives them.
//!
//! What nobody knows is refused, since a setting that does nothing is worse than none. What RabbitMQ has for clusters and
//! for where messages are kept is taken, checked by nobody, and told in [`notes`].

use std::time::Duration;

use super::Kind;
use crate::error::Error;
use crate::options::{DURATION_MAX, LENGTH_MAX, Overflow, check_name};
use crate::policy::POLICY_DEFINITION_BYTES_MAX;
use crate::retry::{RetryKind, RetryPolicy};
use crate::table::{Table, Value};

/// Unless a policy says otherwise: those of the arguments of the same names.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_FACTOR: f64 = 2.0;

/// What says nothing without `retry-attempts`.
const RETRY_DETAILS: [&str; 5] = [
    "retry-kind",
    "retry-first",
    "retry-factor",
    "retry-max",
    "retry-jitter",
];

/// Settings that an operator policy can have. It is there to bound what users ask for.
const OPERATOR: [&str; 7] = [
    "expires",
    "message-ttl",
    "max-length",
    "max-length-bytes",
    "delivery-limit",
    "overflow",
    "lease",
];

/// What RabbitMQ's classic queues do not know: a policy with one of these does not match them.
const QUORUM_ONLY: [&str; 5] = [
    "delivery-limit",
    "dead-letter-strategy",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "target-group-size",
];

/// The same of quorum queues.
const CLASSIC_ONLY: [&str; 3] = ["queue-mode", "queue-master-locator", "ha-"];

const ONE_NODE: &str = "there is one node";
const ON_DISK: &str = "messages of durable queues wait on disk anyway";

/// Settings without effect, and why.
const WITHOUT_EFFECT: [(&str, &str); 15] = [
    ("ha-mode", ONE_NODE),
    ("ha-params", ONE_NODE),
    ("ha-sync-mode", ONE_NODE),
    ("ha-sync-batch-size", ONE_NODE),
    ("ha-promote-on-shutdown", ONE_NODE),
    ("ha-promote-on-failure", ONE_NODE),
    ("queue-master-locator", ONE_NODE),
    ("queue-leader-locator", ONE_NODE),
    ("target-group-size", ONE_NODE),
    ("queue-mode", ON_DISK),
    ("max-in-memory-length", ON_DISK),
    ("max-in-memory-bytes", ON_DISK),
    ("queue-version", "there is one kind of storage"),
    (
        "dead-letter-strategy",
        "leaving one queue and reaching the others is always one record of the journal",
    ),
    (
        "consumer-timeout",
        "deliveries have no timeout unless there is a lease",
    ),
];

fn without_effect(key: &str) -> Option<&'static str> {
    let found = WITHOUT_EFFECT.iter().find(|(known, _)| *known == key);
    found.map(|(_, why)| *why)
}

fn names(definition: &Table) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    definition
        .iter()
        .map(|(name, _)| String::from_utf8_lossy(name))
}

/// What a definition asks for in vain.
pub(super) fn notes(definition: &Table) -> Vec<String> {
    let mut notes = Vec::new();
    for name in names(definition) {
        if let Some(why) = without_effect(&name) {
            notes.push(format!("'{name}' has no effect: {why}"));
        }
        let only = |kind| {
            format!("it does not match {kind} queues, because of '{name}': that is RabbitMQ's rule")
        };
        if QUORUM_ONLY.contains(&&*name) {
            notes.push(only("classic"));
        } else if is_classic_only(&name) {
            notes.push(only("quorum"));
        }
    }
    notes
}

fn is_classic_only(name: &str) -> bool {
    CLASSIC_ONLY.iter().any(|one| name.starts_with(one))
}

/// What a policy gives to a queue or exchange; none leaves it to the declaration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    pub(super) message_ttl: Option<Duration>,
    pub(super) expires: Option<Duration>,
    pub(super) max_length: Option<u64>,
    pub(super) max_length_bytes: Option<u64>,
    pub(super) overflow: Option<Overflow>,
    pub(super) dead_letter_exchange: Option<String>,
    pub(super) dead_letter_routing_key: Option<String>,
    pub(super) delivery_limit: Option<u32>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) lease: Option<Duration>,
    pub(super) alternate_exchange: Option<String>,
    /// Whether it has settings that RabbitMQ's classic queues do not know.
    pub(super) quorum_only: bool,
    pub(super) classic_only: bool,
}

impl Settings {
    /// The settings of a definition.
    pub(super) fn read(definition: &Table, operator: bool) -> Result<Settings, Error> {
        let bytes = definition.encode();
        let bytes = bytes.map_err(|error| invalid("definition", error))?;
        if bytes.len() > POLICY_DEFINITION_BYTES_MAX {
            let text = format!("the limit is {POLICY_DEFINITION_BYTES_MAX} bytes");
            return Err(invalid("definition", text));
        }
        if definition.is_empty() {
            return Err(invalid(
                "definition",
                "it is empty, so that it does nothing",
            ));
        }
        let mut settings = Settings::default();
        let reader = Reader(definition);
        for name in names(definition) {
            settings.quorum_only |= QUORUM_ONLY.contains(&&*name);
            settings.classic_only |= is_classic_only(&name);
            if operator && !OPERATOR.contains(&&*name) && without_effect(&name).is_none() {
                let known = OPERATOR.join(", ");
                let text = format!("no setting of an operator policy, which can have {known}");
                return Err(invalid(&name, text));
            }
            settings.one(&reader, &name)?;
        }
        Ok(settings)
    }

    fn one(&mut self, reader: &Reader<'_>, name: &str) -> Result<(), Error> {
        match name {
            "message-ttl" => self.message_ttl = reader.time(name, 0)?,
            "expires" => self.expires = reader.time(name, 1)?,
            "max-length" => self.max_length = reader.count(name, 0, LENGTH_MAX)?,
            "max-length-bytes" => self.max_length_bytes = reader.count(name, 0, LENGTH_MAX)?,
            "overflow" => self.overflow = Some(reader.text(name)?.parse()?),
            "dead-letter-exchange" => self.dead_letter_exchange = reader.name(name)?,
            "dead-letter-routing-key" => self.dead_letter_routing_key = reader.name(name)?,
            "delivery-limit" => self.delivery_limit = reader.small(name, 0)?,
            "retry-attempts" => self.retry = Some(reader.retry()?),
            "lease" => self.lease = reader.time(name, 1)?,
            "alternate-exchange" => self.alternate_exchange = reader.name(name)?,
            detail if RETRY_DETAILS.contains(&detail) => {
                if reader.0.get("retry-attempts").is_none() {
                    return Err(invalid(name, "it needs retry-attempts"));
                }
            }
            other if without_effect(other).is_some() => {}
            _ => {
                return Err(invalid(
                    name,
                    "there is no such setting; there are message-ttl, expires, max-length, max-length-bytes, overflow, \
                     dead-letter-exchange, dead-letter-routing-key, delivery-limit, alternate-exchange, retry-attempts \
                     (with retry-kind, -first, -factor, -max, -jitter) and lease",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn are_for(&self, kind: Kind) -> bool {
        match kind {
            Kind::Classic => !self.quorum_only,
            Kind::Quorum => !self.classic_only,
            Kind::Exchange => true,
        }
    }
}

fn invalid(name: &str, why: impl std::fmt::Display) -> Error {
    Error::InvalidArgument(format!("policy setting '{name}': {why}"))
}

struct Reader<'a>(&'a Table);

impl Reader<'_> {
    fn count(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Error> {
        let n = self.0.get(name).and_then(Value::as_integer);
        let n = n.and_then(|n| u64::try_from(n).ok());
        match n.filter(|n| (least..=most).contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(invalid(
                name,
                format!("a whole number from {least} to {most} is expected"),
            )),
        }
    }

    fn small(&self, name: &str, least: u64) -> Result<Option<u32>, Error> {
        let n = self.count(name, least, u64::from(u32::MAX))?;
        Ok(n.and_then(|n| u32::try_from(n).ok()))
    }

    /// Milliseconds.
    fn time(&self, name: &str, least: u64) -> Result<Option<Duration>, Error> {
        let most = DURATION_MAX.as_millis() as u64;
        Ok(self.count(name, least, most)?.map(Duration::from_millis))
    }

    fn maybe_time(&self, name: &str) -> Result<Option<Duration>, Error> {
        match self.0.get(name) {
            None => Ok(None),
            Some(_) => self.time(name, 0),
        }
    }

    fn text(&self, name: &str) -> Result<&str, Error> {
        let text = self.0.get(name).and_then(Value::as_str);
        text.ok_or_else(|| invalid(name, "a text is expected"))
    }

    fn name(&self, name: &str) -> Result<Option<String>, Error> {
        let text = self.text(name)?;
        check_name(name, text)?;
        Ok(Some(text.to_owned()))
    }

    fn retry(&self) -> Result<RetryPolicy, Error> {
        let retry = RetryPolicy {
            kind: match self.0.get("retry-kind") {
                None => RetryKind::Exponential,
                Some(_) => self.text("retry-kind")?.parse()?,
            },
            attempts: self.small("retry-attempts", 1)?.unwrap_or(1),
            first: self.maybe_time("retry-first")?.unwrap_or(RETRY_FIRST),
            factor: match self.0.get("retry-factor") {
                None => RETRY_FACTOR,
                Some(Value::F64(factor)) => *factor,
                Some(Value::F32(factor)) => f64::from(*factor),
                Some(_) => self.count("retry-factor", 1, 1 << 32)?.unwrap_or(1) as f64,
            },
            maximum: self.maybe_time("retry-max")?,
            jitter: match self.0.get("retry-jitter") {
                None => false,
                Some(Value::Bool(jitter)) => *jitter,
                Some(_) => return Err(invalid("retry-jitter", "true or false is expected")),
            },
            dead_letter: None,
        };
        retry.validate()?;
        Ok(retry)
    }
}
