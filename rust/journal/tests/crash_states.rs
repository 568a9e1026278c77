//! Power failure, by enumeration: after every single operation of a recorded run, every bounded combination of what the disk
//! may have kept is recovered and judged. `WHERRY_CRASH_ROUNDS` asks for more runs than the one that is quick.

mod common;

use std::sync::Arc;

use common::{RETIRED, Work, check, open_journal, recovered, settle, tiny};
use wherry_journal::testing::{MemoryDisk, Sabotage, Survivors};
use wherry_journal::{Class, Durability, Options};

/// A run over several segments with bursts, single records and two evacuations.
fn run(seed: u64, sabotage: Sabotage) -> Work {
    run_with(seed, tiny(), sabotage)
}

fn run_with(seed: u64, options: Options, sabotage: Sabotage) -> Work {
    let mut work = Work::with(seed, options, sabotage);
    let equal = seed.is_multiple_of(2);
    for step in 0..14 {
        let count = 1 + work.random.below(8) as usize;
        let sizes: Vec<_> = (0..count)
            .map(|_| {
                if equal {
                    104
                } else {
                    work.random.below(400) as usize
                }
            })
            .collect();
        // Once, a record that needs a segment of its own.
        let sizes = if step == 8 && seed % 3 == 1 {
            vec![9_000, 50]
        } else {
            sizes
        };
        let ticket = work.burst(&sizes).unwrap();
        if step % 3 != 0 {
            work.journal.wait_durable(ticket, None).unwrap();
        }
        if let Some(segment) = work.journal.evacuation() {
            work.evacuate(segment).unwrap();
        }
    }
    if seed.is_multiple_of(3) {
        work.journal.close().unwrap();
    }
    work
}

