//! Loom models of the staging protocol and the bell, named for their races. Run with
//! `RUSTFLAGS="--cfg wherry_loom" cargo test -p wherry-journal --lib --release`.

use std::sync::Arc;

use loom::thread;

use crate::address::{address, offset_of, segment_of};
use crate::bell::Bell;
use crate::format::{RECORD_HEADER_BYTES, RECORDS_OFFSET};
use crate::stage::{Refusal, Room, SEGMENT_RESERVE_BYTES, Stage};
use crate::staging::Staging;
use crate::sync::{AtomicBool, Ordering};

/// Records of the models: longer than a seal, which is how the model tells seals.
const RECORD: u32 = RECORD_HEADER_BYTES + 8;

fn capacity(records: u32) -> u32 {
    RECORDS_OFFSET + records * RECORD + SEGMENT_RESERVE_BYTES
}

fn stage(records: u32, room_bytes: u64) -> (Arc<Stage>, Arc<Staging>) {
    let staging = Arc::new(Staging::new(capacity(records)));
    let start = address(1, RECORDS_OFFSET);
    let stage = Stage::new(
        start,
        0,
        capacity(records),
        Arc::clone(&staging),
        room_bytes,
        0,
    );
    (Arc::new(stage), staging)
}

/// Claims, fills and completes one record.
fn append(stage: &Stage) -> Result<u64, Refusal> {
    let claim = stage.claim(RECORD, Room::Settle)?;
    // SAFETY: loom checks that nobody else touches it. The length word is left out as in real life.
    unsafe {
        claim
            .staging()
            .put(claim.offset + 8, &[1; RECORD as usize - 8])
    };
    claim.complete(claim.offset, RECORD);
    Ok(address(claim.segment, claim.offset))
}

/// Reads the complete records from `from` on, as the committer does; returns where they end.
fn collect(staging: &Staging, records: u32, from: u32) -> (u32, u64, bool) {
    let prefix = Stage::prefix(staging, capacity(records), from);
    let mut at = from;
    while at < prefix.end {
        let length = Stage::completed(staging, at).expect("part of the prefix");
        // The seal's header is all that is put of it.
        let body = (length - 8) / 8;
        assert_eq!(
            staging.touch(at + 8, length - 8),
            u64::from(body),
            "a byte of a complete record is missing"
        );
        at += length;
    }
    (prefix.end, prefix.records, prefix.sealed)
}

#[test]
fn committer_collects_while_two_publishers_complete() {
    loom::model(|| {
        let (stage, staging) = stage(2, 1 << 20);
        let publishers: Vec<_> = (0..2)
            .map(|_| {
                let stage = Arc::clone(&stage);
                thread::spawn(move || append(&stage).expect("room for both"))
            })
            .collect();
        let (end, _, _) = collect(&staging, 2, RECORDS_OFFSET);
        let mut places: Vec<_> = publishers
            .into_iter()
            .map(|publisher| publisher.join().expect("no panic"))
            .collect();
        places.sort_unstable();
        let first = address(1, RECORDS_OFFSET);
        assert_eq!(places, [first, first + u64::from(RECORD)]);
        let (end, _, sealed) = collect(&staging, 2, end);
        assert_eq!((end, sealed), (RECORDS_OFFSET + 2 * RECORD, false));
    });
}

#[test]
fn two_publishers_meet_the_end_of_a_segment() {
    loom::model(|| {
        let (stage, first) = stage(1, 1 << 20);
        let second = Arc::new(Staging::new(capacity(2)));
        stage.install(2, 0, capacity(2), Arc::clone(&second));
        let publisher = {
            let stage = Arc::clone(&stage);
            thread::spawn(move || append(&stage).expect("room in the second"))
        };
        append(&stage).expect("room in the second");
        publisher.join().expect("no panic");
        let (end, records, sealed) = collect(&first, 1, RECORDS_OFFSET);
        assert_eq!(
            (end, records, sealed),
            (RECORDS_OFFSET + RECORD + RECORD_HEADER_BYTES, 2, true)
        );
        let (_, records, sealed) = collect(&second, 2, RECORDS_OFFSET);
        assert_eq!((records, sealed), (1, false));
        let end = stage.end();
        assert_eq!(
            (segment_of(end), offset_of(end)),
            (2, RECORDS_OFFSET + RECORD)
        );
    });
}

