//! What a queue needs rarely: the way from a position to its segment, the requeued elements, the end of segments.
//!
//! The directory is a sorted list of all live segments under a short lock, which publish, take and settle never *wait*
//! for: new segments come to it over a lock-free stack (`fresh`), finished ones over another (`retired`), and whoever
//! finishes one only tries the lock. If it is taken, its holder looks at the stack after letting go. Freeing under the lock is what
//! lets a holder look into any segment of the directory without owning a slot there.
//!
//! Lock order: directory, then `returned`.

use crate::Position;
use crate::segment::{Link, SegmentRef, SegmentStack, SweepEnd};
use crate::sync::{Mutex, MutexGuard, Ordering, fence, lock, try_lock};
use std::collections::{BTreeMap, VecDeque};

pub(crate) struct Directory<T> {
    /// By start position, ascending. An empty segment (cut to nothing) may share its start with the one after it.
    segments: VecDeque<(Position, SegmentRef<T>)>,
}

impl<T> Directory<T> {
    /// The segment that has the position, and the index in it.
    pub(crate) fn find(&self, position: Position) -> Option<(SegmentRef<T>, u32)> {
        let after = self
            .segments
            .partition_point(|&(start, _)| start <= position);
        let (start, segment) = *self.segments.get(after.checked_sub(1)?)?;
        let index = position - start;
        // SAFETY: in the directory, under its lock (`self` is only reachable through the guard).
        let length = unsafe { segment.length() };
        (index < u64::from(length)).then_some((segment, index as u32))
    }

    /// Segments that may have positions from `from` on, in order.
    pub(crate) fn from(&self, from: Position) -> impl Iterator<Item = SegmentRef<T>> + '_ {
        let after = self.segments.partition_point(|&(start, _)| start <= from);
        self.segments
            .range(after.saturating_sub(1)..)
            .map(|&(_, segment)| segment)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        // SAFETY: in the directory, under its lock.
        self.segments
            .iter()
            .map(|&(_, segment)| unsafe { segment.memory_bytes() })
            .sum()
    }

    fn absorb(&mut self, fresh: &SegmentStack<T>) {
        let known = self.segments.len();
        fresh.drain(|segment| {
            // SAFETY: segments are freed by holders of the lock only, after absorbing.
            self.segments
                .push_back((unsafe { segment.start() }, segment));
        });
        // They came last first; all of them start at or after the end of those known.
        let (mut low, mut high) = (known, self.segments.len());
        while low + 1 < high {
            high -= 1;
            self.segments.swap(low, high);
            low += 1;
        }
    }

    fn forget(&mut self, segment: SegmentRef<T>) {
        // SAFETY: finished, and owned by the caller.
        let start = unsafe { segment.start() };
        let mut index = self.segments.partition_point(|&(other, _)| other < start);
        while self.segments[index].1 != segment {
            index += 1;
        }
        self.segments.remove(index);
        if self.segments.is_empty() {
            self.segments = VecDeque::new(); // the queue gave its only segment back: it is idle
        } else if self.segments.len() * 4 < self.segments.capacity() && self.segments.capacity() > 8
        {
            self.segments.shrink_to(self.segments.len() * 2);
        }
    }
}

/// Requeued elements by position. An entry exists exactly as long as the slot is RETURNED, which keeps its segment alive.
pub(crate) type Returned<T> = BTreeMap<Position, (SegmentRef<T>, u32)>;

pub(crate) struct Rare<T> {
    directory: Mutex<Directory<T>>,
    pub(crate) returned: Mutex<Returned<T>>,
    fresh: SegmentStack<T>,
    retired: SegmentStack<T>,
    unswept: SegmentStack<T>,
}

impl<T> Rare<T> {
    pub(crate) fn new() -> Self {
        Self {
            directory: Mutex::new(Directory {
                segments: VecDeque::new(),
            }),
            returned: Mutex::new(BTreeMap::new()),
            fresh: SegmentStack::new(Link::Fresh),
            retired: SegmentStack::new(Link::Chore),
            unswept: SegmentStack::new(Link::Chore),
        }
    }

