//! Declarations from arguments: what they become (`meaning.rs`), and the texts of refusals (`recorded.rs`).

mod meaning;
mod recorded;

use std::time::Duration;

use wherry_engine::table::{Table, TableView, Value};
use wherry_engine::{ExchangeOptions, QueueOptions};
use wherry_session::arguments::{
    ConsumeArguments, consume_arguments, exchange_options, queue_options,
};
use wherry_session::{Failure, FailureKind};

pub(crate) fn table(fields: &[(&str, Value)]) -> Table {
    let mut table = Table::default();
    for (name, value) in fields {
        table.push(*name, value.clone());
    }
    table
}

pub(crate) fn queue(fields: &[(&str, Value)]) -> Result<QueueOptions, Failure> {
    let bytes = table(fields).encode().unwrap();
    queue_options("/", "q", true, None, false, TableView::new(&bytes))
}

pub(crate) fn exchange(kind: &str, fields: &[(&str, Value)]) -> Result<ExchangeOptions, Failure> {
    let bytes = table(fields).encode().unwrap();
    exchange_options("/", "e", kind, true, false, false, TableView::new(&bytes))
}

pub(crate) fn consume(fields: &[(&str, Value)]) -> Result<ConsumeArguments, Failure> {
    let bytes = table(fields).encode().unwrap();
    consume_arguments("/", "q", TableView::new(&bytes))
}

pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::PreconditionFailed);
    failure.text
}

pub(crate) fn text(value: &str) -> Value {
    Value::Str(value.into())
}

pub(crate) fn millis(n: u64) -> Option<Duration> {
    Some(Duration::from_millis(n))
}
