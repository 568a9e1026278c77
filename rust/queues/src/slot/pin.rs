//! An inspector's hold on a slot's element.

use crate::slot::word::{PINNED, Word};
use crate::slot::{Slot, SlotState};
use crate::sync::Ordering;

/// A pinned slot; unpins on drop, also when the inspector panics.
pub(crate) struct Pin<'a, T> {
    pub(super) slot: &'a Slot<T>,
    pub(crate) state: SlotState,
    pub(crate) note: u32,
    pub(super) after: PinnedIn,
}

#[derive(Clone, Copy)]
pub(super) enum PinnedIn {
    /// HELD; goes back to this word.
    Held(Word),
    /// Another state, with PINNED set.
    Flag,
}

impl<T> Pin<'_, T> {
    pub(crate) fn value(&self) -> &T {
        // SAFETY: pinned.
        unsafe { self.slot.value() }
    }
}

impl<T> Drop for Pin<'_, T> {
    fn drop(&mut self) {
        match self.after {
            // Release: pairs with the Acquire in `arrived`; our reads precede the element's end.
            PinnedIn::Held(word) => self.slot.word.store(word.0, Ordering::Release),
            // Release: pairs with the Acquire in `settle_inspected`, to the same end.
            PinnedIn::Flag => {
                self.slot.word.fetch_and(!PINNED, Ordering::Release);
            }
        }
    }
}
