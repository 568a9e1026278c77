//! One connection's session, of whatever protocol, as the server's loop drives it: bytes in, bytes out, and a status that says what to do
//! next.
//!
//! Every call that may make other sessions ready is marked with [`Call`], so that the loop's own thread serves their
//! wake-ups on its way out of it. Long work is done with the interpreter released.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use wherry_engine::Notify;
use wherry_session::{Peer, Session as ProtocolSession, Status};

use crate::errors::{Error, Result};
use crate::headers;
use crate::port::{Call, Inner, Port};

use super::front::{FrontEnd, Shared};
use super::output;

/// How many bytes must come in at once before it is worth letting other threads run meanwhile: below, parsing takes
/// less time than getting the interpreter back may.
const DETACH_BYTES: usize = 16 << 10;

/// One connection's session. Used by `wherry.server` only, on the thread of its loop.
#[pyclass(frozen, module = "wherry._core")]
pub(crate) struct Session {
    session: Arc<dyn ProtocolSession>,
    shared: Arc<Shared>,
    port: Arc<Inner>,
}

impl Session {
    fn enter(&self) -> Call<'_> {
        Call::enter(Some(&self.port))
    }
}

/// Turns a panic into an ordinary exception, which ends this connection and no other. The session may be used for
/// nothing but `lost` then.
fn guarded<T>(call: impl FnOnce() -> T) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|_| PyRuntimeError::new_err("the session panicked; its message is on stderr"))
}

#[pymethods]
impl Session {
    /// `take_output` has something.
    #[classattr]
    const OUTPUT: u32 = Status::OUTPUT.bits();
    /// Give it no input for now; `resume` when what is in the way may be gone.
    #[classattr]
    const PAUSE_READING: u32 = Status::PAUSE_READING.bits();
    /// Close the socket after the output is sent.
    #[classattr]
    const CLOSE: u32 = Status::CLOSE.bits();
    /// `credentials` wants to be verified.
    #[classattr]
    const AUTHENTICATE: u32 = Status::AUTHENTICATE.bits();
    /// Output comes when more is durable.
    #[classattr]
    const WAITS_FOR_DISK: u32 = Status::WAITS_FOR_DISK.bits();

    /// `resume` when an alarm is over, or when there may be room for a publish again.
    #[classattr]
    const WAITS_FOR_ROOM: u32 = Status::WAITS_FOR_ROOM.bits();

