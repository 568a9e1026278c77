//! Keeping the journal in order: writes settlements that found no room, and frees the oldest segment by copying
//! forward what still lives in it. Runs on the timer's thread (with a virtual clock, on one of its own).
//!
//! What lives is decided by looking at the queues, not at counts: a message entry lives for a target whose slot still
//! holds this very address. Publishers that have a record in the segment and have not filled their slots are waited
//! for first (in_flight.rs). A record is copied under the compaction lock, so that nobody settles by a record in
//! between. Plain acknowledgements do not take the lock: they change the slot, then append. So the slots are looked at
//! once more when the copy has its place in the journal and before it is written there: who is found settled then may
//! stand in the journal before the copy, which is given up and made anew without them; who is not will stand behind
//! it. So no entry that ends a message ever stands before a copy of it, whatever part of the journal a crash leaves. A
//! segment is retired when everything appended before, the copies included, is on stable storage.
//!
//! Ids of deduplication are copied while their window still remembers them (dedup.rs), under the window's lock.
//!
//! Positions are never given out twice: where the dead messages of a segment may be the last that knew how far a queue
//! had come, a small entry says so instead.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wherry_journal::{Address, Class, Replay, SegmentNumber};

use crate::core::Core;
use crate::entries::{self, Entry, Place, RECORD_COMMIT, Target};
use crate::exchange::{Destination, Exchange};
use crate::queue::Queue;
use crate::queue::schedule::Waiting;
use crate::storage::{Storage, Ticket};
use crate::topology;

/// Copies that wait to be durable before their segment can go.
#[derive(Default)]
pub(crate) struct Evacuation {
    waiting: Option<(SegmentNumber, Ticket)>,
}

impl Evacuation {
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

/// Does what is to be done now; never waits for the disk.
pub(crate) fn housekeeping(core: &Arc<Core>) {
    let Some(storage) = core.storage() else {
        return;
    };
    storage.flush_deferred();
    let mut evacuation = storage.evacuation.lock();
    loop {
        if let Some((segment, ticket)) = evacuation.waiting {
            if storage.journal().durable() < ticket.0 || storage.journal().retire(segment).is_err()
            {
                return; // the committer's next notice brings us back
            }
            evacuation.waiting = None;
        }
        let Some(segment) = storage.journal().evacuation() else {
            return;
        };
        storage.in_flight.wait(); // the segment is sealed: whoever has a record in it fills its slots now
        let mut copier = Copier {
            core,
            storage,
            exchanges: None,
            counted: BTreeSet::new(),
        };
        let copied =
            storage.journal().scan(segment, &mut copier).is_ok() && copier.write_counts().is_ok();
        if !copied {
            return; // no room for copies now, or a journal that failed; nothing was lost
        }
        evacuation.waiting = Some((segment, storage.appended()));
    }
}

type Exchanges = HashMap<u32, Arc<Exchange>>;

struct Copier<'a> {
    core: &'a Arc<Core>,
    storage: &'a Storage,
    /// By id, made when first asked for: what is declared later has its entries in later segments.
    exchanges: Option<Exchanges>,
    /// What of queues is told by entries that go, and must be told again.
    counted: BTreeSet<(u32, Count)>,
}

/// How far a queue has come, in some respect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Count {
    Level(u8),
    Schedule,
    Ceiling,
}

/// A target that still needs the entry, and how it waits.
struct Live {
    queue: Arc<Queue>,
    target: Target,
    /// Its retry, if it waits for one.
    requeue: Option<(u32, u64)>,
}

impl PartialEq for Live {
    fn eq(&self, other: &Live) -> bool {
        // Queues are named by their targets.
        (self.target, self.requeue) == (other.target, other.requeue)
    }
}

