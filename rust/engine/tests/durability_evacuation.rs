//! A journal that stays small: what lives in old segments is copied forward, whatever happens meanwhile.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use wherry_engine::clock::Clock;
use wherry_engine::table::Table;
use wherry_engine::{
    Broker, BrokerOptions, Delay, Error, ExchangeKind, ExchangeOptions, NewMessage, Outcome,
    QueueOptions, RetryKind, RetryPolicy,
};
use wherry_journal::testing::{MemoryDisk, Survivors};

const SEGMENT: u32 = 16 << 10;

fn open_small(disk: &Arc<MemoryDisk>) -> Arc<Broker> {
    Broker::open(options(disk, SEGMENT, START_NS)).unwrap()
}

/// Publishes to and consumes from "fast" `n` messages, numbered from `first`. Calls `durable` with a number when
/// everything up to it is.
fn fast(broker: &Arc<Broker>, first: usize, n: usize, mut durable: impl FnMut(usize)) {
    let queue = queue(broker, "fast", QueueOptions::default());
    let consumer = consumer(&queue);
    for i in first..first + n {
        publish(broker, "fast", &format!("{i} {}", "x".repeat(300)));
        for delivery in take(&consumer, 10) {
            ack(&consumer, &delivery);
        }
        if i % 10 == 0 {
            settle_down(broker);
            durable(i);
        }
    }
    consumer.cancel();
}

/// Things of every kind that stay.
fn stragglers(broker: &Arc<Broker>) {
    let host = host(broker);
    let topic = ExchangeOptions {
        kind: ExchangeKind::Topic,
        ..Default::default()
    };
    patiently(broker, || host.declare_exchange("t", topic.clone()));
    let lanes = QueueOptions {
        max_priority: Some(3),
        ..Default::default()
    };
    let retrying = QueueOptions {
        retry: Some(RetryPolicy {
            kind: RetryKind::Constant,
            attempts: 9,
            first: Duration::from_secs(1000),
            factor: 1.0,
            maximum: None,
            jitter: false,
            dead_letter: None,
        }),
        ..Default::default()
    };
    for length in [100, 200, 300] {
        set_policy(broker, "length", false, "^slow$", &[("max-length", length)]);
    }
    set_policy(broker, "time", true, "", &[("message-ttl", 1 << 36)]);
    set_policy(
        broker,
        "gone",
        false,
        "^(slow|lanes)$",
        &[("expires", 1 << 36)],
    );
    patiently(broker, || host.clear_policy("gone", false));
    queue(broker, "slow", QueueOptions::default());
    queue(broker, "lanes", lanes);
    let retries = queue(broker, "retries", retrying);
    queue(broker, "emptied", QueueOptions::default());
    for key in ["a", "b.#"] {
        patiently(broker, || {
            host.bind_queue("slow", "t", key, Table::default())
        });
        patiently(broker, || {
            host.bind_exchange("t", "amq.topic", key, Table::default())
        });
        patiently(broker, || {
            host.bind_queue("lanes", "amq.fanout", key, Table::default())
        });
    }
    patiently(broker, || {
        host.unbind_queue("slow", "t", "a", Table::default())
    });
    for i in 0..10 {
        publish(broker, "slow", &format!("slow {i}"));
        publish(broker, "retries", &format!("retries {i}"));
        publish(broker, "emptied", &format!("emptied {i}"));
        let exchange = host.exchange("").unwrap();
        let delayed = NewMessage {
            delay: Delay::For(Duration::from_secs(500 + i)),
            ..NewMessage::new("slow", b"delayed")
        };
        patiently(broker, || exchange.publish(&delayed));
        let fanout = host.exchange("amq.fanout").unwrap();
        patiently(broker, || fanout.publish(&NewMessage::new("a", b"lanes")));
    }
    let consumer = consumer(&retries);
    for delivery in take(&consumer, 4) {
        settle_down(broker);
        consumer
            .settle(delivery.tag, false, Outcome::Failed)
            .unwrap();
    }
    consumer.cancel();
    host.queue("emptied").unwrap().purge().unwrap();
}

/// All but the fast queue.
fn slow_part(broker: &Broker) -> Snapshot {
    let mut snapshot = snapshot(broker).without_flags();
    for (_, _, queues) in &mut snapshot.hosts {
        queues.retain(|q| q.name != "fast");
    }
    snapshot
}