    /// `protocol`: `amqp` or `stomp`.
    #[new]
    #[pyo3(signature = (front, port, token, protocol, *, host, port_number, loopback, certificate_name, tls))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python function"
    )]
    fn new(
        front: &FrontEnd,
        port: &Port,
        token: u64,
        protocol: &str,
        host: String,
        port_number: u16,
        loopback: bool,
        certificate_name: Option<String>,
        tls: bool,
    ) -> Result<Self> {
        let peer = Peer {
            host,
            port: port_number,
            loopback,
            certificate_name,
            tls,
        };
        let notify: Arc<dyn Notify> = Arc::clone(&port.inner) as _;
        let shared = Arc::clone(&front.shared);
        let front = Arc::clone(&shared.front);
        let session: Arc<dyn ProtocolSession> = match protocol {
            "amqp" => wherry_amqp::session::Session::new(front, peer, notify, token),
            "stomp" => {
                let settings = Arc::clone(&shared.stomp);
                wherry_stomp::Session::with_settings(front, settings, peer, notify, token)
            }
            _ => {
                return Err(Error::invalid(format!(
                    "no protocol is called '{protocol}': it is amqp or stomp"
                )));
            }
        };
        Ok(Session {
            session,
            shared,
            port: Arc::clone(&port.inner),
        })
    }

    /// The first `count` bytes of the buffer came in; a status.
    fn receive(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, count: usize) -> Result<u32> {
        let buffer = PyBuffer::<u8>::get(buffer)?;
        if count > buffer.len_bytes() || !buffer.is_c_contiguous() {
            return Err(Error::invalid("receive: more bytes than the buffer has"));
        }
        // SAFETY: the buffer is contiguous, at least `count` bytes long, and `buffer` keeps it from being resized or
        // freed. It is the loop's own: nothing writes to it before this call returns to the loop.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), count) };
        let call = self.enter();
        let status = if count < DETACH_BYTES {
            guarded(|| self.session.receive(bytes))
        } else {
            py.detach(|| guarded(|| self.session.receive(bytes)))
        }?;
        drop(call);
        Ok(status.bits())
    }

    /// About `budget` bytes to send, or None; and a status.
    fn take_output<'py>(
        &self,
        py: Python<'py>,
        budget: usize,
    ) -> PyResult<(Option<Bound<'py, PyAny>>, u32)> {
        let call = self.enter();
        let mut out = self.shared.borrow_output();
        let status = guarded(|| self.session.write_into(&mut out, budget))?;
        let bytes = output::hand_over(py, &self.shared, out)?;
        drop(call);
        Ok((bytes, status.bits()))
    }

    /// Tries again what had to wait; a status.
    fn resume(&self, py: Python<'_>) -> PyResult<u32> {
        let _call = self.enter();
        Ok(py.detach(|| guarded(|| self.session.resume()))?.bits())
    }

    /// Mechanism, user and password to verify, if any.
    fn credentials<'py>(
        &self,
        py: Python<'py>,
    ) -> Option<(&'static str, String, Bound<'py, PyBytes>)> {
        let credentials = self.session.credentials()?;
        Some((
            credentials.mechanism,
            credentials.user,
            PyBytes::new(py, credentials.password.expose()),
        ))
    }

    /// The credentials are good, for this user; a status.
    fn authenticated(&self, user: &str) -> PyResult<u32> {
        let _call = self.enter();
        Ok(guarded(|| self.session.authenticated(user))?.bits())
    }

    /// The credentials are not good; a status.
    fn refused(&self) -> PyResult<u32> {
        let _call = self.enter();
        Ok(guarded(|| self.session.refused())?.bits())
    }

    /// About once a second, with the loop's clock; a status.
    fn tick(&self, now: f64) -> PyResult<u32> {
        let _call = self.enter();
        Ok(guarded(|| self.session.tick(now))?.bits())
    }

    /// Tells the client to go; a status.
    fn shut_down(&self, py: Python<'_>, text: &str) -> PyResult<u32> {
        let _call = self.enter();
        Ok(py
            .detach(|| guarded(|| self.session.shut_down(text)))?
            .bits())
    }

    /// The socket is gone: everything is given back. May be repeated.
    fn lost(&self, py: Python<'_>) -> PyResult<()> {
        let _call = self.enter();
        py.detach(|| guarded(|| self.session.lost()))
    }

    /// Who logged in, once somebody did.
    #[getter]
    fn user(&self) -> Option<String> {
        Some(self.session.info().user).filter(|user| !user.is_empty())
    }

    /// The virtual host, once it is open.
    #[getter]
    fn virtual_host(&self) -> Option<String> {
        Some(self.session.info().virtual_host).filter(|host| !host.is_empty())
    }

    /// What there is to know about each open channel.
    fn channels<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let channels = self.session.channels();
        let described = channels.into_iter().map(|channel| {
            let dict = PyDict::new(py);
            dict.set_item("number", channel.number)?;
            dict.set_item("confirm", channel.confirm)?;
            dict.set_item("transactional", channel.transactional)?;
            dict.set_item("prefetch", channel.prefetch)?;
            dict.set_item("global_prefetch", channel.global_prefetch)?;
            dict.set_item("unacked", channel.unacked)?;
            dict.set_item("unconfirmed", channel.unconfirmed)?;
            dict.set_item("consumers", channel.consumers)?;
            Ok(dict)
        });
        described.collect()
    }

    /// What there is to know about the connection.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let info = self.session.info();
        let dict = PyDict::new(py);
        dict.set_item("protocol", info.protocol)?;
        dict.set_item("state", info.state)?;
        dict.set_item("user", info.user)?;
        dict.set_item("virtual_host", info.virtual_host)?;
        dict.set_item(
            "client_properties",
            headers::dict(py, &info.client_properties)?,
        )?;
        dict.set_item("frame_max", info.frame_max)?;
        dict.set_item("heartbeat_seconds", info.heartbeat_seconds)?;
        dict.set_item("channels", info.channels)?;
        dict.set_item("consumers", info.consumers)?;
        dict.set_item("unacked", info.unacked)?;
        dict.set_item("unconfirmed", info.unconfirmed)?;
        dict.set_item("bytes_in", info.bytes_in)?;
        dict.set_item("bytes_out", info.bytes_out)?;
        dict.set_item("messages_in", info.messages_in)?;
        dict.set_item("messages_out", info.messages_out)?;
        Ok(dict)
    }
}
