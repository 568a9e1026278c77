//! What a protocol's session asks of the engine: leaving in its ways, owners, things that are gone, words.

use std::time::Duration;

use wherry_engine::ConsumerOptions;
use wherry_engine::Error;
use wherry_engine::ExchangeKind;
use wherry_engine::ExchangeOptions;
use wherry_engine::Message;
use wherry_engine::NewMessage;
use wherry_engine::Outcome;
use wherry_engine::QueueOptions;
use wherry_engine::RetryKind;
use wherry_engine::RetryPolicy;
use wherry_engine::table::{Table, Value};

use crate::world::{bodies, consumer, take, world};

#[test]
fn what_a_lost_consumer_held_is_back_at_once_and_counts_nothing() {
    let w = world();
    let retry = RetryPolicy {
        kind: RetryKind::Constant,
        attempts: 2,
        first: Duration::from_secs(60),
        factor: 1.0,
        maximum: None,
        jitter: false,
        dead_letter: None,
    };
    let q = w.queue(
        "q",
        QueueOptions {
            retry: Some(retry),
            ..Default::default()
        },
    );
    w.publish("", "q", "a");
    for _ in 0..5 {
        let c = consumer(&q, 0);
        assert_eq!(take(&c, 1).len(), 1);
        c.cancel_lost();
        assert!(c.is_cancelled());
    }
    let c = consumer(&q, 0);
    let back = take(&c, 1);
    assert!(back[0].redelivered);
    assert_eq!(back[0].delivery_count, 0);
    // The policy's own count is untouched: one failure is waited for, the second is the end.
    c.settle(back[0].tag, false, Outcome::Failed).unwrap();
    assert_eq!(q.statistics().scheduled, 1);
}

#[test]
fn losses_count_towards_a_delivery_limit_and_not_towards_a_retry() {
    let w = world();
    let dead = w.queue("dead", QueueOptions::default());
    let q = w.queue(
        "q",
        QueueOptions {
            delivery_limit: Some(2),
            dead_letter_exchange: Some(String::new()),
            dead_letter_routing_key: Some("dead".into()),
            ..Default::default()
        },
    );
    w.publish("", "q", "poison");
    for n in 0..3 {
        let c = consumer(&q, 0);
        let held = take(&c, 1);
        assert_eq!(held[0].delivery_count, n);
        c.settle(held[0].tag, false, Outcome::Lost).unwrap();
        c.cancel();
    }
    assert_eq!(q.message_count(), 0);
    let message = &dead.browse(0, 1)[0].message;
    let headers = message
        .properties()
        .to_properties()
        .unwrap()
        .headers
        .unwrap();
    assert_eq!(
        headers.get("x-first-death-reason"),
        Some(&Value::Str(b"delivery_limit".to_vec()))
    );
}

#[test]
fn losses_outlive_a_restart() {
    use wherry_engine::{Broker, BrokerOptions};
    let disk = wherry_journal::testing::MemoryDisk::new();
    let open = || {
        Broker::open(BrokerOptions {
            disk: Some(disk.clone()),
            ..Default::default()
        })
        .unwrap()
    };
    let broker = open();
    let host = broker.virtual_host("/").unwrap();
    let options = QueueOptions {
        delivery_limit: Some(5),
        ..Default::default()
    };
    let (q, _) = host.declare_queue("q", options).unwrap();
    host.exchange("")
        .unwrap()
        .publish(&NewMessage::new("q", b"x"))
        .unwrap();
    let c = consumer(&q, 0);
    take(&c, 1);
    c.cancel_lost();
    broker.close().unwrap();
    let broker = open();
    let q = broker.virtual_host("/").unwrap().queue("q").unwrap();
    let held = take(&consumer(&q, 0), 1);
    assert_eq!((held[0].delivery_count, held[0].redelivered), (1, true));
}

#[test]
fn a_cancelled_consumer_may_keep_what_it_holds() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    for n in 0..4 {
        w.publish("", "q", &n.to_string());
    }
    let c = consumer(&q, 0);
    let held = take(&c, 3);
    c.cancel_keeping();
    assert!(c.is_cancelled() && c.arm());
    assert!(take(&c, 1).is_empty());
    assert_eq!((q.consumer_count(), q.message_count()), (0, 1));
    assert_eq!(q.statistics().unacked, 3);
    c.settle(held[0].tag, false, Outcome::Ack).unwrap();
    c.settle(held[1].tag, false, Outcome::Reject { requeue: true })
        .unwrap();
    assert_eq!(q.message_count(), 2);
    assert_eq!(c.unacked(), 1);
    c.cancel_keeping();
    c.cancel_lost();
    assert_eq!(
        bodies(&take(&consumer(&q, 0), 10)),
        ["1", "2", "3"],
        "all in their places"
    );
    assert!(matches!(
        c.settle(held[2].tag, false, Outcome::Ack),
        Err(Error::UnknownDelivery { tag: 3 })
    ));
}

