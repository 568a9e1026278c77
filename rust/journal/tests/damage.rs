//! Damage: every cut, every flipped bit, swapped, doubled and missing segments. What was confirmed is there or its loss is
//! reported; what was never appended is never replayed.

mod common;

use std::sync::Arc;

use common::{Record, Work, check, recovered, salvaged};
use wherry_journal::testing::{MemoryDisk, Sabotage};
use wherry_journal::{OpenError, segment_of, verify};

/// A journal of a few segments, closed in order, and its records.
fn journal() -> (Arc<MemoryDisk>, Vec<Record>) {
    let mut work = Work::new(3, Sabotage::default());
    for _ in 0..5 {
        let ticket = work.burst(&[300, 0, 41, 700, 8]).unwrap();
        work.journal.wait_durable(ticket, None).unwrap();
    }
    work.journal.close().unwrap();
    let records: Vec<_> = work
        .appended
        .into_iter()
        .map(|(record, _)| record)
        .collect();
    assert!(segment_of(records.last().unwrap().at) >= 2);
    (work.disk.copy(), records)
}

fn segments(disk: &MemoryDisk) -> Vec<String> {
    disk.names()
        .into_iter()
        .filter(|name| name.ends_with(".segment"))
        .collect()
}

/// Opens a damaged journal both ways. Refusing, or all there; salvaged, whatever is replayed was appended there, and if
/// anything is missing, there is a hole in the report.
fn judge(disk: &Arc<MemoryDisk>, expected: &[Record], what: &str) -> bool {
    let refused = match recovered(&disk.copy(), Sabotage::default()) {
        Ok((records, _)) => {
            assert!(
                records == expected,
                "{what}: opened with {} of {} records",
                records.len(),
                expected.len()
            );
            false
        }
        Err(OpenError::Corrupt { .. }) => true,
        Err(error) => panic!("{what}: {error}"),
    };
    match salvaged(&disk.copy()) {
        Ok((records, report)) => {
            let mut rest = expected.iter();
            for record in &records {
                assert!(
                    rest.any(|expected| expected == record),
                    "{what}: a record from nowhere at {:#x}",
                    record.at
                );
            }
            assert!(
                records.len() == expected.len() || !report.holes.is_empty(),
                "{what}: a loss that is not reported"
            );
            assert_eq!(refused, !report.holes.is_empty(), "{what}");
        }
        // With one damaged segment there are always others to go by.
        Err(error) => panic!("{what}: {error}"),
    }
    refused
}

#[test]
fn every_flipped_bit_is_harmless_or_reported() {
    let (disk, expected) = journal();
    let mut refused = 0;
    for name in segments(&disk) {
        let whole = disk.contents(&name).unwrap();
        // The header's page behind the header, and what follows the records, are not part of the journal: sampled.
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for byte in (0..used + 64).filter(|byte| !(64..4096).contains(byte) || byte % 512 == 0) {
            for bit in 0..8 {
                let mut broken = whole.clone();
                broken[byte] ^= 1 << bit;
                let copy = disk.copy();
                copy.set_contents(&name, broken);
                refused += u32::from(judge(
                    &copy,
                    &expected,
                    &format!("{name}, byte {byte}, bit {bit}"),
                ));
            }
        }
    }
    assert!(refused > 5_000, "{refused}");
}

#[test]
fn skipping_the_checksum_makes_flipped_bits_pass() {
    let (disk, expected) = journal();
    let sabotage = Sabotage {
        skip_checksum: true,
        ..Sabotage::default()
    };
    let name = "00000001.segment";
    let whole = disk.contents(name).unwrap();
    let wrong = (4096..4600).any(|byte| {
        let mut broken = whole.clone();
        broken[byte] ^= 1;
        let copy = disk.copy();
        copy.set_contents(name, broken);
        recovered(&copy, sabotage).is_ok_and(|(records, _)| records != expected)
    });
    assert!(wrong, "the control must be caught by the tests above");
}

#[test]
fn every_cut_is_refused() {
    let (disk, expected) = journal();
    for name in segments(&disk) {
        let whole = disk.contents(&name).unwrap();
        for length in 0..whole.len() {
            let copy = disk.copy();
            copy.set_contents(&name, whole[..length].to_vec());
            assert!(judge(&copy, &expected, &format!("{name} cut to {length}")));
        }
    }
}

/// As if the rest of the file had never reached the disk: from any byte on it holds what it held before, zeros or an older
/// segment's records.
#[test]
fn every_torn_tail_is_cut_to_what_was_confirmed() {
    for recycled in [false, true] {
        let mut work = Work::new(5, Sabotage::default());
        let mut confirmed = Vec::new();
        for _ in 0..8 {
            let ticket = work.burst(&[17, 100, 250]).unwrap();
            work.journal.wait_durable(ticket, None).unwrap();
            confirmed.push(ticket);
        }
        let disk = work.disk.copy();
        let name = segments(&disk)
            .into_iter()
            .rfind(|name| {
                disk.contents(name).unwrap()[4096..]
                    .iter()
                    .any(|byte| *byte != 0)
            })
            .unwrap();
        let whole = disk.contents(&name).unwrap();
        let old = if recycled {
            disk.contents("00000001.segment").unwrap()
        } else {
            vec![0; whole.len()]
        };
        let number = u32::from_str_radix(&name[..8], 16).unwrap();
        for length in 4096..whole.len() {
            let mut torn = whole[..length].to_vec();
            torn.extend_from_slice(&old[length.min(old.len())..]);
            torn.resize(whole.len(), 0);
            let copy = disk.copy();
            copy.set_contents(&name, torn);
            let (records, report) = recovered(&copy, Sabotage::default()).unwrap();
            assert!(report.holes.is_empty());
            // Confirmed is what lies before the cut.
            let cut = u64::from(number) << 32 | length as u64;
            let marks: Vec<_> = confirmed
                .iter()
                .copied()
                .filter(|ticket| *ticket <= cut)
                .collect();
            check(&work.appended, &marks, &records)
                .unwrap_or_else(|error| panic!("cut at {length}: {error}"));
        }
    }
}

