//! Records that nobody waits for: they wait for company, and never for long.

mod common;

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use wherry_journal::testing::{MemoryDisk, Sabotage};
use wherry_journal::{Class, Journal, Observer, Options, QUIET_MAX};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Told(parking_lot::Mutex<Sender<u64>>);

impl Observer for Told {
    fn durable(&self, ticket: u64) {
        let _ = self.0.lock().send(ticket);
    }
}

fn quiet(journal: &Journal, payload: &[u8]) -> u64 {
    let sizes = [payload.len()];
    let mut reservation = journal.reserve(&sizes, Class::Settle).expect("room");
    let (_, bytes) = reservation.next(1);
    bytes.copy_from_slice(payload);
    reservation.finish_quietly()
}

fn open(disk: &Arc<MemoryDisk>) -> (Arc<Journal>, Vec<common::Record>) {
    common::open_journal(disk, Options::default(), Sabotage::default()).expect("opens")
}

#[test]
fn they_become_durable_by_themselves() {
    let (journal, _) = open(&MemoryDisk::new());
    let (sender, told) = mpsc::channel();
    journal.set_observer(Arc::new(Told(parking_lot::Mutex::new(sender))));
    for _ in 0..3 {
        let ticket = quiet(&journal, b"nobody asked");
        while journal.durable() < ticket {
            told.recv_timeout(PATIENCE).expect("written without a call");
        }
    }
    journal.close().expect("closes");
}

#[test]
fn many_of_them_share_a_write() {
    let (journal, _) = open(&MemoryDisk::new());
    let before = journal.statistics().syncs;
    let started = std::time::Instant::now();
    let mut last = 0;
    for _ in 0..200 {
        last = quiet(&journal, b"ack");
        // Time for the committer to wake up, if it were called.
        std::thread::yield_now();
    }
    journal.hurry(last);
    assert!(journal.wait_durable(last, Some(PATIENCE)).expect("healthy"));
    let syncs = journal.statistics().syncs - before;
    let periods = started.elapsed().as_nanos() / QUIET_MAX.as_nanos();
    assert!(
        u128::from(syncs) <= periods + 2,
        "{syncs} syncs in {periods} periods"
    );
    journal.close().expect("closes");
}

#[test]
fn closing_writes_them() {
    let disk = MemoryDisk::new();
    let (journal, _) = open(&disk);
    quiet(&journal, b"the last word");
    journal.close().expect("closes");
    drop(journal);
    let (_, records) = open(&disk);
    assert!(
        records
            .iter()
            .any(|record| record.payload == b"the last word"),
        "{records:?}"
    );
}
