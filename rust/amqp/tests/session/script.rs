//! Random conversations: bytes are read as a script of what two or three clients of one broker say and do, well-formed or
//! not, and what the server around them does. For the property test beside it and for the fuzz target `session`.
//!
//! Invariants tested: nothing panics; what a session writes are whole frames within the negotiated size, on channels that
//! exist; it comes to rest; a session that is over stays over; and when all are gone nothing is left: no delivery without
//! an owner, no exclusive queue, no connection counted, no reply inbox.

use std::sync::Arc;
use std::time::Duration;

use wherry_amqp::codec::{
    FrameKind, Method, PROTOCOL_HEADER, parse_frame, write_content, write_heartbeat,
};
use wherry_amqp::session::{Peer, Session, Status};
use wherry_engine::clock::Clock;
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, TableView, Value};
use wherry_engine::{Broker, BrokerOptions, Notify};
use wherry_session::{AccessTable, Alarms, FrontEnd, Identity, Limits, Session as _};

struct Silent;

impl Notify for Silent {
    fn notify(&self, _: u64) {}
}

/// The script's bytes; at its end everything is 0.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let length = usize::from(self.byte()).min(most).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn one_in(&mut self, n: u8) -> bool {
        self.byte().is_multiple_of(n)
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }
}

const QUEUES: [&str; 7] = ["a", "b", "c", "mine", "", "amq.rabbitmq.reply-to", "none"];
const EXCHANGES: [&str; 6] = ["", "amq.fanout", "amq.topic", "amq.headers", "e", "none"];
const KEYS: [&str; 6] = ["a", "b", "c", "x.y", "#", ""];
const TAGS: [&str; 4] = ["t", "u", "v", ""];

fn arguments(script: &mut Script<'_>) -> Vec<u8> {
    let mut table = Table::new();
    for _ in 0..script.byte() % 3 {
        let (name, value) = match script.byte() % 14 {
            0 => ("x-max-length", Value::I32(2)),
            1 => ("x-message-ttl", Value::I32(script.byte().into())),
            2 => ("x-dead-letter-exchange", Value::from("amq.fanout")),
            3 => ("x-overflow", Value::from("reject-publish-dlx")),
            4 => ("x-max-priority", Value::U8(script.byte())),
            5 => ("x-single-active-consumer", Value::Bool(true)),
            6 => ("x-delivery-limit", Value::I64(1)),
            7 => ("x-expires", Value::I32(script.byte().into())),
            8 => ("x-group-by", Value::from("g")),
            9 => ("x-lease", Value::I32(script.byte().into())),
            10 => ("x-priority", Value::I8(script.byte() as i8)),
            11 => ("x-match", Value::from("any")),
            12 => ("x-retry-attempts", Value::I32(2)),
            _ => ("x-queue-type", Value::from("quorum")),
        };
        table.push(name, value);
    }
    table.encode().unwrap_or_default()
}

fn properties(script: &mut Script<'_>) -> Properties {
    let what = script.byte();
    let mut properties = Properties::default();
    if what & 1 != 0 {
        properties.delivery_mode = Some(script.byte() % 4);
    }
    if what & 2 != 0 {
        properties.expiration = Some(script.byte().to_string().into_bytes());
    }
    if what & 4 != 0 {
        properties.reply_to = Some(b"amq.rabbitmq.reply-to".to_vec());
    }
    if what & 8 != 0 {
        properties.user_id = Some(script.of(&["guest", "bob"]).into());
    }
    if what & 16 != 0 {
        let mut headers = Table::new();
        headers.push("g", i32::from(script.byte() % 3));
        headers.push("CC", Value::Array(vec![Value::from(script.of(&KEYS))]));
        headers.push("x-delay", i32::from(script.byte()));
        properties.headers = Some(headers);
    }
    if what & 32 != 0 {
        properties.priority = Some(script.byte());
    }
    properties
}

