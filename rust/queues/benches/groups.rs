//! Message groups: `cargo bench -p wherry-queues --bench groups`. A plain main, one line a figure.
//!
//! An update is one message pushed, taken and settled. Keys are drawn at random (splitmix64) from a million, or fewer where it
//! says so. Times include making the keys and the batches.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use wherry_queues::groups::{Groups, SharedGroups};

const UPDATES: u64 = 10_000_000;
const KEYS: u64 = 1_000_000;
const BATCH: u64 = 100;
/// Messages that wait all the time, where it says so.
const BACKLOG: u64 = 1_000_000;

/// As small as the engine's: `Option<Value>` is 8 bytes.
type Value = NonZeroU64;

fn value(number: u64) -> Value {
    NonZeroU64::MIN.saturating_add(number)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    fn key(&mut self, keys: u64) -> Option<u64> {
        // Spread as the hash of a real key is.
        Some(mix(self.next() % keys))
    }
}

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn report(what: &str, count: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{what:<66} {:>7.2} M/s {:>7.1} ns",
        count as f64 / seconds / 1e6,
        seconds * 1e9 / count as f64
    );
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4096
}

/// `backlog` messages wait all the time; each is pushed, taken and settled one at a time or in batches.
fn steady(what: &str, keys: u64, backlog: u64, batch: u64) {
    let mut groups = Groups::new();
    let mut random = Random(1);
    for number in 0..backlog {
        groups.push(random.key(keys), value(number), 0);
    }
    let start = Instant::now();
    if batch == 1 {
        for number in 0..UPDATES {
            groups.push(random.key(keys), value(number), 0);
            if let Some(lease) = groups.take() {
                groups.settle(lease);
            }
        }
    } else {
        let mut leases = Vec::new();
        for first in (0..UPDATES).step_by(batch as usize) {
            let items = (first..first + batch).map(|number| (random.key(keys), value(number), 0));
            groups.push_batch(items);
            groups.take_batch(batch as usize, &mut leases);
            for lease in leases.drain(..) {
                groups.settle(lease);
            }
        }
    }
    report(what, UPDATES, start);
}

fn fill_then_drain() {
    let before = resident_bytes();
    // Made first: whatever is allocated above a large heap keeps the allocator from giving it back.
    let mut leases = Vec::with_capacity(BATCH as usize);
    let mut groups = Groups::new();
    let mut random = Random(2);
    let whole = Instant::now();
    let start = Instant::now();
    for number in 0..UPDATES {
        groups.push(random.key(KEYS), value(number), 0);
    }
    report("1 M keys, 10 M updates: push all", UPDATES, start);
    let bytes = resident_bytes() - before;
    let start = Instant::now();
    let mut drained = 0;
    while groups.take_batch(BATCH as usize, &mut leases) != 0 {
        for lease in leases.drain(..) {
            groups.settle(lease);
            drained += 1;
        }
    }
    assert_eq!(drained, UPDATES);
    report(
        "1 M keys, 10 M updates: then take and settle all in batches of 100",
        UPDATES,
        start,
    );
    report("1 M keys, 10 M updates: both", UPDATES, whole);
    println!(
        "{:<66} {:>7.1} bytes",
        "resident for each message that waits",
        bytes as f64 / UPDATES as f64
    );
    println!(
        "{:<66} {:>7.1} MB",
        "resident after all",
        (resident_bytes() - before) as f64 / 1e6
    );
}

/// `producers` push and `consumers` take and settle; with one of each, or all threads doing both.
fn shared(what: &str, threads: u64, split: bool, batch: u64) {
    let queue = SharedGroups::new();
    let mut random = Random(99);
    queue.push_batch((0..BACKLOG).map(|number| (random.key(KEYS), value(number), 0)));
    let settled = AtomicU64::new(0);
    let each = if split { UPDATES } else { UPDATES / threads };
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (queue, settled) = (&queue, &settled);
            let (pushes, takes) = (!split || thread == 0, !split || thread == 1);
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut leases = Vec::new();
                let mut values = Vec::new();
                let mut pushed = if pushes { 0 } else { each };
                // Relaxed: counts.
                while pushed < each || (takes && settled.load(Ordering::Relaxed) < UPDATES) {
                    if pushed < each {
                        if batch == 1 {
                            queue.push(random.key(KEYS), value(pushed), 0);
                        } else {
                            let claim = queue.claim((0..batch).map(|_| random.key(KEYS)));
                            let first = claim.first();
                            claim.fill((first..first + batch).map(|position| (value(position), 0)));
                        }
                        pushed += batch;
                    }
                    if takes {
                        let done = if batch == 1 {
                            queue
                                .take()
                                .map(|lease| queue.settle(lease))
                                .is_some()
                                .into()
                        } else {
                            let taken = queue.take_batch(batch as usize, &mut leases);
                            if taken != 0 {
                                queue.settle_batch(&mut leases, &mut values);
                                values.clear();
                            }
                            taken as u64
                        };
                        if done != 0 {
                            settled.fetch_add(done, Ordering::Relaxed);
                        } else if pushed == each {
                            std::thread::yield_now();
                        }
                    }
                }
            });
        }
    });
    report(what, UPDATES, start);
}

fn main() {
    fill_then_drain();
    steady(
        "1 M keys, 10 M updates: one at a time, nothing waits",
        KEYS,
        0,
        1,
    );
    steady(
        "1 M keys, 10 M updates: one at a time, 1 M wait",
        KEYS,
        1_000_000,
        1,
    );
    steady(
        "1 M keys, 10 M updates: batches of 100, 1 M wait",
        KEYS,
        1_000_000,
        BATCH,
    );
    steady(
        "1,000 keys, 10 M updates: batches of 100, 1 M wait",
        1_000,
        1_000_000,
        BATCH,
    );
    steady(
        "10 keys, 10 M updates: batches of 100, 1 M wait",
        10,
        1_000_000,
        BATCH,
    );
    shared(
        "shared, 1 M keys, 1 M wait, 1 thread: batches of 100",
        1,
        false,
        BATCH,
    );
    shared(
        "shared, 1 M keys, 1 M wait, 1 producer 1 consumer: batches of 100",
        2,
        true,
        BATCH,
    );
    shared(
        "shared, 1 M keys, 1 M wait, 2 threads that do both: batches of 100",
        2,
        false,
        BATCH,
    );
    shared(
        "shared, 1 M keys, 1 M wait, 2 threads that do both: one at a time",
        2,
        false,
        1,
    );
}
