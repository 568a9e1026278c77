//! What a user of the engine sees, in memory and with virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wherry_engine::clock::Clock;
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};
use wherry_engine::{
    Broker, BrokerOptions, Consumer, ConsumerOptions, Delay, Delivery, Error, ExchangeKind,
    ExchangeOptions, NewMessage, Notify, Outcome, Overflow, Queue, QueueOptions, RetryKind,
    RetryPolicy, VirtualHost,
};

const START_NS: u64 = 1_700_000_000_000_000_000;

struct World {
    broker: Arc<Broker>,
    host: Arc<VirtualHost>,
}

fn world() -> World {
    let options = BrokerOptions {
        clock: Clock::virtual_at(START_NS),
        ..BrokerOptions::default()
    };
    let broker = Broker::open(options).unwrap();
    let host = broker.virtual_host("/").unwrap();
    World { broker, host }
}

impl World {
    fn queue(&self, name: &str, options: QueueOptions) -> Arc<Queue> {
        self.host.declare_queue(name, options).unwrap().0
    }

    fn exchange(&self, name: &str, kind: ExchangeKind) {
        self.host
            .declare_exchange(
                name,
                ExchangeOptions {
                    kind,
                    ..Default::default()
                },
            )
            .unwrap();
    }

    fn bind(&self, queue: &str, exchange: &str, key: &str) {
        self.host
            .bind_queue(queue, exchange, key, Table::default())
            .unwrap();
    }

    fn publish(&self, exchange: &str, key: &str, body: &str) -> u32 {
        self.host
            .exchange(exchange)
            .unwrap()
            .publish(&NewMessage::new(key, body.as_bytes()))
            .unwrap()
            .routed
    }

    fn publish_with(&self, key: &str, body: &str, properties: &Properties) {
        let properties = properties.encode().unwrap();
        let message = NewMessage {
            properties: &properties,
            ..NewMessage::new(key, body.as_bytes())
        };
        self.host.exchange("").unwrap().publish(&message).unwrap();
    }

    fn advance(&self, millis: u64) {
        self.broker.advance(Duration::from_millis(millis)).unwrap();
    }
}

fn consumer(queue: &Arc<Queue>, prefetch: u32) -> Arc<Consumer> {
    queue
        .consume(
            ConsumerOptions {
                prefetch,
                ..Default::default()
            },
            None,
        )
        .unwrap()
}

fn take(consumer: &Consumer, max: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    consumer.take(max, &mut out);
    out
}

fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|d| String::from_utf8(d.message.body().to_vec()).unwrap())
        .collect()
}

/// Takes and acks everything that is ready.
fn drain(queue: &Arc<Queue>) -> Vec<String> {
    let consumer = consumer(queue, 0);
    let deliveries = take(&consumer, 10_000);
    consumer.settle(0, true, Outcome::Ack).ok();
    bodies(&deliveries)
}

fn with_header(name: &str, value: impl Into<Value>) -> Properties {
    let mut headers = Table::default();
    headers.insert(name, value);
    Properties {
        headers: Some(headers),
        ..Default::default()
    }
}

#[test]
fn the_default_exchange_routes_by_queue_name() {
    let w = world();
    let q = w.queue("tasks", QueueOptions::default());
    assert_eq!(w.publish("", "tasks", "one"), 1);
    assert_eq!(w.publish("", "nobody", "lost"), 0);
    assert_eq!(drain(&q), ["one"]);
    assert_eq!(q.statistics().acknowledged, 1);
}

#[test]
fn one_copy_a_queue_through_circles_of_exchanges() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    for name in ["a", "b", "c"] {
        w.exchange(name, ExchangeKind::Topic);
    }
    w.host
        .bind_exchange("b", "a", "#", Table::default())
        .unwrap();
    w.host
        .bind_exchange("c", "b", "x.*", Table::default())
        .unwrap();
    w.host
        .bind_exchange("a", "c", "#", Table::default())
        .unwrap();
    for exchange in ["a", "b", "c"] {
        w.bind("q", exchange, "x.#");
    }
    assert_eq!(w.publish("a", "x.y", "once"), 1);
    assert_eq!(w.publish("a", "z", "nowhere"), 0);
    assert_eq!(drain(&q), ["once"]);
}