#[test]
fn stragglers_survive_while_the_journal_stays_small() {
    let disk = MemoryDisk::new();
    let broker = open_small(&disk);
    stragglers(&broker);
    queue(&broker, "fast", QueueOptions::default());
    settle_down(&broker);
    let expected = slow_part(&broker);
    disk.record();
    fast(&broker, 1, 800, |i| {
        disk.mark(i as u64);
        // 60 KB more went through; less than 16 KB lives.
        if i % 200 == 0 {
            wait_for_size(&broker, 7 * u64::from(SEGMENT));
        }
    });
    settle_down(&broker);
    wait_for_size(&broker, 7 * u64::from(SEGMENT));
    let history = disk.history();
    assert_same(&slow_part(&broker), &expected, "before any crash");
    let published = broker.statistics();
    assert_eq!(published.ready as usize, expected_ready(&expected));
    drop(broker);

    let mut random = Random::new(7);
    let points: BTreeSet<usize> = (0..25)
        .map(|_| random.below(history.len() as u64 + 1) as usize)
        .collect();
    history.for_each_point(|point| {
        if !points.contains(&point.operations) {
            return;
        }
        let durable = point.marks.last().copied().unwrap_or(0);
        point.for_each_state(1, 7, |what, disk| {
            if what.contains("Only") || what.contains("AllBut") {
                return;
            }
            let broker = open_small(&disk);
            assert_same(&slow_part(&broker), &expected, what);
            for body in bodies(&host(&broker).queue("fast").unwrap()) {
                let number: u64 = body.split(' ').next().unwrap().parse().unwrap();
                assert!(
                    number > durable,
                    "{what}: {number} was acknowledged by {durable}"
                );
            }
            // A second life, in which what was emptied long ago does not start over.
            let emptied = host(&broker).queue("emptied").unwrap();
            publish(&broker, "emptied", "new");
            let position = emptied.browse(0, 1)[0].position;
            assert!(
                position >= 10,
                "{what}: position {position} was given out before"
            );
        });
    });
}

fn expected_ready(snapshot: &Snapshot) -> usize {
    snapshot.hosts[0].2.iter().map(|q| q.ready.len()).sum()
}

#[test]
fn a_backlog_is_not_copied_for_ever() {
    let disk = MemoryDisk::new();
    let broker = open_small(&disk);
    queue(&broker, "q", QueueOptions::default());
    for i in 0..1000 {
        publish(&broker, "q", &format!("{i} {}", "x".repeat(500)));
    }
    settle_down(&broker);
    let written = |broker: &Broker| broker.statistics().journal.unwrap().written_bytes;
    assert!(journal_bytes(&broker) > 30 * u64::from(SEGMENT));
    assert!(
        written(&broker) < 700_000,
        "{} bytes written for 560,000",
        written(&broker)
    );
    broker.close().unwrap();
    // Nor after a restart, which has only the journal to learn from what lives.
    let broker = open_small(&disk);
    for i in 0..100 {
        publish(&broker, "q", &format!("{i} {}", "x".repeat(500)));
    }
    settle_down(&broker);
    assert!(
        written(&broker) < 100_000,
        "{} bytes written for 56,000",
        written(&broker)
    );
}

#[test]
fn a_restart_does_not_forget_how_much_is_dead() {
    let disk = MemoryDisk::new();
    let broker = open_small(&disk);
    queue(&broker, "q", QueueOptions::default());
    for i in 0..600 {
        publish(&broker, "q", &format!("{i} {}", "x".repeat(500)));
    }
    settle_down(&broker);
    broker.close().unwrap();
    let before = disk.copy();
    // Acknowledged all but every fiftieth, with a crash before anything could be evacuated: by a copy of the disk.
    let broker = open_small(&before);
    let q = host(&broker).queue("q").unwrap();
    let consumer = consumer(&q);
    for (i, delivery) in take(&consumer, 1000).iter().enumerate() {
        if i % 50 != 0 {
            ack(&consumer, delivery);
        }
    }
    settle_down(&broker);
    let left = 12;
    let disk = before.crash(Survivors::None);
    drop(broker);
    let broker = open_small(&disk);
    assert_eq!(broker.statistics().ready, left);
    wait_for_size(&broker, 7 * u64::from(SEGMENT));
    let again = open_small(&disk.crash(Survivors::None));
    assert_eq!(again.statistics().ready, left);
}

