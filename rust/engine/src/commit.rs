//! Commits: the one way by which messages enter queues, and the one place where such a change becomes a journal record.
//!
//! Order of steps, and why:
//!
//! 1. everything that can be refused is checked, so that an error has changed nothing;
//! 2. room in the journal is reserved, which may be refused, but never waits;
//! 3. positions are claimed in every queue, because the record carries them;
//! 4. the record is written; 5. the slots are filled: only now can a consumer see the message, so that its
//!    acknowledgement always stands behind it in the journal.
//!
//! Between 3 and 5 a consumer that reaches a claimed slot waits for it; nothing in between blocks.

use std::sync::Arc;

use smallvec::SmallVec;
use wherry_journal::Class;

use crate::core::{Core, Event};
use crate::draft::Draft;
use crate::entries::{self, IdEntry, Place, RECORD_COMMIT, Run, Target};
use crate::error::Error;
use crate::message::{Message, Stored};
use crate::queue::Queue;
use crate::queue::ready::{Placed, ReadyClaim};
use crate::storage::Ticket;

/// Messages for the same queues, in order. All of them are delayed, or none is.
pub(crate) struct PublishRun<'a> {
    pub(crate) queues: &'a [Arc<Queue>],
    pub(crate) drafts: &'a [Draft<'a>],
}

/// A message as its place in one queue depends on it.
pub(crate) struct InQueue<'a>(pub(crate) &'a Queue, pub(crate) &'a Draft<'a>);

impl Placed for InQueue<'_> {
    fn level(&self) -> u8 {
        self.0.level_of(self.1.priority)
    }

    fn group(&self) -> Option<u64> {
        self.0.group_of(&self.1.parts)
    }
}

enum Claimed<'a> {
    Ready(ReadyClaim<'a>),
    /// First id in the queue's schedule.
    Scheduled(u64),
}

impl Claimed<'_> {
    fn place(&self, queue: &Queue, index: usize) -> Place {
        match self {
            Claimed::Ready(claim) => {
                let (level, position) = claim.place(index);
                Place {
                    queue: queue.id(),
                    level,
                    position,
                }
            }
            Claimed::Scheduled(first) => Place {
                queue: queue.id(),
                level: 0,
                position: first + index as u64,
            },
        }
    }
}

