//! A message that is not published yet, and sequences of them.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use wherry_engine::{Delay, NewMessage};
use wherry_queues::prefetch;

use crate::convert::{body as body_bytes, type_name};
use crate::errors::{Error, Result};
use crate::properties::Options;
use crate::whole;

/// A message for `publish_many`: a body, a routing key and the options of `Exchange.publish`.
///
/// Immutable, and encoded once, so that one message can be published many times cheaply. Safe to use from any thread.
///
/// Args:
///     body: bytes, bytearray or memoryview (the latter two are copied).
///     routing_key: what the exchange routes by; at most 255 bytes.
///     headers, persistent, priority, expiration, delay, deliver_at, message_id, correlation_id, reply_to,
///         content_type, content_encoding, type, app_id, user_id, timestamp, mandatory: as for `Exchange.publish`.
///
/// Raises:
///     InvalidArgument: an option that can never be right; the message names it.
#[pyclass(frozen, module = "wherry")]
pub(crate) struct Message {
    body: Py<PyBytes>,
    routing_key: Py<PyString>,
    properties: Vec<u8>,
    persistent: bool,
    mandatory: bool,
    delay: Delay,
}

#[pymethods]
impl Message {
    #[new]
    #[pyo3(signature = (body, routing_key="", *, headers=None, persistent=true, priority=None, expiration=None, delay=None, deliver_at=None, message_id=None, correlation_id=None, reply_to=None, content_type=None, content_encoding=None, r#type=None, app_id=None, user_id=None, timestamp=None, mandatory=false))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python function"
    )]
    fn new(
        py: Python<'_>,
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
    ) -> Result<Self> {
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
        let bytes = match body.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.clone().unbind(),
            Err(_) => PyBytes::new(py, &body_bytes(body)?).unbind(),
        };
        Ok(Message {
            body: bytes,
            routing_key: PyString::new(py, routing_key).unbind(),
            properties: options.encode()?,
            persistent,
            mandatory,
            delay: options.delay()?,
        })
    }

    /// The body.
    #[getter]
    fn body(&self, py: Python<'_>) -> Py<PyBytes> {
        self.body.clone_ref(py)
    }

    /// The routing key.
    #[getter]
    fn routing_key(&self, py: Python<'_>) -> Py<PyString> {
        self.routing_key.clone_ref(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "<wherry.Message {} bytes, routing_key={}>",
            self.body.bind(py).as_bytes().len(),
            self.routing_key.bind(py).repr()?
        ))
    }
}

/// So many items before they are read, what they point to is asked for.
const AHEAD: usize = 32;
/// Where CPython keeps the characters of most `str`; only a hint.
const TEXT_OFFSET: usize = 48;

/// The messages of a batch. They borrow from `items`, a tuple: neither it nor the `bytes` and `str` in it can change.
pub(crate) struct Batch<'a> {
    pub(crate) messages: Vec<NewMessage<'a>>,
    /// Bodies together.
    pub(crate) bytes: usize,
}

/// Reads a batch: `Message`, `(body, routing_key)` or `bytes` with the common key. Mutable bodies are copied into
/// `copies` first, so that they can be borrowed.
pub(crate) fn batch<'a>(
    items: &'a Bound<'_, PyTuple>,
    routing_key: &'a str,
    copies: &'a mut Vec<Vec<u8>>,
) -> Result<Batch<'a>> {
    if let Some(batch) = read(items, routing_key, || None)? {
        return Ok(batch);
    }
    // Some bodies are not `bytes`. Two more passes, since `copies` must not move once something borrows from it.
    for (index, item) in items.as_slice().iter().enumerate() {
        if item.is_exact_instance_of::<PyBytes>() || item.is_instance_of::<Message>() {
            continue;
        }
        let value = pair(item).map_or(item, |(body, _)| body);
        if let Cow::Owned(copy) = body_bytes(value).map_err(|e| at(items.py(), index, e))? {
            copies.push(copy);
        }
    }
    let mut copies = copies.iter().map(Vec::as_slice);
    let batch = read(items, routing_key, || Some(copies.next().unwrap_or(&[])))?;
    batch.ok_or_else(|| Error::invalid("a body was none of bytes, bytearray and memoryview"))
}

/// The messages, with `copy` in place of each body that is not `bytes`; None if there is none in its place.
fn read<'a>(
    items: &'a Bound<'_, PyTuple>,
    routing_key: &'a str,
    mut copy: impl FnMut() -> Option<&'a [u8]>,
) -> Result<Option<Batch<'a>>> {
    let items_slice = items.as_slice();
    let mut messages = Vec::with_capacity(items.len());
    let mut bytes = 0;
    for (index, item) in items_slice.iter().enumerate() {
        look_ahead(&items_slice[index..]);
        let message = if let Ok(body) = item.cast_exact::<PyBytes>() {
            NewMessage::new(routing_key, body.as_bytes())
        } else if let Some((body, key)) = pair(item) {
            let key = key.cast::<PyString>().map_err(|_| {
                let text = format!("a routing key is a str, not {}", type_name(key));
                at(items.py(), index, Error::invalid(text))
            });
            let body = match body.cast::<PyBytes>() {
                Ok(body) => body.as_bytes(),
                Err(_) => match copy() {
                    Some(copy) => copy,
                    None => return Ok(None),
                },
            };
            NewMessage::new(key?.to_str()?, body)
        } else if let Ok(message) = item.cast::<Message>() {
            message
                .get()
                .to_new(items.py())
                .map_err(|e| at(items.py(), index, e))?
        } else if let Ok(body) = item.cast::<PyBytes>() {
            NewMessage::new(routing_key, body.as_bytes())
        } else {
            match copy() {
                Some(copy) => NewMessage::new(routing_key, copy),
                None => return Ok(None),
            }
        };
        bytes += message.body.len();
        messages.push(message);
    }
    Ok(Some(Batch { messages, bytes }))
}

/// Has the memory of later items fetched. Where keys and bodies are many, they are in no cache.
#[inline]
fn look_ahead(items: &[Bound<'_, PyAny>]) {
    if let Some(item) = items.get(2 * AHEAD) {
        prefetch(item.as_ptr());
    }
    if let Some((body, key)) = items.get(AHEAD).and_then(pair) {
        prefetch(body.as_ptr());
        // The characters of a `str` begin where a cache line may end.
        prefetch(key.as_ptr());
        prefetch(key.as_ptr().cast::<u8>().wrapping_add(TEXT_OFFSET));
    }
}

type Pair<'a, 'py> = (&'a Bound<'py, PyAny>, &'a Bound<'py, PyAny>);

fn pair<'a, 'py>(item: &'a Bound<'py, PyAny>) -> Option<Pair<'a, 'py>> {
    match item.cast::<PyTuple>().ok()?.as_slice() {
        [body, routing_key] => Some((body, routing_key)),
        _ => None,
    }
}

/// The error with the place in the batch put in front.
#[cold]
fn at(py: Python<'_>, index: usize, error: Error) -> Error {
    let text = match &error {
        Error::Engine(error) => error.to_string(),
        Error::Python(error) => error.value(py).to_string(),
        Error::QueueEmpty(_) => String::new(),
    };
    Error::invalid(format!("messages[{index}]: {text}"))
}

impl Message {
    fn to_new<'a>(&'a self, py: Python<'a>) -> Result<NewMessage<'a>> {
        Ok(NewMessage {
            routing_key: self.routing_key.bind(py).to_str()?,
            properties: &self.properties,
            body: self.body.bind(py).as_bytes(),
            persistent: self.persistent,
            mandatory: self.mandatory,
            delay: self.delay,
        })
    }
}
