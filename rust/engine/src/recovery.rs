//! From journal to memory: replays every entry into plain tables, then builds virtual hosts, exchanges, bindings and
//! queues from what is left (recovery/build.rs).
//!
//! Entries may come in an order that differs from the order of events: compaction copies what is old behind what is
//! new. So nothing is concluded before the end: a queue's messages are collected whether or not its declaration was
//! seen, and what was deleted is known by ids that are never used again. What compaction guarantees is that an entry
//! that ends a message never stands before the last copy of that message.
//!
//! Every entry is checked before it is believed: a malformed one ends the recovery with its address, and no content
//! makes it panic or run for ever.

mod build;
mod ids;
mod level;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use wherry_journal::{Address, Journal, Replay, SegmentNumber, address, segment_of};

use crate::core::Core;
use crate::dedup::Window;
use crate::entries::{self, Entry, Place, RECORD_COMMIT};
use crate::error::Error;
use crate::exchange::Destination;
use crate::options::{ExchangeOptions, QueueOptions};
use crate::policy::Policy;
use crate::table::Table;
use crate::topology;
use crate::vhost::VirtualHost;
use ids::IdsReplay;
use level::Level;

/// Keys are our own numbers: no need for a hash that resists enemies.
type NumberMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Forgotten deadlines are swept out when there are this many times more than messages, and at least this many.
const DEADLINES_SLACK: usize = 1024;

#[derive(Default)]
struct QueueReplay {
    declared: Option<(u32, String, QueueOptions)>,
    /// Ascending.
    levels: Vec<(u8, Level)>,
    /// By id in the schedule: address, due.
    delayed: NumberMap<u64, (Address, u64)>,
    /// Notes of messages that came back, and when they are due again.
    notes: NumberMap<(u8, u64), (u32, u64)>,
    /// Runs of messages that were handed out and came back: end by level and first position.
    returned: BTreeMap<(u8, u64), u64>,
    deadlines: Vec<(u64, u8, u64)>,
    /// Some messages came before the declaration, which says what their groups and deadlines are: these may be missing.
    undeclared: bool,
    next_schedule_id: u64,
    ceiling: u64,
}

impl QueueReplay {
    fn level(&mut self, number: u8) -> &mut Level {
        let index = match self.levels.binary_search_by_key(&number, |(n, _)| *n) {
            Ok(index) => index,
            Err(index) => {
                self.levels.insert(index, (number, Level::default()));
                index
            }
        };
        &mut self.levels[index].1
    }

    fn has(&self, level: u8, position: u64) -> bool {
        self.levels
            .iter()
            .any(|(number, l)| *number == level && l.contains(position))
    }

    fn live(&self) -> usize {
        self.levels.iter().map(|(_, level)| level.live()).sum()
    }

    fn sweep_deadlines(&mut self) {
        let mut deadlines = std::mem::take(&mut self.deadlines);
        deadlines.retain(|(_, level, position)| self.has(*level, *position));
        self.deadlines = deadlines;
    }

    fn settle(&mut self, level: u8, first: u64, count: u32) {
        self.level(level).settle_run(first, count);
        let end = first + u64::from(count);
        if self.notes.len() < count as usize {
            self.notes
                .retain(|(l, position), _| *l != level || !(first..end).contains(position));
        } else {
            for position in first..end {
                self.notes.remove(&(level, position));
            }
        }
        if self.deadlines.len() > DEADLINES_SLACK && self.deadlines.len() / 2 > self.live() {
            self.sweep_deadlines();
        }
    }
}

/// How much of each segment is messages: what the journal must know to judge which segments to free.
#[derive(Default)]
struct Shares {
    /// Segment, targets of its messages, bytes of their entries.
    written: Vec<(SegmentNumber, u64, u64)>,
    /// Targets that still count, by segment.
    live: NumberMap<SegmentNumber, u64>,
    last: (SegmentNumber, u64),
}

impl Shares {
    fn wrote(&mut self, at: Address, targets: u64, bytes: u64) {
        let segment = segment_of(at);
        match self.written.last_mut() {
            Some((last, t, b)) if *last == segment => {
                *t += targets;
                *b += bytes;
            }
            _ => self.written.push((segment, targets, bytes)),
        }
    }

