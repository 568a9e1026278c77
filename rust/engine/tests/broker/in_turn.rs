//! Consumers that are served in turn.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wherry_engine::Broker;
use wherry_engine::BrokerOptions;
use wherry_engine::Consumer;
use wherry_engine::ConsumerOptions;
use wherry_engine::Error;
use wherry_engine::IN_TURN_AHEAD_MAX;
use wherry_engine::NewMessage;
use wherry_engine::OVERFLOW_AHEAD_MAX;
use wherry_engine::Outcome;
use wherry_engine::Queue;
use wherry_engine::QueueOptions;
use wherry_engine::properties::Properties;

use crate::world::{Bell, bodies, consumer, drain, take, with_header, world};

fn options() -> ConsumerOptions {
    ConsumerOptions {
        in_turn: true,
        ..Default::default()
    }
}

fn in_turn(queue: &Arc<Queue>, options: ConsumerOptions) -> (Arc<Consumer>, Arc<Bell>) {
    let bell = Arc::new(Bell::default());
    let consumer = queue.consume(options, Some((bell.clone(), 1))).unwrap();
    (consumer, bell)
}

fn rung(bell: &Bell) -> u64 {
    bell.0.load(Ordering::SeqCst)
}

fn all(consumer: &Consumer) -> Vec<String> {
    bodies(&take(consumer, 10_000))
}

#[test]
fn messages_go_around() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let consumers: Vec<_> = (0..3).map(|_| in_turn(&q, options())).collect();
    assert!(consumers.iter().all(|(c, _)| !c.arm()));
    for n in 0..10 {
        w.publish("", "q", &n.to_string());
    }
    // Whoever calls deals for all of them.
    assert_eq!(all(&consumers[1].0), ["1", "4", "7"]);
    // Once by a publisher, once by the dealer.
    assert_eq!((rung(&consumers[0].1), rung(&consumers[2].1)), (2, 2));
    assert_eq!(q.statistics().unacked, 10);
    assert_eq!(all(&consumers[0].0), ["0", "3", "6", "9"]);
    assert_eq!(all(&consumers[2].0), ["2", "5", "8"]);
    // The next one is the one whose turn it is.
    w.publish("", "q", "next");
    assert!(all(&consumers[0].0).is_empty());
    assert_eq!(all(&consumers[1].0), ["next"]);
}

#[test]
fn an_armed_consumer_hears_of_what_others_deal_to_it() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let (a, _) = in_turn(&q, options());
    let (b, bell) = in_turn(&q, options());
    w.publish("", "q", "0");
    w.publish("", "q", "1");
    assert!(a.arm(), "its own share is there");
    assert_eq!(rung(&bell), 1);
    assert!(b.arm());
    assert_eq!((all(&a), all(&b)), (vec!["0".into()], vec!["1".into()]));
    assert!(!a.arm() && !b.arm());
}

#[test]
fn who_does_not_take_starves_nobody() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let (_stalled, _) = in_turn(&q, options());
    let (b, _) = in_turn(&q, options());
    for n in 0..500 {
        w.publish("", "q", &n.to_string());
    }
    let mut got = 0;
    while b.arm() {
        got += take(&b, 1000).len();
    }
    assert_eq!(got, 500 - IN_TURN_AHEAD_MAX);
}

/// What consumers have room for does not count against a queue's limit. A consumer without a prefetch limit that takes
/// nothing has so much room and no more.
#[test]
fn who_does_not_take_gets_so_much_beside_a_full_queue() {
    let w = world();
    let limited = QueueOptions {
        max_length: Some(3),
        ..Default::default()
    };
    let q = w.queue("q", limited);
    let (stalled, _) = in_turn(&q, options());
    let over = 10;
    for n in 0..OVERFLOW_AHEAD_MAX + 3 + over {
        w.publish("", "q", &n.to_string());
    }
    let statistics = q.statistics();
    assert_eq!(statistics.unacked, OVERFLOW_AHEAD_MAX as u64);
    assert_eq!(q.message_count(), 3);
    // The first ones are the consumer's; of the queue's own the head made room.
    assert_eq!(bodies(&take(&stalled, 2)), ["0", "1"]);
    // Those are unsettled now, and others may lie assigned in their stead.
    w.publish("", "q", "more");
    w.publish("", "q", "still more");
    assert_eq!(
        (q.statistics().unacked, q.message_count()),
        (statistics.unacked + 2, 3)
    );
}

#[test]
fn prefetch_counts_what_is_assigned() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let limited = |prefetch| ConsumerOptions {
        prefetch,
        ..options()
    };
    let (a, _) = in_turn(&q, limited(1));
    let (b, bell) = in_turn(&q, limited(3));
    for n in 0..10 {
        w.publish("", "q", &n.to_string());
    }
    assert_eq!(all(&a), ["0"]);
    assert_eq!((b.unacked(), q.message_count()), (3, 6));
    assert_eq!(all(&b), ["1", "2", "3"]);
    assert!(!a.arm() && !b.arm());
    let before = rung(&bell);
    b.settle(1, false, Outcome::Ack).unwrap();
    assert_eq!(rung(&bell), before + 1, "room again");
    assert!(all(&a).is_empty());
    assert_eq!(all(&b), ["4"]);
    a.set_prefetch(0);
    assert_eq!(all(&a), ["5", "6", "7", "8", "9"]);
}