/// Puts messages into queues, settles others, and takes delayed ones out of their schedules (`unscheduled`), as one
/// journal record.
pub(crate) fn commit(
    core: &Core,
    runs: &[PublishRun<'_>],
    settles: &[Run],
    unscheduled: &[Place],
    class: Class,
) -> Result<Ticket, Error> {
    let (ticket, after) = write(core, runs, settles, unscheduled, &mut [], class)?;
    after.happen();
    Ok(ticket)
}

/// As `commit`, with ids for the windows that remember them (their addresses are filled in), and with what follows
/// from the messages' arrival left to the caller, who holds locks that it must not meet.
pub(crate) fn write<'a>(
    core: &Core,
    runs: &[PublishRun<'a>],
    settles: &[Run],
    unscheduled: &[Place],
    ids: &mut [IdEntry],
    class: Class,
) -> Result<(Ticket, AfterCommit<'a>), Error> {
    let mut bytes = 0;
    if core.storage().is_some() {
        for run in runs {
            let durable = run.queues.iter().filter(|q| q.is_durable()).count();
            if durable > 0 {
                for draft in run.drafts.iter().filter(|d| d.facts.persistent) {
                    bytes += entries::message_bytes(&draft.parts, &draft.facts, durable, false);
                }
            }
        }
        if !settles.is_empty() {
            bytes += entries::settle_bytes(settles.len());
        }
        bytes += unscheduled.len() * entries::PLACE_BYTES + ids.len() * entries::ID_BYTES;
    }
    let sizes = [bytes];
    let storage = core.storage().filter(|_| bytes > 0);
    // Until the slots are filled: compaction would take a message for dead that is in the journal and in no queue yet.
    let publishing = storage.map(|s| s.in_flight.enter());
    let mut reservation = match storage {
        Some(storage) => Some(storage.reserve(&sizes, class)?),
        None => None,
    };
    let (base, mut out) = match &mut reservation {
        Some(reservation) => reservation.next(RECORD_COMMIT),
        None => (0, &mut [][..]),
    };
    let mut offset = 0u64;

    let mut done: SmallVec<[(&PublishRun<'a>, Written<'a>); 1]> = SmallVec::new();
    for run in runs {
        if run.queues.is_empty() {
            continue;
        }
        let durable = if base == 0 {
            0
        } else {
            run.queues.iter().filter(|q| q.is_durable()).count()
        };
        let scheduled = run.drafts.first().is_some_and(|d| d.facts.due_ns != 0);
        let mut addresses: SmallVec<[u64; 1]> = SmallVec::with_capacity(run.drafts.len());
        let mut claims: SmallVec<[Claimed<'a>; 1]> = SmallVec::with_capacity(run.queues.len());
        for queue in run.queues {
            queue.announce(run.drafts, scheduled);
            claims.push(if scheduled {
                Claimed::Scheduled(queue.new_schedule_ids(run.drafts.len() as u64))
            } else {
                Claimed::Ready(
                    queue
                        .ready
                        .claim(run.drafts.iter().map(|d| InQueue(queue, d))),
                )
            });
        }
        for (index, draft) in run.drafts.iter().enumerate() {
            if durable == 0 || !draft.facts.persistent {
                addresses.push(0);
                continue;
            }
            addresses.push(base + offset);
            let size = entries::message_bytes(&draft.parts, &draft.facts, durable, false);
            let (mine, rest) = std::mem::take(&mut out).split_at_mut(size);
            out = rest;
            offset += size as u64;
            let targets: SmallVec<[Target; 2]> = run
                .queues
                .iter()
                .zip(&claims)
                .filter(|(queue, _)| queue.is_durable())
                .map(|(queue, claim)| Target {
                    place: claim.place(queue, index),
                    note: 0,
                })
                .collect();
            entries::write_message(mine, &draft.parts, &draft.facts, targets.into_iter(), false);
        }
        done.push((
            run,
            Written {
                durable,
                addresses,
                claims,
            },
        ));
    }
    if base != 0 {
        if !settles.is_empty() {
            let (mine, rest) =
                std::mem::take(&mut out).split_at_mut(entries::settle_bytes(settles.len()));
            out = rest;
            entries::write_settle(mine, settles);
            offset += entries::settle_bytes(settles.len()) as u64;
        }
        for place in unscheduled {
            let (mine, rest) = std::mem::take(&mut out).split_at_mut(entries::PLACE_BYTES);
            out = rest;
            entries::write_place(mine, entries::CANCEL, *place);
            offset += entries::PLACE_BYTES as u64;
        }
        for id in ids {
            let (mine, rest) = std::mem::take(&mut out).split_at_mut(entries::ID_BYTES);
            out = rest;
            entries::write_id(mine, id);
            id.at = base + offset;
            offset += entries::ID_BYTES as u64;
        }
    }
    debug_assert!(out.is_empty());
    let ticket = reservation.map_or(Ticket::NONE, |r| Ticket(r.finish()));
    crate::core::interruptible();

    // What follows from a message's arrival may take messages, also from queues of this very commit, and whoever takes
    // waits for claims that are not filled: so every claim is filled before anything follows.
    let queues = done.iter().map(|(run, _)| run.queues.len()).sum();
    let mut effects: SmallVec<[Effects<'a>; 1]> = SmallVec::with_capacity(queues);
    for (run, written) in done {
        written.fill(core, run, &mut effects);
    }
    drop(publishing);
    Ok((ticket, AfterCommit(effects)))
}

/// What follows from messages having become ready.
#[must_use]
pub(crate) struct AfterCommit<'a>(SmallVec<[Effects<'a>; 1]>);

impl AfterCommit<'_> {
    pub(crate) fn happen(self) {
        for effect in self.0 {
            effect.happen();
        }
    }
}