    fn lives(&mut self, at: Address) {
        let segment = segment_of(at);
        if self.last.0 != segment {
            self.flush();
            self.last.0 = segment;
        }
        self.last.1 += 1;
    }

    fn flush(&mut self) {
        let (segment, n) = std::mem::take(&mut self.last);
        if n > 0 {
            *self.live.entry(segment).or_default() += n;
        }
    }

    fn tell(mut self, journal: &Journal) {
        self.flush();
        for (segment, targets, bytes) in self.written {
            let units = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            let live = self.live.get(&segment).copied().unwrap_or(0);
            let at = address(segment, 0);
            journal.retain_shares(at, units(targets), bytes);
            journal.release(at, units(targets.saturating_sub(live)));
        }
    }
}

/// Everything that a journal says.
pub(crate) struct Recovery<'a> {
    core: &'a Arc<Core>,
    progress: Option<Box<dyn FnMut(u64, u64) + Send>>,
    virtual_hosts: BTreeMap<u32, String>,
    exchanges: BTreeMap<u32, (u32, String, ExchangeOptions)>,
    bindings: HashMap<(u32, u32, String, Vec<u8>), Table>,
    /// By virtual host, kind and name: a policy that is set anew has a new id.
    policies: BTreeMap<(u32, bool, String), Policy>,
    queues: NumberMap<u32, QueueReplay>,
    /// By owner.
    ids: NumberMap<u32, IdsReplay>,
    deleted: HashSet<u32>,
    shares: Shares,
    /// Whether the last entry says that the journal was closed in order.
    closed: bool,
}

impl<'a> Recovery<'a> {
    pub(crate) fn new(
        core: &'a Arc<Core>,
        progress: Option<Box<dyn FnMut(u64, u64) + Send>>,
    ) -> Self {
        Recovery {
            core,
            progress,
            virtual_hosts: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            bindings: HashMap::new(),
            policies: BTreeMap::new(),
            queues: HashMap::default(),
            ids: HashMap::default(),
            deleted: HashSet::new(),
            shares: Shares::default(),
            closed: false,
        }
    }

    fn seen(&self, id: u32) {
        self.core.skip_id(id);
    }

    fn queue(&mut self, id: u32) -> &mut QueueReplay {
        self.core.skip_id(id);
        self.queues.entry(id).or_default()
    }

    fn message(&mut self, at: Address, entry: &Entry<'_>) -> Option<()> {
        let message = entry.message()?;
        let parts = message.parts()?;
        let core = self.core;
        let mut targets = 0;
        for target in message.targets() {
            targets += 1;
            let Place {
                queue,
                level,
                position,
            } = target.place;
            if !target.place.is_sound() {
                return None;
            }
            if self.deleted.contains(&queue) {
                continue;
            }
            let replay = self.queue(queue);
            if message.facts.due_ns != 0 {
                replay.next_schedule_id = replay.next_schedule_id.max(position + 1);
                replay.delayed.insert(position, (at, message.facts.due_ns));
                continue;
            }
            let (group, deadline_ns) = match &replay.declared {
                Some((_, _, options)) => {
                    let group_by = options.group_by.as_deref();
                    (
                        group_by.and_then(|name| crate::queue::group_of(core, name, &parts)),
                        crate::queue::deadline(options, &message.facts),
                    )
                }
                None => {
                    replay.undeclared = true;
                    (None, message.facts.expires_ns)
                }
            };
            let body_bytes = u32::try_from(parts.body.len()).unwrap_or(u32::MAX);
            replay.level(level).insert(position, at, body_bytes, group);
            if target.note != 0 {
                replay.notes.insert((level, position), (target.note, 0));
            }
            if deadline_ns != 0 {
                replay.deadlines.push((deadline_ns, level, position));
            }
        }
        self.shares
            .wrote(at, targets, entry.payload.len() as u64 + 8);
        Some(())
    }

