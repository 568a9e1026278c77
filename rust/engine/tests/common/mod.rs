//! What the durability tests share: brokers on a disk in memory, and everything that can be seen of one.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use wherry_engine::clock::Clock;
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};
use wherry_engine::{
    Broker, BrokerOptions, Consumer, ConsumerOptions, Delivery, Error, ExchangeOptions, NewMessage,
    NewPolicy, Notify, Outcome, Published, Queue, QueueOptions, Ticket, VirtualHost,
};
use wherry_journal::testing::MemoryDisk;

pub const START_NS: u64 = 1_700_000_000_000_000_000;
/// Longer than anything takes; a test that waits so long has failed.
pub const LONG: Duration = Duration::from_secs(20);

/// Options for a broker on a disk in memory, at `now_ns` of virtual time.
pub fn options(disk: &Arc<MemoryDisk>, segment_bytes: u32, now_ns: u64) -> BrokerOptions {
    BrokerOptions {
        disk: Some(disk.clone()),
        segment_bytes,
        clock: Clock::virtual_at(now_ns),
        ..BrokerOptions::default()
    }
}

pub fn open(disk: &Arc<MemoryDisk>) -> Arc<Broker> {
    open_at(disk, START_NS)
}

pub fn open_at(disk: &Arc<MemoryDisk>, now_ns: u64) -> Arc<Broker> {
    Broker::open(options(disk, 256 << 10, now_ns)).expect("a good journal opens")
}