/// One run whose record is written and whose slots are not yet filled.
struct Written<'a> {
    durable: usize,
    /// Of each message's entry; 0 when it has none.
    addresses: SmallVec<[u64; 1]>,
    /// Of each queue.
    claims: SmallVec<[Claimed<'a>; 1]>,
}

/// What follows from messages having become ready in a queue.
struct Effects<'a> {
    queue: &'a Arc<Queue>,
    messages: usize,
    deadlines: SmallVec<[(u64, Event); 1]>,
}

impl Effects<'_> {
    fn happen(self) {
        for (deadline_ns, event) in self.deadlines {
            self.queue.watch_deadline(deadline_ns, event);
        }
        self.queue.after_entry(self.messages);
    }
}

impl Written<'_> {
    fn fill<'a>(self, core: &Core, run: &PublishRun<'a>, effects: &mut SmallVec<[Effects<'a>; 1]>) {
        if self.durable > 0
            && let Some(storage) = core.storage()
        {
            for (at, draft) in self.addresses.iter().zip(run.drafts) {
                if *at != 0 {
                    let bytes =
                        entries::message_bytes(&draft.parts, &draft.facts, self.durable, false);
                    let journal = storage.journal();
                    journal.retain_shares(*at, self.durable as u32, bytes as u64);
                }
            }
        }
        // A backlogged queue keeps addresses, and so does a schedule; everybody else shares one message on the heap.
        let scheduled = run.drafts.first().is_some_and(|d| d.facts.due_ns != 0);
        let paged: SmallVec<[bool; 1]> = run
            .queues
            .iter()
            .map(|q| q.is_durable() && (scheduled || q.is_paged()))
            .collect();
        let all_paged = paged.iter().all(|p| *p);
        let shared: SmallVec<[Option<Message>; 1]> = if run.queues.len() > 1 {
            run.drafts
                .iter()
                .zip(&self.addresses)
                .map(|(draft, at)| {
                    (!(all_paged && *at != 0)).then(|| Message::new(&draft.parts, draft.facts, *at))
                })
                .collect()
        } else {
            SmallVec::new()
        };
        for ((queue, claim), paged) in run.queues.iter().zip(self.claims).zip(&paged) {
            let stored =
                run.drafts
                    .iter()
                    .zip(&self.addresses)
                    .enumerate()
                    .map(|(index, (draft, at))| {
                        if *paged && *at != 0 {
                            return Stored::in_journal(*at);
                        }
                        // A durable queue's slot names the entry; a transient one's must not, since the entry does not
                        // name the queue and may go while the queue still has the message.
                        let at = if queue.is_durable() { *at } else { 0 };
                        match shared.get(index) {
                            Some(Some(message)) if at != 0 || self.durable == 0 => {
                                Stored::heap(message)
                            }
                            _ => Stored::from_message(Message::new(&draft.parts, draft.facts, at)),
                        }
                    });
            match claim {
                Claimed::Ready(claim) => {
                    let mut deadlines: SmallVec<[(u64, Event); 1]> = SmallVec::new();
                    for (index, draft) in run.drafts.iter().enumerate() {
                        let deadline_ns = queue.deadline(&draft.facts);
                        if deadline_ns != 0 {
                            let (level, position) = claim.place(index);
                            deadlines.push((
                                deadline_ns,
                                Event::Expire {
                                    queue: queue.id(),
                                    level,
                                    position,
                                },
                            ));
                        }
                    }
                    claim.fill(stored);
                    effects.push(Effects {
                        queue,
                        messages: run.drafts.len(),
                        deadlines,
                    });
                }
                Claimed::Scheduled(first) => {
                    for (index, (draft, stored)) in run.drafts.iter().zip(stored).enumerate() {
                        queue.schedule_delayed(first + index as u64, draft.facts.due_ns, stored);
                    }
                }
            }
        }
    }
}
