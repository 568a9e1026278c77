//! Publishers between their journal record and their queue's slots, and how compaction waits for them.
//!
//! Such a message is in the journal and in no queue yet: compaction, which asks the queues what lives, would take it
//! for dead. Publishing may not take a lock, so compaction waits for publishers instead: a grace period, as in
//! sleepable read-copy-update (McKenney, "Sleepable RCU", 2006). Publishers count themselves in and out, on a counter
//! of their own stripe and of the current one of two phases; who waits changes the phase and waits until the counters
//! of the old one are all zero, twice, so that also somebody who read the phase before a change and counted after it
//! is seen by one of the two rounds.
//!
//! Whom it waits for: everybody who has a record in a segment that was sealed before `wait`. Such a publisher counted
//! itself in before it claimed its room, and its claim came before the seal, which the caller has seen; so both rounds
//! see its count until it is out. Publishers that come later are not waited for, but do no harm: their records are in
//! later segments.
//!
//! Progress: publishers are wait-free here. `wait` waits for stalled publishers, one caller at a time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const STRIPES: usize = 8;

#[repr(align(64))]
#[derive(Default)]
struct Stripe([AtomicU64; 2]);

#[derive(Default)]
pub(crate) struct InFlight {
    phase: AtomicUsize,
    stripes: [Stripe; STRIPES],
}

/// A publisher that is counted in; dropping it counts it out.
pub(crate) struct Publishing<'a>(&'a AtomicU64);

impl InFlight {
    pub(crate) fn enter(&self) -> Publishing<'_> {
        // Relaxed: a stale phase is what the second round of `wait` is for.
        let phase = self.phase.load(Ordering::Relaxed) & 1;
        let count = &self.stripes[crate::memory::shard_index() % STRIPES].0[phase];
        // Relaxed: what follows is the claim of room in the journal, a read-modify-write with Release that the sealing
        // of the segment, and thereby the caller of `wait`, has acquired.
        count.fetch_add(1, Ordering::Relaxed);
        Publishing(count)
    }

    /// Returns when everybody who has a record in a sealed segment has filled the slots for it.
    pub(crate) fn wait(&self) {
        for _ in 0..2 {
            // AcqRel: keeps the two rounds in order.
            let old = self.phase.fetch_xor(1, Ordering::AcqRel) & 1;
            for stripe in &self.stripes {
                // Acquire pairs with the Release in `drop`: the slots that were filled before are seen.
                while stripe.0[old].load(Ordering::Acquire) != 0 {
                    std::thread::yield_now();
                }
            }
        }
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release); // pairs with the Acquire in `wait`
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn waits_for_who_is_in_and_not_for_who_comes_later() {
        let in_flight = InFlight::default();
        let waited = AtomicBool::new(false);
        let first = in_flight.enter();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                in_flight.wait();
                waited.store(true, Ordering::SeqCst);
            });
            // The phase changes as soon as somebody waits; those who enter then are not waited for in that round.
            while in_flight.phase.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let later = in_flight.enter();
            assert!(!waited.load(Ordering::SeqCst));
            drop(first);
            drop(later);
        });
        assert!(waited.load(Ordering::SeqCst));
        in_flight.wait(); // nobody is in
    }

    #[test]
    fn what_was_done_inside_is_seen_after_the_wait() {
        const ROUNDS: usize = 2000;
        let in_flight = InFlight::default();
        // A publisher announces that it is in, then fills; whoever saw the announcement must see the filling.
        let claimed = AtomicUsize::new(0);
        let filled = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=ROUNDS {
                    let publishing = in_flight.enter();
                    claimed.store(n, Ordering::Release);
                    std::thread::yield_now();
                    filled.store(n, Ordering::Relaxed);
                    drop(publishing);
                }
            });
            while filled.load(Ordering::Relaxed) < ROUNDS {
                let seen = claimed.load(Ordering::Acquire);
                in_flight.wait();
                assert!(filled.load(Ordering::Relaxed) >= seen);
            }
        });
    }
}
