//! A virtual host: declaring, deleting, binding. Nothing here is called once per message.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wherry_engine::table::Table;
use wherry_engine::{
    Dedup, DedupKey, ExchangeOptions, OwnerId, QueueOptions, RetryPolicy, VirtualHost as EngineHost,
};

use crate::convert::{duration, maybe_duration};
use crate::engine::Engine;
use crate::errors::{Error, Result};
use crate::headers;
use crate::shared::Shared;
use crate::transaction::Transaction;
use crate::whole;

/// The embedding program, as the owner of exclusive queues. Connections of a server get other numbers.
pub(crate) const EMBEDDER: OwnerId = 1;

/// A virtual host's control plane. Private: the public `VirtualHost` classes hold one.
#[pyclass(frozen, module = "wherry._core")]
pub(crate) struct VirtualHost {
    pub(crate) shared: Arc<Shared>,
    pub(crate) host: Arc<EngineHost>,
}

fn arguments_of(arguments: Option<&Bound<'_, PyDict>>) -> Result<Table> {
    arguments.map_or_else(
        || Ok(Table::default()),
        |dict| headers::table("arguments", dict),
    )
}

/// Reads a `wherry.Retry`.
fn retry_of(retry: &Bound<'_, PyAny>) -> Result<RetryPolicy> {
    let seconds = |name: &str| -> Result<f64> { Ok(retry.getattr(name)?.extract()?) };
    let kind: String = retry.getattr("kind")?.extract()?;
    Ok(RetryPolicy {
        kind: kind.parse()?,
        attempts: whole::number("retry.attempts", &retry.getattr("attempts")?)?,
        first: duration("retry.first", seconds("first")?)?,
        factor: seconds("factor")?,
        maximum: maybe_duration("retry.maximum", retry.getattr("maximum")?.extract()?)?,
        jitter: retry.getattr("jitter")?.extract()?,
        dead_letter: retry.getattr("dead_letter")?.extract()?,
    })
}

/// Reads a `wherry.Dedup`.
fn dedup_of(dedup: &Bound<'_, PyAny>) -> Result<Dedup> {
    let header: Option<String> = dedup.getattr("header")?.extract()?;
    Ok(Dedup {
        by: header.map_or(DedupKey::Default, DedupKey::Named),
        window: maybe_duration("dedup.window", dedup.getattr("window")?.extract()?)?,
        size: whole::number("dedup.size", &dedup.getattr("size")?)?,
    })
}

#[pymethods]
impl VirtualHost {
    #[new]
    fn new(engine: &Engine, name: &str) -> Result<Self> {
        let host = engine.shared.broker.virtual_host(name)?;
        Ok(VirtualHost {
            shared: Arc::clone(&engine.shared),
            host,
        })
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.host.name()
    }

