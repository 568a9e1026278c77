//! Retry policy: when a message whose handling failed is tried again. Carried out by the engine's timer, so that no
//! consumer sleeps and no prefetch slot is held.

use std::time::Duration;

use crate::error::Error;
use crate::options::{DURATION_MAX, check_name};
use crate::table::{Table, Value};

/// How the delay grows with the attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryKind {
    /// `first` every time.
    Constant,
    /// `first`, `2 * first`, `3 * first`, ...
    Linear,
    /// `first`, `first * factor`, `first * factor^2`, ...
    Exponential,
}

impl RetryKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            RetryKind::Constant => "constant",
            RetryKind::Linear => "linear",
            RetryKind::Exponential => "exponential",
        }
    }
}

impl std::str::FromStr for RetryKind {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "constant" => Ok(RetryKind::Constant),
            "linear" => Ok(RetryKind::Linear),
            "exponential" => Ok(RetryKind::Exponential),
            other => Err(Error::InvalidArgument(format!(
                "unknown retry kind '{other}': use constant, linear or exponential"
            ))),
        }
    }
}

/// A queue's retry policy.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How the delay grows.
    pub kind: RetryKind,
    /// Deliveries in all, the first included; then the message is dead.
    pub attempts: u32,
    /// Delay before the second attempt.
    pub first: Duration,
    /// Growth of an exponential delay; at least 1.
    pub factor: f64,
    /// No delay is longer.
    pub maximum: Option<Duration>,
    /// Each delay is drawn evenly from zero to its computed value ("full jitter"), so that a burst of failures does
    /// not come back as a burst.
    pub jitter: bool,
    /// Name of the queue for the dead; none uses the queue's dead-letter exchange.
    pub dead_letter: Option<String>,
}

impl RetryPolicy {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.attempts == 0 {
            return Err(Error::InvalidArgument(
                "retry.attempts of 0: the first delivery counts, so use 1 or more".into(),
            ));
        }
        if !(self.factor.is_finite() && self.factor >= 1.0) {
            return Err(Error::InvalidArgument(format!(
                "retry.factor of {}: use 1 or more",
                self.factor
            )));
        }
        if self.first > DURATION_MAX || self.maximum.is_some_and(|m| m > DURATION_MAX) {
            return Err(Error::InvalidArgument(
                "retry delays: the limit is ten years".into(),
            ));
        }
        if let Some(name) = &self.dead_letter {
            check_name("retry.dead_letter", name)?;
            if name.is_empty() {
                return Err(Error::InvalidArgument(
                    "retry.dead_letter: name a queue".into(),
                ));
            }
        }
        Ok(())
    }

    /// Delay after `failures` failed attempts (1 or more); none when the message is dead. `random` is evenly
    /// distributed over all of `u64`.
    pub fn delay(&self, failures: u32, random: u64) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let first = self.first.as_secs_f64();
        let steps = failures.max(1);
        let seconds = match self.kind {
            RetryKind::Constant => first,
            RetryKind::Linear => first * f64::from(steps),
            RetryKind::Exponential => {
                first
                    * self
                        .factor
                        .powi(i32::try_from(steps - 1).unwrap_or(i32::MAX))
            }
        };
        let limit = self.maximum.unwrap_or(DURATION_MAX).as_secs_f64();
        let mut seconds = if seconds.is_finite() {
            seconds.min(limit)
        } else {
            limit
        };
        if self.jitter {
            // 53 bits make an even fraction in [0, 1).
            seconds *= (random >> 11) as f64 / (1u64 << 53) as f64;
        }
        Some(Duration::from_secs_f64(seconds))
    }

    pub(crate) fn to_table(&self) -> Table {
        let mut table = Table::default();
        let nanos = |d: Duration| Value::I64(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
        table.insert("kind", Value::Str(self.kind.as_str().into()));
        table.insert("attempts", Value::U32(self.attempts));
        table.insert("first-ns", nanos(self.first));
        table.insert("factor", Value::F64(self.factor));
        if let Some(maximum) = self.maximum {
            table.insert("maximum-ns", nanos(maximum));
        }
        table.insert("jitter", Value::Bool(self.jitter));
        if let Some(name) = &self.dead_letter {
            table.insert("dead-letter", Value::Str(name.clone().into_bytes()));
        }
        table
    }

    pub(crate) fn from_table(table: &Table) -> Result<Self, Error> {
        let count = |name: &str| {
            table
                .get(name)?
                .as_integer()
                .and_then(|n| u64::try_from(n).ok())
        };
        let time = |name: &str| count(name).map(Duration::from_nanos);
        let text = |name: &str| match table.get(name) {
            Some(Value::Str(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        };
        Ok(RetryPolicy {
            kind: text("kind").unwrap_or_default().parse()?,
            attempts: count("attempts")
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(1),
            first: time("first-ns").unwrap_or_default(),
            factor: match table.get("factor") {
                Some(Value::F64(f)) => *f,
                _ => 1.0,
            },
            maximum: time("maximum-ns"),
            jitter: matches!(table.get("jitter"), Some(Value::Bool(true))),
            dead_letter: text("dead-letter"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(kind: RetryKind) -> RetryPolicy {
        RetryPolicy {
            kind,
            attempts: 5,
            first: Duration::from_millis(200),
            factor: 2.0,
            maximum: Some(Duration::from_secs(1)),
            jitter: false,
            dead_letter: None,
        }
    }

    fn delays(policy: &RetryPolicy) -> Vec<u128> {
        (1..)
            .map_while(|n| policy.delay(n, u64::MAX))
            .map(|d| d.as_millis())
            .collect()
    }

    #[test]
    fn delays_follow_the_kind_up_to_the_maximum() {
        assert_eq!(delays(&policy(RetryKind::Constant)), [200, 200, 200, 200]);
        assert_eq!(delays(&policy(RetryKind::Linear)), [200, 400, 600, 800]);
        assert_eq!(
            delays(&policy(RetryKind::Exponential)),
            [200, 400, 800, 1000]
        );
    }

    #[test]
    fn jitter_draws_from_zero_to_the_computed_delay() {
        let policy = RetryPolicy {
            jitter: true,
            ..policy(RetryKind::Constant)
        };
        assert_eq!(policy.delay(1, 0), Some(Duration::ZERO));
        assert!(policy.delay(1, u64::MAX).unwrap() <= Duration::from_millis(200));
        assert_eq!(policy.delay(1, 1 << 63).unwrap().as_millis(), 100);
    }

    #[test]
    fn a_huge_exponent_stays_at_the_limit() {
        let policy = RetryPolicy {
            attempts: u32::MAX,
            maximum: None,
            ..policy(RetryKind::Exponential)
        };
        assert_eq!(policy.delay(4_000_000_000, 0), Some(DURATION_MAX));
    }

    #[test]
    fn the_journal_form_gives_the_policy_back() {
        let policy = RetryPolicy {
            dead_letter: Some("dead".into()),
            ..policy(RetryKind::Linear)
        };
        assert_eq!(RetryPolicy::from_table(&policy.to_table()).unwrap(), policy);
    }
}
