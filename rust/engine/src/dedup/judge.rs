//! The judging of publishes: which of a message's queues have seen its id already.
//!
//! All windows of a publish are locked before the first is asked, in the order of their owners' ids, and stay locked
//! until its record is written. New ids are entered at once, so that later messages of the same batch or transaction
//! meet them, and taken out again unless the publish succeeds.

use std::sync::Arc;

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::window::{Ids, Window};
use crate::draft::Draft;
use crate::entries::IdEntry;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::queue::Queue;

struct Locked<'a> {
    window: &'a Window,
    ids: MutexGuard<'a, Ids>,
    /// Ids entered by this publish.
    new: usize,
}

/// One new id: the index of its window, and its number there.
struct New {
    locked: usize,
    sequence: u64,
    /// Where in `Judges::entries` it is, if it goes into the journal.
    entry: Option<usize>,
}

/// The windows of one publish, batch or transaction.
pub(crate) struct Judges<'a> {
    locked: SmallVec<[Locked<'a>; 2]>,
    new: SmallVec<[New; 2]>,
    /// What the record must have beside the messages.
    pub(crate) entries: SmallVec<[IdEntry; 2]>,
    now_ns: u64,
}

/// What a message is.
pub(crate) enum Judgement {
    /// New in these queues.
    New(SmallVec<[Arc<Queue>; 1]>),
    /// A duplicate everywhere.
    Duplicate,
}

/// Whether a publish must be judged.
pub(crate) fn judged(exchange: &Exchange, queues: &[Arc<Queue>]) -> bool {
    exchange.window().is_some() || queues.iter().any(|queue| queue.window().is_some())
}

impl<'a> Judges<'a> {
    /// Locks all windows of these exchanges and queues.
    pub(crate) fn lock(windows: impl Iterator<Item = &'a Window>, now_ns: u64) -> Judges<'a> {
        let mut windows: SmallVec<[&'a Window; 4]> = windows.collect();
        windows.sort_by_key(|window| window.owner());
        windows.dedup_by_key(|window| window.owner());
        let locked = windows
            .into_iter()
            .map(|window| Locked {
                window,
                ids: window.lock(now_ns),
                new: 0,
            })
            .collect();
        Judges {
            locked,
            new: SmallVec::new(),
            entries: SmallVec::new(),
            now_ns,
        }
    }

    /// What is left to do for a message that goes to at least one queue. Counts duplicates.
    ///
    /// # Errors
    /// [`Error::PublishRejected`] when a window by time has no room.
    pub(crate) fn judge(
        &mut self,
        exchange: &Exchange,
        queues: &[Arc<Queue>],
        draft: &Draft<'_>,
    ) -> Result<Judgement, Error> {
        let mut fresh: SmallVec<[(usize, [u64; 2]); 2]> = SmallVec::new();
        if let Some(window) = exchange.window()
            && let Some(hash) = window.id_of(&draft.parts)
        {
            let (index, is_known) = self.look(window, hash, exchange.name())?;
            if is_known {
                exchange.count_duplicate();
                return Ok(Judgement::Duplicate);
            }
            fresh.push((index, hash));
        }
        let mut left: SmallVec<[Arc<Queue>; 1]> = SmallVec::new();
        let mut duplicates: SmallVec<[&Arc<Queue>; 1]> = SmallVec::new();
        for queue in queues {
            if let Some(window) = queue.window()
                && let Some(hash) = window.id_of(&draft.parts)
            {
                let (index, is_known) = self.look(window, hash, queue.name())?;
                if is_known {
                    duplicates.push(queue);
                    continue;
                }
                fresh.push((index, hash));
            }
            left.push(queue.clone());
        }
        for queue in duplicates {
            queue.count_duplicate();
        }
        if left.is_empty() {
            return Ok(Judgement::Duplicate);
        }
        for (index, hash) in fresh {
            self.enter(index, hash, draft.facts.persistent);
        }
        Ok(Judgement::New(left))
    }

    /// The window's index, and whether it knows an id.
    fn look(&self, window: &Window, hash: [u64; 2], name: &str) -> Result<(usize, bool), Error> {
        let index = self
            .locked
            .binary_search_by_key(&window.owner(), |locked| locked.window.owner())
            .expect("all windows of the publish were locked");
        let locked = &self.locked[index];
        if locked.ids.contains(hash) {
            return Ok((index, true));
        }
        if locked.window.is_full(&locked.ids) {
            return Err(Error::PublishRejected {
                queue: name.to_string(),
            });
        }
        Ok((index, false))
    }

    fn enter(&mut self, index: usize, hash: [u64; 2], persistent: bool) {
        let locked = &mut self.locked[index];
        let sequence = locked.ids.push(hash, self.now_ns);
        locked.new += 1;
        let entry = (persistent && locked.window.is_durable()).then(|| {
            self.entries.push(IdEntry {
                owner: locked.window.owner(),
                sequence,
                accepted_ns: self.now_ns,
                hash,
                at: 0,
            });
            self.entries.len() - 1
        });
        self.new.push(New {
            locked: index,
            sequence,
            entry,
        });
    }

    /// The publish succeeded: the new ids stay.
    pub(crate) fn keep(mut self) {
        for new in std::mem::take(&mut self.new) {
            let locked = &mut self.locked[new.locked];
            if let Some(entry) = new.entry {
                let at = self.entries[entry].at;
                locked.window.written(&mut locked.ids, new.sequence, at);
            }
        }
        for locked in &mut self.locked {
            locked.new = 0;
            locked.window.trim(&mut locked.ids);
        }
    }
}

impl Drop for Judges<'_> {
    fn drop(&mut self) {
        for locked in &mut self.locked {
            for _ in 0..locked.new {
                locked.ids.pop();
            }
        }
    }
}
