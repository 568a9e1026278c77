//! Messages that are looked at, not taken: `BrowsedMessage`, `ScheduledMessage`, and the history of a dead letter.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use wherry_engine::{Browsed, Message, ScheduledMessage};

use crate::convert::NS;
use crate::properties::View;

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("wherry._types")?.getattr(name)
}

fn envelope<'py>(py: Python<'py>, message: &Message) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("body", PyBytes::new(py, message.body()))?;
    fields.set_item("exchange", message.exchange())?;
    fields.set_item("routing_key", message.routing_key())?;
    fields.set_item("properties", View(message).properties(py)?)?;
    Ok(fields)
}

/// A `wherry.BrowsedMessage`.
pub(crate) fn browsed<'py>(py: Python<'py>, browsed: &Browsed) -> PyResult<Bound<'py, PyAny>> {
    let fields = envelope(py, &browsed.message)?;
    fields.set_item("position", browsed.position)?;
    fields.set_item("priority", browsed.priority)?;
    fields.set_item("redelivered", browsed.redelivered)?;
    fields.set_item("delivery_count", browsed.delivery_count)?;
    class(py, "BrowsedMessage")?.call((), Some(&fields))
}

/// A `wherry.ScheduledMessage`.
#[expect(
    clippy::cast_precision_loss,
    reason = "a float of Unix seconds has microseconds, as time.time()"
)]
pub(crate) fn scheduled<'py>(
    py: Python<'py>,
    scheduled: &ScheduledMessage,
) -> PyResult<Bound<'py, PyAny>> {
    let fields = envelope(py, &scheduled.message)?;
    fields.set_item("id", scheduled.id)?;
    fields.set_item("due", scheduled.due_ns as f64 / NS)?;
    fields.set_item("retry", scheduled.retry)?;
    class(py, "ScheduledMessage")?.call((), Some(&fields))
}

/// The `wherry.Death`s that the `x-death` header tells.
pub(crate) fn deaths<'py>(headers: &Bound<'py, PyDict>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = headers.py();
    let Some(Ok(entries)) = headers.get_item("x-death")?.map(Bound::cast_into::<PyList>) else {
        return Ok(Vec::new());
    };
    let make = class(py, "Death")?.getattr("_of")?;
    entries
        .iter()
        .filter(PyAnyMethods::is_instance_of::<PyDict>)
        .map(|entry| make.call1((entry,)))
        .collect()
}