/// Gives up only after having said so; true if it gave up.
fn refused(stage: &Stage) -> bool {
    if append(stage).is_ok() {
        return false;
    }
    stage.starve();
    append(stage).is_err()
}

#[test]
fn refused_for_want_of_a_segment_while_it_is_installed() {
    loom::model(|| {
        let (stage, _first) = stage(1, 1 << 20);
        append(&stage).expect("room for one");
        let publisher = {
            let stage = Arc::clone(&stage);
            thread::spawn(move || refused(&stage))
        };
        stage.install(2, 0, capacity(1), Arc::new(Staging::new(capacity(1))));
        let told = stage.take_starved();
        assert!(
            !publisher.join().expect("no panic") || told,
            "refused, and nobody says when there is room"
        );
    });
}

#[test]
fn refused_for_want_of_staging_while_it_is_written() {
    loom::model(|| {
        let (stage, staging) = stage(2, u64::from(RECORD));
        append(&stage).expect("room for one");
        let publisher = {
            let stage = Arc::clone(&stage);
            thread::spawn(move || refused(&stage))
        };
        let (end, ..) = collect(&staging, 2, RECORDS_OFFSET);
        stage.advance_written(address(1, end));
        let told = stage.take_starved();
        assert!(
            !publisher.join().expect("no panic") || told,
            "refused, and nobody says when there is room"
        );
    });
}

#[test]
fn the_spare_is_withdrawn_while_a_publisher_rotates() {
    loom::model(|| {
        let (stage, _first) = stage(1, 1 << 20);
        append(&stage).expect("room for one");
        let second = Arc::new(Staging::new(capacity(1)));
        stage.install(2, 0, capacity(1), Arc::clone(&second));
        let publisher = {
            let stage = Arc::clone(&stage);
            thread::spawn(move || append(&stage))
        };
        let withdrawn = stage.withdraw().is_some();
        let appended = publisher.join().expect("no panic");
        assert_eq!(appended.is_err(), withdrawn);
        assert_eq!(segment_of(stage.end()), if withdrawn { 1 } else { 2 });
    });
}

#[test]
fn closing_while_a_publisher_claims() {
    loom::model(|| {
        let (stage, _staging) = stage(2, 1 << 20);
        let publisher = {
            let stage = Arc::clone(&stage);
            thread::spawn(move || append(&stage).is_ok())
        };
        let frozen = stage.freeze(address(1, RECORDS_OFFSET));
        // Either the record is in and the committer goes on, or it is refused.
        assert_eq!(publisher.join().expect("no panic"), !frozen);
    });
}

#[test]
fn ringing_while_the_committer_falls_asleep() {
    loom::model(|| {
        let bell = Arc::new(Bell::new());
        let work = Arc::new(AtomicBool::new(false));
        let ringer = {
            let (bell, work) = (Arc::clone(&bell), Arc::clone(&work));
            thread::spawn(move || {
                work.store(true, Ordering::Relaxed);
                bell.ring();
            })
        };
        // A lost ring leaves nobody to run, which loom reports.
        while !work.load(Ordering::Relaxed) {
            bell.wait(None, || work.load(Ordering::Relaxed));
        }
        ringer.join().expect("no panic");
    });
}

#[test]
fn quiet_work_is_rung_for_or_seen() {
    loom::model(|| {
        let bell = Arc::new(Bell::new());
        let work = Arc::new(AtomicBool::new(false));
        bell.remember();
        let ringer = {
            let (bell, work) = (Arc::clone(&bell), Arc::clone(&work));
            thread::spawn(move || {
                work.store(true, Ordering::Relaxed);
                bell.ring_quietly()
            })
        };
        bell.forget();
        let seen = work.load(Ordering::Relaxed);
        let rung = ringer.join().expect("no panic");
        assert!(seen || rung);
    });
}
