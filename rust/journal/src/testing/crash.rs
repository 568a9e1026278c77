//! Every state that a crash could have left during a recorded run, within bounds.

use std::sync::Arc;

use super::memory_disk::MemoryDisk;
use super::model::{Model, Operation, Survivors};

/// The operations of a run on a [`MemoryDisk`], for taking it apart.
pub struct History {
    start: Model,
    operations: Vec<Operation>,
}

/// One point of a run: all that a crash there could leave.
pub struct CrashPoint<'a> {
    /// Operations done.
    pub operations: usize,
    /// The marks that were set before this point.
    pub marks: &'a [u64],
    model: &'a Model,
}

impl History {
    pub(crate) fn new(start: Model, operations: Vec<Operation>) -> Self {
        Self { start, operations }
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// All marks, in order.
    pub fn marks(&self) -> Vec<u64> {
        let mark = |operation: &Operation| match operation {
            Operation::Mark(mark) => Some(*mark),
            _ => None,
        };
        self.operations.iter().filter_map(mark).collect()
    }

    /// Visits the point before the first operation and the one after each.
    pub fn for_each_point(&self, mut visit: impl FnMut(CrashPoint<'_>)) {
        let mut model = self.start.clone();
        let mut marks = Vec::new();
        visit(CrashPoint {
            operations: 0,
            marks: &marks,
            model: &model,
        });
        for (index, operation) in self.operations.iter().enumerate() {
            model.apply(operation);
            if let Operation::Mark(mark) = operation {
                marks.push(*mark);
            }
            visit(CrashPoint {
                operations: index + 1,
                marks: &marks,
                model: &model,
            });
        }
    }
}

impl CrashPoint<'_> {
    /// The disk as the next process finds it if only the process dies: all is seen, what was not synced still is not.
    pub fn killed(&self) -> Arc<MemoryDisk> {
        MemoryDisk::from_model(self.model.clone())
    }

    /// The disks that a crash could leave: unsynced sectors none, all, each alone, each missing, and `random` random halves;
    /// with each prefix of the name changes for none and all, and with all or no name changes for the rest.
    pub fn for_each_state(
        &self,
        random: u64,
        seed: u64,
        mut visit: impl FnMut(&str, Arc<MemoryDisk>),
    ) {
        let sectors = self.model.dirty_sectors();
        let changes = self.model.name_changes();
        let mut visit = |survivors: &Survivors, kept: usize| {
            let what = format!(
                "after {} operations, {survivors:?} of {sectors} sectors, {kept} of {changes} names",
                self.operations
            );
            visit(
                &what,
                MemoryDisk::from_model(self.model.crash(survivors, kept)),
            );
        };
        for kept in 0..=changes {
            visit(&Survivors::None, kept);
            visit(&Survivors::All, kept);
        }
        let mut ends = vec![0];
        if changes != 0 {
            ends.push(changes);
        }
        for kept in ends {
            if sectors > 1 {
                for sector in 0..sectors {
                    visit(&Survivors::Only(sector), kept);
                    visit(&Survivors::AllBut(sector), kept);
                }
                for index in 0..random {
                    visit(
                        &Survivors::Random(seed ^ (self.operations as u64) << 20 ^ index),
                        kept,
                    );
                }
            }
        }
    }
}
