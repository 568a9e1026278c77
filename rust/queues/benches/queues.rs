//! The queues beside their rivals, in one harness: `cargo bench -p wherry-queues --bench queues [FILTER]`.
//!
//! Words: *alternate* pushes and pops one element in turn; *bulk* pushes all N, then pops all; *spsc* and *mpmc* run
//! one or two producers and as many consumers until N elements went through; *x100* does so in batches of 100 where the
//! structure has them. A figure is the best of fifteen runs, in million elements a second (an element is pushed and popped once). Rivals
//! know neither leases nor notes; ours carry a note everywhere.

use crossbeam_queue::{ArrayQueue, SegQueue};
use std::collections::{BinaryHeap, VecDeque};
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;
use wherry_queues::{Fifo, PriorityFifo};

const N: usize = 1_000_000;
const RUNS: usize = 15;
const BATCH: usize = 100;

trait Queue: Sync {
    fn make() -> Self;
    fn push(&self, value: u64);
    fn pop(&self) -> Option<u64>;
    fn push_batch(&self, values: std::ops::Range<u64>) {
        values.for_each(|value| self.push(value));
    }
    fn pop_batch(&self, max: usize, out: &mut Vec<u64>) -> usize {
        let before = out.len();
        out.extend(std::iter::from_fn(|| self.pop()).take(max));
        out.len() - before
    }
}

impl Queue for Fifo<u64> {
    fn make() -> Self {
        Fifo::new()
    }
    fn push(&self, value: u64) {
        self.push(value, 1);
    }
    fn pop(&self) -> Option<u64> {
        self.pop()
    }
    fn push_batch(&self, values: std::ops::Range<u64>) {
        self.claim((values.end - values.start) as usize)
            .fill(values.map(|value| (value, 1)));
    }
    fn pop_batch(&self, max: usize, out: &mut Vec<u64>) -> usize {
        self.pop_batch(max, out)
    }
}

/// The same queue with a lease in between, as a broker uses it.
struct Leased(Fifo<u64>);

impl Queue for Leased {
    fn make() -> Self {
        Self(Fifo::new())
    }
    fn push(&self, value: u64) {
        self.0.push(value, 1);
    }
    fn pop(&self) -> Option<u64> {
        self.0.take().map(|lease| self.0.settle(lease))
    }
    fn push_batch(&self, values: std::ops::Range<u64>) {
        Queue::push_batch(&self.0, values);
    }
    fn pop_batch(&self, max: usize, out: &mut Vec<u64>) -> usize {
        let mut leases = Vec::with_capacity(max);
        self.0.take_batch(max, &mut leases);
        out.extend(leases.drain(..).map(|lease| self.0.settle(lease)));
        out.len()
    }
}

impl Queue for SegQueue<u64> {
    fn make() -> Self {
        SegQueue::new()
    }
    fn push(&self, value: u64) {
        self.push(value);
    }
    fn pop(&self) -> Option<u64> {
        self.pop()
    }
}

/// With room for all, so that a push never fails.
impl Queue for ArrayQueue<u64> {
    fn make() -> Self {
        ArrayQueue::new(N)
    }
    fn push(&self, value: u64) {
        self.push(value).expect("has room");
    }
    fn pop(&self) -> Option<u64> {
        self.pop()
    }
}

impl Queue for Mutex<VecDeque<u64>> {
    fn make() -> Self {
        Mutex::new(VecDeque::new())
    }
    fn push(&self, value: u64) {
        self.lock().unwrap().push_back(value);
    }
    fn pop(&self) -> Option<u64> {
        self.lock().unwrap().pop_front()
    }
    fn push_batch(&self, values: std::ops::Range<u64>) {
        self.lock().unwrap().extend(values);
    }
    fn pop_batch(&self, max: usize, out: &mut Vec<u64>) -> usize {
        let mut queue = self.lock().unwrap();
        let count = max.min(queue.len());
        out.extend(queue.drain(..count));
        count
    }
}

const LEVELS: u64 = 10;

impl Queue for PriorityFifo<u64> {
    fn make() -> Self {
        PriorityFifo::new(LEVELS as usize)
    }
    fn push(&self, value: u64) {
        self.push((value % LEVELS) as u8, value, 1);
    }
    fn pop(&self) -> Option<u64> {
        self.pop()
    }
    fn push_batch(&self, values: std::ops::Range<u64>) {
        let level = (values.start / BATCH as u64 % LEVELS) as u8;
        self.claim(level, (values.end - values.start) as usize)
            .fill(values.map(|value| (value, 1)));
    }
    fn pop_batch(&self, max: usize, out: &mut Vec<u64>) -> usize {
        self.pop_batch(max, out)
    }
}

