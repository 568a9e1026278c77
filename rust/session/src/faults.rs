//! Faults on purpose, for tests of applications: does the publisher cope with a nack, the consumer with a duplicate?
//!
//! Off, each question costs one relaxed load. Counts are shared by all sessions of the server; which session meets the
//! fault is not promised when several are busy.

use std::sync::atomic::{AtomicU64, Ordering};

/// Faults that wait to happen.
#[derive(Debug, Default)]
pub struct Faults {
    /// Relaxed: a count that nothing else hangs on.
    refused_confirms: AtomicU64,
    /// Relaxed, as above.
    duplicates: AtomicU64,
}

fn take_one(count: &AtomicU64) -> bool {
    count.load(Ordering::Relaxed) != 0
        && count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
}

impl Faults {
    /// The next `n` confirms are nacks, although the messages were taken. Replaces an earlier wish.
    pub fn refuse_confirms(&self, n: u64) {
        self.refused_confirms.store(n, Ordering::Relaxed);
    }

    /// The next `n` deliveries are each followed by a duplicate flagged as redelivered. Replaces an earlier wish.
    pub fn deliver_twice(&self, n: u64) {
        self.duplicates.store(n, Ordering::Relaxed);
    }

    /// A session asks before it confirms: whether this one is to be a nack.
    #[inline]
    pub fn take_refused_confirm(&self) -> bool {
        take_one(&self.refused_confirms)
    }

    /// A session asks when it delivers: whether a duplicate is to follow.
    #[inline]
    pub fn take_duplicate(&self) -> bool {
        take_one(&self.duplicates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_granted_as_often_as_it_was_made() {
        let faults = Faults::default();
        assert!(!faults.take_refused_confirm());
        faults.refuse_confirms(2);
        faults.deliver_twice(1);
        let confirms: Vec<bool> = (0..3).map(|_| faults.take_refused_confirm()).collect();
        let duplicates: Vec<bool> = (0..2).map(|_| faults.take_duplicate()).collect();
        assert_eq!(confirms, [true, true, false]);
        assert_eq!(duplicates, [true, false]);
        faults.refuse_confirms(5);
        faults.refuse_confirms(0);
        assert!(!faults.take_refused_confirm());
    }
}
