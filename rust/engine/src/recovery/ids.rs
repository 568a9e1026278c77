//! Ids that queues and exchanges remember, while the journal is replayed.

use crate::dedup::{DEDUP_ENTRIES_MAX, Window};
use crate::entries::IdEntry;

/// Those of one owner, in the order of the journal.
#[derive(Default)]
pub(super) struct IdsReplay(Vec<IdEntry>);

impl IdsReplay {
    pub(super) fn push(&mut self, id: IdEntry) {
        self.0.push(id);
        // What was forgotten long ago is in the journal until its segment goes.
        if self.0.len() as u64 > 2 * DEDUP_ENTRIES_MAX {
            self.sort();
            let old = self.0.len().saturating_sub(DEDUP_ENTRIES_MAX as usize);
            self.0.drain(..old);
        }
    }

    /// By sequence; of a copy and what it is a copy of, the later one stays.
    fn sort(&mut self) {
        self.0
            .sort_by_key(|id| (id.sequence, std::cmp::Reverse(id.at)));
        self.0.dedup_by_key(|id| id.sequence);
    }

    pub(super) fn build(mut self, window: &Window) {
        self.sort();
        window.restore(self.0.into_iter());
    }
}
