//! Statistics as dicts; `wherry._types` makes frozen dataclasses of them.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wherry_engine::{
    BrokerStatistics, Durability, ExchangeStatistics, JournalStatistics, ObstacleKind,
    QueueStatistics,
};

use crate::convert::NS;

macro_rules! fields {
    ($py:expr, $from:expr, $($name:ident),+ $(,)?) => {{
        let fields = PyDict::new($py);
        $(fields.set_item(stringify!($name), $from.$name)?;)+
        fields
    }};
}

/// The fields of a `wherry.QueueStatistics`.
#[expect(
    clippy::cast_precision_loss,
    reason = "a float of Unix seconds has microseconds, as time.time()"
)]
pub(crate) fn queue<'py>(
    py: Python<'py>,
    statistics: &QueueStatistics,
) -> PyResult<Bound<'py, PyDict>> {
    let fields = fields!(
        py,
        statistics,
        ready,
        unacked,
        scheduled,
        ready_bytes,
        consumers,
        published,
        delivered,
        acknowledged,
        redelivered,
        requeued,
        expired,
        dead_lettered,
        dropped,
        rejected,
        groups,
    );
    fields.set_item(
        "oldest_published",
        statistics.oldest_published_ns.map(|ns| ns as f64 / NS),
    )?;
    Ok(fields)
}

/// The fields of a `wherry.ExchangeStatistics`.
pub(crate) fn exchange<'py>(
    py: Python<'py>,
    statistics: &ExchangeStatistics,
) -> PyResult<Bound<'py, PyDict>> {
    Ok(fields!(
        py, statistics, published, routed, unroutable, bindings
    ))
}

/// The fields of a `wherry.BrokerStatistics`; `journal` is a dict of those of a `wherry.JournalStatistics`.
pub(crate) fn broker<'py>(
    py: Python<'py>,
    statistics: &BrokerStatistics,
) -> PyResult<Bound<'py, PyDict>> {
    let fields = fields!(
        py,
        statistics,
        queues,
        exchanges,
        virtual_hosts,
        ready,
        unacked,
        scheduled,
        timers,
        memory_bytes,
        memory_bytes_max,
    );
    let journal = statistics
        .journal
        .as_ref()
        .map(|statistics| journal(py, statistics))
        .transpose()?;
    fields.set_item("journal", journal)?;
    Ok(fields)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sync takes less than 2^53 nanoseconds"
)]
fn journal<'py>(py: Python<'py>, statistics: &JournalStatistics) -> PyResult<Bound<'py, PyDict>> {
    let fields = fields!(
        py,
        statistics,
        appended_bytes,
        written_bytes,
        durable_bytes,
        records,
        syncs,
        segments,
        segments_bytes,
        free_segments,
        staging_bytes,
    );
    let obstacle = statistics.obstacle.as_ref();
    let full = obstacle.is_some_and(|obstacle| obstacle.kind == ObstacleKind::Space);
    fields.set_item("disk_full", full)?;
    fields.set_item("obstacle", obstacle.map(ToString::to_string))?;
    fields.set_item("last_sync", statistics.last_sync_ns as f64 / NS)?;
    fields.set_item(
        "failed",
        statistics.poisoned.as_ref().map(ToString::to_string),
    )?;
    let durability = match statistics.durability {
        Durability::Always => "always",
        Durability::Interval(_) => "interval",
        Durability::Never => "never",
    };
    fields.set_item("durability", durability)?;
    Ok(fields)
}
