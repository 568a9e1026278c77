//! Statistics as dicts; `wherry._types` makes frozen dataclasses of them.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wherry_engine::{BrokerStatistics, Durability, ExchangeStatistics, QueueStatistics};

use crate::convert::NS;

macro_rules! fields {
    ($py:expr, $from:expr, $($name:ident),+ $(,)?) => {{
        let fields = PyDict::new($py);
        $(fields.set_item(stringify!($name), $from.$name)?;)+
        fields
    }};
}

/// The fields of a `wherry.QueueStatistics`.
#[expect(clippy::cast_precision_loss, reason = "a float of Unix seconds has microseconds, as time.time()")]
pub(crate) fn queue<'py>(py: Python<'py>, statistics: &QueueStatistics) -> PyResult<Bound<'py, PyDict>> {
    let fields = fields!(
        py, statistics, ready, unacked, scheduled, ready_bytes, consumers, published, delivered, acknowledged,
        redelivered, requeued, expired, dead_lettered, dropped, rejected, groups,
    );
    fields.set_item("oldest_published", statistics.oldest_published_ns.map(|ns| ns as f64 / NS))?;
    Ok(fields)
}

/// The fields of a `wherry.ExchangeStatistics`.
pub(crate) fn exchange<'py>(py: Python<'py>, statistics: &ExchangeStatistics) -> PyResult<Bound<'py, PyDict>> {
    Ok(fields!(py, statistics, published, routed, unroutable, bindings))
}

/// The fields of a `wherry.BrokerStatistics`.
pub(crate) fn broker<'py>(py: Python<'py>, statistics: &BrokerStatistics) -> PyResult<Bound<'py, PyDict>> {
    let fields = fields!(py, statistics, queues, exchanges, virtual_hosts, ready, unacked, timers);
    fields.set_item(
        "durability",
        match statistics.durability {
            Durability::Always => "always",
            Durability::Interval(_) => "interval",
            Durability::Never => "never",
        },
    )?;
    Ok(fields)
}
