//! What messages are there after a broker was closed, or died, and was opened again.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};
use wherry_engine::{
    Broker, ConsumerOptions, Delay, NewMessage, NewPolicy, Outcome, QueueOptions, RetryKind,
    RetryPolicy,
};
use wherry_journal::testing::{MemoryDisk, Survivors};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn retrying(first: Duration, attempts: u32) -> RetryPolicy {
    RetryPolicy {
        kind: RetryKind::Constant,
        attempts,
        first,
        factor: 1.0,
        maximum: None,
        jitter: false,
        dead_letter: None,
    }
}

fn group(name: &str) -> Properties {
    Properties {
        headers: Some(Table::from_iter([("g", Value::Str(name.into()))])),
        ..Default::default()
    }
}

/// Messages of every kind in every state.
fn fill(broker: &Arc<Broker>) {
    queue(broker, "plain", QueueOptions::default());
    for i in 0..10 {
        let properties = Properties {
            message_id: Some(format!("id {i}").into_bytes()),
            headers: Some(Table::from_iter([("i", Value::I64(i))])),
            ..Default::default()
        };
        publish_with(broker, "plain", &format!("plain {i}"), &properties);
    }
    let taker = consumer(&broker.virtual_host("/").unwrap().queue("plain").unwrap());
    let taken = take(&taker, 6);
    ack(&taker, &taken[1]);
    ack(&taker, &taken[4]);
    // Handed out and returned, once failed and once without a verdict.
    taker.settle(taken[2].tag, false, Outcome::Failed).unwrap();
    taker.cancel();

    let lanes = QueueOptions {
        max_priority: Some(4),
        ..Default::default()
    };
    let lanes = queue(broker, "lanes", lanes);
    for i in 0..12u8 {
        let properties = Properties {
            priority: Some(i % 6),
            ..Default::default()
        };
        publish_with(broker, "lanes", &format!("lanes {i}"), &properties);
    }
    let taker = consumer(&lanes);
    for delivery in take(&taker, 3) {
        ack(&taker, &delivery);
    }

    let groups = QueueOptions {
        group_by: Some("g".into()),
        retry: Some(retrying(seconds(60), 3)),
        ..Default::default()
    };
    let groups = queue(broker, "groups", groups);
    for i in 0..12 {
        let name = ["a", "b", "c"][i % 3];
        publish_with(broker, "groups", &format!("{name} {i}"), &group(name));
    }
    let taker = consumer(&groups);
    let taken = take(&taker, 10);
    assert_eq!(taken.len(), 3, "one of each group");
    ack(&taker, &taken[0]);
    taker.settle(taken[1].tag, false, Outcome::Failed).unwrap(); // "b" waits for its retry
    taker.cancel();

    queue(broker, "delayed", QueueOptions::default());
    let exchange = host(broker).exchange("").unwrap();
    for i in 1..=4 {
        let body = format!("delayed {i}");
        let message = NewMessage {
            delay: Delay::For(seconds(i * 10)),
            ..NewMessage::new("delayed", body.as_bytes())
        };
        patiently(broker, || exchange.publish(&message));
    }
    let retries = QueueOptions {
        retry: Some(retrying(seconds(100), 5)),
        ..Default::default()
    };
    let retries = queue(broker, "retries", retries);
    for i in 0..4 {
        publish(broker, "retries", &format!("retries {i}"));
    }
    let taker = consumer(&retries);
    let taken = take(&taker, 3);
    taker.settle(taken[1].tag, false, Outcome::Failed).unwrap();
    taker.settle(taken[0].tag, false, Outcome::Failed).unwrap();
    taker.cancel();

    let dying = QueueOptions {
        message_ttl: Some(seconds(500)),
        dead_letter_exchange: Some("".into()),
        dead_letter_routing_key: Some("plain".into()),
        ..Default::default()
    };
    queue(broker, "dying", dying);
    publish(broker, "dying", "dies in time");
    let sooner = Properties {
        expiration: Some(b"20000".to_vec()),
        ..Default::default()
    };
    publish_with(broker, "dying", "dies sooner", &sooner);
    let transient = NewMessage {
        persistent: false,
        ..NewMessage::new("volatile", b"not kept")
    };
    queue(broker, "volatile", QueueOptions::default());
    exchange.publish(&transient).unwrap();
}

/// What the messages do later, which must not depend on a restart in between.
fn future(broker: &Arc<Broker>) -> Vec<common::Snapshot> {
    let mut seen = Vec::new();
    for step in [15, 10, 80, 400, 100] {
        broker.advance(seconds(step)).unwrap();
        let mut snapshot = snapshot(broker).without_flags();
        for (_, _, queues) in &mut snapshot.hosts {
            for message in queues.iter_mut().flat_map(|q| &mut q.ready) {
                message.published_ns = 0; // of dead letters: when they died
            }
        }
        seen.push(durable_part(snapshot));
    }
    seen
}

