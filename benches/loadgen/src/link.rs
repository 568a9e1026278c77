//! One blocking socket and the bytes received on it that are not used up yet; knows no protocol.
//!
//! The socket has a read timeout ([`READ_TICK`]), so that every loop on it comes round to look at its deadline, and a write
//! timeout for the same reason. Used by one thread at a time.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// How long one read or write blocks at most before its loop looks at the clock.
pub(crate) const READ_TICK: Duration = Duration::from_millis(100);
/// How long a server may take for one reply. Long, because a server may answer only after all it got before.
const REPLY_SECONDS_MAX: u64 = 60;
/// Room for received bytes of a connection that carries a load. Grows only for a frame that does not fit.
pub(crate) const INBOX_BYTES: usize = 256 * 1024;

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
}

/// The bytes received are not of the protocol as we know it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed bytes from the server: {}", self.0)
    }
}

impl Error for Malformed {}

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

    /// What `cut` finds at the beginning of the received bytes, with the length it used up; None while it is not whole.
    #[inline]
    pub(crate) fn next<'a, T: 'a>(
        &'a mut self,
        cut: impl FnOnce(&'a [u8]) -> Result<Option<(T, usize)>, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match cut(&self.bytes[self.start..self.end])? {
            None => Ok(None),
            Some((found, length)) => {
                self.start += length;
                Ok(Some(found))
            }
        }
    }
}

/// A connected socket.
pub(crate) struct Link {
    stream: TcpStream,
    pub(crate) inbox: Inbox,
}

impl Link {
    /// Connects. `inbox_bytes`: a thousand idle connections need little each.
    pub(crate) fn connect(target: &Target, inbox_bytes: usize) -> Result<Link, Failure> {
        let stream = TcpStream::connect_timeout(&target.address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TICK))?;
        stream.set_write_timeout(Some(READ_TICK))?;
        Ok(Link {
            stream,
            inbox: Inbox::new(inbox_bytes),
        })
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
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// Until when a reply must have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyDeadline(pub(crate) Instant);

impl ReplyDeadline {
    pub(crate) fn start() -> ReplyDeadline {
        ReplyDeadline(Instant::now() + Duration::from_secs(REPLY_SECONDS_MAX))
    }

    /// An error that names what was awaited, once it is past.
    pub(crate) fn check(self, what: &dyn fmt::Debug) -> Result<(), Failure> {
        if Instant::now() > self.0 {
            return Err(format!("no reply {what:?} within {REPLY_SECONDS_MAX} s").into());
        }
        Ok(())
    }
}