fn real(disk: &Arc<MemoryDisk>) -> BrokerOptions {
    BrokerOptions {
        disk: Some(disk.clone()),
        segment_bytes: SEGMENT,
        clock: Clock::real(),
        ..BrokerOptions::default()
    }
}

/// One thread's work: publishes and acknowledges at once, with a window, and leaves some for good.
fn churn(broker: &Arc<Broker>, thread: u64, round: u64) -> BTreeSet<String> {
    let name = format!("q{thread}");
    let queue = queue(broker, &name, QueueOptions::default());
    let consumer = consumer(&queue);
    let mut random = Random::new(thread * 1000 + round);
    let mut left = BTreeSet::new();
    let mut held: Vec<(u64, String)> = Vec::new();
    let mut out = Vec::new();
    for i in 0..700 {
        let body = format!(
            "{thread} {round} {i} {}",
            "y".repeat(random.below(400) as usize)
        );
        let exchange = host(broker).exchange("").unwrap();
        let message = NewMessage::new(&name, body.as_bytes());
        loop {
            match exchange.publish(&message) {
                Ok(_) => break,
                Err(Error::Busy) => {
                    broker.wait_space(Some(Duration::from_millis(20)));
                }
                Err(error) => panic!("{error}"),
            }
        }
        consumer.take(10, &mut out);
        for delivery in out.drain(..) {
            let body = String::from_utf8(delivery.message.body().to_vec()).unwrap();
            held.push((delivery.tag, body));
        }
        while held.len() > 40 {
            let index = random.below(held.len() as u64) as usize;
            let (tag, body) = held.swap_remove(index);
            if random.one_in(60) {
                left.insert(body);
            } else {
                consumer.settle(tag, false, Outcome::Ack).unwrap();
            }
        }
    }
    left.extend(held.into_iter().map(|(_, body)| body));
    left
}

#[test]
fn nothing_rises_that_is_settled_while_it_is_copied() {
    let mut disk = MemoryDisk::new();
    let mut expected: BTreeSet<String> = BTreeSet::new();
    for round in 0..6 {
        let broker = Broker::open(real(&disk)).unwrap();
        let there: Vec<String> = host(&broker)
            .queues()
            .iter()
            .flat_map(|q| bodies(q))
            .collect();
        assert_eq!(there.len(), expected.len(), "round {round}");
        assert_eq!(BTreeSet::from_iter(there), expected, "round {round}");
        expected.clear();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|thread| {
                    let broker = &broker;
                    scope.spawn(move || churn(broker, thread, round))
                })
                .collect();
            for thread in threads {
                expected.extend(thread.join().unwrap());
            }
        });
        // What was left over from the round before was taken first, and then left or acknowledged like the rest.
        settle_down(&broker);
        wait_for_size(&broker, 16 * u64::from(SEGMENT));
        disk = disk.crash(if round == 0 {
            Survivors::All
        } else {
            Survivors::None
        });
    }
}

/// Threads that only acknowledge, which is what compaction does not keep away.
#[test]
fn nothing_rises_that_is_acknowledged_between_two_looks() {
    for seed in 0..20 {
        let disk = MemoryDisk::new();
        let broker = Broker::open(real(&disk)).unwrap();
        let q = queue(&broker, "q", QueueOptions::default());
        for i in 0..1200 {
            publish(&broker, "q", &format!("{i} {}", "x".repeat(200)));
        }
        let consumer = consumer(&q);
        let mut random = Random::new(seed);
        let mut parts: [Vec<u64>; 3] = Default::default();
        let mut left = BTreeSet::new();
        for delivery in take(&consumer, 2000) {
            if random.one_in(20) {
                left.insert(String::from_utf8(delivery.message.body().to_vec()).unwrap());
            } else {
                parts[random.below(3) as usize].push(delivery.tag);
            }
        }
        for part in &mut parts {
            for index in (1..part.len()).rev() {
                part.swap(index, random.below(index as u64 + 1) as usize);
            }
        }
        std::thread::scope(|scope| {
            for part in &parts {
                let consumer = &consumer;
                scope.spawn(move || {
                    for tag in part {
                        consumer.settle(*tag, false, Outcome::Ack).unwrap();
                    }
                });
            }
        });
        settle_down(&broker);
        wait_for_size(&broker, 10 * u64::from(SEGMENT));
        let again = Broker::open(real(&disk.crash(Survivors::None))).unwrap();
        let found = bodies(&host(&again).queue("q").unwrap());
        assert_eq!(BTreeSet::from_iter(found), left, "seed {seed}");
    }
}
