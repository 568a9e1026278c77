//! From journal to memory: replays every entry into plain tables, then builds virtual hosts, exchanges, bindings and
//! queues from what is left.
//!
//! Entries may come in an order that differs from the order of events: compaction copies what is old behind what is
//! new. So nothing is concluded before the end: a queue's messages are collected whether or not its declaration was
//! seen, and what was deleted is known by ids that are never used again.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use wherry_journal::{Address, Replay};

use crate::core::{Core, Event};
use crate::entries::{self, Entry, Place, RECORD_COMMIT};
use crate::error::Error;
use crate::exchange::Destination;
use crate::message::Stored;
use crate::options::{ExchangeOptions, QueueOptions};
use crate::queue::note::Note;
use crate::queue::ready::{Ready, TakeBuffer};
use crate::queue::{Queue, new_ready};
use crate::table::Table;
use crate::topology;
use crate::vhost::VirtualHost;

/// A message so far below the others of its level is kept apart, so that the table in between costs nothing.
const GAP_MAX: u64 = 1 << 16;

/// One level's messages by position; 0 = settled or never seen.
#[derive(Default)]
struct Level {
    base: u64,
    at: VecDeque<Address>,
    body_bytes: VecDeque<u32>,
    /// Positions far below `base`, of messages that compaction copied.
    stragglers: BTreeMap<u64, (Address, u32)>,
    /// Above every position ever seen.
    next: u64,
}

impl Level {
    fn insert(&mut self, position: u64, at: Address, body_bytes: u32) {
        self.next = self.next.max(position + 1);
        if self.at.is_empty() {
            self.base = position;
        }
        if position < self.base {
            if self.base - position > GAP_MAX {
                self.stragglers.insert(position, (at, body_bytes));
                return;
            }
            while self.base > position {
                self.at.push_front(0);
                self.body_bytes.push_front(0);
                self.base -= 1;
            }
        }
        let index = (position - self.base) as usize;
        if index >= self.at.len() {
            if (index - self.at.len()) as u64 > GAP_MAX {
                // A jump forward: what is behind becomes the stragglers.
                for (offset, (old, bytes)) in self
                    .at
                    .drain(..)
                    .zip(self.body_bytes.drain(..))
                    .enumerate()
                    .filter(|(_, (at, _))| *at != 0)
                {
                    self.stragglers
                        .insert(self.base + offset as u64, (old, bytes));
                }
                self.base = position;
                self.at.push_back(at);
                self.body_bytes.push_back(body_bytes);
                return;
            }
            self.at.resize(index + 1, 0);
            self.body_bytes.resize(index + 1, 0);
        }
        self.at[index] = at;
        self.body_bytes[index] = body_bytes;
    }

    fn settle(&mut self, position: u64) {
        self.next = self.next.max(position + 1);
        self.stragglers.remove(&position);
        if position < self.base {
            return;
        }
        if let Some(at) = self.at.get_mut((position - self.base) as usize) {
            *at = 0;
        }
        while let Some(0) = self.at.front() {
            self.at.pop_front();
            self.body_bytes.pop_front();
            self.base += 1;
        }
    }

    fn settle_run(&mut self, first: u64, count: u32) {
        for position in first..first + u64::from(count) {
            self.settle(position);
        }
    }

    fn contains(&self, position: u64) -> bool {
        self.stragglers.contains_key(&position)
            || position
                .checked_sub(self.base)
                .and_then(|index| self.at.get(index as usize))
                .is_some_and(|at| *at != 0)
    }

    /// What is left, ascending.
    fn into_messages(self) -> impl Iterator<Item = (u64, Address, u32)> {
        let base = self.base;
        self.stragglers
            .into_iter()
            .map(|(position, (at, bytes))| (position, at, bytes))
            .chain(
                self.at
                    .into_iter()
                    .zip(self.body_bytes)
                    .enumerate()
                    .filter(|(_, (at, _))| *at != 0)
                    .map(move |(index, (at, bytes))| (base + index as u64, at, bytes)),
            )
    }
}

