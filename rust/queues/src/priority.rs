//! A priority queue: one FIFO lane a level, and a bitmap of the lanes that may have elements.
//!
//! **Algorithm.** A lane's bit is set after a position was claimed in it (or an element returned to it), and cleared by a
//! consumer that found the lane empty. The two cross: the producer writes the lane and reads the bit, the consumer clears the bit and
//! reads the lane, each in this order and sequentially consistent, so at least one of them sees the other: the producer
//! then sets the bit, the consumer puts it back. The bit of a lane that has elements is therefore set, or about to be put
//! back by a consumer between its clearing and its look. Clearings are counted when they begin and when they end; a consumer that finds no bit
//! while one is under way looks at the lanes themselves, so that `None` is never an accident of the bitmap.
//!
//! **Who may call, progress, memory**: as [`Fifo`]. A lane is made when its level is first used, and stays. Positions are
//! those of the lane: an element's address is (level, position).
//!
//! **Not promised.** An element pushed at a higher level while a `take` is under way may be passed over by that `take`, and so
//! may a level whose bit another consumer is just clearing. A consumer waits for a
//! claimed, unfilled position of a high lane even if lower lanes have ready elements.

use crate::sync::{AtomicPtr, AtomicU64, Ordering, crossing_fence, fence};
use crate::{Claim, Fifo, Lease, Position, SlotState};
use std::marker::PhantomData;
use std::ptr;

const WORD_BITS: usize = u64::BITS as usize;
const LEVELS_MAX: usize = 256;

/// A FIFO lane for each of 1 to 256 levels; the highest level that has elements is served first.
///
/// ```
/// let queue = wherry_queues::PriorityFifo::new(10);
/// queue.push(4, "first of 4", 0);
/// queue.push(4, "second of 4", 0);
/// queue.push(9, "only of 9", 0);
/// assert_eq!(queue.pop(), Some("only of 9"));
///
/// let lease = queue.take().unwrap();
/// assert_eq!((lease.level(), *lease.value()), (4, "first of 4"));
/// queue.settle(lease);
/// ```
pub struct PriorityFifo<T> {
    /// By level. Null until the level is used; set once, by exchange.
    lanes: Box<[AtomicPtr<Fifo<T>>]>,
    /// Bit `level % 64` of word `level / 64`: the lane may have ready elements.
    possibly_ready: [AtomicU64; LEVELS_MAX / WORD_BITS],
    /// Clearings of a bit begun and ended, by consumers. While they differ, a bit may be clear by error.
    clearings_begun: AtomicU64,
    clearings_ended: AtomicU64,
    /// Owns the lanes, and is sent and shared as they are.
    marker: PhantomData<Box<Fifo<T>>>,
}

impl<T> PriorityFifo<T> {
    /// A queue with the levels `0..levels`.
    ///
    /// # Panics
    /// If `levels` is not in `1..=256`.
    pub fn new(levels: usize) -> Self {
        assert!(
            (1..=LEVELS_MAX).contains(&levels),
            "a priority queue has 1 to 256 levels"
        );
        Self {
            lanes: (0..levels)
                .map(|_| AtomicPtr::new(ptr::null_mut()))
                .collect(),
            possibly_ready: std::array::from_fn(|_| AtomicU64::new(0)),
            clearings_begun: AtomicU64::new(0),
            clearings_ended: AtomicU64::new(0),
            marker: PhantomData,
        }
    }

    /// The number of levels.
    pub fn levels(&self) -> usize {
        self.lanes.len()
    }

    #[inline]
    fn lane_if_used(&self, level: u8) -> Option<&Fifo<T>> {
        // Acquire: pairs with the Release in `make_lane`.
        let lane = self.lanes[usize::from(level)].load(Ordering::Acquire);
        // SAFETY: set once to a leaked box, which lives until the queue is dropped.
        unsafe { lane.as_ref() }
    }