#[test]
fn swapped_doubled_missing_and_foreign_segments_are_found() {
    let (disk, expected) = journal();
    let names = segments(&disk);
    let used: Vec<_> = names
        .iter()
        .filter(|name| {
            disk.contents(name).unwrap()[4096..]
                .iter()
                .any(|byte| *byte != 0)
        })
        .collect();
    let (foreign, _) = journal();
    for first in &used {
        let copy = disk.copy();
        copy.remove_file(first);
        assert!(judge(&copy, &expected, &format!("{first} missing")));
        let copy = disk.copy();
        copy.set_contents(first, foreign.contents(first).unwrap());
        assert!(judge(&copy, &expected, &format!("{first} foreign")));
        let copy = disk.copy();
        copy.set_contents("000000ff.segment", disk.contents(first).unwrap());
        assert!(judge(&copy, &expected, &format!("{first} doubled")));
        for second in used.iter().filter(|second| *second != first) {
            let copy = disk.copy();
            copy.set_contents(first, disk.contents(second).unwrap());
            copy.set_contents(second, disk.contents(first).unwrap());
            assert!(judge(
                &copy,
                &expected,
                &format!("{first} and {second} swapped")
            ));
        }
    }
    let empty = MemoryDisk::new();
    empty.set_contents("00000001.free", vec![0; 8192]);
    assert!(
        matches!(
            recovered(&empty, Sabotage::default()),
            Err(OpenError::Corrupt { .. })
        ),
        "all segments are gone"
    );
}

#[test]
fn verification_reports_and_changes_nothing() {
    let (disk, expected) = journal();
    let found = verify(Arc::clone(&disk) as _, &mut |_, _| {}).unwrap();
    let report = found.report;
    assert!(found.end.is_some_and(|(segment, _)| segment > 1));
    assert_eq!(
        (report.records, report.closed, report.holes.len()),
        (expected.len() as u64, true, 0)
    );
    let mut broken = disk.contents("00000002.segment").unwrap();
    broken[5000] ^= 1;
    disk.set_contents("00000002.segment", broken);
    disk.record();
    let mut told = 0;
    let report = verify(Arc::clone(&disk) as _, &mut |done, total| {
        told = done.max(told).min(total)
    })
    .unwrap()
    .report;
    assert_eq!(report.holes.len(), 1);
    assert_eq!(report.holes[0].segment, 2);
    assert!(report.records < expected.len() as u64 && told > 0);
    assert!(disk.history().is_empty());
}

/// The header of a segment as a later version may write it.
fn of_version(disk: &MemoryDisk, name: &str, version: u32, header_bytes: u32) {
    let mut bytes = disk.contents(name).unwrap();
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[12..16].copy_from_slice(&header_bytes.to_le_bytes());
    if header_bytes == 64 {
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    }
    disk.set_contents(name, bytes);
}

#[test]
fn a_later_version_is_refused_and_left_as_it_is() {
    let (whole, _) = journal();
    let names = segments(&whole);
    // An upgrade begins with the newest segment; the oldest is the first that is read.
    for name in [&names[0], names.last().unwrap()] {
        for header_bytes in [64, 128] {
            let disk = whole.copy();
            of_version(&disk, name, 2, header_bytes);
            disk.set_contents("0000000f.tmp", vec![0; 4096]);
            disk.record();
            let number = u32::from_str_radix(name.strip_suffix(".segment").unwrap(), 16).unwrap();
            for error in [
                recovered(&disk, Sabotage::default()).map(drop).unwrap_err(),
                salvaged(&disk).map(drop).unwrap_err(),
                verify(Arc::clone(&disk) as _, &mut |_, _| {}).unwrap_err(),
            ] {
                assert!(
                    matches!(error, OpenError::Later { segment, version: 2 } if segment == number),
                    "{error}"
                );
                assert_eq!(
                    error.to_string(),
                    format!(
                        "journal segment {number} has format version 2, and this is a Wherry that knows versions up to 1: \
                         open it with the version that wrote it, or a later one"
                    )
                );
            }
            assert!(disk.history().is_empty(), "{name}");
        }
    }
}

#[test]
fn a_version_that_never_was_is_damage() {
    let (disk, _) = journal();
    of_version(&disk, "00000001.segment", 0, 64);
    let error = recovered(&disk, Sabotage::default()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { segment: 1, .. }));
}
