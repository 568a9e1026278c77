//! Entities whose updates are to be applied one after the other: which update is of which, and who has one in his hands.
//!
//! Every producer has entities of its own, so that an entity's updates have the order of their sequence numbers. All
//! consumers of a run share one [`Entities`], as an entity's next update may come to another consumer:
//!
//! - *out of order*: an update behind a later one of its entity, and not redelivered.
//! - *overlapping*: an update of an entity of which another consumer has one that it has not acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::body::Stamp;

/// Their numbers are routing keys of so many digits.
pub(crate) const ENTITY_DIGITS: usize = 8;

/// Which entity each update is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw {
    /// Entities by producer.
    each: u32,
}

impl Draw {
    /// `entities` in all, of `producers`; what does not divide evenly is left out.
    pub(crate) fn new(entities: u32, producers: u32) -> Draw {
        Draw {
            each: entities / producers,
        }
    }

    /// The entity of a producer's update, drawn evenly; the same each time it is asked.
    #[inline]
    pub(crate) fn entity(self, producer: u32, sequence: u64) -> u32 {
        // The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
        let mut bits = sequence.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        producer * self.each + (bits % u64::from(self.each)) as u32
    }
}

/// An entity's number, of one length.
#[inline]
pub(crate) fn digits(mut entity: u32) -> [u8; ENTITY_DIGITS] {
    let mut digits = [b'0'; ENTITY_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += (entity % 10) as u8;
        entity /= 10;
    }
    digits
}

#[derive(Debug, Default)]
struct Entity {
    /// One more than the last sequence number, 0 before the first.
    next: AtomicU64,
    /// One more than the consumer that has an update of it, 0 if none has.
    holder: AtomicU32,
}

/// Where all entities of a run stand.
#[derive(Debug)]
pub(crate) struct Entities {
    draw: Draw,
    entities: Box<[Entity]>,
}

impl Entities {
    pub(crate) fn new(entities: u32, producers: u32) -> Entities {
        Entities {
            draw: Draw::new(entities, producers),
            entities: (0..entities).map(|_| Entity::default()).collect(),
        }
    }
}

/// The updates that one consumer has in its hands.
#[derive(Debug)]
pub(crate) struct Hands {
    entities: Arc<Entities>,
    /// One more than its number.
    consumer: u32,
    held: Vec<u32>,
    pub(crate) out_of_order: u64,
    pub(crate) overlapping: u64,
}

impl Hands {
    pub(crate) fn new(entities: Arc<Entities>, consumer: u32) -> Hands {
        Hands {
            entities,
            consumer: consumer + 1,
            held: Vec::new(),
            out_of_order: 0,
            overlapping: 0,
        }
    }

    /// An update came, of a producer and with a number that there are.
    #[inline]
    pub(crate) fn take(&mut self, stamp: Stamp, redelivered: bool) {
        let number = self.entities.draw.entity(stamp.producer, stamp.sequence);
        let entity = &self.entities.entities[number as usize];
        // Acquire: pairs with the Release in `let_go`, so that who takes over sees the other's `next`.
        let holder = entity.holder.swap(self.consumer, Ordering::Acquire);
        self.overlapping += u64::from(holder != 0 && holder != self.consumer);
        let next = entity.next.fetch_max(stamp.sequence + 1, Ordering::Relaxed);
        self.out_of_order += u64::from(next > stamp.sequence && !redelivered);
        self.held.push(number);
    }

    /// All that came is about to be acknowledged: from the moment the server knows, another consumer may have the next.
    #[inline]
    pub(crate) fn let_go(&mut self) {
        for number in self.held.drain(..) {
            let holder = &self.entities.entities[number as usize].holder;
            // Release: pairs with the Acquire in `take`. Only its own: with a fault, another may have it.
            let _ = holder.compare_exchange(self.consumer, 0, Ordering::Release, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u64) -> Stamp {
        Stamp {
            run: 0,
            producer: 0,
            sequence,
        }
    }

    /// Two consumers of one entity.
    fn two() -> (Hands, Hands) {
        let entities = Arc::new(Entities::new(1, 1));
        (
            Hands::new(Arc::clone(&entities), 0),
            Hands::new(entities, 1),
        )
    }

    #[test]
    fn producers_have_entities_of_their_own_and_use_all() {
        let draw = Draw::new(30, 3);
        let drawn = |producer| -> std::collections::BTreeSet<u32> {
            (0..1000).map(|n| draw.entity(producer, n)).collect()
        };
        assert_eq!(drawn(0), (0..10).collect());
        assert_eq!(drawn(2), (20..30).collect());
    }

    #[test]
    fn a_number_has_its_digits() {
        assert_eq!(digits(0), *b"00000000");
        assert_eq!(digits(12_345_678), *b"12345678");
        assert_eq!(digits(99), *b"00000099");
    }

    #[test]
    fn order_is_by_entity_whoever_gets_it() {
        let (mut one, mut other) = two();
        one.take(stamp(0), false);
        one.let_go();
        other.take(stamp(2), false);
        other.let_go();
        one.take(stamp(1), true);
        assert_eq!((one.out_of_order, other.out_of_order), (0, 0));
        one.take(stamp(1), false);
        assert_eq!((one.out_of_order, one.overlapping), (1, 0));
    }

    #[test]
    fn two_consumers_do_not_have_updates_of_one_entity() {
        let (mut one, mut other) = two();
        one.take(stamp(0), false);
        one.take(stamp(1), false);
        assert_eq!(one.overlapping, 0, "both are its own");
        other.take(stamp(2), false);
        assert_eq!(other.overlapping, 1);
        one.let_go();
        one.take(stamp(3), false);
        assert_eq!(one.overlapping, 1, "the other has it");
    }
}
