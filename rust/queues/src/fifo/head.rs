//! The consumers' end of a FIFO: claiming runs of positions, what is done with their slots, and what was requeued.

use crate::Position;
use crate::cursor::Word;
use crate::fifo::Fifo;
use crate::lease::Lease;
use crate::segment::SegmentRef;
use crate::slot::{Duty, Popped};
use crate::sync::{Backoff, Ordering, lock};

/// Consecutive slots, claimed at the head.
pub(super) struct Run<T> {
    pub(super) segment: SegmentRef<T>,
    pub(super) index: u32,
    pub(super) count: u32,
    /// The head left the segment with this run: its sweep is ours to start.
    leaves: bool,
}

impl<T> Fifo<T> {
    /// Claims up to `max` positions below `end` at the head, all in one segment.
    #[inline]
    pub(super) fn claim_head(&self, max: u64, end: Position) -> Option<Run<T>> {
        let mut backoff = Backoff::new();
        loop {
            let word = self.head.load();
            // After the head: whoever moved the head there had seen the tail at least as far.
            let tail = self.tail.load().position();
            let ready = tail.min(end).saturating_sub(word.position());
            if ready == 0 {
                self.found_nothing();
                return None;
            }
            if word.is_locked() || word.left() == 0 {
                // Another consumer passes to the next segment, or the first segment is coming.
                backoff.snooze();
                continue;
            }
            let segment = self.head.segment();
            let count = max.min(ready).min(word.left());
            let leaves = count == word.left();
            if leaves {
                if !self.head.try_lock(word) {
                    continue;
                }
            } else if !self.head.advance(word, count) {
                continue;
            }
            let segment = segment.expect("a cursor with slots left has a segment");
            if leaves {
                self.pass_to_next(segment, word.position() + count);
            }
            // SAFETY: the claimed slots keep the segment alive.
            let index = (word.position() - unsafe { segment.start() }) as u32;
            return Some(Run {
                segment,
                index,
                count: count as u32,
                leaves,
            });
        }
    }

    /// Moves the head, whose lock bit the caller holds, to the segment after `segment`.
    #[cold]
    #[inline(never)]
    fn pass_to_next(&self, segment: SegmentRef<T>, end: Position) {
        // SAFETY: the lock bit keeps the segment alive, and the next one too: the head has yet to come through it. It was linked
        // before the tail's word passed `end`, which we have seen.
        let (next, start, length) = unsafe {
            let next = segment.next().expect("linked before the tail passed it");
            (next, next.start(), next.length())
        };
        if start > end {
            self.uncount_tombstones((start - end) as usize);
        }
        self.head.unlock(Word::new(start, length), Some(next));
    }

    #[inline]
    pub(super) fn lease_run(&self, run: Run<T>, mut f: impl FnMut(Lease<T>)) {
        for index in run.index..run.index + run.count {
            // SAFETY: claimed at the head by us, and passed once.
            match unsafe { run.segment.slot(index).lease() } {
                // SAFETY: leased just now.
                Ok(note) => f(unsafe { Lease::new(run.segment, index, note, self.level) }),
                Err(duty) => self.passed_tombstone(duty, run.segment, index),
            }
        }
        if run.leaves {
            // SAFETY: moving the head out of the segment gave us its baton.
            unsafe { self.rare.sweep(run.segment, 0) };
        }
    }

    #[inline]
    pub(super) fn pop_run(&self, run: Run<T>, mut f: impl FnMut(T, u32)) {
        for index in run.index..run.index + run.count {
            // SAFETY: claimed at the head by us, and passed once.
            match unsafe { run.segment.slot(index).pop() } {
                Popped::Value(value, note) => f(value, note),
                Popped::Removed(duty) => self.passed_tombstone(duty, run.segment, index),
            }
        }
        if run.leaves {
            // SAFETY: moving the head out of the segment gave us its baton.
            unsafe { self.rare.sweep(run.segment, 0) };
        }
    }

    #[cold]
    fn passed_tombstone(&self, duty: Duty, segment: SegmentRef<T>, index: u32) {
        self.uncount_tombstones(1);
        if duty != Duty::None {
            // SAFETY: the baton lay at the slot that we settled.
            unsafe { self.rare.sweep(segment, index + 1) };
        }
    }

    #[inline]
    fn found_nothing(&self) {
        // Relaxed: a hint.
        if self.large.load(Ordering::Relaxed) {
            self.trim();
        }
        self.rare.tidy_leftovers();
    }

    #[cold]
    pub(super) fn take_returned(&self, end: Position) -> Option<Lease<T>> {
        let mut returned = lock(&self.rare.returned);
        let entry = returned.first_entry()?;
        if *entry.key() >= end {
            return None;
        }
        let (segment, index) = entry.remove();
        // Relaxed: a consumer that sees the old count finds out under the lock.
        self.returned_count.store(returned.len(), Ordering::Relaxed);
        // SAFETY: listed, hence RETURNED, which keeps the segment alive; we hold the lock and have taken it off.
        unsafe {
            let note = segment.slot(index).lease_returned();
            Some(Lease::new(segment, index, note, self.level))
        }
    }
}
