//! Queues. This file holds what a queue is and what can be asked of it, `listing.rs` what can be seen of its messages; every
//! change of a message's state is in `transitions.rs` and the files below it, and nowhere else.

pub(crate) mod arrivals;
pub(crate) mod candidates;
mod consumers;
pub(crate) mod counters;
mod dispatch;
pub(crate) mod key;
mod listing;
pub(crate) mod note;
mod policy;
pub(crate) mod ready;
pub(crate) mod schedule;
mod settings;
pub(crate) mod transitions;
pub(crate) mod waiters;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use wherry_queues::groups::SharedGroups;
use wherry_queues::{Fifo, PriorityFifo};

use crate::consumer::Consumer;
use crate::core::{Core, Event, QUEUE_HEAP_BYTES};
use crate::dedup::Window;
use crate::draft::Draft;
use crate::error::Error;
use crate::message::{Facts, Parts, Stored};
use crate::options::{OwnerId, QueueOptions};
use crate::policy::InForce;
use crate::vhost::VirtualHost;
use consumers::Consumers;
use counters::Counters;
use key::with_key;
use ready::Ready;
use schedule::Schedule;
use settings::Settings;
use waiters::Waiters;

pub use listing::{Browsed, QueueStatistics, ScheduledMessage};

/// What a waiting message costs beside its body: allocation, envelope, slot. Used to guess a queue's heap.
const MESSAGE_OVERHEAD_BYTES: u64 = 160;

/// A queue: messages wait in it until consumers have settled them.
pub struct Queue {
    id: u32,
    name: Box<str>,
    /// As declared.
    options: Arc<QueueOptions>,
    settings: Settings,
    durable: bool,
    pub(crate) core: Arc<Core>,
    vhost: Weak<VirtualHost>,
    pub(crate) ready: Ready,
    pub(crate) counters: Counters,
    pub(crate) consumers: Consumers,
    /// Boxed, since most queues never delay anything and a million idle ones should be small.
    schedule: Mutex<Option<Box<Schedule>>>,
    /// The ids of what was published, in queues that know duplicates.
    window: Option<Box<Window>>,
    /// Set once, under the topology lock. Relaxed: who is late works on a queue that nobody can reach any more.
    deleted: AtomicBool,
    /// When the timer is to look whether it was used. Other deadlines of the same meaning are left over from earlier
    /// settings. Relaxed: a time.
    expiry_ns: AtomicU64,
}

/// The structure under a queue, empty or restored.
pub(crate) fn new_ready(options: &QueueOptions) -> Ready {
    if options.group_by.is_some() {
        Ready::Groups(Box::new(SharedGroups::new()))
    } else if let Some(levels) = options.max_priority {
        Ready::Priority(PriorityFifo::new(usize::from(levels) + 1))
    } else {
        Ready::Fifo(Fifo::new())
    }
}

/// The group that a message names by a header, a property or its routing key.
pub(crate) fn group_of(core: &Core, name: &str, parts: &Parts<'_>) -> Option<u64> {
    if name == "routing-key" {
        return Some(core.group_hash(parts.routing_key.as_bytes()));
    }
    with_key(name, parts, |_, key| core.group_hash(key))
}

/// When a message dies in a queue with these settings; 0 = never.
#[inline]
pub(crate) fn deadline(options: &QueueOptions, facts: &Facts) -> u64 {
    match options.message_ttl {
        None => facts.expires_ns,
        Some(ttl) => earlier(facts, ttl.as_nanos() as u64),
    }
}

/// When a message dies that has both, perhaps: a time to live of its own, and its queue's.
#[inline]
fn earlier(facts: &Facts, ttl_ns: u64) -> u64 {
    let enters_ns = facts.published_ns.max(facts.due_ns);
    let own = enters_ns.saturating_add(ttl_ns);
    if facts.expires_ns == 0 {
        own
    } else {
        own.min(facts.expires_ns)
    }
}

