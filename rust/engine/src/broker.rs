//! The broker: opens the journal, builds what it says, keeps time, and closes in order.

mod virtual_hosts;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use wherry_journal::{
    Disk, Durability, Journal, Observer, Obstacle, ObstacleKind, OnCorruption, OpenError, Poisoned,
    RealDisk, Replay,
};

use crate::clock::Clock;
use crate::core::{Core, Event, Notify, WatchId, Watchers};
use crate::entries;
use crate::error::Error;
use crate::memory::Meter;
use crate::recovery::Recovery;
use crate::storage::{Storage, Ticket};
use crate::timer::{Timer, TimerThread};

/// How a broker is opened.
pub struct BrokerOptions {
    /// The directory of its journal; none keeps everything in memory.
    pub path: Option<PathBuf>,
    /// When a persistent message is confirmed.
    pub durability: Durability,
    /// Size of a journal segment.
    pub segment_bytes: u32,
    /// What to do about a damaged journal.
    pub on_corruption: OnCorruption,
    /// Real or virtual time.
    pub clock: Clock,
    /// Called during recovery with bytes done and bytes in all.
    pub progress: Option<Box<dyn FnMut(u64, u64) + Send>>,
    /// Bytes that messages waiting in memory may take before publishers are refused; none means 60% of the machine's.
    pub memory_bytes_max: Option<u64>,
    /// Another disk than the real one, for tests of faults; `path` is then ignored.
    pub disk: Option<Arc<dyn Disk>>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        let journal = wherry_journal::Options::default();
        BrokerOptions {
            path: None,
            durability: journal.durability,
            segment_bytes: journal.segment_bytes,
            on_corruption: journal.on_corruption,
            clock: Clock::real(),
            progress: None,
            memory_bytes_max: None,
            disk: None,
        }
    }
}

impl std::fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerOptions")
            .field("path", &self.path)
            .field("durability", &self.durability)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// State of a whole broker.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each name says what it counts")]
pub struct BrokerStatistics {
    pub virtual_hosts: u64,
    pub exchanges: u64,
    pub queues: u64,
    pub ready: u64,
    pub unacked: u64,
    pub scheduled: u64,
    pub timers: u64,
    /// Bytes of messages waiting in memory.
    pub memory_bytes: u64,
    pub memory_bytes_max: Option<u64>,
    /// None for a broker in memory.
    pub journal: Option<wherry_journal::Statistics>,
}

/// Hears from the journal's committer; hands everything on, does nothing itself.
struct JournalObserver {
    core: Weak<Core>,
    housekeeper: Weak<Timer<Event>>,
    watchers: Arc<Watchers>,
}

impl JournalObserver {
    fn housekeeping(&self) {
        if let Some(timer) = self.housekeeper.upgrade() {
            timer.schedule(0, Event::Housekeeping);
        }
    }

    fn has_work(&self) -> bool {
        self.core.upgrade().is_some_and(|core| {
            core.storage()
                .is_some_and(|storage| storage.wants_housekeeping())
        })
    }
}

impl Observer for JournalObserver {
    fn durable(&self, _: u64) {
        self.watchers.notify();
        if self.has_work() {
            self.housekeeping();
        }
    }

    fn failed(&self, _: &Poisoned) {
        self.watchers.notify();
    }

    fn space(&self) {
        self.watchers.notify();
        self.housekeeping();
    }

    fn obstructed(&self, _: Option<&Obstacle>) {
        self.watchers.notify();
        self.housekeeping();
    }

    fn wants_evacuation(&self) {
        self.housekeeping();
    }
}

/// A message broker in this process. Dropping the last reference closes it.
pub struct Broker {
    core: Arc<Core>,
    watchers: Arc<Watchers>,
    /// The timer's thread, or with virtual time the housekeeper's.
    threads: Mutex<Vec<TimerThread>>,
}

/// What is deferred is dropped two epochs later; each flush begins one at most.
const CLOSING_EPOCHS: usize = 4;

fn open_error(error: OpenError) -> Error {
    let text = error.to_string();
    match error {
        OpenError::Corrupt { .. } | OpenError::Replay { .. } => Error::JournalCorrupt(text),
        OpenError::Locked { .. } => Error::DirectoryLocked(text),
        OpenError::Obstructed(obstacle) if obstacle.kind == ObstacleKind::Space => {
            Error::DiskFull(text.into())
        }
        OpenError::Io { error, .. } if error.kind() == ErrorKind::StorageFull => {
            Error::DiskFull(text.into())
        }
        _ => Error::Io(text),
    }
}

impl Broker {
    /// Opens a broker, with what its journal holds. Waits for the disk.
    ///
    /// # Errors
    /// [`Error::DirectoryLocked`], [`Error::JournalCorrupt`], [`Error::Io`], [`Error::DiskFull`].
    pub fn open(options: BrokerOptions) -> Result<Arc<Broker>, Error> {
        Self::open_by(options, |disk, options, replay| {
            Journal::open(disk, options, replay)
        })
    }