#[test]
fn the_alternate_exchange_takes_what_nobody_wants() {
    let w = world();
    let rest = w.queue("rest", QueueOptions::default());
    w.queue("wanted", QueueOptions::default());
    w.exchange("unrouted", ExchangeKind::Fanout);
    let options = ExchangeOptions {
        alternate_exchange: Some("unrouted".into()),
        ..Default::default()
    };
    w.host.declare_exchange("main", options).unwrap();
    w.bind("rest", "unrouted", "");
    w.bind("wanted", "main", "yes");
    w.publish("main", "yes", "taken");
    w.publish("main", "no", "left");
    assert_eq!(drain(&rest), ["left"]);
}

#[test]
fn a_changed_binding_is_seen_by_the_next_publish() {
    let w = world();
    w.queue("q", QueueOptions::default());
    w.exchange("x", ExchangeKind::Direct);
    assert_eq!(w.publish("x", "k", ""), 0);
    w.bind("q", "x", "k");
    assert_eq!(w.publish("x", "k", ""), 1);
    w.host
        .unbind_queue("q", "x", "k", Table::default())
        .unwrap();
    assert_eq!(w.publish("x", "k", ""), 0);
    w.bind("q", "x", "k");
    w.host.delete_queue("q", false, false).unwrap();
    assert_eq!(w.publish("x", "k", ""), 0);
}

#[test]
fn carbon_copies_route_and_blind_ones_stay_blind() {
    let w = world();
    let queues: Vec<_> = ["to", "cc", "bcc"]
        .map(|n| w.queue(n, QueueOptions::default()))
        .into();
    let mut headers = Table::default();
    headers.insert("CC", Value::Array(vec!["cc".into()]));
    headers.insert("BCC", Value::Array(vec!["bcc".into()]));
    w.publish_with(
        "to",
        "hello",
        &Properties {
            headers: Some(headers),
            ..Default::default()
        },
    );
    for queue in &queues {
        let c = consumer(queue, 0);
        let deliveries = take(&c, 10);
        assert_eq!(deliveries.len(), 1, "{}", queue.name());
        let headers = deliveries[0].message.properties().headers().unwrap();
        assert!(headers.get("CC").is_some() && headers.get("BCC").is_none());
    }
}

#[test]
fn mandatory_says_when_nobody_listens() {
    let w = world();
    let message = NewMessage {
        mandatory: true,
        ..NewMessage::new("nobody", b"")
    };
    let error = w.host.exchange("").unwrap().publish(&message).unwrap_err();
    assert!(matches!(error, Error::Unroutable { .. }), "{error}");
}

#[test]
fn nacked_messages_return_to_their_own_place() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    for n in 0..6 {
        w.publish("", "q", &n.to_string());
    }
    let c = consumer(&q, 0);
    let first = take(&c, 4);
    c.settle(first[1].tag, false, Outcome::Nack { requeue: true })
        .unwrap();
    c.settle(first[3].tag, false, Outcome::Nack { requeue: true })
        .unwrap();
    let again = take(&c, 10);
    assert_eq!(bodies(&again), ["1", "3", "4", "5"]);
    assert_eq!(
        again.iter().map(|d| d.redelivered).collect::<Vec<_>>(),
        [true, true, false, false]
    );
    assert_eq!(again[0].delivery_count, 1);
}

#[test]
fn a_consumer_that_leaves_returns_what_it_held() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    for n in 0..5 {
        w.publish("", "q", &n.to_string());
    }
    let c = consumer(&q, 0);
    let held = take(&c, 3);
    c.settle(held[1].tag, false, Outcome::Ack).unwrap();
    c.cancel();
    assert!(take(&c, 1).is_empty());
    let d = consumer(&q, 0);
    let again = take(&d, 10);
    assert_eq!(bodies(&again), ["0", "2", "3", "4"]);
    assert_eq!((again[0].redelivered, again[0].delivery_count), (true, 0));
}

