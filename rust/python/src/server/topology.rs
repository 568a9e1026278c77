//! Declarations with arguments as a client sends them: for importing definitions.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wherry_engine::Ticket;
use wherry_engine::table::TableView;
use wherry_session::Failure;
use wherry_session::arguments::{exchange_options, queue_options};

use crate::errors::{Error, Result};
use crate::headers;
use crate::host::VirtualHost;

/// Whatever is wrong with the arguments; the words are RabbitMQ's.
fn refused(failure: Failure) -> Error {
    Error::invalid(failure.text)
}

fn encoded(arguments: &Bound<'_, PyDict>) -> Result<Vec<u8>> {
    headers::table("arguments", arguments)?
        .encode()
        .map_err(|e| Error::invalid(format!("arguments: {e}")))
}

/// Declares a queue as `queue.declare` does; a receipt.
#[pyfunction]
#[pyo3(signature = (host, name, *, durable, auto_delete, arguments))]
pub(crate) fn declare_queue_from_arguments(
    host: &VirtualHost,
    name: &str,
    durable: bool,
    auto_delete: bool,
    arguments: &Bound<'_, PyDict>,
) -> Result<u64> {
    let bytes = encoded(arguments)?;
    let view = TableView::new(&bytes);
    let options =
        queue_options(host.host.name(), name, durable, None, auto_delete, view).map_err(refused)?;
    let (_, Ticket(receipt)) = host.host.declare_queue(name, options)?;
    Ok(receipt)
}

/// Declares an exchange as `exchange.declare` does; a receipt.
#[pyfunction]
#[pyo3(signature = (host, name, *, r#type, durable, auto_delete, internal, arguments))]
pub(crate) fn declare_exchange_from_arguments(
    host: &VirtualHost,
    name: &str,
    r#type: &str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: &Bound<'_, PyDict>,
) -> Result<u64> {
    let bytes = encoded(arguments)?;
    let options = exchange_options(
        host.host.name(),
        name,
        r#type,
        durable,
        auto_delete,
        internal,
        TableView::new(&bytes),
    )
    .map_err(refused)?;
    let (_, Ticket(receipt)) = host.host.declare_exchange(name, options)?;
    Ok(receipt)
}