/// Waits until everything so far is on the disk.
pub fn settle_down(broker: &Broker) -> Ticket {
    loop {
        match broker.barrier() {
            Ok(ticket) => {
                assert!(
                    broker.wait_durable(ticket, Some(LONG)).unwrap(),
                    "the disk hangs"
                );
                return ticket;
            }
            Err(Error::Busy) => {
                broker.wait_space(Some(Duration::from_millis(20)));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Does `f` until the journal has room for it.
pub fn patiently<R>(broker: &Broker, mut f: impl FnMut() -> Result<R, Error>) -> R {
    loop {
        match f() {
            Ok(value) => return value,
            Err(Error::Busy) => {
                broker.wait_space(Some(Duration::from_millis(20)));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn host(broker: &Broker) -> Arc<VirtualHost> {
    broker.virtual_host("/").unwrap()
}

pub fn queue(broker: &Broker, name: &str, options: QueueOptions) -> Arc<Queue> {
    patiently(broker, || host(broker).declare_queue(name, options.clone())).0
}

pub fn publish(broker: &Broker, key: &str, body: &str) -> Published {
    publish_with(broker, key, body, &Properties::default())
}

pub fn publish_with(broker: &Broker, key: &str, body: &str, properties: &Properties) -> Published {
    let properties = properties.encode().unwrap();
    let message = NewMessage {
        properties: &properties,
        ..NewMessage::new(key, body.as_bytes())
    };
    let exchange = host(broker).exchange("").unwrap();
    patiently(broker, || exchange.publish(&message))
}

pub fn consumer(queue: &Arc<Queue>) -> Arc<Consumer> {
    queue.consume(ConsumerOptions::default(), None).unwrap()
}

pub fn take(consumer: &Consumer, max: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    consumer.take(max, &mut out);
    out
}

pub fn bodies(queue: &Queue) -> Vec<String> {
    let browsed = queue.browse(0, usize::MAX);
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
    browsed.iter().map(|b| text(b.message.body())).collect()
}

pub fn ack(consumer: &Consumer, delivery: &Delivery) {
    consumer.settle(delivery.tag, false, Outcome::Ack).unwrap();
}

/// A message as seen from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub position: u64,
    pub priority: u8,
    pub redelivered: bool,
    pub delivery_count: u32,
    pub exchange: String,
    pub key: String,
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
    pub published_ns: u64,
    pub persistent: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SeenQueue {
    pub name: String,
    pub options: QueueOptions,
    pub in_force: QueueOptions,
    pub ready: Vec<Seen>,
    /// Due, id (of delayed ones: those of retries are not kept), retry, body.
    pub scheduled: Vec<(u64, u64, bool, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SeenExchange {
    pub name: String,
    pub options: ExchangeOptions,
    /// Destination, whether it is an exchange, key, arguments.
    pub bindings: Vec<(String, bool, String, Table)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub hosts: Vec<(String, Vec<SeenExchange>, Vec<SeenQueue>)>,
    /// By virtual host.
    pub policies: Vec<(String, NewPolicy)>,
}

impl Snapshot {
    /// Without the flags that a crash sets on whatever may have been handed out.
    pub fn without_flags(mut self) -> Snapshot {
        for (_, _, queues) in &mut self.hosts {
            for message in queues.iter_mut().flat_map(|q| &mut q.ready) {
                message.redelivered = false;
            }
        }
        self
    }
}

/// Fails with what differs, not with everything.
#[track_caller]
pub fn assert_same(seen: &Snapshot, expected: &Snapshot, when: &str) {
    if seen == expected {
        return;
    }
    let parts = |snapshot: &Snapshot| -> Vec<String> {
        let hosts = snapshot.hosts.iter();
        hosts
            .flat_map(|(host, exchanges, queues)| {
                let exchanges = exchanges.iter().map(move |e| format!("{host}: {e:?}"));
                let queues = queues.iter().flat_map(move |q| {
                    let options = format!("{host} {}: {:?} {:?}", q.name, q.options, q.in_force);
                    let ready = q
                        .ready
                        .iter()
                        .map(move |m| format!("{host} {}: {m:?}", q.name));
                    let waiting = q.scheduled.iter();
                    let waiting = waiting.map(move |m| format!("{host} {}: {m:?}", q.name));
                    std::iter::once(options).chain(ready).chain(waiting)
                });
                exchanges.chain(queues).collect::<Vec<_>>()
            })
            .chain(snapshot.policies.iter().map(|policy| format!("{policy:?}")))
            .collect()
    };
    let (seen, expected) = (parts(seen), parts(expected));
    let only = |a: &[String], b: &[String]| {
        let lines = a.iter().filter(|line| !b.contains(line));
        lines
            .map(|line| format!("\n    {line}"))
            .collect::<String>()
    };
    panic!(
        "{when}:\n  unexpected:{}\n  missing:{}",
        only(&seen, &expected),
        only(&expected, &seen)
    );
}

/// Sets a policy for the queues whose names match.
pub fn set_policy(
    broker: &Broker,
    name: &str,
    operator: bool,
    pattern: &str,
    definition: &[(&str, i64)],
) {
    let fields = definition.iter().map(|(key, n)| (*key, Value::I64(*n)));
    let policy = NewPolicy {
        name: name.into(),
        operator,
        pattern: pattern.into(),
        definition: Table::from_iter(fields),
        ..NewPolicy::default()
    };
    let host = host(broker);
    patiently(broker, || host.set_policy(policy.clone()));
}

pub fn see_queue(queue: &Queue) -> SeenQueue {
    let ready = queue.browse(0, usize::MAX).into_iter().map(|b| Seen {
        position: b.position,
        priority: b.priority,
        redelivered: b.redelivered,
        delivery_count: b.delivery_count,
        exchange: b.message.exchange().to_string(),
        key: b.message.routing_key().to_string(),
        properties: b.message.properties_bytes().to_vec(),
        body: b.message.body().to_vec(),
        published_ns: b.message.published_ns(),
        persistent: b.message.persistent(),
    });
    let scheduled = queue.scheduled().into_iter().map(|s| {
        let id = if s.retry { 0 } else { s.id };
        (s.due_ns, id, s.retry, s.message.body().to_vec())
    });
    let mut scheduled: Vec<_> = scheduled.collect();
    scheduled.sort();
    SeenQueue {
        name: queue.name().to_string(),
        options: queue.options().clone(),
        in_force: (*queue.in_force()).clone(),
        ready: ready.collect(),
        scheduled,
    }
}

/// All that can be seen of a broker.
pub fn snapshot(broker: &Broker) -> Snapshot {
    let mut hosts = Vec::new();
    let mut policies = Vec::new();
    let mut names = broker.virtual_hosts();
    names.sort();
    for name in names {
        let host = broker.virtual_host(&name).unwrap();
        let mut exchanges: Vec<SeenExchange> = host
            .exchanges()
            .iter()
            .map(|e| {
                let mut bindings: Vec<_> = e
                    .bindings()
                    .into_iter()
                    .map(|b| (b.destination, b.to_exchange, b.routing_key, b.arguments))
                    .collect();
                bindings.sort_by_key(|b| format!("{b:?}"));
                SeenExchange {
                    name: e.name().to_string(),
                    options: e.options().clone(),
                    bindings,
                }
            })
            .collect();
        exchanges.sort_by(|a, b| a.name.cmp(&b.name));
        let mut queues: Vec<SeenQueue> = host.queues().iter().map(|q| see_queue(q)).collect();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        for policy in host.policies() {
            policies.push((name.clone(), policy.as_set().clone()));
        }
        hosts.push((name, exchanges, queues));
    }
    Snapshot { hosts, policies }
}

struct Tell(parking_lot::Mutex<Sender<()>>);

impl Notify for Tell {
    fn notify(&self, _: u64) {
        let _ = self.0.lock().send(());
    }
}

pub fn journal_bytes(broker: &Broker) -> u64 {
    broker.statistics().journal.unwrap().segments_bytes
}

/// Waits until housekeeping has made the journal small.
pub fn wait_for_size(broker: &Arc<Broker>, bytes_max: u64) {
    let (sender, receiver) = channel();
    let watch = broker.watch(Arc::new(Tell(parking_lot::Mutex::new(sender))), 0);
    let mut quiet = 0;
    while journal_bytes(broker) > bytes_max {
        // The housekeeper's own records make the committer call.
        if receiver.recv_timeout(Duration::from_millis(100)).is_err() {
            quiet += 1;
            assert!(
                quiet < 50,
                "the journal stays at {} bytes, wanted {bytes_max}",
                journal_bytes(broker)
            );
        }
    }
    broker.unwatch(watch);
}

/// Waits until the journal has come to rest: housekeeping that never ends would make it grow and shrink for ever.
pub fn wait_for_rest(broker: &Arc<Broker>) {
    let (sender, receiver) = channel();
    let watch = broker.watch(Arc::new(Tell(parking_lot::Mutex::new(sender))), 0);
    let start = std::time::Instant::now();
    while receiver.recv_timeout(Duration::from_millis(100)).is_ok() {
        assert!(start.elapsed() < LONG, "the journal does not come to rest");
    }
    broker.unwatch(watch);
}

/// xorshift64*: enough for tests, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What should be there again: without what does not outlive the process.
pub fn durable_part(mut snapshot: Snapshot) -> Snapshot {
    for (_, exchanges, queues) in &mut snapshot.hosts {
        queues.retain(|q| q.options.durable && q.options.exclusive.is_none());
        exchanges.retain(|e| e.options.durable);
        for exchange in exchanges {
            exchange.bindings.retain(|(to, ..)| to != "transient");
        }
        for queue in queues {
            queue.ready.retain(|m| m.persistent);
        }
    }
    snapshot
}
