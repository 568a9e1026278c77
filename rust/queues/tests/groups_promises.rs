//! The promises of message groups one by one, and many threads at once.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use wherry_queues::groups::{Groups, SharedGroups};

#[test]
fn a_kept_lease_blocks_its_group_and_no_other() {
    let mut groups = Groups::new();
    for number in 0..4 {
        groups.push(Some(1), number, 0);
        groups.push(Some(2), number, 0);
    }
    let kept = groups.take().unwrap();
    for expected in [1, 3, 5, 7] {
        let lease = groups.take().unwrap();
        assert_eq!(lease.position(), expected);
        groups.settle(lease);
    }
    assert!(groups.take().is_none());
    groups.requeue(kept, 9);
    let again = groups.take().unwrap();
    assert_eq!((again.position(), again.note()), (0, 9));
    assert!(groups.take().is_none());
    groups.settle(again);
    assert_eq!(groups.take().unwrap().position(), 2);
}

#[test]
fn a_claim_blocks_its_own_group_until_it_is_filled_or_dropped() {
    let queue = SharedGroups::new();
    let claim = queue.claim([Some(1), Some(2), Some(1)]);
    assert_eq!(
        (claim.first(), claim.len(), claim.is_empty()),
        (0, 3, false)
    );
    assert_eq!(queue.push(Some(1), 3, 0), 3);
    assert_eq!(queue.push(Some(3), 4, 0), 4);
    assert_eq!(queue.take().unwrap().position(), 4);
    assert!(queue.take().is_none());
    // Only the first two are filled: the third is given up.
    claim.fill([(0, 7), (1, 8)]);
    let first = queue.take().unwrap();
    let second = queue.take().unwrap();
    assert_eq!(
        (
            first.position(),
            first.note(),
            second.position(),
            second.note()
        ),
        (0, 7, 1, 8)
    );
    assert!(queue.take().is_none());
    queue.settle(first);
    assert_eq!(queue.take().unwrap().position(), 3);

    drop(queue.claim([Some(5)]));
    assert_eq!((queue.claimed(), queue.remove(5)), (0, None));
    assert_eq!(queue.groups(), 3);
}

#[test]
fn items_that_panic_give_the_rest_of_the_claim_up() {
    let queue = SharedGroups::new();
    let claim = queue.claim([Some(1), Some(1), Some(1)]);
    let items = [0, 1, 2].into_iter().map(|number| {
        assert_ne!(number, 1, "on purpose");
        (number, 0)
    });
    assert!(catch_unwind(AssertUnwindSafe(|| claim.fill(items))).is_err());
    assert_eq!((queue.len(), queue.claimed()), (1, 0));
}

