//! Keeping the journal in order: writes settlements that found no room, and frees the oldest segment by copying
//! forward what still lives in it. Runs on the timer's thread (with a virtual clock, on one of its own).
//!
//! What lives is decided by looking at the queues, not at counts: a message entry lives for a target whose slot still
//! holds this very address. All of a record is copied under the compaction lock, so that nobody settles by a record
//! in between; plain acknowledgements do not take the lock, so each slot is looked at once more after the copy, and an
//! ack that came in between is appended again behind the copy. A segment is retired when everything appended
//! before, the copies included, is on stable storage.

use std::sync::Arc;

use wherry_journal::{Address, Class, Replay, SegmentNumber};

use crate::core::Core;
use crate::entries::{self, Entry, Place, RECORD_COMMIT, Run, Target};
use crate::exchange::Destination;
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
        let mut copier = Copier {
            core,
            storage,
            failed: false,
        };
        if storage.journal().scan(segment, &mut copier).is_err() || copier.failed {
            return; // no room for copies now, or a journal that failed; nothing was lost
        }
        evacuation.waiting = Some((segment, storage.appended()));
    }
}

struct Copier<'a> {
    core: &'a Arc<Core>,
    storage: &'a Storage,
    failed: bool,
}

/// A target that still needs the entry, and how it waits.
struct Live {
    queue: Arc<Queue>,
    target: Target,
    /// Its retry, if it waits for one.
    requeue: Option<(u32, u64)>,
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
                    Some((_, Waiting::Dead { stored, .. })) => {
                        let here = stored.at() == at;
                        drop(schedule);
                        return here.then_some(Live {
                            queue,
                            target,
                            requeue: None,
                        });
                    }
                    Some((due_ns, Waiting::Retry { note, .. })) => requeue = Some((note.0, due_ns)),
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

    /// False when the message was settled meanwhile.
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
        if let Some((_, Waiting::Dead { stored, .. })) = schedule.get_by_place(level, position) {
            return stored.relocate(old, new);
        }
        drop(schedule);
        live.queue
            .ready
            .inspect(level, position, |_, stored| stored.relocate(old, new))
            == Some(true)
    }

    fn message(&self, at: Address, entry: &Entry<'_>) -> Result<(), String> {
        let message = entry.message().ok_or("malformed message entry")?;
        let parts = message.parts().ok_or("malformed message content")?;
        let _exclusive = self.storage.compaction.write();
        let live = self.live_targets(at, &message);
        if live.is_empty() {
            return Ok(());
        }
        let notes = live.iter().any(|l| l.target.note != 0);
        let retries = live.iter().filter(|l| l.requeue.is_some()).count();
        let message_bytes = entries::message_bytes(&parts, &message.facts, live.len(), notes);
        let sizes = [message_bytes + retries * entries::REQUEUE_BYTES];
        let mut reservation = self
            .storage
            .reserve(&sizes, Class::Settle)
            .map_err(|e| e.to_string())?;
        let (new, out) = reservation.next(RECORD_COMMIT);
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
        let delayed = message.facts.due_ns != 0;
        let mut settled: Vec<Run> = Vec::new();
        let mut gone = Vec::new();
        for l in &live {
            if self.relocate(l, delayed, at, new) {
                self.storage.journal().retain(new, 1);
            } else if delayed {
                gone.push(l.target.place);
            } else {
                entries::push_run(&mut settled, l.target.place);
            }
        }
        self.storage.settle(&settled).map_err(|e| e.to_string())?;
        for place in gone {
            self.storage
                .append(entries::PLACE_BYTES, Class::Settle, |out| {
                    entries::write_place(out, entries::CANCEL, place);
                })
                .map_err(|e| e.to_string())?;
        }
        Ok(())
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
    fn topology(&self, entry: &Entry<'_>) -> Result<(), String> {
        let _topology = self.core.topology.lock();
        let hosts: Vec<_> = self.core.virtual_hosts.read().values().cloned().collect();
        let stands = match entry.kind {
            entries::BIND => {
                let bound = topology::read_bound(entry.payload).ok_or("malformed binding")?;
                let exchanges = || hosts.iter().flat_map(|h| h.exchanges());
                let destination = match self.core.queue_by_id(bound.destination) {
                    Some(queue) => Some(Destination::Queue(queue)),
                    None => exchanges()
                        .find(|e| e.id() == bound.destination)
                        .map(|e| Destination::exchange(&e)),
                };
                match (exchanges().find(|e| e.id() == bound.source), destination) {
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
                    entries::DECLARE_QUEUE => self.core.queue_by_id(id).is_some(),
                    entries::DECLARE_EXCHANGE => hosts
                        .iter()
                        .flat_map(|h| h.exchanges())
                        .any(|e| e.id() == id),
                    _ => hosts.iter().any(|h| h.id() == id),
                }
            }
        };
        if stands {
            self.copy(entry.kind, entry.payload)
        } else {
            Ok(())
        }
    }

    fn entry(&self, record_at: Address, entry: &Entry<'_>) -> Result<(), String> {
        match entry.kind {
            entries::MESSAGE => self.message(record_at + entry.offset as u64, entry),
            entries::DECLARE_QUEUE
            | entries::DECLARE_EXCHANGE
            | entries::DECLARE_VIRTUAL_HOST
            | entries::BIND => self.topology(entry),
            entries::CEILING => {
                let Some(place) = entry.place() else {
                    return Ok(());
                };
                let Some(queue) = self.core.queue_by_id(place.queue) else {
                    return Ok(());
                };
                let ceiling = queue.ceiling().load(std::sync::atomic::Ordering::Relaxed);
                if ceiling != place.position {
                    return Ok(()); // a later entry says more
                }
                self.storage
                    .append(entries::PLACE_BYTES, Class::Settle, |out| {
                        entries::write_place(out, entries::CEILING, place);
                    })
                    .map(|_| ())
                    .map_err(|e| e.to_string())
            }
            // Settlements, requeues, deletions: about entries of this segment or older ones, which go with it.
            _ => Ok(()),
        }
    }
}

impl Replay for Copier<'_> {
    fn record(&mut self, at: Address, _kind: u8, payload: &[u8]) -> Result<(), String> {
        for entry in entries::parse(payload) {
            let outcome = entry.and_then(|entry| self.entry(at, &entry));
            if outcome.is_err() {
                self.failed = true;
                return outcome;
            }
        }
        Ok(())
    }
}