#[test]
fn higher_priorities_come_first_in_turn_inside_a_level() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let at = |priority, prefetch| ConsumerOptions {
        priority,
        prefetch,
        ..options()
    };
    let (low, _) = in_turn(&q, at(-1, 0));
    let (x, _) = in_turn(&q, at(5, 2));
    let (y, _) = in_turn(&q, at(5, 2));
    for n in 0..6 {
        w.publish("", "q", &n.to_string());
    }
    assert_eq!(all(&low), ["4", "5"]);
    assert_eq!(
        (all(&x), all(&y)),
        (vec!["0".into(), "2".into()], vec!["1".into(), "3".into()])
    );
    x.settle(1, false, Outcome::Ack).unwrap();
    w.publish("", "q", "6");
    assert!(all(&low).is_empty());
    assert_eq!(all(&x), ["6"]);
}

#[test]
fn one_that_takes_by_itself_and_has_a_higher_priority_is_left_its_messages() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let (a, _) = in_turn(&q, options());
    let (b, _) = in_turn(&q, options());
    let high = q
        .consume(
            ConsumerOptions {
                priority: 1,
                prefetch: 1,
                ..Default::default()
            },
            None,
        )
        .unwrap();
    let plain = consumer(&q, 0);
    for n in 0..4 {
        w.publish("", "q", &n.to_string());
    }
    assert!(all(&a).is_empty() && !a.arm());
    assert_eq!(all(&high), ["0"]);
    assert_eq!(all(&b), ["2"]);
    assert_eq!(all(&a), ["1", "3"]);
    w.publish("", "q", "4");
    assert_eq!(all(&plain), ["4"], "beside the others");
}

#[test]
fn a_single_active_consumer_is_followed_by_the_next() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            single_active_consumer: true,
            ..Default::default()
        },
    );
    let (a, _) = in_turn(&q, options());
    let (b, bell) = in_turn(&q, options());
    let (c, last) = in_turn(&q, options());
    assert!(!a.arm() && !b.arm() && !c.arm());
    for n in 0..4 {
        w.publish("", "q", &n.to_string());
    }
    assert!(all(&b).is_empty() && !b.arm());
    assert_eq!(bodies(&take(&a, 2)), ["0", "1"]);
    assert_eq!(rung(&bell), 0);
    a.cancel_lost();
    assert!(rung(&bell) >= 1 && !c.arm());
    assert_eq!(all(&b), ["0", "1", "2", "3"]);
    b.cancel_keeping();
    assert!(rung(&last) >= 1);
    w.publish("", "q", "4");
    assert_eq!(all(&c), ["4"]);
}

#[test]
fn the_next_message_of_a_group_goes_to_whose_turn_it_is() {
    let w = world();
    let q = w.queue(
        "q",
        QueueOptions {
            group_by: Some("g".into()),
            ..Default::default()
        },
    );
    let (a, _) = in_turn(&q, options());
    let (b, _) = in_turn(&q, options());
    for n in 0..6 {
        w.publish_with("q", &n.to_string(), &with_header("g", i64::from(n % 2)));
    }
    assert_eq!((all(&a), all(&b)), (vec!["0".into()], vec!["1".into()]));
    assert!(!a.arm() && !b.arm());
    a.settle(1, false, Outcome::Ack).unwrap();
    assert_eq!(all(&a), ["2"]);
    a.settle(2, false, Outcome::Ack).unwrap();
    assert!(all(&a).is_empty());
    assert_eq!(all(&b), ["4"]);
}

#[test]
fn what_was_only_assigned_comes_back_unseen() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    for leave in [
        Consumer::cancel,
        Consumer::cancel_lost,
        Consumer::cancel_keeping,
    ] {
        let (a, _) = in_turn(&q, options());
        let (b, bell) = in_turn(&q, options());
        for n in 0..4 {
            w.publish("", "q", &n.to_string());
        }
        assert_eq!(bodies(&take(&a, 1)), ["0"]);
        let before = rung(&bell);
        assert!(b.arm());
        assert_eq!(bodies(&take(&b, 1)), ["1"]);
        a.settle(1, false, Outcome::Ack).unwrap();
        leave(&a);
        let rest = take(&b, 10);
        assert_eq!(bodies(&rest), ["3", "2"], "its own came first");
        assert!(rest.iter().all(|d| !d.redelivered));
        assert!(rung(&bell) >= before);
        b.settle(0, true, Outcome::Ack).unwrap();
        assert_eq!((q.statistics().unacked, q.message_count()), (0, 0));
    }
}

