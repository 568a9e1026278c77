//! Message properties: keyword arguments of `publish` to encoded bytes, and encoded bytes to attributes.

use std::borrow::Cow;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use wherry_engine::properties::Properties;
use wherry_engine::{Delay, Message, NewMessage};

use crate::convert::{body as body_bytes, duration, unix_ns, unix_seconds, utc_datetime};
use crate::errors::{Error, Result};
use crate::headers;

/// The keyword arguments that every form of publish takes, as Python gave them.
#[derive(Default)]
pub(crate) struct Options<'a, 'py> {
    pub(crate) headers: Option<&'a Bound<'py, PyDict>>,
    pub(crate) priority: Option<u8>,
    pub(crate) expiration: Option<f64>,
    pub(crate) delay: Option<f64>,
    pub(crate) deliver_at: Option<&'a Bound<'py, PyAny>>,
    pub(crate) message_id: Option<&'a str>,
    pub(crate) correlation_id: Option<&'a str>,
    pub(crate) reply_to: Option<&'a str>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) content_encoding: Option<&'a str>,
    pub(crate) kind: Option<&'a str>,
    pub(crate) app_id: Option<&'a str>,
    pub(crate) user_id: Option<&'a str>,
    pub(crate) timestamp: Option<&'a Bound<'py, PyAny>>,
}

/// A publish as Python asked for it, checked and encoded.
pub(crate) struct Publish<'a> {
    routing_key: &'a str,
    properties: Vec<u8>,
    body: Cow<'a, [u8]>,
    persistent: bool,
    mandatory: bool,
    delay: Delay,
}

impl Publish<'_> {
    /// As the engine takes it.
    #[inline]
    pub(crate) fn message(&self) -> NewMessage<'_> {
        NewMessage {
            routing_key: self.routing_key,
            properties: &self.properties,
            body: &self.body,
            persistent: self.persistent,
            mandatory: self.mandatory,
            delay: self.delay,
        }
    }
}

impl Options<'_, '_> {
    /// A publish with these options.
    #[inline]
    pub(crate) fn publish<'a>(
        &self,
        body: &'a Bound<'_, PyAny>,
        routing_key: &'a str,
        persistent: bool,
        mandatory: bool,
    ) -> Result<Publish<'a>> {
        Ok(Publish {
            routing_key,
            properties: self.encode()?,
            body: body_bytes(body)?,
            persistent,
            mandatory,
            delay: self.delay()?,
        })
    }

    /// Encoded properties; empty, and nothing allocated, when none is given.
    #[inline]
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        if self.headers.is_none()
            && self.priority.is_none()
            && self.expiration.is_none()
            && self.message_id.is_none()
            && self.correlation_id.is_none()
            && self.reply_to.is_none()
            && self.content_type.is_none()
            && self.content_encoding.is_none()
            && self.kind.is_none()
            && self.app_id.is_none()
            && self.user_id.is_none()
            && self.timestamp.is_none()
        {
            return Ok(Vec::new());
        }
        self.encode_some()
    }

    fn encode_some(&self) -> Result<Vec<u8>> {
        let owned = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        let properties = Properties {
            content_type: owned(self.content_type),
            content_encoding: owned(self.content_encoding),
            headers: self
                .headers
                .map(|dict| headers::table("headers", dict))
                .transpose()?,
            priority: self.priority,
            correlation_id: owned(self.correlation_id),
            reply_to: owned(self.reply_to),
            expiration: self.expiration.map(expiration_text).transpose()?,
            message_id: owned(self.message_id),
            timestamp: self.timestamp.map(timestamp_seconds).transpose()?,
            type_: owned(self.kind),
            user_id: owned(self.user_id),
            app_id: owned(self.app_id),
            ..Properties::default()
        };
        properties
            .encode()
            .map_err(|e| Error::invalid(format!("properties: {e}")))
    }

    /// When the message becomes deliverable.
    #[inline]
    pub(crate) fn delay(&self) -> Result<Delay> {
        match (self.delay, self.deliver_at) {
            (None, None) => Ok(Delay::None),
            (Some(seconds), None) => Ok(Delay::For(duration("delay", seconds)?)),
            (None, Some(moment)) => Ok(Delay::At(unix_ns("deliver_at", moment)?)),
            (Some(_), Some(_)) => Err(Error::invalid(
                "delay and deliver_at both say when: give one of them",
            )),
        }
    }
}

/// RabbitMQ's way to write it: milliseconds, in digits. Rounded up, so that nothing expires early.
fn expiration_text(seconds: f64) -> Result<Vec<u8>> {
    let lifetime = duration("expiration", seconds)?;
    Ok(lifetime
        .as_nanos()
        .div_ceil(1_000_000)
        .to_string()
        .into_bytes())
}

fn timestamp_seconds(moment: &Bound<'_, PyAny>) -> Result<u64> {
    let seconds = unix_seconds("timestamp", moment)?;
    if seconds.is_finite() && (0.0..9e15).contains(&seconds) {
        return Ok(seconds as u64);
    }
    Err(Error::invalid(format!(
        "timestamp={seconds}: give a time after 1970"
    )))
}

/// A short text of the envelope. A peer may have sent what is not UTF-8: such bytes come as surrogates, so that none
/// is lost.
pub(crate) fn maybe_text<'py>(
    py: Python<'py>,
    bytes: Option<&[u8]>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(bytes) = bytes else { return Ok(None) };
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Some(PyString::new(py, text).into_any())),
        Err(_) => PyBytes::new(py, bytes)
            .call_method1("decode", ("utf-8", "surrogateescape"))
            .map(Some),
    }
}

/// Attributes of a message in Python's types. Each call decodes anew.
pub(crate) struct View<'a>(pub(crate) &'a Message);

impl View<'_> {
    pub(crate) fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        match self.0.properties().headers() {
            Some(view) => headers::dict(py, &view.to_headers().unwrap_or_default()),
            None => Ok(PyDict::new(py)),
        }
    }

    /// Seconds.
    pub(crate) fn expiration(&self) -> Option<f64> {
        let text = self.0.properties().expiration()?;
        let milliseconds: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        Some(Duration::from_millis(milliseconds).as_secs_f64())
    }

    pub(crate) fn timestamp<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0
            .properties()
            .timestamp()
            .map(|seconds| utc_datetime(py, seconds))
            .transpose()
    }

    /// An instance of `wherry.Properties`.
    pub(crate) fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let view = self.0.properties();
        let fields = PyDict::new(py);
        fields.set_item("headers", self.headers(py)?)?;
        fields.set_item("persistent", self.0.persistent())?;
        fields.set_item("priority", view.priority())?;
        fields.set_item("expiration", self.expiration())?;
        fields.set_item("message_id", maybe_text(py, view.message_id())?)?;
        fields.set_item("correlation_id", maybe_text(py, view.correlation_id())?)?;
        fields.set_item("reply_to", maybe_text(py, view.reply_to())?)?;
        fields.set_item("content_type", maybe_text(py, view.content_type())?)?;
        fields.set_item("content_encoding", maybe_text(py, view.content_encoding())?)?;
        fields.set_item("type", maybe_text(py, view.type_())?)?;
        fields.set_item("app_id", maybe_text(py, view.app_id())?)?;
        fields.set_item("user_id", maybe_text(py, view.user_id())?)?;
        fields.set_item("timestamp", self.timestamp(py)?)?;
        py.import("wherry._types")?
            .getattr("Properties")?
            .call((), Some(&fields))
    }
}