/// Level, sequence number (for first in, first out inside a level), value.
type Entry = (u64, std::cmp::Reverse<u64>, u64);
struct Heap(Mutex<(u64, BinaryHeap<Entry>)>);

impl Queue for Heap {
    fn make() -> Self {
        Self(Mutex::new((0, BinaryHeap::new())))
    }
    fn push(&self, value: u64) {
        let mut heap = self.0.lock().unwrap();
        heap.0 += 1;
        let number = heap.0;
        heap.1
            .push((value % LEVELS, std::cmp::Reverse(number), value));
    }
    fn pop(&self) -> Option<u64> {
        self.0.lock().unwrap().1.pop().map(|(_, _, value)| value)
    }
}

fn alternate<Q: Queue>(queue: &Q, batch: usize) {
    let mut out = Vec::with_capacity(batch);
    for start in (0..N as u64).step_by(batch) {
        if batch == 1 {
            queue.push(start);
            black_box(queue.pop());
        } else {
            queue.push_batch(start..start + batch as u64);
            queue.pop_batch(batch, &mut out);
            black_box(&out);
            out.clear();
        }
    }
}

fn bulk<Q: Queue>(queue: &Q, batch: usize) {
    let mut out = Vec::with_capacity(batch);
    for start in (0..N as u64).step_by(batch) {
        if batch == 1 {
            queue.push(start);
        } else {
            queue.push_batch(start..start + batch as u64);
        }
    }
    for _ in (0..N).step_by(batch) {
        if batch == 1 {
            black_box(queue.pop());
        } else {
            queue.pop_batch(batch, &mut out);
            black_box(&out);
            out.clear();
        }
    }
}

fn threads<Q: Queue>(queue: &Q, pairs: usize, batch: usize) {
    let left = AtomicUsize::new(N);
    thread::scope(|scope| {
        for _ in 0..pairs {
            scope.spawn(|| {
                for start in (0..(N / pairs) as u64).step_by(batch) {
                    if batch == 1 {
                        queue.push(start);
                    } else {
                        queue.push_batch(start..start + batch as u64);
                    }
                }
            });
            scope.spawn(|| {
                let mut out = Vec::with_capacity(batch);
                let mut popped = 0;
                loop {
                    let count = if batch == 1 {
                        usize::from(black_box(queue.pop()).is_some())
                    } else {
                        out.clear();
                        queue.pop_batch(batch, &mut out)
                    };
                    popped += count;
                    if count == 0 {
                        // Tells the others only here, so that counting is no part of the measured work.
                        if left.fetch_sub(popped, Ordering::Relaxed) == popped {
                            return;
                        }
                        popped = 0;
                        if left.load(Ordering::Relaxed) == 0 {
                            return;
                        }
                        thread::yield_now();
                    }
                }
            });
        }
    });
}

fn measure<Q: Queue>(name: &str, filter: &str) {
    type Pattern<Q> = (&'static str, fn(&Q));
    let patterns: [Pattern<Q>; 8] = [
        ("alternate", |queue| alternate(queue, 1)),
        ("alternate x100", |queue| alternate(queue, BATCH)),
        ("bulk", |queue| bulk(queue, 1)),
        ("bulk x100", |queue| bulk(queue, BATCH)),
        ("spsc", |queue| threads(queue, 1, 1)),
        ("spsc x100", |queue| threads(queue, 1, BATCH)),
        ("mpmc 2+2", |queue| threads(queue, 2, 1)),
        ("mpmc 2+2 x100", |queue| threads(queue, 2, BATCH)),
    ];
    for (pattern, run) in patterns {
        let label = format!("{name}, {pattern}");
        if !label.contains(filter) {
            continue;
        }
        let best = (0..RUNS)
            .map(|_| {
                let queue = Q::make();
                let start = Instant::now();
                run(&queue);
                start.elapsed()
            })
            .min()
            .expect("at least one run");
        println!(
            "{label:<44} {:>8.1} M/s",
            N as f64 / best.as_secs_f64() / 1e6
        );
    }
}

fn main() {
    // `cargo bench` passes flags such as --bench.
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    measure::<Fifo<u64>>("Fifo", &filter);
    measure::<Leased>("Fifo with take and settle", &filter);
    measure::<SegQueue<u64>>("crossbeam SegQueue", &filter);
    measure::<ArrayQueue<u64>>("crossbeam ArrayQueue", &filter);
    measure::<Mutex<VecDeque<u64>>>("Mutex<VecDeque>", &filter);
    measure::<PriorityFifo<u64>>("PriorityFifo, 10 levels", &filter);
    measure::<Heap>("Mutex<BinaryHeap>, 10 levels", &filter);
}
