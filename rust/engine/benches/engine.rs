//! The engine without Python: publish, route, take and settle, in memory and durable.
//!
//! `cargo bench -p wherry-engine --bench engine [-- FILTER] [-- --messages N] [--others N]`; prints messages a second, best of five
//! rounds (machines are shared; the best is the least disturbed), and nanoseconds for each.

use std::sync::Arc;
use std::time::Instant;

use wherry_engine::properties::Properties;
use wherry_engine::table::Table;
use wherry_engine::{
    Broker, BrokerOptions, ConsumerOptions, Delivery, Error, ExchangeKind, ExchangeOptions,
    NewMessage, Outcome, Queue, QueueOptions, Ticket, VirtualHost,
};

fn report(name: &str, messages: usize, mut round: impl FnMut()) {
    let rounds = if messages <= 20_000 { 1 } else { 5 }; // few messages: under an instruction counter
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let rate = messages as f64 / best;
    println!("{name:<52} {:>9.3} M/s {:>9.1} ns", rate / 1e6, 1e9 / rate);
}

fn host(path: Option<std::path::PathBuf>) -> (Arc<Broker>, Arc<VirtualHost>) {
    let broker = Broker::open(BrokerOptions {
        path,
        ..Default::default()
    })
    .expect("open");
    let host = broker.virtual_host("/").expect("/");
    (broker, host)
}

fn bound_queue(host: &Arc<VirtualHost>, options: QueueOptions) -> Arc<Queue> {
    let exchange = ExchangeOptions {
        kind: ExchangeKind::Topic,
        ..Default::default()
    };
    host.declare_exchange("topic", exchange).expect("exchange");
    let (queue, _) = host.declare_queue("q", options).expect("queue");
    host.bind_queue("q", "topic", "order.*.placed", Table::default())
        .expect("bind");
    queue
}

fn in_memory(messages: usize) {
    let (_broker, host) = host(None);
    let queue = bound_queue(&host, QueueOptions::default());
    let exchange = host.exchange("topic").expect("exchange");
    let consumer = queue
        .consume(ConsumerOptions::default(), None)
        .expect("consumer");
    let body = [7u8; 100];
    let message = NewMessage::new("order.eu.placed", &body);
    let mut out: Vec<Delivery> = Vec::with_capacity(128);

    report("memory: publish, take, ack one at a time", messages, || {
        for _ in 0..messages {
            exchange.publish(&message).expect("publish");
            consumer.take(1, &mut out);
            consumer
                .settle(out[0].tag, false, Outcome::Ack)
                .expect("ack");
            out.clear();
        }
    });
    let batch = [message; 100];
    report("memory: batches of 100", messages, || {
        for _ in 0..messages / 100 {
            exchange.publish_batch(&batch).expect("publish");
            consumer.take(100, &mut out);
            consumer
                .settle(out[99].tag, true, Outcome::Ack)
                .expect("ack");
            out.clear();
        }
    });
    report(
        "memory: publish all, then take and ack all",
        messages,
        || {
            for _ in 0..messages {
                exchange.publish(&message).expect("publish");
            }
            while consumer.take(100, &mut out) > 0 {
                consumer.settle(0, true, Outcome::Ack).expect("ack");
                out.clear();
            }
        },
    );
}

/// Publishing to one queue of a virtual host in which others came, were published to and went.
fn after_others(messages: usize, others: usize) {
    let (_broker, host) = host(None);
    let exchange = host.exchange("").expect("exchange");
    for n in 0..others {
        let name = format!("mailbox.{n}");
        host.declare_queue(&name, QueueOptions::default())
            .expect("queue");
    }
    let before = resident_bytes();
    for n in 0..others {
        let name = format!("mailbox.{n}");
        exchange
            .publish(&NewMessage::new(&name, b"hello"))
            .expect("publish");
    }
    let used = resident_bytes();
    for n in 0..others {
        host.delete_queue(&format!("mailbox.{n}"), false, false)
            .expect("delete");
    }
    let (queue, _) = host
        .declare_queue("q", QueueOptions::default())
        .expect("queue");
    let consumer = queue
        .consume(ConsumerOptions::default(), None)
        .expect("consumer");
    let message = NewMessage::new("q", b"hello");
    let mut out: Vec<Delivery> = Vec::with_capacity(128);
    let name = format!("churn: publish, take, ack after {others} other queues");
    report(&name, messages, || {
        for _ in 0..messages {
            exchange.publish(&message).expect("publish");
            consumer.take(1, &mut out);
            consumer
                .settle(out[0].tag, false, Outcome::Ack)
                .expect("ack");
            out.clear();
        }
    });
    println!(
        "  resident: {} KiB declared, {} KiB used, {} KiB deleted",
        before >> 10,
        used >> 10,
        resident_bytes() >> 10
    );
}