#[test]
fn messages_come_back_as_they_were() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    fill(&broker);
    settle_down(&broker);
    let before = durable_part(snapshot(&broker));
    let crashed = disk.crash(Survivors::None);
    broker.close().unwrap();

    let closed = disk.copy();
    let again = open(&closed);
    assert_same(&snapshot(&again), &before, "after an orderly close");
    again.close().unwrap();
    let again = open(&closed);
    assert_same(&snapshot(&again), &before, "after another");
    drop(again);

    let copy = crashed.copy();
    let again = open(&copy);
    let (seen, expected) = (snapshot(&again).without_flags(), before.without_flags());
    assert_same(&seen, &expected, "after a crash");
    let queues = &snapshot(&again).hosts[0].2;
    let plain = queues.iter().find(|q| q.name == "plain").unwrap();
    assert!(
        plain.ready.iter().all(|m| m.redelivered),
        "all are below the ceiling"
    );
    let delayed = queues.iter().find(|q| q.name == "delayed").unwrap();
    assert_eq!(delayed.scheduled.len(), 4);
    drop(again);

    // The future is the same for who was never interrupted.
    let reference_disk = MemoryDisk::new();
    let reference = open(&reference_disk);
    fill(&reference);
    let expected = future(&reference);
    for disk in [disk, crashed] {
        let again = open(&disk);
        for (step, (seen, expected)) in future(&again).iter().zip(&expected).enumerate() {
            assert_same(seen, expected, &format!("step {step}"));
        }
    }
}

#[test]
fn flags_survive_a_crash_that_is_followed_by_an_orderly_close() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    let q = queue(&broker, "q", QueueOptions::default());
    for i in 0..3 {
        publish(&broker, "q", &i.to_string());
    }
    let taker = consumer(&q);
    take(&taker, 1);
    settle_down(&broker);
    let disk = disk.crash(Survivors::None);
    let again = open(&disk);
    let crashed = snapshot(&again);
    assert!(crashed.hosts[0].2[0].ready[0].redelivered);
    again.close().unwrap();
    let again = open(&disk);
    assert_same(&snapshot(&again), &crashed, "after the close");
    // Never handed out, published after the ceiling was passed on: not flagged after an orderly close.
    publish(&again, "q", "3");
    again.close().unwrap();
    let last = snapshot(&open(&disk));
    assert!(!last.hosts[0].2[0].ready[3].redelivered);
}

#[test]
fn a_delayed_message_can_be_cancelled_after_a_restart_and_stays_cancelled() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    queue(&broker, "q", QueueOptions::default());
    let exchange = host(&broker).exchange("").unwrap();
    for body in [b"a", b"b"] {
        let message = NewMessage {
            delay: Delay::For(seconds(5)),
            ..NewMessage::new("q", body)
        };
        exchange.publish(&message).unwrap();
    }
    settle_down(&broker);
    let disk = disk.crash(Survivors::None);
    let again = open(&disk);
    let q = host(&again).queue("q").unwrap();
    let first = q.scheduled().remove(0);
    assert_eq!(first.message.body(), b"a");
    let (cancelled, ticket) = q.cancel_scheduled(first.id).unwrap();
    assert!(cancelled);
    assert!(again.wait_durable(ticket, Some(LONG)).unwrap());
    assert!(!q.cancel_scheduled(first.id).unwrap().0);
    let disk = disk.crash(Survivors::None);
    let last = open(&disk);
    last.advance(seconds(10)).unwrap();
    assert_eq!(bodies(&host(&last).queue("q").unwrap()), ["b"]);
}

#[test]
fn what_is_settled_never_returns_and_positions_are_never_reused() {
    let disk = MemoryDisk::new();
    let mut disk = disk;
    let mut next = 0;
    for round in 0..4 {
        let broker = open(&disk);
        let q = queue(&broker, "q", QueueOptions::default());
        assert!(bodies(&q).is_empty(), "round {round}");
        for i in 0..20 {
            publish(&broker, "q", &i.to_string());
        }
        let browsed = q.browse(0, usize::MAX);
        assert_eq!(browsed[0].position, next, "round {round}");
        next = browsed[19].position + 1;
        if round % 2 == 0 {
            let taker = consumer(&q);
            let last = take(&taker, 100).pop().unwrap();
            taker.settle(last.tag, true, Outcome::Ack).unwrap();
        } else {
            assert_eq!(q.purge().unwrap().0, 20);
        }
        settle_down(&broker);
        if round < 2 {
            disk = disk.crash(Survivors::None);
        } else {
            broker.close().unwrap();
        }
    }
}

