//! Deadlines: one timer for TTL, delay, retry, leases and queue expiry.
//!
//! Algorithm: callers put requests on a lock-free intake queue (crossbeam's `SegQueue`); whoever runs the timer moves
//! them into a hierarchical wheel (`timer/wheel.rs`) and takes the due ones out in order. The wheel stands behind a mutex
//! that only the runner and `next_deadline` take.
//!
//! Who may call: `schedule` and `cancel` any thread, without a lock, also from inside a callback. `fire_due` any thread;
//! two runners take turns, and a callback must not call it (it would wait for itself). Callbacks run without the
//! wheel's lock. Progress: `schedule` and `cancel` are lock-free; once in 4,096 requests the caller also wakes the timer's
//! thread or, where there is none, moves the intake into the wheel if the lock is free: so the intake stays short even if
//! the next deadline is far away.
//!
//! Promised: events fire in order of deadline, those of one deadline in the order in which they were scheduled, also when
//! a callback schedules something that is due before the rest. Never early. Once each.
//! Not promised: that a `cancel` which races with `fire_due` is in time, so events must be verified when they fire;
//! that a cancelled event is dropped at once (it is when it comes up, or when half of all are cancelled; its destructor
//! then runs under the wheel's lock and may not ask the timer for its next deadline or length).
//!
//! Memory: 16 bytes and the event for each pending timer, 32 with an event of 16 bytes, plus some percent; some 30 KiB
//! for an empty timer.

mod thread;
mod wheel;

use std::collections::VecDeque;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread::Thread;

use crossbeam_queue::SegQueue;
use parking_lot::Mutex;

use crate::clock::{Clock, NotVirtual};
pub use thread::TimerThread;
use wheel::{Entry, Wheel};

/// Due events that are taken from the wheel under one lock.
const BATCH: usize = 256;
/// One request in so many looks after the length of the intake.
const TEND_EVERY: u64 = 4096;

/// Names a scheduled event, to cancel it. Never reused within a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId(u64);

enum Request<E> {
    Schedule(Entry<E>),
    Cancel(u64),
}

/// Pending events and their deadlines; see the head of this file.
pub struct Timer<E> {
    intake: SegQueue<Request<E>>,
    /// The next identifier, and with it a count of requests. Only ever added to, by callers of `schedule`.
    next_id: AtomicU64,
    /// A count of cancellations, added to by callers of `cancel`.
    cancels: AtomicU64,
    /// Requests moved into the wheel so far. Written under the wheel's lock; the runner compares it with what it saw last.
    drained: AtomicU64,
    /// 0 while nobody is parked, else the time until which the timer's thread sleeps (`u64::MAX`: for ever).
    /// Set by the thread before it parks; set to 0 by the thread when it is up and by the one caller who unparks it.
    parked_until_ns: AtomicU64,
    thread: OnceLock<Thread>,
    wheel: Mutex<Wheel<E>>,
    /// Held while events are fired; owns the scratch list of the runner.
    runner: Mutex<VecDeque<Entry<E>>>,
}

impl<E> fmt::Debug for Timer<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Timer")
            .field("pending", &self.len())
            .finish_non_exhaustive()
    }
}

