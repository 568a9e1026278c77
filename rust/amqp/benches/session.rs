//! Sessions by their bytes, no sockets: one publishes 16-byte messages, another consumes.
//!
//! `cargo bench -p wherry-amqp --bench session [-- FILTER] [-- --messages N]`; prints messages a second (each in and out
//! once), best of five rounds, and nanoseconds for each. Everything runs on one thread: the sum of both sides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wherry_amqp::codec::{Method, PROTOCOL_HEADER, parse_frame, write_content};
use wherry_amqp::session::{Peer, Session, Status};
use wherry_engine::properties::Properties;
use wherry_engine::table::TableView;
use wherry_engine::{Broker, BrokerOptions, Notify};
use wherry_session::{AccessTable, FrontEnd, Identity, Limits, Session as _};

/// Bytes of one read of a socket.
const READ_BYTES: usize = 256 << 10;

struct Silent;

impl Notify for Silent {
    fn notify(&self, _: u64) {}
}

fn front(path: Option<std::path::PathBuf>) -> Arc<FrontEnd> {
    let broker = Broker::open(BrokerOptions {
        path,
        ..BrokerOptions::default()
    })
    .expect("open");
    let front = FrontEnd::new(broker, Limits::default(), Identity::default());
    let mut table = AccessTable::builder();
    table
        .permission("guest", "/", ".*", ".*", ".*")
        .expect("patterns");
    front.set_access(table.build());
    front
}

struct Client {
    session: Arc<Session>,
    out: Vec<u8>,
}

impl Client {
    fn connect(front: &Arc<FrontEnd>) -> Client {
        let session = Session::new(front.clone(), Peer::default(), Arc::new(Silent), 0);
        let mut client = Client {
            session,
            out: Vec::new(),
        };
        client.session.receive(&PROTOCOL_HEADER);
        client.send(
            0,
            &Method::ConnectionStartOk {
                client_properties: TableView::new(&[]),
                mechanism: "PLAIN",
                response: b"\0guest\0guest",
                locale: "en_US",
            },
        );
        client.session.authenticated("guest");
        client.send(
            0,
            &Method::ConnectionTuneOk {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat: 0,
            },
        );
        client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
        client.send(1, &Method::ChannelOpen {});
        client.drain();
        client
    }

    fn send(&mut self, channel: u16, method: &Method<'_>) {
        let mut bytes = Vec::new();
        method.write(channel, &mut bytes).expect("encodable");
        self.session.receive(&bytes);
    }

    /// Takes and forgets what the session has for the socket; returns the bytes.
    fn drain(&mut self) -> usize {
        let mut bytes = 0;
        loop {
            self.out.clear();
            let status = self.session.write_into(&mut self.out, READ_BYTES);
            bytes += self.out.len();
            if !status.contains(Status::OUTPUT) {
                return bytes;
            }
        }
    }

    fn declare(&mut self, queue: &str, durable: bool) {
        self.send(
            1,
            &Method::QueueDeclare {
                queue,
                passive: false,
                durable,
                exclusive: false,
                auto_delete: false,
                no_wait: false,
                arguments: TableView::new(&[]),
            },
        );
    }

    fn consume(&mut self, queue: &str, no_ack: bool) {
        self.send(
            1,
            &Method::BasicConsume {
                queue,
                consumer_tag: "c",
                no_local: false,
                no_ack,
                exclusive: false,
                no_wait: false,
                arguments: TableView::new(&[]),
            },
        );
        self.drain();
    }
}

/// One read of a socket full of publishes, and how many there are.
fn publishes(exchange: &str, key: &str, properties: &Properties) -> (Vec<u8>, usize) {
    let mut one = Vec::new();
    let method = Method::BasicPublish {
        exchange,
        routing_key: key,
        mandatory: false,
        immediate: false,
    };
    method.write(1, &mut one).expect("encodable");
    let properties = properties.encode().expect("encodable");
    write_content(1, 60, &properties, &[b'x'; 16], 0, &mut one).expect("encodable");
    let count = READ_BYTES / one.len();
    (one.repeat(count), count)
}

fn report(name: &str, messages: usize, mut round: impl FnMut() -> usize) {
    let rounds = if messages <= 20_000 { 1 } else { 5 };
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        let done = round();
        best = best.min(start.elapsed().as_secs_f64() / done as f64);
    }
    println!("{name:<56} {:>9.3} M/s {:>9.1} ns", 1e-6 / best, 1e9 * best);
}

