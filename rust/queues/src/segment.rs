//! A segment: a run of slots in one allocation, and its end.
//!
//! Reclamation, for which neither epochs nor counters are needed. A thread may look into a segment only while one of
//! these holds:
//!
//! 1. it owns an unsettled slot in it: claimed at the tail, claimed at the head, or leased;
//! 2. it holds the tail's or the head's lock bit, and that end points at the segment;
//! 3. it holds the directory lock, and the segment is in the directory or among the `fresh`;
//! 4. it holds the segment's *baton*.
//!
//! When the head leaves a segment, the thread that moved it gets the baton and sweeps the slots from the first on. A settled
//! slot is passed; at an unsettled one the baton is put down (one flag in the slot's word), and whoever settles that slot
//! finds the flag in the very exchange that settles it, and goes on from there. Past the last slot all are settled, so
//! 1 holds for nobody, 2 for nobody since both ends moved on, and the holder of the baton hands the segment to the directory, whose
//! lock ends 3. A slot that is not filled yet, or that a consumer is just taking, will be changed by a plain store, so the baton
//! cannot be put down there; the segment is then set aside among the `unswept` with the place to go on from, which whoever next
//! tidies up does. Nobody waits for anybody in a sweep.

use crate::Position;
use crate::slot::{Slot, Swept};
use crate::sync::{AtomicPtr, AtomicU32, Ordering};
use std::alloc::Layout;
use std::ptr::{self, NonNull};

#[cfg(wherry_loom)]
use crate::sync::UnsafeCell;

/// Head of a segment; the slots follow it in memory.
#[repr(C)]
pub(crate) struct Segment<T> {
    /// Position of the first slot. Never changes.
    start: Position,
    /// Slots allocated. Never changes.
    capacity: u32,
    /// Slots in use; less than `capacity` once the segment was cut short. Written by `cut` only.
    length: AtomicU32,
    /// The segment behind this one; written once, by the holder of the tail's lock bit, before the last position
    /// of this segment is handed out.
    next: AtomicPtr<Segment<T>>,
    /// Identifies the queue: its rare part's address. Compared, never followed.
    owner: *const (),
    /// Link in the `fresh` stack. Only the stack's current owner writes it.
    fresh_link: AtomicPtr<Segment<T>>,
    /// Link in the `retired` or `unswept` stack, of which a segment is in one at most, once.
    chore_link: AtomicPtr<Segment<T>>,
    /// Where to go on sweeping; written by the holder of the baton before it sets the segment aside.
    resume: AtomicU32,
    /// Under the model checker memory is not freed but marked, and every access looks at the mark.
    #[cfg(wherry_loom)]
    freed: UnsafeCell<bool>,
    slots: [Slot<T>; 0],
}

/// How a sweep ended.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum SweepEnd {
    /// All slots are settled; the caller owns the segment.
    Finished,
    /// The baton lies at an unsettled slot; the segment may be gone already.
    BatonLeft,
    /// A slot about to be stored to: the caller keeps the baton and sets the segment aside.
    InTransit,
}

/// A pointer to a segment. Copying it promises nothing: each use is `unsafe` and needs one of the four reasons.
pub(crate) struct SegmentRef<T>(NonNull<Segment<T>>);

impl<T> Clone for SegmentRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SegmentRef<T> {}

impl<T> PartialEq for SegmentRef<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

// SAFETY: a pointer; what is done through it is governed by the slots' words, and elements move between threads
// only by value or, with `T: Sync`, by reference.
unsafe impl<T: Send> Send for SegmentRef<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SegmentRef<T> {}

impl<T> SegmentRef<T> {
    pub(crate) fn allocate(start: Position, capacity: u32, owner: *const ()) -> Self {
        let layout = Self::layout(capacity);
        // SAFETY: the layout is not empty (the head alone is 56 bytes).
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(segment) = NonNull::new(memory.cast::<Segment<T>>()) else {
            std::alloc::handle_alloc_error(layout);
        };
        let head = Segment {
            start,
            capacity,
            length: AtomicU32::new(capacity),
            next: AtomicPtr::new(ptr::null_mut()),
            owner,
            fresh_link: AtomicPtr::new(ptr::null_mut()),
            chore_link: AtomicPtr::new(ptr::null_mut()),
            resume: AtomicU32::new(0),
            #[cfg(wherry_loom)]
            freed: UnsafeCell::new(false),
            slots: [],
        };
        // SAFETY: freshly allocated, with the layout of a `Segment<T>` at its start. The slots need no writing: EMPTY is zero.
        unsafe { segment.as_ptr().write(head) };
        #[cfg(wherry_loom)]
        for index in 0..capacity {
            // SAFETY: within the allocation; the model checker's atomics are objects that must be made.
            unsafe { Self(segment).slot_pointer(index).write(Slot::new()) };
        }
        Self(segment)
    }

    fn layout(capacity: u32) -> Layout {
        let slots = Layout::array::<Slot<T>>(capacity as usize).expect("segment size fits");
        let (layout, _) = Layout::new::<Segment<T>>()
            .extend(slots)
            .expect("segment size fits");
        layout.pad_to_align()
    }

