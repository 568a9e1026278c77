//! The ids that one queue or exchange remembers.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};
use wherry_journal::Address;

use super::{DEDUP_ENTRIES_MAX, Dedup};
use crate::core::Core;
use crate::entries::{ID_KEPT_BYTES, IdEntry};
use crate::message::Parts;

#[derive(Clone, Copy)]
struct Id {
    hash: [u64; 2],
    accepted_ns: u64,
    /// Of its journal entry; 0 when it has none.
    at: Address,
}

/// Ids in the order of their acceptance, which is the order in which they are forgotten.
#[derive(Default)]
pub(crate) struct Ids {
    /// Sequence number of `ids[0]`.
    first: u64,
    ids: VecDeque<Id>,
    /// Sequence numbers by hash.
    by_hash: HashTable<u64>,
}

pub(crate) struct Window {
    /// The queue's or exchange's id.
    owner: u32,
    dedup: Dedup,
    /// Whether its owner is in the journal.
    durable: bool,
    core: Arc<Core>,
    ids: Mutex<Ids>,
}

impl Ids {
    fn find(&self, hash: [u64; 2]) -> Option<u64> {
        self.by_hash
            .find(hash[0], |sequence| self.get(*sequence).hash == hash)
            .copied()
    }

    fn get(&self, sequence: u64) -> &Id {
        &self.ids[(sequence - self.first) as usize]
    }

    pub(super) fn contains(&self, hash: [u64; 2]) -> bool {
        self.find(hash).is_some()
    }

    /// Adds an id that is not there. Its sequence number.
    pub(super) fn push(&mut self, hash: [u64; 2], accepted_ns: u64) -> u64 {
        self.ids.push_back(Id {
            hash,
            accepted_ns,
            at: 0,
        });
        let sequence = self.first + self.ids.len() as u64 - 1;
        let (first, ids) = (self.first, &self.ids);
        self.by_hash.insert_unique(hash[0], sequence, |sequence| {
            ids[(sequence - first) as usize].hash[0]
        });
        sequence
    }

    fn unlink(&mut self, sequence: u64) {
        let hash = self.get(sequence).hash;
        if let Ok(entry) = self.by_hash.find_entry(hash[0], |s| *s == sequence) {
            entry.remove();
        }
    }

    /// Takes the newest back.
    pub(super) fn pop(&mut self) {
        if let Some(last) = self.ids.len().checked_sub(1) {
            self.unlink(self.first + last as u64);
            self.ids.pop_back();
        }
    }

    fn forget_oldest(&mut self) -> Option<Id> {
        if self.ids.is_empty() {
            return None;
        }
        self.unlink(self.first);
        self.first += 1;
        let oldest = self.ids.pop_front();
        if self.ids.len() < self.ids.capacity() / 4 {
            self.ids.shrink_to(self.ids.len() * 2);
            let (first, ids) = (self.first, &self.ids);
            self.by_hash.shrink_to(ids.len() * 2, |sequence| {
                ids[(sequence - first) as usize].hash[0]
            });
        }
        oldest
    }
}

impl Window {
    pub(crate) fn new(owner: u32, dedup: &Dedup, durable: bool, core: &Arc<Core>) -> Box<Window> {
        Box::new(Window {
            owner,
            dedup: dedup.clone(),
            durable,
            core: core.clone(),
            ids: Mutex::default(),
        })
    }

    pub(super) fn owner(&self) -> u32 {
        self.owner
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }

    pub(super) fn id_of(&self, parts: &Parts<'_>) -> Option<[u64; 2]> {
        self.dedup.id_of(self.core.dedup_key(), parts)
    }