/// What a waiting message takes of the memory that is limited: nothing if it is in the journal too, since a backlog
/// stays there.
#[inline]
pub(crate) fn heap_of(stored: &Stored, body_bytes: u64) -> u64 {
    if stored.at() == 0 {
        body_bytes + MESSAGE_OVERHEAD_BYTES
    } else {
        0
    }
}

impl Queue {
    pub(crate) fn new(
        id: u32,
        name: &str,
        options: Arc<QueueOptions>,
        in_force: Option<Arc<InForce>>,
        core: &Arc<Core>,
        vhost: Weak<VirtualHost>,
        ready: Ready,
    ) -> Arc<Queue> {
        // An exclusive queue ends with its owner, so it never outlives the process.
        let durable = options.durable && options.exclusive.is_none() && core.storage().is_some();
        let now = core.clock.now_ns();
        let window = options
            .dedup
            .as_ref()
            .map(|dedup| Window::new(id, dedup, durable, core));
        let queue = Arc::new(Queue {
            id,
            window,
            name: name.into(),
            durable,
            core: core.clone(),
            vhost,
            ready,
            counters: Counters::new(now),
            consumers: Consumers::new(options.single_active_consumer),
            schedule: Mutex::default(),
            deleted: AtomicBool::new(false),
            expiry_ns: AtomicU64::new(0),
            settings: Settings::new(&options, in_force),
            options,
        });
        core.register_queue(&queue);
        if queue.settings.expires()
            && let Some(time) = queue.in_force().expires
        {
            queue.schedule_expiry(now + time.as_nanos() as u64);
        }
        queue
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its virtual host; empty when the broker is closed.
    pub fn virtual_host_name(&self) -> String {
        self.vhost
            .upgrade()
            .map(|v| v.name().to_string())
            .unwrap_or_default()
    }

    /// As declared, whatever policies make of it.
    pub fn options(&self) -> &QueueOptions {
        &self.options
    }

    pub(crate) fn vhost(&self) -> Result<Arc<VirtualHost>, Error> {
        self.vhost.upgrade().ok_or(Error::Closed)
    }

    /// The number of its consumers has changed just before.
    pub(crate) fn tell_consumers(&self) {
        if let Some(vhost) = self.vhost.upgrade() {
            self.core
                .consumer_watches
                .tell(vhost.id(), Some(&self.name));
        }
    }

    pub(crate) fn window(&self) -> Option<&Window> {
        self.window.as_deref()
    }

    pub(crate) fn count_duplicate(&self) {
        counters::add(&self.counters.input.duplicates, 1);
    }

    /// Whether it and its persistent messages are in the journal.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether it was deleted: nobody finds it any more, and what still holds it gets nothing from it.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed)
    }

    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check_usable(&self) -> Result<(), Error> {
        self.core.check_open()?;
        if self.is_deleted() {
            return Err(Error::UnknownQueue {
                name: self.name.to_string(),
                virtual_host: self
                    .vhost()
                    .map(|v| v.name().to_string())
                    .unwrap_or_default(),
            });
        }
        Ok(())
    }

    /// Whether `owner` may use it: an exclusive queue is its owner's alone, whatever is asked of it.
    ///
    /// # Errors
    /// [`Error::ResourceLocked`].
    pub fn check_owner(&self, owner: OwnerId) -> Result<(), Error> {
        match self.options.exclusive {
            Some(mine) if mine != owner => Err(self.locked()),
            _ => Ok(()),
        }
    }

    pub(crate) fn locked(&self) -> Error {
        Error::ResourceLocked(
            format!(
                "cannot obtain exclusive access to locked queue '{}' in vhost '{}'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.",
                self.name,
                self.virtual_host_name()
            )
            .into(),
        )
    }

    /// Ready messages, those behind others of their group included. Cheap; a snapshot while others work on the queue.
    pub fn message_count(&self) -> u64 {
        self.ready.len()
    }

    /// Consumers, those of `get` not counted.
    pub fn consumer_count(&self) -> usize {
        self.consumers.count()
    }

    /// Who consumes from it, in the order in which they came; those of `get` are not among them.
    pub fn consumers(&self) -> Vec<Arc<Consumer>> {
        self.consumers.all()
    }