#[test]
fn settling_up_to_and_twice() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    for n in 0..5 {
        w.publish("", "q", &n.to_string());
    }
    let c = consumer(&q, 0);
    let held = take(&c, 5);
    c.settle(held[2].tag, true, Outcome::Ack).unwrap();
    assert_eq!(c.unacked(), 2);
    for tag in [held[0].tag, held[2].tag, 99, 0] {
        let error = c.settle(tag, false, Outcome::Ack).unwrap_err();
        assert_eq!(error, Error::UnknownDelivery { tag });
    }
    assert!(
        c.settle_many(&[held[3].tag, held[3].tag], Outcome::Ack)
            .is_err()
    );
    assert_eq!(c.unacked(), 2, "a refused settlement settles nothing");
    c.settle_many(&[held[4].tag, held[3].tag], Outcome::Ack)
        .unwrap();
    assert_eq!(q.statistics().unacked, 0);
}

#[test]
fn prefetch_bounds_what_is_held_and_can_change() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    for n in 0..5 {
        w.publish("", "q", &n.to_string());
    }
    let c = consumer(&q, 2);
    let held = take(&c, 10);
    assert_eq!(held.len(), 2);
    assert!(take(&c, 10).is_empty());
    c.settle(held[0].tag, false, Outcome::Ack).unwrap();
    assert_eq!(take(&c, 10).len(), 1);
    c.set_prefetch(4);
    assert_eq!(take(&c, 10).len(), 2);
}

#[test]
fn priorities_are_strict_and_fifo_inside() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            max_priority: Some(9),
            ..Default::default()
        },
    );
    for (body, priority) in [("a", 1), ("b", 9), ("c", 1), ("d", 200), ("e", 0)] {
        w.publish_with(
            "q",
            body,
            &Properties {
                priority: Some(priority),
                ..Default::default()
            },
        );
    }
    assert_eq!(drain(&q), ["b", "d", "a", "c", "e"]);
}

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
fn consumers_of_different_priority_come_and_go_from_many_threads() {
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    let host = broker.virtual_host("/").unwrap();
    let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
    let exchange = host.exchange("").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (queue, exchange) = (&queue, &exchange);
            scope.spawn(move || {
                for n in 0..2000 {
                    let options = ConsumerOptions {
                        priority: (thread + n) % 3,
                        ..Default::default()
                    };
                    let c = queue.consume(options, None).unwrap();
                    exchange.publish(&NewMessage::new("q", b"x")).unwrap();
                    for d in take(&c, 2) {
                        c.settle(d.tag, false, Outcome::Ack).unwrap();
                    }
                }
            });
        }
    });
    let statistics = queue.statistics();
    assert_eq!(statistics.ready + statistics.acknowledged, 6000);
    assert_eq!((statistics.consumers, statistics.unacked), (0, 0));
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
fn a_release_counts_as_nothing() {
    let w = world();
    let retry = RetryPolicy {
        kind: RetryKind::Constant,
        attempts: 1,
        first: Duration::from_secs(5),
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
    let c = consumer(&q, 0);
    for _ in 0..3 {
        let d = take(&c, 1);
        assert_eq!(
            (bodies(&d), d[0].delivery_count),
            (vec!["a".to_string()], 0)
        );
        c.settle(d[0].tag, false, Outcome::Release).unwrap();
    }
    assert!(take(&c, 1)[0].redelivered);
}

#[test]
fn leases_run_out_unless_extended() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            lease: Some(Duration::from_secs(30)),
            ..Default::default()
        },
    );
    w.publish("", "q", "a");
    w.publish("", "q", "b");
    let c = consumer(&q, 0);
    let held = take(&c, 2);
    w.advance(20_000);
    c.extend(held[1].tag, Duration::from_secs(30)).unwrap();
    w.advance(10_000);
    assert_eq!(
        c.settle(held[0].tag, false, Outcome::Ack),
        Err(Error::UnknownDelivery { tag: held[0].tag })
    );
    let again = take(&c, 10);
    assert_eq!(bodies(&again), ["a"]);
    assert_eq!(again[0].delivery_count, 1);
    c.settle(held[1].tag, false, Outcome::Ack).unwrap();
    w.advance(30_000);
    assert_eq!(bodies(&take(&c, 10)), ["a"]);
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
fn groups_are_fifo_with_one_in_flight() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            group_by: Some("order".into()),
            ..Default::default()
        },
    );
    for (order, body) in [
        ("A", "a1"),
        ("A", "a2"),
        ("B", "b1"),
        ("A", "a3"),
        ("B", "b2"),
    ] {
        w.publish_with("q", body, &with_header("order", order));
    }
    w.publish("", "q", "free");
    assert_eq!(q.statistics().groups, 2);
    let c = consumer(&q, 0);
    let first = take(&c, 10);
    assert_eq!(bodies(&first), ["a1", "b1", "free"]);
    assert!(take(&c, 10).is_empty());
    c.settle(first[0].tag, false, Outcome::Ack).unwrap();
    c.settle(first[1].tag, false, Outcome::Nack { requeue: true })
        .unwrap();
    assert_eq!(bodies(&take(&c, 10)), ["a2", "b1"]);
    c.cancel();
    let d = consumer(&q, 0);
    let mut seen = Vec::new();
    loop {
        let deliveries = take(&d, 10);
        if deliveries.is_empty() {
            break;
        }
        seen.extend(bodies(&deliveries));
        d.settle(0, true, Outcome::Ack).unwrap();
    }
    assert_eq!(seen, ["a2", "b1", "free", "a3", "b2"]);
    assert_eq!(q.statistics().groups, 0);
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
fn one_active_consumer_at_a_time() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            single_active_consumer: true,
            ..Default::default()
        },
    );
    for n in 0..4 {
        w.publish("", "q", &n.to_string());
    }
    let (a, b) = (consumer(&q, 0), consumer(&q, 0));
    assert!(take(&b, 1).is_empty());
    assert_eq!(bodies(&take(&a, 2)), ["0", "1"]);
    assert!(!b.arm());
    a.cancel();
    assert_eq!(bodies(&take(&b, 10)), ["0", "1", "2", "3"]);
}

