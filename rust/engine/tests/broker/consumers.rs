//! Who may consume, who is served first, and who is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wherry_engine::Broker;
use wherry_engine::BrokerOptions;
use wherry_engine::ConsumerOptions;
use wherry_engine::Error;
use wherry_engine::NewMessage;
use wherry_engine::Outcome;
use wherry_engine::QueueOptions;

use crate::world::{Bell, bodies, consumer, take, world};

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
}

/// Each is in two lists of its queue. Where one that comes or goes walks along all others, these take minutes, and the
/// server that runs them stands still meanwhile; else not a second.
#[test]
fn a_hundred_thousand_consumers_of_a_queue_come_wait_and_go() {
    const COUNT: usize = 100_000;
    let started = Instant::now();
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let options = || ConsumerOptions {
        in_turn: true,
        prefetch: 1,
        ..Default::default()
    };
    let mut consumers: Vec<_> = (0..COUNT)
        .map(|_| q.consume(options(), None).unwrap())
        .collect();
    assert!(consumers.iter().all(|consumer| !consumer.arm()));
    assert_eq!(q.statistics().consumers, COUNT as u64);
    // From the middle outwards, which is no order that the lists have.
    let mut late = consumers.split_off(COUNT / 2);
    consumers.reverse();
    while let (Some(one), Some(other)) = (consumers.pop(), late.pop()) {
        one.cancel();
        other.cancel();
    }
    assert_eq!(q.statistics().consumers, 0);
    // Those who left are not told, and who comes now is the first.
    let c = consumer(&q, 0);
    assert!(!c.arm());
    w.publish("", "q", "for the last");
    assert_eq!(bodies(&take(&c, 2)), ["for the last"]);
    assert!(started.elapsed() < Duration::from_secs(60));
}
