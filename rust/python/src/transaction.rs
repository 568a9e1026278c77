//! Publishes and acknowledgements that happen together or not at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wherry_engine::{Error as EngineError, Outcome, Transaction as EngineTransaction};

use crate::delivery::Delivery;
use crate::errors::{Error, Result};
use crate::exchange::Exchange;
use crate::properties::Options;
use crate::shared::Shared;
use crate::whole;

/// Publishes and acknowledgements that are carried out together, as one record of the journal, when the block of
/// `broker.transaction()` ends; an exception in the block rolls them back.
///
/// Until then nothing of it can be seen, and the deliveries stay unacknowledged. Safe to use from any thread.
#[pyclass(frozen, module = "wherry")]
pub(crate) struct Transaction {
    shared: Arc<Shared>,
    /// Empty once committed or rolled back. With it the deliveries to mark.
    open: Mutex<Option<(EngineTransaction, Vec<Py<Delivery>>)>>,
}

impl Transaction {
    pub(crate) fn new(shared: Arc<Shared>, transaction: EngineTransaction) -> Self {
        Transaction {
            shared,
            open: Mutex::new(Some((transaction, Vec::new()))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(EngineTransaction, Vec<Py<Delivery>>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, delivery: &Bound<'_, Delivery>, outcome: Outcome) -> Result<()> {
        let mut open = self.lock();
        let (transaction, deliveries) = open.as_mut().ok_or_else(over)?;
        let this = delivery.get();
        transaction.settle(&this.hand_out.consumer, this.tag(), false, outcome)?;
        deliveries.push(delivery.clone().unbind());
        Ok(())
    }
}

#[cold]
fn over() -> Error {
    Error::Engine(EngineError::PreconditionFailed(
        "this transaction is over: start another with broker.transaction()".into(),
    ))
}

#[pymethods]
impl Transaction {
    /// Adds a publish. Arguments are those of `Exchange.publish`, after the exchange.
    ///
    /// Raises:
    ///     InvalidArgument: an option that can never be right.
    ///     PreconditionFailed: the transaction is over.
    #[pyo3(signature = (exchange, body, routing_key="", *, headers=None, persistent=true, priority=None, expiration=None, delay=None, deliver_at=None, message_id=None, correlation_id=None, reply_to=None, content_type=None, content_encoding=None, r#type=None, app_id=None, user_id=None, timestamp=None, mandatory=false))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python function"
    )]
    fn publish(
        &self,
        exchange: &Exchange,
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
    ) -> Result<()> {
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
        let mut open = self.lock();
        let (transaction, _) = open.as_mut().ok_or_else(over)?;
        Ok(transaction.publish(&exchange.exchange, &publish.message())?)
    }

    /// Adds an acknowledgement.
    ///
    /// Raises:
    ///     UnknownDelivery: it is settled already (found here or at the commit).
    ///     PreconditionFailed: the transaction is over.
    fn ack(&self, delivery: &Bound<'_, Delivery>) -> Result<()> {
        self.settle(delivery, Outcome::Ack)
    }

    /// Adds a negative acknowledgement.
    ///
    /// Raises:
    ///     UnknownDelivery: it is settled already (found here or at the commit).
    ///     PreconditionFailed: the transaction is over.
    #[pyo3(signature = (delivery, requeue=true))]
    fn nack(&self, delivery: &Bound<'_, Delivery>, requeue: bool) -> Result<()> {
        self.settle(delivery, Outcome::Nack { requeue })
    }

    /// Carries it out; a receipt. After an error nothing of it happened; after `Busy` it can be tried again.
    fn _commit(&self) -> Result<u64> {
        let mut open = self.lock();
        let (transaction, deliveries) = open.as_mut().ok_or_else(over)?;
        let call = self.shared.enter();
        let committed = transaction.commit();
        if committed.is_ok() {
            for delivery in deliveries {
                delivery.get().mark_settled();
            }
        }
        if !matches!(committed, Err(EngineError::Busy)) {
            *open = None;
        }
        // The end of the call may run Python code, which may come back here.
        drop(open);
        drop(call);
        Ok(committed?.0)
    }

    /// Forgets it. May be repeated.
    fn _rollback(&self) {
        drop(self.lock().take());
    }
}