#[test]
fn higher_priority_consumers_come_first_while_they_have_room() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let low = consumer(&q, 0);
    let options = ConsumerOptions {
        priority: 10,
        prefetch: 2,
        ..Default::default()
    };
    let high = q.consume(options, None).unwrap();
    for n in 0..4 {
        w.publish("", "q", &n.to_string());
    }
    assert!(take(&low, 10).is_empty());
    assert_eq!(take(&high, 10).len(), 2);
    assert_eq!(bodies(&take(&low, 10)), ["2", "3"]);
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let exclusive = || ConsumerOptions {
        exclusive: true,
        ..Default::default()
    };
    let a = q.consume(exclusive(), None).unwrap();
    assert!(matches!(
        q.consume(Default::default(), None),
        Err(Error::AccessRefused(_))
    ));
    a.cancel();
    let b = consumer(&q, 0);
    assert!(matches!(
        q.consume(exclusive(), None),
        Err(Error::AccessRefused(_))
    ));
    drop(b);
    q.consume(exclusive(), None).unwrap();
}

#[derive(Default)]
struct Bell(AtomicU64);

impl Notify for Bell {
    fn notify(&self, token: u64) {
        self.0.fetch_add(token, Ordering::SeqCst);
    }
}

#[test]
fn a_waiting_consumer_is_told_once() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let bell = Arc::new(Bell::default());
    let c = q
        .consume(
            ConsumerOptions {
                prefetch: 1,
                ..Default::default()
            },
            Some((bell.clone(), 1)),
        )
        .unwrap();
    let rung = || bell.0.load(Ordering::SeqCst);
    assert!(!c.arm());
    w.publish("", "q", "a");
    w.publish("", "q", "b");
    assert_eq!(rung(), 1);
    assert!(c.arm(), "something is there");
    let held = take(&c, 10);
    assert!(!c.arm(), "no room");
    w.publish("", "q", "c");
    assert_eq!(rung(), 1);
    c.settle(held[0].tag, false, Outcome::Ack).unwrap();
    assert_eq!(rung(), 2);
    w.host.delete_queue("q", false, false).unwrap();
    assert!(c.is_cancelled());
    assert_eq!(rung(), 3);
}

