//! SENDs in a row, which are published together: each has the outcome that it would have alone.

use proptest::prelude::*;
use wherry_engine::BrokerOptions;
use wherry_journal::testing::MemoryDisk;
use wherry_session::{Limits, Session as _};
use wherry_stomp::Status;

use crate::client::Server;

/// What queues hold and what the client heard, in order.
type Outcome = (Vec<Vec<String>>, Vec<String>);

fn bodies(server: &Server, queue: &str) -> Vec<String> {
    let Ok(queue) = server.host().queue(queue) else {
        return Vec::new();
    };
    let consumer = queue.consume(Default::default(), None).unwrap();
    let mut taken = Vec::new();
    consumer.take(10_000, &mut taken);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let delayed = format!("{} delayed", queue.statistics().scheduled);
    let messages = taken.iter().map(|one| {
        format!(
            "{} {:?}",
            text(one.message.body()),
            one.message.properties_bytes()
        )
    });
    messages.chain([delayed]).collect()
}

/// What comes of these frames when they arrive in these pieces.
fn outcome(pieces: &[&[u8]]) -> Outcome {
    let server = Server::new();
    let mut client = server.v12();
    client
        .ask("SEND\ndestination:/queue/full\nx-max-length:4\nx-overflow:reject-publish\n\nfirst\0");
    let mut out = Vec::new();
    for piece in pieces {
        client.send_bytes(piece);
        client.status = client.session.write_into(&mut out, 1 << 20);
        if client.status.contains(Status::CLOSE) {
            break;
        }
    }
    let queues = ["a", "b", "full"]
        .map(|name| bodies(&server, name))
        .to_vec();
    let heard = String::from_utf8(out).unwrap();
    (queues, heard.split("\0\n").map(str::to_string).collect())
}

fn send() -> impl Strategy<Value = String> {
    let destination = prop_oneof![
        12 => Just("/queue/a"),
        2 => Just("/queue/b"),
        2 => Just("/queue/full"),
        1 => Just("/topic/none"),
        1 => Just("/amq/queue/a"),
    ];
    let header = prop_oneof![
        12 => Just(""),
        2 => Just("priority:3\n"),
        2 => Just("persistent:true\ntype:t\n"),
        1 => Just("x-own:1\n"),
        1 => Just("x-esc:a\\cb\n"),
        1 => Just("transaction:t\n"),
        1 => Just("x-delay:60000\n"),
        1 => Just("content-length:2\n"),
    ];
    let end = prop_oneof![Just("\0"), Just("\0\n"), Just("\0\r\n\n")];
    let frame = (destination, header, any::<bool>(), 0..100u8, end);
    frame.prop_map(|(destination, header, asks, number, end)| {
        let receipt = if asks {
            format!("receipt:r{number}\n")
        } else {
            String::new()
        };
        format!("SEND\ndestination:{destination}\n{header}{receipt}\n{number:02}{end}")
    })
}

fn frame() -> impl Strategy<Value = String> {
    prop_oneof![
        40 => send(),
        1 => Just("BEGIN\ntransaction:t\n\n\0".to_string()),
        1 => Just("COMMIT\ntransaction:t\n\n\0".to_string()),
        1 => Just("SEND\ndestination:/queue/a\nexpiration:abc\n\nbad\0".to_string()),
        1 => Just("SEND\n\nto nobody\0".to_string()),
    ]
}

proptest! {
    #[test]
    fn a_run_is_worth_what_its_messages_are_alone(
        frames in prop::collection::vec(frame(), 1..120),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = frames.concat().into_bytes();
        let ones: Vec<&[u8]> = bytes.chunks(1).collect();
        let alone = outcome(&ones);
        prop_assert_eq!(&outcome(&[&bytes]), &alone);
        let (head, tail) = bytes.split_at(cut.index(bytes.len()));
        prop_assert_eq!(&outcome(&[head, tail]), &alone);
    }
}

#[test]
fn receipts_that_wait_for_the_disk_are_counted_inside_a_run() {
    let options = BrokerOptions {
        disk: Some(MemoryDisk::new()),
        ..BrokerOptions::default()
    };
    let limits = Limits {
        unconfirmed_per_channel_max: 10,
        ..Limits::default()
    };
    let server = Server::with(options, limits);
    let mut client = server.v12();
    client.send("SEND\ndestination:/queue/q\n\nfirst\0");
    let one = "SEND\ndestination:/queue/q\npersistent:true\nreceipt:r\n\nbody\0";
    client.send(&one.repeat(25));
    assert!(client.session.info().unconfirmed <= 10);
    for _ in 0..25 {
        let broker = server.front.broker();
        let ticket = broker.barrier().unwrap();
        assert!(broker.wait_durable(ticket, None).unwrap());
        client.read();
    }
    assert_eq!(client.pending(), 25);
    assert_eq!(server.host().queue("q").unwrap().message_count(), 26);
}
