//! A segmented many-producer many-consumer FIFO whose slots carry the element's state.
//!
//! **Algorithm.** The frame is that of crossbeam's `SegQueue` (itself after Dmitry Vyukov's and Morrison and Afek's
//! queues): two cursors of (position, segment), moved by one exchange each; a thread looks into a segment only after the
//! exchange gave it a slot there. New is that a slot's word goes on living after the element was taken: ready, leased,
//! settled (`slot.rs`), so that elements are settled in any order and requeued to their own position; that a cursor's
//! word counts the slots left, so that segments may have any size; and that segments are freed by a sweep that the
//! settling threads pass on among themselves (`segment.rs`).
//!
//! **Who may call.** Everybody, everything, from any thread, at any time, except: between [`Fifo::claim`] and
//! [`Claim::fill`] the same thread must not take, pop or purge; and closures given to `inspect` and `browse` must
//! not call the same queue.
//!
//! **Progress.** Publish, take and settle are lock-free as long as they stay within a segment, with these exceptions, told
//! plainly: a consumer that reaches a claimed position waits until it is filled or its claim dropped (spins, then yields); when a segment
//! is full (or used up) one thread links (or passes to) the next and the others at that end wait for it; an owner that moves
//! an element out waits while an inspector reads it. Requeueing, and taking what was requeued, hold a mutex for an O(log n)
//! step. Settling never waits for a publisher.
//!
//! **Memory.** Nothing but the struct until the first push. The first segment has 32 slots; steady use grows them to 128,
//! a backlog to 1024. A consumer that finds the queue empty gives a large segment back; [`Fifo::trim`] gives any back.
//! A segment lives as long as one of its elements is leased.
//!
//! **Not promised.** `len` is a guess while others are at work. `take` may say `None` while a push is under way. Between consumers on
//! several threads order means order of claiming, not of arrival.

mod head;
mod tail;

use crate::Position;
use crate::claim::Claim;
use crate::cursor::{Cursor, Word};
use crate::directory::Rare;
use crate::lease::{Baton, Lease};
use crate::sync::{AtomicBool, AtomicU32, AtomicUsize, Ordering, lock};

pub(crate) use tail::CAPACITY_FIRST;

/// A lock-free FIFO whose elements are ready, leased or settled. What is promised and what is not stands at the head of
/// `fifo.rs`; in short: any thread may call anything, except that between [`Fifo::claim`] and [`Claim::fill`] the same thread must not take.
///
/// ```
/// let queue = wherry_queues::Fifo::new();
/// queue.push("first", 0);
/// queue.push("second", 0);
///
/// let lease = queue.take().unwrap();
/// assert_eq!((*lease.value(), lease.position()), ("first", 0));
/// queue.requeue(lease, 1);
///
/// let again = queue.take().unwrap();
/// assert_eq!((*again.value(), again.note()), ("first", 1));
/// assert_eq!(queue.settle(again), "first");
/// assert_eq!(queue.pop(), Some("second"));
/// ```
#[repr(C, align(64))]
pub struct Fifo<T> {
    // The consumers' cache line: what they look at with each take, and what nearly never changes.
    pub(crate) head: Cursor<T>,
    /// Entries of `returned`; written under its lock. What keeps the plain path from the lock.
    pub(crate) returned_count: AtomicUsize,
    /// Positions between head and tail without an element: removed, discarded, or holes. Counts modulo 2^64, since a
    /// consumer may acknowledge a tombstone before it was counted.
    tombstones: AtomicUsize,
    pub(crate) rare: Box<Rare<T>>,
    level: u8,
    /// A byte that is always the same: an enum around a queue keeps its tag in the values that it never has, where a
    /// tag of its own would be a cache line more for each queue.
    _tag_room: TagRoom,
    // The producers' cache line.
    _producers: LineStart,
    pub(crate) tail: Cursor<T>,
    /// What `left` was when the queue last gave its segment back, which the next one must not start with: see [`Word`].
    /// Used under the tail's lock bit.
    trimmed_left: AtomicU32,
    /// Whether the tail's segment is larger than `CAPACITY_STEADY`. A hint, written under the tail's lock bit.
    large: AtomicBool,
}

/// What follows in a `repr(C)` struct begins a cache line.
#[repr(align(64))]
struct LineStart;

#[repr(u8)]
enum TagRoom {
    Taken = 0,
}

// Of the model checker's types nothing is promised but that they do the same.
#[cfg(all(not(wherry_loom), target_pointer_width = "64"))]
const _: () = assert!(
    size_of::<Fifo<u64>>() == 128 && size_of::<Option<Fifo<u64>>>() == 128,
    "two cache lines, of which producers write one and consumers the other"
);

impl<T> Fifo<T> {
    /// An empty queue whose first position is 0.
    pub fn new() -> Self {
        Self::starting_at(0)
    }

