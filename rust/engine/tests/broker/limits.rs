//! Limits, dead letters and misuse.

use std::sync::Arc;
use std::time::Duration;

use wherry_engine::ConsumerOptions;
use wherry_engine::Error;
use wherry_engine::ExchangeKind;
use wherry_engine::ExchangeOptions;
use wherry_engine::NewMessage;
use wherry_engine::Outcome;
use wherry_engine::Overflow;
use wherry_engine::QueueOptions;
use wherry_engine::properties::Properties;
use wherry_engine::table::Table;
use wherry_engine::table::Value;

use crate::world::{Bell, bodies, consumer, drain, take, world};

#[test]
fn a_delivery_limit_ends_poison_messages() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            delivery_limit: Some(2),
            ..Default::default()
        },
    );
    w.publish("", "q", "poison");
    let c = consumer(&q, 0);
    for n in 0..3 {
        let d = take(&c, 1);
        assert_eq!(d.len(), 1, "attempt {n}");
        c.settle(d[0].tag, false, Outcome::Reject { requeue: true })
            .unwrap();
    }
    assert!(take(&c, 1).is_empty());
    assert_eq!(q.statistics().dropped, 1);
}

#[test]
fn length_limits_drop_the_head_or_refuse() {
    let w = world();
    w.queue("dead", QueueOptions::default());
    let drops = w.queue(
        "drops",
        QueueOptions {
            max_length: Some(2),
            dead_letter_exchange: Some(String::new()),
            dead_letter_routing_key: Some("dead".into()),
            ..Default::default()
        },
    );
    for n in 0..4 {
        w.publish("", "drops", &n.to_string());
    }
    assert_eq!(drain(&drops), ["2", "3"]);
    assert_eq!(drain(&w.host.queue("dead").unwrap()), ["0", "1"]);

    let bytes = w.queue(
        "bytes",
        QueueOptions {
            max_length_bytes: Some(5),
            ..Default::default()
        },
    );
    for body in ["aaa", "bb", "cc"] {
        w.publish("", "bytes", body);
    }
    assert_eq!(drain(&bytes), ["bb", "cc"]);

    let refuses = w.queue(
        "refuses",
        QueueOptions {
            max_length: Some(1),
            overflow: Overflow::RejectPublish,
            ..Default::default()
        },
    );
    w.publish("", "refuses", "in");
    let error = w
        .host
        .exchange("")
        .unwrap()
        .publish(&NewMessage::new("refuses", b"out"))
        .unwrap_err();
    assert_eq!(
        error,
        Error::PublishRejected {
            queue: "refuses".into()
        }
    );
    assert_eq!(
        (drain(&refuses), refuses.statistics().rejected),
        (vec!["in".to_string()], 1)
    );
}

fn refusing(max_length: Option<u64>, max_length_bytes: Option<u64>) -> QueueOptions {
    QueueOptions {
        max_length,
        max_length_bytes,
        overflow: Overflow::RejectPublish,
        ..Default::default()
    }
}

#[test]
fn a_message_that_would_stand_above_the_limit_in_bytes_is_refused() {
    let w = world();
    let queue = w.queue("q", refusing(None, Some(4)));
    let default = w.host.exchange("").unwrap();
    let publish = |body: &str| default.publish(&NewMessage::new("q", body.as_bytes()));
    assert!(publish("123").is_ok());
    assert!(publish("456").is_err());
    assert!(publish("7").is_ok());
    assert!(publish("8").is_err());
    // A batch goes as far as there is room.
    assert_eq!(drain(&queue), ["123", "7"]);
    let batch: Vec<NewMessage<'_>> = ["1", "23", "4", "5"]
        .iter()
        .map(|body| NewMessage::new("q", body.as_bytes()))
        .collect();
    assert_eq!(default.publish_batch(&batch).unwrap().accepted, 3);
    // What a consumer has room for does not stand in the queue.
    drain(&queue);
    assert!(publish("1234").is_ok());
    let bell = Arc::new(Bell::default());
    let c = queue
        .consume(
            ConsumerOptions {
                in_turn: true,
                ..Default::default()
            },
            Some((bell, 1)),
        )
        .unwrap();
    assert!(publish("5678").is_ok());
    assert!(publish("56789").is_err());
    assert_eq!(bodies(&take(&c, 9)), ["1234", "5678"]);
}

#[test]
fn what_one_queue_refuses_the_others_take() {
    let w = world();
    w.exchange("both", ExchangeKind::Fanout);
    let full = w.queue("full", refusing(Some(1), None));
    let open = w.queue("open", QueueOptions::default());
    w.bind("full", "both", "");
    w.bind("open", "both", "");
    let both = w.host.exchange("both").unwrap();
    let messages: Vec<NewMessage<'_>> = ["1", "2", "3"]
        .iter()
        .map(|body| NewMessage::new("", body.as_bytes()))
        .collect();
    assert_eq!(both.publish_batch(&messages).unwrap().accepted, 1);
    for message in &messages[1..] {
        assert!(matches!(
            both.publish(message),
            Err(Error::PublishRejected { queue }) if queue == "full"
        ));
    }
    assert_eq!(drain(&full), ["1"]);
    assert_eq!(drain(&open), ["1", "2", "3"]);
    assert_eq!(full.statistics().rejected, 2);
}

