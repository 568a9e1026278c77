//! A tiny client over a session, and the server it connects to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wherry_engine::{Broker, BrokerOptions, Notify, VirtualHost};
use wherry_session::{AccessTable, FrontEnd, Identity, Limits, Session as _};
use wherry_stomp::codec::{FrameLimits, Next, Parser, Version};
use wherry_stomp::{Peer, Session, Status};

/// Counts what a session tells its server.
#[derive(Default)]
pub(crate) struct Bell(AtomicUsize);

impl Notify for Bell {
    fn notify(&self, token: u64) {
        assert_eq!(token, 1);
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
        let limits = FrameLimits {
            command_bytes_max: 32,
            headers_max: 1000,
            header_bytes_max: 1 << 20,
            head_bytes_max: 8 << 20,
            body_bytes_max: 32 << 20,
        };
        Client {
            session: Session::new(self.front.clone(), peer, bell.clone(), 1),
            status: Status::IDLE,
            bell,
            parser: Parser::new(limits),
            limits,
            bytes: Vec::new(),
            frames: VecDeque::new(),
        }
    }

    /// An open connection of this version.
    pub(crate) fn connect(&self, version: Version) -> Client {
        self.connect_as("guest", version)
    }

    pub(crate) fn connect_as(&self, user: &str, version: Version) -> Client {
        let mut client = self.accept();
        client.send(&format!(
            "CONNECT\naccept-version:{}\nlogin:{user}\npasscode:x\n\n\0",
            version.as_str()
        ));
        assert!(client.status.contains(Status::AUTHENTICATE));
        client.status = client.session.authenticated(user);
        let connected = client.frame();
        assert_eq!(connected.command, "CONNECTED", "{connected:?}");
        client.parser.agree(version, client.limits);
        client
    }

    pub(crate) fn v12(&self) -> Client {
        self.connect(Version::V1_2)
    }

    /// Nothing is ready or outstanding.
    pub(crate) fn assert_nothing_is_left(&self) {
        let statistics = self.front.broker().statistics();
        assert_eq!((statistics.ready, statistics.unacked), (0, 0));
    }

    /// Nothing is ready, outstanding or registered anywhere.
    pub(crate) fn assert_empty(&self) {
        self.assert_nothing_is_left();
        assert_eq!(self.front.connections(), 0);
    }
}

/// A frame that a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) command: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> &str {
        match self.header(name) {
            Some(value) => value,
            None => panic!("no {name} in {self:?}"),
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) struct Client {
    pub(crate) session: Arc<Session>,
    pub(crate) status: Status,
    pub(crate) bell: Arc<Bell>,
    parser: Parser,
    limits: FrameLimits,
    bytes: Vec<u8>,
    frames: VecDeque<Got>,
}

impl Client {
    pub(crate) fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.status = self.session.receive(bytes);
    }

    /// Writes until nothing comes.
    pub(crate) fn read(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "the session never comes to rest");
            let before = self.bytes.len();
            self.status = self.session.write_into(&mut self.bytes, 1 << 16);
            if self.bytes.len() == before && !self.status.contains(Status::OUTPUT) {
                break;
            }
        }
        self.parse();
    }

    /// One write of about so many bytes.
    pub(crate) fn read_some(&mut self, budget: usize) {
        self.status = self.session.write_into(&mut self.bytes, budget);
        self.parse();
    }

    fn parse(&mut self) {
        let mut used = 0;
        loop {
            match self.parser.next(&self.bytes[used..]).unwrap() {
                Next::More => break,
                Next::LineEnds(count) => used += count,
                Next::Frame(frame, count) => {
                    self.frames.push_back(Got {
                        command: frame.command().into(),
                        headers: frame
                            .headers()
                            .map(|header| (header.name().into(), header.value().into()))
                            .collect(),
                        body: frame.body().into(),
                    });
                    used += count;
                }
            }
        }
        self.bytes.drain(..used);
    }

    /// Frames that were read and not looked at.
    pub(crate) fn pending(&self) -> usize {
        self.frames.len()
    }

    /// A frame that was read before.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Got {
        self.frames.pop_front().expect("a frame that was read")
    }

    #[track_caller]
    pub(crate) fn frame(&mut self) -> Got {
        self.read();
        match self.frames.pop_front() {
            Some(frame) => frame,
            None => panic!("no frame, status {:?}", self.status),
        }
    }

    #[track_caller]
    pub(crate) fn message(&mut self) -> Got {
        let frame = self.frame();
        assert_eq!(frame.command, "MESSAGE", "{frame:?}");
        frame
    }

    #[track_caller]
    pub(crate) fn receipt(&mut self, id: &str) {
        let frame = self.frame();
        assert_eq!(
            (frame.command.as_str(), frame.header("receipt-id")),
            ("RECEIPT", Some(id)),
            "{frame:?}"
        );
    }

    /// Sends a frame with a receipt, which must come.
    #[track_caller]
    pub(crate) fn ask(&mut self, frame: &str) {
        let (command, rest) = frame.split_once('\n').unwrap();
        self.send(&format!("{command}\nreceipt:asked\n{rest}"));
        self.receipt("asked");
    }

    #[track_caller]
    pub(crate) fn nothing(&mut self) {
        self.read();
        assert_eq!(self.frames.pop_front(), None);
    }

    /// An ERROR with this `message`, behind which the connection ends. Its text.
    #[track_caller]
    pub(crate) fn error(&mut self, message: &str) -> String {
        let frame = self.frame();
        assert_eq!(
            (frame.command.as_str(), frame.header("message")),
            ("ERROR", Some(message)),
            "{frame:?} {}",
            String::from_utf8_lossy(&frame.body)
        );
        assert!(self.status.contains(Status::CLOSE));
        assert_eq!(self.session.info().state, "closed");
        assert_eq!(frame.header("version"), Some("1.0,1.1,1.2"));
        frame.text().to_string()
    }
}