    fn entry(&mut self, record_at: Address, entry: &Entry<'_>) -> Result<(), String> {
        self.closed = entry.kind == entries::CLOSED;
        let malformed = || format!("malformed entry of kind {}", entry.kind);
        match entry.kind {
            entries::MESSAGE => self
                .message(record_at + entry.offset as u64, entry)
                .ok_or_else(malformed)?,
            entries::SETTLE => {
                for run in entry.runs().ok_or_else(malformed)? {
                    let Place {
                        queue,
                        level,
                        position,
                    } = run.first;
                    if !self.deleted.contains(&queue) {
                        self.queue(queue).settle(level, position, run.count);
                    }
                }
            }
            entries::RETURNED => {
                for run in entry.runs().ok_or_else(malformed)? {
                    let Place {
                        queue,
                        level,
                        position,
                    } = run.first;
                    if !self.deleted.contains(&queue) {
                        let end = self
                            .queue(queue)
                            .returned
                            .entry((level, position))
                            .or_default();
                        *end = position.saturating_add(u64::from(run.count)).max(*end);
                    }
                }
            }
            entries::REQUEUE => {
                let (place, note, due_ns) = entry.requeue().ok_or_else(malformed)?;
                if !self.deleted.contains(&place.queue) {
                    self.queue(place.queue)
                        .notes
                        .insert((place.level, place.position), (note, due_ns));
                }
            }
            entries::CEILING | entries::CANCEL | entries::NEXT | entries::NEXT_SCHEDULED => {
                let place = entry.place().ok_or_else(malformed)?;
                if self.deleted.contains(&place.queue) {
                    return Ok(());
                }
                let replay = self.queue(place.queue);
                match entry.kind {
                    entries::CEILING => replay.ceiling = replay.ceiling.max(place.position),
                    entries::NEXT => replay.level(place.level).skip_to(place.position),
                    entries::NEXT_SCHEDULED => {
                        replay.next_schedule_id = replay.next_schedule_id.max(place.position);
                    }
                    _ => {
                        replay.next_schedule_id = replay.next_schedule_id.max(place.position + 1);
                        replay.delayed.remove(&place.position);
                    }
                }
            }
            entries::ID => {
                let at = record_at + entry.offset as u64;
                let id = entry.id(at).ok_or_else(malformed)?;
                if !self.deleted.contains(&id.owner) {
                    self.ids.entry(id.owner).or_default().push(id);
                }
            }
            entries::DECLARE_QUEUE => {
                let declared = topology::read_declared(entry.payload).ok_or_else(malformed)?;
                let options = QueueOptions::from_table(&declared.options)
                    .and_then(|options| options.validate().map(|()| options))
                    .map_err(|e| e.to_string())?;
                if !self.deleted.contains(&declared.id) {
                    self.queue(declared.id).declared =
                        Some((declared.virtual_host, declared.name.to_string(), options));
                }
            }
            entries::DECLARE_EXCHANGE => {
                let declared = topology::read_declared(entry.payload).ok_or_else(malformed)?;
                let options =
                    ExchangeOptions::from_table(&declared.options).map_err(|e| e.to_string())?;
                self.seen(declared.id);
                self.exchanges.insert(
                    declared.id,
                    (declared.virtual_host, declared.name.to_string(), options),
                );
            }
            entries::DECLARE_VIRTUAL_HOST => {
                let declared = topology::read_declared(entry.payload).ok_or_else(malformed)?;
                self.seen(declared.id);
                self.virtual_hosts
                    .insert(declared.id, declared.name.to_string());
            }
            entries::DELETE_QUEUE | entries::DELETE_EXCHANGE | entries::DELETE_VIRTUAL_HOST => {
                let id = topology::read_deleted(entry.payload).ok_or_else(malformed)?;
                self.seen(id);
                self.deleted.insert(id);
                self.queues.remove(&id);
                self.ids.remove(&id);
                self.exchanges.remove(&id);
                self.virtual_hosts.remove(&id);
            }
            entries::BIND | entries::UNBIND => {
                let bound = topology::read_bound(entry.payload).ok_or_else(malformed)?;
                self.seen(bound.source);
                self.seen(bound.destination);
                let arguments = bound.arguments.encode().map_err(|e| e.to_string())?;
                let key = (
                    bound.source,
                    bound.destination,
                    bound.routing_key.to_string(),
                    arguments,
                );
                if entry.kind == entries::BIND {
                    self.bindings.insert(key, bound.arguments);
                } else {
                    self.bindings.remove(&key);
                }
            }
            entries::SET_POLICY => {
                let declared = topology::read_declared(entry.payload).ok_or_else(malformed)?;
                self.seen(declared.id);
                let policy = Policy::from_table(declared.id, declared.name, &declared.options)
                    .map_err(|e| e.to_string())?;
                let operator = policy.as_set().operator;
                let key = (declared.virtual_host, operator, declared.name.to_string());
                self.policies.insert(key, policy);
            }
            entries::CLEAR_POLICY => {
                let id = topology::read_deleted(entry.payload).ok_or_else(malformed)?;
                self.seen(id);
                self.policies.retain(|_, policy| policy.id != id);
            }
            entries::CLOSED => {}
            other => {
                return Err(format!(
                    "entry of unknown kind {other}: written by a newer version?"
                ));
            }
        }
        Ok(())
    }

