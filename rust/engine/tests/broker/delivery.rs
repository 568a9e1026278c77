//! Taking, settling, giving back, and the order of it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wherry_engine::Broker;
use wherry_engine::BrokerOptions;
use wherry_engine::ConsumerOptions;
use wherry_engine::Error;
use wherry_engine::NewMessage;
use wherry_engine::Outcome;
use wherry_engine::QueueOptions;
use wherry_engine::RetryKind;
use wherry_engine::RetryPolicy;
use wherry_engine::properties::Properties;

use crate::world::{bodies, consumer, drain, take, with_header, world};

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
