//! What is deleted while others begin to use it: whoever got hold of something hears that it is gone.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use wherry_engine::{Broker, BrokerOptions, ConsumerOptions, Error, NewMessage, QueueOptions};

const ROUNDS: usize = 300;
/// Longer than anything takes; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_consumer_that_comes_while_its_queue_is_deleted_is_cancelled_or_refused() {
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    let host = broker.virtual_host("/").unwrap();
    for round in 0..ROUNDS {
        let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
        let start = Barrier::new(2);
        let consumers = thread::scope(|scope| {
            let consuming = scope.spawn(|| {
                start.wait();
                let mut consumers = Vec::new();
                loop {
                    match queue.consume(ConsumerOptions::default(), None) {
                        Ok(consumer) => consumers.push(consumer),
                        Err(Error::UnknownQueue { .. }) => return consumers,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            start.wait();
            host.delete_queue("q", false, false).unwrap();
            consuming.join().unwrap()
        });
        for consumer in &consumers {
            assert!(consumer.is_cancelled(), "round {round}");
        }
        assert_eq!(queue.consumer_count(), 0);
    }
}

#[test]
fn a_virtual_host_goes_with_queues_that_come_while_it_is_deleted() {
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    for round in 0..ROUNDS {
        let (host, _) = broker.add_virtual_host("other").unwrap();
        let start = Barrier::new(2);
        let queues = thread::scope(|scope| {
            let declaring = scope.spawn(|| {
                start.wait();
                let mut queues = Vec::new();
                loop {
                    let name = format!("q{}", queues.len());
                    match host.declare_queue(&name, QueueOptions::default()) {
                        Ok((queue, _)) => queues.push(queue),
                        Err(Error::UnknownVirtualHost { .. }) => return queues,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            start.wait();
            broker.delete_virtual_host("other").unwrap();
            declaring.join().unwrap()
        });
        for queue in &queues {
            assert!(queue.is_deleted(), "round {round}: {}", queue.name());
        }
    }
}

#[test]
fn who_deletes_a_virtual_host_late_does_not_delete_its_successor() {
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    for round in 0..ROUNDS {
        broker.add_virtual_host("other").unwrap();
        let start = Barrier::new(2);
        thread::scope(|scope| {
            let late = scope.spawn(|| {
                start.wait();
                broker.delete_virtual_host("other")
            });
            start.wait();
            let first = broker.delete_virtual_host("other").is_ok();
            let (host, _) = broker.add_virtual_host("other").unwrap();
            let late = late.join().unwrap().is_ok();
            assert!(first || late);
            // It is there, or was deleted as itself.
            let is_there = broker.virtual_host("other").is_ok();
            assert_eq!(is_there, !host.is_deleted(), "round {round}");
        });
    }
}

#[test]
fn what_is_published_while_its_queue_is_deleted_keeps_no_memory() {
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    let host = broker.virtual_host("/").unwrap();
    let exchange = host.exchange("").unwrap();
    for _ in 0..ROUNDS {
        host.declare_queue("q", QueueOptions::default()).unwrap();
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                while exchange
                    .publish(&NewMessage::new("q", b"message"))
                    .is_ok_and(|published| published.routed > 0)
                {}
            });
            start.wait();
            host.delete_queue("q", false, false).unwrap();
        });
    }
    // The queues go when the collector of routes has its turn, for which other tests' threads must let it go on.
    let started = Instant::now();
    while broker.statistics().memory_bytes != 0 && started.elapsed() < LONG {
        crossbeam_epoch::pin().flush();
        thread::yield_now();
    }
    assert_eq!(broker.statistics().memory_bytes, 0);
}
