//! Damaged journals and hostile ones: refused, or right; never wrong, and never a panic.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};
use wherry_engine::testing::open_broken;
use wherry_engine::{
    Broker, Delay, Error, NewMessage, Outcome, QueueOptions, RetryKind, RetryPolicy,
};
use wherry_journal::testing::{MemoryDisk, Sabotage};
use wherry_journal::{Class, Disk, Journal, Options, Replay};

const SEGMENT: u32 = 32 << 10;

/// A journal with every kind of entry, closed.
fn filled() -> Arc<MemoryDisk> {
    let disk = MemoryDisk::new();
    let broker = Broker::open(options(&disk, SEGMENT, START_NS)).unwrap();
    let host = host(&broker);
    broker.add_virtual_host("other").unwrap();
    let retrying = QueueOptions {
        retry: Some(RetryPolicy {
            kind: RetryKind::Constant,
            attempts: 3,
            first: Duration::from_secs(100),
            factor: 1.0,
            maximum: None,
            jitter: false,
            dead_letter: None,
        }),
        ..Default::default()
    };
    let q = queue(&broker, "q", retrying);
    queue(&broker, "gone", QueueOptions::default());
    let lanes = QueueOptions {
        max_priority: Some(3),
        message_ttl: Some(Duration::from_secs(50)),
        ..Default::default()
    };
    queue(&broker, "lanes", lanes);
    let grouped = QueueOptions {
        group_by: Some("g".into()),
        ..Default::default()
    };
    queue(&broker, "grouped", grouped);
    host.bind_queue("q", "amq.topic", "a.*", Table::default())
        .unwrap();
    host.bind_queue("q", "amq.topic", "b.*", Table::default())
        .unwrap();
    host.unbind_queue("q", "amq.topic", "b.*", Table::default())
        .unwrap();
    for i in 0..6 {
        let properties = Properties {
            priority: Some(i),
            headers: Some(Table::from_iter([("g", Value::I32(i32::from(i) % 2))])),
            expiration: (i == 3).then(|| b"60000".to_vec()),
            ..Default::default()
        };
        for name in ["q", "lanes", "grouped", "gone"] {
            publish_with(&broker, name, &format!("message {i}"), &properties);
        }
    }
    host.delete_queue("gone", false, false).unwrap();
    let delayed = NewMessage {
        delay: Delay::For(Duration::from_secs(70)),
        ..NewMessage::new("q", b"later")
    };
    for _ in 0..2 {
        host.exchange("").unwrap().publish(&delayed).unwrap();
    }
    q.cancel_scheduled(q.scheduled()[0].id).unwrap();
    let consumer = consumer(&q);
    let taken = take(&consumer, 4);
    ack(&consumer, &taken[0]);
    consumer
        .settle(taken[1].tag, false, Outcome::Failed)
        .unwrap();
    consumer.cancel();
    settle_down(&broker);
    broker.close().unwrap();
    disk
}

/// What opening gives: refused, or everything there is.
fn opened(disk: &Arc<MemoryDisk>, sabotage: Sabotage) -> Result<Option<Snapshot>, String> {
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        match open_broken(options(disk, SEGMENT, START_NS), sabotage) {
            Ok(broker) => Ok(Some(snapshot(&broker).without_flags())),
            Err(Error::JournalCorrupt(_)) => Ok(None),
            Err(error) => Err(format!("{error:?}")),
        }
    }));
    attempt.unwrap_or_else(|_| Err("a panic".into()))
}

/// Flips one bit of every `step`th byte that is in use; how often that was refused.
fn flip(sabotage: Sabotage, step: usize) -> Result<(usize, usize), String> {
    let disk = filled();
    let expected = opened(&disk.copy(), Sabotage::default())?;
    assert!(expected.is_some());
    let name = "00000001.segment";
    let bytes = disk.contents(name).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    assert!(end > 6000, "{end}");
    let (mut refused, mut same) = (0, 0);
    for at in (0..end).step_by(step) {
        if (64..4096).contains(&at) {
            continue; // between header and records
        }
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let copy = disk.copy();
        copy.set_contents(name, damaged);
        match opened(&copy, sabotage).map_err(|e| format!("byte {at}: {e}"))? {
            None => refused += 1,
            Some(snapshot) if Some(&snapshot) == expected.as_ref() => same += 1,
            Some(_) => return Err(format!("byte {at}: something else came back")),
        }
    }
    Ok((refused, same))
}

#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    let (refused, same) = flip(Sabotage::default(), 3).unwrap();
    assert!(refused > 1000, "{refused} refused, {same} harmless");
    // The end of a journal cannot be told from one that a crash tore; nothing confirmed is there.
    assert!(same < 100, "{refused} refused, {same} harmless");
}

#[test]
fn a_journal_that_does_not_look_at_checksums_is_caught() {
    let sabotage = Sabotage {
        skip_checksum: true,
        ..Sabotage::default()
    };
    assert!(flip(sabotage, 1).is_err(), "nobody noticed");
}

#[derive(Default)]
struct Collect(Vec<Vec<u8>>);

impl Replay for Collect {
    fn record(&mut self, _: u64, _: u8, payload: &[u8]) -> Result<(), String> {
        self.0.push(payload.to_vec());
        Ok(())
    }
}

/// A journal of these records, with good checksums.
fn forged(records: &[Vec<u8>]) -> Arc<MemoryDisk> {
    let disk = MemoryDisk::new();
    let options = Options {
        segment_bytes: 256 << 10,
        ..Options::default()
    };
    let dynamic: Arc<dyn Disk> = disk.clone();
    let journal = Journal::open(dynamic, options, &mut Collect::default()).unwrap();
    for record in records {
        journal.append(1, record, Class::Publish).unwrap();
    }
    journal.close().unwrap();
    disk
}

#[test]
fn forged_records_never_make_recovery_panic() {
    let mut collected = Collect::default();
    let dynamic: Arc<dyn Disk> = filled();
    let journal = Journal::open(dynamic, Options::default(), &mut collected).unwrap();
    drop(journal);
    let records = collected.0;
    assert!(
        opened(&forged(&records), Sabotage::default())
            .unwrap()
            .is_some()
    );
    let mut random = Random::new(11);
    let (mut good, mut refused) = (0, 0);
    for round in 0..1500 {
        let mut forgery = records.clone();
        for _ in 0..1 + random.below(3) {
            let record = random.below(forgery.len() as u64) as usize;
            match random.below(6) {
                0 => {
                    let length = random.below(60) as usize;
                    forgery[record] = (0..length).map(|_| random.next() as u8).collect();
                }
                1 => {
                    let other = random.below(forgery.len() as u64) as usize;
                    forgery.swap(record, other);
                }
                2 => {
                    forgery.remove(record);
                }
                _ if forgery[record].is_empty() => {}
                // Whole words of extremes, then single bytes.
                3 => {
                    let at = random.below(forgery[record].len() as u64) as usize;
                    let filler = if random.one_in(2) { 0xff } else { 0x7f };
                    forgery[record]
                        .iter_mut()
                        .skip(at)
                        .take(8)
                        .for_each(|b| *b = filler);
                }
                _ => {
                    let at = random.below(forgery[record].len() as u64) as usize;
                    forgery[record][at] = random.next() as u8;
                }
            }
        }
        match opened(&forged(&forgery), Sabotage::default()) {
            Ok(Some(_)) => good += 1,
            Ok(None) => refused += 1,
            Err(error) => panic!("round {round}: {error}: {forgery:?}"),
        }
    }
    assert!(
        good > 100 && refused > 100,
        "{good} good, {refused} refused"
    );
}