    /// Declares an exchange; a receipt.
    #[pyo3(signature = (name, r#type="direct", *, durable=true, auto_delete=false, internal=false, alternate_exchange=None, dedup=None, arguments=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python function"
    )]
    fn declare_exchange(
        &self,
        name: &str,
        r#type: &str,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        alternate_exchange: Option<String>,
        dedup: Option<&Bound<'_, PyAny>>,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> Result<u64> {
        let kind = r#type.parse().map_err(|_| {
            Error::invalid(format!(
                "type='{type}': use 'direct', 'topic', 'headers' or 'fanout'"
            ))
        })?;
        let options = ExchangeOptions {
            kind,
            durable,
            auto_delete,
            internal,
            alternate_exchange,
            dedup: dedup.map(dedup_of).transpose()?,
            arguments: arguments_of(arguments)?,
            ..ExchangeOptions::default()
        };
        Ok(self.host.declare_exchange(name, options)?.1.0)
    }

    /// Declares a queue; its name and a receipt.
    #[pyo3(signature = (name, *, durable=true, exclusive=false, auto_delete=false, group_by=None, retry=None, max_priority=None, message_ttl=None, expires=None, max_length=None, max_length_bytes=None, overflow="drop-head", dead_letter_exchange=None, dead_letter_routing_key=None, delivery_limit=None, single_active_consumer=false, lease=None, dedup=None, arguments=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python function"
    )]
    fn declare_queue(
        &self,
        name: &str,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        group_by: Option<String>,
        retry: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = whole::max_priority)] max_priority: Option<u8>,
        message_ttl: Option<f64>,
        expires: Option<f64>,
        #[pyo3(from_py_with = whole::max_length)] max_length: Option<u64>,
        #[pyo3(from_py_with = whole::max_length_bytes)] max_length_bytes: Option<u64>,
        overflow: &str,
        dead_letter_exchange: Option<String>,
        dead_letter_routing_key: Option<String>,
        #[pyo3(from_py_with = whole::delivery_limit)] delivery_limit: Option<u32>,
        single_active_consumer: bool,
        lease: Option<f64>,
        dedup: Option<&Bound<'_, PyAny>>,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> Result<(String, u64)> {
        let options = QueueOptions {
            durable,
            exclusive: exclusive.then_some(EMBEDDER),
            auto_delete,
            group_by,
            retry: retry.map(retry_of).transpose()?,
            max_priority,
            message_ttl: maybe_duration("message_ttl", message_ttl)?,
            expires: maybe_duration("expires", expires)?,
            max_length,
            max_length_bytes,
            overflow: overflow.parse()?,
            dead_letter_exchange,
            dead_letter_routing_key,
            delivery_limit,
            single_active_consumer,
            lease: maybe_duration("lease", lease)?,
            dedup: dedup.map(dedup_of).transpose()?,
            arguments: arguments_of(arguments)?,
        };
        let (queue, ticket) = self.host.declare_queue(name, options)?;
        Ok((queue.name().to_owned(), ticket.0))
    }

    /// The names of the exchanges.
    fn exchanges(&self) -> Result<Vec<String>> {
        self.shared.check_open()?;
        let exchanges = self.host.exchanges();
        let names = exchanges.iter().map(|exchange| exchange.name().to_owned());
        Ok(names.collect())
    }

    /// The names of the queues.
    fn queues(&self) -> Result<Vec<String>> {
        self.shared.check_open()?;
        let queues = self.host.queues();
        Ok(queues.iter().map(|queue| queue.name().to_owned()).collect())
    }

    /// Deletes an exchange; a receipt.
    fn delete_exchange(&self, name: &str, if_unused: bool) -> Result<u64> {
        let _call = self.shared.enter();
        Ok(self.host.delete_exchange(name, if_unused)?.0)
    }

    /// Deletes a queue; the number of its ready messages and a receipt.
    fn delete_queue(
        &self,
        py: Python<'_>,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(u64, u64)> {
        let _call = self.shared.enter();
        let (count, ticket) = py.detach(|| self.host.delete_queue(name, if_unused, if_empty))?;
        Ok((count, ticket.0))
    }

    /// Binds a queue to an exchange; a receipt.
    #[pyo3(signature = (queue, exchange, key, arguments=None))]
    fn bind_queue(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> Result<u64> {
        Ok(self
            .host
            .bind_queue(queue, exchange, key, arguments_of(arguments)?)?
            .0)
    }

    /// Takes such a binding away; a receipt.
    #[pyo3(signature = (queue, exchange, key, arguments=None))]
    fn unbind_queue(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> Result<u64> {
        Ok(self
            .host
            .unbind_queue(queue, exchange, key, arguments_of(arguments)?)?
            .0)
    }

    /// Binds an exchange to another one that gives it messages; a receipt.
    #[pyo3(signature = (destination, source, key, arguments=None))]
    fn bind_exchange(
        &self,
        destination: &str,
        source: &str,
        key: &str,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> Result<u64> {
        Ok(self
            .host
            .bind_exchange(destination, source, key, arguments_of(arguments)?)?
            .0)
    }

    /// Takes such a binding away; a receipt.
    #[pyo3(signature = (destination, source, key, arguments=None))]
    fn unbind_exchange(
        &self,
        destination: &str,
        source: &str,
        key: &str,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> Result<u64> {
        Ok(self
            .host
            .unbind_exchange(destination, source, key, arguments_of(arguments)?)?
            .0)
    }

    /// Starts a transaction.
    fn transaction(&self) -> Transaction {
        Transaction::new(Arc::clone(&self.shared), self.host.transaction())
    }
}
