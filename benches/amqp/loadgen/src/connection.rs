//! One blocking connection: handshake, requests with their replies, and received bytes cut into frames.
//!
//! The socket has a read timeout ([`READ_TICK`]), so that every loop on it comes round to look at its deadline, and a write
//! timeout for the same reason. Used by one thread at a time.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::wire::{self, Fields, Frame, MethodId};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// How long one read or write blocks at most before its loop looks at the clock.
pub(crate) const READ_TICK: Duration = Duration::from_millis(100);
/// How long a server may take for one reply. Long, because a server may answer only after all it got before.
const REPLY_SECONDS_MAX: u64 = 60;
/// Room for received bytes. Grows only for a frame that does not fit.
const INBOX_BYTES: usize = 256 * 1024;

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
}

/// Received bytes that are not used up yet.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    fn new(size: usize) -> Inbox {
        Inbox {
            bytes: vec![0; size],
            start: 0,
            end: 0,
        }
    }

    /// One read. 0: the peer closed.
    fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.bytes.len() - self.end < self.bytes.len() / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end * 2 > self.bytes.len() {
                self.bytes.resize(self.bytes.len() * 2, 0);
            }
        }
        let count = stream.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// The next whole frame, if there is one.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, wire::Malformed> {
        match wire::next_frame(&self.bytes[self.start..self.end])? {
            None => Ok(None),
            Some((frame, length)) => {
                self.start += length;
                Ok(Some(frame))
            }
        }
    }
}

/// An open connection with channel 1 open.
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) inbox: Inbox,
    scratch: Vec<u8>,
}

pub(crate) const CHANNEL: u16 = 1;

impl Connection {
    /// Connects, logs in and opens channel 1.
    pub(crate) fn open(target: &Target) -> Result<Connection, Failure> {
        let mut connection = Connection::open_without_channel(target, INBOX_BYTES)?;
        let id = wire::CHANNEL_OPEN;
        connection.call(CHANNEL, id, wire::CHANNEL_OPEN_OK, |out| out.push(0))?;
        Ok(connection)
    }