fn say(script: &mut Script<'_>, out: &mut Vec<u8>) {
    let channel = script.of(&[1, 2, 1, 0, 9]);
    let table;
    let view = |bytes| TableView::new(bytes);
    let tag = u64::from(script.byte() % 16);
    let method = match script.byte() % 36 {
        0 | 1 => Method::ChannelOpen {},
        2..=8 => {
            let method = Method::BasicPublish {
                exchange: script.of(&EXCHANGES),
                routing_key: script.of(&KEYS),
                mandatory: script.flag(),
                immediate: script.byte() == 255,
            };
            let times = 1 + script.byte() % 8;
            let properties = properties(script).encode().unwrap_or_default();
            let body = vec![b'x'; usize::from(script.byte()) * usize::from(script.byte())];
            for _ in 0..times {
                let _ = method.write(channel, out);
                let _ = write_content(channel, 60, &properties, &body, 4096, out);
            }
            return;
        }
        9..=11 => {
            table = arguments(script);
            Method::QueueDeclare {
                queue: script.of(&QUEUES),
                passive: script.one_in(8),
                durable: script.flag(),
                exclusive: script.one_in(4),
                auto_delete: script.one_in(4),
                no_wait: script.flag(),
                arguments: view(&table),
            }
        }
        12..=14 => {
            table = arguments(script);
            Method::BasicConsume {
                queue: script.of(&QUEUES),
                consumer_tag: script.of(&TAGS),
                no_local: false,
                no_ack: script.flag(),
                exclusive: script.one_in(8),
                no_wait: script.flag(),
                arguments: view(&table),
            }
        }
        15 | 16 => Method::BasicAck {
            delivery_tag: tag,
            multiple: script.flag(),
        },
        17 => Method::BasicNack {
            delivery_tag: tag,
            multiple: script.flag(),
            requeue: script.flag(),
        },
        18 => Method::BasicReject {
            delivery_tag: tag,
            requeue: script.flag(),
        },
        19 => Method::BasicGet {
            queue: script.of(&QUEUES),
            no_ack: script.flag(),
        },
        20 => Method::BasicCancel {
            consumer_tag: script.of(&TAGS),
            no_wait: script.flag(),
        },
        21 => Method::BasicQos {
            prefetch_size: 0,
            prefetch_count: tag as u16 / 2,
            global: script.flag(),
        },
        22 => Method::ConfirmSelect { no_wait: false },
        23 => Method::TxSelect {},
        24 => Method::TxCommit {},
        25 => Method::TxRollback {},
        26 => Method::BasicRecover { requeue: true },
        27 => {
            table = arguments(script);
            Method::QueueBind {
                queue: script.of(&QUEUES),
                exchange: script.of(&EXCHANGES),
                routing_key: script.of(&KEYS),
                no_wait: script.flag(),
                arguments: view(&table),
            }
        }
        28 => Method::QueueDelete {
            queue: script.of(&QUEUES),
            if_unused: script.one_in(4),
            if_empty: script.one_in(4),
            no_wait: script.flag(),
        },
        29 => Method::QueuePurge {
            queue: script.of(&QUEUES),
            no_wait: script.flag(),
        },
        30 => Method::ExchangeDeclare {
            exchange: "e",
            kind: script.of(&["direct", "topic", "fanout", "headers", "strange"]),
            passive: false,
            durable: false,
            auto_delete: script.flag(),
            internal: script.one_in(8),
            no_wait: true,
            arguments: view(&[]),
        },
        31 => Method::ExchangeBind {
            destination: script.of(&EXCHANGES),
            source: script.of(&EXCHANGES),
            routing_key: script.of(&KEYS),
            no_wait: true,
            arguments: view(&[]),
        },
        32 => Method::ExchangeDelete {
            exchange: "e",
            if_unused: script.flag(),
            no_wait: true,
        },
        33 => Method::ChannelClose {
            reply_code: 200,
            reply_text: "",
            class_id: 0,
            method_id: 0,
        },
        34 => Method::ChannelCloseOk {},
        _ => Method::ConnectionUpdateSecret {
            new_secret: b"x",
            reason: "",
        },
    };
    let _ = method.write(channel, out);
}

struct Client {
    session: Arc<Session>,
    over: bool,
}

impl Client {
    fn new(front: &Arc<FrontEnd>, polite: bool) -> Client {
        let client = Client {
            session: Session::new(front.clone(), Peer::default(), Arc::new(Silent), 0),
            over: false,
        };
        if polite {
            let mut bytes = PROTOCOL_HEADER.to_vec();
            let capabilities: Table = [
                ("consumer_cancel_notify", Value::Bool(true)),
                ("connection.blocked", Value::Bool(true)),
            ]
            .into_iter()
            .collect();
            let properties: Table = [("capabilities", Value::Table(capabilities))]
                .into_iter()
                .collect();
            let properties = properties.encode().expect("small");
            for method in [
                Method::ConnectionStartOk {
                    client_properties: TableView::new(&properties),
                    mechanism: "PLAIN",
                    response: b"\0guest\0guest",
                    locale: "en_US",
                },
                Method::ConnectionTuneOk {
                    channel_max: 8,
                    frame_max: 4096,
                    heartbeat: 5,
                },
                Method::ConnectionOpen { virtual_host: "/" },
            ] {
                method.write(0, &mut bytes).expect("short");
            }
            Method::ChannelOpen {}.write(1, &mut bytes).expect("short");
            client.session.receive(&bytes);
            client.session.authenticated("guest");
        }
        client
    }

    fn heard(&mut self, status: Status) {
        assert!(!self.over || status.contains(Status::CLOSE), "over is over");
        self.over |= status.contains(Status::CLOSE);
    }

