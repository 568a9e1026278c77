//! What every part of one broker shares: time, timers, the journal, the registries that timers look things up in.
//! There is no process-wide state: two brokers in one process have two of these.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};

use crate::clock::Clock;
use crate::consumer::Consumer;
use crate::error::Error;
use crate::memory::Meter;
use crate::options::QueueOptions;
use crate::queue::Queue;
use crate::storage::Storage;
use crate::timer::Timer;
use crate::topology::IDS;
use crate::vhost::VirtualHost;
use crate::watch::ConsumerWatches;

/// Between two steps that another thread may come between: tests make that likely, nothing else is changed by it.
#[inline(always)]
pub(crate) fn interruptible() {
    #[cfg(feature = "testing")]
    crate::testing::interrupt();
}

/// Something that wants to hear that waiting may be over. Called from any thread: a publisher's, the timer's, the
/// committer's. It must not block and must not call the engine.
pub trait Notify: Send + Sync {
    /// `token` is what was given at registration.
    fn notify(&self, token: u64);
}

/// Names a registration of [`Broker::watch`](crate::Broker::watch).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(pub(crate) u64);

/// Whoever wants to hear when more is durable, when there is room again, or when the journal failed.
type Watcher = (WatchId, Arc<dyn Notify>, u64);

#[derive(Default)]
pub(crate) struct Watchers {
    pub(crate) next: AtomicU64,
    pub(crate) list: Mutex<Vec<Watcher>>,
}

impl Watchers {
    pub(crate) fn notify(&self) {
        for (_, notify, token) in self.list.lock().iter() {
            notify.notify(*token);
        }
    }
}

/// A deadline's meaning. Things are named by id and looked up when it fires, so that a timer keeps nothing alive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A message's time to live is over, if it still stands there.
    Expire {
        queue: u32,
        level: u8,
        position: u64,
    },
    /// Something in the queue's schedule may be due.
    Due { queue: u32 },
    /// A delivery's lease may be over.
    Lease { consumer: u32, tag: u64 },
    /// The queue may have been unused for long enough.
    QueueExpiry { queue: u32 },
    /// The journal wants attention.
    Housekeeping,
}

/// When a queue holds more than this on the heap, further persistent messages are kept as journal addresses. Large
/// enough that a queue whose consumers keep up never reads back, small enough that thousands of backlogs fit.
pub(crate) const QUEUE_HEAP_BYTES: u64 = 4 << 20;

pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) timer: Arc<Timer<Event>>,
    pub(crate) memory: Meter,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) consumer_watches: ConsumerWatches,
    storage: OnceLock<Storage>,
    /// For virtual hosts, exchanges, queues: never reused, since the journal names them by it.
    next_id: AtomicU32,
    /// For consumers, which are made much more often (each `get` is one) and are nowhere on disk: begins anew when it
    /// has run through.
    next_consumer_id: AtomicU32,
    next_name: AtomicU64,
    /// Relaxed: only a flag; whoever sees it late finds the journal closed.
    closed: AtomicBool,
    hasher: RandomState,
    /// Of the hashes of ids, for a broker without a journal.
    dedup_key: [u8; 16],
    queues: RwLock<HashMap<u32, Weak<Queue>>>,
    consumers: RwLock<HashMap<u32, Weak<Consumer>>>,
    last_options: Mutex<Option<Arc<QueueOptions>>>,
    pub(crate) virtual_hosts: RwLock<HashMap<String, Arc<VirtualHost>>>,
    /// Serialises every change of topology, so that memory and journal agree on its order.
    pub(crate) topology: Mutex<()>,
}

impl Core {
    pub(crate) fn new(clock: Clock, memory: Meter) -> Core {
        let now = clock.now_ns();
        Core {
            memory,
            watchers: Arc::default(),
            consumer_watches: ConsumerWatches::default(),
            clock,
            timer: Arc::new(Timer::new(now)),
            storage: OnceLock::new(),
            next_id: AtomicU32::new(1),
            next_consumer_id: AtomicU32::new(1),
            next_name: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            hasher: RandomState::new(),
            dedup_key: {
                let words = [0u8, 1].map(|n| RandomState::new().hash_one(n).to_le_bytes());
                std::array::from_fn(|n| words[n / 8][n % 8])
            },
            queues: RwLock::default(),
            consumers: RwLock::default(),
            last_options: Mutex::new(None),
            virtual_hosts: RwLock::default(),
            topology: Mutex::new(()),
        }
    }

    pub(crate) fn set_storage(&self, storage: Storage) {
        let set = self.storage.set(storage);
        debug_assert!(set.is_ok(), "a broker gets its journal once");
    }

    pub(crate) fn storage(&self) -> Option<&Storage> {
        self.storage.get()
    }

