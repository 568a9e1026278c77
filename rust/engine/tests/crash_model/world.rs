//! Random work on a broker, and what there must be of each message after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};
use wherry_engine::{
    Broker, Consumer, Delay, Delivery, NewMessage, Outcome, Queue, QueueOptions, RetryKind,
    RetryPolicy,
};
use wherry_journal::testing::MemoryDisk;

use crate::common::*;
use crate::state::{Stands, State, observe, sorted, text};
use crate::{QUEUES, SECOND_NS};

fn queue_options(name: &str) -> QueueOptions {
    let lettered = QueueOptions {
        dead_letter_exchange: Some("".into()),
        dead_letter_routing_key: Some("dead".into()),
        ..Default::default()
    };
    match name {
        "lanes" => QueueOptions {
            max_priority: Some(3),
            ..lettered
        },
        "groups" => QueueOptions {
            group_by: Some("g".into()),
            ..lettered
        },
        "retries" => QueueOptions {
            retry: Some(RetryPolicy {
                kind: RetryKind::Linear,
                attempts: 3,
                first: Duration::from_secs(2),
                factor: 1.0,
                maximum: None,
                jitter: false,
                dead_letter: Some("dead".into()),
            }),
            ..Default::default()
        },
        "brief" => QueueOptions {
            message_ttl: Some(Duration::from_secs(4)),
            ..lettered
        },
        "short" => QueueOptions {
            max_length: Some(3),
            ..lettered
        },
        "dead" => QueueOptions::default(),
        _ => lettered,
    }
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) broker: Arc<Broker>,
    pub(crate) consumers: BTreeMap<&'static str, Arc<Consumer>>,
    pub(crate) held: Vec<(&'static str, Delivery)>,
    /// Level, position and failures of what waits for a retry, which the broker does not tell.
    pub(crate) waiting: BTreeMap<(String, String), (u8, u64, u32)>,
    /// How many copies there must be.
    pub(crate) expected: BTreeMap<String, usize>,
    pub(crate) next: u64,
    pub(crate) now_ns: u64,
    /// Step and what was handed out in it.
    pub(crate) taken: Vec<(usize, (String, String))>,
}

impl World {
    pub(crate) fn open(disk: &Arc<MemoryDisk>, seed: u64, segment_bytes: u32) -> World {
        let broker = Broker::open(options(disk, segment_bytes, START_NS)).unwrap();
        let mut consumers = BTreeMap::new();
        for name in QUEUES {
            let queue = queue(&broker, name, queue_options(name));
            consumers.insert(name, consumer(&queue));
        }
        for name in ["plain", "fan"] {
            let host = host(&broker);
            patiently(&broker, || {
                host.bind_queue(name, "amq.fanout", "", Table::default())
            });
        }
        World {
            random: Random::new(seed),
            broker,
            consumers,
            held: Vec::new(),
            waiting: BTreeMap::new(),
            expected: BTreeMap::new(),
            next: 0,
            now_ns: START_NS,
            taken: Vec::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        let place = |key: &(String, String)| self.waiting.get(key).copied().unwrap_or_default();
        let (mut state, _) = observe(&self.broker, place);
        for (name, delivery) in &self.held {
            if delivery.message.persistent() {
                let key = (name.to_string(), text(delivery.message.body()));
                state.entry(key).or_default().push(Stands::Ready {
                    level: delivery.priority,
                    position: delivery.position,
                    failures: delivery.delivery_count,
                });
            }
        }
        sorted(state)
    }

    fn body(&mut self, copies: usize) -> String {
        self.next += 1;
        let body = format!("m{}", self.next);
        if copies > 0 {
            self.expected.insert(body.clone(), copies);
        }
        body
    }

    fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        host(&self.broker).queue(name).ok()
    }

    fn gone(&mut self, body: &str) {
        if let Some(copies) = self.expected.get_mut(body) {
            *copies -= 1;
        }
    }

    fn send(&self, exchange: &str, message: &NewMessage<'_>) {
        let exchange = host(&self.broker).exchange(exchange).unwrap();
        patiently(&self.broker, || exchange.publish(message));
    }

    fn held(&mut self) -> Option<(&'static str, Delivery)> {
        if self.held.is_empty() {
            return None;
        }
        let index = self.random.below(self.held.len() as u64) as usize;
        Some(self.held.swap_remove(index))
    }

