//! Deadlines, on virtual time.

use std::time::Duration;

use wherry_engine::Delay;
use wherry_engine::ExchangeKind;
use wherry_engine::ExchangeOptions;
use wherry_engine::NewMessage;
use wherry_engine::Outcome;
use wherry_engine::QueueOptions;
use wherry_engine::RetryKind;
use wherry_engine::RetryPolicy;
use wherry_engine::properties::Properties;
use wherry_engine::table::Value;

use crate::world::{START_NS, bodies, consumer, drain, take, with_header, world};

#[test]
fn ttl_fires_on_time_wherever_the_message_stands() {
    let w = world();
    w.exchange("dead", ExchangeKind::Fanout);
    let dead = w.queue("graveyard", QueueOptions::default());
    w.bind("graveyard", "dead", "");
    let q = w.queue(
        "q",
        QueueOptions {
            dead_letter_exchange: Some("dead".into()),
            ..Default::default()
        },
    );
    w.publish("", "q", "stays");
    w.publish_with(
        "q",
        "dies",
        &Properties {
            expiration: Some(b"1000".to_vec()),
            ..Default::default()
        },
    );
    w.publish("", "q", "stays too");
    w.advance(999);
    assert_eq!(q.statistics().ready, 3);
    w.advance(1);
    assert_eq!(q.statistics().expired, 1);
    let c = consumer(&dead, 0);
    let lettered = take(&c, 10);
    assert_eq!(bodies(&lettered), ["dies"]);
    let properties = lettered[0].message.properties().to_properties().unwrap();
    assert_eq!(properties.expiration, None);
    let headers = properties.headers.unwrap();
    assert_eq!(
        headers.get("x-first-death-reason").unwrap().as_str(),
        Some("expired")
    );
    let Some(Value::Array(deaths)) = headers.get("x-death") else {
        panic!()
    };
    let Value::Table(death) = &deaths[0] else {
        panic!()
    };
    assert_eq!(death.get("count").unwrap().as_integer(), Some(1));
    assert_eq!(death.get("queue").unwrap().as_str(), Some("q"));
    assert_eq!(death.get("exchange").unwrap().as_str(), Some(""));
    assert_eq!(
        death.get("original-expiration").unwrap().as_str(),
        Some("1000")
    );
    assert_eq!(
        death.get("time"),
        Some(&Value::Timestamp(
            (START_NS + 1_000_000_000) / 1_000_000_000
        ))
    );
    assert_eq!(drain(&q), ["stays", "stays too"]);
}

#[test]
fn a_leased_message_expires_when_it_comes_back() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            message_ttl: Some(Duration::from_secs(1)),
            ..Default::default()
        },
    );
    w.publish("", "q", "held");
    let c = consumer(&q, 0);
    let held = take(&c, 1);
    w.advance(5000);
    assert_eq!(q.statistics().expired, 0);
    c.settle(held[0].tag, false, Outcome::Nack { requeue: true })
        .unwrap();
    assert_eq!((q.statistics().expired, q.statistics().ready), (1, 0));
}

#[test]
fn a_message_whose_time_ends_while_it_waits_for_a_retry_dies_then() {
    let w = world();
    let retry = RetryPolicy {
        kind: RetryKind::Constant,
        attempts: 9,
        first: Duration::from_secs(5),
        factor: 1.0,
        maximum: None,
        jitter: false,
        dead_letter: None,
    };
    let ttl = Some(Duration::from_secs(3));
    let q = w.queue(
        "q",
        QueueOptions {
            retry: Some(retry),
            message_ttl: ttl,
            ..Default::default()
        },
    );
    w.publish("", "q", "a");
    let c = consumer(&q, 0);
    c.settle(take(&c, 1)[0].tag, false, Outcome::Failed)
        .unwrap();
    w.advance(5000);
    let statistics = q.statistics();
    assert_eq!(
        (statistics.expired, statistics.ready, statistics.ready_bytes),
        (1, 0, 0)
    );
}

#[test]
fn a_ttl_of_zero_means_now_or_never() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let now = Properties {
        expiration: Some(b"0".to_vec()),
        ..Default::default()
    };
    w.publish_with("q", "nobody waits", &now);
    assert_eq!((q.statistics().ready, q.statistics().expired), (0, 1));
    let c = consumer(&q, 0);
    assert!(!c.arm());
    w.publish_with("q", "somebody waits", &now);
    assert_eq!(bodies(&take(&c, 1)), ["somebody waits"]);
}