    /// Whether a consumer that is served in turn has room: then it gets what is ready as soon as it is looked at, and
    /// nothing is left for a `get`.
    pub fn is_awaited(&self) -> bool {
        self.consumers.room(1) > 0
    }

    /// Somebody uses it: a queue that expires when it is unused starts its time anew.
    pub fn touch(&self) {
        let now = self.core.clock.now_ns();
        self.counters
            .output
            .last_used_ns
            .store(now, Ordering::Relaxed);
    }

    pub(crate) fn last_used_ns(&self) -> u64 {
        self.counters.output.last_used_ns.load(Ordering::Relaxed)
    }

    /// The lane for a priority: above the queue's maximum counts as the maximum.
    pub(crate) fn level_of(&self, priority: u8) -> u8 {
        priority.min(self.options.max_priority.unwrap_or(0))
    }

    /// The message's group, if this queue has groups and the message names one.
    pub(crate) fn group_of(&self, parts: &Parts<'_>) -> Option<u64> {
        group_of(&self.core, self.options.group_by.as_deref()?, parts)
    }

    /// When a message dies in this queue; 0 = never.
    #[inline]
    pub(crate) fn deadline(&self, facts: &Facts) -> u64 {
        self.settings.deadline(facts)
    }

    /// Whether a delivery may come back by itself, unless its consumer has its own word on that.
    #[inline]
    pub fn has_lease(&self) -> bool {
        self.settings.lease().is_some()
    }

    /// Whether failed attempts are counted: there is a delivery limit or a retry policy.
    #[inline]
    pub fn counts_attempts(&self) -> bool {
        self.settings.judges()
    }

    #[inline]
    pub(crate) fn lease(&self) -> Option<std::time::Duration> {
        self.settings.lease()
    }

    /// Whether it is deleted when nobody uses it.
    #[inline]
    pub(crate) fn expires(&self) -> bool {
        self.settings.expires()
    }

    /// Whether it refuses messages when it is full.
    #[inline]
    pub(crate) fn may_refuse(&self) -> bool {
        Settings::has_limit(self.settings.refuses_at())
    }

    /// Whether its oldest messages go when it is full.
    #[inline]
    pub(crate) fn may_drop(&self) -> bool {
        Settings::has_limit(self.settings.drops_above())
    }

    /// Has the timer look whether it was used, then and at no other time.
    pub(crate) fn schedule_expiry(&self, at_ns: u64) {
        self.expiry_ns.store(at_ns, Ordering::Relaxed);
        self.core
            .timer
            .schedule(at_ns, Event::QueueExpiry { queue: self.id });
    }

    pub(crate) fn is_expiry(&self, deadline_ns: u64) -> bool {
        self.expiry_ns.load(Ordering::Relaxed) == deadline_ns
    }

    /// Counts messages from the journal that are ready. Their memory does not count: they stay there.
    pub(crate) fn enter_recovered(&self, messages: u64, bytes: u64) {
        self.counters.enter(messages, bytes);
    }

    /// Counts a message that is about to be ready.
    pub(crate) fn enter(&self, stored: &Stored, body_bytes: u64) {
        self.counters.enter(1, body_bytes);
        self.meter(heap_of(stored, body_bytes), 1);
    }

    /// Counts a message that is no longer ready.
    pub(crate) fn leave(&self, stored: &Stored, body_bytes: u64) {
        self.leave_many(1, body_bytes, heap_of(stored, body_bytes));
    }

    /// Counts messages that are no longer ready, of which some took heap.
    pub(crate) fn leave_many(&self, messages: u64, bytes: u64, heap_bytes: u64) {
        self.counters.leave(messages, bytes);
        self.meter(heap_bytes, -1);
    }

