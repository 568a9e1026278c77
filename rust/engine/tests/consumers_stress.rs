//! Consumers that are served in turn, from several threads at once: whatever came between what, nothing is stuck. When
//! all stand still, who has room is known to have it, and nothing is ready unless nobody has room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::RwLock;
use wherry_engine::{
    Broker, BrokerOptions, Consumer, ConsumerOptions, Error, NewMessage, Outcome, Overflow, Queue,
    QueueOptions, SharedPrefetch,
};

const THREADS: u64 = 4;
/// More than are walked, so that dealing out goes by the set of those that may have room, as publishers do.
const CONSUMERS: usize = 24;
const ROUNDS: u64 = 2000;
const STEPS: usize = 60;
const READY_MAX: u64 = 8;

struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// A consumer, and the limit that it shares with others.
type Place = (Arc<Consumer>, Option<usize>);

struct World {
    broker: Arc<Broker>,
    queue: Arc<Queue>,
    shared: [Arc<SharedPrefetch>; 2],
    consumers: Vec<RwLock<Place>>,
    accepted: AtomicU64,
}

impl World {
    fn new(random: &mut Random) -> World {
        let broker = Broker::open(BrokerOptions::default()).unwrap();
        let host = broker.virtual_host("/").unwrap();
        let options = QueueOptions {
            max_length: Some(READY_MAX),
            overflow: Overflow::RejectPublish,
            ..Default::default()
        };
        let (queue, _) = host.declare_queue("q", options).unwrap();
        let shared = [SharedPrefetch::new(), SharedPrefetch::new()];
        shared.iter().for_each(|limit| limit.set_limit(4));
        let consumers = (0..CONSUMERS)
            .map(|_| RwLock::new(consume(&queue, &shared, random)))
            .collect();
        World {
            broker,
            queue,
            shared,
            consumers,
            accepted: AtomicU64::new(0),
        }
    }

    fn publish(&self) {
        let host = self.broker.virtual_host("/").unwrap();
        let exchange = host.exchange("").unwrap();
        match exchange.publish(&NewMessage::new("q", b"x")) {
            Ok(_) => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => assert!(matches!(error, Error::PublishRejected { .. }), "{error}"),
        }
    }

    fn step(&self, random: &mut Random) {
        let place = &self.consumers[random.below(CONSUMERS)];
        let consumer = place.read().0.clone();
        match random.below(32) {
            0 => {
                let new = consume(&self.queue, &self.shared, random);
                let (old, _) = std::mem::replace(&mut *place.write(), new);
                old.cancel();
            }
            1 => consumer.set_prefetch(1 + random.below(3) as u32),
            2 => self.shared[random.below(2)].set_limit(1 + random.below(6) as u32),
            3..7 => {
                let _ = consumer.settle(0, true, Outcome::Ack);
            }
            7 => {
                let _ = consumer.settle(0, true, Outcome::Release);
            }
            8..20 => {
                let mut taken = Vec::new();
                consumer.take(2, &mut taken);
                for delivery in taken {
                    if random.below(4) == 0 {
                        // Another may have settled it with all others.
                        let _ = consumer.settle(delivery.tag, false, Outcome::Ack);
                    }
                }
            }
            _ => self.publish(),
        }
    }

    /// Nobody else does anything now.
    fn check(&self, round: u64) {
        let places: Vec<Place> = self
            .consumers
            .iter()
            .map(|one| one.read().clone())
            .collect();
        let has_room = |(consumer, shared): &Place| {
            let prefetch = consumer.prefetch() as usize;
            let limit = shared.map_or(u32::MAX, |index| self.shared[index].limit());
            let held = shared.map_or(0, |index| self.shared[index].held());
            (prefetch == 0 || consumer.unacked() < prefetch) && held < limit as usize
        };
        for index in 0..2 {
            let mine = places.iter().filter(|(_, shared)| *shared == Some(index));
            let held: usize = mine.map(|(consumer, _)| consumer.unacked()).sum();
            assert_eq!(self.shared[index].held(), held, "round {round}");
        }
        let somebody = places.iter().any(has_room);
        assert_eq!(self.queue.is_awaited(), somebody, "round {round}");
        let mut taken = Vec::new();
        loop {
            taken.clear();
            for (consumer, _) in &places {
                consumer.take(usize::MAX, &mut taken);
            }
            if taken.is_empty() {
                break;
            }
        }
        let statistics = self.queue.statistics();
        assert!(
            statistics.ready == 0 || !places.iter().any(has_room),
            "round {round}: {} messages wait for nothing",
            statistics.ready
        );
        assert_eq!(
            statistics.ready + statistics.unacked + statistics.acknowledged,
            self.accepted.load(Ordering::Relaxed),
            "round {round}"
        );
    }
}

fn consume(queue: &Arc<Queue>, shared: &[Arc<SharedPrefetch>; 2], random: &mut Random) -> Place {
    let options = ConsumerOptions {
        in_turn: true,
        prefetch: random.below(3) as u32,
        priority: random.below(2) as i32,
        ..Default::default()
    };
    let shares = random.below(4);
    let consumer = queue
        .consume(
            ConsumerOptions {
                // Without any limit it would take all there is.
                prefetch: options.prefetch.max(u32::from(shares >= 2)),
                ..options
            },
            None,
        )
        .unwrap();
    if let Some(shared) = shared.get(shares) {
        consumer.share_prefetch(shared);
    }
    (consumer, (shares < 2).then_some(shares))
}

#[test]
fn nothing_waits_while_somebody_has_room() {
    let world = World::new(&mut Random(1));
    for round in 0..ROUNDS {
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let world = &world;
                scope.spawn(move || {
                    let mut random = Random(round * THREADS + thread);
                    (0..STEPS).for_each(|_| world.step(&mut random));
                });
            }
        });
        world.check(round);
    }
    let statistics = world.queue.statistics();
    assert!(statistics.rejected > ROUNDS && statistics.acknowledged > ROUNDS);
    for place in &world.consumers {
        place.read().0.cancel();
    }
    let statistics = world.queue.statistics();
    assert_eq!(
        (statistics.ready, statistics.unacked),
        (world.accepted.into_inner() - statistics.acknowledged, 0)
    );
}