/// Publishes in reads, and lets the consumer take what there is behind each.
fn through(
    publisher: &mut Client,
    (bytes, count): &(Vec<u8>, usize),
    messages: usize,
    mut behind: impl FnMut(&mut Client),
) -> usize {
    let mut done = 0;
    while done < messages {
        publisher.session.receive(bytes);
        loop {
            behind(publisher);
            // A server would not read either.
            if !publisher.session.status().contains(Status::PAUSE_READING) {
                break;
            }
        }
        done += count;
    }
    done
}

fn last_tag(bytes: &[u8]) -> Option<u64> {
    let (mut used, mut last) = (0, None);
    while let Ok(Some((frame, frame_bytes))) = parse_frame(&bytes[used..], 0) {
        used += frame_bytes;
        if let [0, 60, 0, 60, 1, b'c', t7, t6, t5, t4, t3, t2, t1, t0, ..] = *frame.payload {
            last = Some(u64::from_be_bytes([t7, t6, t5, t4, t3, t2, t1, t0]));
        }
    }
    last
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let messages = arguments
        .iter()
        .position(|a| a == "--messages")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(1_000_000);
    let filter = arguments
        .iter()
        .find(|a| !a.starts_with("--") && a.parse::<usize>().is_err());
    let wanted = |name: &str| filter.is_none_or(|f| name.contains(f.as_str()));
    let run = |name: &str, round: &mut dyn FnMut() -> usize| {
        if wanted(name) {
            report(name, messages, round);
        }
    };

    let plain = publishes("", "q", &Properties::default());
    let persistent = publishes(
        "",
        "q",
        &Properties {
            delivery_mode: Some(2),
            ..Properties::default()
        },
    );

    let memory = front(None);
    let mut publisher = Client::connect(&memory);
    run("publish to nowhere", &mut || {
        through(&mut publisher, &plain, messages, |_| {})
    });
    publisher.declare("q", false);
    publisher.drain();
    let queue = memory
        .broker()
        .virtual_host("/")
        .expect("/")
        .queue("q")
        .expect("q");
    run("publish, then purge", &mut || {
        through(&mut publisher, &plain, messages, |_| {
            queue.purge().expect("purge");
        })
    });

    let mut consumer = Client::connect(&memory);
    consumer.consume("q", true);
    run("publish, deliver without acks", &mut || {
        through(&mut publisher, &plain, messages, |_| {
            consumer.drain();
        })
    });
    drop(consumer);

    let mut consumer = Client::connect(&memory);
    consumer.consume("q", false);
    let ack_read = |consumer: &mut Client| {
        loop {
            consumer.out.clear();
            let mut out = std::mem::take(&mut consumer.out);
            let status = consumer.session.write_into(&mut out, 64 << 10);
            if let Some(delivery_tag) = last_tag(&out) {
                let multiple = true;
                consumer.send(
                    1,
                    &Method::BasicAck {
                        delivery_tag,
                        multiple,
                    },
                );
            }
            consumer.out = out;
            if !status.contains(Status::OUTPUT) {
                break;
            }
        }
    };
    run("publish, deliver, ack a read at once", &mut || {
        through(&mut publisher, &plain, messages, |_| {
            ack_read(&mut consumer)
        })
    });
    publisher.send(1, &Method::ConfirmSelect { no_wait: false });
    run(
        "publish with confirms, deliver, ack a read at once",
        &mut || {
            through(&mut publisher, &plain, messages, |publisher| {
                publisher.drain();
                ack_read(&mut consumer);
            })
        },
    );
    drop((publisher, consumer, queue, memory));

    let directory = std::env::temp_dir().join(format!("wherry-bench-{}", std::process::id()));
    {
        let durable = front(Some(directory.clone()));
        let mut publisher = Client::connect(&durable);
        publisher.declare("q", true);
        publisher.send(1, &Method::ConfirmSelect { no_wait: false });
        let mut consumer = Client::connect(&durable);
        while durable
            .broker()
            .virtual_host("/")
            .expect("/")
            .queue("q")
            .is_err()
        {}
        consumer.consume("q", false);
        run("durable: publish with confirms, deliver, ack", &mut || {
            through(
                &mut publisher,
                &persistent,
                messages.min(300_000),
                |publisher| {
                    if publisher.session.is_blocked() {
                        let moment = Some(Duration::from_millis(10));
                        durable.broker().wait_space(moment);
                        publisher.session.resume();
                    }
                    publisher.drain();
                    ack_read(&mut consumer);
                },
            )
        });
    }
    let _ = std::fs::remove_dir_all(directory);
}
