//! Several threads at once: order per producer, each element exactly once, and no element leaked or dropped twice.

#![cfg(not(wherry_loom))]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use wherry_queues::{Fifo, Lease, PriorityFifo};

const PRODUCERS: u64 = 2;
const CONSUMERS: usize = 2;
const PER_PRODUCER: u64 = 60_000;

/// A boxed value, so that a double drop or a torn read shows.
#[derive(Debug)]
struct Item {
    producer: u64,
    number: u64,
    check: Box<u64>,
    alive: Arc<AtomicUsize>,
}

impl Item {
    fn new(producer: u64, number: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self {
            producer,
            number,
            check: Box::new(producer << 32 | number),
            alive: alive.clone(),
        }
    }

    fn id(&self) -> usize {
        assert_eq!(*self.check, self.producer << 32 | self.number);
        (self.producer * PER_PRODUCER + self.number) as usize
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A small generator of our own: reproducible, and no thread shares it.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn produce(queue: &Fifo<Item>, producer: u64, alive: &Arc<AtomicUsize>) {
    let mut random = Random(producer + 1);
    let mut number = 0;
    while number < PER_PRODUCER {
        let count = match random.below(4) {
            0 => random.below(200).min(PER_PRODUCER - number),
            _ => 1,
        };
        match random.below(8) {
            0 => {
                // Claims more than it fills.
                let claim = queue.claim((count + random.below(3)) as usize);
                claim.fill(
                    (number..number + count).map(|number| (Item::new(producer, number, alive), 0)),
                );
            }
            1..4 => {
                let items: Vec<_> = (number..number + count)
                    .map(|number| (Item::new(producer, number, alive), 0))
                    .collect();
                queue.push_batch(items);
            }
            _ => {
                for number in number..number + count {
                    queue.push(Item::new(producer, number, alive), 0);
                }
            }
        }
        number += count;
    }
}

/// Counts what was seen, and checks that one consumer sees each producer's elements in order.
struct Seen {
    counts: Vec<AtomicUsize>,
    total: AtomicUsize,
}

impl Seen {
    fn new() -> Self {
        let all = (PRODUCERS * PER_PRODUCER) as usize;
        Self {
            counts: (0..all).map(|_| AtomicUsize::new(0)).collect(),
            total: AtomicUsize::new(0),
        }
    }

    fn record(&self, item: &Item) {
        assert_eq!(
            self.counts[item.id()].fetch_add(1, Ordering::Relaxed),
            0,
            "seen twice"
        );
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    fn complete(&self) -> bool {
        self.total.load(Ordering::Relaxed) == self.counts.len()
    }
}

#[test]
fn each_producers_elements_arrive_once_and_in_order() {
    let queue = Fifo::new();
    let alive = Arc::new(AtomicUsize::new(0));
    let seen = Seen::new();
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (queue, alive) = (&queue, &alive);
            scope.spawn(move || produce(queue, producer, alive));
        }
        for consumer in 0..CONSUMERS {
            let (queue, seen) = (&queue, &seen);
            scope.spawn(move || {
                let mut next = [0; PRODUCERS as usize];
                let mut random = Random(consumer as u64 + 77);
                let mut batch = Vec::new();
                let mut leases = Vec::new();
                while !seen.complete() {
                    match random.below(4) {
                        0 => batch.extend(queue.pop()),
                        1 => drop(queue.pop_batch(random.below(300) as usize, &mut batch)),
                        2 => leases.extend(queue.take()),
                        _ => drop(queue.take_batch(random.below(300) as usize, &mut leases)),
                    }
                    batch.extend(leases.drain(..).map(|lease| queue.settle(lease)));
                    if batch.is_empty() {
                        thread::yield_now();
                    }
                    for item in batch.drain(..) {
                        seen.record(&item);
                        assert!(item.number >= next[item.producer as usize], "out of order");
                        next[item.producer as usize] = item.number + 1;
                    }
                }
            });
        }
    });
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    assert_eq!(queue.len(), 0);
    assert_eq!(queue.oldest_unsettled(), queue.next_position());
}

