//! Small conversions between Python values and the engine's: times, durations, bytes.

use std::borrow::Cow;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDateTime, PyFloat, PyInt, PyMemoryView, PyString, PyTzInfo,
};

use crate::errors::{Error, Result};

/// Nanoseconds in a second, as a float.
pub(crate) const NS: f64 = 1e9;

/// A duration given in seconds.
pub(crate) fn duration(what: &str, seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        Error::invalid(format!(
            "{what}={seconds}: give a number of seconds that is not negative and is finite"
        ))
    })
}

/// A duration given in seconds, or nothing.
pub(crate) fn maybe_duration(what: &str, seconds: Option<f64>) -> Result<Option<Duration>> {
    seconds.map(|seconds| duration(what, seconds)).transpose()
}

/// Unix seconds of a number or of a datetime that knows its zone.
pub(crate) fn unix_seconds(what: &str, value: &Bound<'_, PyAny>) -> Result<f64> {
    if let Ok(moment) = value.cast::<PyDateTime>() {
        return aware_seconds(what, moment);
    }
    if value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>() {
        return Ok(value.extract()?);
    }
    Err(Error::invalid(format!(
        "{what}: give Unix seconds or a datetime with a time zone, not {}",
        type_name(value)
    )))
}

/// Unix seconds of a datetime; refused when it has no zone, since then it could mean any.
pub(crate) fn aware_seconds(what: &str, moment: &Bound<'_, PyDateTime>) -> Result<f64> {
    if moment.getattr("tzinfo")?.is_none() {
        return Err(Error::invalid(format!(
            "{what}: a datetime without time zone is ambiguous: use datetime.now(timezone.utc), or .astimezone()"
        )));
    }
    Ok(moment.call_method0("timestamp")?.extract()?)
}

/// Unix nanoseconds of [`unix_seconds`].
pub(crate) fn unix_ns(what: &str, value: &Bound<'_, PyAny>) -> Result<u64> {
    let seconds = unix_seconds(what, value)?;
    if seconds.is_finite() && (0.0..1.8e10).contains(&seconds) {
        return Ok((seconds * NS) as u64);
    }
    Err(Error::invalid(format!(
        "{what}={seconds}: give a time between 1970 and 2500"
    )))
}

/// A datetime in UTC, or the plain number when it is beyond what a datetime can say.
pub(crate) fn utc_datetime<'py>(py: Python<'py>, seconds: u64) -> PyResult<Bound<'py, PyAny>> {
    let utc = PyTzInfo::utc(py)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "whole seconds below 2^53 are exact; later ones are no datetime"
    )]
    match PyDateTime::from_timestamp(py, seconds as f64, Some(&utc.to_owned())) {
        Ok(moment) => Ok(moment.into_any()),
        Err(_) => Ok(seconds.into_pyobject(py)?.into_any()),
    }
}

/// The bytes of a body. `bytes` is borrowed: it cannot change. Everything else is copied.
pub(crate) fn body<'a>(value: &'a Bound<'_, PyAny>) -> Result<Cow<'a, [u8]>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Cow::Borrowed(bytes.as_bytes()));
    }
    other_body(value)
}

#[cold]
fn other_body(value: &Bound<'_, PyAny>) -> Result<Cow<'static, [u8]>> {
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(Cow::Owned(bytes.to_vec()));
    }
    if value.is_instance_of::<PyMemoryView>() {
        let bytes = value
            .call_method0("tobytes")?
            .cast_into::<PyBytes>()
            .map_err(PyErr::from)?;
        return Ok(Cow::Owned(bytes.as_bytes().to_vec()));
    }
    let hint = if value.is_instance_of::<PyString>() {
        ": encode it first, as in body.encode()"
    } else {
        ""
    };
    Err(Error::invalid(format!(
        "a body is bytes, bytearray or memoryview, not {}{hint}",
        type_name(value)
    )))
}

/// The name of a value's type, for messages.
pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value
        .get_type()
        .name()
        .map_or_else(|_| "an object".into(), |name| name.to_string())
}
