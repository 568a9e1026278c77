//! The handshake, its variants and its errors; heartbeats; the end of a connection.

use wherry_amqp::codec::{FRAME_END, Method, PROTOCOL_HEADER, PROTOCOL_HEADER_0_9};
use wherry_amqp::session::Status;
use wherry_engine::table::{TableView, ValueView};
use wherry_session::Session as _;

use crate::client::{Client, Server, method_bytes};
use crate::methods::start_ok;

#[test]
fn a_client_gets_in() {
    let server = Server::new();
    let mut client = server.accept();
    client.raw(&PROTOCOL_HEADER);
    let got = client.next();
    let Method::ConnectionStart {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms,
        locales,
    } = got.method()
    else {
        panic!();
    };
    assert_eq!(mechanisms, b"PLAIN AMQPLAIN");
    assert_eq!(locales, b"en_US");
    assert_eq!(
        server_properties.get("product"),
        Some(ValueView::Str(b"RabbitMQ"))
    );
    let Some(ValueView::Str(platform)) = server_properties.get("platform") else {
        panic!();
    };
    assert!(platform.starts_with(b"Wherry "));
    let Some(ValueView::Table(capabilities)) = server_properties.get("capabilities") else {
        panic!();
    };
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert_eq!(
            capabilities.get(name),
            Some(ValueView::Bool(true)),
            "{name}"
        );
    }
    start_ok(&mut client, "PLAIN", b"\0guest\0secret");
    assert!(
        client
            .status
            .contains(Status::AUTHENTICATE | Status::PAUSE_READING)
    );
    let credentials = client.session.credentials().unwrap();
    assert_eq!(credentials.mechanism, "PLAIN");
    assert_eq!(credentials.user, "guest");
    assert_eq!(credentials.password.expose(), b"secret");
    assert!(!format!("{credentials:?}").contains("secret"));
    client.status = client.session.authenticated("guest");
    assert!(!client.status.contains(Status::AUTHENTICATE));
    assert_eq!(client.session.credentials(), None);
    client.expect(
        0,
        &Method::ConnectionTune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        },
    );
    client.send(
        0,
        &Method::ConnectionTuneOk {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        },
    );
    client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
    client.expect(0, &Method::ConnectionOpenOk {});
    let info = client.session.info();
    assert_eq!(
        (&*info.user, &*info.virtual_host, info.state),
        ("guest", "/", "running")
    );
    assert_eq!(server.front.connections(), 1);

    client.send(
        0,
        &Method::ConnectionClose {
            reply_code: 200,
            reply_text: "bye",
            class_id: 0,
            method_id: 0,
        },
    );
    client.expect(0, &Method::ConnectionCloseOk {});
    assert!(!client.status.contains(Status::CLOSE)); // the client's turn
    assert_eq!(server.front.connections(), 0);
}

#[test]
fn who_has_closed_closes_the_socket_first_but_not_for_ever() {
    let server = Server::new();
    let goodbye = Method::ConnectionClose {
        reply_code: 200,
        reply_text: "bye",
        class_id: 0,
        method_id: 0,
    };
    let mut client = server.connect();
    client.send(0, &goodbye);
    client.expect(0, &Method::ConnectionCloseOk {});
    // What still comes is not looked at.
    client.raw(b"nonsense");
    client.expect_silence();
    client.session.tick(0.0);
    client.session.tick(9.0);
    assert!(!client.session.status().contains(Status::CLOSE));
    client.session.tick(10.5);
    assert!(client.session.status().contains(Status::CLOSE));

    let mut client = server.connect();
    client.send(0, &goodbye);
    client.expect(0, &Method::ConnectionCloseOk {});
    client.session.shut_down("maintenance");
    client.expect_silence();
    assert!(client.session.status().contains(Status::CLOSE));
}