/// Consumers that are served in turn: each takes what the dealing of one of them gives it.
fn in_turn(messages: usize, consumers: usize) {
    let (_broker, host) = host(None);
    let queue = bound_queue(&host, QueueOptions::default());
    let exchange = host.exchange("topic").expect("exchange");
    let options = ConsumerOptions {
        in_turn: true,
        ..Default::default()
    };
    let consumers: Vec<_> = (0..consumers)
        .map(|_| queue.consume(options.clone(), None).expect("consumer"))
        .collect();
    let body = [7u8; 100];
    let batch = [NewMessage::new("order.eu.placed", &body); 100];
    let mut out: Vec<Delivery> = Vec::with_capacity(128);
    let name = format!("in turn: batches of 100 for {} consumers", consumers.len());
    report(&name, messages, || {
        for _ in 0..messages / 100 {
            exchange.publish_batch(&batch).expect("publish");
            let mut left = 100;
            for consumer in consumers.iter().cycle() {
                if left == 0 {
                    break;
                }
                let taken = consumer.take(100, &mut out);
                if let Some(last) = out.last() {
                    consumer.settle(last.tag, true, Outcome::Ack).expect("ack");
                }
                left -= taken;
                out.clear();
            }
        }
    });
}

fn groups(messages: usize, keys: usize) {
    let (_broker, host) = host(None);
    let queue = bound_queue(
        &host,
        QueueOptions {
            group_by: Some("message-id".into()),
            ..Default::default()
        },
    );
    let exchange = host.exchange("topic").expect("exchange");
    let consumer = queue
        .consume(ConsumerOptions::default(), None)
        .expect("consumer");
    let body = [7u8; 100];
    let properties: Vec<Vec<u8>> = (0..keys)
        .map(|k| {
            let id = k.to_string().into_bytes();
            Properties {
                message_id: Some(id),
                ..Default::default()
            }
            .encode()
            .expect("properties")
        })
        .collect();
    let mut out: Vec<Delivery> = Vec::with_capacity(128);
    report(
        &format!("memory: groups, {keys} keys, all published, then drained"),
        messages,
        || {
            for n in 0..messages {
                let key = n.wrapping_mul(0x9e37_79b9) % keys;
                let message = NewMessage {
                    properties: &properties[key],
                    ..NewMessage::new("order.eu.placed", &body)
                };
                exchange.publish(&message).expect("publish");
            }
            while consumer.take(100, &mut out) > 0 {
                consumer.settle(0, true, Outcome::Ack).expect("ack");
                out.clear();
            }
        },
    );
}

fn durable(messages: usize, outstanding: usize) {
    let directory = std::env::temp_dir().join(format!("wherry-bench-{}", std::process::id()));
    let (broker, host) = host(Some(directory.clone()));
    let queue = bound_queue(&host, QueueOptions::default());
    let exchange = host.exchange("topic").expect("exchange");
    let consumer = queue
        .consume(ConsumerOptions::default(), None)
        .expect("consumer");
    let body = [7u8; 100];
    let message = NewMessage::new("order.eu.placed", &body);
    let mut out: Vec<Delivery> = Vec::with_capacity(128);
    report(
        &format!("durable: {outstanding} outstanding, taken and acked"),
        messages,
        || {
            let mut tickets: std::collections::VecDeque<Ticket> = Default::default();
            for _ in 0..messages {
                if tickets.len() >= outstanding {
                    broker
                        .wait_durable(tickets.pop_front().expect("ticket"), None)
                        .expect("journal");
                }
                let published = loop {
                    match exchange.publish(&message) {
                        Err(Error::Busy) => {
                            broker.wait_space(None);
                        }
                        other => break other.expect("publish"),
                    }
                };
                tickets.push_back(published.ticket);
                if consumer.take(1, &mut out) > 0 {
                    consumer
                        .settle(out[0].tag, false, Outcome::Ack)
                        .expect("ack");
                    out.clear();
                }
            }
            broker
                .wait_durable(broker.barrier().expect("barrier"), None)
                .expect("journal");
        },
    );
    println!("  {:?}", broker.statistics().journal);
    broker.close().expect("close");
    std::fs::remove_dir_all(directory).expect("remove");
}

