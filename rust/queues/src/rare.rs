//! The rare paths of [`Fifo`]: by position, over all elements, and recovery.
//!
//! `remove`, `inspect`, `browse` and `oldest_unsettled` hold the directory lock from begin to end, so they wait for each other,
//! while publishing, taking and settling go on beside them; memory of finished segments is freed when they are done. `purge` takes
//! no lock: it is a consumer like others. `restore` needs the queue for itself.

use crate::Position;
use crate::cursor::Word;
use crate::directory::Rare;
use crate::fifo::{CAPACITY_FIRST, Fifo};
use crate::slot::{Duty, Removal, SlotState};
use crate::sync::{Ordering, lock};

impl<T> Fifo<T> {
    /// Whether no consumer has claimed the position yet.
    fn is_ahead(&self, position: Position) -> bool {
        self.head.load().position() <= position
    }

    /// Takes a ready element out of the middle: settled, without a lease. `None` if it is not ready (any more).
    pub fn remove(&self, position: Position) -> Option<(T, u32)> {
        let directory = self.rare.lock();
        let (segment, index) = directory.find(position)?;
        // SAFETY: in the directory, whose lock we hold.
        let slot = unsafe { segment.slot(index) };
        // SAFETY: the directory lock is held.
        match unsafe { slot.remove(|| self.is_ahead(position)) } {
            Removal::NotReady => None,
            Removal::Removed(value, note) => {
                self.count_tombstones(1);
                Some((value, note))
            }
            Removal::IsReturned => {
                let mut returned = lock(&self.rare.returned);
                // SAFETY: both locks are held; taken off the list below.
                let (value, note, duty) = unsafe { slot.settle_returned() }?;
                returned.remove(&position);
                // Relaxed: a consumer that sees the old count finds out under the lock.
                self.returned_count.store(returned.len(), Ordering::Relaxed);
                drop(returned);
                if duty != Duty::None {
                    // SAFETY: the baton lay at the slot that we settled.
                    unsafe { self.rare.sweep(segment, index + 1) };
                }
                Some((value, note))
            }
        }
    }

    /// Shows a ready or leased element to `f`, which must be short and not call this queue: an owner who wants to settle
    /// the element waits for it. `None` if the element is neither.
    pub fn inspect<R>(
        &self,
        position: Position,
        f: impl FnOnce(SlotState, u32, &T) -> R,
    ) -> Option<R>
    where
        T: Sync,
    {
        let directory = self.rare.lock();
        let (segment, index) = directory.find(position)?;
        // SAFETY: in the directory, whose lock we hold longer than the pin.
        let pin = unsafe {
            segment
                .slot(index)
                .pin(|| self.is_ahead(position), |_| true)
        }?;
        Some(f(pin.state, pin.note, pin.value()))
    }

    /// Shows up to `max` ready elements from position `from` on to `f`, in order of position, which is their order of
    /// delivery. Says how many. `f` must not call this queue.
    pub fn browse(&self, from: Position, max: usize, mut f: impl FnMut(Position, u32, &T)) -> usize
    where
        T: Sync,
    {
        let directory = self.rare.lock();
        let mut seen = 0;
        for segment in directory.from(from) {
            // SAFETY: in the directory, whose lock we hold longer than any pin.
            let (start, length) = unsafe { (segment.start(), segment.length()) };
            let first = from.saturating_sub(start).min(length.into()) as u32;
            for index in first..length {
                if seen == max {
                    return seen;
                }
                let position = start + Position::from(index);
                // SAFETY: as above.
                let pin = unsafe {
                    segment.slot(index).pin(
                        || self.is_ahead(position),
                        |state| state == SlotState::Ready,
                    )
                };
                if let Some(pin) = pin {
                    f(position, pin.note, pin.value());
                    seen += 1;
                }
            }
        }
        seen
    }

    /// Takes out everything that is ready, in order, and says how many. What is pushed meanwhile stays.
    pub fn purge(&self, mut f: impl FnMut(Position, T, u32)) -> usize {
        let end = self.next_position();
        let mut purged = 0;
        while let Some((position, value, note)) = self.pop_before(end) {
            f(position, value, note);
            purged += 1;
        }
        purged
    }

    /// All positions below this one are settled. Scans the oldest segment; while others are at work, a lower bound.
    pub fn oldest_unsettled(&self) -> Position {
        let end = self.next_position();
        let directory = self.rare.lock();
        for segment in directory.from(0) {
            // SAFETY: in the directory, whose lock we hold.
            let (start, length) = unsafe { (segment.start(), segment.length()) };
            for index in 0..length {
                let position = start + Position::from(index);
                // SAFETY: as above.
                if position >= end || !unsafe { segment.slot(index) }.is_finished() {
                    return position.min(end);
                }
            }
        }
        end
    }

    /// Memory held by the queue itself, without what its elements point to.
    pub fn memory_bytes(&self) -> usize {
        self.rare.tidy_leftovers();
        size_of::<Self>() + size_of::<Rare<T>>() + self.rare.lock().memory_bytes()
    }

    /// Appends recovered elements at consecutive positions; `None` is a position that was settled before. A run of holes costs no
    /// more memory than the rest of the segment in which it begins.
    pub fn restore(&mut self, items: impl IntoIterator<Item = Option<(T, u32)>>) {
        let mut holes = 0;
        for item in items {
            match item {
                None => holes += 1,
                Some((value, note)) => {
                    self.restore_holes(std::mem::take(&mut holes));
                    self.push(value, note);
                }
            }
        }
        self.restore_holes(holes);
    }

    /// Appends `count` positions that were settled before.
    pub fn restore_holes(&mut self, count: u64) {
        let tail = self.tail.load();
        let position = tail.position() + count;
        if count == 0 {
            return;
        }
        if count < tail.left() {
            // Drops the claim unfilled.
            drop(self.claim(count as usize));
            return;
        }
        let head = self.head.load();
        if head.position() == tail.position() {
            // Nothing ahead of the head: both ends jump.
            self.trim();
            self.head.unlock(Word::new(position, 0), None);
            self.tail.unlock(Word::new(position, 0), None);
            return;
        }
        // Cuts the last segment where the holes begin and goes on in a new one behind them.
        let last = self
            .tail
            .segment()
            .expect("the tail is past the head, so it has a segment");
        // SAFETY: the tail's segment, exclusively ours.
        let used = (tail.position() - unsafe { last.start() }) as u32;
        if used == 0 {
            // The head cannot pass through a segment without slots; so this one keeps one hole.
            drop(self.claim(1));
            return self.restore_holes(count - 1);
        }
        // SAFETY: exclusive, and no position from here on was claimed.
        unsafe { last.cut(used) };
        let next = self.append_segment(Some(last), position, CAPACITY_FIRST);
        self.count_tombstones(count as usize);
        // SAFETY: made just now.
        self.tail
            .unlock(Word::new(position, unsafe { next.capacity() }), Some(next));
        // The head counts up to the cut, if that is its segment.
        if self.head.segment() == Some(last) {
            let left = (tail.position() - head.position()) as u32;
            self.head
                .unlock(Word::new(head.position(), left), Some(last));
        }
    }
}

impl<T> Drop for Fifo<T> {
    fn drop(&mut self) {
        let rare: &mut Rare<T> = &mut self.rare;
        for segment in rare.dissolve() {
            // SAFETY: dropped by the only owner, so nobody uses the queue any more.
            unsafe { segment.orphan() };
        }
    }
}