    /// Counts messages that come from a publisher, before they can be taken, so that no difference is ever negative.
    pub(crate) fn announce(&self, drafts: &[Draft<'_>], scheduled: bool) {
        let n = drafts.len() as u64;
        counters::add(&self.counters.input.published, n);
        if !scheduled {
            let body_bytes = |draft: &Draft<'_>| draft.parts.body.len() as u64;
            self.counters.enter(n, drafts.iter().map(body_bytes).sum());
            let on_heap = drafts
                .iter()
                .filter(|draft| !(self.durable && draft.facts.persistent));
            self.meter(
                on_heap
                    .map(|d| body_bytes(d) + MESSAGE_OVERHEAD_BYTES)
                    .sum(),
                1,
            );
        }
    }

    /// Counts memory that waiting messages take, or give back.
    pub(crate) fn meter(&self, heap_bytes: u64, sign: i64) {
        if heap_bytes != 0 && self.core.memory.add(sign * heap_bytes as i64) {
            self.core.watchers.notify();
        }
    }

    /// Whether further persistent messages stay in the journal only.
    pub(crate) fn is_paged(&self) -> bool {
        self.counters.ready_bytes() + self.counters.ready() * MESSAGE_OVERHEAD_BYTES
            > QUEUE_HEAP_BYTES
    }

    /// Whether it refuses messages, and so many further ones with so many bytes of bodies would stand above a limit.
    /// Consumers get first what they have room for; but none gets what could not stand in the queue by itself.
    pub(crate) fn is_full(&self, messages: u64, bytes: u64) -> bool {
        let is_full = |messages: u64, bytes: u64| {
            let counters = &self.counters;
            let (messages_max, bytes_max) = self.settings.refuses_at();
            counters.ready() + messages > messages_max || counters.ready_bytes() + bytes > bytes_max
        };
        if !is_full(messages, bytes) {
            return false;
        }
        self.deal_out();
        let wanted = usize::try_from(messages).unwrap_or(usize::MAX);
        let left = messages.saturating_sub(self.consumers.room(wanted) as u64);
        is_full(left.max(1), bytes)
    }

    /// Whether messages are to go because of a limit.
    pub(crate) fn is_over_length(&self) -> bool {
        let (messages_max, bytes_max) = self.settings.drops_above();
        self.counters.ready() > messages_max || self.counters.ready_bytes() > bytes_max
    }

    pub(crate) fn count_rejected(&self, n: u64) {
        counters::add(&self.counters.input.rejected, n);
    }

    pub(crate) fn new_schedule_ids(&self, n: u64) -> u64 {
        let next = &self.counters.done.next_schedule_id;
        next.fetch_add(n, Ordering::Relaxed) // uniqueness needs only the atomic add
    }

    pub(crate) fn next_schedule_id(&self) -> u64 {
        self.counters.done.next_schedule_id.load(Ordering::Relaxed)
    }

    pub(crate) fn skip_schedule_id(&self, id: u64) {
        let next = &self.counters.done.next_schedule_id;
        next.fetch_max(id + 1, Ordering::Relaxed);
    }

    pub(crate) fn ceiling(&self) -> &AtomicU64 {
        &self.counters.output.ceiling
    }

    pub(crate) fn schedule(&self) -> MappedMutexGuard<'_, Schedule> {
        MutexGuard::map(self.schedule.lock(), |schedule| {
            &mut **schedule.get_or_insert_default()
        })
    }

    /// The same, unless it was never used.
    pub(crate) fn schedule_if_any(&self) -> Option<MappedMutexGuard<'_, Schedule>> {
        let place = self.schedule.lock();
        MutexGuard::try_map(place, |schedule| schedule.as_deref_mut()).ok()
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.counters.input.waiters
    }

    /// Tells up to `n` waiting consumers that there is something.
    pub(crate) fn wake(&self, n: usize) {
        if !self.waiters().any() {
            return;
        }
        // Who may take depends on the others where consumers differ: let them all look.
        let n = if self.consumers.is_restricted() {
            usize::MAX
        } else {
            n
        };
        for consumer in self.waiters().take(n) {
            consumer.notify();
        }
    }
}

// A million mailboxes take as many times this. `tests/queue_memory.rs` counts what comes with it.
const _: () = assert!(size_of::<Queue>() <= 512 || size_of::<usize>() != 8);

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