#[test]
fn delayed_messages_come_when_due_and_can_be_cancelled() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let delayed = |body: &'static [u8], delay| {
        let message = NewMessage {
            delay,
            ..NewMessage::new("q", body)
        };
        w.host.exchange("").unwrap().publish(&message).unwrap();
    };
    delayed(b"late", Delay::For(Duration::from_secs(10)));
    delayed(b"early", Delay::At(START_NS + 5_000_000_000));
    delayed(b"never", Delay::For(Duration::from_secs(7)));
    delayed(b"past", Delay::At(1));
    w.publish_with("q", "by header", &with_header("x-delay", 6000i32));
    w.publish("", "q", "now");
    let scheduled = q.scheduled();
    let order: Vec<_> = scheduled
        .iter()
        .map(|s| s.message.body().to_vec())
        .collect();
    assert_eq!(order, [&b"early"[..], b"by header", b"never", b"late"]);
    assert!(q.cancel_scheduled(scheduled[2].id).unwrap().0);
    assert!(!q.cancel_scheduled(scheduled[2].id).unwrap().0);
    assert_eq!(drain(&q), ["past", "now"]);
    w.advance(6000);
    assert_eq!(drain(&q), ["early", "by header"]);
    w.advance(60_000);
    assert_eq!(drain(&q), ["late"]);
    assert_eq!(q.statistics().published, 5 + 1);
}

#[test]
fn retries_wait_in_the_engine_then_dead_letter() {
    let w = world();
    let retry = RetryPolicy {
        kind: RetryKind::Exponential,
        attempts: 3,
        first: Duration::from_secs(1),
        factor: 2.0,
        maximum: None,
        jitter: false,
        dead_letter: Some("failed".into()),
    };
    let q = w.queue(
        "q",
        QueueOptions {
            retry: Some(retry),
            ..Default::default()
        },
    );
    w.publish("", "q", "bad");
    w.publish("", "q", "good");
    let c = consumer(&q, 1);
    let mut tries = Vec::new();
    for wait in [0, 1000, 2000] {
        if wait > 0 {
            w.advance(wait - 1);
            assert!(take(&c, 1).is_empty());
            w.advance(1);
        }
        let deliveries = take(&c, 1);
        assert_eq!(bodies(&deliveries), ["bad"]);
        tries.push(deliveries[0].delivery_count);
        c.settle(deliveries[0].tag, false, Outcome::Failed).unwrap();
        if wait == 0 {
            // Its place is kept, but nobody waits behind it in a plain queue.
            let next = take(&c, 1);
            assert_eq!(bodies(&next), ["good"]);
            c.settle(next[0].tag, false, Outcome::Ack).unwrap();
        }
    }
    assert_eq!(tries, [0, 1, 2]);
    assert_eq!(drain(&w.host.queue("failed").unwrap()), ["bad"]);
    assert_eq!(q.statistics().dead_lettered, 1);
    assert_eq!(q.statistics().scheduled, 0);
}

#[test]
fn a_group_waits_for_its_retry() {
    let w = world();
    let retry = RetryPolicy {
        kind: RetryKind::Constant,
        attempts: 2,
        first: Duration::from_secs(5),
        factor: 1.0,
        maximum: None,
        jitter: false,
        dead_letter: None,
    };
    let q = w.queue(
        "q",
        QueueOptions {
            group_by: Some("routing-key".into()),
            retry: Some(retry),
            ..Default::default()
        },
    );
    w.publish("", "q", "1");
    w.publish("", "q", "2");
    let c = consumer(&q, 0);
    let d = take(&c, 10);
    assert_eq!(bodies(&d), ["1"]);
    c.settle(d[0].tag, false, Outcome::Failed).unwrap();
    w.advance(4999);
    assert!(take(&c, 10).is_empty());
    w.advance(1);
    let d = take(&c, 10);
    assert_eq!(bodies(&d), ["1"]);
    c.settle(d[0].tag, false, Outcome::Failed).unwrap(); // dead now
    assert_eq!(bodies(&take(&c, 10)), ["2"]);
}

#[test]
fn unused_queues_expire_and_auto_delete_ones_go() {
    let w = world();
    w.queue(
        "idle",
        QueueOptions {
            expires: Some(Duration::from_secs(10)),
            ..Default::default()
        },
    );
    let used = w.queue(
        "used",
        QueueOptions {
            expires: Some(Duration::from_secs(10)),
            ..Default::default()
        },
    );
    let c = consumer(&used, 0);
    w.advance(10_000);
    assert!(w.host.queue("idle").is_err());
    w.advance(50_000);
    c.cancel();
    w.advance(9_999);
    assert!(w.host.queue("used").is_ok());
    w.advance(1);
    assert!(w.host.queue("used").is_err());

    let q = w.queue(
        "auto",
        QueueOptions {
            auto_delete: true,
            ..Default::default()
        },
    );
    let (c, d) = (consumer(&q, 0), consumer(&q, 0));
    c.cancel();
    assert!(w.host.queue("auto").is_ok());
    drop(d);
    assert!(w.host.queue("auto").is_err());

    let options = ExchangeOptions {
        auto_delete: true,
        ..Default::default()
    };
    w.host.declare_exchange("x", options).unwrap();
    w.queue("bound", QueueOptions::default());
    w.bind("bound", "x", "k");
    w.host.delete_queue("bound", false, false).unwrap();
    assert!(w.host.exchange("x").is_err());
}
