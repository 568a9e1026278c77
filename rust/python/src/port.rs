//! Wake-ups from the engine to one event loop.
//!
//! The engine calls [`Inner::notify`] from whatever thread made something ready. The token goes to a lock-free list;
//! the first one since the loop last looked also raises the loop's descriptor. When the notification comes out of an
//! engine call that the loop's own thread is making (publisher and consumer on one loop), no descriptor is touched:
//! the call notices on its way out, and runs `drain` itself. See [`Call`].
//!
//! Who may call what: `notify` any thread; `take_ready` and `clear` the loop's thread; `Call::enter` any thread that
//! holds the interpreter. `notify` is lock-free (an append to a segmented list, one swap, at most one `write`).
//!
//! Why no wake-up is lost: `notify` appends and then swaps `signalled` to true. Whoever finds it true relies on the
//! one who set it: that one either wrote to the descriptor or is inside a `Call` whose end drains. `take_ready` swaps
//! `signalled` to false *before* it empties the list, so that an append it does not see is followed by a swap that
//! finds false, and thus by a new signal. At worst a signal is one too many.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crossbeam_queue::SegQueue;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use wherry_engine::Notify;

use crate::errors::{Error, Result};

/// The token of the journal's progress. Consumers count from 1.
pub(crate) const COMMITS: u64 = 0;

thread_local! {
    /// The port inside whose [`Call`] this thread is, if it is that port's own thread. The cell's address also serves
    /// as the thread's identity: cheaper than asking for its id.
    static ENTERED: Cell<*const Inner> = const { Cell::new(ptr::null()) };
}

fn this_thread() -> usize {
    ENTERED.with(|cell| ptr::from_ref(cell) as usize)
}

/// What the engine holds of a port.
pub(crate) struct Inner {
    ready: SegQueue<u64>,
    /// True from the first notification until the loop looks. Written by `notify` (to true) and `take_ready` (to
    /// false), both by an AcqRel swap: each pairs with the other.
    signalled: AtomicBool,
    /// The last signal was left to the `Call` around it. Loop's thread only, hence Relaxed.
    local: AtomicBool,
    /// Somebody waits for the journal. Written by the loop's thread; see `want_commits` for the fence.
    wants_commits: AtomicBool,
    /// Next token to give out. Relaxed: only its being unique matters.
    tokens: AtomicU64,
    thread: usize,
    wake: wake::Wake,
    /// Weak, or the loop's bookkeeping and the port would keep each other alive.
    drain: Py<PyWeakrefReference>,
}

impl Notify for Inner {
    fn notify(&self, token: u64) {
        if token == COMMITS {
            // Pairs with the fence in `want_commits`: either we see that somebody waits, or that one sees the progress
            // that brought us here.
            fence(Ordering::SeqCst);
            if !self.wants_commits.load(Ordering::Relaxed) {
                return;
            }
        }
        self.ready.push(token);
        if self.signalled.swap(true, Ordering::AcqRel) {
            return;
        }
        if ptr::eq(ENTERED.get(), self) {
            self.local.store(true, Ordering::Relaxed);
        } else {
            self.wake.signal();
        }
    }
}

impl Inner {
    pub(crate) fn next_token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }
}

/// A call into the engine that may make something ready. Dropping it runs what became ready on the loop's own thread.
#[must_use]
pub(crate) struct Call<'a> {
    port: Option<&'a Inner>,
    before: *const Inner,
}

impl<'a> Call<'a> {
    /// Marks the loop's own thread as being inside the engine; on other threads, and without a loop, does nothing.
    #[inline]
    pub(crate) fn enter(port: Option<&'a Inner>) -> Self {
        if let Some(port) = port
            && port.thread == this_thread()
        {
            return Call {
                port: Some(port),
                before: ENTERED.replace(port),
            };
        }
        Call {
            port: None,
            before: ptr::null(),
        }
    }
}

impl Drop for Call<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(port) = self.port else { return };
        ENTERED.set(self.before);
        if port.local.load(Ordering::Relaxed) {
            port.local.store(false, Ordering::Relaxed);
            drain(port);
        }
    }
}

#[cold]
fn drain(port: &Inner) {
    Python::attach(|py| {
        if let Some(callable) = port.drain.bind(py).upgrade()
            && let Err(error) = callable.call_method0(pyo3::intern!(py, "drain"))
        {
            error.write_unraisable(py, Some(&callable));
        }
    });
}

use pyo3::types::PyWeakrefMethods;