#[test]
fn without_acknowledgement_messages_are_settled_when_they_are_taken() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let no_ack = || ConsumerOptions {
        no_ack: true,
        prefetch: 1,
        ..options()
    };
    let (a, _) = in_turn(&q, no_ack());
    let (b, _) = in_turn(&q, no_ack());
    for n in 0..4 {
        w.publish("", "q", &n.to_string());
    }
    assert_eq!(all(&a), ["0", "2"]);
    assert_eq!(q.statistics().unacked, 2);
    assert_eq!((a.unacked(), b.unacked()), (0, 2));
    b.cancel_lost();
    assert_eq!(drain(&q), ["1", "3"]);
}

#[test]
fn what_expires_while_it_is_assigned_is_not_handed_out() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let (a, _) = in_turn(&q, options());
    let (b, _) = in_turn(&q, options());
    let brief = Properties {
        expiration: Some("100".into()),
        ..Default::default()
    };
    for n in 0..4 {
        w.publish_with("q", &n.to_string(), &brief);
    }
    assert_eq!(all(&a), ["0", "2"]);
    w.advance(200);
    assert!(all(&b).is_empty());
    a.cancel_lost();
    let statistics = q.statistics();
    assert_eq!(
        (statistics.expired, statistics.ready, statistics.unacked),
        (4, 0, 0)
    );
}

#[test]
fn one_alone_takes_all_it_asks_for() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let (a, _) = in_turn(&q, options());
    for n in 0..200 {
        w.publish("", "q", &n.to_string());
    }
    assert_eq!(take(&a, 150).len(), 150);
    let (b, _) = in_turn(&q, options());
    assert_eq!((take(&a, 150).len(), take(&b, 150).len()), (25, 25));
    w.publish("", "q", "more");
    b.arm();
    b.cancel();
    let rest = all(&a);
    assert_eq!(
        (rest[0].as_str(), rest.len()),
        ("more", 26),
        "assigned, then alone again"
    );
}

#[test]
fn leases_begin_when_a_message_is_taken_and_may_be_the_consumers_own() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let seconds = |n| ConsumerOptions {
        lease: Some(std::time::Duration::from_secs(n)),
        ..options()
    };
    let (a, _) = in_turn(&q, seconds(1));
    let (b, _) = in_turn(&q, seconds(1));
    w.publish("", "q", "0");
    w.publish("", "q", "1");
    assert_eq!(all(&a), ["0"]);
    w.advance(1500);
    assert_eq!(a.unacked(), 0, "its lease is over");
    assert_eq!(all(&b).last().unwrap(), "1");
    assert!(b.unacked() > 0);
    assert!(q.consume(seconds(0), None).is_err());
}

/// Everything is handed out once, whoever comes and goes, and no wake-up is lost.
#[test]
fn consumers_in_turn_come_and_go_from_many_threads() {
    const MESSAGES: usize = 6000;
    struct Thread(std::thread::Thread);
    impl wherry_engine::Notify for Thread {
        fn notify(&self, _: u64) {
            self.0.unpark();
        }
    }
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    let host = broker.virtual_host("/").unwrap();
    let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
    let seen = parking_lot::Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (queue, seen) = (&queue, &seen);
            scope.spawn(move || {
                let mut lives = 0;
                while seen.lock().len() < MESSAGES {
                    lives += 1;
                    let notify: Arc<dyn wherry_engine::Notify> =
                        Arc::new(Thread(std::thread::current()));
                    let options = ConsumerOptions {
                        prefetch: [0, 1, 7, 100][(thread + lives) as usize % 4],
                        priority: i32::from(lives % 5 == 0),
                        ..options()
                    };
                    let c = match queue.consume(options, Some((notify, 0))) {
                        Ok(c) => c,
                        // The last one was seen, and the queue deleted, since this thread looked.
                        Err(Error::UnknownQueue { .. }) => {
                            assert_eq!(seen.lock().len(), MESSAGES);
                            break;
                        }
                        Err(error) => panic!("{error}"),
                    };
                    for round in 0..50 {
                        let deliveries = take(&c, 16);
                        if deliveries.is_empty() && !c.arm() {
                            if seen.lock().len() >= MESSAGES {
                                break;
                            }
                            // Somebody else may hold the rest and leave soon; a lost wake-up would hang here.
                            std::thread::park_timeout(std::time::Duration::from_secs(20));
                        }
                        for d in deliveries {
                            if (d.position + round) % 13 == 0 {
                                c.settle(d.tag, false, Outcome::Release).unwrap();
                            } else {
                                let new = seen.lock().insert(d.message.body().to_vec());
                                assert!(new, "handed out twice after an ack");
                                c.settle(d.tag, false, Outcome::Ack).unwrap();
                            }
                        }
                        if seen.lock().len() >= MESSAGES {
                            break;
                        }
                    }
                }
            });
        }
        let exchange = host.exchange("").unwrap();
        for n in 0..MESSAGES {
            let body = n.to_string();
            exchange
                .publish(&NewMessage::new("q", body.as_bytes()))
                .unwrap();
        }
        // Who still waits when the last one is done looks up.
        while seen.lock().len() < MESSAGES {
            std::thread::yield_now();
        }
        host.delete_queue("q", false, false).unwrap();
        while queue.consumer_count() > 0 {
            std::thread::yield_now();
        }
    });
    assert_eq!(queue.statistics().unacked, 0);
}
