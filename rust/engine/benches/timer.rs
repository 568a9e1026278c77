//! Timer and clock: `cargo bench -p wherry-engine --bench timer`. A plain main, one line a figure.

use std::hint::black_box;
use std::time::Instant;

use wherry_engine::clock::Clock;
use wherry_engine::timer::Timer;

const S: u64 = 1_000_000_000;

fn report(what: &str, count: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{what:<58} {:>7.2} M/s {:>7.1} ns",
        count as f64 / seconds / 1e6,
        seconds * 1e9 / count as f64
    );
}

/// A reproducible sequence (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Schedules `count` timers, then fires them all in steps of a millisecond.
fn schedule_then_fire(what: &str, count: u64, deadline: impl Fn(u64, &mut Random) -> u64) {
    let now_ns = 1_700_000_000 * S;
    let timer = Timer::new(now_ns);
    let mut random = Random(7);
    let whole = Instant::now();
    let start = Instant::now();
    let mut last_ns = 0;
    for index in 0..count {
        let deadline_ns = deadline(index, &mut random);
        last_ns = last_ns.max(deadline_ns);
        timer.schedule(now_ns + deadline_ns, (index, index));
    }
    report(&format!("{what}: schedule"), count, start);
    let start = Instant::now();
    let mut fired = 0;
    let mut step_max_ns = 0;
    for step in 0..=last_ns / 1_000_000 + 1 {
        let step_start = Instant::now();
        fired += timer.fire_due(now_ns + step * 1_000_000, |_, event| {
            black_box(event);
        });
        step_max_ns = step_max_ns.max(step_start.elapsed().as_nanos());
    }
    assert_eq!(fired as u64, count);
    report(&format!("{what}: fire"), count, start);
    report(&format!("{what}: both"), count, whole);
    println!(
        "{:<58} {:>7} us",
        format!("{what}: longest step"),
        step_max_ns / 1000
    );
}

fn main() {
    let clock = Clock::real();
    let start = Instant::now();
    for _ in 0..10_000_000 {
        black_box(clock.now_ns());
    }
    report("clock: now_ns", 10_000_000, start);
    let start = Instant::now();
    for _ in 0..10_000_000 {
        black_box(clock.now_ns_coarse());
    }
    report("clock: now_ns_coarse", 10_000_000, start);

    schedule_then_fire("1 M, random within 60 s", 1_000_000, |_, random| {
        random.next() % (60 * S)
    });
    schedule_then_fire("10 M, random within 60 s", 10_000_000, |_, random| {
        random.next() % (60 * S)
    });
    schedule_then_fire("10 M, constant TTL, 1 us apart", 10_000_000, |index, _| {
        60 * S + index * 1000
    });

    // A steady state: a million wait, each fired one is replaced, as retry delays and leases do.
    let timer = Timer::new(0);
    let mut random = Random(9);
    for index in 0..1_000_000u64 {
        timer.schedule(random.next() % (10 * S), (index, index));
    }
    let start = Instant::now();
    let mut fired = 0;
    let mut now_ns = 0;
    while fired < 5_000_000 {
        now_ns += 1_000_000;
        fired += timer.fire_due(now_ns, |deadline_ns, event| {
            timer.schedule(deadline_ns + 1_000_000 + random.next() % (10 * S), event);
        });
    }
    report(
        "1 M pending: fire and schedule again in the callback",
        fired as u64,
        start,
    );

    let start = Instant::now();
    for index in 0..2_000_000u64 {
        timer.cancel(timer.schedule(now_ns + 3600 * S, (index, index)));
    }
    report(
        "1 M pending: schedule and cancel (no thread)",
        2_000_000,
        start,
    );
}
