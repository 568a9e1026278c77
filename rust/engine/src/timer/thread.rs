//! The hidden thread that runs a timer by the real clock.
//!
//! It fires what is due, parks until the next deadline and is unparked early only by a request with an earlier deadline
//! (see `Timer::prepare_park` for the handshake), by an intake that has grown long, or by the end.
//! A callback that panics loses its own event, which was a bug, but neither the thread nor the other events:
//! the panic is counted and the thread goes on.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Timer;
use crate::clock::Clock;

/// Owner of the thread; dropping it stops the thread and waits for its end.
#[derive(Debug)]
pub struct TimerThread {
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Set once, by `drop` (Release), read by the thread (Acquire).
    stop: AtomicBool,
    /// Written by the thread only; a plain count (Relaxed).
    panics: AtomicU64,
}

impl TimerThread {
    /// Starts the thread, which calls `callback(deadline_ns, event)` for each event at its time.
    ///
    /// # Errors
    /// If the clock is virtual, if the timer already has (or had) a thread, or if the system refuses a new thread.
    pub fn spawn<E, F>(timer: Arc<Timer<E>>, clock: Clock, mut callback: F) -> io::Result<Self>
    where
        E: Send + 'static,
        F: FnMut(u64, E) + Send + 'static,
    {
        if clock.is_virtual() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a virtual clock is stepped by its owner",
            ));
        }
        let shared = Arc::new(Shared::default());
        let thread_shared = Arc::clone(&shared);
        let thread_timer = Arc::clone(&timer);
        let (started, starting) = std::sync::mpsc::channel();
        let handle = thread::Builder::new()
            .name("wherry-timer".into())
            .spawn(move || {
                let attached = thread_timer.attach_current_thread();
                // The receiver waits for exactly this message, so it cannot be gone.
                let _ = started.send(attached);
                if attached {
                    run(&thread_timer, &clock, &thread_shared, &mut callback);
                    thread_timer.unparked();
                }
            })?;
        if starting.recv().unwrap_or(false) {
            Ok(Self {
                shared,
                handle: Some(handle),
            })
        } else {
            Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the timer already has a thread",
            ))
        }
    }

    /// How many callbacks have panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        // Relaxed: a count, nothing is read on the strength of it.
        self.shared.panics.load(Ordering::Relaxed)
    }
}

fn run<E: Send>(
    timer: &Timer<E>,
    clock: &Clock,
    shared: &Shared,
    callback: &mut impl FnMut(u64, E),
) {
    // Acquire pairs with the Release store in `drop`.
    while !shared.stop.load(Ordering::Acquire) {
        let fired = catch_unwind(AssertUnwindSafe(|| {
            timer.fire_due_while(clock.now_ns(), &mut *callback, || {
                !shared.stop.load(Ordering::Acquire)
            })
        }));
        if fired.is_err() {
            // Relaxed: see `panics`.
            shared.panics.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let deadline_ns = timer.prepare_park();
        // A stop that came after the check above has left an unpark token, so parking returns at once.
        match deadline_ns.saturating_sub(clock.now_ns()) {
            0 => {}
            _ if deadline_ns == u64::MAX => thread::park(),
            wait_ns => thread::park_timeout(Duration::from_nanos(wait_ns)),
        }
        timer.unparked();
    }
}

impl Drop for TimerThread {
    fn drop(&mut self) {
        // Release pairs with the Acquire loads in `run`.
        self.shared.stop.store(true, Ordering::Release);
        if let Some(handle) = self.handle.take() {
            handle.thread().unpark();
            // Dropped by its own callback, the thread ends by itself soon after; it cannot wait for itself.
            if handle.thread().id() != thread::current().id() {
                // Callbacks are caught, so the thread does not panic.
                let _ = handle.join();
            }
        }
    }
}
