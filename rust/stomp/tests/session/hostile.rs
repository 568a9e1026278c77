//! Peers that mean no good, or know no better: limits, endless frames, injected headers, frames cut anywhere.

use proptest::prelude::*;
use wherry_engine::NewMessage;
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};
use wherry_session::{Limits, SLOW_REQUESTS_PER_STINT, Session as _};
use wherry_stomp::Status;
use wherry_stomp::codec::Version;

use crate::client::{Client, Server};

const LOGIN: &str = "CONNECT\naccept-version:1.2\nlogin:guest\npasscode:x\n";

#[test]
fn the_answer_is_the_same_wherever_the_bytes_are_cut() {
    let script = format!(
        "\n{LOGIN}\n\0\nSUBSCRIBE\nid:a\\cb\ndestination:/queue/q\nack:client\nreceipt:1\n\n\0\
        SEND\r\ndestination:/queue/q\r\ncontent-length:5\r\n\r\nx\0y\0z\0\n\nBEGIN\ntransaction:t\n\n\0\
        SEND\ndestination:/queue/q\ntransaction:t\nx-own:\\\\\\r\\n\n\nin t\0COMMIT\ntransaction:t\nreceipt:2\n\n\0\
        DISCONNECT\nreceipt:3\n\n\0"
    );
    let bytes = script.as_bytes();
    let answers = |pieces: &[&[u8]]| {
        let server = Server::new();
        let mut client = server.accept();
        let mut out = Vec::new();
        for piece in pieces {
            client.send_bytes(piece);
            if client.status.contains(Status::AUTHENTICATE) {
                client.session.authenticated("guest");
            }
            client.status = client.session.write_into(&mut out, 1 << 20);
        }
        let text = String::from_utf8(out).unwrap();
        let session = text.split("session:").nth(1).unwrap()[..40].to_string();
        // When messages come between receipts depends on when the socket takes them.
        let text = text.replace(&session, "S");
        let mut frames: Vec<String> = text.split("\0\n").map(str::to_string).collect();
        frames.sort();
        assert!(server.host().queue("q").unwrap().message_count() == 2);
        (frames, client.status.contains(Status::CLOSE))
    };
    let whole = answers(&[bytes]);
    assert!(whole.1);
    for cut in 0..bytes.len() {
        let (mut got, closed) = answers(&[&bytes[..cut], &bytes[cut..]]);
        assert!(closed);
        got.retain(|frame| !frame.starts_with("MESSAGE"));
        let mut expected = whole.0.clone();
        expected.retain(|frame| !frame.starts_with("MESSAGE"));
        assert_eq!(got, expected, "cut at {cut}");
    }
    let ones: Vec<&[u8]> = bytes.chunks(1).collect();
    assert!(answers(&ones).1);
}

#[test]
fn before_login_frames_are_small() {
    let server = Server::new();
    for frame in [
        format!("CONNECT\n{}\n", "a:b\n".repeat(101)),
        format!("CONNECT\nlogin:{}", "x".repeat(66_000)),
        format!("CONNECT\n\n{}", "x".repeat(66_000)),
        "CONNECT\ncontent-length:65537\n\n".to_string(),
        "X".repeat(100),
    ] {
        let mut client = server.accept();
        let mut bytes = 0;
        for piece in frame.as_bytes().chunks(1000) {
            client.send_bytes(piece);
            bytes += piece.len();
            if client.status.contains(Status::CLOSE) {
                break;
            }
        }
        client.error("Malformed frame");
        assert!(bytes <= 67_000);
    }
    // After it they may be larger.
    let mut client = server.v12();
    let header = format!("x-long:{}\n", "x".repeat(60_000));
    client.ask(&format!(
        "SEND\ndestination:/queue/q\n{header}\n{}\0",
        "b".repeat(100_000)
    ));
    client.send(&format!(
        "SEND\ndestination:/queue/q\nx-long:{}",
        "x".repeat(103_000)
    ));
    client.error("Malformed frame");
}

#[test]
fn bodies_have_a_limit_and_an_announced_one_costs_nothing() {
    let server = Server::with_limits(Limits {
        message_bytes_max: 1000,
        ..Limits::default()
    });
    let body = "x".repeat(1000);
    let mut client = server.v12();
    client.ask(&format!("SEND\ndestination:/queue/q\n\n{body}\0"));
    client.ask(&format!(
        "SEND\ndestination:/queue/q\ncontent-length:1000\n\n{body}\0"
    ));
    client.send(&format!("SEND\ndestination:/queue/q\n\n{body}x"));
    assert_eq!(
        client.error("Malformed frame"),
        "body of more than 1000 bytes\n"
    );
    let mut client = server.v12();
    client.send("SEND\ndestination:/queue/q\ncontent-length:1001\n\n");
    client.error("Malformed frame");
    for length in ["-1", "1x", "", "0x10"] {
        let mut client = server.v12();
        client.send(&format!(
            "SEND\ndestination:/queue/q\ncontent-length:{length}\n\nx\0"
        ));
        assert_eq!(
            client.error("Malformed frame"),
            "content-length must be a number\n"
        );
    }
    let mut client = server.v12();
    client.send("SEND\ndestination:/queue/q\ncontent-length:1\n\nxx\0");
    client.error("Malformed frame");
}

