//! Who watches consumers hears how many there are.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wherry_engine::ConsumerOptions;
use wherry_engine::ConsumerWatch;
use wherry_engine::Error;
use wherry_engine::QueueOptions;

use crate::world::{Bell, consumer, world};

fn taken(watch: &ConsumerWatch) -> Vec<(String, usize)> {
    let mut out = Vec::new();
    watch.take(usize::MAX, &mut out).unwrap();
    out.into_iter()
        .map(|(queue, consumers)| (queue.to_string(), consumers))
        .collect()
}

fn counts<const N: usize>(counts: [(&str, usize); N]) -> Vec<(String, usize)> {
    counts
        .map(|(queue, consumers)| (queue.to_owned(), consumers))
        .into()
}

#[test]
fn a_watch_tells_what_is_and_then_what_changes() {
    let w = world();
    let ada = w.queue("ada", QueueOptions::default());
    let bob = w.queue("bob", QueueOptions::default());
    w.queue("carl", QueueOptions::default());
    let first = consumer(&ada, 0);
    let bell = Arc::new(Bell::default());
    let watch = w.host.watch_consumers(Some((bell.clone(), 1))).unwrap();
    assert_eq!(taken(&watch), counts([("ada", 1)]));
    assert!(!watch.arm());

    let second = consumer(&bob, 0);
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
    let third = consumer(&ada, 0);
    assert_eq!(bell.0.load(Ordering::SeqCst), 1, "told once");
    drop(first);
    drop(third);
    assert!(watch.arm(), "there is something to take");
    assert_eq!(taken(&watch), counts([("bob", 1), ("ada", 0)]));
    assert_eq!(taken(&watch), []);

    second.cancel_keeping();
    second.cancel();
    assert_eq!(taken(&watch), counts([("bob", 0)]));
}

#[test]
fn a_watch_takes_as_much_as_it_is_asked_for() {
    let w = world();
    let queues: Vec<_> = (0..200)
        .map(|n| w.queue(&format!("q{n}"), QueueOptions::default()))
        .collect();
    let watch = w.host.watch_consumers(None).unwrap();
    let _consumers: Vec<_> = queues.iter().map(|queue| consumer(queue, 0)).collect();
    let mut out = Vec::new();
    assert_eq!(watch.take(150, &mut out).unwrap(), 150);
    assert_eq!(&*out[149].0, "q149");
    assert_eq!(watch.take(150, &mut out).unwrap(), 50);
    assert_eq!(watch.take(0, &mut out).unwrap(), 0);
}

#[test]
fn a_watch_does_not_hear_of_those_who_get_nor_of_other_virtual_hosts() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    w.broker.add_virtual_host("other").unwrap();
    let other = w.broker.virtual_host("other").unwrap();
    let watch = w.host.watch_consumers(None).unwrap();
    let hidden = ConsumerOptions {
        hidden: true,
        ..Default::default()
    };
    drop(q.consume(hidden, None).unwrap());
    let (elsewhere, _) = other.declare_queue("q", QueueOptions::default()).unwrap();
    let _consumer = consumer(&elsewhere, 0);
    assert_eq!(taken(&watch), []);
}

#[test]
fn a_refused_consumer_changes_nothing() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let _consumer = consumer(&q, 0);
    let watch = w.host.watch_consumers(None).unwrap();
    taken(&watch);
    let exclusive = ConsumerOptions {
        exclusive: true,
        ..Default::default()
    };
    assert!(q.consume(exclusive, None).is_err());
    assert_eq!(taken(&watch), []);
}

#[test]
fn a_deleted_queue_has_no_consumers() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let _consumer = consumer(&q, 0);
    let watch = w.host.watch_consumers(None).unwrap();
    taken(&watch);
    w.host.delete_queue("q", false, false).unwrap();
    assert_eq!(taken(&watch), counts([("q", 0)]));
}

#[test]
fn a_watch_ends_with_its_virtual_host_and_with_the_broker() {
    let w = world();
    w.broker.add_virtual_host("other").unwrap();
    let other = w.broker.virtual_host("other").unwrap();
    let (q, _) = other.declare_queue("q", QueueOptions::default()).unwrap();
    let _consumer = consumer(&q, 0);
    let bell = Arc::new(Bell::default());
    let watch = other.watch_consumers(Some((bell.clone(), 1))).unwrap();
    let here = w.host.watch_consumers(Some((bell.clone(), 10))).unwrap();
    taken(&watch);
    assert!(!watch.arm() && !here.arm());
    w.broker.delete_virtual_host("other").unwrap();
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
    assert_eq!(taken(&watch), counts([("q", 0)]), "first what is left");
    assert!(watch.arm(), "nothing will come");
    let error = watch.take(1, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, Error::UnknownVirtualHost { .. }));
    assert!(other.watch_consumers(None).is_err());

    w.broker.close().unwrap();
    assert_eq!(bell.0.load(Ordering::SeqCst), 11);
    let error = here.take(1, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, Error::Closed));
}

#[test]
fn no_change_is_missed_while_consumers_come_and_go_in_many_threads() {
    let w = world();
    let queues: Vec<_> = (0..4)
        .map(|n| w.queue(&format!("q{n}"), QueueOptions::default()))
        .collect();
    for round in 0..200 {
        let (watch, consumers) = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for queue in &queues {
                threads.push(scope.spawn(move || {
                    let mut last = None;
                    for _ in 0..=round % 7 {
                        last = Some(consumer(queue, 0));
                    }
                    last
                }));
            }
            let watch = w.host.watch_consumers(None).unwrap();
            let consumers: Vec<_> = threads
                .into_iter()
                .map(|thread| thread.join().unwrap().unwrap())
                .collect();
            (watch, consumers)
        });
        let last: std::collections::HashMap<_, _> = taken(&watch).into_iter().collect();
        assert!(last.values().all(|count| *count == 1), "{last:?}");
        assert_eq!(last.len(), 4);
        drop(consumers);
        assert!(taken(&watch).iter().all(|(_, count)| *count == 0));
    }
}