    pub(crate) fn open_by(
        options: BrokerOptions,
        open: impl FnOnce(
            Arc<dyn Disk>,
            wherry_journal::Options,
            &mut dyn Replay,
        ) -> Result<Arc<Journal>, OpenError>,
    ) -> Result<Arc<Broker>, Error> {
        let limit = options
            .memory_bytes_max
            .or_else(crate::memory::default_limit_bytes);
        let core = Arc::new(Core::new(options.clock, Meter::new(limit)?));
        let watchers = core.watchers.clone();
        let housekeeper = if core.clock.is_virtual() {
            Arc::new(Timer::new(Clock::real().now_ns()))
        } else {
            core.timer.clone()
        };
        let disk: Option<Arc<dyn Disk>> = match (options.disk, options.path) {
            (Some(disk), _) => Some(disk),
            (None, Some(path)) => Some(Arc::new(RealDisk::new(path))),
            (None, None) => None,
        };
        match disk {
            None => Self::create_virtual_host(&core, "/").map(|_| ())?,
            Some(disk) => {
                let journal_options = wherry_journal::Options {
                    segment_bytes: options.segment_bytes,
                    durability: options.durability,
                    on_corruption: options.on_corruption,
                    ..wherry_journal::Options::default()
                };
                let mut recovery = Recovery::new(&core, options.progress);
                let journal = open(disk, journal_options, &mut recovery).map_err(open_error)?;
                core.set_storage(Storage::new(journal.clone()));
                let built = recovery.build().and_then(|()| {
                    if !core.virtual_hosts.read().contains_key("/") {
                        Self::create_virtual_host(&core, "/")?;
                    }
                    Ok(())
                });
                if let Err(error) = built {
                    core.virtual_hosts.write().clear(); // they hold the core, which holds the journal
                    let _ = journal.close();
                    return Err(error);
                }
                journal.set_observer(Arc::new(JournalObserver {
                    core: Arc::downgrade(&core),
                    housekeeper: Arc::downgrade(&housekeeper),
                    watchers: watchers.clone(),
                }));
            }
        }
        let mut threads = Vec::new();
        let mut spawn = |timer: &Arc<Timer<Event>>| -> Result<(), Error> {
            let weak = Arc::downgrade(&core);
            let callback = move |deadline_ns, event| {
                if let Some(core) = weak.upgrade() {
                    core.fire(deadline_ns, event);
                }
            };
            let thread = TimerThread::spawn(timer.clone(), core.clock_for_threads(), callback)
                .map_err(|e| Error::Io(format!("cannot start the timer's thread: {e}")))?;
            threads.push(thread);
            Ok(())
        };
        if !core.clock.is_virtual() || core.storage().is_some() {
            spawn(&housekeeper)?;
        }
        if core.storage().is_some() {
            housekeeper.schedule(0, Event::Housekeeping);
        }
        Ok(Arc::new(Broker {
            core,
            watchers,
            threads: Mutex::new(threads),
        }))
    }

    /// Names of all virtual hosts.
    pub fn virtual_hosts(&self) -> Vec<String> {
        self.core.virtual_hosts.read().keys().cloned().collect()
    }

    /// The broker's time.
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// Moves virtual time forward; every timer on the way fires at its own deadline, on this thread.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] with a real clock, [`Error::Closed`].
    pub fn advance(&self, by: Duration) -> Result<(), Error> {
        self.core.check_open()?;
        let until = self
            .core
            .clock
            .now_ns()
            .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
        self.core
            .timer
            .run_virtual(&self.core.clock, until, |deadline_ns, event| self.core.fire(deadline_ns, event))
            .map(|_| ())
            .map_err(|_| {
                Error::PreconditionFailed(
                    "the broker runs on real time, which cannot be advanced: open it with a virtual clock".into(),
                )
            })
    }

    /// What is on stable storage, or whatever the durability mode asks for.
    pub fn durable(&self) -> Ticket {
        self.core
            .storage()
            .map_or(Ticket::NONE, |s| Ticket(s.journal().durable()))
    }

    /// A ticket for everything appended so far.
    ///
    /// # Errors
    /// [`Error::Busy`] while acknowledgements wait for room in the journal, [`Error::JournalFailed`].
    pub fn barrier(&self) -> Result<Ticket, Error> {
        let ticket = self
            .core
            .storage()
            .map_or(Ok(Ticket::NONE), Storage::barrier)?;
        self.hurry(ticket);
        Ok(ticket)
    }

    /// Says that somebody waits for a ticket: acknowledgements are otherwise written together with what publishers wait
    /// for, or some milliseconds later. Never blocks. `wait_durable` and `barrier` do it themselves.
    pub fn hurry(&self, ticket: Ticket) {
        if ticket != Ticket::NONE
            && let Some(storage) = self.core.storage()
        {
            storage.journal().hurry(ticket.0);
        }
    }

    /// Blocks until a ticket is durable. False when the timeout came first.
    ///
    /// # Errors
    /// [`Error::JournalFailed`]: it never will be.
    pub fn wait_durable(&self, ticket: Ticket, timeout: Option<Duration>) -> Result<bool, Error> {
        match self.core.storage() {
            Some(storage) if ticket != Ticket::NONE => storage
                .journal()
                .wait_durable(ticket.0, timeout)
                .map_err(|poisoned| (&poisoned).into()),
            _ => Ok(true),
        }
    }

