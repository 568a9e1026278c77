//! The 32 bits beside each slot: what the engine remembers of a message's past in one queue.

/// Bits 0-15: attempts that failed. Bit 16: may have been handed out before. Bits 17-31: deliveries that were lost with
/// their consumer, counted in queues with a delivery limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note(pub(crate) u32);

const COUNT_MASK: u32 = 0xffff;
const REDELIVERED: u32 = 1 << 16;
const LOST_SHIFT: u32 = 17;
const LOST_MAX: u32 = u32::MAX >> LOST_SHIFT;

impl Note {
    /// Attempts that failed or were lost.
    pub(crate) fn delivery_count(self) -> u32 {
        self.failures() + self.losses()
    }

    /// What a retry policy counts.
    pub(crate) fn failures(self) -> u32 {
        self.0 & COUNT_MASK
    }

    fn losses(self) -> u32 {
        self.0 >> LOST_SHIFT
    }

    pub(crate) fn redelivered(self) -> bool {
        self.0 & REDELIVERED != 0
    }

    /// Handed out and returned without a verdict.
    #[must_use]
    pub(crate) fn returned(self) -> Note {
        Note(self.0 | REDELIVERED)
    }

    /// Handed out, and the attempt failed. Stops counting at 65,535.
    #[must_use]
    pub(crate) fn failed(self) -> Note {
        let count = (self.failures() + 1).min(COUNT_MASK);
        Note((self.0 & !COUNT_MASK) | count | REDELIVERED)
    }

    /// Handed out, and its consumer went away. Stops counting at 32,767.
    #[must_use]
    pub(crate) fn lost(self) -> Note {
        let count = (self.losses() + 1).min(LOST_MAX);
        Note((self.0 & (COUNT_MASK | REDELIVERED)) | count << LOST_SHIFT | REDELIVERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_saturates() {
        let note = Note::default();
        assert!(!note.redelivered() && note.returned().redelivered());
        assert_eq!(note.returned().delivery_count(), 0);
        assert_eq!(note.failed().failed().delivery_count(), 2);
        assert_eq!(Note(COUNT_MASK).failed().delivery_count(), COUNT_MASK);
        let both = note.failed().lost().lost();
        assert!(both.redelivered());
        assert_eq!((both.failures(), both.delivery_count()), (1, 3));
        assert_eq!(Note(u32::MAX).lost(), Note(u32::MAX));
    }
}