/// A message whose headers would be more frames, if anybody wrote them down as they are.
#[test]
fn headers_cannot_become_frames() {
    let evil = "v\n\nbody\0\nERROR\nmessage:fake\n\n\0\r\n:\\";
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        let server = Server::new();
        let mut client = server.connect(version);
        client.ask("SUBSCRIBE\nid:1\ndestination:/exchange/amq.fanout\n\n\0");
        let text = Some(evil.as_bytes().to_vec());
        let headers: Table = [
            ("x-evil", Value::from(evil)),
            (&evil[..20], Value::from("v")),
        ]
        .into_iter()
        .collect();
        let properties = Properties {
            content_type: text.clone(),
            correlation_id: text.clone(),
            reply_to: text.clone(),
            message_id: text.clone(),
            type_: text,
            headers: Some(headers),
            ..Properties::default()
        };
        let message = NewMessage {
            properties: &properties.encode().unwrap(),
            ..NewMessage::new(evil, b"the body")
        };
        server
            .host()
            .exchange("amq.fanout")
            .unwrap()
            .publish(&message)
            .unwrap();
        let message = client.message();
        assert_eq!(message.text(), "the body");
        assert_eq!(
            message.get("destination"),
            "/exchange/amq.fanout/v%0A%0Abody%00%0AERROR%0Amessage:fake%0A%0A%00%0D%0A:\\"
        );
        client.nothing();
        // Errors show a peer's words in their body, made visible.
        let mut client = server.connect(version);
        client.send("SEND\ndestination:/queue/a%0Ab/\u{7}\n\n\0");
        assert_eq!(
            client.error("Invalid destination"),
            "'/a%0Ab/\\u{7}' is not a valid queue destination\n"
        );
    }
}

#[test]
fn in_1_0_an_escape_is_nothing_but_its_letters() {
    let server = Server::new();
    let mut old = server.connect(Version::V1_0);
    old.ask("SUBSCRIBE\nid:\\n\ndestination:/queue/q\n\n\0");
    old.ask("SEND\ndestination:/queue/q\nx\\c:\\n\\c\\t\n\nb\0");
    let message = old.message();
    assert_eq!(message.get("x\\c"), "\\n\\c\\t");
    assert_eq!(message.get("subscription"), "\\n");
    for version in [Version::V1_1, Version::V1_2] {
        let mut client = server.connect(version);
        client.send("SEND\ndestination:/queue/q\nx:\\t\n\nb\0");
        assert_eq!(
            client.error("Malformed frame"),
            "undefined escape sequence in a header\n"
        );
    }
}

#[test]
fn subscriptions_and_deliveries_have_limits() {
    let server = Server::with_limits(Limits {
        consumers_per_channel_max: 3,
        unacked_per_channel_max: 5,
        ..Limits::default()
    });
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\n\n\0");
    let exchange = server.host().exchange("").unwrap();
    for _ in 0..10 {
        exchange.publish(&NewMessage::new("q", b"x")).unwrap();
    }
    for _ in 0..5 {
        client.message();
    }
    client.nothing();
    // One that was ended and has unsettled messages counts still, and so do queues for replies.
    client.ask("UNSUBSCRIBE\nid:1\n\n\0");
    client.ask("SUBSCRIBE\nid:2\ndestination:/queue/r\n\n\0");
    client.ask("SEND\ndestination:/queue/r\nreply-to:/temp-queue/a\n\n\0");
    client.message();
    client.send("SUBSCRIBE\nid:3\ndestination:/queue/r\n\n\0");
    client.error("Too many subscriptions");
    let mut client = server.v12();
    for n in 0..3 {
        client.ask(&format!(
            "SEND\ndestination:/queue/s\nreply-to:/temp-queue/{n}\n\n\0"
        ));
    }
    client.send("SEND\ndestination:/queue/s\nreply-to:/temp-queue/more\n\n\0");
    client.error("Too many subscriptions");
}

#[test]
fn who_does_not_read_is_not_read_from() {
    let server = Server::with_limits(Limits {
        output_bytes_max: 1000,
        input_bytes_max: 2000,
        ..Limits::default()
    });
    let mut client = server.v12();
    let frame = "BEGIN\ntransaction:t\nreceipt:r\n\n\0ABORT\ntransaction:t\n\n\0";
    let mut sent = 0;
    while !client.status.contains(Status::PAUSE_READING) {
        client.send(frame);
        sent += 1;
        assert!(sent < 100);
    }
    client.send(frame);
    client.read();
    assert!(!client.status.contains(Status::PAUSE_READING));
    client.read();
    assert_eq!(client.pending(), sent + 1, "every frame was worked off");
    // Who sends on all the same has to go.
    let mut client = server.v12();
    client.send(&frame.repeat(50));
    assert!(client.status.contains(Status::PAUSE_READING));
    client.send_bytes(&frame.as_bytes().repeat(100));
    client.read();
    while client.pending() > 1 {
        client.next();
    }
    client.error("resource_error");
}