#[test]
fn another_protocol_is_told_which_is_spoken() {
    for header in [
        &b"AMQP\x01\x01\x09\x01"[..],
        b"AMQP\x01\x01\x00\x0a",
        b"GET / HTTP/1.1\r\n\r\n",
        b"AMQP\x00\x01\x00\x00",
    ] {
        let mut client = Server::new().accept();
        let status = client.raw(header);
        assert!(status.contains(Status::OUTPUT | Status::CLOSE));
        assert_eq!(client.flush_bytes(), PROTOCOL_HEADER);
        assert!(client.status.contains(Status::CLOSE));
        assert!(client.raw(b"more").contains(Status::CLOSE));
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    for header in [PROTOCOL_HEADER, PROTOCOL_HEADER_0_9] {
        let mut client = Server::new().accept();
        for byte in &header[..7] {
            assert_eq!(client.raw(&[*byte]), Status::IDLE);
        }
        assert!(client.raw(&header[7..]).contains(Status::OUTPUT));
        assert!(matches!(
            client.next().method(),
            Method::ConnectionStart { .. }
        ));
    }
}

#[test]
fn limits_that_cannot_be_are_refused() {
    for (channel_max, frame_max, text) in [
        (
            0,
            131_072,
            "NOT_ALLOWED - negotiated channel_max = 0 is higher than the maximum allowed value (2047)",
        ),
        (
            2047,
            0,
            "NOT_ALLOWED - negotiated frame_max = 0 is higher than the maximum allowed value (131072)",
        ),
        (
            2047,
            1000,
            "NOT_ALLOWED - negotiated frame_max = 1000 is lower than the minimum allowed value (4096)",
        ),
        (
            2047,
            200_000,
            "NOT_ALLOWED - negotiated frame_max = 200000 is higher than the maximum allowed value (131072)",
        ),
        (
            4000,
            131_072,
            "NOT_ALLOWED - negotiated channel_max = 4000 is higher than the maximum allowed value (2047)",
        ),
    ] {
        let mut client = Server::new().accept();
        client.greet("guest", "secret", &[]);
        client.session.authenticated("guest");
        client.next();
        client.send(
            0,
            &Method::ConnectionTuneOk {
                channel_max,
                frame_max,
                heartbeat: 0,
            },
        );
        client.expect_close(530, text);
    }
}

#[test]
fn a_virtual_host_must_exist_and_be_allowed() {
    let server = Server::new();
    server.front.broker().add_virtual_host("other").unwrap();
    for (virtual_host, text) in [
        ("none", "NOT_ALLOWED - vhost none not found"),
        (
            "other",
            "NOT_ALLOWED - access to vhost 'other' refused for user 'guest'",
        ),
    ] {
        let mut client = server.accept();
        client.handshake("guest", &[]);
        client.send(0, &Method::ConnectionOpen { virtual_host });
        client.expect_close(530, text);
    }
}

#[test]
fn methods_out_of_order_are_refused() {
    let mut client = Server::new().accept();
    client.raw(&PROTOCOL_HEADER);
    client.next();
    client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
    client.expect_close(
        504,
        "CHANNEL_ERROR - unexpected method in connection state starting",
    );

    let mut client = Server::new().connect();
    client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
    client.expect_close(
        504,
        "CHANNEL_ERROR - unexpected method in connection state running",
    );

    let mut client = Server::new().connect();
    client.send(0, &Method::ChannelOpen {});
    client.expect_close(
        504,
        "CHANNEL_ERROR - unexpected method in connection state running",
    );

    let mut client = Server::new().accept();
    client.handshake("guest", &[]);
    client.send(1, &Method::ChannelOpen {});
    client.expect_close(
        504,
        "CHANNEL_ERROR - frames of channels must come after connection.open-ok",
    );
}

#[test]
fn frames_before_tune_are_small() {
    let mut client = Server::new().accept();
    client.raw(&PROTOCOL_HEADER);
    client.next();
    let status = client.raw(&[1, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert!(
        status.contains(Status::CLOSE),
        "without waiting for four gigabytes"
    );
    assert!(matches!(
        client.next().method(),
        Method::ConnectionClose {
            reply_code: 501,
            ..
        }
    ));
}

#[test]
fn heartbeats_are_sent_and_missed() {
    let server = Server::new();
    let mut client = server.accept();
    client.greet("guest", "secret", &[]);
    client.session.authenticated("guest");
    client.next();
    client.send(
        0,
        &Method::ConnectionTuneOk {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 10,
        },
    );
    client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
    client.expect(0, &Method::ConnectionOpenOk {});
    let beat = [8, 0, 0, 0, 0, 0, 0, FRAME_END];
    client.session.tick(100.0);
    client.session.tick(104.0);
    assert_eq!(client.flush_bytes(), b"");
    client.session.tick(105.0);
    assert_eq!(client.flush_bytes(), beat, "half the interval");
    // Neither the beat itself nor the peer's puts the next one off.
    client.raw(&beat);
    client.session.tick(109.0);
    assert_eq!(client.flush_bytes(), b"");
    client.session.tick(110.0);
    assert_eq!(client.flush_bytes(), beat);
    // An answer does.
    client.open(1);
    client.session.tick(112.0);
    client.session.tick(116.0);
    assert_eq!(client.flush_bytes(), b"");
    client.session.tick(117.0);
    assert_eq!(client.flush_bytes(), beat);
    client.raw(&beat);
    client.session.tick(118.0);
    client.session.tick(138.0);
    assert!(!client.session.status().contains(Status::CLOSE));
    client.session.tick(138.5);
    assert!(
        client.session.status().contains(Status::CLOSE),
        "two intervals of silence"
    );
}

#[test]
fn a_handshake_takes_no_longer_than_it_may() {
    let server = Server::new();
    let mut client = server.accept();
    client.session.tick(5.0);
    client.raw(&PROTOCOL_HEADER);
    client.session.tick(15.0);
    assert!(!client.session.status().contains(Status::CLOSE));
    client.session.tick(15.1);
    assert!(client.session.status().contains(Status::CLOSE));
}

#[test]
fn shutting_down_waits_for_the_answer_and_not_for_ever() {
    let server = Server::new();
    let mut client = server.channel();
    client
        .session
        .shut_down("broker forced connection closure with reason 'shutdown'");
    client.expect_close(
        320,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
    );

    let mut client = server.channel();
    client.session.tick(0.0);
    client.session.shut_down("maintenance");
    assert!(!client.session.status().contains(Status::CLOSE));
    // Whatever comes now is ignored.
    client.send(1, &Method::TxSelect {});
    client.session.tick(1.0);
    client.session.tick(11.5);
    assert!(client.session.status().contains(Status::CLOSE));
    assert_eq!(server.front.connections(), 0);
}

#[test]
fn it_makes_no_difference_how_bytes_are_cut() {
    let script = || {
        let mut bytes = PROTOCOL_HEADER.to_vec();
        bytes.extend(method_bytes(
            0,
            &Method::ConnectionStartOk {
                client_properties: TableView::new(&[]),
                mechanism: "PLAIN",
                response: b"\0guest\0secret",
                locale: "en_US",
            },
        ));
        bytes
    };
    let rest = || {
        let mut bytes = method_bytes(
            0,
            &Method::ConnectionTuneOk {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat: 0,
            },
        );
        bytes.extend(method_bytes(
            0,
            &Method::ConnectionOpen { virtual_host: "/" },
        ));
        bytes.extend(method_bytes(1, &Method::ChannelOpen {}));
        bytes.extend(method_bytes(
            1,
            &Method::QueueDeclare {
                queue: "q",
                passive: false,
                durable: false,
                exclusive: false,
                auto_delete: false,
                no_wait: false,
                arguments: TableView::new(&[]),
            },
        ));
        bytes.extend(method_bytes(
            1,
            &Method::BasicConsume {
                queue: "q",
                consumer_tag: "c",
                no_local: false,
                no_ack: false,
                exclusive: false,
                no_wait: false,
                arguments: TableView::new(&[]),
            },
        ));
        bytes.extend(method_bytes(1, &Method::ConfirmSelect { no_wait: false }));
        for body in [&b""[..], b"one", &[b'x'; 200]] {
            bytes.extend(crate::client::publish_bytes(
                1,
                "",
                "q",
                false,
                &Default::default(),
                body,
            ));
        }
        bytes.extend(method_bytes(
            1,
            &Method::BasicCancel {
                consumer_tag: "none",
                no_wait: false,
            },
        ));
        bytes
    };
    let run = |first: &dyn Fn(&mut Client, &[u8])| {
        let mut client = Server::new().accept();
        first(&mut client, &script());
        client.session.authenticated("guest");
        first(&mut client, &rest());
        let mut out = Vec::new();
        while client
            .session
            .write_into(&mut out, 4096)
            .contains(Status::OUTPUT)
        {}
        out
    };
    let whole = run(&|client, bytes| {
        client.raw(bytes);
    });
    assert!(whole.len() > 800, "{}", whole.len());
    for cut in 0..rest().len() {
        let twice = run(&|client, bytes| {
            let cut = cut.min(bytes.len());
            client.raw(&bytes[..cut]);
            client.raw(&bytes[cut..]);
        });
        assert_eq!(twice, whole, "cut at {cut}");
    }
    let bytewise = run(&|client, bytes| {
        for byte in bytes {
            client.raw(std::slice::from_ref(byte));
        }
    });
    assert_eq!(bytewise, whole);
}
