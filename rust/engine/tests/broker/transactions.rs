//! Publishes and settlements that stand or fall together.

use wherry_engine::Error;
use wherry_engine::NewMessage;
use wherry_engine::Outcome;
use wherry_engine::Overflow;
use wherry_engine::QueueOptions;

use crate::world::{consumer, drain, take, world};

#[test]
fn a_transaction_that_a_full_queue_refuses_leaves_nothing_behind() {
    let w = world();
    let dead = w.queue("dead", QueueOptions::default());
    w.queue(
        "full",
        QueueOptions {
            max_length: Some(1),
            overflow: Overflow::RejectPublishDeadLetter,
            dead_letter_exchange: Some(String::new()),
            dead_letter_routing_key: Some("dead".into()),
            ..Default::default()
        },
    );
    w.publish("", "full", "first");
    let mut t = w.host.transaction();
    t.publish(
        &w.host.exchange("").unwrap(),
        &NewMessage::new("full", b"second"),
    )
    .unwrap();
    assert!(matches!(t.commit(), Err(Error::PublishRejected { .. })));
    assert_eq!(dead.statistics().ready, 0);
}

#[test]
fn transactions_happen_whole_or_not_at_all() {
    let w = world();
    let q = w.queue("in", QueueOptions::default());
    let out = w.queue("out", QueueOptions::default());
    w.publish("", "in", "work");
    let c = consumer(&q, 0);
    let held = take(&c, 1);
    let exchange = w.host.exchange("").unwrap();

    let mut t = w.host.transaction();
    t.publish(&exchange, &NewMessage::new("out", b"result"))
        .unwrap();
    t.settle(&c, held[0].tag, false, Outcome::Ack).unwrap();
    assert_eq!((out.statistics().ready, c.unacked()), (0, 1));
    drop(t);
    assert_eq!((out.statistics().ready, c.unacked()), (0, 1));

    let mut t = w.host.transaction();
    t.publish(&exchange, &NewMessage::new("out", b"result"))
        .unwrap();
    t.publish(
        &exchange,
        &NewMessage {
            mandatory: true,
            ..NewMessage::new("nobody", b"")
        },
    )
    .unwrap();
    t.settle(&c, held[0].tag, false, Outcome::Ack).unwrap();
    assert!(matches!(t.commit(), Err(Error::Unroutable { .. })));
    assert_eq!((out.statistics().ready, c.unacked()), (0, 1));

    let mut t = w.host.transaction();
    t.publish(&exchange, &NewMessage::new("out", b"result"))
        .unwrap();
    t.settle(&c, held[0].tag, false, Outcome::Ack).unwrap();
    t.commit().unwrap();
    assert_eq!((drain(&out), c.unacked()), (vec!["result".to_string()], 0));
    assert!(
        w.host
            .transaction()
            .settle(&c, held[0].tag, false, Outcome::Ack)
            .is_err()
    );
}

#[test]
fn what_a_transaction_brings_counts_towards_the_limit() {
    let w = world();
    for (name, max_length, max_length_bytes) in [("few", Some(2), None), ("small", None, Some(2))] {
        let queue = w.queue(
            name,
            QueueOptions {
                max_length,
                max_length_bytes,
                overflow: Overflow::RejectPublish,
                ..Default::default()
            },
        );
        let mut t = w.host.transaction();
        for body in [b"1", b"2", b"3"] {
            t.publish(&w.host.exchange("").unwrap(), &NewMessage::new(name, body))
                .unwrap();
        }
        assert!(
            matches!(t.commit(), Err(Error::PublishRejected { .. })),
            "{name}"
        );
        assert_eq!(drain(&queue).len(), 0, "{name}");
        let mut t = w.host.transaction();
        for body in [b"1", b"2"] {
            t.publish(&w.host.exchange("").unwrap(), &NewMessage::new(name, body))
                .unwrap();
        }
        t.commit().unwrap();
        assert_eq!(drain(&queue), ["1", "2"], "{name}");
    }
}
