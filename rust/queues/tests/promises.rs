//! Single promises that the model tests do not reach.

#![cfg(not(wherry_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use wherry_queues::{Fifo, Lease, PriorityFifo, SlotState};

fn assert_send<T: Send>() {}
fn assert_sync<T: Sync>() {}

#[test]
fn queues_and_leases_cross_threads() {
    // `Cell` is Send and not Sync: a queue of it may be shared all the same, since elements move from hand to hand.
    assert_send::<Fifo<std::cell::Cell<u8>>>();
    assert_sync::<Fifo<std::cell::Cell<u8>>>();
    assert_sync::<PriorityFifo<std::cell::Cell<u8>>>();
    assert_send::<Lease<std::cell::Cell<u8>>>();
    assert_sync::<Lease<u8>>();
}

#[test]
fn a_claim_is_invisible_to_operations_by_position() {
    let queue = Fifo::new();
    let claim = queue.claim(2);
    assert_eq!((claim.first(), claim.len()), (0, 2));
    assert_eq!(queue.remove(0), None);
    assert_eq!(queue.inspect(1, |_, _, &value: &u8| value), None);
    assert_eq!(queue.browse(0, 9, |_, _, _| ()), 0);
    assert_eq!(queue.oldest_unsettled(), 0);
    claim.fill([(1, 0), (2, 0)]);
    assert_eq!(queue.browse(0, 9, |_, _, _| ()), 2);
}

#[test]
fn too_many_elements_for_a_claim_panic_and_lose_only_the_surplus() {
    let queue = Fifo::new();
    assert!(catch_unwind(AssertUnwindSafe(|| queue.claim(1).fill([(1, 0), (2, 0)]))).is_err());
    assert_eq!((queue.pop(), queue.pop()), (Some(1), None));
}

#[test]
fn a_panic_while_filling_leaves_no_gap_that_blocks() {
    let queue = Fifo::new();
    let items = (0..3).map(|value| {
        if value == 1 {
            panic!("no element")
        } else {
            (value, 0)
        }
    });
    assert!(catch_unwind(AssertUnwindSafe(|| queue.claim(3).fill(items))).is_err());
    queue.push(9, 0);
    assert_eq!(
        (queue.pop(), queue.pop(), queue.pop()),
        (Some(0), Some(9), None)
    );
}

#[test]
fn a_panicking_inspector_unpins() {
    let queue = Fifo::new();
    queue.push_batch([(1, 0), (2, 0)]);
    let lease = queue.take().unwrap();
    for position in 0..2 {
        assert!(
            catch_unwind(AssertUnwindSafe(
                || queue.inspect(position, |_, _, _| panic!("seen enough"))
            ))
            .is_err()
        );
    }
    assert_eq!(
        queue.inspect(0, |state, _, &value| (state, value)),
        Some((SlotState::Leased, 1))
    );
    assert_eq!((queue.settle(lease), queue.pop()), (1, Some(2)));
}

#[test]
fn a_lease_requeued_to_another_queue_is_refused() {
    let (ours, other) = (Fifo::new(), Fifo::new());
    ours.push(1, 0);
    let lease = ours.take().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| other.requeue(lease, 0))).is_err());
    assert_eq!(other.take().map(|lease| *lease.value()), None);
}

#[test]
fn settling_does_not_wait_for_a_claim_even_if_the_segment_ends_there() {
    let queue = Fifo::new();
    queue.push_batch((0..31).map(|value| (value, 0)).collect::<Vec<_>>());
    let mut leases = Vec::new();
    queue.take_batch(31, &mut leases);
    let claim = queue.claim(1);
    queue.push(32, 0);
    std::thread::scope(|scope| {
        let consumer = scope.spawn(|| queue.pop());
        // The consumer waits at the claim, or will; either way we come through.
        leases.drain(..).for_each(|lease| _ = queue.settle(lease));
        claim.fill([(31, 0)]);
        assert_eq!(consumer.join().unwrap(), Some(31));
    });
    assert_eq!(queue.pop(), Some(32));
    assert_eq!(queue.oldest_unsettled(), 33);
}
