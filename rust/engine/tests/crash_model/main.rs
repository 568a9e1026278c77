//! Random work on a broker, a crash at a random moment, and what a new broker makes of what is left.
//!
//! After each step everything in the queues is noted. The journal is one log, so what a crash leaves must be the state
//! after one of the steps that were under way since the last one known to be durable, or, for steps of several
//! records, something between two of them. Beside that a plain count says how many copies of each message there must
//! be, so that a broker that loses messages in memory as well as on the disk is noticed.
//!
//! A failure prints its seed: `WHERRY_SEED=n cargo test -p wherry-engine --test crash_model` runs that one alone,
//! `WHERRY_SEEDS=n` runs more of them.

#[path = "../common/mod.rs"]
mod common;
mod state;
mod story;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use state::{text, totals};
use story::Story;
use wherry_engine::Broker;
use wherry_journal::testing::{MemoryDisk, Survivors};
use world::World;

const SEEDS: u64 = 50;
const STEPS: usize = 60;
const SECOND_NS: u64 = 1_000_000_000;
const QUEUES: [&str; 9] = [
    "plain", "fan", "lanes", "groups", "retries", "brief", "short", "dead", "passing",
];

fn reopen(disk: &Arc<MemoryDisk>, segment_bytes: u32, now_ns: u64) -> Result<Arc<Broker>, String> {
    Broker::open(options(disk, segment_bytes, now_ns)).map_err(|e| format!("does not open: {e}"))
}

/// The seed's whole story; the number of crash states looked at.
fn run(seed: u64) -> Result<usize, String> {
    let crowded = seed % 2 == 1;
    let segment_bytes = if crowded { 8 << 10 } else { 256 << 10 };
    let disk = MemoryDisk::new();
    let mut world = World::open(&disk, seed, segment_bytes);
    settle_down(&world.broker);
    disk.record();
    let mut states = vec![world.state()];
    let mut atomic = vec![true];
    for number in 1..=STEPS {
        let one_record = world.step(number);
        atomic.push(!world.bury_the_dead() && one_record);
        // What was put off for want of room is written before anything else happens.
        patiently(&world.broker, || world.broker.barrier());
        let state = world.state();
        let mut counted = totals(&state);
        counted.remove("");
        for (body, copies) in &world.expected {
            if counted.get(body.as_str()).copied().unwrap_or(0) != *copies {
                return Err(format!(
                    "{body} should be there {copies} times after step {number}: {:?}",
                    counted.get(body.as_str())
                ));
            }
        }
        states.push(state);
        if world.random.one_in(2) {
            settle_down(&world.broker);
            disk.mark(number as u64);
        }
    }
    let story = Story {
        states,
        atomic,
        taken: world.taken.clone(),
        now_ns: world.now_ns,
        crowded,
    };
    let history = disk.history();
    drop(world);

    let mut random = Random::new(seed ^ 0x5eed);
    let points: Vec<usize> = (0..12)
        .map(|_| random.below(history.len() as u64 + 1) as usize)
        .collect();
    let mut looked_at = 0;
    let mut outcome = Ok(());
    history.for_each_point(|point| {
        if outcome.is_err() || !points.contains(&point.operations) {
            return;
        }
        let durable = point.marks.iter().max().copied().unwrap_or(0) as usize;
        point.for_each_state(2, seed, |what, disk| {
            // Each alone and each missing are many: some of them.
            let many = what.contains("Only") || what.contains("AllBut");
            if outcome.is_err() || many && !random.one_in(4) {
                return;
            }
            looked_at += 1;
            let again = random.one_in(4);
            outcome = crash(
                &story,
                disk,
                segment_bytes,
                durable,
                again.then_some(random.next()),
            )
            .map_err(|e| format!("crash {what}: {e}"));
        });
    });
    outcome.map(|()| looked_at)
}

/// One disk that a crash left. With a seed, recovery crashes as well.
fn crash(
    story: &Story,
    disk: Arc<MemoryDisk>,
    segment_bytes: u32,
    durable: usize,
    again: Option<u64>,
) -> Result<(), String> {
    disk.record();
    let broker = reopen(&disk, segment_bytes, story.now_ns)?;
    let found = story.judge(&broker, durable)?;
    if let Some(seed) = again {
        settle_down(&broker);
        let history = disk.history();
        let mut random = Random::new(seed);
        let chosen = random.below(history.len() as u64 + 1) as usize;
        let mut outcome = Ok(());
        history.for_each_point(|point| {
            if point.operations != chosen {
                return;
            }
            point.for_each_state(1, seed, |what, disk| {
                if outcome.is_ok() && random.one_in(4) {
                    outcome = reopen(&disk, segment_bytes, story.now_ns).and_then(|again| {
                        let second = story.judge(&again, durable)?;
                        if second == found {
                            Ok(())
                        } else {
                            Err(format!("recovering again, {what}, gives another state"))
                        }
                    });
                }
            });
        });
        outcome?;
        // Everything can be had, once.
        broker.advance(Duration::from_secs(3600)).unwrap();
        while broker.statistics().scheduled > 0 {
            settle_down(&broker);
            broker.advance(Duration::from_secs(1)).unwrap();
        }
        let mut had: BTreeMap<String, usize> = BTreeMap::new();
        for queue in host(&broker).queues() {
            let consumer = consumer(&queue);
            loop {
                let deliveries = take(&consumer, 100);
                if deliveries.is_empty() {
                    break;
                }
                for delivery in deliveries {
                    *had.entry(text(delivery.message.body())).or_default() += 1;
                    ack(&consumer, &delivery);
                }
            }
        }
        let mut wanted = totals(&found);
        wanted.remove("");
        let had: BTreeMap<&str, usize> = had.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        if had != wanted {
            return Err(format!("could be had: {had:?}, wanted {wanted:?}"));
        }
        settle_down(&broker);
        let disk = disk.crash(Survivors::None);
        let broker = reopen(&disk, segment_bytes, story.now_ns)?;
        let left = broker.statistics().ready;
        if left != 0 {
            return Err(format!("{left} acknowledged messages came back"));
        }
    }
    Ok(())
}

#[test]
fn whatever_a_crash_leaves_is_a_state_that_was() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seeds = match number("WHERRY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WHERRY_SEEDS").unwrap_or(SEEDS),
    };
    let mut looked_at = 0;
    for seed in seeds {
        match run(seed) {
            Ok(n) => looked_at += n,
            Err(error) => panic!("WHERRY_SEED={seed}: {error}"),
        }
    }
    println!("{looked_at} crash states");
    assert!(looked_at > 0);
}
