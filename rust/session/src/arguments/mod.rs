//! Declarations and consumers from argument tables: what clients put into `arguments` becomes the engine's options.
//!
//! Every argument that the server reads is checked for type and range. Errors are RabbitMQ's texts; the installed 3.10
//! was asked for each, and the tests record what it said. Unknown arguments are kept and have no effect, as in RabbitMQ.
//! Differences, each on purpose:
//!
//! - An argument that RabbitMQ has for one queue type only (`x-delivery-limit`, `x-max-priority`) works on every queue
//!   here, because every queue is of one kind. Those of streams are refused, since they would be without effect.
//! - `x-delivery-limit` has its type checked (RabbitMQ takes anything).
//! - An unknown exchange type is a precondition that failed, on the channel, as in RabbitMQ 4; 3.10 closes the connection.
//!   So does this server for `x-federation-upstream`: federation links know a server without the plugin by that alone.
//!
//! Own arguments (`x-group-by`, `x-retry-*`, `x-lease`, `x-dedup-*`) answer in the same form. Pure functions, usable from
//! anywhere.

mod consume;
mod dedup;
mod exchange;
mod queue;

pub use consume::{ConsumeArguments, consume_arguments};
pub use exchange::exchange_options;
pub use queue::{is_quorum, queue_options};

use std::time::Duration;

use wherry_engine::DURATION_MAX;
use wherry_engine::NAME_BYTES_MAX;
use wherry_engine::table::{Table, TableView, ValueView};

use crate::failure::Failure;

/// RabbitMQ's word for a value's type.
pub fn type_word(value: &ValueView<'_>) -> &'static str {
    match value {
        ValueView::Bool(_) => "bool",
        ValueView::I8(_) => "byte",
        ValueView::U8(_) => "unsignedbyte",
        ValueView::I16(_) => "short",
        ValueView::U16(_) => "unsignedshort",
        ValueView::I32(_) => "signedint",
        ValueView::U32(_) => "unsignedint",
        ValueView::I64(_) => "long",
        ValueView::F32(_) => "float",
        ValueView::F64(_) => "double",
        ValueView::Decimal { .. } => "decimal",
        ValueView::Str(_) => "longstr",
        ValueView::Bytes(_) => "binary",
        ValueView::Array(_) => "array",
        ValueView::Table(_) => "table",
        ValueView::Timestamp(_) => "timestamp",
        ValueView::Void => "void",
    }
}

/// Reads the arguments of one declaration.
#[derive(Clone, Copy)]
struct Reader<'a> {
    arguments: TableView<'a>,
    /// `queue` or `exchange`.
    thing: &'static str,
    name: &'a str,
    virtual_host: &'a str,
}

impl<'a> Reader<'a> {
    fn get(&self, key: &str) -> Option<ValueView<'a>> {
        self.arguments.get(key)
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The owned table, as it is kept for listings and comparisons.
    fn table(&self) -> Result<Table, Failure> {
        self.arguments
            .to_table()
            .map_err(|error| Failure::precondition_failed(format!("arguments: {error}")))
    }

    #[cold]
    fn invalid(&self, key: &str, why: impl std::fmt::Display) -> Failure {
        Failure::precondition_failed(format!(
            "invalid arg '{key}' for {} '{}' in vhost '{}': {why}",
            self.thing, self.name, self.virtual_host
        ))
    }

    #[cold]
    fn wrong_type(&self, key: &str, value: &ValueView<'_>) -> Failure {
        self.invalid(
            key,
            format_args!("{{unacceptable_type,{}}}", type_word(value)),
        )
    }

    /// RabbitMQ's other text about types, for names of exchanges.
    #[cold]
    fn wrong_name_type(&self, key: &str, value: &ValueView<'_>) -> Failure {
        Failure::precondition_failed(format!(
            "invalid type '{}' for arg '{key}' in {} '{}' in vhost '{}'",
            type_word(value),
            self.thing,
            self.name,
            self.virtual_host
        ))
    }

    /// For another type of queue than this is. RabbitMQ's word for the type is taken from the arguments, since queues
    /// of both types are the same here.
    #[cold]
    fn of_other_type(&self, key: &str) -> Failure {
        let quorum = self.get("x-queue-type").and_then(|v| v.as_str()) == Some("quorum");
        let own = if quorum { "quorum" } else { "classic" };
        Failure::precondition_failed(format!(
            "invalid arg '{key}' for queue '{}' in vhost '{}' of queue type rabbit_{own}_queue",
            self.name, self.virtual_host
        ))
    }

    fn integer(&self, key: &str) -> Result<Option<i64>, Failure> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_integer() {
            Some(n) => Ok(Some(n)),
            None => Err(self.invalid(
                key,
                format_args!("\"expected integer, got {}\"", type_word(&value)),
            )),
        }
    }

    /// Zero or more.
    fn count(&self, key: &str) -> Result<Option<u64>, Failure> {
        self.integer(key)?
            .map(|n| {
                u64::try_from(n)
                    .map_err(|_| self.invalid(key, format_args!("{{value_negative,{n}}}")))
            })
            .transpose()
    }

    /// One or more.
    fn positive(&self, key: &str) -> Result<Option<u64>, Failure> {
        match self.count(key)? {
            Some(0) => Err(self.invalid(key, "{value_zero,0}")),
            other => Ok(other),
        }
    }

    fn small(&self, key: &str, n: u64) -> Result<u32, Failure> {
        u32::try_from(n).map_err(|_| self.invalid(key, format_args!("{{value_too_large,{n}}}")))
    }

    fn millis(&self, key: &str, n: u64) -> Result<Duration, Failure> {
        if u128::from(n) > DURATION_MAX.as_millis() {
            return Err(self.invalid(key, format_args!("{{value_too_large,{n}}}")));
        }
        Ok(Duration::from_millis(n))
    }

    /// Milliseconds, zero included.
    fn duration(&self, key: &str) -> Result<Option<Duration>, Failure> {
        self.count(key)?.map(|n| self.millis(key, n)).transpose()
    }

    /// Milliseconds, at least one.
    fn positive_duration(&self, key: &str) -> Result<Option<Duration>, Failure> {
        self.positive(key)?.map(|n| self.millis(key, n)).transpose()
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(ValueView::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong_type(key, &other)),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(value @ ValueView::Str(_)) => match value.as_str() {
                Some(text) => Ok(Some(text)),
                None => Err(self.invalid(key, "not_utf8")),
            },
            Some(other) => Err(self.wrong_type(key, &other)),
        }
    }

    /// A text that is to be a name: of an exchange, a queue, a key, a header.
    fn name(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        match self.text(key)? {
            Some(name) if name.len() > NAME_BYTES_MAX => {
                Err(self.invalid(key, format_args!("\"over {NAME_BYTES_MAX} bytes\"")))
            }
            other => Ok(other),
        }
    }

    /// The same, where RabbitMQ has the other text about types.
    fn exchange_name(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        match self.get(key) {
            None | Some(ValueView::Str(_)) => self.name(key),
            Some(other) => Err(self.wrong_name_type(key, &other)),
        }
    }
}