fn rounds() -> u64 {
    std::env::var("WHERRY_CRASH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}

/// Judges each state of a run; returns how many there were and the first complaint.
fn judge(work: &Work, seed: u64, sabotage: Sabotage) -> (u64, Option<String>) {
    let (mut states, mut complaint) = (0, None);
    let history = work.disk.history();
    history.for_each_point(|point| {
        if complaint.is_some() {
            return;
        }
        point.for_each_state(if rounds() > 1 { 200 } else { 20 }, seed, |what, disk| {
            states += 1;
            let verdict = match recovered(&disk, sabotage) {
                Ok((records, report)) => {
                    let again = recovered(&disk, sabotage).map(|(again, _)| again == records);
                    match check(&work.appended, point.marks, &records) {
                        Ok(())
                            if again.as_ref().is_ok_and(|same| *same)
                                && report.holes.is_empty() =>
                        {
                            Ok(())
                        }
                        Ok(()) => Err(format!("the second recovery differs: {again:?}")),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error.to_string()),
            };
            if let (Err(error), None) = (verdict, &complaint) {
                complaint = Some(format!("seed {seed}, {what}: {error}"));
            }
        });
    });
    (states, complaint)
}

#[test]
fn every_crash_state_recovers_what_was_confirmed() {
    let mut total = 0;
    for seed in 0..6 * rounds() {
        let work = run(seed, Sabotage::default());
        let (states, complaint) = judge(&work, seed, Sabotage::default());
        assert_eq!(complaint, None);
        total += states;
    }
    println!("{total} crash states");
    assert!(total > 5_000, "{total}");
}

#[test]
fn a_crash_during_recovery_changes_nothing() {
    let mut total = 0;
    let mut wrote = 0;
    for seed in 10..10 + rounds() {
        let work = run(seed, Sabotage::default());
        let history = work.disk.history();
        let mut index = 0;
        history.for_each_point(|point| {
            point.for_each_state(2, seed, |what, disk| {
                index += 1;
                if index % 11 != 0 {
                    return;
                }
                disk.record();
                let (first, _) = recovered(&disk, Sabotage::default()).unwrap();
                let inner = disk.history();
                wrote += u64::from(!inner.is_empty());
                inner.for_each_point(|inner_point| {
                    inner_point.for_each_state(4, seed, |inner_what, disk| {
                        total += 1;
                        let (second, _) = recovered(&disk, Sabotage::default())
                            .unwrap_or_else(|error| panic!("{what}; {inner_what}: {error}"));
                        assert!(first == second, "seed {seed}, {what}; then {inner_what}");
                    });
                });
            });
        });
    }
    println!("{total} crash states during recovery");
    assert!(total > 1_000 && wrote > 20, "{total} {wrote}");
}

#[test]
fn what_a_crash_cut_off_never_comes_back() {
    let mut went_on = 0;
    // Even seeds: records of one size, so that old records stand exactly where new ones end.
    for seed in (0..4 * rounds()).step_by(2) {
        let work = run(seed, Sabotage::default());
        let mut index = 0;
        work.disk.history().for_each_point(|point| {
            point.for_each_state(4, seed, |what, disk| {
                index += 1;
                if index % 7 != 0 {
                    return;
                }
                let (journal, before) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
                // One by one, until they have filled the torn place and reach what lies behind it.
                for count in 1..=8 {
                    let (at, ticket) = settle(&journal, &[0xee; 104]);
                    journal.wait_durable(ticket, None).unwrap();
                    let crashed = disk.crash(Survivors::All);
                    let (after, _) = recovered(&crashed, Sabotage::default()).unwrap();
                    assert_eq!(after.len(), before.len() + count, "seed {seed}, {what}");
                    assert!(after[..before.len()] == before);
                    assert_eq!(after.last().unwrap().at, at);
                }
                went_on += 1;
            });
        });
    }
    assert!(went_on > 100, "{went_on}");
}

/// The lazy modes may lose what was not synced, always at the end; no crash looks like damage.
#[test]
fn without_syncs_a_crash_takes_the_end_and_nothing_else() {
    for seed in 0..2 * rounds() {
        let options = Options {
            durability: Durability::Never,
            ..tiny()
        };
        let work = run_with(seed, options, Sabotage::default());
        work.disk.history().for_each_point(|point| {
            let retired: Vec<_> = point
                .marks
                .iter()
                .copied()
                .filter(|mark| mark & RETIRED != 0)
                .collect();
            point.for_each_state(20, seed, |what, disk| {
                let (records, report) = recovered(&disk, Sabotage::default())
                    .unwrap_or_else(|error| panic!("seed {seed}, {what}: {error}"));
                assert!(report.holes.is_empty());
                check(&work.appended, &retired, &records).unwrap();
            });
        });
    }
}

/// Only the process dies, the next one goes on, and then the power fails: what the first one left unsynced (and the second
/// one built on) must be on the disk.
#[test]
fn a_killed_process_and_then_a_power_failure_lose_nothing() {
    for seed in 0..2 * rounds() {
        let work = run(seed, Sabotage::default());
        work.disk.history().for_each_point(|point| {
            let disk = point.killed();
            let (journal, before) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
            check(&work.appended, point.marks, &before).unwrap();
            let mut last = 0;
            for _ in 0..20 {
                last = settle(&journal, &[0xee; 104]).1;
            }
            journal.wait_durable(last, None).unwrap();
            let crashed = disk.crash(Survivors::None);
            let (after, _) = recovered(&crashed, Sabotage::default()).unwrap();
            let operations = point.operations;
            assert!(
                after.len() == before.len() + 20 && after[..before.len()] == before,
                "seed {seed}, {operations} operations"
            );
        });
    }
}

/// The controls: these tests notice a journal that lies.
#[test]
fn confirming_before_the_sync_is_noticed() {
    let sabotage = Sabotage {
        confirm_before_sync: true,
        ..Sabotage::default()
    };
    let noticed = (0..4).any(|seed| {
        judge(&run(seed, sabotage), seed, Sabotage::default())
            .1
            .is_some()
    });
    assert!(noticed);
}

#[test]
fn skipping_the_checksum_is_noticed() {
    let sabotage = Sabotage {
        skip_checksum: true,
        ..Sabotage::default()
    };
    let noticed = (0..4).any(|seed| {
        judge(&run(seed, Sabotage::default()), seed, sabotage)
            .1
            .is_some()
    });
    assert!(noticed);
}

#[test]
fn a_journal_is_made_whole_or_not_at_all() {
    let disk = MemoryDisk::new();
    disk.record();
    drop(open_journal(&disk, tiny(), Sabotage::default()).unwrap());
    disk.history().for_each_point(|point| {
        point.for_each_state(10, 1, |what, disk| {
            let (journal, records) = open_journal(&Arc::clone(&disk), tiny(), Sabotage::default())
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(records.is_empty());
            journal.append(1, b"works", Class::Publish).unwrap();
        });
    });
}
