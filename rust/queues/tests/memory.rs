//! What a queue holds on to: the limits that the documentation names.

#![cfg(not(wherry_loom))]

use wherry_queues::{Fifo, PriorityFifo};

/// What a `Fifo<u64>` may hold while it has one segment of 128 slots.
const SMALL: usize = 3 * 1024;

#[test]
fn an_unused_queue_is_small() {
    assert!(
        Fifo::<u64>::new().memory_bytes() < 400,
        "{}",
        Fifo::<u64>::new().memory_bytes()
    );
    let queue = Fifo::new();
    queue.push(1u64, 0);
    assert!(queue.memory_bytes() < 1024, "{}", queue.memory_bytes());
}

#[test]
fn a_waiting_element_of_eight_bytes_costs_sixteen() {
    let queue = Fifo::new();
    let count = 1_000_000;
    for value in 0..count as u64 {
        queue.push(value, 0);
    }
    assert!(queue.memory_bytes() < count * 17);
}

#[test]
fn a_drained_queue_gives_its_backlog_back() {
    let queue = Fifo::new();
    for _ in 0..3 {
        queue.push_batch((0..100_000u64).map(|value| (value, 0)).collect::<Vec<_>>());
        assert!(queue.memory_bytes() > 1_600_000);
        let mut leases = Vec::new();
        queue.take_batch(usize::MAX, &mut leases);
        // Every second lease, so that the sweep is passed on often.
        let (even, odd): (Vec<_>, Vec<_>) = leases
            .into_iter()
            .partition(|lease| lease.position() % 2 == 0);
        even.into_iter()
            .chain(odd)
            .for_each(|lease| _ = queue.settle(lease));
        assert!(queue.take().is_none());
        assert!(queue.memory_bytes() < SMALL, "{}", queue.memory_bytes());
    }
    queue.trim();
    assert_eq!(queue.memory_bytes(), Fifo::<u64>::new().memory_bytes());
}

#[test]
fn a_long_life_with_little_in_it_stays_small() {
    let queue = Fifo::new();
    for value in 0..100_000u64 {
        queue.push(value, 0);
        assert_eq!(queue.pop(), Some(value));
        if value % 1000 == 0 {
            assert!(queue.memory_bytes() < SMALL, "{}", queue.memory_bytes());
        }
    }
}

#[test]
fn one_leased_straggler_keeps_one_segment() {
    let queue = Fifo::new();
    queue.push(0u64, 0);
    let straggler = queue.take().unwrap();
    for value in 1..100_000 {
        queue.push(value, 0);
        queue.pop();
    }
    assert!(queue.memory_bytes() < 2 * SMALL, "{}", queue.memory_bytes());
    assert_eq!(queue.oldest_unsettled(), 0);
    assert_eq!(queue.settle(straggler), 0);
    assert_eq!(queue.oldest_unsettled(), 100_000);
}

#[test]
fn holes_cost_nothing_when_restored() {
    let mut queue = Fifo::starting_at(7);
    queue.restore([Some((1u64, 0))]);
    queue.restore_holes(1 << 40);
    queue.restore([Some((2, 0)), None]);
    queue.restore_holes(1 << 40);
    assert_eq!(queue.next_position(), 7 + 3 + (2 << 40));
    assert!(queue.memory_bytes() < SMALL, "{}", queue.memory_bytes());
    assert_eq!(queue.len(), 2);
    assert_eq!(
        [queue.pop(), queue.pop(), queue.pop()],
        [Some(1), Some(2), None]
    );
    assert_eq!(queue.len(), 0);
}

#[test]
fn a_priority_queue_pays_for_the_levels_it_uses() {
    let queue = PriorityFifo::new(256);
    assert!(queue.memory_bytes() < 2_400, "{}", queue.memory_bytes());
    queue.push(255, 1u64, 0);
    assert!(
        queue.memory_bytes() < 2_400 + 1024,
        "{}",
        queue.memory_bytes()
    );
}