#[test]
fn every_full_queue_dead_letters_what_it_refuses() {
    let w = world();
    w.exchange("both", ExchangeKind::Fanout);
    let dead = w.queue("dead", QueueOptions::default());
    for name in ["one", "two"] {
        let options = QueueOptions {
            overflow: Overflow::RejectPublishDeadLetter,
            dead_letter_exchange: Some(String::new()),
            dead_letter_routing_key: Some("dead".into()),
            ..refusing(Some(0), None)
        };
        w.queue(name, options);
        w.bind(name, "both", "");
    }
    let both = w.host.exchange("both").unwrap();
    assert!(both.publish(&NewMessage::new("", b"x")).is_err());
    assert_eq!(drain(&dead), ["x", "x"]);
}

#[test]
fn queues_that_overflow_into_each_other_take_one_message_at_once() {
    let w = world();
    w.exchange("both", ExchangeKind::Fanout);
    let bounded = |dead: &str| QueueOptions {
        max_length: Some(1),
        dead_letter_exchange: Some(String::new()),
        dead_letter_routing_key: Some(dead.into()),
        ..Default::default()
    };
    let a = w.queue("a", bounded("b"));
    let b = w.queue("b", bounded("a"));
    w.bind("a", "both", "");
    w.bind("b", "both", "");
    for n in 0..3 {
        w.publish("both", "", &n.to_string());
    }
    assert_eq!((a.statistics().ready, b.statistics().ready), (1, 1));
    let mut t = w.host.transaction();
    for _ in 0..3 {
        t.publish(
            &w.host.exchange("both").unwrap(),
            &NewMessage::new("", b"t"),
        )
        .unwrap();
    }
    t.commit().unwrap();
    assert_eq!((a.statistics().ready, b.statistics().ready), (1, 1));
}

#[test]
fn a_full_priority_queue_spares_what_is_urgent() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            max_priority: Some(5),
            max_length: Some(2),
            ..Default::default()
        },
    );
    for (body, priority) in [("urgent", 5), ("later", 1), ("soon", 3), ("never", 0)] {
        w.publish_with(
            "q",
            body,
            &Properties {
                priority: Some(priority),
                ..Default::default()
            },
        );
    }
    assert_eq!(drain(&q), ["urgent", "soon"]);
}

#[test]
fn a_message_with_more_headers_than_can_be_decoded_is_dead_lettered_all_the_same() {
    let w = world();
    let dead = w.queue("dead", QueueOptions::default());
    let q = w.queue(
        "q",
        QueueOptions {
            dead_letter_exchange: Some(String::new()),
            dead_letter_routing_key: Some("dead".into()),
            ..Default::default()
        },
    );
    // An array of 20,000 voids: one byte each here, more values than an owned table may have.
    let voids = 20_000u32;
    let mut table = vec![1, b'a', b'A'];
    table.extend(voids.to_be_bytes());
    table.resize(table.len() + voids as usize, b'V');
    let mut properties = vec![0x20, 0]; // headers only
    properties.extend((table.len() as u32).to_be_bytes());
    properties.extend(&table);
    let message = NewMessage {
        properties: &properties,
        ..NewMessage::new("q", b"many")
    };
    w.host.exchange("").unwrap().publish(&message).unwrap();
    let c = consumer(&q, 0);
    c.settle(
        take(&c, 1)[0].tag,
        false,
        Outcome::Reject { requeue: false },
    )
    .unwrap();
    assert_eq!(drain(&dead), ["many"]);
    assert_eq!(q.statistics().dead_lettered, 1);
}

#[test]
fn a_dead_letter_cycle_without_rejection_ends() {
    let w = world();
    let to = |name: &str| QueueOptions {
        message_ttl: Some(Duration::from_secs(1)),
        dead_letter_exchange: Some(String::new()),
        dead_letter_routing_key: Some(name.into()),
        ..Default::default()
    };
    w.queue("a", to("b"));
    w.queue("b", to("a"));
    w.publish("", "a", "round");
    w.advance(10_000);
    assert_eq!(w.broker.statistics().ready, 0);
    assert_eq!(w.host.queue("b").unwrap().statistics().dropped, 1);
}

#[test]
fn a_rejection_before_a_cycle_does_not_keep_it_going() {
    let w = world();
    let to = |name: &str, ttl: Option<Duration>| QueueOptions {
        message_ttl: ttl,
        dead_letter_exchange: Some(String::new()),
        dead_letter_routing_key: Some(name.into()),
        ..Default::default()
    };
    let second = Some(Duration::from_secs(1));
    let first = w.queue("first", to("a", None));
    w.queue("a", to("b", second));
    w.queue("b", to("a", second));
    w.publish("", "first", "round");
    let c = consumer(&first, 0);
    let tag = take(&c, 1)[0].tag;
    c.settle(tag, false, Outcome::Reject { requeue: false })
        .unwrap();
    assert_eq!(w.broker.statistics().ready, 1);
    w.advance(10_000);
    assert_eq!(w.broker.statistics().ready, 0);
    assert_eq!(w.host.queue("b").unwrap().statistics().dropped, 1);
}