    /// # Safety
    /// As [`SegmentRef::head`].
    pub(crate) unsafe fn memory_bytes(self) -> usize {
        // SAFETY: the caller's promise.
        Self::layout(unsafe { self.capacity() }).size()
    }

    /// # Safety
    /// The caller owns the segment (the sweep finished), and no element in it is initialised.
    pub(crate) unsafe fn free(self) {
        #[cfg(wherry_loom)]
        {
            // Leaked on purpose: a late access must find the marks and not recycled memory.
            // SAFETY: owned.
            let head = unsafe { self.0.as_ref() };
            // SAFETY: loom stops the model if anybody looks at the same time.
            head.freed.with_mut(|freed| unsafe { *freed = true });
            for index in 0..head.capacity {
                // SAFETY: in bounds, and owned.
                unsafe { &*self.slot_pointer(index) }.mark_freed();
            }
        }
        #[cfg(not(wherry_loom))]
        {
            // SAFETY: owned, so reading the capacity is fine; neither head nor slots need dropping (the elements are gone).
            let capacity = unsafe { self.0.as_ref() }.capacity;
            // SAFETY: allocated by `allocate` with the same layout.
            unsafe { std::alloc::dealloc(self.0.as_ptr().cast(), Self::layout(capacity)) };
        }
    }

    pub(crate) fn from_pointer(pointer: *mut Segment<T>) -> Option<Self> {
        NonNull::new(pointer).map(Self)
    }

    pub(crate) fn as_pointer(self) -> *mut Segment<T> {
        self.0.as_ptr()
    }

    /// # Safety
    /// One of the four reasons of the file's head holds for `'a`.
    #[inline]
    unsafe fn head<'a>(self) -> &'a Segment<T> {
        // SAFETY: alive, by the caller's promise; the head is never written but through atomics.
        let head = unsafe { self.0.as_ref() };
        #[cfg(wherry_loom)]
        head.freed.with(|freed| {
            // SAFETY: the mark is as alive as the head (it is never freed under the model checker).
            assert!(!unsafe { *freed }, "segment used after it was freed");
        });
        head
    }

    fn slot_pointer(self, index: u32) -> *mut Slot<T> {
        // SAFETY: stays within the allocation, whose layout puts the slots at the offset of the empty array (`repr(C)`).
        unsafe {
            (&raw mut (*self.0.as_ptr()).slots)
                .cast::<Slot<T>>()
                .add(index as usize)
        }
    }

    /// # Safety
    /// As [`SegmentRef::head`], and `index < capacity`.
    #[inline]
    pub(crate) unsafe fn slot<'a>(self, index: u32) -> &'a Slot<T> {
        #[cfg(any(wherry_loom, debug_assertions))]
        {
            // SAFETY: the caller's promise.
            let head = unsafe { self.head() };
            assert!(index < head.capacity);
        }
        // SAFETY: alive and in bounds by the caller's promise; slots are only touched through atomics and cells.
        unsafe { &*self.slot_pointer(index) }
    }

    /// # Safety
    /// As [`SegmentRef::head`].
    #[inline]
    pub(crate) unsafe fn start(self) -> Position {
        // SAFETY: the caller's promise.
        unsafe { self.head() }.start
    }

