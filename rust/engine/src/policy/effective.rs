//! What policies make of a declaration.

use std::sync::Arc;
use std::time::Duration;

use super::{Policy, Settings};
use crate::options::{ExchangeOptions, Overflow, QueueOptions};
use crate::table::Table;

/// The lower of two limits, or the one there is.
fn lower<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Settings {
    /// A user's settings bounded by an operator's.
    fn bounded(&self, operator: &Settings) -> Settings {
        Settings {
            message_ttl: lower(self.message_ttl, operator.message_ttl),
            expires: lower(self.expires, operator.expires),
            max_length: lower(self.max_length, operator.max_length),
            max_length_bytes: lower(self.max_length_bytes, operator.max_length_bytes),
            delivery_limit: lower(self.delivery_limit, operator.delivery_limit),
            lease: lower(self.lease, operator.lease),
            overflow: operator.overflow.or(self.overflow),
            ..self.clone()
        }
    }
}

/// What is in force for a queue that policies match.
#[derive(Debug)]
pub(crate) struct InForce {
    /// As if it had been declared so.
    pub(crate) options: Arc<QueueOptions>,
    pub(crate) policy: Option<Arc<Policy>>,
    pub(crate) operator_policy: Option<Arc<Policy>>,
}

fn are_same(a: Option<&Arc<Policy>>, b: Option<&Arc<Policy>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

impl InForce {
    pub(super) fn new(
        declared: &QueueOptions,
        policy: Option<Arc<Policy>>,
        operator_policy: Option<Arc<Policy>>,
    ) -> InForce {
        let none = Settings::default();
        let user = policy.as_ref().map_or(&none, |one| &one.settings);
        let operator = operator_policy.as_ref().map_or(&none, |one| &one.settings);
        let options = options(declared, &user.bounded(operator));
        InForce {
            options: Arc::new(options),
            policy,
            operator_policy,
        }
    }

    /// Whether these are the policies that it comes from.
    pub(super) fn is_of(
        &self,
        policy: Option<&Arc<Policy>>,
        operator_policy: Option<&Arc<Policy>>,
    ) -> bool {
        are_same(self.policy.as_ref(), policy)
            && are_same(self.operator_policy.as_ref(), operator_policy)
    }

    /// The settings of both policies, as a listing shows them: where both have one, the operator's lower number.
    pub(crate) fn definition(&self) -> Table {
        let definition = |one: &Option<Arc<Policy>>| match one {
            Some(one) => one.new.definition.clone(),
            None => Table::default(),
        };
        let mut merged = definition(&self.policy);
        for (name, value) in definition(&self.operator_policy).iter() {
            let both = merged
                .get(name)
                .and_then(|mine| mine.as_integer())
                .zip(value.as_integer());
            if both.is_none_or(|(mine, theirs)| theirs < mine) {
                merged.insert(name, value.clone());
            }
        }
        merged
    }
}

/// Of two numbers the lower one counts, of other settings the declared one.
fn options(declared: &QueueOptions, policy: &Settings) -> QueueOptions {
    let time = |own: Option<Duration>, other| lower(own, other);
    let retry = declared.retry.clone().or_else(|| policy.retry.clone());
    // Where dead messages go is one setting, whichever way it was declared.
    let dead_letter_exchange = match &declared.retry {
        Some(own) if own.dead_letter.is_some() => None,
        _ => {
            (declared.dead_letter_exchange.clone()).or_else(|| policy.dead_letter_exchange.clone())
        }
    };
    // A limit that nobody asked for is there as long as nobody asks for one.
    let by_default = declared.has_default_delivery_limit();
    let delivery_limit = match policy.delivery_limit {
        Some(limit) if by_default => Some(limit),
        None if by_default && declared.retry.is_none() && retry.is_some() => None,
        limit => lower(declared.delivery_limit, limit),
    };
    let overflow_declared =
        declared.overflow != Overflow::DropHead || declared.arguments.get("x-overflow").is_some();
    QueueOptions {
        message_ttl: time(declared.message_ttl, policy.message_ttl),
        expires: time(declared.expires, policy.expires),
        lease: time(declared.lease, policy.lease),
        max_length: lower(declared.max_length, policy.max_length),
        max_length_bytes: lower(declared.max_length_bytes, policy.max_length_bytes),
        overflow: policy
            .overflow
            .filter(|_| !overflow_declared)
            .unwrap_or(declared.overflow),
        dead_letter_routing_key: (declared.dead_letter_routing_key.clone())
            .or_else(|| policy.dead_letter_routing_key.clone()),
        dead_letter_exchange,
        delivery_limit,
        retry,
        ..declared.clone()
    }
}

/// What is in force for an exchange that a policy matches.
#[derive(Debug)]
pub(crate) struct AlternateExchange {
    pub(crate) name: Option<String>,
    pub(crate) policy: Arc<Policy>,
}

impl AlternateExchange {
    pub(super) fn new(declared: &ExchangeOptions, policy: &Arc<Policy>) -> AlternateExchange {
        let own = declared.alternate_exchange.clone();
        AlternateExchange {
            name: own.or_else(|| policy.settings.alternate_exchange.clone()),
            policy: policy.clone(),
        }
    }
}
