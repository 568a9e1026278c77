//! Two small bitmaps that together find the lowest ready position of any number of positions: one inside a segment, one over
//! segments.
//!
//! [`SlotBits`] has a bit for each of the 256 slots of a segment and lies in the segment itself, where the slot's
//! neighbours are in the cache already. [`SparseBits`] has a bit for each segment number that has any: words of 64 in an
//! ordered map, so that numbers may be far apart (a straggler, a hole after recovery) and memory follows the bits that are
//! set. Ten million positions are 40,000 segments or 625 words: two nodes deep.
//!
//! Plain structures: no sharing, no atomics. Nothing is promised about anything but the bits.

use std::collections::BTreeMap;

/// One bit for each slot of a segment.
#[derive(Clone, Default)]
pub(crate) struct SlotBits {
    words: [u64; 4],
}

impl SlotBits {
    pub(crate) fn set(&mut self, slot: u8) {
        self.words[usize::from(slot / 64)] |= 1 << (slot % 64);
    }

    pub(crate) fn clear(&mut self, slot: u8) {
        self.words[usize::from(slot / 64)] &= !(1 << (slot % 64));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words == [0; 4]
    }

    /// Writes the slots whose bits are set to `slots`, the lowest first, and says how many.
    pub(crate) fn list(&self, slots: &mut [u8; 256]) -> usize {
        let mut count = 0;
        for (index, &word) in (0..4u8).zip(&self.words) {
            let mut word = word;
            while word != 0 {
                slots[count] = index * 64 + word.trailing_zeros() as u8;
                count += 1;
                word &= word - 1;
            }
        }
        count
    }

    /// The lowest bit that is set.
    pub(crate) fn first(&self) -> Option<u8> {
        let index = self.words.iter().position(|&word| word != 0)?;
        // At most 3 * 64 + 63.
        Some((index as u32 * 64 + self.words[index].trailing_zeros()) as u8)
    }
}

/// A set of numbers of any size, with the lowest at hand.
#[derive(Default)]
pub(crate) struct SparseBits {
    /// By number / 64; a word that is zero is not kept.
    words: BTreeMap<u64, u64>,
}

impl SparseBits {
    pub(crate) fn set(&mut self, number: u64) {
        *self.words.entry(number / 64).or_insert(0) |= 1 << (number % 64);
    }

    pub(crate) fn clear(&mut self, number: u64) {
        if let Some(word) = self.words.get_mut(&(number / 64)) {
            *word &= !(1 << (number % 64));
            if *word == 0 {
                self.words.remove(&(number / 64));
            }
        }
    }

    /// The lowest number in the set.
    pub(crate) fn first(&self) -> Option<u64> {
        let (&index, word) = self.words.first_key_value()?;
        Some(index * 64 + u64::from(word.trailing_zeros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn slot_bits_are_a_set(steps in prop::collection::vec((any::<bool>(), any::<u8>()), 0..600)) {
            let mut bits = SlotBits::default();
            let mut model = BTreeSet::new();
            for (set, slot) in steps {
                if set {
                    bits.set(slot);
                    model.insert(slot);
                } else {
                    bits.clear(slot);
                    model.remove(&slot);
                }
                prop_assert_eq!(bits.first(), model.first().copied());
                prop_assert_eq!(bits.is_empty(), model.is_empty());
                let mut slots = [0; 256];
                let count = bits.list(&mut slots);
                prop_assert!(slots[..count].iter().eq(&model));
            }
        }

        #[test]
        fn sparse_bits_are_a_set_and_keep_no_empty_word(steps in prop::collection::vec((any::<bool>(), 0u64..200, any::<bool>()), 0..400)) {
            let mut bits = SparseBits::default();
            let mut model = BTreeSet::new();
            for (set, number, far) in steps {
                let number = if far { u64::MAX - number } else { number };
                if set {
                    bits.set(number);
                    model.insert(number);
                } else {
                    bits.clear(number);
                    model.remove(&number);
                }
                prop_assert_eq!(bits.first(), model.first().copied());
                let words: BTreeSet<u64> = model.iter().map(|number| number / 64).collect();
                prop_assert!(bits.words.keys().eq(words.iter()));
            }
        }
    }
}
