//! Messages that were there already.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wherry_engine::Broker;
use wherry_engine::BrokerOptions;
use wherry_engine::DEDUP_ENTRIES_MAX;
use wherry_engine::Dedup;
use wherry_engine::DedupKey;
use wherry_engine::Error;
use wherry_engine::ExchangeKind;
use wherry_engine::ExchangeOptions;
use wherry_engine::NewMessage;
use wherry_engine::Outcome;
use wherry_engine::Overflow;
use wherry_engine::Published;
use wherry_engine::QueueOptions;
use wherry_engine::properties::Properties;
use wherry_engine::table::Value;

use crate::world::{World, consumer, drain, take, with_header, world};

fn by_size(size: u64) -> Dedup {
    Dedup {
        size: Some(size),
        ..Default::default()
    }
}

fn by_time(millis: u64) -> Dedup {
    Dedup {
        window: Some(Duration::from_millis(millis)),
        ..Default::default()
    }
}

fn knowing(dedup: Dedup) -> QueueOptions {
    QueueOptions {
        dedup: Some(dedup),
        ..Default::default()
    }
}

fn publish(w: &World, exchange: &str, key: &str, id: &str) -> Published {
    let properties = with_header("x-dedup-id", Value::Str(id.into()))
        .encode()
        .unwrap();
    let message = NewMessage {
        properties: &properties,
        ..NewMessage::new(key, id.as_bytes())
    };
    w.host
        .exchange(exchange)
        .unwrap()
        .publish(&message)
        .unwrap()
}

#[test]
fn a_duplicate_is_accepted_and_not_stored_again() {
    let w = world();
    let q = w.queue("q", knowing(by_size(100)));
    assert_eq!(publish(&w, "", "q", "a").duplicates, 0);
    let again = publish(&w, "", "q", "a");
    assert_eq!((again.routed, again.accepted, again.duplicates), (1, 1, 1));
    publish(&w, "", "q", "b");
    assert_eq!(drain(&q), ["a", "b"]);
    publish(&w, "", "q", "a");
    assert_eq!(drain(&q).len(), 0, "also after it was consumed");
    assert_eq!(q.statistics().duplicates, 2);
    w.publish("", "q", "no id");
    w.publish("", "q", "no id");
    assert_eq!(drain(&q).len(), 2);
}

#[test]
fn a_window_by_count_forgets_the_oldest() {
    let w = world();
    let q = w.queue("q", knowing(by_size(3)));
    for id in ["a", "b", "c", "d"] {
        publish(&w, "", "q", id);
    }
    for id in ["b", "c", "d"] {
        assert_eq!(publish(&w, "", "q", id).duplicates, 1, "{id}");
    }
    assert_eq!(publish(&w, "", "q", "a").duplicates, 0);
    assert_eq!(publish(&w, "", "q", "b").duplicates, 0);
    assert_eq!(drain(&q).len(), 6);
}

#[test]
fn a_window_by_time_forgets_in_time() {
    let w = world();
    let q = w.queue("q", knowing(by_time(1000)));
    publish(&w, "", "q", "a");
    w.advance(999);
    assert_eq!(publish(&w, "", "q", "a").duplicates, 1);
    w.advance(1);
    assert_eq!(publish(&w, "", "q", "a").duplicates, 0);
    w.advance(999);
    assert_eq!(publish(&w, "", "q", "a").duplicates, 1, "its own time");
    assert_eq!(drain(&q).len(), 2);
}

#[test]
fn ids_come_from_where_they_are_asked_for() {
    let w = world();
    let named = |name: &str| Dedup {
        by: DedupKey::Named(name.into()),
        size: Some(10),
        ..Default::default()
    };
    let header = w.queue("header", knowing(named("order")));
    let property = w.queue("property", knowing(named("message-id")));
    let community = w.queue("community", knowing(by_size(10)));
    for _ in 0..2 {
        w.publish_with("header", "x", &with_header("order", 7i64));
        w.publish_with("header", "y", &with_header("order", 7i32));
        w.publish_with("header", "z", &with_header("order", "7"));
        let properties = Properties {
            message_id: Some("m".into()),
            ..Default::default()
        };
        w.publish_with("property", "x", &properties);
        w.publish_with(
            "community",
            "x",
            &with_header("x-deduplication-header", "c"),
        );
    }
    assert_eq!(drain(&header), ["x", "z"], "a number is not a text");
    assert_eq!((drain(&property).len(), drain(&community).len()), (1, 1));
}

#[test]
fn each_queue_judges_for_itself_and_an_exchange_for_all() {
    let w = world();
    let options = ExchangeOptions {
        kind: ExchangeKind::Fanout,
        dedup: Some(by_size(10)),
        ..Default::default()
    };
    let (x, _) = w.host.declare_exchange("x", options).unwrap();
    w.exchange("plain", ExchangeKind::Fanout);
    assert_eq!(publish(&w, "x", "", "lost").routed, 0);
    let knows = w.queue("knows", knowing(by_size(10)));
    let takes = w.queue("takes", QueueOptions::default());
    for exchange in ["x", "plain"] {
        w.bind("knows", exchange, "");
        w.bind("takes", exchange, "");
    }
    assert_eq!(
        publish(&w, "x", "", "lost").duplicates,
        0,
        "no queue, no id"
    );
    assert_eq!(publish(&w, "x", "", "lost").duplicates, 1);
    assert_eq!(x.statistics().duplicates, 1);
    assert_eq!((drain(&knows).len(), drain(&takes).len()), (1, 1));
    let beside = publish(&w, "plain", "", "lost");
    assert_eq!((beside.routed, beside.duplicates), (2, 0));
    assert_eq!((drain(&knows).len(), drain(&takes).len()), (0, 1));
}