    #[inline]
    fn lane(&self, level: u8) -> &Fifo<T> {
        self.lane_if_used(level)
            .unwrap_or_else(|| self.make_lane(level, 0))
    }

    #[cold]
    fn make_lane(&self, level: u8, first: Position) -> &Fifo<T> {
        let made = Box::into_raw(Box::new(Fifo::with_level(first, level)));
        // AcqRel: Release publishes the lane; Acquire, also on failure, for another's.
        let lane = match self.lanes[usize::from(level)].compare_exchange(
            ptr::null_mut(),
            made,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => made,
            Err(others) => {
                // SAFETY: made above and shown to nobody.
                drop(unsafe { Box::from_raw(made) });
                others
            }
        };
        // SAFETY: as in `lane_if_used`.
        unsafe { &*lane }
    }

    fn bit(level: u8) -> (usize, u64) {
        (
            usize::from(level) / WORD_BITS,
            1 << (usize::from(level) % WORD_BITS),
        )
    }

    /// The producer's side of the crossing: the lane was written, now see to its bit.
    #[inline]
    fn mark(&self, level: u8) {
        let (word, bit) = Self::bit(level);
        crossing_fence();
        // SeqCst: after the lane's tail was moved (SeqCst); pairs with `unmark_if_empty`. Reading first keeps the
        // line shared while the bit stays set.
        if self.possibly_ready[word].load(Ordering::SeqCst) & bit == 0 {
            // AcqRel: order does not matter for a bit that is only a hint upwards.
            self.possibly_ready[word].fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// The consumer's side of the crossing: the lane looked empty; clears its bit unless that was an error.
    #[cold]
    fn unmark_if_empty(&self, level: u8, lane: &Fifo<T>) {
        let (word, bit) = Self::bit(level);
        // Relaxed: whoever acquires the cleared word sees it.
        self.clearings_begun.fetch_add(1, Ordering::Relaxed);
        // SeqCst: before the lane is read (SeqCst); pairs with `mark`.
        self.possibly_ready[word].fetch_and(!bit, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if lane.may_have_ready() {
            // AcqRel: as in `mark`.
            self.possibly_ready[word].fetch_or(bit, Ordering::AcqRel);
        }
        // Release: pairs with the Acquire in `highest`, which then sees the bit put back.
        self.clearings_ended.fetch_add(1, Ordering::Release);
    }

    /// The highest lane that may have ready elements. `None` is certain: while a bit may be clear by error, looks at
    /// the lanes themselves.
    #[inline]
    fn highest(&self) -> Option<(u8, &Fifo<T>)> {
        // Acquire: pairs with the Release in `unmark_if_empty`.
        let ended = self.clearings_ended.load(Ordering::Acquire);
        self.highest_marked().or_else(|| {
            // Relaxed: a clearing whose effect we have acquired in `highest_marked` is counted here.
            if self.clearings_begun.load(Ordering::Relaxed) == ended {
                return None;
            }
            (0..self.lanes.len())
                .rev()
                .filter_map(|level| Some((level as u8, self.lane_if_used(level as u8)?)))
                .find(|(_, lane)| lane.may_have_ready())
        })
    }

    #[inline]
    fn highest_marked(&self) -> Option<(u8, &Fifo<T>)> {
        for word in (0..self.lanes.len().div_ceil(WORD_BITS)).rev() {
            // Acquire: pairs with the AcqRel in `mark`, so that the lane's tail is seen at least as far.
            let bits = self.possibly_ready[word].load(Ordering::Acquire);
            if bits != 0 {
                let level = word * WORD_BITS + (bits.ilog2() as usize);
                // A bit is set after the lane was made.
                return self
                    .lane_if_used(level as u8)
                    .map(|lane| (level as u8, lane));
            }
        }
        None
    }

    /// Claims `count` consecutive positions of a level: see [`Fifo::claim`].
    ///
    /// # Panics
    /// This and every method that takes a level: if the queue does not have it.
    pub fn claim(&self, level: u8, count: usize) -> Claim<'_, T> {
        let claim = self.lane(level).claim(count);
        if count > 0 {
            self.mark(level);
        }
        claim
    }

    /// Appends an element to a level.
    #[inline]
    pub fn push(&self, level: u8, value: T, note: u32) -> Position {
        let position = self.lane(level).push(value, note);
        self.mark(level);
        position
    }

    /// Appends elements to a level at consecutive positions; gives the first.
    ///
    /// # Panics
    /// If the iterator yields more than its length says.
    pub fn push_batch<I>(&self, level: u8, items: I) -> Position
    where
        I: IntoIterator<Item = (T, u32)>,
        I::IntoIter: ExactSizeIterator,
    {
        let items = items.into_iter();
        let claim = self.claim(level, items.len());
        let first = claim.first();
        claim.fill(items);
        first
    }

    /// Leases the oldest ready element of the highest level that has one.
    #[inline]
    pub fn take(&self) -> Option<Lease<T>> {
        loop {
            let (level, lane) = self.highest()?;
            match lane.take() {
                Some(lease) => return Some(lease),
                None => self.unmark_if_empty(level, lane),
            }
        }
    }

    /// Leases up to `max` ready elements, highest level first, appends them to `out` in order, and says how many.
    pub fn take_batch(&self, max: usize, out: &mut Vec<Lease<T>>) -> usize {
        let mut taken = 0;
        while taken < max {
            let Some((level, lane)) = self.highest() else {
                break;
            };
            match lane.take_batch(max - taken, out) {
                0 => self.unmark_if_empty(level, lane),
                some => taken += some,
            }
        }
        taken
    }

    /// Takes and settles in one step.
    #[inline]
    pub fn pop(&self) -> Option<T> {
        loop {
            let (level, lane) = self.highest()?;
            match lane.pop() {
                Some(value) => return Some(value),
                None => self.unmark_if_empty(level, lane),
            }
        }
    }

    /// Takes and settles up to `max` elements, appends them to `out` in order, and says how many.
    pub fn pop_batch(&self, max: usize, out: &mut Vec<T>) -> usize {
        let mut popped = 0;
        while popped < max {
            let Some((level, lane)) = self.highest() else {
                break;
            };
            match lane.pop_batch(max - popped, out) {
                0 => self.unmark_if_empty(level, lane),
                some => popped += some,
            }
        }
        popped
    }

    /// Ends a lease for good: see [`Fifo::settle`].
    #[inline]
    pub fn settle(&self, lease: Lease<T>) -> T {
        self.lane(lease.level()).settle(lease)
    }

    /// Returns a leased element to its own position in its lane: see [`Fifo::requeue`].
    pub fn requeue(&self, lease: Lease<T>, note: u32) {
        let level = lease.level();
        self.lane(level).requeue(lease, note);
        // The count of returned elements is no SeqCst store; the fence makes up for it.
        fence(Ordering::SeqCst);
        self.mark(level);
    }

    /// Takes a ready element out of the middle: see [`Fifo::remove`].
    pub fn remove(&self, level: u8, position: Position) -> Option<(T, u32)> {
        self.lane_if_used(level)?.remove(position)
    }

    /// Shows a ready or leased element to `f`: see [`Fifo::inspect`].
    pub fn inspect<R>(
        &self,
        level: u8,
        position: Position,
        f: impl FnOnce(SlotState, u32, &T) -> R,
    ) -> Option<R>
    where
        T: Sync,
    {
        self.lane_if_used(level)?.inspect(position, f)
    }

    /// Shows up to `max` ready elements to `f` in order of delivery, beginning with `from_position` of `from_level` and going
    /// down through the levels. Says how many. `(u8::MAX, 0)` begins at the front.
    pub fn browse(
        &self,
        from_level: u8,
        from_position: Position,
        max: usize,
        mut f: impl FnMut(u8, Position, u32, &T),
    ) -> usize
    where
        T: Sync,
    {
        let top = from_level.min((self.lanes.len() - 1) as u8);
        let mut seen = 0;
        for level in (0..=top).rev() {
            let from = if level == from_level {
                from_position
            } else {
                0
            };
            if let Some(lane) = self.lane_if_used(level) {
                seen += lane.browse(from, max - seen, |position, note, value| {
                    f(level, position, note, value)
                });
            }
        }
        seen
    }

    /// Takes out everything that is ready, in order of delivery, and says how many.
    pub fn purge(&self, mut f: impl FnMut(u8, Position, T, u32)) -> usize {
        let mut purged = 0;
        for level in (0..self.lanes.len()).rev() {
            let level = level as u8;
            if let Some(lane) = self.lane_if_used(level) {
                purged += lane.purge(|position, value, note| f(level, position, value, note));
            }
        }
        purged
    }

    /// Sets the first position of a level that was not used yet.
    ///
    /// # Panics
    /// If the level was used.
    pub fn start_level_at(&mut self, level: u8, first: Position) {
        assert!(
            self.lane_if_used(level).is_none(),
            "the level has positions already"
        );
        self.make_lane(level, first);
    }

    /// Appends recovered elements to a level: see [`Fifo::restore`].
    pub fn restore(&mut self, level: u8, items: impl IntoIterator<Item = Option<(T, u32)>>) {
        self.lane_mut(level).restore(items);
        self.mark(level);
    }

    /// Appends `count` positions that were settled before to a level.
    pub fn restore_holes(&mut self, level: u8, count: u64) {
        self.lane_mut(level).restore_holes(count);
        self.mark(level);
    }

    fn lane_mut(&mut self, level: u8) -> &mut Fifo<T> {
        self.lane(level);
        // Relaxed: exclusive.
        let lane = self.lanes[usize::from(level)].load(Ordering::Relaxed);
        // SAFETY: made above, lives until we are dropped, and `self` is borrowed exclusively.
        unsafe { &mut *lane }
    }

    /// Ready elements of all levels, roughly.
    pub fn len(&self) -> usize {
        self.used().map(Fifo::len).sum()
    }

    /// Whether `len` is 0; as rough.
    pub fn is_empty(&self) -> bool {
        self.used().all(Fifo::is_empty)
    }

    /// Ready elements of one level, roughly.
    pub fn level_len(&self, level: u8) -> usize {
        self.lane_if_used(level).map_or(0, Fifo::len)
    }

    /// The position that the next push to a level gets.
    pub fn next_position(&self, level: u8) -> Position {
        self.lane_if_used(level).map_or(0, Fifo::next_position)
    }

    /// All positions of a level below this one are settled: see [`Fifo::oldest_unsettled`].
    pub fn oldest_unsettled(&self, level: u8) -> Position {
        self.lane_if_used(level).map_or(0, Fifo::oldest_unsettled)
    }

    /// Memory held by the queue itself, without what its elements point to.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.lanes)
            + self.used().map(Fifo::memory_bytes).sum::<usize>()
    }

    /// Gives the memory of empty lanes back: see [`Fifo::trim`].
    pub fn trim(&self) {
        self.used().for_each(Fifo::trim);
    }

    fn used(&self) -> impl Iterator<Item = &Fifo<T>> {
        (0..self.lanes.len()).filter_map(|level| self.lane_if_used(level as u8))
    }
}

impl<T> std::fmt::Debug for PriorityFifo<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PriorityFifo")
            .field("levels", &self.levels())
            .field("len", &self.len())
            .finish()
    }
}

impl<T> Drop for PriorityFifo<T> {
    fn drop(&mut self) {
        for lane in &self.lanes {
            // Relaxed: exclusive.
            let lane = lane.load(Ordering::Relaxed);
            if !lane.is_null() {
                // SAFETY: a leaked box of ours; nobody uses the queue any more.
                drop(unsafe { Box::from_raw(lane) });
            }
        }
    }
}
