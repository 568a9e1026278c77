//! The memory of what waits, and who is stopped when it is too much.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wherry_engine::Broker;
use wherry_engine::BrokerOptions;
use wherry_engine::Error;
use wherry_engine::NewMessage;
use wherry_engine::Outcome;
use wherry_engine::QueueOptions;

use crate::world::{Bell, consumer, drain, take};

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

/// Whatever becomes of messages that are in memory only, they count while they wait and not afterwards.
#[test]
fn transient_and_delayed_messages_count_as_memory() {
    let disk = wherry_journal::testing::MemoryDisk::new();
    let broker = Broker::open(BrokerOptions {
        disk: Some(disk),
        clock: wherry_engine::clock::Clock::virtual_at(crate::world::START_NS),
        memory_bytes_max: Some(wherry_engine::MEMORY_BYTES_MIN),
        ..BrokerOptions::default()
    })
    .unwrap();
    let host = broker.virtual_host("/").unwrap();
    let dead_letters = QueueOptions {
        dead_letter_exchange: Some(String::new()),
        dead_letter_routing_key: Some("dead".into()),
        ..Default::default()
    };
    let (queue, _) = host.declare_queue("q", dead_letters).unwrap();
    let (dead, _) = host.declare_queue("dead", QueueOptions::default()).unwrap();
    let exchange = host.exchange("").unwrap();
    let body = vec![0; 50_000];
    let fill = |delay: wherry_engine::Delay, persistent: bool| {
        let message = NewMessage {
            persistent,
            delay,
            ..NewMessage::new("q", &body)
        };
        let mut published = 0;
        while published < 120 {
            match exchange.publish(&message) {
                Ok(_) => published += 1,
                // The journal's buffer waits for the disk.
                Err(Error::Busy) if persistent => {
                    broker.wait_space(Some(Duration::from_millis(20)));
                }
                Err(Error::Busy) => break,
                Err(error) => panic!("{error}"),
            }
        }
        published
    };
    let used = || broker.statistics().memory_bytes;
    let now = wherry_engine::Delay::None;
    let later = wherry_engine::Delay::For(Duration::from_secs(10));
    for delay in [now, later] {
        assert!((60..120).contains(&fill(delay, false)), "transient");
        match delay {
            wherry_engine::Delay::None => assert!(queue.purge().unwrap().0 > 60),
            _ => {
                let waiting = queue.scheduled();
                assert!(queue.cancel_scheduled(waiting[0].id).unwrap().0);
                broker.advance(Duration::from_secs(20)).unwrap();
                assert!(used() > 60 * 50_000);
                let c = consumer(&queue, 0);
                let held = take(&c, 1000);
                assert_eq!(held.len(), waiting.len() - 1);
                c.settle(1, false, Outcome::Ack).unwrap();
                c.settle(2, false, Outcome::Reject { requeue: false })
                    .unwrap();
                c.settle(3, false, Outcome::Lost).unwrap();
                c.cancel();
                assert_eq!(drain(&dead).len(), 1);
                assert!(!drain(&queue).is_empty());
            }
        }
        assert_eq!(used(), 0);
        assert_eq!(fill(delay, true), 120, "in the journal");
        broker.advance(Duration::from_secs(20)).unwrap();
        assert_eq!(used(), 0);
        drain(&queue);
    }
    fill(later, false);
    fill(now, false);
    // The journal may still have much to write.
    while let Err(error) = host.delete_queue("q", false, false) {
        assert!(matches!(error, Error::Busy), "{error}");
        broker.wait_space(Some(Duration::from_millis(20)));
    }
    assert_eq!(used(), 0);
    broker.close().unwrap();
}