    /// Builds what was replayed.
    pub(crate) fn build(self) -> Result<(), Error> {
        let core = self.core.clone();
        let mut shares = self.shares;
        let mut ids = self.ids;
        let mut remember = |owner: u32, window: Option<&Window>| {
            if let (Some(window), Some(ids)) = (window, ids.remove(&owner)) {
                ids.build(window);
            }
        };
        let mut hosts: HashMap<u32, Arc<VirtualHost>> = HashMap::new();
        for (id, name) in self.virtual_hosts {
            let vhost = VirtualHost::new(id, &name, &core);
            core.virtual_hosts.write().insert(name, vhost.clone());
            hosts.insert(id, vhost);
        }
        for ((host, ..), policy) in self.policies {
            if let Some(vhost) = hosts.get(&host) {
                vhost.restore_policy(policy);
            }
        }
        let mut destinations: HashMap<u32, Destination> = HashMap::new();
        let mut sources = HashMap::new();
        for (id, (host, name, options)) in self.exchanges {
            if let Some(vhost) = hosts.get(&host) {
                let exchange = vhost.add_exchange(id, &name, options);
                remember(id, exchange.window());
                destinations.insert(id, Destination::exchange(&exchange));
                sources.insert(id, exchange);
            }
        }
        for (id, replay) in self.queues {
            let Some((host, _, _)) = &replay.declared else {
                continue;
            };
            let Some(vhost) = hosts.get(host).cloned() else {
                continue;
            };
            let queue = replay.build(id, &core, &vhost, self.closed, &mut shares)?;
            remember(id, queue.window());
            destinations.insert(id, Destination::Queue(queue));
        }
        for ((source, destination, key, _), arguments) in self.bindings {
            if let (Some(source), Some(destination)) =
                (sources.get(&source), destinations.get(&destination))
            {
                source
                    .vhost()?
                    .add_binding(source, &key, &arguments, destination)
                    .map_err(|e| {
                        Error::JournalCorrupt(format!("a binding in the journal is not valid: {e}"))
                    })?;
            }
        }
        for vhost in hosts.values() {
            vhost.routes.bump();
        }
        if let Some(storage) = core.storage() {
            shares.tell(storage.journal());
        }
        Ok(())
    }
}

impl Replay for Recovery<'_> {
    fn record(&mut self, at: Address, kind: u8, payload: &[u8]) -> Result<(), String> {
        if kind != RECORD_COMMIT {
            return Err(format!(
                "record of unknown kind {kind}: written by a newer version?"
            ));
        }
        for entry in entries::parse(payload) {
            self.entry(at, &entry?)?;
        }
        Ok(())
    }

    fn progress(&mut self, done_bytes: u64, total_bytes: u64) {
        if let Some(progress) = &mut self.progress {
            progress(done_bytes, total_bytes);
        }
    }
}
