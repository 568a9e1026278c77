//! Ids that outlive restarts, crashes and the segments that they came in.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};
use wherry_engine::{
    Broker, Dedup, ExchangeKind, ExchangeOptions, NewMessage, Outcome, Published, QueueOptions,
};
use wherry_journal::testing::{MemoryDisk, Survivors};

fn window(size: Option<u64>, seconds: Option<u64>) -> Option<Dedup> {
    Some(Dedup {
        size,
        window: seconds.map(Duration::from_secs),
        ..Default::default()
    })
}

fn knowing(size: Option<u64>, seconds: Option<u64>) -> QueueOptions {
    QueueOptions {
        dedup: window(size, seconds),
        ..Default::default()
    }
}

fn send(broker: &Broker, exchange: &str, key: &str, id: &str, persistent: bool) -> Published {
    let mut headers = Table::default();
    headers.insert("x-dedup-id", Value::Str(id.into()));
    let properties = Properties {
        headers: Some(headers),
        ..Default::default()
    };
    let properties = properties.encode().unwrap();
    let message = NewMessage {
        properties: &properties,
        persistent,
        ..NewMessage::new(key, id.as_bytes())
    };
    let exchange = host(broker).exchange(exchange).unwrap();
    patiently(broker, || exchange.publish(&message))
}

fn is_known(broker: &Broker, key: &str, id: &str) -> bool {
    send(broker, "", key, id, true).duplicates == 1
}

fn drain(broker: &Broker, name: &str) -> usize {
    let queue = host(broker).queue(name).unwrap();
    let consumer = consumer(&queue);
    let taken = take(&consumer, 100_000);
    if !taken.is_empty() {
        consumer.settle(0, true, Outcome::Ack).unwrap();
    }
    taken.len()
}

#[test]
fn ids_of_persistent_messages_outlive_a_restart() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    queue(&broker, "q", knowing(Some(3), None));
    queue(
        &broker,
        "t",
        QueueOptions {
            durable: false,
            ..knowing(Some(3), None)
        },
    );
    let options = ExchangeOptions {
        kind: ExchangeKind::Direct,
        dedup: window(None, Some(60)),
        ..Default::default()
    };
    host(&broker).declare_exchange("x", options).unwrap();
    host(&broker)
        .bind_queue("q", "x", "q", Table::default())
        .unwrap();
    for id in ["a", "b"] {
        send(&broker, "", "q", id, true);
    }
    send(&broker, "", "q", "transient", false);
    send(&broker, "x", "q", "c", true);
    assert_eq!(drain(&broker, "q"), 4);
    broker.close().unwrap();

    let broker = open(&disk);
    assert_eq!(send(&broker, "x", "q", "c", true).duplicates, 1);
    assert_eq!(drain(&broker, "q"), 0);
    assert!(is_known(&broker, "q", "c") && is_known(&broker, "q", "b"));
    assert!(!is_known(&broker, "q", "transient"));
    // Numbers go on above those in the journal.
    for id in ["d", "e"] {
        assert!(!is_known(&broker, "q", id));
    }
    broker.close().unwrap();
    let broker = open(&disk);
    for id in ["transient", "d", "e"] {
        assert!(is_known(&broker, "q", id), "{id}");
    }
    assert!(!is_known(&broker, "q", "b"));
    broker.close().unwrap();

    let broker = open_at(&disk, START_NS + 61_000_000_000);
    assert_eq!(send(&broker, "x", "q", "c2", true).duplicates, 0);
    assert_eq!(send(&broker, "x", "q", "c", true).routed, 1);
    broker.close().unwrap();
}

#[test]
fn a_deleted_queue_takes_its_ids_along() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    queue(&broker, "q", knowing(Some(3), None));
    send(&broker, "", "q", "a", true);
    host(&broker).delete_queue("q", false, false).unwrap();
    queue(&broker, "q", knowing(Some(3), None));
    assert!(!is_known(&broker, "q", "a"));
    broker.close().unwrap();
    let broker = open(&disk);
    assert!(is_known(&broker, "q", "a"));
    assert_eq!(drain(&broker, "q"), 1);
    broker.close().unwrap();
}