#[test]
fn a_lease_ends_also_for_who_keeps_its_deliveries() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            lease: Some(Duration::from_secs(1)),
            ..Default::default()
        },
    );
    w.publish("", "q", "a");
    let c = consumer(&q, 0);
    take(&c, 1);
    c.cancel_keeping();
    w.advance(2000);
    assert_eq!(q.message_count(), 1);
}

#[test]
fn with_an_auto_delete_queue_its_deliveries_go_quietly() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            auto_delete: true,
            ..Default::default()
        },
    );
    w.publish("", "q", "a");
    let c = consumer(&q, 0);
    let held = take(&c, 1);
    c.cancel_keeping();
    assert!(q.is_deleted());
    c.settle(held[0].tag, false, Outcome::Ack).unwrap();
    c.settle(held[0].tag, false, Outcome::Ack).unwrap();
    assert!(matches!(
        c.settle(2, false, Outcome::Ack),
        Err(Error::UnknownDelivery { tag: 2 })
    ));
    assert_eq!(q.statistics().unacked, 0);
}

#[test]
fn settling_what_went_with_its_queue_is_no_error() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    w.publish("", "q", "a");
    let c = consumer(&q, 0);
    let held = take(&c, 1);
    w.host.delete_queue("q", false, false).unwrap();
    assert!(c.is_cancelled());
    for multiple in [false, true] {
        c.settle(held[0].tag, multiple, Outcome::Reject { requeue: true })
            .unwrap();
    }
    c.settle_many(&[1], Outcome::Ack).unwrap();
    let mut transaction = w.host.transaction();
    transaction.settle(&c, 1, false, Outcome::Ack).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn deleted_exchanges_and_hosts_say_so() {
    let w = world();
    w.exchange("x", ExchangeKind::Fanout);
    let x = w.host.exchange("x").unwrap();
    assert!(!x.is_deleted());
    w.host.delete_exchange("x", false).unwrap();
    assert!(x.is_deleted());
    assert!(matches!(
        x.publish(&NewMessage::new("", b"")),
        Err(Error::UnknownExchange { .. })
    ));
    assert!(matches!(
        w.host.transaction().publish(&x, &NewMessage::new("", b"")),
        Err(Error::UnknownExchange { .. })
    ));
    let (other, _) = w.broker.add_virtual_host("other").unwrap();
    let default = other.exchange("").unwrap();
    assert!(!other.is_deleted());
    w.broker.delete_virtual_host("other").unwrap();
    assert!(other.is_deleted() && default.is_deleted());
    assert!(matches!(
        other.declare_queue("q", QueueOptions::default()),
        Err(Error::UnknownVirtualHost { .. })
    ));
    assert!(matches!(
        other.declare_exchange("x", ExchangeOptions::default()),
        Err(Error::UnknownVirtualHost { .. })
    ));
}

#[test]
fn an_exclusive_queue_is_its_owners() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            exclusive: Some(7),
            ..Default::default()
        },
    );
    q.check_owner(7).unwrap();
    let text = "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.";
    assert_eq!(q.check_owner(8).unwrap_err().wire_text(), text);
    let stranger = ConsumerOptions {
        owner: 8,
        ..Default::default()
    };
    assert_eq!(q.consume(stranger, None).unwrap_err().wire_text(), text);
    let redeclared = w.host.declare_queue("q", QueueOptions::default());
    assert_eq!(redeclared.unwrap_err().wire_text(), text);
    w.queue("r", QueueOptions::default())
        .check_owner(8)
        .unwrap();
}

#[test]
fn an_exchange_remembers_the_type_it_was_declared_with() {
    let w = world();
    let delayed = |kind| {
        let mut arguments = Table::default();
        arguments.insert("x-delayed-type", Value::Str(b"topic".to_vec()));
        ExchangeOptions {
            kind,
            type_name: Some("x-delayed-message".into()),
            arguments,
            ..Default::default()
        }
    };
    let (x, _) = w
        .host
        .declare_exchange("x", delayed(ExchangeKind::Topic))
        .unwrap();
    assert_eq!(x.options().type_name(), "x-delayed-message");
    w.host
        .declare_exchange("x", delayed(ExchangeKind::Topic))
        .unwrap();
    let plain = ExchangeOptions {
        kind: ExchangeKind::Topic,
        ..Default::default()
    };
    let refused = w.host.declare_exchange("x", plain).unwrap_err();
    assert_eq!(
        refused.wire_text(),
        "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'topic' but current is 'x-delayed-message'"
    );
    let other = w.host.declare_exchange("x", delayed(ExchangeKind::Direct));
    assert!(other.unwrap_err().wire_text().contains("x-delayed-type"));
}

#[test]
fn messages_can_be_made_of_parts() {
    let message = Message::from_parts("x", "key", &[], b"body").unwrap();
    assert_eq!(
        (message.exchange(), message.routing_key(), message.body()),
        ("x", "key", &b"body"[..])
    );
    assert!(message.properties().content_type().is_none());
    let long = "k".repeat(256);
    assert!(Message::from_parts("x", &long, &[], b"").is_err());
    assert!(Message::from_parts(&long, "k", &[], b"").is_err());
    assert!(Message::from_parts("x", "k", &[0xff, 0xff], b"").is_err());
}