/// One event loop's end of the wake-ups. Used by `wherry._waits` only.
#[pyclass(frozen, module = "wherry._core")]
pub(crate) struct Port {
    pub(crate) inner: Arc<Inner>,
}

#[pymethods]
impl Port {
    /// A port for the calling thread. `owner` is held weakly; its method `drain` is called on this thread.
    #[new]
    fn new(owner: &Bound<'_, PyAny>) -> Result<Self> {
        let drain = PyWeakrefReference::new(owner)?.unbind();
        let wake = wake::Wake::new().map_err(|e| {
            Error::Engine(wherry_engine::Error::Io(format!(
                "no descriptor for wake-ups: {e}"
            )))
        })?;
        Ok(Port {
            inner: Arc::new(Inner {
                ready: SegQueue::new(),
                signalled: AtomicBool::new(false),
                local: AtomicBool::new(false),
                wants_commits: AtomicBool::new(false),
                tokens: AtomicU64::new(COMMITS + 1),
                thread: this_thread(),
                wake,
                drain,
            }),
        })
    }

    /// The descriptor that becomes readable.
    fn fileno(&self) -> i64 {
        self.inner.wake.descriptor()
    }

    /// Makes the descriptor unreadable again.
    fn clear(&self) {
        self.inner.wake.clear();
    }

    /// Raises the descriptor, whatever is ready.
    fn signal(&self) {
        self.inner.wake.signal();
    }

    /// A token that nobody has, for a session.
    fn next_token(&self) -> u64 {
        self.inner.next_token()
    }

    /// The tokens notified since the last call, each at least once.
    fn take_ready(&self) -> Vec<u64> {
        self.inner.signalled.swap(false, Ordering::AcqRel);
        let mut tokens = Vec::new();
        while let Some(token) = self.inner.ready.pop() {
            tokens.push(token);
        }
        tokens
    }

    /// Asks for token 0 when the journal gets on. Look at `durable()` *after* this call.
    fn want_commits(&self, wanted: bool) {
        self.inner.wants_commits.store(wanted, Ordering::Relaxed);
        // Pairs with the fence in `notify`.
        fence(Ordering::SeqCst);
    }
}

#[cfg(target_os = "linux")]
mod wake {
    //! An eventfd: one descriptor, eight bytes of state, never full.

    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};

    use rustix::event::{EventfdFlags, eventfd};

    pub(super) struct Wake(OwnedFd);

    impl Wake {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Wake(eventfd(
                0,
                EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC,
            )?))
        }

        pub(super) fn descriptor(&self) -> i64 {
            self.0.as_raw_fd().into()
        }

        pub(super) fn signal(&self) {
            // Fails only when 2^64-2 signals are pending: then it is readable anyway.
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }

        pub(super) fn clear(&self) {
            let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod wake {
    //! A connected pair of sockets. A full buffer means that the other end is readable, which is all we want.

    use std::io::{self, Read, Write};

    #[cfg(windows)]
    use std::net::{TcpListener, TcpStream as Stream};
    #[cfg(unix)]
    use std::os::unix::net::UnixStream as Stream;

    pub(super) struct Wake {
        reader: Stream,
        writer: Stream,
    }

    #[cfg(unix)]
    fn pair() -> io::Result<(Stream, Stream)> {
        Stream::pair()
    }

    #[cfg(windows)]
    fn pair() -> io::Result<(Stream, Stream)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let writer = Stream::connect(listener.local_addr()?)?;
        loop {
            // Somebody else on this machine may have connected first.
            let (reader, peer) = listener.accept()?;
            if peer == writer.local_addr()? {
                writer.set_nodelay(true)?;
                return Ok((reader, writer));
            }
        }
    }

    impl Wake {
        pub(super) fn new() -> io::Result<Self> {
            let (reader, writer) = pair()?;
            reader.set_nonblocking(true)?;
            writer.set_nonblocking(true)?;
            Ok(Wake { reader, writer })
        }

        #[cfg(unix)]
        pub(super) fn descriptor(&self) -> i64 {
            use std::os::fd::AsRawFd;
            self.reader.as_raw_fd().into()
        }

        #[cfg(windows)]
        pub(super) fn descriptor(&self) -> i64 {
            use std::os::windows::io::AsRawSocket;
            self.reader.as_raw_socket() as i64
        }

        pub(super) fn signal(&self) {
            let _ = (&self.writer).write(&[1]);
        }

        pub(super) fn clear(&self) {
            let mut bytes = [0_u8; 256];
            while matches!((&self.reader).read(&mut bytes), Ok(n) if n == bytes.len()) {}
        }
    }
}
