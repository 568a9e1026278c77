//! Content in frames, however they are cut, and what is no content.

use wherry_amqp::codec::{Method, write_content};
use wherry_amqp::session::Status;
use wherry_engine::properties::Properties;
use wherry_engine::table::TableView;
use wherry_session::{Limits, Session as _};

use crate::client::{Server, method_bytes, publish_bytes};

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xCE);
    bytes
}

fn header(class: u16, weight: u16, size: u64, properties: &[u8]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(weight.to_be_bytes());
    payload.extend(size.to_be_bytes());
    payload.extend(properties);
    frame(2, 1, &payload)
}

fn publish_method(exchange: &str, key: &str) -> Vec<u8> {
    method_bytes(
        1,
        &Method::BasicPublish {
            exchange,
            routing_key: key,
            mandatory: false,
            immediate: false,
        },
    )
}

#[test]
fn bodies_of_all_sizes_come_through() {
    let mut client = Server::new().channel();
    client.declare("q");
    client.consume("q", "c", true);
    for size in [0, 1, 4096, 131_064, 131_065, 300_000, 1 << 20] {
        let body: Vec<u8> = (0..size).map(|i| i as u8).collect();
        client.publish("q", &body);
        assert_eq!(client.delivery().body, body, "{size}");
    }
}

#[test]
fn empty_body_frames_say_nothing() {
    let mut client = Server::new().channel();
    client.declare("q");
    client.consume("q", "c", true);
    let mut bytes = publish_method("", "q");
    bytes.extend(header(60, 0, 2, &[0, 0]));
    bytes.extend(frame(3, 1, b""));
    bytes.extend(frame(3, 1, b"a"));
    bytes.extend(frame(3, 1, b""));
    bytes.extend(frame(3, 1, b"b"));
    client.raw(&bytes);
    assert_eq!(client.bodies(), ["ab"]);
}

#[test]
fn channels_may_be_interleaved_in_mid_message() {
    let mut client = Server::new().channel();
    client.open(2);
    client.declare("q");
    client.consume("q", "c", true);
    let one = publish_bytes(1, "", "q", false, &Properties::default(), b"one");
    let two = publish_bytes(2, "", "q", false, &Properties::default(), b"two");
    let cut = publish_method("", "q").len();
    let mut bytes = one[..cut].to_vec();
    bytes.extend(&two);
    bytes.extend(&one[cut..]);
    client.raw(&bytes);
    assert_eq!(client.bodies(), ["two", "one"]);
}

#[test]
fn content_that_does_not_fit_closes_the_connection() {
    let content = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    let body = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    let method = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    let publish = || publish_method("", "q");
    let with = |more: &[&[u8]]| {
        let mut bytes = publish();
        more.iter().for_each(|frame| bytes.extend(*frame));
        bytes
    };
    let tx = method_bytes(1, &Method::TxSelect {});
    for (bytes, text) in [
        (header(60, 0, 1, &[0, 0]), method),
        (frame(3, 1, b"x"), method),
        (with(&[&tx]), content),
        (with(&[&frame(3, 1, b"x")]), content),
        (with(&[&header(60, 1, 1, &[0, 0])]), content),
        (with(&[&header(60, 0, 5, &[0, 0]), &tx]), body),
        (
            with(&[&header(60, 0, 5, &[0, 0]), &frame(3, 1, b"too long")]),
            body,
        ),
        (
            with(&[&header(50, 0, 5, &[0, 0])]),
            "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
        ),
        (
            with(&[&header(60, 0, 1, &[0xff, 0xff])]),
            "FRAME_ERROR - unknown property flag",
        ),
        (
            frame(8, 1, b""),
            "UNEXPECTED_FRAME - heartbeat on a channel other than 0",
        ),
    ] {
        let mut client = Server::new().channel();
        client.raw(&bytes);
        let code = if text.starts_with("FRAME") { 501 } else { 505 };
        client.expect_close(code, text);
    }
}

#[test]
fn frames_that_are_none_close_the_connection() {
    for (bytes, text) in [
        (frame(7, 1, b"abc"), "FRAME_ERROR - type 7"),
        ([3, 0, 1, 0, 2, 0, 1].to_vec(), "FRAME_ERROR - type 3"),
    ] {
        let mut client = Server::new().channel();
        client.raw(&bytes);
        let got = client.next();
        assert!(
            matches!(got.method(), Method::ConnectionClose { reply_code: 501, reply_text, .. } if reply_text.starts_with(text)),
            "{:?}",
            got.method()
        );
        assert!(client.status.contains(Status::CLOSE));
    }
    for (payload, code) in [
        (&[0, 99, 0, 10][..], 540),
        (&[0, 60, 0, 99], 540),
        (&[0, 50, 0, 10, 0, 0, 5, b'a', b'b'], 501),
        (&[0, 20, 0, 40], 501),
        (&[0], 501),
    ] {
        let mut client = Server::new().channel();
        client.raw(&frame(1, 1, payload));
        let got = client.next();
        assert!(
            matches!(got.method(), Method::ConnectionClose { reply_code, .. } if reply_code == code),
            "{:?}",
            got.method()
        );
    }
}

#[test]
fn a_message_over_the_limit_closes_the_channel_at_its_header() {
    let server = Server::with_limits(Limits {
        message_bytes_max: 1000,
        ..Limits::default()
    });
    let mut client = server.channel();
    client.declare("q");
    let mut bytes = publish_method("", "q");
    bytes.extend(header(60, 0, 1001, &[0, 0]));
    client.raw(&bytes);
    client.expect_channel_close(
        406,
        "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000",
    );
    client.open(1);
    client.publish("q", &[0; 1000]);
    // Whole in one read: the same answer, and the rest of the message is skipped.
    client.publish("q", &[0; 1001]);
    client.expect_channel_close(
        406,
        "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000",
    );
    client.open(1);
    assert_eq!(server.host().queue("q").unwrap().message_count(), 1);
}

#[test]
fn an_unfinished_message_costs_what_came_of_it() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    let mut bytes = publish_method("", "q");
    bytes.extend(header(60, 0, 16 << 20, &[0, 0]));
    bytes.extend(frame(3, 1, b"little"));
    client.raw(&bytes);
    client.expect_silence();
    client.send(1, &Method::ChannelOpen {});
    client.expect_close(
        505,
        "UNEXPECTED_FRAME - expected content body, got non content body frame instead",
    );
}

#[test]
fn a_write_may_be_cut_anywhere() {
    // The budget is a wish: whole frames come out, whatever it is.
    let mut client = Server::new().channel();
    client.declare("q");
    for i in 0..50 {
        client.publish("q", format!("{i}").as_bytes());
    }
    client.send(
        1,
        &Method::BasicConsume {
            queue: "q",
            consumer_tag: "c",
            no_local: false,
            no_ack: true,
            exclusive: false,
            no_wait: true,
            arguments: TableView::new(&[]),
        },
    );
    let mut bytes = Vec::new();
    let mut rounds = 0;
    while client
        .session
        .write_into(&mut bytes, 1)
        .contains(Status::OUTPUT)
    {
        rounds += 1;
        assert!(rounds < 1000);
    }
    assert!(rounds > 25, "{rounds}");
    let mut expected = Vec::new();
    for i in 0..50 {
        let method = Method::BasicDeliver {
            consumer_tag: "c",
            delivery_tag: i + 1,
            redelivered: false,
            exchange: "",
            routing_key: "q",
        };
        method.write(1, &mut expected).unwrap();
        write_content(1, 60, &[], i.to_string().as_bytes(), 0, &mut expected).unwrap();
    }
    assert_eq!(bytes, expected);
}