#[test]
fn a_wake_up_is_passed_on_by_who_gives_up() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
    let consumers: Vec<_> = bells
        .iter()
        .map(|bell| {
            q.consume(Default::default(), Some((bell.clone(), 1)))
                .unwrap()
        })
        .collect();
    assert!(consumers.iter().all(|c| !c.arm()));
    w.publish("", "q", "a");
    let rung = |n: usize| bells[n].0.load(Ordering::SeqCst);
    assert_eq!((rung(0), rung(1)), (1, 0));
    consumers[0].disarm();
    assert_eq!((rung(0), rung(1)), (1, 1));
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
fn purge_browse_and_move() {
    let w = world();
    let a = w.queue("a", QueueOptions::default());
    let b = w.queue("b", QueueOptions::default());
    for n in 0..5 {
        w.publish("", "a", &n.to_string());
    }
    let seen: Vec<_> = a
        .browse(1, 2)
        .iter()
        .map(|m| m.message.body().to_vec())
        .collect();
    assert_eq!(seen, [b"1", b"2"]);
    assert!(!a.browse(0, 1)[0].redelivered);
    assert_eq!(a.move_to(&b, Some(2)).unwrap().0, 2);
    assert_eq!(a.purge().unwrap().0, 3);
    assert_eq!((a.statistics().ready, a.statistics().ready_bytes), (0, 0));
    assert_eq!(drain(&b), ["0", "1"]);
    assert!(a.move_to(&a, None).is_err());
}

#[test]
fn large_messages_move_in_order_too() {
    let w = world();
    let a = w.queue("a", QueueOptions::default());
    let b = w.queue("b", QueueOptions::default());
    let exchange = w.host.exchange("").unwrap();
    for n in 0..7u8 {
        let body = vec![n; if n == 3 { 9 << 20 } else { 3 << 20 }];
        exchange.publish(&NewMessage::new("a", &body)).unwrap();
    }
    assert_eq!(a.move_to(&b, None).unwrap().0, 7);
    let c = consumer(&b, 0);
    let order: Vec<u8> = take(&c, 10).iter().map(|d| d.message.body()[0]).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(
        (
            a.statistics().ready,
            a.statistics().ready_bytes,
            a.statistics().unacked
        ),
        (0, 0, 0)
    );
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
    let text = "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the value '3' but current is none";
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

#[test]
fn an_internal_exchange_takes_from_exchanges_only() {
    let w = world();
    w.host
        .declare_exchange(
            "inner",
            ExchangeOptions {
                internal: true,
                ..Default::default()
            },
        )
        .unwrap();
    let inner = w.host.exchange("inner").unwrap();
    assert!(matches!(
        inner.publish(&NewMessage::new("k", b"")),
        Err(Error::AccessRefused(_))
    ));
    w.exchange("outer", ExchangeKind::Fanout);
    w.host
        .bind_exchange("inner", "outer", "", Table::default())
        .unwrap();
    let q = w.queue("q", QueueOptions::default());
    w.bind("q", "inner", "k");
    w.publish("outer", "k", "through");
    assert_eq!(drain(&q), ["through"]);
}

#[test]
fn batches_publish_in_order_through_every_route() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let bodies: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    let messages: Vec<_> = bodies
        .iter()
        .enumerate()
        .map(|(n, b)| NewMessage::new(if n % 7 == 3 { "nobody" } else { "q" }, b.as_bytes()))
        .collect();
    let published = w
        .host
        .exchange("")
        .unwrap()
        .publish_batch(&messages)
        .unwrap();
    assert_eq!(published.accepted, 5000);
    let expected: Vec<_> = bodies
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 7 != 3)
        .map(|(_, b)| b.clone())
        .collect();
    assert_eq!(published.routed as usize, expected.len());
    assert_eq!(drain(&q), expected);
}

