//! The 32 bits beside each slot: what the engine remembers of a message's past in one queue.

/// Bits 0-15: attempts that ended without an ack. Bit 16: may have been handed out before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note(pub(crate) u32);

const COUNT_MASK: u32 = 0xffff;
const REDELIVERED: u32 = 1 << 16;

impl Note {
    pub(crate) fn delivery_count(self) -> u32 {
        self.0 & COUNT_MASK
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
        let count = (self.delivery_count() + 1).min(COUNT_MASK);
        Note((self.0 & !COUNT_MASK) | count | REDELIVERED)
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
    }
}
