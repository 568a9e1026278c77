//! The token of one leased slot.

use crate::Position;
use crate::segment::SegmentRef;
use crate::slot::Duty;
use std::fmt;
use std::mem::ManuallyDrop;

/// The only right to one leased element: there is never a second token for the same slot, hence no fencing.
///
/// Give it back with `settle` or `requeue` of the queue that it came from. A lease that is merely dropped leaves its element
/// leased until the queue itself is dropped. A lease may outlive its queue; `value` goes on working.
#[must_use = "a dropped lease leaves its element leased; settle or requeue it"]
pub struct Lease<T> {
    segment: SegmentRef<T>,
    note: u32,
    index: u16,
    level: u8,
}

// SAFETY: owns the element in its slot as a `Box` would; sending the lease sends the element.
unsafe impl<T: Send> Send for Lease<T> {}
// SAFETY: shares `&T` only.
unsafe impl<T: Send + Sync> Sync for Lease<T> {}

impl<T> Lease<T> {
    /// # Safety
    /// The caller has just made the slot LEASED.
    #[inline]
    pub(crate) unsafe fn new(segment: SegmentRef<T>, index: u32, note: u32, level: u8) -> Self {
        debug_assert!(index <= u32::from(u16::MAX));
        Self {
            segment,
            note,
            index: index as u16,
            level,
        }
    }

    /// Where the element stands in its queue (in its lane, for a priority queue).
    pub fn position(&self) -> Position {
        // SAFETY: our unsettled slot keeps the segment alive.
        unsafe { self.segment.start() + Position::from(self.index) }
    }

    /// The note as it was when the element was taken.
    pub fn note(&self) -> u32 {
        self.note
    }

    /// The priority level of the element's lane; 0 for a plain queue.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The element.
    pub fn value(&self) -> &T {
        // SAFETY: leased by us, and nobody moves it out while the lease is borrowed.
        unsafe { self.segment.slot(self.index.into()).value() }
    }

    /// Identity of the queue that the lease came from.
    pub(crate) fn owner(&self) -> *const () {
        // SAFETY: our unsettled slot keeps the segment alive.
        unsafe { self.segment.owner() }
    }

    /// The slot, without the lease's `Drop`.
    pub(crate) fn into_slot(self) -> (SegmentRef<T>, u32) {
        let lease = ManuallyDrop::new(self);
        (lease.segment, lease.index.into())
    }

    /// Moves the element out. The second part is set if the segment's sweep is now the caller's to continue.
    #[inline]
    pub(crate) fn settle(self) -> (T, Option<Baton<T>>) {
        let (segment, index) = self.into_slot();
        // SAFETY: leased by us; the token is gone.
        let (value, duty) = unsafe { segment.slot(index).settle() };
        match duty {
            Duty::None => (value, None),
            Duty::Sweep => (
                value,
                Some(Baton {
                    segment,
                    from: index + 1,
                }),
            ),
            Duty::SweepOrphan => {
                // SAFETY: the dropped queue's sweep stopped at our slot.
                unsafe { segment.sweep_orphan(index + 1) };
                (value, None)
            }
        }
    }
}

/// The right and duty to continue a segment's sweep.
pub(crate) struct Baton<T> {
    pub(crate) segment: SegmentRef<T>,
    pub(crate) from: u32,
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        let index = u32::from(self.index);
        // SAFETY: leased by us; the token ends here.
        unsafe {
            if self.segment.slot(index).abandon() == Duty::SweepOrphan {
                self.segment.sweep_orphan(index + 1);
            }
        }
    }
}

impl<T> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("level", &self.level)
            .field("position", &self.position())
            .field("note", &self.note)
            .finish()
    }
}