    /// Dead messages for which the journal had no room are tried again; true if there were any.
    pub(crate) fn bury_the_dead(&mut self) -> bool {
        let mut any = false;
        loop {
            let queues = host(&self.broker).queues();
            let mut waiting = queues.iter().flat_map(|q| q.scheduled());
            // All other times are whole seconds from the start.
            if !waiting.any(|s| !(s.due_ns - START_NS).is_multiple_of(SECOND_NS)) {
                return any;
            }
            any = true;
            settle_down(&self.broker);
            for millis in [100, 900] {
                self.broker.advance(Duration::from_millis(millis)).unwrap();
            }
            self.now_ns += SECOND_NS;
        }
    }

    /// Does something; true if it is one record at most.
    pub(crate) fn step(&mut self, number: usize) -> bool {
        let broker = self.broker.clone();
        match self.random.below(24) {
            0 | 1 => {
                let name =
                    ["plain", "retries", "brief", "passing", "dead"][self.random.below(5) as usize];
                if self.queue(name).is_some() {
                    let body = self.body(1);
                    publish(&broker, name, &body);
                }
            }
            2 => {
                let body = self.body(2);
                self.send("amq.fanout", &NewMessage::new("", body.as_bytes()));
            }
            3 => {
                let body = self.body(1);
                let delay = Duration::from_secs(1 + self.random.below(5));
                let message = NewMessage {
                    delay: Delay::For(delay),
                    ..NewMessage::new("plain", body.as_bytes())
                };
                self.send("", &message);
            }
            4 => {
                let body = self.body(1);
                let millis = 1000 * (1 + self.random.below(5));
                let properties = Properties {
                    expiration: Some(millis.to_string().into_bytes()),
                    ..Default::default()
                };
                let name = ["plain", "fan", "brief"][self.random.below(3) as usize];
                publish_with(&broker, name, &body, &properties);
            }
            5 | 6 => {
                let body = self.body(1);
                let properties = Properties {
                    priority: Some(self.random.below(5) as u8),
                    ..Default::default()
                };
                publish_with(&broker, "lanes", &body, &properties);
            }
            7 | 8 => {
                let body = self.body(1);
                let group = ["a", "b", "c"][self.random.below(3) as usize];
                let properties = Properties {
                    headers: Some(Table::from_iter([("g", Value::Str(group.into()))])),
                    ..Default::default()
                };
                publish_with(&broker, "groups", &body, &properties);
            }
            9 => {
                let body = self.body(0);
                let message = NewMessage {
                    persistent: false,
                    ..NewMessage::new("plain", body.as_bytes())
                };
                self.send("", &message);
            }
            10 => {
                let bodies: Vec<String> = (0..3).map(|_| self.body(1)).collect();
                let messages: Vec<_> = bodies
                    .iter()
                    .map(|body| NewMessage::new("plain", body.as_bytes()))
                    .collect();
                let exchange = host(&broker).exchange("").unwrap();
                let published = patiently(&broker, || exchange.publish_batch(&messages));
                assert_eq!(published.accepted, 3, "one record takes all three");
            }
            11..=13 => {
                let name = QUEUES[self.random.below(QUEUES.len() as u64) as usize];
                let max = 1 + self.random.below(3) as usize;
                for delivery in take(&self.consumers[name], max) {
                    let key = (name.to_string(), text(delivery.message.body()));
                    self.taken.push((number, key));
                    self.held.push((name, delivery));
                }
            }
            14 => {
                if let Some((name, delivery)) = self.held() {
                    ack(&self.consumers[name], &delivery);
                    self.gone(&text(delivery.message.body()));
                }
            }
            15 => {
                if let Some((name, first)) = self.held() {
                    let (same, others) = std::mem::take(&mut self.held)
                        .into_iter()
                        .partition(|(n, _)| *n == name);
                    self.held = others;
                    let mut all: Vec<(&str, Delivery)> = same;
                    all.push((name, first));
                    let tags: Vec<u64> = all.iter().map(|(_, d)| d.tag).collect();
                    self.consumers[name]
                        .settle_many(&tags, Outcome::Ack)
                        .unwrap();
                    for (_, delivery) in all {
                        self.gone(&text(delivery.message.body()));
                    }
                }
            }
            16 | 17 => {
                if let Some((name, delivery)) = self.held() {
                    let key = (name.to_string(), text(delivery.message.body()));
                    let place = (
                        delivery.priority,
                        delivery.position,
                        delivery.delivery_count + 1,
                    );
                    self.waiting.insert(key, place);
                    let consumer = &self.consumers[name];
                    consumer
                        .settle(delivery.tag, false, Outcome::Failed)
                        .unwrap();
                }
            }
            18 => {
                if let Some((name, delivery)) = self.held() {
                    if name == "dead" {
                        self.gone(&text(delivery.message.body()));
                    }
                    let outcome = Outcome::Reject { requeue: false };
                    let consumer = &self.consumers[name];
                    consumer.settle(delivery.tag, false, outcome).unwrap();
                }
            }
            19 => {
                let mut transaction = host(&broker).transaction();
                let exchange = host(&broker).exchange("").unwrap();
                for name in ["plain", "retries", "fan"] {
                    let body = self.body(1);
                    let message = NewMessage::new(name, body.as_bytes());
                    transaction.publish(&exchange, &message).unwrap();
                }
                let settled = self.held();
                if let Some((name, delivery)) = &settled {
                    let consumer = &self.consumers[name];
                    transaction
                        .settle(consumer, delivery.tag, false, Outcome::Ack)
                        .unwrap();
                    let body = text(delivery.message.body());
                    self.gone(&body);
                }
                patiently(&broker, || transaction.commit());
            }
            20 => {
                let plain = self.queue("plain").unwrap();
                if self.random.one_in(3) {
                    for b in plain.browse(0, usize::MAX) {
                        self.gone(&text(b.message.body()));
                    }
                    plain.purge().unwrap();
                } else {
                    let fan = self.queue("fan").unwrap();
                    patiently(&broker, || fan.move_to(&plain, Some(3)));
                }
            }
            21 => match self.random.below(3) {
                0 => {
                    let plain = self.queue("plain").unwrap();
                    if let Some(s) = plain.scheduled().into_iter().find(|s| !s.retry) {
                        assert!(patiently(&broker, || plain.cancel_scheduled(s.id)).0);
                        self.gone(&text(s.message.body()));
                    }
                }
                1 => {
                    let host = host(&broker);
                    let exchange = host.exchange("amq.topic").unwrap();
                    if exchange.bindings().is_empty() {
                        patiently(&broker, || {
                            host.bind_queue("plain", "amq.topic", "a.#", Table::default())
                        });
                    } else {
                        patiently(&broker, || {
                            host.unbind_queue("plain", "amq.topic", "a.#", Table::default())
                        });
                    }
                }
                _ => match self.queue("passing") {
                    Some(queue) => {
                        let mut bodies: Vec<String> = queue
                            .browse(0, usize::MAX)
                            .iter()
                            .map(|b| text(b.message.body()))
                            .collect();
                        let (there, others) = std::mem::take(&mut self.held)
                            .into_iter()
                            .partition(|(name, _)| *name == "passing");
                        self.held = others;
                        let there: Vec<(&str, Delivery)> = there;
                        bodies.extend(there.iter().map(|(_, d)| text(d.message.body())));
                        for body in bodies {
                            self.gone(&body);
                        }
                        let host = host(&broker);
                        patiently(&broker, || host.delete_queue("passing", false, false));
                    }
                    None => {
                        let queue = queue(&broker, "passing", queue_options("passing"));
                        self.consumers.insert("passing", consumer(&queue));
                    }
                },
            },
            22 => {
                let body = self.body(1);
                publish(&broker, "short", &body);
                return false;
            }
            _ => {
                if self.random.one_in(3) {
                    // Gives everything back, with no verdict.
                    let name = QUEUES[self.random.below(QUEUES.len() as u64) as usize];
                    if let Some(queue) = self.queue(name) {
                        self.consumers[name].cancel();
                        self.held.retain(|(n, _)| *n != name);
                        self.consumers.insert(name, consumer(&queue));
                    }
                } else {
                    let by = 1 + self.random.below(3);
                    broker.advance(Duration::from_secs(by)).unwrap();
                    self.now_ns += by * SECOND_NS;
                }
                return false;
            }
        }
        true
    }
}
