//! What routing found, kept by routing key until the topology changes.
//!
//! Any change of topology makes every kept answer stale, so all answers of a table are of one generation: the first answer of a newer
//! one takes the place of them all, and [`Answers::forget`] gives their memory back at once. Readers take no lock. Keeping takes one,
//! but does not wait for it: an answer that is not kept is found again.
//!
//! The table below is that of the bindings (see `slots`), and for the same reason: its readers must cost the same whatever came and
//! went before. A table that moves its elements little by little while others insert is slow for as long as nobody inserts.

use std::hash::BuildHasher;

use crossbeam_epoch::{Guard, pin};
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use triomphe::Arc;

use super::slots::{Slots, Writer, tag_of};

/// Answers that are kept; past it those that are there stay. A key and its route cost some 150 bytes.
const KEPT_MAX: usize = 32_768;
/// Answers that a full table passes over before it starts anew: keys that never come twice would only wear it out.
const PASSED_MAX: usize = 4 * KEPT_MAX;
/// Deletions that give so much back help the collector along.
const FORGOTTEN_FLUSH: usize = 64;

struct Answer<T> {
    generation: u64,
    key: Box<str>,
    value: T,
}

/// What only those who change the table need.
#[derive(Default)]
struct Kept {
    /// Of all answers in the table.
    generation: u64,
    /// Answers that were not kept since the table is full.
    passed: usize,
    /// Whether it was told that something is kept, since all was forgotten.
    is_known: bool,
}

pub(crate) struct Answers<T: Send + Sync + 'static> {
    slots: Slots<Arc<Answer<T>>>,
    hasher: RandomState,
    /// The lock of all changes.
    kept: Mutex<Kept>,
}

impl<T: Send + Sync + 'static> Default for Answers<T> {
    fn default() -> Self {
        Answers {
            slots: Slots::new(),
            // Seeded anew for each table, so that nobody can choose keys that collide.
            hasher: RandomState::default(),
            kept: Mutex::default(),
        }
    }
}

impl<T: Send + Sync + 'static> Answers<T> {
    /// The answer for `key` of this generation.
    #[inline]
    pub(crate) fn find<'g>(&self, key: &str, generation: u64, guard: &'g Guard) -> Option<&'g T> {
        let tag = tag_of::<0>(self.hasher.hash_one(key));
        self.slots
            .find(tag, guard, |answer| {
                answer.generation == generation && *answer.key == *key
            })
            .map(|answer| &answer.value)
    }

    /// Keeps an answer, if there is room and nobody else keeps one now. One that is not current by now is stale and not kept, so
    /// that what [`Answers::forget`] let go of does not come back. `is_first` is called before the first one since then is kept.
    pub(crate) fn keep(
        &self,
        key: &str,
        generation: u64,
        is_current: impl FnOnce() -> bool,
        is_first: impl FnOnce(),
        value: T,
    ) {
        let Some(mut kept) = self.kept.try_lock() else {
            return;
        };
        if !is_current() {
            return;
        }
        if !kept.is_known {
            kept.is_known = true;
            is_first();
        }
        let guard = pin();
        // SAFETY: the lock is held until the end of this function.
        let writer = unsafe { Writer::new(&guard) };
        if kept.generation != generation {
            self.slots.clear(writer);
            kept.generation = generation;
            kept.passed = 0;
        } else if self.find(key, generation, &guard).is_some() {
            return;
        }
        if self.slots.len(&guard) >= KEPT_MAX {
            kept.passed += 1;
            if kept.passed <= PASSED_MAX {
                return;
            }
            self.slots.clear(writer);
            kept.passed = 0;
        }
        let tag = tag_of::<0>(self.hasher.hash_one(key));
        let answer = Answer {
            generation,
            key: key.into(),
            value,
        };
        self.slots.insert(tag, Arc::new(answer), writer);
    }

    /// Lets go of everything that is kept. To be called after the change of topology that made it stale.
    pub(crate) fn forget(&self) {
        // Whoever has the lock before us keeps something that is taken out here; whoever has it after us has seen the change.
        let mut kept = self.kept.lock();
        kept.is_known = false;
        if self.slots.is_empty() {
            return;
        }
        let guard = pin();
        // SAFETY: the lock is held until the end of this function.
        let writer = unsafe { Writer::new(&guard) };
        let many = self.slots.len(&guard) >= FORGOTTEN_FLUSH;
        self.slots.clear(writer);
        if many {
            guard.flush();
        }
    }
}