/// Segments go when their messages are settled; the ids that are still remembered are copied, the others are not.
#[test]
fn ids_outlive_the_segments_that_they_came_in() {
    const SEGMENT: u32 = 64 << 10;
    const WINDOW: usize = 2000;
    let disk = MemoryDisk::new();
    let broker = Broker::open(options(&disk, SEGMENT, START_NS)).unwrap();
    queue(&broker, "q", knowing(Some(WINDOW as u64), None));
    let pad = "p".repeat(400);
    let id = |n: usize| format!("{n}-{pad}");
    const MESSAGES: usize = 12_000;
    for n in 0..MESSAGES {
        assert_eq!(send(&broker, "", "q", &id(n), true).duplicates, 0);
        if n % 100 == 99 {
            assert_eq!(drain(&broker, "q"), 100);
            settle_down(&broker);
        }
    }
    // 2,000 ids are 128,000 bytes: twice that and some slack, though 5 MB went through.
    wait_for_size(&broker, 24 * u64::from(SEGMENT));
    wait_for_rest(&broker);
    let check = |broker: &Arc<Broker>| {
        for n in (MESSAGES - WINDOW..MESSAGES).step_by(97) {
            assert!(is_known(broker, "q", &id(n)), "{n}");
        }
        assert_eq!(host(broker).queue("q").unwrap().message_count(), 0);
    };
    check(&broker);
    broker.close().unwrap();
    let broker = Broker::open(options(&disk, SEGMENT, START_NS)).unwrap();
    check(&broker);
    // After a restart they are copied as well.
    for n in MESSAGES..MESSAGES + 1500 {
        send(&broker, "", "q", &id(n), true);
        if n % 100 == 99 {
            drain(&broker, "q");
            settle_down(&broker);
        }
    }
    assert!(is_known(&broker, "q", &id(MESSAGES - 100)));
    broker.close().unwrap();
    let broker = Broker::open(options(&disk, SEGMENT, START_NS)).unwrap();
    assert!(is_known(&broker, "q", &id(MESSAGES - 100)));
    assert!(is_known(&broker, "q", &id(MESSAGES + 1499)));
    broker.close().unwrap();
}

/// Whatever a crash leaves: a message that was confirmed is known, and one is known only if it is there or was consumed.
#[test]
fn after_a_crash_an_id_is_there_with_its_message_or_neither_is() {
    for seed in 0..15 {
        let mut random = Random::new(seed);
        let mut disk = MemoryDisk::new();
        let mut broker = Broker::open(options(&disk, 64 << 10, START_NS)).unwrap();
        queue(&broker, "q", knowing(Some(100_000), None));
        settle_down(&broker);
        let mut next = 0;
        let mut confirmed = 0;
        for _ in 0..3 {
            for _ in 0..random.below(150) {
                let filler = "f".repeat(random.below(500) as usize);
                send(&broker, "", "q", &format!("{next}-{filler}"), true);
                // The same one again, and one from long ago.
                let repeated = random.below(next + 1);
                let ids = bodies(&host(&broker).queue("q").unwrap());
                let known = &ids[repeated as usize % ids.len()];
                assert_eq!(send(&broker, "", "q", known, true).duplicates, 1);
                next += 1;
                if random.one_in(20) {
                    settle_down(&broker);
                    confirmed = next;
                }
            }
            let survivors = match random.below(3) {
                0 => Survivors::None,
                1 => Survivors::All,
                _ => Survivors::Random(random.next()),
            };
            disk = disk.crash(survivors);
            drop(broker);
            broker = Broker::open(options(&disk, 64 << 10, START_NS)).unwrap();
            let there = bodies(&host(&broker).queue("q").unwrap());
            assert!(there.len() as u64 >= confirmed, "seed {seed}");
            for body in &there {
                assert!(
                    is_known(&broker, "q", body),
                    "seed {seed}: {body} would be there twice"
                );
            }
            next = there.len() as u64;
            confirmed = next;
            assert!(!is_known(&broker, "q", &format!("lost {seed} {next}")));
            next += 1;
        }
        broker.close().unwrap();
    }
}
