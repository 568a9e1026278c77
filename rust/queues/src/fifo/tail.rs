//! The producers' end of a FIFO: claiming positions, and making the segments that have them.

use crate::Position;
use crate::cursor::{LEFT_MAX, POSITION_END, Word};
use crate::fifo::Fifo;
use crate::segment::SegmentRef;
use crate::sync::{Backoff, Ordering};

/// Slots of a queue's first segment.
#[cfg(not(wherry_loom))]
pub(crate) const CAPACITY_FIRST: u32 = 32;
/// Segments grow to this by steady use, and a consumer that finds the queue empty keeps segments up to this.
#[cfg(not(wherry_loom))]
const CAPACITY_STEADY: u32 = 128;
/// Segments grow to this when there is a backlog as long. 16 KiB with elements of eight bytes.
#[cfg(not(wherry_loom))]
const CAPACITY_MAX: u32 = 1024;

#[cfg(wherry_loom)]
pub(crate) const CAPACITY_FIRST: u32 = 2;
#[cfg(wherry_loom)]
const CAPACITY_STEADY: u32 = 2;
#[cfg(wherry_loom)]
const CAPACITY_MAX: u32 = 2;

// One more, because a capacity that would repeat a cursor's word is passed over.
const _: () = assert!(
    CAPACITY_FIRST <= CAPACITY_STEADY && CAPACITY_STEADY <= CAPACITY_MAX && CAPACITY_MAX < LEFT_MAX
);

impl<T> Fifo<T> {
    #[inline]
    pub(super) fn claim_tail(&self, count: u64) -> (SegmentRef<T>, Position) {
        let word = self.tail.load();
        let segment = self.tail.segment();
        // A locked word with room is left to the slow path.
        if count < word.left() && !word.is_locked() && self.tail.advance(word, count) {
            return (
                segment.expect("a cursor with slots left has a segment"),
                word.position(),
            );
        }
        self.claim_tail_slowly(count)
    }

    #[cold]
    #[inline(never)]
    fn claim_tail_slowly(&self, count: u64) -> (SegmentRef<T>, Position) {
        let mut backoff = Backoff::new();
        loop {
            let word = self.tail.load();
            if word.is_locked() {
                backoff.snooze();
            } else if count < word.left() {
                let segment = self.tail.segment();
                if self.tail.advance(word, count) {
                    return (
                        segment.expect("a cursor with slots left has a segment"),
                        word.position(),
                    );
                }
            } else if self.tail.try_lock(word) {
                return self.claim_tail_across(word, count);
            }
        }
    }

    /// Claims what is left of the tail's segment and goes on in new ones. Leaves at least one slot in the last, so that the
    /// next segment always exists before the last position of one is visible.
    fn claim_tail_across(&self, word: Word, count: u64) -> (SegmentRef<T>, Position) {
        let position = word.position();
        // The head may be behind a gap; that makes the backlog look longer, which does no harm.
        let backlog = (position + count).saturating_sub(self.head.load().position());
        let mut left = word.left();
        let mut segment = self.tail.segment();
        let first = segment.unwrap_or_else(|| {
            let first = self.append_segment(None, position, Self::next_capacity(None, backlog));
            // SAFETY: made just now.
            let capacity = unsafe { first.capacity() };
            // Without a segment the head stands where the tail does, and nobody moves it but us: `left` is 0.
            self.head.unlock(Word::new(position, capacity), Some(first));
            left = capacity.into();
            segment = Some(first);
            first
        });
        let mut last = first;
        while left <= count {
            let capacity = Self::next_capacity(Some(last), backlog);
            last = self.append_segment(Some(last), position + left, capacity);
            left += u64::from(capacity);
        }
        // SAFETY: as above.
        let large = unsafe { last.capacity() } > CAPACITY_STEADY;
        // Relaxed: a hint.
        self.large.store(large, Ordering::Relaxed);
        self.tail.unlock(
            Word::new(position + count, (left - count) as u32),
            Some(last),
        );
        (first, position)
    }

    /// How many slots the segment after `before` gets: more in steady use, many for a backlog.
    fn next_capacity(before: Option<SegmentRef<T>>, backlog: u64) -> u32 {
        // SAFETY: the tail's segment, under the tail's lock bit, or made by us under it.
        let grown = before.map_or(CAPACITY_FIRST, |before| unsafe { before.capacity() } * 2);
        let for_backlog = backlog.min(CAPACITY_MAX.into()).next_power_of_two() as u32;
        grown
            .clamp(CAPACITY_FIRST, CAPACITY_STEADY)
            .max(for_backlog)
    }

    /// Makes a segment and links it behind `before`. The caller holds the tail's lock bit (or the queue exclusively).
    pub(crate) fn append_segment(
        &self,
        before: Option<SegmentRef<T>>,
        start: Position,
        mut capacity: u32,
    ) -> SegmentRef<T> {
        // Relaxed: written under the tail's lock bit, which we hold.
        if before.is_none() && capacity == self.trimmed_left.load(Ordering::Relaxed) {
            capacity += 1;
        }
        assert!(
            start + u64::from(capacity) < POSITION_END,
            "queue positions exhausted"
        );
        let segment = SegmentRef::allocate(start, capacity, self.rare.identity());
        // SAFETY: made just now; we hold the lock bit; `before` is the last segment, kept alive by that.
        unsafe {
            self.rare.announce(segment);
            if let Some(before) = before {
                before.link(segment);
            }
        }
        segment
    }
}
