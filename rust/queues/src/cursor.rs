//! One end of a queue: a position, the room left in its segment, and a lock bit, in one word beside the segment pointer.

use crate::Position;
use crate::segment::{Segment, SegmentRef};
use crate::sync::{AtomicPtr, AtomicU64, Ordering};
use std::ptr;

/// Bits of a cursor's word that count the slots left in the segment.
const LEFT_BITS: u32 = 11;
const LEFT_SHIFT: u32 = 1;
const POSITION_SHIFT: u32 = LEFT_SHIFT + LEFT_BITS;
const LOCKED: u64 = 1;

/// The most slots that a cursor can count, so that a segment can have.
pub(crate) const LEFT_MAX: u32 = (1 << LEFT_BITS) - 1;

/// Positions stay below this: 142 years at a million a second.
pub(crate) const POSITION_END: Position = 1 << (64 - POSITION_SHIFT);

/// A loaded word: position in bits 63..12, slots left from it to its segment's end in 11..1, lock bit in 0.
///
/// `left` is 0 only while there is no segment. Of two words with one position, the later has another `left`: so a word is
/// never seen twice, and an exchange that succeeds proves that the segment pointer loaded in between belongs to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) fn new(position: Position, left: u32) -> Self {
        debug_assert!(left <= LEFT_MAX);
        assert!(position < POSITION_END, "queue positions exhausted");
        Self(position << POSITION_SHIFT | u64::from(left) << LEFT_SHIFT)
    }

    #[inline]
    pub(crate) fn position(self) -> Position {
        self.0 >> POSITION_SHIFT
    }

    #[inline]
    pub(crate) fn left(self) -> u64 {
        (self.0 >> LEFT_SHIFT) & u64::from(LEFT_MAX)
    }

    #[inline]
    pub(crate) fn is_locked(self) -> bool {
        self.0 & LOCKED != 0
    }

    pub(crate) fn locked(self) -> Self {
        Self(self.0 | LOCKED)
    }

    /// `count` positions on, within the segment (`count < left`).
    #[inline]
    pub(crate) fn advanced(self, count: u64) -> Self {
        debug_assert!(count < self.left());
        // Adds to the position and takes from `left` at once; neither overflows into the other.
        Self(
            self.0
                .wrapping_add(count * ((1 << POSITION_SHIFT) - (1 << LEFT_SHIFT))),
        )
    }
}

/// An end of the queue. The two are on cache lines of their own, since producers move one and consumers the other.
pub(crate) struct Cursor<T> {
    /// Moved by exchange; with the lock bit set, owned by who set it.
    word: AtomicU64,
    /// The segment of the word's position; null while `left` is 0. Written under the lock bit.
    segment: AtomicPtr<Segment<T>>,
}

impl<T> Cursor<T> {
    pub(crate) fn new(position: Position) -> Self {
        Self {
            word: AtomicU64::new(Word::new(position, 0).0),
            segment: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[inline]
    pub(crate) fn load(&self) -> Word {
        // SeqCst, so that crossings with the bitmap of a priority queue need no fence; contains the Acquire that
        // pairs with the Release in `advance` and `unlock`: the segment behind the word and its links are visible.
        Word(self.word.load(Ordering::SeqCst))
    }

    /// The segment that goes with a loaded word, provided that a later exchange of that word succeeds.
    #[inline]
    pub(crate) fn segment(&self) -> Option<SegmentRef<T>> {
        // Relaxed: ordered by the Acquire in `load`.
        SegmentRef::from_pointer(self.segment.load(Ordering::Relaxed))
    }

    /// Moves on within the segment.
    #[inline]
    pub(crate) fn advance(&self, from: Word, count: u64) -> bool {
        // SeqCst: see `load`. Its Release half hands on what we saw: who loads this word also sees the other end at
        // least as far as we did. Relaxed on failure: the caller loads again.
        self.word
            .compare_exchange_weak(
                from.0,
                from.advanced(count).0,
                Ordering::SeqCst,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    pub(crate) fn try_lock(&self, from: Word) -> bool {
        debug_assert!(!from.is_locked());
        // Acquire: pairs with the Release in `unlock`.
        self.word
            .compare_exchange(from.0, from.locked().0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Sets segment and word, and thereby unlocks. The caller holds the lock bit (or the queue exclusively).
    pub(crate) fn unlock(&self, to: Word, segment: Option<SegmentRef<T>>) {
        debug_assert_eq!(to.left() == 0, segment.is_none());
        // Relaxed: published by the store that follows.
        self.segment.store(
            segment.map_or(ptr::null_mut(), SegmentRef::as_pointer),
            Ordering::Relaxed,
        );
        // SeqCst: see `load`; contains the Release that pairs with its Acquire.
        self.word.store(to.0, Ordering::SeqCst);
    }
}