#[test]
fn publishers_wait_while_memory_is_full() {
    let options = BrokerOptions {
        memory_bytes_max: Some(4 << 20),
        ..BrokerOptions::default()
    };
    let broker = Broker::open(options).unwrap();
    let host = broker.virtual_host("/").unwrap();
    let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
    let exchange = host.exchange("").unwrap();
    let bell = Arc::new(Bell::default());
    broker.watch(bell.clone(), 1);
    let body = [7; 10_000];
    let mut published = 0;
    let error = loop {
        match exchange.publish(&NewMessage::new("q", &body)) {
            Ok(_) => published += 1,
            Err(error) => break error,
        }
        assert!(published < 1000);
    };
    assert_eq!(error, Error::Busy);
    assert!(!broker.wait_space(Some(Duration::ZERO)));
    assert_eq!(bell.0.load(Ordering::SeqCst), 0);
    let c = consumer(&queue, 0);
    let taken = take(&c, published / 2);
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
    assert!(broker.wait_space(None));
    exchange.publish(&NewMessage::new("q", &body)).unwrap();
    drop(taken);
    queue.purge().unwrap();
    assert_eq!(broker.statistics().memory_bytes, 0);
    let tiny = BrokerOptions {
        memory_bytes_max: Some(1),
        ..BrokerOptions::default()
    };
    assert!(matches!(Broker::open(tiny), Err(Error::InvalidArgument(_))));
}

#[test]
fn a_fanout_exchange_follows_keys_only_where_somebody_looks_at_them() {
    let w = world();
    w.exchange("all", ExchangeKind::Fanout);
    w.exchange("some", ExchangeKind::Topic);
    let (a, b) = (
        w.queue("a", QueueOptions::default()),
        w.queue("b", QueueOptions::default()),
    );
    w.bind("a", "all", "");
    assert_eq!(
        (w.publish("all", "x", "1"), w.publish("all", "y", "2")),
        (1, 1)
    );
    w.bind("b", "some", "x");
    w.host
        .bind_exchange("some", "all", "", Table::default())
        .unwrap();
    assert_eq!(
        (w.publish("all", "x", "3"), w.publish("all", "y", "4")),
        (2, 1)
    );
    let keys = ["x", "y", "x"];
    let messages: Vec<_> = keys
        .iter()
        .map(|key| NewMessage::new(key, key.as_bytes()))
        .collect();
    let exchange = w.host.exchange("all").unwrap();
    assert_eq!(exchange.publish_batch(&messages).unwrap().routed, 5);
    w.host
        .unbind_exchange("some", "all", "", Table::default())
        .unwrap();
    assert_eq!(w.publish("all", "x", "5"), 1);
    assert_eq!(exchange.publish_batch(&messages).unwrap().routed, 3);
    assert_eq!(
        drain(&a),
        ["1", "2", "3", "4", "x", "y", "x", "5", "x", "y", "x"]
    );
    assert_eq!(drain(&b), ["3", "x", "x"]);
}

#[test]
fn more_routing_keys_than_the_cache_holds_are_routed_all_the_same() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    w.exchange("x", ExchangeKind::Topic);
    w.bind("q", "x", "*.odd");
    let exchange = w.host.exchange("x").unwrap();
    let keys: Vec<String> = (0..200_000)
        .map(|n| format!("{n}.{}", if n % 2 == 0 { "even" } else { "odd" }))
        .collect();
    let mut routed = 0;
    for key in keys.iter().chain(&keys[..1000]) {
        routed += exchange.publish(&NewMessage::new(key, b"")).unwrap().routed;
    }
    assert_eq!(routed, 100_500);
    assert_eq!(q.purge().unwrap().0, 100_500);
}

#[test]
fn virtual_hosts_are_apart() {
    let w = world();
    let (other, _) = w.broker.add_virtual_host("other").unwrap();
    other.declare_queue("q", QueueOptions::default()).unwrap();
    assert_eq!(w.publish("", "q", "x"), 0);
    assert!(w.host.queue("q").is_err());
    w.broker.delete_virtual_host("other").unwrap();
    assert!(matches!(
        w.broker.virtual_host("other"),
        Err(Error::UnknownVirtualHost { .. })
    ));
    assert!(matches!(
        w.broker.delete_virtual_host("/"),
        Err(Error::AccessRefused(_))
    ));
}

