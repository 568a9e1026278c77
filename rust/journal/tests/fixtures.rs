//! Journals written by released versions, which stay readable for ever. `tests/fixtures/v1` was written by format version 1.
//!
//! To add a version: `WHERRY_WRITE_FIXTURES=v2 cargo test -p wherry-journal --test fixtures`, and never touch the old ones.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Record, open_journal, recovered, tiny};
use wherry_journal::testing::{MemoryDisk, Sabotage};
use wherry_journal::{Class, offset_of, segment_of};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn payload(index: usize) -> Vec<u8> {
    if index == 30 {
        // Has a segment of its own.
        return vec![0xab; 9_000];
    }
    (0..index * 37 % 400)
        .map(|byte| (byte + index) as u8)
        .collect()
}

const RECORDS: usize = 45;

/// Writes the journal that all versions write: several segments, one of them retired, a large record, a skipped reservation.
fn write() -> (Arc<MemoryDisk>, Arc<MemoryDisk>) {
    let disk = MemoryDisk::new();
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let mut last = 0;
    for index in 0..RECORDS {
        let (at, ticket) = loop {
            match journal.append((index % 7) as u8, &payload(index), Class::Publish) {
                Ok(done) => break done,
                Err(_) => assert!(journal.wait_space(None)),
            }
        };
        journal.wait_durable(ticket, None).unwrap();
        last = at;
        if index == 35 {
            journal.retire(1).unwrap();
        }
        if index == 40 {
            drop(journal.reserve(&[50], Class::Settle).unwrap());
        }
    }
    let running = disk.copy();
    journal.close().unwrap();
    // As a crash leaves it: the end of the last record did not reach the disk.
    let name = format!("{:08x}.segment", segment_of(last));
    let mut bytes = running.contents(&name).unwrap();
    let end = offset_of(last) as usize + payload(RECORDS - 1).len();
    bytes[end - 20..end].fill(0);
    running.set_contents(&name, bytes);
    (disk, running)
}

fn save(disk: &MemoryDisk, directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    for name in disk.names() {
        std::fs::write(directory.join(&name), disk.contents(&name).unwrap()).unwrap();
    }
}

fn load(directory: &Path) -> Arc<MemoryDisk> {
    let disk = MemoryDisk::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        disk.set_contents(
            entry.file_name().to_str().unwrap(),
            std::fs::read(entry.path()).unwrap(),
        );
    }
    disk
}

fn check(replayed: &[Record], count: usize) {
    let first = RECORDS - (RECORDS - count) - replayed.len();
    for (place, record) in replayed.iter().enumerate() {
        let index = first + place;
        assert_eq!(
            (record.kind, &record.payload),
            ((index % 7) as u8, &payload(index)),
            "record {index}"
        );
    }
    assert!(
        segment_of(replayed[0].at) == 2 && first > 0,
        "the first segment is retired"
    );
    assert!(replayed.len() > 20);
}

#[test]
fn journals_of_all_versions_open() {
    if let Ok(version) = std::env::var("WHERRY_WRITE_FIXTURES") {
        let (closed, torn) = write();
        save(&closed, &fixtures().join(&version).join("closed"));
        save(&torn, &fixtures().join(&version).join("torn"));
    }
    let mut versions = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let (closed, report) = recovered(&load(&path.join("closed")), Sabotage::default()).unwrap();
        assert!(report.closed && report.holes.is_empty());
        check(&closed, RECORDS);
        let (torn, report) = recovered(&load(&path.join("torn")), Sabotage::default()).unwrap();
        assert!(!report.closed && report.holes.is_empty());
        assert!(torn == closed[..closed.len() - 1]);
        check(&torn, RECORDS - 1);
        // And they go on.
        let (journal, _) =
            open_journal(&load(&path.join("torn")), tiny(), Sabotage::default()).unwrap();
        let (_, ticket) = journal.append(1, b"more", Class::Settle).unwrap();
        assert!(journal.wait_durable(ticket, None).unwrap());
        versions += 1;
    }
    assert!(versions >= 1);
}