    /// Threads live in real time, whatever time the broker keeps.
    pub(crate) fn clock_for_threads(&self) -> Clock {
        if self.clock.is_virtual() {
            Clock::real()
        } else {
            self.clock.clone()
        }
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Relaxed) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// True for the first caller.
    pub(crate) fn mark_closed(&self) -> bool {
        !self.closed.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Relaxed: uniqueness needs only the atomic add.
    pub(crate) fn new_id(&self) -> u32 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        assert!(
            id < IDS,
            "two billion queues and exchanges were made in one journal"
        );
        id
    }

    /// An id that no consumer has now. Relaxed: uniqueness needs only the atomic add and the registry's lock.
    pub(crate) fn new_consumer_id(&self) -> u32 {
        loop {
            let id = self.next_consumer_id.fetch_add(1, Ordering::Relaxed);
            if !self.consumers.read().contains_key(&id) {
                return id;
            }
        }
    }

    /// Recovery saw this id in use.
    pub(crate) fn skip_id(&self, id: u32) {
        self.next_id
            .fetch_max(id.saturating_add(1), Ordering::Relaxed);
    }

    /// A name nobody can guess, as RabbitMQ's `amq.gen-` and `amq.ctag-` names.
    pub(crate) fn generated_name(&self, prefix: &str) -> String {
        let n = self.next_name.fetch_add(1, Ordering::Relaxed);
        let a = self.hasher.hash_one((n, 0u8));
        let b = RandomState::new().hash_one(n);
        format!("{prefix}{a:016x}{b:016x}")
    }

    pub(crate) fn random(&self) -> u64 {
        self.hasher
            .hash_one((self.next_name.fetch_add(1, Ordering::Relaxed), 1u8))
    }

    /// Message group of a key: keys that collide share a lane, which costs parallelism, never order. The seed is
    /// secret, so that nobody can choose keys that collide. Never 0, which recovery keeps for no group.
    pub(crate) fn group_hash(&self, key: &[u8]) -> u64 {
        // Without the length that `hash_one` puts in front: it parts keys of several pieces.
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        hasher.finish().max(1)
    }

    /// Of the hashes of ids: with a journal the journal's own, since ids are in it.
    pub(crate) fn dedup_key(&self) -> &[u8; 16] {
        match self.storage() {
            Some(storage) => storage.id(),
            None => &self.dedup_key,
        }
    }

    pub(crate) fn register_queue(&self, queue: &Arc<Queue>) {
        self.queues
            .write()
            .insert(queue.id(), Arc::downgrade(queue));
    }

    pub(crate) fn forget_queue(&self, id: u32) {
        self.queues.write().remove(&id);
    }

    pub(crate) fn queue_by_id(&self, id: u32) -> Option<Arc<Queue>> {
        self.queues.read().get(&id)?.upgrade()
    }

    pub(crate) fn all_queues(&self) -> Vec<Arc<Queue>> {
        self.queues
            .read()
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    pub(crate) fn register_consumer(&self, consumer: &Arc<Consumer>) {
        self.consumers
            .write()
            .insert(consumer.id(), Arc::downgrade(consumer));
    }

    pub(crate) fn forget_consumer(&self, id: u32) {
        self.consumers.write().remove(&id);
    }

    /// Those of `get` included.
    pub(crate) fn all_consumers(&self) -> Vec<Arc<Consumer>> {
        self.consumers
            .read()
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    pub(crate) fn consumer_by_id(&self, id: u32) -> Option<Arc<Consumer>> {
        self.consumers.read().get(&id)?.upgrade()
    }

    /// A million mailboxes declared alike share one description.
    pub(crate) fn share_options(&self, options: QueueOptions) -> Arc<QueueOptions> {
        let mut last = self.last_options.lock();
        match &*last {
            Some(shared) if **shared == options => shared.clone(),
            _ => last.insert(Arc::new(options)).clone(),
        }
    }

    /// Carries out one deadline.
    pub(crate) fn fire(self: &Arc<Self>, deadline_ns: u64, event: Event) {
        if self.is_closed() {
            return;
        }
        match event {
            Event::Expire {
                queue,
                level,
                position,
            } => {
                if let Some(queue) = self.queue_by_id(queue) {
                    queue.expire(level, position);
                }
            }
            Event::Due { queue } => {
                if let Some(queue) = self.queue_by_id(queue) {
                    queue.activate_due(self.clock.now_ns().max(deadline_ns));
                }
            }
            Event::Lease { consumer, tag } => {
                if let Some(consumer) = self.consumer_by_id(consumer) {
                    consumer.lease_over(tag, self.clock.now_ns().max(deadline_ns));
                }
            }
            Event::Housekeeping => crate::compaction::housekeeping(self),
            Event::QueueExpiry { queue } => {
                if let Some(queue) = self.queue_by_id(queue) {
                    queue.expire_unused(deadline_ns);
                }
            }
        }
    }
}