    /// What segments of this queue carry as their owner.
    pub(crate) fn identity(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    /// # Safety
    /// The segment was just allocated; the caller holds the tail's lock bit and has not let the segment be seen.
    pub(crate) unsafe fn announce(&self, segment: SegmentRef<T>) {
        // SAFETY: alive until a holder of the directory lock frees it.
        unsafe { self.fresh.push(segment) };
    }

    /// Waits for the directory.
    pub(crate) fn lock(&self) -> DirectoryGuard<'_, T> {
        let mut directory = lock(&self.directory);
        directory.absorb(&self.fresh);
        DirectoryGuard {
            rare: self,
            directory: Some(directory),
        }
    }

    /// Goes on with a sweep; frees the segment if it is finished. Does not wait.
    ///
    /// # Safety
    /// The caller holds the segment's baton, and all slots before `from` are settled.
    #[cold]
    pub(crate) unsafe fn sweep(&self, segment: SegmentRef<T>, from: u32) {
        // SAFETY: the caller's promise.
        match unsafe { segment.sweep(from) } {
            SweepEnd::Finished => {
                // SAFETY: ours, and taken out only to be freed.
                unsafe { self.retired.push(segment) };
                self.tidy();
            }
            // SAFETY: ours, and taken out only to go on sweeping.
            SweepEnd::InTransit => unsafe { self.unswept.push(segment) },
            SweepEnd::BatonLeft => {}
        }
    }

    /// Frees what is finished, unless another thread is at it, which then does it for us.
    fn tidy(&self) {
        loop {
            // Either we see the lock free, or its holder, who fences here after unlocking, sees what we pushed.
            fence(Ordering::SeqCst);
            if self.retired.is_empty() {
                return;
            }
            let Some(mut directory) = try_lock(&self.directory) else {
                return;
            };
            self.tidy_locked(&mut directory);
        }
    }

    /// Takes up sweeps that stopped at slots in transit. Called where a consumer finds nothing to do.
    pub(crate) fn tidy_leftovers(&self) {
        if !self.unswept.is_empty() {
            let Some(mut directory) = try_lock(&self.directory) else {
                return;
            };
            self.tidy_locked(&mut directory);
            drop(directory);
            self.tidy();
        }
    }

    /// The segments of a queue that is being dropped.
    pub(crate) fn dissolve(&mut self) -> impl Iterator<Item = SegmentRef<T>> + use<T> {
        self.tidy();
        let mut directory = lock(&self.directory);
        directory.absorb(&self.fresh);
        std::mem::take(&mut directory.segments)
            .into_iter()
            .map(|(_, segment)| segment)
    }

    fn tidy_locked(&self, directory: &mut Directory<T>) {
        let free = |directory: &mut Directory<T>, segment: SegmentRef<T>| {
            // Before `forget`: it was announced before it could finish, so it is in the directory afterwards.
            directory.absorb(&self.fresh);
            directory.forget(segment);
            // SAFETY: finished, so no element is left; out of the directory, whose lock we hold, so nobody looks.
            unsafe { segment.free() };
        };
        self.retired.drain(|segment| free(directory, segment));
        self.unswept.drain(|segment| {
            // SAFETY: taken from the unswept, so the baton is ours.
            match unsafe { segment.sweep_on() } {
                SweepEnd::Finished => free(directory, segment),
                // SAFETY: as above; it was taken out.
                SweepEnd::InTransit => unsafe { self.unswept.push(segment) },
                SweepEnd::BatonLeft => {}
            }
        });
    }
}

/// The locked directory. Letting go of it frees what was finished meanwhile.
pub(crate) struct DirectoryGuard<'a, T> {
    rare: &'a Rare<T>,
    directory: Option<MutexGuard<'a, Directory<T>>>,
}

impl<T> std::ops::Deref for DirectoryGuard<'_, T> {
    type Target = Directory<T>;

    fn deref(&self) -> &Directory<T> {
        self.directory.as_ref().expect("locked until dropped")
    }
}

impl<T> std::ops::DerefMut for DirectoryGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut Directory<T> {
        self.directory.as_mut().expect("locked until dropped")
    }
}

impl<T> Drop for DirectoryGuard<'_, T> {
    fn drop(&mut self) {
        self.directory = None;
        self.rare.tidy();
    }
}
