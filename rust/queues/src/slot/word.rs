//! A slot's word: state, flags and note. What they mean and who may change them stands at the head of `slot.rs`.

pub(super) const EMPTY: u64 = 0;
pub(super) const READY: u64 = 1;
pub(super) const RETURNED: u64 = 2;
pub(super) const LEASED: u64 = 3;
pub(super) const REMOVED: u64 = 4;
pub(super) const SETTLED: u64 = 5;
pub(super) const HELD: u64 = 6;
pub(super) const STATE_MASK: u64 = 0b111;
/// Under the model checker: the slot's segment was freed.
#[cfg(wherry_loom)]
pub(super) const FREED: u64 = 7;

pub(super) const PINNED: u64 = 1 << 3;
pub(super) const INSPECTED: u64 = 1 << 4;
pub(super) const OWNED: u64 = 1 << 5;
pub(super) const BATON: u64 = 1 << 6;
pub(super) const ABANDONED: u64 = 1 << 7;
pub(super) const ORPHAN: u64 = 1 << 8;
pub(super) const ORPHAN_BATON: u64 = 1 << 9;

pub(super) const NOTE_SHIFT: u32 = 32;

/// A loaded copy of a slot's word: `note` in bits 63..32, flags in 9..3, state in 2..0.
#[derive(Clone, Copy)]
pub(super) struct Word(pub(super) u64);

impl Word {
    #[inline]
    pub(super) fn state(self) -> u64 {
        #[cfg(wherry_loom)]
        assert_ne!(
            self.0 & STATE_MASK,
            FREED,
            "slot used after its segment was freed"
        );
        self.0 & STATE_MASK
    }

    #[inline]
    pub(super) fn has(self, flags: u64) -> bool {
        self.0 & flags != 0
    }

    #[inline]
    pub(super) fn note(self) -> u32 {
        (self.0 >> NOTE_SHIFT) as u32
    }

    #[inline]
    pub(super) fn with_state(self, state: u64) -> u64 {
        (self.0 & !STATE_MASK) | state
    }

    #[inline]
    pub(super) fn with_state_and_note(self, state: u64, note: u32) -> u64 {
        (self.with_state(state) & u64::from(u32::MAX)) | (u64::from(note) << NOTE_SHIFT)
    }

    #[inline]
    pub(super) fn duty(self) -> Duty {
        debug_assert!(matches!(self.state(), LEASED | RETURNED | REMOVED));
        #[cfg(wherry_loom)]
        self.state();
        if !self.has(BATON | ORPHAN) {
            Duty::None
        } else if !self.has(ORPHAN) {
            Duty::Sweep
        } else if self.has(ORPHAN_BATON) {
            Duty::SweepOrphan
        } else {
            Duty::None
        }
    }
}

/// What the thread that settled a slot owes to the slot's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Duty {
    /// Nothing; the segment may be gone already.
    None,
    /// The baton of the sweep is ours: the segment lives until we pass it on.
    Sweep,
    /// As `Sweep`, and the queue is gone: the last one frees the segment.
    SweepOrphan,
}
