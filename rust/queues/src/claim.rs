//! Claimed positions: the first half of a two-phase publish.

use crate::Position;
use crate::fifo::Fifo;
use crate::segment::SegmentRef;

/// Consecutive positions of one queue, claimed and not yet filled.
///
/// A consumer that comes to a claimed position waits until it is filled, so fill soon, and neither take, pop nor purge
/// from the same queue on the same thread in between. Settling, requeueing and the operations by position never wait for
/// a claim. Positions that are not filled when the claim is dropped become settled. (A claim given to `mem::forget` blocks the queue.)
#[must_use = "consumers wait until a claim is filled or dropped"]
pub struct Claim<'a, T> {
    fifo: &'a Fifo<T>,
    first: Position,
    /// Segment and index of the next position to fill; `Some` while `left > 0`.
    segment: Option<SegmentRef<T>>,
    index: u32,
    left: usize,
}

impl<'a, T> Claim<'a, T> {
    /// # Safety
    /// The caller has claimed `count` positions from `first` on at the tail; `first` lies in `segment`.
    #[inline]
    pub(crate) unsafe fn new(
        fifo: &'a Fifo<T>,
        first: Position,
        segment: Option<SegmentRef<T>>,
        index: u32,
        count: usize,
    ) -> Self {
        Self {
            fifo,
            first,
            segment,
            index,
            left: count,
        }
    }

    /// The lowest of the claimed positions.
    pub fn first(&self) -> Position {
        self.first
    }

    /// Positions still to be filled.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether no position is left to fill.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Makes the elements ready, in order. Each is visible at once. If there are fewer elements than positions, the
    /// rest becomes settled.
    ///
    /// # Panics
    /// If there are more elements than positions; those that fit are published.
    pub fn fill(mut self, items: impl IntoIterator<Item = (T, u32)>) {
        for (value, note) in items {
            assert!(self.left > 0, "more elements than claimed positions");
            let (segment, index) = self.step();
            // SAFETY: claimed by us and passed once.
            unsafe { segment.slot(index).publish(value, note) };
        }
    }

    /// The next slot to fill. Moves on *before* it is filled: afterwards its segment may be gone.
    #[inline]
    fn step(&mut self) -> (SegmentRef<T>, u32) {
        let segment = self
            .segment
            .expect("a claim with positions left has a segment");
        let index = self.index;
        self.left -= 1;
        self.index += 1;
        // SAFETY: we own the slot at `index`.
        if self.left > 0 && self.index == unsafe { segment.capacity() } {
            // SAFETY: as above. The claim goes on behind this segment, so it was linked when the claim was made.
            self.segment = unsafe { segment.next() };
            self.index = 0;
        }
        (segment, index)
    }
}

impl<T> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.fifo.count_tombstones(self.left);
        }
        while self.left > 0 {
            let (segment, index) = self.step();
            // SAFETY: claimed by us, not filled, passed once.
            unsafe { segment.slot(index).discard() };
        }
    }
}