/// Resident memory of this process, from the kernel's own count.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse::<usize>().ok())
        .unwrap_or(0)
        * 4096
}

fn memory_of(name: &str, count: usize, each: &str, make: impl FnOnce() -> Box<dyn std::any::Any>) {
    let before = resident_bytes();
    let kept = make();
    let bytes = resident_bytes().saturating_sub(before);
    println!(
        "{name:<52} {:>9.1} bytes {each}",
        bytes as f64 / count as f64
    );
    drop(kept);
}

fn sizes() {
    let queues = 100_000;
    memory_of("idle queues", queues, "a queue", || {
        let (broker, host) = host(None);
        for n in 0..queues {
            host.declare_queue(&format!("mailbox.{n}"), QueueOptions::default())
                .expect("queue");
        }
        Box::new((broker, host))
    });
    memory_of("queues that were used once", queues, "a queue", || {
        let (broker, host) = host(None);
        let exchange = host.exchange("").expect("exchange");
        for n in 0..queues {
            let name = format!("mailbox.{n}");
            let (queue, _) = host
                .declare_queue(&name, QueueOptions::default())
                .expect("queue");
            exchange
                .publish(&NewMessage::new(&name, b"hello"))
                .expect("publish");
            let consumer = queue
                .consume(ConsumerOptions::default(), None)
                .expect("consumer");
            let mut out = Vec::new();
            consumer.take(1, &mut out);
            consumer.settle(0, true, Outcome::Ack).expect("ack");
        }
        Box::new((broker, host))
    });
    let messages = 2_000_000;
    memory_of(
        "waiting messages of 100 bytes, in memory",
        messages,
        "a message",
        || {
            let (broker, host) = host(None);
            host.declare_queue("q", QueueOptions::default())
                .expect("queue");
            let exchange = host.exchange("").expect("exchange");
            for _ in 0..messages {
                exchange
                    .publish(&NewMessage::new("q", &[7; 100]))
                    .expect("publish");
            }
            Box::new((broker, host))
        },
    );
    let directory = std::env::temp_dir().join(format!("wherry-bench-{}", std::process::id()));
    let path = directory.clone();
    memory_of(
        "waiting messages of 100 bytes, durable",
        messages,
        "a message",
        move || {
            let (broker, host) = host(Some(path));
            host.declare_queue("q", QueueOptions::default())
                .expect("queue");
            let exchange = host.exchange("").expect("exchange");
            for _ in 0..messages {
                while let Err(Error::Busy) = exchange.publish(&NewMessage::new("q", &[7; 100])) {
                    broker.wait_space(None);
                }
            }
            Box::new((broker, host))
        },
    );
    std::fs::remove_dir_all(directory).expect("remove");
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    let messages = number("--messages").unwrap_or(1_000_000);
    let filter = arguments
        .first()
        .filter(|a| !a.starts_with("--"))
        .cloned()
        .unwrap_or_default();
    if "memory".contains(&filter) {
        in_memory(messages);
    }
    if "churn".contains(&filter) {
        match number("--others") {
            Some(others) => after_others(messages, others),
            None => [0, 1_000, 10_000, 30_000]
                .into_iter()
                .for_each(|others| after_others(messages, others)),
        }
    }
    if "in turn".contains(&filter) {
        for consumers in [1, 2, 10] {
            in_turn(messages, consumers);
        }
    }
    if "groups".contains(&filter) {
        groups(messages, 1000);
        groups(messages, 1_000_000);
    }
    if "sizes".contains(&filter) {
        sizes();
    }
    if "durable".contains(&filter) {
        for outstanding in [1, 64, 1000] {
            durable(
                messages.min(if outstanding == 1 { 5_000 } else { 200_000 }),
                outstanding,
            );
        }
    }
}
