//! Publishing: the hottest path but one.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use wherry_engine::{Exchange as EngineExchange, NewMessage};

use crate::convert::type_name;
use crate::errors::{Error, Result};
use crate::headers;
use crate::host::VirtualHost;
use crate::message::batch;
use crate::policies;
use crate::properties::Options;
use crate::shared::{DETACH_BYTES, DETACH_MESSAGES, Shared};
use crate::statistics;
use crate::whole;

/// The part of an exchange that does not wait. Base of `wherry.Exchange` and `wherry.blocking.Exchange`.
#[pyclass(frozen, subclass, module = "wherry._core")]
pub(crate) struct Exchange {
    pub(crate) shared: Arc<Shared>,
    pub(crate) exchange: Arc<EngineExchange>,
}

impl Exchange {
    /// Publishes as many messages as the engine takes at once: at least one, or an error.
    fn publish_part(
        &self,
        py: Python<'_>,
        messages: &[NewMessage<'_>],
        bytes: usize,
    ) -> Result<(u64, usize)> {
        let _call = self.shared.enter();
        let published = if bytes >= DETACH_BYTES || messages.len() >= DETACH_MESSAGES {
            py.detach(|| self.exchange.publish_batch(messages))?
        } else {
            self.exchange.publish_batch(messages)?
        };
        Ok((published.ticket.0, published.accepted))
    }
}

/// The items of any iterable, in a tuple, which cannot change. A tuple is taken as it is.
fn tuple_of<'py>(messages: &Bound<'py, PyAny>) -> Result<Bound<'py, PyTuple>> {
    if let Ok(items) = messages.cast_exact::<PyTuple>() {
        return Ok(items.clone());
    }
    if let Ok(items) = messages.cast_exact::<PyList>() {
        return Ok(items.to_tuple());
    }
    if messages.is_instance_of::<PyBytes>() {
        return Err(Error::invalid(
            "messages is one bytes object: give a list, or call publish",
        ));
    }
    let items = messages.try_iter().map_err(|_| {
        Error::invalid(format!(
            "messages is a sequence of Message, (body, routing_key) or bytes, not {}",
            type_name(messages)
        ))
    })?;
    Ok(PyTuple::new(
        messages.py(),
        items.collect::<PyResult<Vec<_>>>()?,
    )?)
}

#[pymethods]
impl Exchange {
    #[new]
    fn new(host: &VirtualHost, name: &str) -> Result<Self> {
        host.shared.check_open()?;
        Ok(Exchange {
            shared: Arc::clone(&host.shared),
            exchange: host.host.exchange(name)?,
        })
    }

    /// Its name; empty for the default exchange.
    #[getter]
    fn name(&self) -> &str {
        self.exchange.name()
    }

    /// How it routes: `direct`, `topic`, `headers` or `fanout`.
    #[getter]
    fn r#type(&self) -> &'static str {
        self.exchange.kind().as_str()
    }

    /// Publishes without waiting for the disk; a receipt for `broker.confirmed`.
    #[pyo3(signature = (body, routing_key="", *, headers=None, persistent=true, priority=None, expiration=None, delay=None, deliver_at=None, message_id=None, correlation_id=None, reply_to=None, content_type=None, content_encoding=None, r#type=None, app_id=None, user_id=None, timestamp=None, mandatory=false))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python function"
    )]
    fn publish_nowait(
        &self,
        body: &Bound<'_, PyAny>,
        routing_key: &str,
        headers: Option<&Bound<'_, PyDict>>,
        persistent: bool,
        #[pyo3(from_py_with = whole::priority)] priority: Option<u8>,
        expiration: Option<f64>,
        delay: Option<f64>,
        deliver_at: Option<&Bound<'_, PyAny>>,
        message_id: Option<&str>,
        correlation_id: Option<&str>,
        reply_to: Option<&str>,
        content_type: Option<&str>,
        content_encoding: Option<&str>,
        r#type: Option<&str>,
        app_id: Option<&str>,
        user_id: Option<&str>,
        timestamp: Option<&Bound<'_, PyAny>>,
        mandatory: bool,
    ) -> Result<u64> {
        let options = Options {
            headers,
            priority,
            expiration,
            delay,
            deliver_at,
            message_id,
            correlation_id,
            reply_to,
            content_type,
            content_encoding,
            kind: r#type,
            app_id,
            user_id,
            timestamp,
        };
        let publish = options.publish(body, routing_key, persistent, mandatory)?;
        let _call = self.shared.enter();
        Ok(self.exchange.publish(&publish.message())?.ticket.0)
    }

    /// Publishes a batch without waiting for the disk; one receipt for all of it.
    #[pyo3(signature = (messages, routing_key=""))]
    fn publish_many_nowait(
        &self,
        py: Python<'_>,
        messages: &Bound<'_, PyAny>,
        routing_key: &str,
    ) -> Result<u64> {
        let items = tuple_of(messages)?;
        let mut copies = Vec::new();
        let batch = batch(&items, routing_key, &mut copies)?;
        let mut rest = &batch.messages[..];
        let mut receipt = 0;
        while !rest.is_empty() {
            match self.publish_part(py, rest, batch.bytes) {
                Ok((part, accepted)) => {
                    receipt = receipt.max(part);
                    rest = &rest[accepted..];
                }
                Err(error) => {
                    let error = PyErr::from(error);
                    error
                        .value(py)
                        .setattr("published", batch.messages.len() - rest.len())?;
                    return Err(error.into());
                }
            }
        }
        Ok(receipt)
    }

    /// Publishes a batch as far as it goes: a receipt, and how many messages, at least one, were published.
    fn _publish_part(
        &self,
        py: Python<'_>,
        messages: &Bound<'_, PyAny>,
        routing_key: &str,
    ) -> Result<(u64, usize)> {
        let items = tuple_of(messages)?;
        let mut copies = Vec::new();
        let batch = batch(&items, routing_key, &mut copies)?;
        self.publish_part(py, &batch.messages, batch.bytes)
    }

    /// The bindings that lead out of it: destination kind, destination, routing key and arguments of each.
    #[expect(clippy::type_complexity, reason = "four fields of a Python tuple")]
    fn _bindings<'py>(
        &self,
        py: Python<'py>,
    ) -> Result<Vec<(&'static str, String, String, Bound<'py, PyDict>)>> {
        self.shared.check_open()?;
        let bindings = self.exchange.bindings();
        bindings
            .iter()
            .map(|binding| {
                let kind = if binding.to_exchange {
                    "exchange"
                } else {
                    "queue"
                };
                Ok((
                    kind,
                    binding.destination.clone(),
                    binding.routing_key.clone(),
                    headers::dict(py, &binding.arguments)?,
                ))
            })
            .collect()
    }

    /// The policy that acts on it, and where messages go that no binding takes: policy, alternate_exchange.
    fn _policy<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        self.shared.check_open()?;
        Ok(policies::of_exchange(py, &self.exchange)?)
    }

    /// The numbers of `ExchangeStatistics`, by field name.
    fn _statistics<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        self.shared.check_open()?;
        Ok(statistics::exchange(py, &self.exchange.statistics())?)
    }
}