#[test]
fn each_message_is_dropped_once() {
    let token = Arc::new(());
    let queue = SharedGroups::new();
    queue.push_batch((0..1000).map(|number| (Some(number % 7), Arc::clone(&token), 0)));
    let mut leases = Vec::new();
    assert_eq!(queue.take_batch(100, &mut leases), 7);
    let mut settled = Vec::new();
    let rest = leases.split_off(4);
    queue.settle_batch(&mut leases, &mut settled);
    assert_eq!((settled.len(), leases.len()), (4, 0));
    leases = rest;
    drop(settled);
    // In the queue, and once more in each lease.
    assert_eq!(Arc::strong_count(&token), 1 + 996 + 3);
    assert_eq!(queue.purge(|_, _, _| ()), 993);
    assert_eq!(Arc::strong_count(&token), 1 + 3 + 3);
    drop(queue);
    drop(leases);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
#[should_panic(expected = "a lease goes back to the queue that gave it")]
fn a_lease_of_another_queue_is_refused() {
    let (mut one, mut other) = (Groups::new(), Groups::new());
    one.push(None, 0, 0);
    other.push(None, 0, 0);
    other.settle(one.take().unwrap());
}

#[test]
#[should_panic(expected = "positions only grow")]
fn a_position_is_never_used_twice() {
    let mut groups = Groups::starting_at(10);
    groups.restore([(12, None, "twelve", 0), (12, None, "again", 0)]);
}

/// Many groups make the table of tails split and, as they go, shrink; a second life must look like the first.
#[test]
fn a_hundred_thousand_groups_come_and_go_twice() {
    const KEYS: u64 = 100_000;
    let mut groups = Groups::new();
    for _ in 0..2 {
        for round in 0..3 {
            for key in 0..KEYS {
                groups.push(Some(key * 0x9E37), (key, round), 0);
            }
        }
        assert_eq!(
            (groups.groups(), groups.ready(), groups.len()),
            (100_000, 100_000, 300_000)
        );
        let mut leases = Vec::new();
        for round in 0..3 {
            assert_eq!(groups.take_batch(usize::MAX, &mut leases), 100_000);
            for (lease, key) in leases.drain(..).zip(0..KEYS) {
                assert_eq!(*lease.value(), (key, round));
                groups.settle(lease);
            }
        }
        assert_eq!((groups.groups(), groups.len()), (0, 0));
    }
}

/// Producers and consumers at once: each message exactly once, each group in order, never two of a group in flight.
#[test]
fn two_threads_keep_each_group_in_order() {
    const KEYS: u64 = 96;
    const EACH: u64 = 60_000;
    const BATCH: u64 = 50;
    let queue = SharedGroups::new();
    // For each key the number that must come next, and whether one is in flight.
    let expected: Vec<_> = (0..KEYS).map(|_| Mutex::new((0u64, false))).collect();
    let settled = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (queue, expected, settled) = (&queue, &expected, &settled);
            scope.spawn(move || {
                let mut sequences: HashMap<u64, u64> = HashMap::new();
                let mut leases = Vec::new();
                let mut pushed = 0;
                // Relaxed: a count; the queue orders the rest.
                while settled.load(Ordering::Relaxed) < 2 * EACH {
                    if pushed < EACH {
                        // Each thread has its own keys, even or odd, so it knows their order.
                        let keys = (pushed..pushed + BATCH)
                            .map(|index| index * 31 % (KEYS / 2) * 2 + thread);
                        let claim = queue.claim(keys.clone().map(Some));
                        claim.fill(keys.map(|key| {
                            let sequence = sequences.entry(key).or_insert(0);
                            *sequence += 1;
                            ((key, *sequence - 1), 0)
                        }));
                        pushed += BATCH;
                    }
                    queue.take_batch(20, &mut leases);
                    for lease in leases.drain(..) {
                        let (key, sequence) = *lease.value();
                        {
                            let mut state = expected[key as usize].lock();
                            assert_eq!(*state, (sequence, false), "key {key}");
                            state.1 = true;
                        }
                        // Each tenth message fails once.
                        let done = lease.note() > 0 || sequence % 10 != 0;
                        *expected[key as usize].lock() = (sequence + u64::from(done), false);
                        if done {
                            queue.settle(lease);
                            settled.fetch_add(1, Ordering::Relaxed);
                        } else {
                            queue.requeue(lease, 1);
                        }
                    }
                }
            });
        }
    });
    assert_eq!((queue.len(), queue.leased(), queue.groups()), (0, 0, 0));
}

/// With so many groups batches look ahead; what they do must be the same.
#[test]
fn batches_over_ten_thousand_groups_keep_each_in_order() {
    const KEYS: u64 = 10_000;
    let queue = SharedGroups::new();
    for round in 0..3 {
        let first = queue.push_batch((0..KEYS).map(|key| (Some(key), (key, round), 0)));
        assert_eq!(first, round * KEYS);
    }
    let (mut leases, mut settled) = (Vec::new(), Vec::new());
    for round in 0..3 {
        // In several batches, the last of which is not full.
        while queue.take_batch(300, &mut leases) > 0 {}
        assert_eq!(leases.len() as u64, KEYS);
        while !leases.is_empty() {
            let mut some = leases.drain(..leases.len().min(64)).collect();
            queue.settle_batch(&mut some, &mut settled);
        }
        assert!(settled.drain(..).eq((0..KEYS).map(|key| (key, round))));
    }
    assert_eq!((queue.groups(), queue.len(), queue.leased()), (0, 0, 0));
}