impl<E: Send> Timer<E> {
    /// An empty timer. `now_ns` is a hint: deadlines soon after it are found fastest.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        Self {
            intake: SegQueue::new(),
            next_id: AtomicU64::new(1),
            cancels: AtomicU64::new(0),
            drained: AtomicU64::new(0),
            parked_until_ns: AtomicU64::new(0),
            thread: OnceLock::new(),
            wheel: Mutex::new(Wheel::new(now_ns)),
            runner: Mutex::new(VecDeque::new()),
        }
    }

    /// Has `event` fired at `deadline_ns`, or as soon as possible if that is past. `u64::MAX` means never.
    pub fn schedule(&self, deadline_ns: u64, event: E) -> TimerId {
        // Relaxed: only uniqueness counts; order comes from the intake.
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.intake.push(Request::Schedule(Entry {
            deadline_ns,
            id,
            event,
        }));
        // The push comes before the load: pairs with the fence in `prepare_park`. Either the thread, which stores its
        // time and then looks at the intake, sees this request, or we see its time.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        if self.parked_until_ns.load(Ordering::Relaxed) > deadline_ns {
            self.unpark();
        }
        if id.is_multiple_of(TEND_EVERY) {
            self.tend_intake();
        }
        TimerId(id)
    }

    /// Takes an event back if it has not fired; an event that races with this may still fire.
    pub fn cancel(&self, id: TimerId) {
        self.intake.push(Request::Cancel(id.0));
        // Relaxed: a count.
        if self
            .cancels
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(TEND_EVERY)
        {
            self.tend_intake();
        }
    }

    /// The earliest deadline that is pending. When that event was cancelled it may be named all the same:
    /// firing at that time then fires nothing.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let mut wheel = self.wheel.lock();
        self.drain(&mut wheel);
        wheel.next_deadline()
    }

    /// Fires all events that are due at `now_ns`, in order, those among them that `f` itself schedules included.
    /// Returns how many. If `f` panics, the events after it stay pending.
    pub fn fire_due(&self, now_ns: u64, f: impl FnMut(u64, E)) -> usize {
        self.fire_due_while(now_ns, f, || true)
    }

    /// Like [`fire_due`](Self::fire_due), but stops before the next event when `go_on` says no.
    fn fire_due_while(
        &self,
        now_ns: u64,
        mut f: impl FnMut(u64, E),
        go_on: impl Fn() -> bool,
    ) -> usize {
        let mut scratch = self.runner.lock();
        let mut firing = Firing {
            timer: self,
            batch: &mut scratch,
            drained: 0,
            unsettled: false,
        };
        let mut fired = 0;
        while go_on() {
            let Some(entry) = firing.next(now_ns) else {
                break;
            };
            f(entry.deadline_ns, entry.event);
            fired += 1;
        }
        fired
    }

    /// Moves a virtual clock to `until_ns`, stopping at each deadline on the way: each event fires while the clock shows
    /// its own deadline (or, for one that was overdue, the time that it is). Returns how many fired.
    ///
    /// # Errors
    /// [`NotVirtual`] if the clock is real; nothing was fired then.
    pub fn run_virtual(
        &self,
        clock: &Clock,
        until_ns: u64,
        mut f: impl FnMut(u64, E),
    ) -> Result<usize, NotVirtual> {
        if !clock.is_virtual() {
            return Err(NotVirtual);
        }
        let mut fired = 0;
        while let Some(deadline_ns) = self
            .next_deadline()
            .filter(|&at_ns| at_ns <= until_ns && at_ns != u64::MAX)
        {
            let now_ns = clock.set(deadline_ns)?;
            fired += self.fire_due(now_ns, &mut f);
        }
        clock.set(until_ns)?;
        Ok(fired)
    }
}

