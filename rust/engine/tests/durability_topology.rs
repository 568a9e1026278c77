//! What topology is there after a broker was closed, or died, and was opened again.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use wherry_engine::table::{Table, Value};
use wherry_engine::{
    Broker, Dedup, DedupKey, ExchangeKind, ExchangeOptions, NewMessage, NewPolicy, Overflow,
    QueueOptions, RetryKind, RetryPolicy,
};
use wherry_journal::testing::{MemoryDisk, Survivors};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A queue with every option there is, all different from the default.
fn everything() -> QueueOptions {
    QueueOptions {
        durable: true,
        exclusive: None,
        auto_delete: true,
        group_by: Some("customer".into()),
        retry: Some(RetryPolicy {
            kind: RetryKind::Exponential,
            attempts: 7,
            first: Duration::from_millis(250),
            factor: 1.5,
            maximum: Some(seconds(90)),
            jitter: true,
            dead_letter: Some("graveyard".into()),
        }),
        max_priority: None,
        message_ttl: Some(seconds(1000)),
        expires: Some(seconds(100_000)),
        max_length: Some(5000),
        max_length_bytes: Some(1 << 40),
        overflow: Overflow::RejectPublish,
        dead_letter_exchange: None,
        dead_letter_routing_key: None,
        delivery_limit: Some(9),
        single_active_consumer: true,
        lease: Some(seconds(30)),
        dedup: Some(Dedup {
            by: DedupKey::Named("order-id".into()),
            window: Some(seconds(60)),
            size: Some(1000),
        }),
        arguments: Table::from_iter([("x-note", Value::Str("a\0b".into()))]),
    }
}

fn build_topology(broker: &Arc<Broker>) {
    let host = host(broker);
    let (other, _) = broker.add_virtual_host("other").unwrap();
    let exchange = |name: &str, kind| {
        let options = ExchangeOptions {
            kind,
            alternate_exchange: Some("lost".into()),
            arguments: Table::from_iter([("hash", Value::I64(5))]),
            ..Default::default()
        };
        host.declare_exchange(name, options).unwrap();
    };
    exchange("d", ExchangeKind::Direct);
    exchange("t", ExchangeKind::Topic);
    exchange("h", ExchangeKind::Headers);
    exchange("f", ExchangeKind::Fanout);
    let hidden = ExchangeOptions {
        kind: ExchangeKind::Fanout,
        internal: true,
        auto_delete: true,
        ..Default::default()
    };
    host.declare_exchange("hidden", hidden).unwrap();
    let gone = ExchangeOptions {
        durable: false,
        ..Default::default()
    };
    host.declare_exchange("gone", gone).unwrap();
    queue(broker, "plain", QueueOptions::default());
    queue(broker, "everything", everything());
    let lettered = QueueOptions {
        max_priority: Some(9),
        overflow: Overflow::RejectPublishDeadLetter,
        dead_letter_exchange: Some("d".into()),
        dead_letter_routing_key: Some("dead".into()),
        ..Default::default()
    };
    queue(broker, "lettered", lettered);
    let transient = QueueOptions {
        durable: false,
        ..Default::default()
    };
    queue(broker, "transient", transient);
    let exclusive = QueueOptions {
        exclusive: Some(7),
        ..Default::default()
    };
    queue(broker, "exclusive", exclusive);
    let bind = |queue: &str, exchange: &str, key: &str, arguments: Table| {
        host.bind_queue(queue, exchange, key, arguments).unwrap();
    };
    bind("plain", "d", "k", Table::default());
    bind("plain", "d", "k2", Table::default());
    bind("plain", "t", "a.*.#", Table::default());
    let all = Table::from_iter([
        ("x-match", Value::Str("all".into())),
        ("n", Value::I32(3)),
        ("s", Value::Str("text".into())),
    ]);
    bind("lettered", "h", "", all.clone());
    bind("everything", "f", "", Table::default());
    bind("transient", "f", "", Table::default());
    bind("plain", "gone", "k", Table::default());
    bind("plain", "amq.topic", "x.#", Table::default());
    host.bind_exchange("f", "t", "to.f", Table::default())
        .unwrap();
    host.bind_exchange("hidden", "h", "", all).unwrap();
    // Made and taken back.
    bind("plain", "d", "not", Table::default());
    host.unbind_queue("plain", "d", "not", Table::default())
        .unwrap();
    host.bind_exchange("f", "t", "nor", Table::default())
        .unwrap();
    host.unbind_exchange("f", "t", "nor", Table::default())
        .unwrap();
    exchange("deleted", ExchangeKind::Direct);
    bind("plain", "deleted", "k", Table::default());
    host.delete_exchange("deleted", false).unwrap();
    queue(broker, "deleted", QueueOptions::default());
    bind("deleted", "d", "k", Table::default());
    host.delete_queue("deleted", false, false).unwrap();
    set_policy(broker, "all", false, "", &[("max-length", 1000)]);
    set_policy(
        broker,
        "all",
        false,
        "",
        &[("max-length", 2000), ("lease", 5000)],
    );
    set_policy(broker, "all", true, "plain", &[("max-length", 900)]);
    set_policy(broker, "gone", false, "", &[("max-length", 1)]);
    host.clear_policy("gone", false).unwrap();
    let (third, _) = broker.add_virtual_host("third").unwrap();
    let policy = host.policies()[0].as_set().clone();
    third.set_policy(policy.clone()).unwrap();
    other
        .set_policy(NewPolicy {
            definition: Table::from_iter([("alternate-exchange", "amq.fanout")]),
            ..policy
        })
        .unwrap();
    third
        .declare_queue("in the third", QueueOptions::default())
        .unwrap();
    broker.delete_virtual_host("third").unwrap();
    other
        .declare_queue("plain", QueueOptions::default())
        .unwrap();
    other
        .bind_queue("plain", "amq.direct", "o", Table::default())
        .unwrap();
}

#[test]
fn topology_comes_back_as_it_was() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    build_topology(&broker);
    settle_down(&broker);
    let expected = durable_part(snapshot(&broker));
    assert_eq!(
        expected.hosts[0].2.len(),
        4,
        "plain, everything, lettered, graveyard"
    );
    let crashed = disk.crash(Survivors::None);
    broker.close().unwrap();
    for disk in [&crashed, &disk] {
        let mut again = open(disk);
        assert_same(&snapshot(&again), &expected, "topology");
        again.close().unwrap();
        again = open(disk);
        assert_same(&snapshot(&again), &expected, "topology");
        let plain = host(&again).queue("plain").unwrap();
        assert_eq!(plain.in_force().max_length, Some(900));
        assert_eq!(plain.in_force().lease, Some(seconds(5)));
        let other = again.virtual_host("other").unwrap();
        assert!(other.exchange("amq.topic").unwrap().policy().is_some());
        assert_eq!(
            snapshot(&again).policies.len(),
            3,
            "those of 'third' went with it"
        );
        // It works, and names of what is gone are free.
        let host = host(&again);
        queue(&again, "deleted", QueueOptions::default());
        assert_eq!(again.statistics().ready, 0);
        let published = host
            .exchange("d")
            .unwrap()
            .publish(&NewMessage::new("k", b"m"));
        assert_eq!(published.unwrap().routed, 1, "only the queue 'plain'");
        let published = host
            .exchange("t")
            .unwrap()
            .publish(&NewMessage::new("to.f", b"m"));
        assert_eq!(
            published.unwrap().routed,
            1,
            "through 'f' into 'everything'"
        );
    }
}