    fn receive(&mut self, bytes: &[u8], cut: usize) {
        let cut = cut.min(bytes.len());
        let status = self.session.receive(&bytes[..cut]);
        self.heard(status);
        let status = self.session.receive(&bytes[cut..]);
        self.heard(status);
    }

    /// Takes output until there is none, or for `rounds`, and looks at it.
    fn flush(&mut self, budget: usize, rounds: usize) {
        for _ in 0..rounds {
            let mut out = Vec::new();
            let status = self.session.write_into(&mut out, budget);
            self.heard(status);
            let mut rest = &out[..];
            if rest == PROTOCOL_HEADER {
                rest = &[];
            }
            while !rest.is_empty() {
                let (frame, used) = parse_frame(rest, 131_072)
                    .expect("a frame")
                    .expect("a whole frame");
                assert!(frame.channel <= 2047);
                if frame.kind == FrameKind::Method {
                    Method::decode(frame.payload).expect("a method");
                }
                rest = &rest[used..];
            }
            if !status.contains(Status::OUTPUT) {
                return;
            }
        }
        assert!(rounds < 1000, "the session never comes to rest");
    }
}

/// Plays a script.
pub(crate) fn play(input: &[u8]) {
    let mut script = Script(input);
    let broker = Broker::open(BrokerOptions {
        clock: Clock::virtual_at(1_000_000_000_000),
        memory_bytes_max: Some(wherry_engine::MEMORY_BYTES_MIN),
        ..BrokerOptions::default()
    })
    .expect("in memory");
    let limits = Limits {
        output_bytes_max: 20_000,
        input_bytes_max: 100_000,
        unacked_per_channel_max: 12,
        unconfirmed_per_channel_max: 8,
        message_bytes_max: 50_000,
        reply_inbox_bytes_max: 1000,
        consumers_per_channel_max: 6,
        ..Limits::default()
    };
    let front = FrontEnd::new(broker, limits, Identity::default());
    let mut table = AccessTable::builder();
    table
        .permission("guest", "/", ".*", ".*", ".*")
        .expect("patterns");
    front.set_access(table.build());
    let mut clients: Vec<Client> = (0..2).map(|_| Client::new(&front, true)).collect();
    clients.push(Client::new(&front, false));
    let mut now = 0.0;
    let mut bytes = Vec::new();
    // A script is as long as it is, but one op is at least one byte.
    while !script.0.is_empty() {
        let index = usize::from(script.byte()) % clients.len();
        let client = &mut clients[index];
        match script.byte() % 24 {
            0..=11 => {
                bytes.clear();
                for _ in 0..=script.byte() % 4 {
                    say(&mut script, &mut bytes);
                }
                let cut = usize::from(script.byte()) * 7;
                client.receive(&bytes, cut);
            }
            12 => {
                let raw = script.bytes(64);
                let cut = usize::from(script.byte());
                client.receive(raw, cut);
            }
            13 => {
                bytes.clear();
                write_heartbeat(&mut bytes);
                client.receive(&bytes, 3);
            }
            14..=16 => client.flush(usize::from(script.byte()) * 16, 5),
            17 => client.flush(10_000, 1000),
            18 => {
                now += f64::from(script.byte()) / 16.0;
                let status = client.session.tick(now);
                client.heard(status);
            }
            19 => {
                let alarms = Alarms {
                    memory: script.one_in(4),
                    disk: script.one_in(4),
                };
                front.set_alarms(alarms);
                for client in &mut clients {
                    let status = client.session.resume();
                    client.heard(status);
                }
            }
            20 => {
                let time = Duration::from_millis(u64::from(script.byte()) * 4);
                front.broker().advance(time).expect("virtual time");
            }
            21 => {
                let status = if script.flag() {
                    client.session.authenticated("guest")
                } else {
                    client.session.refused()
                };
                client.heard(status);
            }
            22 => {
                if script.one_in(4) {
                    let status = client.session.shut_down("enough");
                    client.heard(status);
                } else {
                    let status = client.session.resume();
                    client.heard(status);
                }
            }
            _ => {
                if script.one_in(4) {
                    client.session.lost();
                    *client = Client::new(&front, true);
                }
            }
        }
    }
    front.set_alarms(Alarms::default());
    for client in &mut clients {
        client.session.resume();
        client.flush(10_000, 1000);
        let _ = client.session.info();
    }
    drop(clients);
    assert_eq!(front.connections(), 0);
    assert_eq!(front.replies().open_count(), 0);
    let host = front
        .broker()
        .virtual_host("/")
        .expect("it is always there");
    for queue in host.queues() {
        assert_eq!(queue.options().exclusive, None, "{queue:?}");
        let statistics = queue.statistics();
        assert_eq!(
            (statistics.unacked, statistics.consumers),
            (0, 0),
            "{queue:?}"
        );
    }
}