#[test]
fn deaths_that_a_client_made_up_are_forgotten_unless_they_are_whole() {
    let w = world();
    let dead = w.queue("dead", QueueOptions::default());
    w.queue(
        "q",
        QueueOptions {
            message_ttl: Some(Duration::ZERO),
            dead_letter_exchange: Some(String::new()),
            dead_letter_routing_key: Some("dead".into()),
            ..Default::default()
        },
    );
    let death = |queue: &str| {
        Table::from_iter([
            ("count", Value::I64(3)),
            ("reason", "expired".into()),
            ("queue", queue.into()),
            ("time", Value::Timestamp(7)),
            ("exchange", "x".into()),
            ("routing-keys", Value::Array(vec!["k".into()])),
        ])
    };
    let without = |name: &str| {
        let mut table = death("partial");
        table.remove(name);
        Value::Table(table)
    };
    let mut history: Vec<Value> = [
        "count",
        "reason",
        "queue",
        "time",
        "exchange",
        "routing-keys",
    ]
    .map(without)
    .into();
    history.push("no table".into());
    history.push(Value::Table(death("whole")));
    history.push(Value::Table(death("q")));
    let properties = Properties {
        headers: Some(Table::from_iter([("x-death", Value::Array(history))])),
        ..Default::default()
    };
    w.publish_with("q", "m", &properties);
    let delivery = take(&consumer(&dead, 0), 1).pop().unwrap();
    let headers = delivery
        .message
        .properties()
        .to_properties()
        .unwrap()
        .headers
        .unwrap();
    let Some(Value::Array(deaths)) = headers.get("x-death") else {
        panic!("{headers:?}");
    };
    let seen: Vec<_> = deaths
        .iter()
        .map(|death| match death {
            Value::Table(t) => (
                t.get("queue").unwrap().as_str(),
                t.get("count").unwrap().as_integer(),
            ),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seen, [(Some("q"), Some(4)), (Some("whole"), Some(3))]);
}

#[test]
fn misuse_is_refused_and_changes_nothing() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let again = w
        .host
        .declare_queue(
            "q",
            QueueOptions {
                max_length: Some(3),
                ..Default::default()
            },
        )
        .unwrap_err();
    let text = "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the value '3' of type 'signedint' but current is none";
    assert!(again.to_string().starts_with(text), "{again}");
    assert!(matches!(again, Error::PreconditionFailed(_)));
    let kind = ExchangeOptions {
        kind: ExchangeKind::Topic,
        ..Default::default()
    };
    w.host
        .declare_exchange("x", ExchangeOptions::default())
        .unwrap();
    assert!(matches!(
        w.host.declare_exchange("x", kind),
        Err(Error::PreconditionFailed(_))
    ));
    assert!(matches!(
        w.host.declare_queue("amq.mine", Default::default()),
        Err(Error::AccessRefused(_))
    ));
    assert!(matches!(
        w.host.delete_exchange("amq.topic", false),
        Err(Error::AccessRefused(_))
    ));
    assert!(matches!(
        w.host.bind_queue("q", "", "k", Table::default()),
        Err(Error::AccessRefused(_))
    ));
    assert!(matches!(
        w.host.bind_queue("q", "none", "k", Table::default()),
        Err(Error::UnknownExchange { .. })
    ));
    assert!(matches!(
        w.host.bind_queue("none", "x", "k", Table::default()),
        Err(Error::UnknownQueue { .. })
    ));
    assert!(matches!(
        w.host.delete_queue("none", false, false),
        Err(Error::UnknownQueue { .. })
    ));
    w.publish("", "q", "m");
    assert!(matches!(
        w.host.delete_queue("q", false, true),
        Err(Error::PreconditionFailed(_))
    ));
    let c = consumer(&q, 0);
    assert!(matches!(
        w.host.delete_queue("q", true, false),
        Err(Error::PreconditionFailed(_))
    ));
    assert!(matches!(
        c.extend(1, Duration::from_secs(1)),
        Err(Error::UnknownDelivery { .. })
    ));
    let long = "k".repeat(256);
    let exchange = w.host.exchange("").unwrap();
    assert!(matches!(
        exchange.publish(&NewMessage::new(&long, b"")),
        Err(Error::InvalidArgument(_))
    ));
    let bad = NewMessage {
        properties: &[0xff, 0xff, 1],
        ..NewMessage::new("q", b"")
    };
    assert!(matches!(
        exchange.publish(&bad),
        Err(Error::InvalidArgument(_))
    ));
    assert_eq!(q.statistics().published, 1);
    w.broker.close().unwrap();
    assert!(matches!(
        exchange.publish(&NewMessage::new("q", b"")),
        Err(Error::Closed)
    ));
    assert!(c.is_cancelled());
    w.broker.close().unwrap();
}
