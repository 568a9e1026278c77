//! Sessions by their bytes, no sockets: one sends 16-byte messages, another is subscribed.
//!
//! `cargo bench -p wherry-stomp --bench session [-- FILTER] [-- --messages N]`; prints messages a second (each in and out
//! once), best of five rounds, and nanoseconds for each. Everything runs on one thread: the sum of both sides.

use std::sync::Arc;
use std::time::Instant;

use wherry_engine::{Broker, BrokerOptions, Notify};
use wherry_session::{AccessTable, FrontEnd, Identity, Limits, Session as _};
use wherry_stomp::codec::{FrameLimits, Next, Parser, Version};
use wherry_stomp::{Peer, Session, Status};

/// Bytes of one read of a socket.
const READ_BYTES: usize = 256 << 10;

struct Silent;

impl Notify for Silent {
    fn notify(&self, _: u64) {}
}

fn front() -> Arc<FrontEnd> {
    let broker = Broker::open(BrokerOptions::default()).expect("open");
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
        session.receive(b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0");
        session.authenticated("guest");
        let mut client = Client {
            session,
            out: Vec::new(),
        };
        client.drain();
        client
    }

    /// Takes and forgets what the session has for the socket.
    fn drain(&mut self) {
        loop {
            self.out.clear();
            let status = self.session.write_into(&mut self.out, READ_BYTES);
            if !status.contains(Status::OUTPUT) {
                return;
            }
        }
    }

    /// Takes what the session has and acknowledges the last of each piece, with all before it.
    fn drain_and_acknowledge(&mut self) {
        loop {
            self.out.clear();
            self.session.write_into(&mut self.out, 64 << 10);
            let tail = &self.out[self.out.len().saturating_sub(400)..];
            let text = String::from_utf8_lossy(tail);
            let Some((_, name)) = text.rsplit_once("\nack:") else {
                return;
            };
            let name = name.split('\n').next().unwrap_or_default();
            self.session
                .receive(format!("ACK\nid:{name}\n\n\0").as_bytes());
        }
    }
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

/// One read of a socket full of frames, and how many there are.
fn sends(destination: &str, headers: &str) -> (Vec<u8>, usize) {
    let one = format!(
        "SEND\ndestination:{destination}\n{headers}content-length:16\n\n{}\0\n",
        "x".repeat(16)
    );
    let count = READ_BYTES / one.len();
    (one.into_bytes().repeat(count), count)
}

fn through(
    sender: &Client,
    (bytes, count): &(Vec<u8>, usize),
    messages: usize,
    mut behind: impl FnMut(),
) -> usize {
    let mut done = 0;
    while done < messages {
        let status = sender.session.receive(bytes);
        assert!(!status.contains(Status::PAUSE_READING));
        behind();
        done += count;
    }
    done
}

fn parse(bytes: &[u8]) -> usize {
    let limits = FrameLimits {
        command_bytes_max: 32,
        headers_max: 100,
        header_bytes_max: 100 << 10,
        head_bytes_max: 4 << 20,
        body_bytes_max: 16 << 20,
    };
    let mut parser = Parser::new(limits);
    parser.agree(Version::V1_2, limits);
    let (mut used, mut frames) = (0, 0);
    loop {
        match parser.next(&bytes[used..]).expect("frames") {
            Next::More => return frames,
            Next::LineEnds(count) => used += count,
            Next::Frame(frame, count) => {
                frames += usize::from(frame.body().len() == 16);
                used += count;
            }
        }
    }
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
    let run = |name: &str, round: &mut dyn FnMut() -> usize| {
        if filter.is_none_or(|f| name.contains(f.as_str())) {
            report(name, messages, round);
        }
    };

    let plain = sends("/queue/q", "");
    let rich = sends(
        "/queue/q",
        "content-type:text/plain\npriority:4\ncorrelation-id:12345\nx-one:1\nx-two:two\npersistent:false\n",
    );
    run("parse SEND", &mut || {
        let mut done = 0;
        while done < messages {
            done += parse(&plain.0);
        }
        done
    });

    let front = front();
    let sender = Client::connect(&front);
    sender
        .session
        .receive(b"SEND\ndestination:/queue/q\n\n0123456789abcdef\0");
    let queue = front
        .broker()
        .virtual_host("/")
        .and_then(|host| host.queue("q"))
        .expect("declared by SEND");
    for (name, bytes) in [
        ("send, then purge", &plain),
        ("send with six headers, then purge", &rich),
    ] {
        run(name, &mut || {
            through(&sender, bytes, messages, || {
                queue.purge().expect("purge");
            })
        });
    }

    for (name, bytes) in [
        ("send, deliver in mode auto", &plain),
        ("send with six headers, deliver in mode auto", &rich),
    ] {
        let mut receiver = Client::connect(&front);
        receiver
            .session
            .receive(b"SUBSCRIBE\nid:1\ndestination:/queue/q\n\n\0");
        run(name, &mut || {
            through(&sender, bytes, messages, || receiver.drain())
        });
    }

    let mut receiver = Client::connect(&front);
    receiver
        .session
        .receive(b"SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\n\n\0");
    run("send, deliver in mode client, cumulative acks", &mut || {
        through(&sender, &plain, messages, || {
            receiver.drain_and_acknowledge()
        })
    });
    drop(receiver);

    let mut receiver = Client::connect(&front);
    for id in 0..10 {
        let subscribe = format!("SUBSCRIBE\nid:{id}\ndestination:/topic/t\n\n\0");
        receiver.session.receive(subscribe.as_bytes());
    }
    let to_topic = sends("/topic/t", "");
    run(
        "send to a topic with ten subscriptions, for each",
        &mut || 10 * through(&sender, &to_topic, messages / 10, || receiver.drain()),
    );
}
