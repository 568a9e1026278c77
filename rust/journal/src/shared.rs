//! What callers' threads and the committer share: the stage, the table, the flags, and who waits for what.

use std::sync::{Arc, Condvar, Mutex as WaitMutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::address::{Address, SegmentNumber, Ticket};
use crate::bell::Bell;
use crate::disk::Disk;
use crate::errors::Poisoned;
use crate::obstacle::{Obstacle, ObstacleKind};
use crate::options::Options;
use crate::segments::Table;
use crate::stage::Stage;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use crate::testing_hooks::Sabotage;
use crate::{Observer, Statistics};

/// Bits of `Shared::flags`: while none is set, appending needs to look no further.
pub(crate) const POISONED: u32 = 1;
pub(crate) const CLOSING: u32 = 2;
pub(crate) const CLOSED: u32 = 4;
/// There is no further segment for now: see `Shared::obstacle`.
pub(crate) const OBSTRUCTED: u32 = 8;

/// Counts kept by the committer for statistics.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) written_bytes: AtomicU64,
    pub(crate) durable_bytes: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) last_sync_ns: AtomicU64,
    pub(crate) free_files: AtomicU64,
}

pub(crate) struct Shared {
    pub(crate) stage: Stage,
    pub(crate) table: Table,
    pub(crate) bell: Bell,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) journal: [u8; 16],
    pub(crate) options: Options,
    pub(crate) sabotage: Sabotage,
    pub(crate) flags: AtomicU32,
    poison: OnceLock<Poisoned>,
    pub(crate) observer: RwLock<Option<Arc<dyn Observer>>>,
    /// Rare work for the committer besides records: look at `retirements`, `wanted_bytes`, the policy.
    pub(crate) attention: AtomicBool,
    /// A reservation of this many bytes waits for a segment of its own; 0 = none.
    pub(crate) wanted_bytes: AtomicU32,
    /// Why there is none; taken by the one who asks next.
    pub(crate) wanted_refused: Mutex<Option<Obstacle>>,
    /// What is in the way of the next segment. It and the flag change together under the lock: who sees the flag waits for
    /// the lock, and finds what is true now.
    obstacle: Mutex<Option<Obstacle>>,
    /// Segments to retire, oldest first, each when the journal is on stable storage up to the ticket.
    pub(crate) retirements: Mutex<std::collections::VecDeque<(SegmentNumber, Ticket)>>,
    pub(crate) counters: Counters,
    /// All before it is confirmed. Moved by the committer.
    durable: AtomicU64,
    /// Somebody wants all before it on stable storage; what lies behind may wait for company. Only grows. Relaxed: the
    /// bell's fences order it.
    wanted: AtomicU64,
    waiters: AtomicU32,
    /// std's, not parking_lot's: there, those who are woken together take the lock one after the other, each woken by the one
    /// before.
    waiting: WaitMutex<()>,
    durable_moved: Condvar,
    space_made: Condvar,
}

impl Shared {
    pub(crate) fn new(
        stage: Stage,
        table: Table,
        disk: Arc<dyn Disk>,
        journal: [u8; 16],
        options: Options,
        sabotage: Sabotage,
        start: Address,
    ) -> Self {
        Self {
            stage,
            table,
            bell: Bell::new(),
            disk,
            journal,
            options,
            sabotage,
            flags: AtomicU32::new(0),
            poison: OnceLock::new(),
            observer: RwLock::new(None),
            attention: AtomicBool::new(false),
            wanted_bytes: AtomicU32::new(0),
            wanted_refused: Mutex::new(None),
            obstacle: Mutex::new(None),
            retirements: Mutex::new(std::collections::VecDeque::new()),
            counters: Counters::default(),
            durable: AtomicU64::new(start),
            wanted: AtomicU64::new(start),
            waiters: AtomicU32::new(0),
            waiting: WaitMutex::new(()),
            durable_moved: Condvar::new(),
            space_made: Condvar::new(),
        }
    }

    pub(crate) fn flag(&self, bit: u32) -> bool {
        // Acquire: pairs with the Release in `raise`, so that the poison's cause is there.
        self.flags.load(Ordering::Acquire) & bit != 0
    }

    /// Sets or clears a flag; true if that changed it.
    pub(crate) fn raise(&self, bit: u32, on: bool) -> bool {
        let before = if on {
            self.flags.fetch_or(bit, Ordering::AcqRel)
        } else {
            self.flags.fetch_and(!bit, Ordering::AcqRel)
        };
        (before & bit != 0) != on
    }

    pub(crate) fn poisoned(&self) -> Option<&Poisoned> {
        self.poison.get()
    }

    /// Stops confirming for good. The first cause stays.
    pub(crate) fn poison(&self, poisoned: Poisoned) {
        let first = self.poison.set(poisoned).is_ok();
        self.raise(POISONED, true);
        self.wake_all();
        if first && let Some(observer) = self.observer() {
            observer.failed(self.poison.get().expect("just set"));
        }
    }