#[test]
fn exclusive_queues_belong_to_their_owner() {
    let w = world();
    let options = |owner| QueueOptions {
        exclusive: Some(owner),
        ..Default::default()
    };
    let q = w.queue("mine", options(7));
    assert!(matches!(
        w.host.declare_queue("mine", options(8)),
        Err(Error::ResourceLocked(_))
    ));
    assert!(matches!(
        q.consume(Default::default(), None),
        Err(Error::ResourceLocked(_))
    ));
    q.consume(
        ConsumerOptions {
            owner: 7,
            ..Default::default()
        },
        None,
    )
    .unwrap();
    w.host.release_owner(7);
    assert!(w.host.queue("mine").is_err());
}

#[test]
fn many_threads_lose_and_double_nothing() {
    const EACH: usize = 20_000;
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    let host = broker.virtual_host("/").unwrap();
    let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
    let done = AtomicU64::new(0);
    let sum = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for producer in 0..2u64 {
            let exchange = host.exchange("").unwrap();
            scope.spawn(move || {
                for n in 0..EACH as u64 {
                    let body = (producer << 32 | n).to_le_bytes();
                    exchange.publish(&NewMessage::new("q", &body)).unwrap();
                }
            });
        }
        for worker in 0..2u64 {
            let (queue, done, sum) = (&queue, &done, &sum);
            scope.spawn(move || {
                let c = consumer(queue, 64);
                let mut last = [None; 2];
                let mut seed = worker + 1;
                while done.load(Ordering::Relaxed) < 2 * EACH as u64 {
                    for d in take(&c, 16) {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        if seed >> 60 == 0 {
                            c.settle(d.tag, false, Outcome::Nack { requeue: true })
                                .unwrap();
                            continue;
                        }
                        let value = u64::from_le_bytes(d.message.body().try_into().unwrap());
                        let (producer, n) = ((value >> 32) as usize, value & 0xffff_ffff);
                        if !d.redelivered {
                            assert!(
                                last[producer].is_none_or(|l| l < n),
                                "order of one producer"
                            );
                            last[producer] = Some(n);
                        }
                        sum.fetch_add(n + 1, Ordering::Relaxed);
                        c.settle(d.tag, false, Outcome::Ack).unwrap();
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let each = (EACH as u64) * (EACH as u64 + 1) / 2;
    assert_eq!(sum.load(Ordering::Relaxed), 2 * each);
    let statistics = queue.statistics();
    assert_eq!(
        (statistics.ready, statistics.unacked, statistics.ready_bytes),
        (0, 0, 0)
    );
}

#[test]
fn what_was_handed_out_when_the_broker_closed_comes_back_redelivered() {
    let path = std::env::temp_dir().join(format!("wherry-test-{}-handed-out", std::process::id()));
    let open = || {
        let broker = Broker::open(BrokerOptions {
            path: Some(path.clone()),
            ..Default::default()
        })
        .unwrap();
        let host = broker.virtual_host("/").unwrap();
        (broker, host)
    };
    let (broker, host) = open();
    let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
    let exchange = host.exchange("").unwrap();
    for body in ["a", "b", "c", "d"] {
        exchange
            .publish(&NewMessage::new("q", body.as_bytes()))
            .unwrap();
    }
    let get = queue
        .consume(
            ConsumerOptions {
                hidden: true,
                ..Default::default()
            },
            None,
        )
        .unwrap();
    let c = consumer(&queue, 0);
    let first = take(&c, 2);
    c.settle(first[0].tag, false, Outcome::Nack { requeue: true })
        .unwrap();
    assert_eq!(bodies(&take(&get, 1)), ["a"]);
    broker.close().unwrap();

    let (broker, host) = open();
    let d = consumer(&host.queue("q").unwrap(), 0);
    let again = take(&d, 10);
    assert_eq!(bodies(&again), ["a", "b", "c", "d"]);
    assert_eq!(
        again.iter().map(|d| d.redelivered).collect::<Vec<_>>(),
        [true, true, false, false]
    );
    assert_eq!(
        again.iter().map(|d| d.delivery_count).collect::<Vec<_>>(),
        [1, 0, 0, 0]
    );
    drop((d, broker));
    std::fs::remove_dir_all(path).unwrap();
}
