//! A broker in memory on virtual time, and short words for what tests do with it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wherry_engine::Broker;
use wherry_engine::BrokerOptions;
use wherry_engine::Consumer;
use wherry_engine::ConsumerOptions;
use wherry_engine::Delivery;
use wherry_engine::ExchangeKind;
use wherry_engine::ExchangeOptions;
use wherry_engine::NewMessage;
use wherry_engine::Notify;
use wherry_engine::Outcome;
use wherry_engine::Queue;
use wherry_engine::QueueOptions;
use wherry_engine::VirtualHost;
use wherry_engine::clock::Clock;
use wherry_engine::properties::Properties;
use wherry_engine::table::Table;
use wherry_engine::table::Value;

pub(crate) const START_NS: u64 = 1_700_000_000_000_000_000;

pub(crate) struct World {
    pub(crate) broker: Arc<Broker>,
    pub(crate) host: Arc<VirtualHost>,
}

pub(crate) fn world() -> World {
    let options = BrokerOptions {
        clock: Clock::virtual_at(START_NS),
        ..BrokerOptions::default()
    };
    let broker = Broker::open(options).unwrap();
    let host = broker.virtual_host("/").unwrap();
    World { broker, host }
}

impl World {
    pub(crate) fn queue(&self, name: &str, options: QueueOptions) -> Arc<Queue> {
        self.host.declare_queue(name, options).unwrap().0
    }

    pub(crate) fn exchange(&self, name: &str, kind: ExchangeKind) {
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

    pub(crate) fn bind(&self, queue: &str, exchange: &str, key: &str) {
        self.host
            .bind_queue(queue, exchange, key, Table::default())
            .unwrap();
    }

    pub(crate) fn publish(&self, exchange: &str, key: &str, body: &str) -> u32 {
        self.host
            .exchange(exchange)
            .unwrap()
            .publish(&NewMessage::new(key, body.as_bytes()))
            .unwrap()
            .routed
    }

    pub(crate) fn publish_with(&self, key: &str, body: &str, properties: &Properties) {
        let properties = properties.encode().unwrap();
        let message = NewMessage {
            properties: &properties,
            ..NewMessage::new(key, body.as_bytes())
        };
        self.host.exchange("").unwrap().publish(&message).unwrap();
    }

    pub(crate) fn advance(&self, millis: u64) {
        self.broker.advance(Duration::from_millis(millis)).unwrap();
    }
}

pub(crate) fn consumer(queue: &Arc<Queue>, prefetch: u32) -> Arc<Consumer> {
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

pub(crate) fn take(consumer: &Consumer, max: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    consumer.take(max, &mut out);
    out
}

pub(crate) fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|d| String::from_utf8(d.message.body().to_vec()).unwrap())
        .collect()
}

/// Takes and acks everything that is ready.
pub(crate) fn drain(queue: &Arc<Queue>) -> Vec<String> {
    let consumer = consumer(queue, 0);
    let deliveries = take(&consumer, 10_000);
    consumer.settle(0, true, Outcome::Ack).ok();
    bodies(&deliveries)
}

pub(crate) fn with_header(name: &str, value: impl Into<Value>) -> Properties {
    let mut headers = Table::default();
    headers.insert(name, value);
    Properties {
        headers: Some(headers),
        ..Default::default()
    }
}

#[derive(Default)]
pub(crate) struct Bell(pub(crate) AtomicU64);

impl Notify for Bell {
    fn notify(&self, token: u64) {
        self.0.fetch_add(token, Ordering::SeqCst);
    }
}