    /// What is in the way of the next segment, if anything.
    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        if !self.flag(OBSTRUCTED) {
            return None;
        }
        self.obstacle.lock().clone()
    }

    pub(crate) fn is_disk_full(&self) -> bool {
        self.obstacle()
            .is_some_and(|obstacle| obstacle.kind == ObstacleKind::Space)
    }

    /// Says what is in the way of the next segment from now on, or that nothing is; true if that is news.
    pub(crate) fn obstruct(&self, obstacle: Option<Obstacle>) -> bool {
        let mut place = self.obstacle.lock();
        if *place == obstacle {
            return false;
        }
        let on = obstacle.is_some();
        *place = obstacle;
        self.raise(OBSTRUCTED, on);
        drop(place);
        if let Some(observer) = self.observer() {
            observer.obstructed(self.obstacle().as_ref());
        }
        true
    }

    pub(crate) fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.observer.read().clone()
    }

    /// Says that there is rare work for the committer.
    pub(crate) fn call_committer(&self) {
        // Relaxed: `ring` has the fence.
        self.attention.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// Somebody waits for all before `at`.
    pub(crate) fn hurry(&self, at: Ticket) {
        self.wanted.fetch_max(at, Ordering::Relaxed);
        self.bell.ring();
    }

    /// Whether somebody waits for more than is written.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > self.stage.written()
    }

    pub(crate) fn durable(&self) -> Ticket {
        // Acquire: pairs with the Release in `confirm`.
        self.durable.load(Ordering::Acquire)
    }

    /// All before `at` is confirmed: the only place that moves the watermark.
    pub(crate) fn confirm(&self, at: Ticket) {
        debug_assert!(!self.flag(POISONED));
        // Release: pairs with the Acquire in `durable`.
        self.durable.store(at, Ordering::Release);
        // Pairs with the fence in `wait_durable`: either we see the waiter or it sees the watermark.
        fence(Ordering::SeqCst);
        if self.waiters.load(Ordering::Relaxed) != 0 {
            drop(self.wait_lock());
            self.durable_moved.notify_all();
        }
        if let Some(observer) = &*self.observer.read() {
            observer.durable(at);
        }
    }

    pub(crate) fn wait_durable(
        &self,
        ticket: Ticket,
        timeout: Option<Duration>,
    ) -> Result<bool, Poisoned> {
        if self.durable() >= ticket {
            return Ok(true);
        }
        self.hurry(ticket);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.waiters.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `confirm`.
        fence(Ordering::SeqCst);
        let mut guard = self.wait_lock();
        let answer = loop {
            if self.durable() >= ticket {
                break Ok(true);
            }
            if let Some(poisoned) = self.poisoned() {
                break Err(poisoned.clone());
            }
            if self.flag(CLOSED) {
                break Ok(false);
            }
            let late;
            (guard, late) = wait_until(&self.durable_moved, guard, deadline);
            if late {
                break Ok(self.durable() >= ticket);
            }
        };
        drop(guard);
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// Tells those who were refused that there may be room now.
    pub(crate) fn announce_space(&self) {
        if self.stage.take_starved() {
            drop(self.wait_lock());
            self.space_made.notify_all();
            if let Some(observer) = self.observer() {
                observer.space();
            }
        }
    }

    pub(crate) fn wait_space(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut guard = self.wait_lock();
        loop {
            if self.flag(POISONED | CLOSING | CLOSED) {
                return false;
            }
            if !self.stage.starved() {
                return true;
            }
            let late;
            (guard, late) = wait_until(&self.space_made, guard, deadline);
            if late {
                return !self.stage.starved();
            }
        }
    }

    fn wait_lock(&self) -> MutexGuard<'_, ()> {
        // It guards nothing that a panic could leave broken.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody to look at the flags.
    pub(crate) fn wake_all(&self) {
        drop(self.wait_lock());
        self.durable_moved.notify_all();
        self.space_made.notify_all();
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let counters = &self.counters;
        // Relaxed: figures for people, each true at some time.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let staging_bytes = self.stage.in_flight_bytes();
        let written_bytes = count(&counters.written_bytes);
        Statistics {
            appended_bytes: written_bytes + staging_bytes,
            written_bytes,
            durable_bytes: count(&counters.durable_bytes),
            records: count(&counters.records),
            syncs: count(&counters.syncs),
            last_sync_ns: count(&counters.last_sync_ns),
            segments: self.table.count(),
            segments_bytes: self.table.bytes(),
            free_segments: count(&counters.free_files),
            staging_bytes,
            obstacle: self.obstacle(),
            poisoned: self.poisoned().cloned(),
            durability: self.options.durability,
        }
    }
}

/// Waits on a condition once; true if the time is over.
fn wait_until<'a>(
    condition: &Condvar,
    guard: MutexGuard<'a, ()>,
    deadline: Option<Instant>,
) -> (MutexGuard<'a, ()>, bool) {
    match deadline {
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            let (guard, outcome) = condition
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner);
            (guard, outcome.timed_out())
        }
        None => (
            condition
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner),
            false,
        ),
    }
}