    /// Connects and logs in. `inbox_bytes`: a thousand idle connections need little each.
    pub(crate) fn open_without_channel(
        target: &Target,
        inbox_bytes: usize,
    ) -> Result<Connection, Failure> {
        let stream = TcpStream::connect_timeout(&target.address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TICK))?;
        stream.set_write_timeout(Some(READ_TICK))?;
        let mut connection = Connection {
            stream,
            inbox: Inbox::new(inbox_bytes),
            scratch: Vec::new(),
        };
        connection.send(&wire::PROTOCOL_HEADER, reply_deadline())?;
        connection.reply(0, wire::CONNECTION_START)?;
        connection.request(0, wire::CONNECTION_START_OK, |out| {
            wire::table(out, &[]);
            wire::short(out, "PLAIN");
            let response = format!("\0{}\0{}", target.user, target.password);
            wire::long(out, response.as_bytes());
            wire::short(out, "en_US");
        })?;
        let tune = connection.reply(0, wire::CONNECTION_TUNE)?;
        let mut fields = Fields(&tune);
        let channel_max = fields.u16()?;
        let frame_max = match fields.u32()? {
            0 => wire::FRAME_BYTES_MAX,
            offered => offered.min(wire::FRAME_BYTES_MAX),
        };
        if frame_max < wire::FRAME_BYTES_MAX {
            return Err("the server offers frames below 128 KiB, which this program needs".into());
        }
        connection.request(0, wire::CONNECTION_TUNE_OK, |out| {
            out.extend_from_slice(&channel_max.to_be_bytes());
            out.extend_from_slice(&frame_max.to_be_bytes());
            out.extend_from_slice(&[0, 0]); // no heartbeats: runs are short and bounded
        })?;
        connection.call(0, wire::CONNECTION_OPEN, wire::CONNECTION_OPEN_OK, |out| {
            wire::short(out, &target.vhost);
            out.extend_from_slice(&[0, 0]);
        })?;
        Ok(connection)
    }

    /// Sends a method and waits for `reply`; other frames before it are dropped. Returns the reply's arguments.
    pub(crate) fn call(
        &mut self,
        channel: u16,
        id: MethodId,
        reply: MethodId,
        arguments: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<u8>, Failure> {
        self.request(channel, id, arguments)?;
        self.reply(channel, reply)
    }

    /// Sends a method.
    pub(crate) fn request(
        &mut self,
        channel: u16,
        id: MethodId,
        arguments: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Failure> {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        wire::method(&mut out, channel, id, arguments);
        let done = self.send(&out, reply_deadline());
        self.scratch = out;
        done
    }

    /// Waits for the method `id` and returns its arguments; other frames before it are dropped.
    pub(crate) fn reply(&mut self, channel: u16, id: MethodId) -> Result<Vec<u8>, Failure> {
        let deadline = reply_deadline();
        loop {
            while let Some(frame) = self.inbox.next()? {
                if frame.kind != wire::KIND_METHOD {
                    continue;
                }
                let mut fields = Fields(frame.payload);
                let found = fields.method_id()?;
                if found == id && frame.channel == channel {
                    return Ok(fields.0.to_vec());
                }
                refuse_close(found, fields)?;
            }
            if !self.receive()? && Instant::now() > deadline {
                return Err(format!("no reply {id:?} within {REPLY_SECONDS_MAX} s").into());
            }
        }
    }

    /// One blocking read, of at most [`READ_TICK`]. False: nothing came.
    pub(crate) fn receive(&mut self) -> Result<bool, Failure> {
        match self.inbox.fill(&mut self.stream) {
            Ok(0) => Err("the server closed the connection".into()),
            Ok(_) => Ok(true),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until something can be read, at most `wait`; with finer grain than a socket timeout has.
    pub(crate) fn wait_readable(&self, wait: Duration) -> bool {
        let mut poll = libc::pollfd {
            fd: self.stream.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let wait = libc::timespec {
            tv_sec: wait.as_secs() as libc::time_t,
            tv_nsec: wait.subsec_nanos().into(),
        };
        // SAFETY: one valid pollfd, a valid timespec and no signal mask; all live during the call.
        let ready = unsafe { libc::ppoll(&mut poll, 1, &wait, std::ptr::null()) };
        ready > 0
    }

    /// Writes all of `bytes`, or fails at `deadline`.
    pub(crate) fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Failure> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_timeout(&error) => {
                    if Instant::now() > deadline {
                        return Err("the server stopped reading for too long".into());
                    }
                }
                Err(error) => return Err(self.why_closed(error)),
            }
        }
        Ok(())
    }

    /// A server that closes says why; when a write fails, that may still lie unread.
    fn why_closed(&mut self, error: io::Error) -> Failure {
        while matches!(self.receive(), Ok(true)) {
            while let Ok(Some(frame)) = self.inbox.next() {
                let mut fields = Fields(frame.payload);
                if frame.kind == wire::KIND_METHOD
                    && let Ok(id) = fields.method_id()
                    && let Err(told) = refuse_close(id, fields)
                {
                    return told;
                }
            }
        }
        error.into()
    }

    /// Closes channel and connection. When it returns, the server has handled everything sent before.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        self.close_channel()?;
        self.close_connection()
    }

    pub(crate) fn close_channel(&mut self) -> Result<(), Failure> {
        let (id, ok) = (wire::CHANNEL_CLOSE, wire::CHANNEL_CLOSE_OK);
        self.call(CHANNEL, id, ok, close_arguments).map(drop)
    }

    pub(crate) fn close_connection(&mut self) -> Result<(), Failure> {
        let (id, ok) = (wire::CONNECTION_CLOSE, wire::CONNECTION_CLOSE_OK);
        self.call(0, id, ok, close_arguments).map(drop)
    }
}

fn close_arguments(out: &mut Vec<u8>) {
    out.extend_from_slice(&200u16.to_be_bytes());
    wire::short(out, "");
    out.extend_from_slice(&[0; 4]);
}

/// A close of the server, as an error with its code and text.
pub(crate) fn refuse_close(id: MethodId, mut arguments: Fields<'_>) -> Result<(), Failure> {
    if id != wire::CONNECTION_CLOSE && id != wire::CHANNEL_CLOSE {
        return Ok(());
    }
    let code = arguments.u16()?;
    let text = String::from_utf8_lossy(arguments.short()?);
    Err(format!("the server closed: {code} {text}").into())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn reply_deadline() -> Instant {
    Instant::now() + Duration::from_secs(REPLY_SECONDS_MAX)
}