impl<E> Timer<E> {
    /// Events pending; cancelled ones count until they are swept.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut wheel = self.wheel.lock();
        self.drain(&mut wheel);
        wheel.len()
    }

    /// Whether nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves what lies in the intake now into the wheel; what is pushed meanwhile waits for the next time, so that fast
    /// callers cannot keep the runner here.
    fn drain(&self, wheel: &mut Wheel<E>) {
        let requests = self.intake.len();
        for _ in 0..requests {
            match self.intake.pop() {
                Some(Request::Schedule(entry)) => wheel.insert(entry),
                Some(Request::Cancel(id)) => wheel.cancel(id),
                None => break,
            }
        }
        if requests != 0 {
            // Relaxed: read by a runner that holds the lock, or by a callback's own thread.
            self.drained.fetch_add(requests as u64, Ordering::Relaxed);
        }
    }

    /// Keeps the intake short when the next deadline is far away.
    #[cold]
    fn tend_intake(&self) {
        if self.thread.get().is_some() {
            self.unpark();
        } else if let Some(mut wheel) = self.wheel.try_lock() {
            self.drain(&mut wheel);
            // A runner that is between two events of a batch would miss a cancellation that is swept now.
            if self.runner.try_lock().is_some() {
                wheel.sweep_if_worthwhile();
            }
        }
    }

    /// Wakes the timer's thread if it is parked; of several callers only one pays for it.
    #[cold]
    fn unpark(&self) {
        // AcqRel pairs with the stores in `prepare_park` and `unparked`: 0 means that somebody else does it or that the thread is
        // up, and in both cases it looks at the intake before it parks again.
        if self.parked_until_ns.swap(0, Ordering::AcqRel) != 0
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Makes the current thread the one to unpark. False if there was one before.
    fn attach_current_thread(&self) -> bool {
        self.thread.set(std::thread::current()).is_ok()
    }

    /// Announces that the caller is about to park and returns until when it may.
    fn prepare_park(&self) -> u64 {
        loop {
            let deadline_ns = {
                let mut wheel = self.wheel.lock();
                self.drain(&mut wheel);
                wheel.sweep_if_worthwhile();
                wheel.next_deadline().unwrap_or(u64::MAX)
            };
            // Release pairs with the AcqRel swap in `unpark`.
            self.parked_until_ns
                .store(deadline_ns.max(1), Ordering::Release);
            // Pairs with the fence in `schedule`: the store comes before the look at the intake.
            fence(Ordering::SeqCst);
            if self.intake.is_empty() {
                return deadline_ns;
            }
            self.unparked();
        }
    }

    /// Takes back what `prepare_park` announced.
    fn unparked(&self) {
        // Release as in `prepare_park`.
        self.parked_until_ns.store(0, Ordering::Release);
    }
}

/// A runner at work; what it took and did not fire goes back when it ends, also by a panic.
struct Firing<'a, E> {
    timer: &'a Timer<E>,
    batch: &'a mut VecDeque<Entry<E>>,
    /// `Timer::drained` as of the last look at the wheel.
    drained: u64,
    /// Requests have come since the batch was taken: the wheel may hold something earlier, or a cancellation.
    unsettled: bool,
}

impl<E> Firing<'_, E> {
    fn next(&mut self, now_ns: u64) -> Option<Entry<E>> {
        let timer = self.timer;
        loop {
            let Some(first) = self.batch.front() else {
                let mut wheel = timer.wheel.lock();
                timer.drain(&mut wheel);
                wheel.sweep_if_worthwhile();
                // Relaxed: written under the lock that we hold.
                self.drained = timer.drained.load(Ordering::Relaxed);
                self.unsettled = false;
                self.batch
                    .extend(std::iter::from_fn(|| wheel.pop_due(now_ns)).take(BATCH));
                self.batch.front()?;
                drop(wheel);
                return self.batch.pop_front();
            };
            // Relaxed: what this thread has done it sees; others race anyway.
            self.unsettled |=
                !timer.intake.is_empty() || timer.drained.load(Ordering::Relaxed) != self.drained;
            if !self.unsettled {
                return self.batch.pop_front();
            }
            let mut wheel = timer.wheel.lock();
            timer.drain(&mut wheel);
            // Relaxed: written under the lock that we hold.
            self.drained = timer.drained.load(Ordering::Relaxed);
            if let Some(earlier) = wheel.pop_late_before(first.deadline_ns) {
                return Some(earlier);
            }
            let entry = self.batch.pop_front()?;
            if !wheel.take_cancelled(entry.id) {
                return Some(entry);
            }
        }
    }
}

impl<E> Drop for Firing<'_, E> {
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            self.timer.wheel.lock().put_back(self.batch.drain(..));
        }
    }
}