    /// Blocks until there may be room again in memory and in the journal, after [`Error::Busy`]. False when the timeout came first.
    pub fn wait_space(&self, timeout: Option<Duration>) -> bool {
        if self.core.memory.is_over() {
            return self.core.memory.wait(timeout);
        }
        self.core
            .storage()
            .is_none_or(|s| s.journal().wait_space(timeout))
    }

    /// Changes how many bytes messages waiting in memory may take before publishers are refused. It counts at once, until
    /// the broker is closed; 0 refuses them whatever there is.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a limit that is too small to be kept.
    pub fn set_memory_bytes_max(&self, bytes: u64) -> Result<(), Error> {
        if self.core.memory.set_limit(bytes)? {
            self.core.watchers.notify();
        }
        Ok(())
    }

    /// Whether messages waiting in memory are over the limit, so that publishes are refused. Cheap.
    pub fn is_memory_full(&self) -> bool {
        self.core.memory.is_over()
    }

    /// Has `notify` called whenever more is durable, room came back, or the journal failed.
    pub fn watch(&self, notify: Arc<dyn Notify>, token: u64) -> WatchId {
        let id = WatchId(self.watchers.next.fetch_add(1, Ordering::Relaxed)); // uniqueness only
        self.watchers.list.lock().push((id, notify, token));
        id
    }

    /// Ends a registration.
    pub fn unwatch(&self, id: WatchId) {
        self.watchers.list.lock().retain(|(known, ..)| *known != id);
    }

    /// What keeps the journal from growing for now, if anything: publishes of persistent messages are refused meanwhile.
    pub fn obstacle(&self) -> Option<Obstacle> {
        self.core.storage()?.journal().obstacle()
    }

    /// Why nothing is confirmed any more, if so.
    pub fn failed(&self) -> Option<Error> {
        let poisoned = self.core.storage()?.journal().statistics().poisoned?;
        Some((&poisoned).into())
    }

    /// Sums over everything.
    pub fn statistics(&self) -> BrokerStatistics {
        let hosts: Vec<_> = self.core.virtual_hosts.read().values().cloned().collect();
        let mut sum = BrokerStatistics {
            virtual_hosts: hosts.len() as u64,
            timers: self.core.timer.len() as u64,
            memory_bytes: self.core.memory.used_bytes(),
            memory_bytes_max: self.core.memory.limit_bytes(),
            journal: self.core.storage().map(|s| s.journal().statistics()),
            ..BrokerStatistics::default()
        };
        for host in hosts {
            sum.exchanges += host.exchanges().len() as u64;
            for queue in host.queues() {
                let statistics = queue.statistics();
                sum.queues += 1;
                sum.ready += statistics.ready;
                sum.unacked += statistics.unacked;
                sum.scheduled += statistics.scheduled;
            }
        }
        sum
    }

    /// Closes: consumers are told, everything appended is made durable, the directory is let go. Waits for the disk.
    /// Idempotent.
    ///
    /// # Errors
    /// [`Error::JournalFailed`]; the broker is closed all the same.
    pub fn close(&self) -> Result<(), Error> {
        if !self.core.mark_closed() {
            return Ok(());
        }
        self.core.memory.release();
        for consumer in self.core.all_consumers() {
            consumer.cancel();
        }
        let queues = self.core.all_queues();
        for queue in &queues {
            for waiter in queue.waiters().take(usize::MAX) {
                waiter.notify();
            }
        }
        self.threads.lock().clear(); // joins them
        let mut outcome = Ok(());
        if let Some(storage) = self.core.storage() {
            let mut returned = entries::Runs::new();
            for queue in &queues {
                queue.returned_runs(&mut returned);
            }
            storage.write_closed(&returned);
            outcome = storage
                .journal()
                .close()
                .map_err(|poisoned| (&poisoned).into());
        }
        for host in self.core.virtual_hosts.write().drain() {
            host.1.clear();
            self.core.consumer_watches.tell(host.1.id(), None);
        }
        self.watchers.notify();
        // Routes that were replaced refer to queues, and these to all the rest, the directory's descriptor included: let go of
        // them now, and not when somebody's garbage happens to be collected. Epochs pass while nobody is inside one.
        for _ in 0..CLOSING_EPOCHS {
            crossbeam_epoch::pin().flush();
        }
        outcome
    }

    /// For a process that was forked from the one that opened it, and has neither the threads nor the journal: everything is
    /// [`Error::Closed`] from now on, and nothing on disk is touched. Waits for nobody.
    pub fn abandon(&self) {
        self.core.mark_closed();
        if let Some(mut threads) = self.threads.try_lock() {
            // Not dropped: that would wait for them.
            std::mem::forget(std::mem::take(&mut *threads));
        }
        if let Some(storage) = self.core.storage() {
            storage.journal().abandon();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Nobody is left to tell; `close` returns the error to those who ask.
        let _ = self.close();
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("virtual_hosts", &self.virtual_hosts())
            .finish_non_exhaustive()
    }
}