#[derive(Default)]
struct QueueReplay {
    declared: Option<(u32, String, QueueOptions)>,
    levels: BTreeMap<u8, Level>,
    /// By id in the schedule: address, due.
    delayed: HashMap<u64, (Address, u64)>,
    /// Notes of messages that came back, and when they are due again.
    notes: HashMap<(u8, u64), (u32, u64)>,
    /// Seen while the queue's options were known, so that its messages need not be read again: group and deadline.
    groups: HashMap<u64, u64>,
    deadlines: Vec<(u64, u8, u64)>,
    /// Messages that came before the declaration: (level, position) to be read for group and deadline.
    unread: Vec<(u8, u64, Address)>,
    next_schedule_id: u64,
    ceiling: u64,
}

/// Everything that a journal says.
pub(crate) struct Recovery<'a> {
    core: &'a Arc<Core>,
    progress: Option<Box<dyn FnMut(u64, u64) + Send>>,
    virtual_hosts: BTreeMap<u32, String>,
    exchanges: BTreeMap<u32, (u32, String, ExchangeOptions)>,
    bindings: HashMap<(u32, u32, String, Vec<u8>), Table>,
    queues: HashMap<u32, QueueReplay>,
    deleted: HashSet<u32>,
    /// Whether the last entry says that the journal was closed in order.
    closed: bool,
    empty: bool,
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
            queues: HashMap::new(),
            deleted: HashSet::new(),
            closed: false,
            empty: true,
        }
    }

    /// Whether there was nothing: a new journal.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
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
        let core = self.core.clone();
        for target in message.targets() {
            let Place {
                queue,
                level,
                position,
            } = target.place;
            if self.deleted.contains(&queue) {
                continue;
            }
            let replay = self.queue(queue);
            if message.facts.due_ns != 0 {
                replay.next_schedule_id = replay.next_schedule_id.max(position + 1);
                replay.delayed.insert(position, (at, message.facts.due_ns));
                continue;
            }
            let body_bytes = u32::try_from(parts.body.len()).unwrap_or(u32::MAX);
            replay
                .levels
                .entry(level)
                .or_default()
                .insert(position, at, body_bytes);
            if target.note != 0 {
                replay.notes.insert((level, position), (target.note, 0));
            }
            match &replay.declared {
                Some((_, _, options)) => {
                    if let Some(name) = &options.group_by
                        && let Some(group) = crate::queue::group_of(&core, name, &parts)
                    {
                        replay.groups.insert(position, group);
                    }
                    let deadline_ns = crate::queue::deadline(options, &message.facts);
                    if deadline_ns != 0 {
                        replay.deadlines.push((deadline_ns, level, position));
                    }
                }
                None => replay.unread.push((level, position, at)),
            }
        }
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
                for run in entry.runs() {
                    let Place {
                        queue,
                        level,
                        position,
                    } = run.first;
                    if !self.deleted.contains(&queue) {
                        let replay = self.queue(queue);
                        replay
                            .levels
                            .entry(level)
                            .or_default()
                            .settle_run(position, run.count);
                        if !replay.notes.is_empty() || !replay.groups.is_empty() {
                            for position in position..position + u64::from(run.count) {
                                replay.notes.remove(&(level, position));
                                replay.groups.remove(&position);
                            }
                        }
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
            entries::CEILING => {
                let place = entry.place().ok_or_else(malformed)?;
                let replay = self.queue(place.queue);
                replay.ceiling = replay.ceiling.max(place.position);
            }
            entries::CANCEL => {
                let place = entry.place().ok_or_else(malformed)?;
                let replay = self.queue(place.queue);
                replay.next_schedule_id = replay.next_schedule_id.max(place.position + 1);
                replay.delayed.remove(&place.position);
            }
            entries::DECLARE_QUEUE => {
                let declared = topology::read_declared(entry.payload).ok_or_else(malformed)?;
                let options =
                    QueueOptions::from_table(&declared.options).map_err(|e| e.to_string())?;
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
        let mut hosts: HashMap<u32, Arc<VirtualHost>> = HashMap::new();
        for (id, name) in self.virtual_hosts {
            let vhost = VirtualHost::new(id, &name, &core);
            core.virtual_hosts.write().insert(name, vhost.clone());
            hosts.insert(id, vhost);
        }
        let mut destinations: HashMap<u32, Destination> = HashMap::new();
        let mut sources = HashMap::new();
        for (id, (host, name, options)) in self.exchanges {
            if let Some(vhost) = hosts.get(&host) {
                let exchange = vhost.add_exchange(id, &name, options);
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
            let queue = replay.build(id, &core, &vhost, self.closed)?;
            destinations.insert(id, Destination::Queue(queue));
        }
        for ((source, destination, key, _), arguments) in self.bindings {
            if let (Some(source), Some(destination)) =
                (sources.get(&source), destinations.get(&destination))
            {
                source
                    .bindings
                    .bind(&key, &arguments, destination.clone())
                    .map_err(|e| {
                        Error::JournalCorrupt(format!("a binding in the journal is not valid: {e}"))
                    })?;
            }
        }
        for vhost in hosts.values() {
            vhost.generation.bump();
        }
        Ok(())
    }
}

impl Replay for Recovery<'_> {
    fn record(&mut self, at: Address, kind: u8, payload: &[u8]) -> Result<(), String> {
        self.empty = false;
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

impl QueueReplay {
    fn build(
        mut self,
        id: u32,
        core: &Arc<Core>,
        vhost: &Arc<VirtualHost>,
        closed: bool,
    ) -> Result<Arc<Queue>, Error> {
        let (_, name, options) = self.declared.take().expect("the caller looked");
        let storage = core.storage().expect("recovery has a journal");
        let journal = storage.journal().clone();
        for (level, position, at) in std::mem::take(&mut self.unread) {
            let live = self
                .levels
                .get(&level)
                .is_some_and(|l| l.contains(position));
            if !live || (options.group_by.is_none() && options.message_ttl.is_none()) {
                // The message's own expiration is looked at below only for those that were read.
                if live {
                    self.note_expiration(&journal, level, position, at);
                }
                continue;
            }
            let message = entries::read_message(&journal, at)?;
            if let Some(name) = &options.group_by
                && let Some(group) = crate::queue::group_of(core, name, &message.parts())
            {
                self.groups.insert(position, group);
            }
            let deadline_ns = crate::queue::deadline(&options, &message.facts());
            if deadline_ns != 0 {
                self.deadlines.push((deadline_ns, level, position));
            }
        }
        let mut counted = (0u64, 0u64);
        let ceiling = self.ceiling;
        let notes = std::mem::take(&mut self.notes);
        let mut later: Vec<(u64, Note, u8, u64, u64)> = Vec::new();
        let mut restored = |level: u8, position: u64, at: Address, body_bytes: u32| {
            journal.retain(at, 1);
            counted.0 += 1;
            counted.1 += u64::from(body_bytes);
            let (note, due_ns) = notes.get(&(level, position)).copied().unwrap_or((0, 0));
            let mut note = Note(note);
            // After a crash: whatever may have been handed out says so.
            if !closed && position < ceiling {
                note = note.returned();
            }
            if due_ns != 0 {
                later.push((due_ns, note, level, position, u64::from(body_bytes)));
            }
            (Stored::in_journal(at), note.0)
        };
        let options = core.share_options(options);
        let mut ready = new_ready(&options);
        match &mut ready {
            Ready::Fifo(fifo) => {
                let level = self.levels.remove(&0).unwrap_or_default();
                let next = level.next;
                let mut position = None;
                for (at_position, at, body_bytes) in level.into_messages() {
                    match position {
                        None => *fifo = wherry_queues::Fifo::starting_at(at_position),
                        Some(position) => fifo.restore_holes(at_position - position),
                    }
                    fifo.restore(std::iter::once(Some(restored(
                        0,
                        at_position,
                        at,
                        body_bytes,
                    ))));
                    position = Some(at_position + 1);
                }
                match position {
                    None => *fifo = wherry_queues::Fifo::starting_at(next),
                    Some(position) => fifo.restore_holes(next - position),
                }
            }
            Ready::Priority(lanes) => {
                for (number, level) in std::mem::take(&mut self.levels) {
                    let next = level.next;
                    let mut position = None;
                    for (at_position, at, body_bytes) in level.into_messages() {
                        match position {
                            None => lanes.start_level_at(number, at_position),
                            Some(position) => lanes.restore_holes(number, at_position - position),
                        }
                        let item = restored(number, at_position, at, body_bytes);
                        lanes.restore(number, std::iter::once(Some(item)));
                        position = Some(at_position + 1);
                    }
                    match position {
                        None => lanes.start_level_at(number, next),
                        Some(position) => lanes.restore_holes(number, next - position),
                    }
                }
            }
            Ready::Groups(groups) => {
                let level = self.levels.remove(&0).unwrap_or_default();
                let next = level.next;
                let keys = std::mem::take(&mut self.groups);
                let mut messages = level.into_messages().peekable();
                if let Some((first, _, _)) = messages.peek() {
                    *groups = wherry_queues::groups::SharedGroups::starting_at(*first);
                }
                groups.restore(messages.map(|(position, at, body_bytes)| {
                    let (stored, note) = restored(0, position, at, body_bytes);
                    (position, keys.get(&position).copied(), stored, note)
                }));
                groups.skip_to(next);
            }
        }
        let queue = Queue::new(id, &name, options, core, Arc::downgrade(vhost), ready);
        queue.enter(counted.0, counted.1);
        queue
            .ceiling()
            .fetch_max(ceiling, std::sync::atomic::Ordering::Relaxed);
        for (schedule_id, (at, due_ns)) in self.delayed {
            journal.retain(at, 1);
            queue.skip_schedule_id(schedule_id);
            queue.schedule_delayed(schedule_id, due_ns, Stored::in_journal(at));
        }
        if self.next_schedule_id > 0 {
            queue.skip_schedule_id(self.next_schedule_id - 1);
        }
        for (deadline_ns, level, position) in self.deadlines {
            core.timer.schedule(
                deadline_ns,
                Event::Expire {
                    queue: id,
                    level,
                    position,
                },
            );
        }
        queue.put_off_again(later);
        vhost.add_queue(&queue);
        Ok(queue)
    }

    fn note_expiration(
        &mut self,
        journal: &wherry_journal::Journal,
        level: u8,
        position: u64,
        at: Address,
    ) {
        if let Ok(message) = entries::read_message(journal, at)
            && message.facts().expires_ns != 0
        {
            self.deadlines
                .push((message.facts().expires_ns, level, position));
        }
    }
}

impl Queue {
    /// Messages that waited for their next attempt when the journal ended wait on. Nobody else sees the queue yet.
    fn put_off_again(&self, later: Vec<(u64, Note, u8, u64, u64)>) {
        if later.is_empty() {
            return;
        }
        let now = self.core.clock.now_ns();
        let mut wanted: HashMap<(u8, u64), (u64, Note, u64)> = later
            .into_iter()
            .filter(|(due_ns, ..)| *due_ns > now)
            .map(|(due_ns, note, level, position, bytes)| {
                ((level, position), (due_ns, note, bytes))
            })
            .collect();
        // Only the structure gives out leases, and only in order: take everything, keep what must wait.
        let mut buffer = TakeBuffer::default();
        let mut back = Vec::new();
        while !wanted.is_empty() {
            let mut taken = Vec::new();
            self.ready
                .take(1024, &mut buffer, |token| taken.push(token));
            if taken.is_empty() {
                break;
            }
            for token in taken {
                match wanted.remove(&(token.level(), token.position())) {
                    Some((due_ns, note, body_bytes)) => {
                        self.leave(1, body_bytes);
                        self.put_off(token, note, body_bytes, due_ns);
                    }
                    None => back.push(token),
                }
            }
        }
        for token in back {
            let note = token.note();
            self.ready.requeue(token, note);
        }
    }
}