    /// Locks it, without the ids whose time is over.
    pub(super) fn lock(&self, now_ns: u64) -> MutexGuard<'_, Ids> {
        let mut ids = self.ids.lock();
        if let Some(window) = self.dedup.window {
            let window_ns = window.as_nanos() as u64;
            while let Some(oldest) = ids.ids.front()
                && oldest.accepted_ns.saturating_add(window_ns) <= now_ns
            {
                let forgotten = ids.forget_oldest();
                self.let_go(forgotten);
            }
        }
        ids
    }

    /// Whether another id would have to push out one that is still promised.
    pub(super) fn is_full(&self, ids: &Ids) -> bool {
        self.dedup.size.is_none() && ids.ids.len() as u64 >= DEDUP_ENTRIES_MAX
    }

    /// The new ids stay: room is made for them.
    pub(super) fn trim(&self, ids: &mut Ids) {
        if let Some(size) = self.dedup.size {
            while ids.ids.len() as u64 > size {
                let forgotten = ids.forget_oldest();
                self.let_go(forgotten);
            }
        }
    }

    /// Notes where an id's journal entry is.
    pub(super) fn written(&self, ids: &mut Ids, sequence: u64, at: Address) {
        let first = ids.first;
        ids.ids[(sequence - first) as usize].at = at;
        if let Some(storage) = self.core.storage() {
            storage.journal().keep(at, ID_KEPT_BYTES);
        }
    }

    fn let_go(&self, id: Option<Id>) {
        if let (Some(id), Some(storage)) = (id, self.core.storage())
            && id.at != 0
        {
            storage.journal().let_go(id.at, ID_KEPT_BYTES);
        }
    }

    /// For compaction: has `copy` write the entry of an id again, unless the one at `at` is no longer needed. The
    /// window is locked meanwhile, so that nothing is forgotten between.
    pub(crate) fn copy<E>(
        &self,
        id: &IdEntry,
        copy: impl FnOnce(&IdEntry) -> Result<Address, E>,
    ) -> Result<(), E> {
        let mut ids = self.lock(self.core.clock.now_ns());
        // By hash: sequence numbers here are dense, those in the journal may have gaps.
        let known = ids.find(id.hash);
        if let Some(sequence) = known.filter(|sequence| ids.get(*sequence).at == id.at) {
            let at = copy(id)?;
            self.written(&mut ids, sequence, at);
        }
        Ok(())
    }

    /// From the journal, in order of sequence numbers. Nobody else sees the window yet.
    pub(crate) fn restore(&self, entries: impl Iterator<Item = IdEntry>) {
        let mut ids = self.ids.lock();
        let mut next = 0;
        for entry in entries {
            next = entry.sequence + 1;
            // Not to be expected: the later one would have been a duplicate.
            if !ids.contains(entry.hash) {
                let sequence = ids.push(entry.hash, entry.accepted_ns);
                self.written(&mut ids, sequence, entry.at);
            }
        }
        self.trim(&mut ids);
        // Numbers here are dense and those in the journal may have gaps, but new ones must be above all of those.
        let shift = next.saturating_sub(ids.first + ids.ids.len() as u64);
        ids.first += shift;
        ids.by_hash
            .iter_mut()
            .for_each(|sequence| *sequence += shift);
        drop(ids);
        drop(self.lock(self.core.clock.now_ns()));
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if self.core.is_closed() {
            return;
        }
        for id in std::mem::take(&mut self.ids.get_mut().ids) {
            self.let_go(Some(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::memory::Meter;

    fn window(dedup: &Dedup) -> Box<Window> {
        let core = Core::new(Clock::virtual_at(1), Meter::new(None).unwrap());
        Window::new(1, dedup, false, &Arc::new(core))
    }

    #[test]
    fn a_window_by_time_is_full_at_its_limit_until_time_makes_room() {
        let window = window(&Dedup {
            window: Some(Duration::from_nanos(10)),
            ..Default::default()
        });
        let mut ids = window.lock(1);
        for n in 0..DEDUP_ENTRIES_MAX {
            assert!(!window.is_full(&ids));
            ids.push(
                [n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n],
                1 + n / (DEDUP_ENTRIES_MAX / 2),
            );
        }
        assert!(window.is_full(&ids));
        drop(ids);
        assert!(window.is_full(&window.lock(10)), "all of them are promised");
        assert!(!window.is_full(&window.lock(11)));
        assert_eq!(window.lock(12).ids.len(), 0);
    }

    #[test]
    fn a_window_by_count_makes_room_by_itself() {
        let window = window(&Dedup {
            size: Some(3),
            ..Default::default()
        });
        let mut ids = window.lock(1);
        for n in 0..5 {
            ids.push([n, 0], 1);
            window.trim(&mut ids);
        }
        assert!(!window.is_full(&ids));
        let known: Vec<u64> = (0..5).filter(|n| ids.contains([*n, 0])).collect();
        assert_eq!(known, [2, 3, 4]);
        ids.pop();
        assert!(!ids.contains([4, 0]) && ids.contains([3, 0]));
    }
}