impl Copier<'_> {
    fn live_targets(&self, at: Address, entry: &entries::MessageEntry<'_>) -> Vec<Live> {
        entry
            .targets()
            .filter_map(|target| {
                let queue = self.core.queue_by_id(target.place.queue)?;
                let Place {
                    level, position, ..
                } = target.place;
                let schedule = queue.schedule();
                if entry.facts.due_ns != 0 {
                    let (_, waiting) = schedule.get(position)?;
                    let here = matches!(waiting, Waiting::Delayed(stored) if stored.at() == at);
                    drop(schedule);
                    return here.then_some(Live {
                        queue,
                        target,
                        requeue: None,
                    });
                }
                let mut requeue = None;
                match schedule.get_by_place(level, position) {
                    Some((_, Waiting::Dead(dead))) => {
                        let here = dead.stored.at() == at;
                        drop(schedule);
                        return here.then_some(Live {
                            queue,
                            target,
                            requeue: None,
                        });
                    }
                    Some((due_ns, Waiting::Retry(retry))) => requeue = Some((retry.note.0, due_ns)),
                    _ => {}
                }
                drop(schedule);
                let note = queue.ready.inspect(level, position, |note, stored| {
                    (stored.at() == at).then_some(note)
                })??;
                Some(Live {
                    queue,
                    target: Target { note, ..target },
                    requeue,
                })
            })
            .collect()
    }

    /// Has the slot name the copy. False when the message was settled meanwhile.
    fn relocate(&self, live: &Live, delayed: bool, old: Address, new: Address) -> bool {
        let Place {
            level, position, ..
        } = live.target.place;
        let schedule = live.queue.schedule();
        if delayed {
            return schedule
                .get(position)
                .is_some_and(|(_, waiting)| waiting.stored().relocate(old, new));
        }
        if let Some((_, Waiting::Dead(dead))) = schedule.get_by_place(level, position) {
            return dead.stored.relocate(old, new);
        }
        drop(schedule);
        live.queue
            .ready
            .inspect(level, position, |_, stored| stored.relocate(old, new))
            == Some(true)
    }

    fn message(&mut self, at: Address, entry: &Entry<'_>) -> Result<(), String> {
        let message = entry.message().ok_or("malformed message entry")?;
        let parts = message.parts().ok_or("malformed message content")?;
        let delayed = message.facts.due_ns != 0;
        for Target { place, .. } in message.targets() {
            let count = if delayed {
                Count::Schedule
            } else {
                Count::Level(place.level)
            };
            self.counted.insert((place.queue, count));
        }
        let _exclusive = self.storage.compaction.write();
        let mut live = self.live_targets(at, &message);
        while !live.is_empty() {
            let notes = live.iter().any(|l| l.target.note != 0);
            let retries = live.iter().filter(|l| l.requeue.is_some()).count();
            let message_bytes = entries::message_bytes(&parts, &message.facts, live.len(), notes);
            let sizes = [message_bytes + retries * entries::REQUEUE_BYTES];
            crate::core::interruptible();
            let mut reservation = self
                .storage
                .reserve(&sizes, Class::Settle)
                .map_err(|e| e.to_string())?;
            let (new, out) = reservation.next(RECORD_COMMIT);
            let still = self.live_targets(at, &message);
            if still != live {
                live = still; // the reservation ends unused
                continue;
            }
            let (mine, mut rest) = out.split_at_mut(message_bytes);
            entries::write_message(
                mine,
                &parts,
                &message.facts,
                live.iter().map(|l| l.target),
                notes,
            );
            for l in &live {
                if let Some((note, due_ns)) = l.requeue {
                    let (mine, tail) = rest.split_at_mut(entries::REQUEUE_BYTES);
                    rest = tail;
                    entries::write_requeue(mine, l.target.place, note, due_ns);
                }
            }
            reservation.finish();
            // Who is settled by now has its entry behind the copy.
            let moved = live.iter().filter(|l| self.relocate(l, delayed, at, new));
            let journal = self.storage.journal();
            journal.retain_shares(new, moved.count() as u32, message_bytes as u64);
            return Ok(());
        }
        Ok(())
    }

    /// Says how far the queues have come whose messages were in the segment.
    fn write_counts(&mut self) -> Result<(), String> {
        for (id, count) in std::mem::take(&mut self.counted) {
            let Some(queue) = self.core.queue_by_id(id).filter(|q| q.is_durable()) else {
                continue;
            };
            let (kind, level, position) = match count {
                Count::Level(level) => (entries::NEXT, level, queue.ready.next_position(level)),
                Count::Schedule => (entries::NEXT_SCHEDULED, 0, queue.next_schedule_id()),
                // Relaxed: see `Queue::ceiling`.
                Count::Ceiling => (entries::CEILING, 0, queue.ceiling().load(Ordering::Relaxed)),
            };
            let place = Place {
                queue: id,
                level,
                position,
            };
            self.place(kind, place)?;
        }
        Ok(())
    }

    /// An id that is still remembered.
    fn id(&mut self, at: Address, entry: &Entry<'_>) -> Result<(), String> {
        let id = entry.id(at).ok_or("malformed id")?;
        let queue = self.core.queue_by_id(id.owner);
        let exchange = match queue {
            Some(_) => None,
            None => self.exchange(id.owner),
        };
        let window = match (&queue, &exchange) {
            (Some(queue), _) => queue.window(),
            (None, Some(exchange)) => exchange.window(),
            (None, None) => None,
        };
        let Some(window) = window else { return Ok(()) };
        window.copy(&id, |id| {
            let sizes = [entries::ID_BYTES];
            let mut reservation = self
                .storage
                .reserve(&sizes, Class::Settle)
                .map_err(|e| e.to_string())?;
            let (new, out) = reservation.next(RECORD_COMMIT);
            entries::write_id(out, id);
            reservation.finish();
            Ok(new)
        })
    }

    /// The exchange of this id, if it still stands.
    fn exchange(&mut self, id: u32) -> Option<Arc<Exchange>> {
        let core = self.core;
        let exchanges = self.exchanges.get_or_insert_with(|| {
            let hosts: Vec<_> = core.virtual_hosts.read().values().cloned().collect();
            hosts
                .into_iter()
                .flat_map(|host| {
                    let all = host.exchanges().into_iter();
                    all.map(move |e| (e.id(), e))
                })
                .collect()
        });
        exchanges.get(&id).filter(|e| !e.is_deleted()).cloned()
    }

    fn place(&self, kind: u8, place: Place) -> Result<(), String> {
        self.storage
            .append(entries::PLACE_BYTES, Class::Settle, |out| {
                entries::write_place(out, kind, place);
            })
            .map(|_| ())
            .map_err(|e| e.to_string())
    }

    fn copy(&self, kind: u8, payload: &[u8]) -> Result<(), String> {
        self.storage
            .append(entries::named_bytes(payload.len()), Class::Settle, |out| {
                entries::write_named(out, kind, payload);
            })
            .map(|_| ())
            .map_err(|e| e.to_string())
    }

    /// Declarations and bindings that still stand are written again as they are. The topology lock keeps their order.
    fn topology(&mut self, entry: &Entry<'_>) -> Result<(), String> {
        let core = self.core;
        let _topology = core.topology.lock();
        let stands = match entry.kind {
            entries::BIND => {
                let bound = topology::read_bound(entry.payload).ok_or("malformed binding")?;
                let destination = match core.queue_by_id(bound.destination) {
                    Some(queue) => Some(Destination::Queue(queue)),
                    None => self
                        .exchange(bound.destination)
                        .map(|e| Destination::exchange(&e)),
                };
                match (self.exchange(bound.source), destination) {
                    (Some(source), Some(destination)) => {
                        source
                            .bindings
                            .contains(bound.routing_key, &bound.arguments, &destination)
                    }
                    _ => false,
                }
            }
            kind => {
                let id = topology::read_declared(entry.payload)
                    .ok_or("malformed declaration")?
                    .id;
                match kind {
                    entries::DECLARE_QUEUE => core.queue_by_id(id).is_some(),
                    entries::DECLARE_EXCHANGE => self.exchange(id).is_some(),
                    entries::SET_POLICY => {
                        let hosts = core.virtual_hosts.read();
                        hosts.values().any(|host| {
                            let policies = host.policies.lock();
                            policies.list().iter().any(|policy| policy.id == id)
                        })
                    }
                    _ => core.virtual_hosts.read().values().any(|h| h.id() == id),
                }
            }
        };
        if stands {
            self.copy(entry.kind, entry.payload)
        } else {
            Ok(())
        }
    }

    fn entry(&mut self, record_at: Address, entry: &Entry<'_>) -> Result<(), String> {
        match entry.kind {
            entries::MESSAGE => self.message(record_at + entry.offset as u64, entry),
            entries::ID => self.id(record_at + entry.offset as u64, entry),
            entries::DECLARE_QUEUE
            | entries::DECLARE_EXCHANGE
            | entries::DECLARE_VIRTUAL_HOST
            | entries::SET_POLICY
            | entries::BIND => self.topology(entry),
            entries::CEILING | entries::NEXT | entries::NEXT_SCHEDULED => {
                if let Some(place) = entry.place() {
                    let count = match entry.kind {
                        entries::CEILING => Count::Ceiling,
                        entries::NEXT => Count::Level(place.level),
                        _ => Count::Schedule,
                    };
                    self.counted.insert((place.queue, count));
                }
                Ok(())
            }
            // Settlements, requeues, deletions: about entries of this segment or older ones, which go with it.
            _ => Ok(()),
        }
    }
}

impl Replay for Copier<'_> {
    fn record(&mut self, at: Address, _kind: u8, payload: &[u8]) -> Result<(), String> {
        for entry in entries::parse(payload) {
            self.entry(at, &entry?)?;
        }
        Ok(())
    }
}