#[test]
fn what_was_refused_leaves_no_id() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            max_length: Some(1),
            overflow: Overflow::RejectPublish,
            ..knowing(by_size(10))
        },
    );
    publish(&w, "", "q", "a");
    let properties = with_header("x-dedup-id", "b").encode().unwrap();
    let b = NewMessage {
        properties: &properties,
        ..NewMessage::new("q", b"b")
    };
    let exchange = w.host.exchange("").unwrap();
    assert!(matches!(
        exchange.publish(&b),
        Err(Error::PublishRejected { .. })
    ));
    assert_eq!(
        publish(&w, "", "q", "a").duplicates,
        1,
        "a duplicate needs no room"
    );
    assert_eq!(drain(&q), ["a"]);
    assert_eq!(exchange.publish(&b).unwrap().duplicates, 0);
}

#[test]
fn batches_and_transactions_know_their_own_duplicates() {
    let w = world();
    let q = w.queue("q", knowing(by_size(10)));
    let exchange = w.host.exchange("").unwrap();
    let properties: Vec<Vec<u8>> = ["a", "b", "a", "c"]
        .iter()
        .map(|id| with_header("x-dedup-id", *id).encode().unwrap())
        .collect();
    let messages: Vec<NewMessage<'_>> = properties
        .iter()
        .map(|properties| NewMessage {
            properties,
            ..NewMessage::new("q", b"x")
        })
        .collect();
    let published = exchange.publish_batch(&messages).unwrap();
    assert_eq!((published.accepted, published.duplicates), (4, 1));
    assert_eq!(drain(&q).len(), 3);

    let new = with_header("x-dedup-id", "new").encode().unwrap();
    let message = NewMessage {
        properties: &new,
        ..NewMessage::new("q", b"x")
    };
    // One that fails leaves no id: its acknowledgement is of a delivery that is gone.
    w.publish("", "q", "held");
    let c = consumer(&q, 0);
    let tag = take(&c, 1)[0].tag;
    let mut failing = w.host.transaction();
    failing.publish(&exchange, &message).unwrap();
    failing.settle(&c, tag, false, Outcome::Ack).unwrap();
    c.settle(tag, false, Outcome::Ack).unwrap();
    assert!(failing.commit().is_err());
    let mut transaction = w.host.transaction();
    transaction.publish(&exchange, &message).unwrap();
    transaction.publish(&exchange, &message).unwrap();
    transaction.publish(&exchange, &messages[0]).unwrap();
    transaction.commit().unwrap();
    assert_eq!(drain(&q).len(), 1);
    assert_eq!(exchange.publish(&message).unwrap().duplicates, 1);
}

#[test]
fn dead_letters_and_returns_are_not_judged() {
    let w = world();
    let dead = w.queue("dead", knowing(by_size(10)));
    let q = w.queue(
        "q",
        QueueOptions {
            dead_letter_exchange: Some(String::new()),
            dead_letter_routing_key: Some("dead".into()),
            ..knowing(by_size(10))
        },
    );
    publish(&w, "", "dead", "a");
    publish(&w, "", "q", "a");
    let c = consumer(&q, 0);
    let held = take(&c, 1);
    c.settle(held[0].tag, false, Outcome::Release).unwrap();
    let held = take(&c, 1);
    c.settle(held[0].tag, false, Outcome::Reject { requeue: false })
        .unwrap();
    assert_eq!(dead.message_count(), 2);
    assert_eq!(dead.move_to(&q, None).unwrap().0, 2);
}

#[test]
fn windows_that_cannot_be_kept_are_refused() {
    let w = world();
    let refused = |dedup: Dedup| {
        let queue = w.host.declare_queue("q", knowing(dedup.clone())).is_err();
        let options = ExchangeOptions {
            dedup: Some(dedup),
            ..Default::default()
        };
        queue && w.host.declare_exchange("x", options).is_err()
    };
    assert!(refused(Dedup::default()));
    assert!(refused(by_size(0)));
    assert!(refused(by_size(DEDUP_ENTRIES_MAX + 1)));
    assert!(refused(by_time(0)));
    assert!(refused(Dedup {
        by: DedupKey::Named(String::new()),
        ..by_size(1)
    }));
    w.queue("q", knowing(by_size(DEDUP_ENTRIES_MAX)));
    let other = w.host.declare_queue("q", knowing(by_size(1)));
    assert!(matches!(other, Err(Error::PreconditionFailed(_))));
}

#[test]
fn of_publishers_with_the_same_id_one_wins() {
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    let host = broker.virtual_host("/").unwrap();
    let fan = ExchangeOptions {
        kind: ExchangeKind::Fanout,
        dedup: Some(by_size(1000)),
        ..Default::default()
    };
    let (x, _) = host.declare_exchange("x", fan).unwrap();
    let mut queues = Vec::new();
    for name in ["a", "b", "c"] {
        let (queue, _) = host.declare_queue(name, knowing(by_size(1000))).unwrap();
        host.bind_queue(name, "x", "", Default::default()).unwrap();
        queues.push(queue);
    }
    const IDS: usize = 500;
    let stored = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (x, host, stored) = (&x, &host, &stored);
            scope.spawn(move || {
                let direct = host.exchange("").unwrap();
                for id in 0..IDS {
                    let properties = with_header("x-dedup-id", id as i64).encode().unwrap();
                    let message = NewMessage {
                        properties: &properties,
                        ..NewMessage::new(["a", "b", "c"][(id + thread) % 3], b"x")
                    };
                    let exchange = if thread == 0 { &direct } else { x };
                    if exchange.publish(&message).unwrap().duplicates == 0 {
                        stored.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    for queue in &queues {
        assert_eq!(queue.message_count(), IDS as u64);
    }
    assert!(stored.into_inner() >= IDS);
}