    /// # Safety
    /// As [`SegmentRef::head`].
    #[inline]
    pub(crate) unsafe fn capacity(self) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { self.head() }.capacity
    }

    /// # Safety
    /// As [`SegmentRef::head`].
    #[inline]
    pub(crate) unsafe fn length(self) -> u32 {
        // Acquire: pairs with the Release in `cut`; holders of both lock bits see it through the cursors anyway.
        // SAFETY: the caller's promise.
        unsafe { self.head() }.length.load(Ordering::Acquire)
    }

    /// # Safety
    /// As [`SegmentRef::head`].
    pub(crate) unsafe fn owner(self) -> *const () {
        // SAFETY: the caller's promise.
        unsafe { self.head() }.owner
    }

    /// Cuts the segment short: slots from `length` on will never be used.
    ///
    /// # Safety
    /// The caller holds both lock bits (or the queue exclusively) and no position from `length` on was claimed.
    pub(crate) unsafe fn cut(self, length: u32) {
        // Release: pairs with the Acquire in `length`.
        // SAFETY: the caller's promise.
        unsafe { self.head() }
            .length
            .store(length, Ordering::Release);
    }

    /// # Safety
    /// As [`SegmentRef::head`].
    #[inline]
    pub(crate) unsafe fn next(self) -> Option<Self> {
        // Acquire: pairs with the Release in `link`, so that the next segment's head is readable.
        // SAFETY: the caller's promise.
        Self::from_pointer(unsafe { self.head() }.next.load(Ordering::Acquire))
    }

    /// # Safety
    /// The caller holds the tail's lock bit, and this is the tail's segment.
    pub(crate) unsafe fn link(self, next: Self) {
        // Release: pairs with the Acquire in `next`.
        // SAFETY: the caller's promise.
        unsafe { self.head() }
            .next
            .store(next.as_pointer(), Ordering::Release);
    }

    /// Sweeps from `from` on.
    ///
    /// # Safety
    /// The caller holds the baton: it moved the head past the segment, settled the slot before `from` and found the baton there,
    /// or took the segment from the `unswept`. Unless told `Finished` or `InTransit` it has lost it afterwards.
    pub(crate) unsafe fn sweep(self, from: u32) -> SweepEnd {
        // SAFETY: the baton keeps the segment alive; the head left, so the length is final.
        let length = unsafe { self.length() };
        for index in from..length {
            // SAFETY: in bounds, and the baton is ours until it is put down.
            match unsafe { self.slot(index).sweep() } {
                Swept::Settled => {}
                Swept::BatonLeft => return SweepEnd::BatonLeft,
                Swept::InTransit => {
                    // Relaxed: the stack that the segment goes to publishes it.
                    // SAFETY: the baton is still ours.
                    unsafe { self.head() }
                        .resume
                        .store(index, Ordering::Relaxed);
                    return SweepEnd::InTransit;
                }
            }
        }
        SweepEnd::Finished
    }

    /// Goes on where [`SweepEnd::InTransit`] stopped.
    ///
    /// # Safety
    /// The caller took the segment from the `unswept`.
    pub(crate) unsafe fn sweep_on(self) -> SweepEnd {
        // Relaxed: the stack's Acquire made it visible.
        // SAFETY: taking it from the stack took the baton.
        let resume = unsafe { self.head() }.resume.load(Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { self.sweep(resume) }
    }

    /// The queue is being dropped: drops what no lease holds, and frees the segment once no lease is left.
    ///
    /// # Safety
    /// No thread uses the queue any more; leases may. Called once.
    pub(crate) unsafe fn orphan(self) {
        // SAFETY: leases free the segment only after they got the baton of the sweep that begins below.
        unsafe {
            for index in 0..self.capacity() {
                self.slot(index).orphan();
            }
            self.sweep_orphan(0);
        }
    }

    /// Sweeps a dropped queue's segment from `from` on, and frees it unless a lease is in the way.
    ///
    /// # Safety
    /// The caller is `orphan` (`from` 0), or the lease that the sweep stopped at.
    pub(crate) unsafe fn sweep_orphan(self, from: u32) {
        // SAFETY: one sweeper at a time, which owns the segment but for the leases.
        let capacity = unsafe { self.capacity() };
        for index in from..capacity {
            // SAFETY: in bounds; a single sweeper.
            if unsafe { self.slot(index).sweep_orphan() } {
                return;
            }
        }
        // SAFETY: no lease left, the queue gone, every element moved out or dropped.
        unsafe { self.free() };
    }
}

/// Which link a stack uses.
#[derive(Clone, Copy)]
pub(crate) enum Link {
    Fresh,
    Chore,
}

/// A stack of segments that many threads push to and one, under the directory lock, takes whole. Lock-free; taking
/// everything at once leaves no room for the ABA problem.
pub(crate) struct SegmentStack<T> {
    /// Written by `push` and `drain`.
    top: AtomicPtr<Segment<T>>,
    link: Link,
}

impl<T> SegmentStack<T> {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            top: AtomicPtr::new(ptr::null_mut()),
            link,
        }
    }

    fn link_of(&self, segment: &Segment<T>, to: *mut Segment<T>) {
        let link = match self.link {
            Link::Fresh => &segment.fresh_link,
            Link::Chore => &segment.chore_link,
        };
        // Relaxed: published by the exchange in `push`.
        link.store(to, Ordering::Relaxed);
    }

    fn linked_to(&self, segment: &Segment<T>) -> *mut Segment<T> {
        let link = match self.link {
            Link::Fresh => &segment.fresh_link,
            Link::Chore => &segment.chore_link,
        };
        // Relaxed: acquired by the swap in `drain`.
        link.load(Ordering::Relaxed)
    }

    /// # Safety
    /// The segment is alive until it is taken out, and in no other stack with the same link.
    pub(crate) unsafe fn push(&self, segment: SegmentRef<T>) {
        // Relaxed: the exchange orders.
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: alive by the caller's promise, and not yet visible through this stack.
            self.link_of(unsafe { segment.head() }, top);
            // Release: pairs with the Acquire in `drain`.
            match self.top.compare_exchange_weak(
                top,
                segment.as_pointer(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(current) => top = current,
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a hint; where it matters the caller has a fence.
        self.top.load(Ordering::Relaxed).is_null()
    }

    /// Takes all out, the last pushed first, and gives them to `f`, which may free them.
    pub(crate) fn drain(&self, mut f: impl FnMut(SegmentRef<T>)) {
        if self.is_empty() {
            return;
        }
        // Acquire: pairs with the Release in `push`.
        let mut top = SegmentRef::from_pointer(self.top.swap(ptr::null_mut(), Ordering::AcqRel));
        while let Some(segment) = top {
            // SAFETY: segments in a stack are alive until taken out, which we do.
            top = SegmentRef::from_pointer(self.linked_to(unsafe { segment.head() }));
            f(segment);
        }
    }
}
