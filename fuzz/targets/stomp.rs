//! A peer's bytes through the STOMP codec and a session.
//!
//! Invariants tested: nothing panics; frames, and what a session answers to them, are the same wherever the bytes are cut; what a
//! session says is frames of the version that was agreed on, whatever the client wrote into headers and bodies; a session that is
//! lost leaves nothing behind.
//!
//! Input: one octet of flags (bits 0 and 1: version; bit 2: logged in already), one that says how large the pieces are, then the bytes.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use wherry_engine::clock::Clock;
use wherry_engine::{Broker, BrokerOptions, Notify};
use wherry_session::{AccessTable, FrontEnd, Identity, Limits, Session as _};
use wherry_stomp::codec::{FrameError, FrameLimits, Name, Next, Parser, Version};
use wherry_stomp::{Peer, Session, Status};

const LIMITS: FrameLimits = FrameLimits {
    command_bytes_max: 32,
    headers_max: 100,
    header_bytes_max: 100 << 10,
    head_bytes_max: 4 << 20,
    body_bytes_max: 16 << 20,
};

struct Silent;

impl Notify for Silent {
    fn notify(&self, _: u64) {}
}

fuzz_target!(|input: &[u8]| {
    let [flags, piece, stream @ ..] = input else {
        return;
    };
    let version = match flags & 3 {
        0 => Version::V1_0,
        1 => Version::V1_1,
        _ => Version::V1_2,
    };
    let piece = usize::from(*piece) + 1;
    assert_eq!(
        frames(stream, stream.len().max(1), version),
        frames(stream, piece, version)
    );
    let logged_in = flags & 4 != 0;
    assert_eq!(
        converse(stream, stream.len().max(1), version, logged_in),
        converse(stream, piece, version, logged_in)
    );
});

/// Everything that the parser says, as text.
fn frames(stream: &[u8], piece: usize, version: Version) -> (Vec<String>, Option<FrameError>) {
    let mut parser = Parser::new(LIMITS);
    parser.agree(version, LIMITS);
    let (mut said, mut held) = (Vec::new(), Vec::new());
    for piece in stream.chunks(piece) {
        held.extend_from_slice(piece);
        loop {
            let used = match parser.next(&held) {
                Ok(Next::More) => break,
                Ok(Next::LineEnds(count)) => count,
                Ok(Next::Frame(frame, used)) => {
                    let headers: Vec<_> = frame
                        .headers()
                        .filter(|h| h.known() != Name::ContentLength)
                        .map(|h| (h.name(), h.value()))
                        .collect();
                    said.push(format!(
                        "{} {headers:?} {:?}",
                        frame.command(),
                        frame.body()
                    ));
                    used
                }
                Err(error) => return (said, Some(error)),
            };
            held.drain(..used);
        }
    }
    (said, None)
}

/// What a session answers, its messages left out: when those come is nobody's promise.
fn converse(stream: &[u8], piece: usize, version: Version, logged_in: bool) -> Vec<String> {
    let broker = Broker::open(BrokerOptions {
        clock: Clock::virtual_at(1_000_000_000),
        ..BrokerOptions::default()
    })
    .expect("a broker in memory");
    let front = FrontEnd::new(broker, Limits::default(), Identity::default());
    let mut table = AccessTable::builder();
    table
        .permission("guest", "/", ".*", ".*", ".*")
        .expect("patterns");
    front.set_access(table.build());
    let session = Session::new(front.clone(), Peer::default(), Arc::new(Silent), 0);
    let mut out = Vec::new();
    if logged_in {
        let version = version.as_str();
        session.receive(
            format!("CONNECT\naccept-version:{version}\nlogin:guest\npasscode:x\n\n\0").as_bytes(),
        );
        session.authenticated("guest");
    }
    for piece in stream.chunks(piece) {
        let status = session.receive(piece);
        if status.contains(Status::AUTHENTICATE) {
            session.authenticated("guest");
        }
        session.write_into(&mut out, 1000);
    }
    for _ in 0..100 {
        let before = out.len();
        session.write_into(&mut out, 1 << 16);
        if out.len() == before {
            break;
        }
    }
    let answers = if logged_in {
        answers(&out, version)
    } else {
        Vec::new()
    };
    session.lost();
    let statistics = front.broker().statistics();
    assert_eq!(statistics.unacked, 0, "a lost session holds nothing");
    assert_eq!(front.connections(), 0);
    answers
}

/// What a session says can be read by who agreed on the version with it. Its receipts and its error, without the text: names
/// that the broker chose may stand in that.
fn answers(out: &[u8], version: Version) -> Vec<String> {
    let mut said = Vec::new();
    let mut parser = Parser::new(FrameLimits {
        headers_max: 1000,
        ..LIMITS
    });
    parser.agree(
        version,
        FrameLimits {
            headers_max: 1000,
            ..LIMITS
        },
    );
    let mut used = 0;
    loop {
        match parser.next(&out[used..]).expect("frames of our own") {
            Next::More => break,
            Next::LineEnds(count) => used += count,
            Next::Frame(frame, count) => {
                let known = ["CONNECTED", "MESSAGE", "RECEIPT", "ERROR"];
                assert!(known.contains(&frame.command()), "{}", frame.command());
                if matches!(frame.command(), "RECEIPT" | "ERROR") {
                    let headers: Vec<_> = frame
                        .headers()
                        .filter(|h| h.known() != Name::ContentLength)
                        .map(|h| (h.name(), h.value()))
                        .collect();
                    said.push(format!("{} {headers:?}", frame.command()));
                }
                used += count;
            }
        }
    }
    assert_eq!(used, out.len(), "whole frames only");
    said
}
