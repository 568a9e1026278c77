//! A tiny client over a session, and the server it connects to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wherry_amqp::codec::{
    FrameKind, Method, PROTOCOL_HEADER, decode_content_header, parse_frame, write_content,
};
use wherry_amqp::session::{Peer, Session, Status};
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, TableView, Value};
use wherry_engine::{Broker, BrokerOptions, Notify, VirtualHost};
use wherry_session::{AccessTable, FrontEnd, Identity, Limits, Session as _};

/// Counts what a session tells its server.
#[derive(Default)]
pub(crate) struct Bell(AtomicUsize);

impl Notify for Bell {
    fn notify(&self, _: u64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    pub(crate) fn rings(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Server {
    pub(crate) front: Arc<FrontEnd>,
}

impl Server {
    pub(crate) fn new() -> Server {
        Server::with(BrokerOptions::default(), Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Server {
        Server::with(BrokerOptions::default(), limits)
    }

    pub(crate) fn with(options: BrokerOptions, limits: Limits) -> Server {
        let broker = Broker::open(options).unwrap();
        let front = FrontEnd::new(broker, limits, Identity::default());
        let mut table = AccessTable::builder();
        table.permission("guest", "/", ".*", ".*", ".*").unwrap();
        front.set_access(table.build());
        Server { front }
    }

    pub(crate) fn host(&self) -> Arc<VirtualHost> {
        self.front.broker().virtual_host("/").unwrap()
    }

    /// A connection that has said nothing.
    pub(crate) fn accept(&self) -> Client {
        self.accept_from(Peer::default())
    }

    pub(crate) fn accept_from(&self, peer: Peer) -> Client {
        let bell = Arc::new(Bell::default());
        Client {
            session: Session::new(self.front.clone(), peer, bell.clone(), 1),
            status: Status::IDLE,
            bell,
            bytes: Vec::new(),
            frames: VecDeque::new(),
        }
    }

    /// An open connection with every capability and no channel.
    pub(crate) fn connect(&self) -> Client {
        self.connect_as("guest", &all_capabilities())
    }

    pub(crate) fn connect_as(&self, user: &str, capabilities: &[&str]) -> Client {
        let mut client = self.accept();
        client.handshake(user, capabilities);
        client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
        client.expect(0, &Method::ConnectionOpenOk {});
        client
    }

    /// An open connection with channel 1.
    pub(crate) fn channel(&self) -> Client {
        let mut client = self.connect();
        client.open(1);
        client
    }
}

pub(crate) fn all_capabilities() -> [&'static str; 5] {
    [
        "authentication_failure_close",
        "consumer_cancel_notify",
        "connection.blocked",
        "basic.nack",
        "publisher_confirms",
    ]
}

/// A frame from the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Got {
    pub(crate) kind: FrameKind,
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
}

impl Got {
    pub(crate) fn method(&self) -> Method<'_> {
        assert_eq!(self.kind, FrameKind::Method, "{self:?}");
        Method::decode(&self.payload).unwrap()
    }
}

/// A method with content from the server.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) first: Got,
    pub(crate) properties: Properties,
    pub(crate) body: Vec<u8>,
}

impl Content {
    /// Consumer tag, delivery tag, redelivered, of a `basic.deliver`.
    pub(crate) fn deliver(&self) -> (&str, u64, bool) {
        match self.first.method() {
            Method::BasicDeliver {
                consumer_tag,
                delivery_tag,
                redelivered,
                ..
            } => (consumer_tag, delivery_tag, redelivered),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<Value> {
        self.properties.headers.as_ref()?.get(name).cloned()
    }
}

pub(crate) struct Client {
    pub(crate) session: Arc<Session>,
    pub(crate) status: Status,
    pub(crate) bell: Arc<Bell>,
    bytes: Vec<u8>,
    frames: VecDeque<Got>,
}

/// Bytes of a method frame.
pub(crate) fn method_bytes(channel: u16, method: &Method<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    method.write(channel, &mut bytes).unwrap();
    bytes
}

/// Bytes of a publish.
pub(crate) fn publish_bytes(
    channel: u16,
    exchange: &str,
    key: &str,
    mandatory: bool,
    properties: &Properties,
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = method_bytes(
        channel,
        &Method::BasicPublish {
            exchange,
            routing_key: key,
            mandatory,
            immediate: false,
        },
    );
    let properties = properties.encode().unwrap();
    write_content(channel, 60, &properties, body, 131_072, &mut bytes).unwrap();
    bytes
}

pub(crate) fn encoded<const N: usize>(fields: [(&str, Value); N]) -> Vec<u8> {
    fields.into_iter().collect::<Table>().encode().unwrap()
}

impl Client {
    // ---- sending ----

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Status {
        self.status = self.session.receive(bytes);
        self.status
    }

    pub(crate) fn send(&mut self, channel: u16, method: &Method<'_>) -> Status {
        self.raw(&method_bytes(channel, method))
    }

    /// Up to tuned.
    pub(crate) fn handshake(&mut self, user: &str, capabilities: &[&str]) {
        self.greet(user, "secret", capabilities);
        assert!(self.status.contains(Status::AUTHENTICATE));
        self.status = self.session.authenticated(user);
        let Method::ConnectionTune {
            channel_max,
            frame_max,
            ..
        } = self.next().method()
        else {
            panic!("tune expected");
        };
        self.send(
            0,
            &Method::ConnectionTuneOk {
                channel_max,
                frame_max,
                heartbeat: 0,
            },
        );
    }

    /// Header and start-ok.
    pub(crate) fn greet(&mut self, user: &str, password: &str, capabilities: &[&str]) {
        self.raw(&PROTOCOL_HEADER);
        assert!(matches!(
            self.next().method(),
            Method::ConnectionStart { .. }
        ));
        let capabilities: Table = capabilities
            .iter()
            .map(|name| (*name, Value::Bool(true)))
            .collect();
        let properties = encoded([("capabilities", Value::Table(capabilities))]);
        self.send(
            0,
            &Method::ConnectionStartOk {
                client_properties: TableView::new(&properties),
                mechanism: "PLAIN",
                response: format!("\0{user}\0{password}").as_bytes(),
                locale: "en_US",
            },
        );
    }

    pub(crate) fn open(&mut self, channel: u16) {
        self.send(channel, &Method::ChannelOpen {});
        self.expect(channel, &Method::ChannelOpenOk {});
    }

    /// Declares a transient queue, and takes its answer.
    pub(crate) fn declare(&mut self, queue: &str) {
        self.declare_with(queue, false, &[]);
    }

    pub(crate) fn declare_with(&mut self, queue: &str, durable: bool, arguments: &[u8]) {
        self.send(
            1,
            &Method::QueueDeclare {
                queue,
                passive: false,
                durable,
                exclusive: false,
                auto_delete: false,
                no_wait: false,
                arguments: TableView::new(arguments),
            },
        );
        let answer = self.next();
        assert!(
            matches!(answer.method(), Method::QueueDeclareOk { .. }),
            "{:?}",
            answer.method()
        );
    }

    pub(crate) fn consume(&mut self, queue: &str, tag: &str, no_ack: bool) {
        self.consume_on(1, queue, tag, no_ack);
    }

    /// As `consume` without acknowledgements, and without taking the answer.
    pub(crate) fn consume_later(&mut self, queue: &str, tag: &str) {
        self.send(
            1,
            &Method::BasicConsume {
                queue,
                consumer_tag: tag,
                no_local: false,
                no_ack: true,
                exclusive: false,
                no_wait: false,
                arguments: TableView::new(&[]),
            },
        );
    }

    pub(crate) fn consume_on(&mut self, channel: u16, queue: &str, tag: &str, no_ack: bool) {
        self.send(
            channel,
            &Method::BasicConsume {
                queue,
                consumer_tag: tag,
                no_local: false,
                no_ack,
                exclusive: false,
                no_wait: false,
                arguments: TableView::new(&[]),
            },
        );
        self.expect(channel, &Method::BasicConsumeOk { consumer_tag: tag });
    }

    /// Publishes to a queue by its name.
    pub(crate) fn publish(&mut self, queue: &str, body: &[u8]) -> Status {
        self.publish_to("", queue, false, &Properties::default(), body)
    }

    pub(crate) fn publish_to(
        &mut self,
        exchange: &str,
        key: &str,
        mandatory: bool,
        properties: &Properties,
        body: &[u8],
    ) -> Status {
        let bytes = publish_bytes(1, exchange, key, mandatory, properties, body);
        self.raw(&bytes)
    }

    pub(crate) fn ack(&mut self, tag: u64, multiple: bool) -> Status {
        self.send(
            1,
            &Method::BasicAck {
                delivery_tag: tag,
                multiple,
            },
        )
    }

    pub(crate) fn qos(&mut self, prefetch: u16, global: bool) {
        self.send(
            1,
            &Method::BasicQos {
                prefetch_size: 0,
                prefetch_count: prefetch,
                global,
            },
        );
        self.expect(1, &Method::BasicQosOk {});
    }

    // ---- receiving ----

    /// Takes everything that the session has for the socket.
    pub(crate) fn flush(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "the session never comes to rest");
            let before = self.bytes.len();
            self.status = self.session.write_into(&mut self.bytes, 4096);
            if !self.status.contains(Status::OUTPUT) && self.bytes.len() == before {
                break;
            }
        }
        let mut used = 0;
        while let Some((frame, bytes)) = parse_frame(&self.bytes[used..], 0).unwrap() {
            self.frames.push_back(Got {
                kind: frame.kind,
                channel: frame.channel,
                payload: frame.payload.to_vec(),
            });
            used += bytes;
        }
        self.bytes.drain(..used);
    }

    /// What the socket would have got, unparsed.
    pub(crate) fn flush_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.status = self.session.write_into(&mut bytes, 4096);
        bytes
    }

    /// One helping of it, unparsed.
    pub(crate) fn flush_some(&mut self, budget: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.status = self.session.write_into(&mut bytes, budget);
        bytes
    }

    /// Takes what `flush_some` gave as received.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((frame, used)) = parse_frame(rest, 0).unwrap() {
            self.frames.push_back(Got {
                kind: frame.kind,
                channel: frame.channel,
                payload: frame.payload.to_vec(),
            });
            rest = &rest[used..];
        }
        assert!(rest.is_empty(), "whole frames");
    }

    pub(crate) fn try_next(&mut self) -> Option<Got> {
        if self.frames.is_empty() {
            self.flush();
        }
        self.frames.pop_front()
    }

    pub(crate) fn next(&mut self) -> Got {
        self.try_next().expect("the server is silent")
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, channel: u16, method: &Method<'_>) {
        let got = self.next();
        assert_eq!(got.method(), *method);
        assert_eq!(got.channel, channel);
    }

    #[track_caller]
    pub(crate) fn expect_silence(&mut self) {
        self.flush();
        assert_eq!(self.frames.pop_front(), None);
    }

    /// The content behind a method that was just taken.
    pub(crate) fn content(&mut self, first: Got) -> Content {
        let header = self.next();
        assert_eq!(header.kind, FrameKind::Header);
        let decoded = decode_content_header(&header.payload).unwrap();
        let properties = wherry_engine::properties::PropertiesView::new(decoded.properties)
            .to_properties()
            .unwrap();
        let mut body = Vec::new();
        while (body.len() as u64) < decoded.body_size {
            let frame = self.next();
            assert_eq!(
                (frame.kind, frame.channel),
                (FrameKind::Body, first.channel)
            );
            body.extend_from_slice(&frame.payload);
        }
        Content {
            first,
            properties,
            body,
        }
    }

    /// The next frame has to be a delivery.
    #[track_caller]
    pub(crate) fn delivery(&mut self) -> Content {
        let first = self.next();
        assert!(
            matches!(first.method(), Method::BasicDeliver { .. }),
            "{:?}",
            first.method()
        );
        self.content(first)
    }

    /// Everything that is delivered now.
    pub(crate) fn deliveries(&mut self) -> Vec<Content> {
        let mut all = Vec::new();
        while let Some(first) = self.try_next() {
            assert!(
                matches!(first.method(), Method::BasicDeliver { .. }),
                "{:?}",
                first.method()
            );
            all.push(self.content(first));
        }
        all
    }

    pub(crate) fn bodies(&mut self) -> Vec<String> {
        self.deliveries()
            .into_iter()
            .map(|content| String::from_utf8(content.body).unwrap())
            .collect()
    }

    /// The channel is closed with this code and text, and the client says that it heard.
    #[track_caller]
    pub(crate) fn expect_channel_close(&mut self, code: u16, text: &str) {
        let got = self.next();
        let Method::ChannelClose {
            reply_code,
            reply_text,
            ..
        } = got.method()
        else {
            panic!("{:?}", got.method());
        };
        assert_eq!((reply_code, reply_text), (code, text));
        let channel = got.channel;
        self.send(channel, &Method::ChannelCloseOk {});
    }

    /// The connection is closed with this code and text; answering ends it.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16, text: &str) {
        let got = self.next();
        let Method::ConnectionClose {
            reply_code,
            reply_text,
            ..
        } = got.method()
        else {
            panic!("{:?}", got.method());
        };
        assert_eq!((reply_code, reply_text), (code, text));
        if !self.status.contains(Status::CLOSE) {
            self.send(0, &Method::ConnectionCloseOk {});
        }
        assert!(self.status.contains(Status::CLOSE));
    }
}