#[test]
fn no_ack_deliveries_are_gone() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    let q = queue(&broker, "q", QueueOptions::default());
    for i in 0..5 {
        publish(&broker, "q", &i.to_string());
    }
    let options = ConsumerOptions {
        no_ack: true,
        ..Default::default()
    };
    let taker = q.consume(options, None).unwrap();
    assert_eq!(take(&taker, 3).len(), 3);
    settle_down(&broker);
    let again = open(&disk.crash(Survivors::None));
    assert_eq!(bodies(&host(&again).queue("q").unwrap()), ["3", "4"]);
}

#[test]
fn a_message_in_many_queues_is_settled_in_each_by_itself() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    for name in ["a", "b", "c"] {
        queue(&broker, name, QueueOptions::default());
        host(&broker)
            .bind_queue(name, "amq.fanout", "", Table::default())
            .unwrap();
    }
    let exchange = host(&broker).exchange("amq.fanout").unwrap();
    for body in [b"0", b"1"] {
        assert_eq!(
            exchange.publish(&NewMessage::new("", body)).unwrap().routed,
            3
        );
    }
    let b = consumer(&host(&broker).queue("b").unwrap());
    ack(&b, &take(&b, 1)[0]);
    host(&broker).delete_queue("c", false, false).unwrap();
    settle_down(&broker);
    let again = open(&disk.crash(Survivors::None));
    assert_eq!(bodies(&host(&again).queue("a").unwrap()), ["0", "1"]);
    assert_eq!(bodies(&host(&again).queue("b").unwrap()), ["1"]);
    assert!(host(&again).queue("c").is_err());
}

#[test]
fn groups_are_groups_again() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    let grouped = QueueOptions {
        group_by: Some("g".into()),
        ..Default::default()
    };
    let q = queue(&broker, "q", grouped);
    for name in ["gone", "a", "b", "a", "b", "b"] {
        publish_with(&broker, "q", name, &group(name));
    }
    publish(&broker, "q", "free");
    publish(&broker, "q", "free");
    let first = consumer(&q);
    ack(&first, &take(&first, 1)[0]);
    settle_down(&broker);
    let seen = |broker: &Arc<Broker>, when: &str| {
        let q = host(broker).queue("q").unwrap();
        let taker = consumer(&q);
        for expected in [vec!["a", "b", "free", "free"], vec!["a", "b"], vec!["b"]] {
            let taken = take(&taker, 10);
            let bodies: Vec<_> = taken.iter().map(|one| one.message.body()).collect();
            let expected: Vec<_> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(bodies, expected, "{when}");
            taken.iter().for_each(|one| ack(&taker, one));
        }
    };
    seen(&open(&disk.crash(Survivors::None)), "after a crash");
    // Then the messages are read for their deadlines, and for their groups with these.
    set_policy(&broker, "ttl", false, "q", &[("message-ttl", 60_000)]);
    settle_down(&broker);
    let crashed = disk.crash(Survivors::None);
    seen(&open(&crashed), "with a policy");
    broker.close().unwrap();
    seen(&open(&disk), "after a close");
}

#[test]
fn deadlines_that_a_policy_gave_are_there_again() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    queue(&broker, "dead", QueueOptions::default());
    queue(&broker, "q", QueueOptions::default());
    publish(&broker, "q", "before");
    let letters = NewPolicy {
        name: "letters".into(),
        pattern: "^q$".into(),
        definition: Table::from_iter([
            ("message-ttl", Value::I64(1000)),
            ("dead-letter-exchange", "".into()),
            ("dead-letter-routing-key", "dead".into()),
        ]),
        ..NewPolicy::default()
    };
    host(&broker).set_policy(letters).unwrap();
    publish(&broker, "q", "after");
    settle_down(&broker);
    let crashed = disk.crash(Survivors::None);
    broker.close().unwrap();
    for (disk, passed) in [(&disk, 0), (&crashed, 0), (&crashed, 5)] {
        let disk = disk.copy();
        let again = open_at(&disk, START_NS + passed * 1_000_000_000);
        let (q, dead) = (
            host(&again).queue("q").unwrap(),
            host(&again).queue("dead").unwrap(),
        );
        if passed == 0 {
            again.advance(Duration::from_millis(999)).unwrap();
            assert_eq!((q.message_count(), dead.message_count()), (2, 0));
        }
        again.advance(Duration::from_millis(1)).unwrap();
        assert_eq!(bodies(&dead), ["before", "after"], "not dropped: lettered");
        assert_eq!(q.message_count(), 0);
    }
}