    /// An empty queue whose first position is `first`.
    ///
    /// # Panics
    /// If `first` is 2^52 or more.
    pub fn starting_at(first: Position) -> Self {
        Self::with_level(first, 0)
    }

    pub(crate) fn with_level(first: Position, level: u8) -> Self {
        Self {
            head: Cursor::new(first),
            returned_count: AtomicUsize::new(0),
            tombstones: AtomicUsize::new(0),
            rare: Box::new(Rare::new()),
            level,
            _tag_room: TagRoom::Taken,
            _producers: LineStart,
            tail: Cursor::new(first),
            trimmed_left: AtomicU32::new(0),
            large: AtomicBool::new(false),
        }
    }

    // Publishing

    /// Claims `count` consecutive positions, to be filled soon: consumers that reach them wait.
    pub fn claim(&self, count: usize) -> Claim<'_, T> {
        if count == 0 {
            // SAFETY: nothing is claimed.
            return unsafe { Claim::new(self, self.next_position(), None, 0, 0) };
        }
        let (segment, first) = self.claim_tail(count as u64);
        // SAFETY: claimed just now.
        unsafe {
            Claim::new(
                self,
                first,
                Some(segment),
                (first - segment.start()) as u32,
                count,
            )
        }
    }

    /// Appends an element.
    #[inline]
    pub fn push(&self, value: T, note: u32) -> Position {
        let (segment, position) = self.claim_tail(1);
        // SAFETY: the position was claimed just now and lies in the segment, which it keeps alive.
        unsafe {
            segment
                .slot((position - segment.start()) as u32)
                .publish(value, note)
        };
        position
    }

    /// Appends elements at consecutive positions; gives the first.
    ///
    /// # Panics
    /// If the iterator yields more than its length says.
    pub fn push_batch<I>(&self, items: I) -> Position
    where
        I: IntoIterator<Item = (T, u32)>,
        I::IntoIter: ExactSizeIterator,
    {
        let items = items.into_iter();
        let claim = self.claim(items.len());
        let first = claim.first();
        claim.fill(items);
        first
    }

    pub(crate) fn count_tombstones(&self, count: usize) {
        // Relaxed: a statistic.
        self.tombstones.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn uncount_tombstones(&self, count: usize) {
        // Relaxed: a statistic.
        self.tombstones.fetch_sub(count, Ordering::Relaxed);
    }

    // Taking

    /// Leases the oldest ready element.
    #[inline]
    pub fn take(&self) -> Option<Lease<T>> {
        // Acquire: pairs with the Release of the requeue that counted.
        if self.returned_count.load(Ordering::Acquire) > 0
            && let Some(lease) = self.take_returned(Position::MAX)
        {
            return Some(lease);
        }
        loop {
            let run = self.claim_head(1, Position::MAX)?;
            let mut taken = None;
            self.lease_run(run, |lease| taken = Some(lease));
            if taken.is_some() {
                return taken;
            }
        }
    }

    /// Leases up to `max` of the oldest ready elements, appends them to `out` in order, and says how many.
    pub fn take_batch(&self, max: usize, out: &mut Vec<Lease<T>>) -> usize {
        let mut taken = 0;
        // Acquire: as in `take`.
        while taken < max && self.returned_count.load(Ordering::Acquire) > 0 {
            let Some(lease) = self.take_returned(Position::MAX) else {
                break;
            };
            out.push(lease);
            taken += 1;
        }
        while taken < max {
            let Some(run) = self.claim_head((max - taken) as u64, Position::MAX) else {
                break;
            };
            out.reserve(run.count as usize);
            self.lease_run(run, |lease| {
                out.push(lease);
                taken += 1;
            });
        }
        taken
    }

    /// Takes and settles in one step.
    #[inline]
    pub fn pop(&self) -> Option<T> {
        self.pop_before(Position::MAX).map(|(_, value, _)| value)
    }

    /// Takes and settles the oldest ready element whose position is below `end`.
    #[inline]
    pub(crate) fn pop_before(&self, end: Position) -> Option<(Position, T, u32)> {
        // Acquire: as in `take`.
        if self.returned_count.load(Ordering::Acquire) > 0
            && let Some(lease) = self.take_returned(end)
        {
            let (position, note) = (lease.position(), lease.note());
            return Some((position, self.settle(lease), note));
        }
        loop {
            let run = self.claim_head(1, end)?;
            // SAFETY: our slot keeps the segment alive.
            let position = unsafe { run.segment.start() } + Position::from(run.index);
            let mut popped = None;
            self.pop_run(run, |value, note| popped = Some((position, value, note)));
            if popped.is_some() {
                return popped;
            }
        }
    }

    /// Takes and settles up to `max` elements, appends them to `out` in order, and says how many.
    pub fn pop_batch(&self, max: usize, out: &mut Vec<T>) -> usize {
        let mut popped = 0;
        // Acquire: as in `take`.
        while popped < max && self.returned_count.load(Ordering::Acquire) > 0 {
            let Some(lease) = self.take_returned(Position::MAX) else {
                break;
            };
            out.push(self.settle(lease));
            popped += 1;
        }
        while popped < max {
            let Some(run) = self.claim_head((max - popped) as u64, Position::MAX) else {
                break;
            };
            out.reserve(run.count as usize);
            self.pop_run(run, |value, _| {
                out.push(value);
                popped += 1;
            });
        }
        popped
    }

    // Ending a lease

    /// Ends a lease for good and gives the element. Waits while an inspector reads it.
    ///
    /// # Panics
    /// If the lease came from another queue (detected only when it matters to memory).
    #[inline]
    pub fn settle(&self, lease: Lease<T>) -> T {
        let owner = if cfg!(debug_assertions) {
            lease.owner()
        } else {
            self.rare.identity()
        };
        debug_assert_eq!(owner, self.rare.identity(), "settled on another queue");
        let (value, baton) = lease.settle();
        if let Some(Baton { segment, from }) = baton {
            // SAFETY: the baton keeps the segment alive.
            let owner = unsafe { segment.owner() };
            assert_eq!(owner, self.rare.identity(), "settled on another queue");
            // SAFETY: the baton lay at the slot that was settled just now.
            unsafe { self.rare.sweep(segment, from) };
        }
        value
    }

    /// Ends a lease by returning the element to its own position, with a new note. It is older than everything that
    /// was not taken yet, so it is the next to be taken but for older requeued ones.
    ///
    /// # Panics
    /// If the lease came from another queue.
    pub fn requeue(&self, lease: Lease<T>, note: u32) {
        assert_eq!(
            lease.owner(),
            self.rare.identity(),
            "requeued to another queue"
        );
        let position = lease.position();
        let (segment, index) = lease.into_slot();
        let mut returned = lock(&self.rare.returned);
        // SAFETY: leased by us; the lock is held; listed in the next line.
        unsafe { segment.slot(index).requeue(note) };
        returned.insert(position, (segment, index));
        // Release: pairs with the Acquire in `take`.
        self.returned_count.store(returned.len(), Ordering::Release);
    }

    // Looking

    /// The position that the next push gets.
    pub fn next_position(&self) -> Position {
        self.tail.load().position()
    }

    /// Ready elements, roughly: claimed but unfilled ones count already.
    pub fn len(&self) -> usize {
        let head = self.head.load().position();
        let tail = self.tail.load().position();
        // Relaxed, both: a guess.
        let tombstones = self.tombstones.load(Ordering::Relaxed) as isize;
        let returned = self.returned_count.load(Ordering::Relaxed) as isize;
        let ahead = tail.saturating_sub(head) as isize;
        usize::try_from(ahead.wrapping_sub(tombstones).wrapping_add(returned)).unwrap_or(0)
    }

    /// Whether `len` is 0; as rough.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a consumer would look into this queue at all. Tombstones count.
    pub(crate) fn may_have_ready(&self) -> bool {
        // Acquire: as in `take`.
        self.returned_count.load(Ordering::Acquire) > 0 || {
            let head = self.head.load().position();
            self.tail.load().position() > head
        }
    }

    /// Gives the memory of an empty queue back: all of it but this struct, once the last lease is settled. Does nothing if
    /// the queue has elements ahead of its head. For queues that have become idle; the next push allocates anew.
    #[cold]
    pub fn trim(&self) {
        let tail = self.tail.load();
        let head = self.head.load();
        if tail.is_locked()
            || head.is_locked()
            || head.position() != tail.position()
            || head.left() == 0
        {
            return;
        }
        if !self.tail.try_lock(tail) {
            return;
        }
        let segment = self
            .tail
            .segment()
            .expect("a cursor with slots left has a segment");
        if !self.head.try_lock(head) {
            self.tail.unlock(tail, Some(segment));
            return;
        }
        // Both ends stand at one position, and thus in one segment, of which nothing from here on was ever claimed.
        // SAFETY: the lock bits keep the segment alive, and are both ours.
        unsafe { segment.cut((tail.position() - segment.start()) as u32) };
        // Relaxed, both: used under the tail's lock bit, and a hint.
        self.trimmed_left
            .store(tail.left() as u32, Ordering::Relaxed);
        self.large.store(false, Ordering::Relaxed);
        let nowhere = Word::new(tail.position(), 0);
        self.head.unlock(nowhere, None);
        self.tail.unlock(nowhere, None);
        // SAFETY: moving the head out of the segment gave us its baton.
        unsafe { self.rare.sweep(segment, 0) };
    }
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> std::fmt::Debug for Fifo<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fifo")
            .field("len", &self.len())
            .field("next_position", &self.next_position())
            .finish()
    }
}