#[test]
fn rare_operations_beside_traffic_lose_and_double_nothing() {
    let queue = Fifo::new();
    let alive = Arc::new(AtomicUsize::new(0));
    let seen = Seen::new();
    let left_behind = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (queue, alive) = (&queue, &alive);
            scope.spawn(move || produce(queue, producer, alive));
        }
        for consumer in 0..CONSUMERS {
            let (queue, seen, left_behind) = (&queue, &seen, &left_behind);
            scope.spawn(move || {
                let mut random = Random(consumer as u64 + 99);
                let mut leases: Vec<Lease<Item>> = Vec::new();
                while !seen.complete() {
                    match random.below(10) {
                        0 => drop(queue.pop().map(|item| seen.record(&item))),
                        1..4 => leases.extend(queue.take()),
                        4 => drop(queue.take_batch(random.below(100) as usize, &mut leases)),
                        5 => {
                            for _ in 0..random.below(3) {
                                if let Some(lease) = leases.pop() {
                                    let note = lease.note() + 1;
                                    queue.requeue(lease, note);
                                }
                            }
                        }
                        _ => {
                            for _ in 0..random.below(60) {
                                if !leases.is_empty() {
                                    let which = random.below(leases.len() as u64) as usize;
                                    seen.record(&queue.settle(leases.swap_remove(which)));
                                }
                            }
                            thread::yield_now();
                        }
                    }
                }
                left_behind.lock().unwrap().extend(leases);
            });
        }
        let (queue, seen) = (&queue, &seen);
        scope.spawn(move || {
            let mut random = Random(5);
            while !seen.complete() {
                let oldest = queue.oldest_unsettled();
                let position =
                    oldest + random.below(queue.next_position().saturating_sub(oldest) + 1);
                match random.below(60) {
                    0..25 => drop(queue.remove(position).map(|(item, _)| seen.record(&item))),
                    25..50 => drop(queue.inspect(position, |_, _, item| item.id())),
                    50..55 => drop(queue.browse(position, 50, |_, _, item| _ = item.id())),
                    55..58 => queue.trim(),
                    58 => drop(queue.purge(|_, item, _| seen.record(&item))),
                    _ => thread::yield_now(),
                }
            }
        });
    });
    assert!(left_behind.into_inner().unwrap().is_empty());
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    assert_eq!(queue.len(), 0);
    assert_eq!(queue.oldest_unsettled(), queue.next_position());
}

#[test]
fn a_priority_queue_loses_and_doubles_nothing() {
    let queue = PriorityFifo::new(200);
    let alive = Arc::new(AtomicUsize::new(0));
    let seen = Seen::new();
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (queue, alive) = (&queue, &alive);
            scope.spawn(move || {
                let mut random = Random(producer + 1);
                for number in 0..PER_PRODUCER {
                    // Few levels and far apart, so that bits are often cleared and set.
                    queue.push(
                        random.below(4) as u8 * 60,
                        Item::new(producer, number, alive),
                        0,
                    );
                }
            });
        }
        for consumer in 0..CONSUMERS {
            let (queue, seen) = (&queue, &seen);
            scope.spawn(move || {
                let mut random = Random(consumer as u64 + 7);
                let mut next = [[0; PRODUCERS as usize]; 200];
                let mut leases = Vec::new();
                while !seen.complete() {
                    if queue.take_batch(1 + random.below(5) as usize, &mut leases) == 0 {
                        thread::yield_now();
                    }
                    for lease in leases.drain(..) {
                        let level = usize::from(lease.level());
                        if random.below(10) == 0 {
                            queue.requeue(lease, 1);
                            continue;
                        }
                        let requeued = lease.note() == 1;
                        let item = queue.settle(lease);
                        seen.record(&item);
                        let next = &mut next[level][item.producer as usize];
                        assert!(
                            requeued || item.number >= *next,
                            "out of order within a level"
                        );
                        *next = item.number.max(*next);
                    }
                }
            });
        }
    });
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    assert!(queue.is_empty());
    assert!(queue.take().is_none());
}

#[test]
fn leases_and_their_queue_may_go_in_any_order_on_different_threads() {
    for round in 0..2_000 {
        let alive = Arc::new(AtomicUsize::new(0));
        let queue = Fifo::new();
        queue.push_batch(
            (0..100)
                .map(|number| (Item::new(0, number, &alive), 0))
                .collect::<Vec<_>>(),
        );
        let mut leases = Vec::new();
        queue.take_batch(70 + round % 30, &mut leases);
        let other_half = leases.split_off(leases.len() / 2);
        let start = AtomicBool::new(false);
        thread::scope(|scope| {
            for leases in [leases, other_half] {
                let start = &start;
                scope.spawn(move || {
                    while !start.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                    }
                    for lease in leases {
                        assert_eq!(lease.value().producer, 0);
                        drop(lease);
                    }
                });
            }
            start.store(true, Ordering::Release);
            drop(queue);
        });
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}