#[test]
fn many_names_are_not_kept_for_ever() {
    let server = Server::new();
    let mut client = server.v12();
    for n in 0..1000 {
        client.send(&format!("SEND\ndestination:/topic/k{n}\n\nx\0"));
    }
    client.nothing();
    assert_eq!(client.session.info().messages_in, 1000);
}

#[test]
fn churn_leaves_nothing_behind() {
    let server = Server::new();
    for round in 0..20 {
        let mut client = server.v12();
        for id in 0..5 {
            client.ask(&format!(
                "SUBSCRIBE\nid:{id}\ndestination:/topic/{id}\nack:client\n\n\0"
            ));
            client.ask(&format!(
                "SEND\ndestination:/topic/{id}\nreply-to:/temp-queue/r\n\nx\0"
            ));
            client.message();
            if id % 2 == 0 {
                client.ask(&format!("UNSUBSCRIBE\nid:{id}\n\n\0"));
            }
        }
        client.ask("BEGIN\ntransaction:t\n\n\0");
        match round % 3 {
            0 => client.session.lost(),
            1 => client.send("DISCONNECT\n\n\0"),
            _ => drop(client),
        }
        server.assert_empty();
        assert_eq!(server.host().queues().len(), 0, "round {round}");
    }
    let counters = server.front.counters();
    assert_eq!(counters.connections_opened.get(), 20);
    assert_eq!(counters.connections_closed.get(), 20);
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("/queue/q".to_string()),
        Just("/topic/a.#".to_string()),
        Just("/exchange/amq.fanout/x".to_string()),
        Just("/temp-queue/t".to_string()),
        Just("t".to_string()),
        Just("1".to_string()),
        Just("true".to_string()),
        Just("client".to_string()),
        "[a-z0-9/%@\\\\:é-]{0,12}",
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![
        4 => Just("SEND"), 3 => Just("SUBSCRIBE"), 1 => Just("UNSUBSCRIBE"), 2 => Just("ACK"), 1 => Just("NACK"),
        2 => Just("BEGIN"), 1 => Just("COMMIT"), 1 => Just("ABORT"), 1 => Just("FOO"),
    ];
    let name = prop_oneof![
        4 => Just("destination"), 3 => Just("id"), 2 => Just("ack"), 2 => Just("transaction"), 2 => Just("receipt"),
        1 => Just("prefetch-count"), 1 => Just("content-length"), 1 => Just("x-max-length"), 1 => Just("reply-to"),
        1 => Just("durable"), 1 => Just("persistent"), 1 => Just("priority"), 1 => Just("x-own"), 1 => Just("expiration"),
    ];
    let headers = prop::collection::vec((name, word()), 0..5);
    (command, headers, word()).prop_map(|(command, headers, body)| {
        let lines: String = headers.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
        format!("{command}\n{lines}\n{body}\0").into_bytes()
    })
}

#[test]
fn many_subscriptions_in_one_read_let_others_have_their_turn() {
    let server = Server::new();
    let mut client = server.v12();
    let count = 2 * SLOW_REQUESTS_PER_STINT as usize + 1;
    let frames: String = (0..count)
        .map(|n| format!("SUBSCRIBE\nid:{n}\ndestination:/queue/q{n}\n\n\0"))
        .collect();
    client.send(&frames);
    let declared = || server.host().queues().len();
    assert_eq!(declared(), SLOW_REQUESTS_PER_STINT as usize);
    let seen = client.status;
    assert!(seen.contains(Status::PAUSE_READING | Status::OUTPUT));
    client.read();
    assert_eq!(declared(), count);
    assert!(!client.status.contains(Status::PAUSE_READING));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes, a session says it and nothing is left of it.
    #[test]
    fn random_frames_leave_nothing_behind(
        frames in prop::collection::vec(frame(), 1..20),
        budgets in prop::collection::vec(1usize..600, 1..20),
    ) {
        let server = Server::new();
        let mut client: Client = server.v12();
        for (bytes, budget) in frames.iter().zip(budgets.iter().cycle()) {
            client.send_bytes(bytes);
            client.read_some(*budget);
        }
        client.read();
        let info = client.session.info();
        prop_assert!(info.unacked as u64 >= server.front.broker().statistics().unacked);
        client.session.lost();
        prop_assert_eq!(server.front.broker().statistics().unacked, 0);
        prop_assert_eq!(server.front.connections(), 0);
        prop_assert_eq!(client.session.info().consumers, 0);
    }

    #[test]
    fn random_bytes_end_a_session_and_no_more(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        logged_in in any::<bool>(),
    ) {
        let server = Server::new();
        let mut client = if logged_in { server.v12() } else { server.accept() };
        for piece in bytes.chunks(7) {
            client.send_bytes(piece);
        }
        client.read();
        client.session.lost();
        server.assert_empty();
    }
}
