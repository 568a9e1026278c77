//! Publishing: content, routing, mandatory, refusals, permissions, limits.

use wherry_amqp::codec::{FrameKind, Method, write_content};
use wherry_amqp::session::Status;
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, TableView, Value};
use wherry_session::{AccessTable, Limits, Session as _};

use crate::client::{Client, Server, encoded, method_bytes, publish_bytes};

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

fn declare_exchange(client: &mut Client, exchange: &str, kind: &str, internal: bool) {
    client.send(
        1,
        &Method::ExchangeDeclare {
            exchange,
            kind,
            passive: false,
            durable: false,
            auto_delete: false,
            internal,
            no_wait: false,
            arguments: TableView::new(&[]),
        },
    );
    client.expect(1, &Method::ExchangeDeclareOk {});
}

fn bind(client: &mut Client, queue: &str, exchange: &str, key: &str) {
    client.send(
        1,
        &Method::QueueBind {
            queue,
            exchange,
            routing_key: key,
            no_wait: false,
            arguments: TableView::new(&[]),
        },
    );
    client.expect(1, &Method::QueueBindOk {});
}

#[test]
fn a_message_arrives_as_it_was_sent() {
    let mut client = Server::new().channel();
    client.declare("q");
    declare_exchange(&mut client, "e", "topic", false);
    bind(&mut client, "q", "e", "a.#");
    let properties = Properties {
        content_type: Some(b"text/plain".to_vec()),
        headers: Some([("n", 5)].into_iter().collect()),
        delivery_mode: Some(2),
        priority: Some(3),
        timestamp: Some(12),
        ..Properties::default()
    };
    client.publish_to("e", "a.b", false, &properties, b"seven");
    client.consume("q", "c", true);
    let got = client.delivery();
    assert_eq!(
        got.first.method(),
        Method::BasicDeliver {
            consumer_tag: "c",
            delivery_tag: 1,
            redelivered: false,
            exchange: "e",
            routing_key: "a.b"
        }
    );
    assert_eq!(got.properties, properties);
    assert_eq!(got.body, b"seven");
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
fn methods_of_servers_are_refused() {
    for method in [
        Method::QueueDeclareOk {
            queue: "q",
            message_count: 0,
            consumer_count: 0,
        },
        Method::ChannelCloseOk {},
        Method::ChannelFlowOk { active: true },
        Method::ConnectionOpen { virtual_host: "/" },
    ] {
        let mut client = Server::new().channel();
        client.send(1, &method);
        client.expect_close(503, "COMMAND_INVALID - unimplemented method");
    }
}

#[test]
fn an_unknown_exchange_closes_the_channel_and_what_follows_is_ignored() {
    let mut client = Server::new().channel();
    client.publish_to("none", "q", false, &Properties::default(), &[b'x'; 200_000]);
    client.send(1, &Method::TxSelect {});
    client.expect_channel_close(404, "NOT_FOUND - no exchange 'none' in vhost '/'");
    client.expect_silence();
    client.open(1);
    // A close that crosses ours is answered, and ours is still to be.
    client.publish_to("none", "q", false, &Properties::default(), b"x");
    client.send(
        1,
        &Method::ChannelClose {
            reply_code: 200,
            reply_text: "",
            class_id: 0,
            method_id: 0,
        },
    );
    assert!(matches!(
        client.next().method(),
        Method::ChannelClose { .. }
    ));
    client.expect(1, &Method::ChannelCloseOk {});
    client.send(1, &Method::ChannelCloseOk {});
    client.open(1);
}

#[test]
fn what_may_not_be_published_to_is_refused() {
    let mut client = Server::new().channel();
    declare_exchange(&mut client, "inside", "direct", true);
    client.publish_to("inside", "q", false, &Properties::default(), b"x");
    client.expect_channel_close(
        403,
        "ACCESS_REFUSED - cannot publish to internal exchange 'inside' in vhost '/'",
    );
    client.open(1);
    client.send(
        1,
        &Method::BasicPublish {
            exchange: "",
            routing_key: "q",
            mandatory: false,
            immediate: true,
        },
    );
    client.expect_close(540, "NOT_IMPLEMENTED - immediate=true");
}

#[test]
fn a_mandatory_message_comes_back() {
    let mut client = Server::new().channel();
    let properties = Properties {
        content_type: Some(b"text/x".to_vec()),
        ..Properties::default()
    };
    client.publish_to("amq.direct", "k", true, &properties, b"body");
    let first = client.next();
    assert_eq!(
        first.method(),
        Method::BasicReturn {
            reply_code: 312,
            reply_text: "NO_ROUTE",
            exchange: "amq.direct",
            routing_key: "k"
        }
    );
    let content = client.content(first);
    assert_eq!(
        (content.properties, &*content.body),
        (properties, &b"body"[..])
    );
    client.publish_to("amq.direct", "k", false, &Properties::default(), b"x");
    client.expect_silence();
}

#[test]
fn properties_are_judged() {
    let cases: [(Properties, &str); 6] = [
        (
            Properties {
                user_id: Some(b"bob".to_vec()),
                ..Properties::default()
            },
            "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'",
        ),
        (
            Properties {
                expiration: Some(b"abc".to_vec()),
                ..Properties::default()
            },
            "PRECONDITION_FAILED - invalid expiration 'abc': no_integer",
        ),
        (
            Properties {
                expiration: Some(b"-1".to_vec()),
                ..Properties::default()
            },
            "PRECONDITION_FAILED - invalid expiration '-1': {value_negative,-1}",
        ),
        (
            Properties {
                headers: Some([("CC", "foo")].into_iter().collect()),
                ..Properties::default()
            },
            "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}",
        ),
        (
            Properties {
                headers: Some([("x-deliver-at", -5)].into_iter().collect()),
                ..Properties::default()
            },
            "PRECONDITION_FAILED - invalid x-deliver-at: give milliseconds since 1970, or a timestamp",
        ),
        (
            Properties {
                reply_to: Some(b"amq.rabbitmq.reply-to".to_vec()),
                ..Properties::default()
            },
            "PRECONDITION_FAILED - fast reply consumer does not exist",
        ),
    ];
    let mut client = Server::new().channel();
    client.declare("q");
    for (properties, text) in cases {
        client.publish_to("", "q", false, &properties, b"x");
        client.expect_channel_close(406, text);
        client.open(1);
    }
    let mine = Properties {
        user_id: Some(b"guest".to_vec()),
        ..Properties::default()
    };
    client.publish_to("", "q", false, &mine, b"x");
    client.expect_silence();
}

#[test]
fn an_impersonator_may_name_others() {
    let server = Server::new();
    let mut table = AccessTable::builder();
    table.user("guest", ["impersonator"]);
    table.permission("guest", "/", ".*", ".*", ".*").unwrap();
    server.front.set_access(table.build());
    let mut client = server.channel();
    let bob = Properties {
        user_id: Some(b"bob".to_vec()),
        ..Properties::default()
    };
    client.publish_to("", "q", false, &bob, b"x");
    client.expect_silence();
}

#[test]
fn carbon_copies_go_to_more_queues() {
    let server = Server::new();
    let mut client = server.channel();
    for queue in ["a", "b", "c"] {
        client.declare(queue);
    }
    let keys = |key: &str| Value::Array(vec![Value::from(key)]);
    let properties = Properties {
        headers: Some(
            [("CC", keys("b")), ("BCC", keys("c"))]
                .into_iter()
                .collect(),
        ),
        ..Properties::default()
    };
    client.publish_to("", "a", false, &properties, b"x");
    for queue in ["a", "b", "c"] {
        client.consume(queue, queue, true);
        let got = client.delivery();
        assert_eq!(got.header("CC"), Some(keys("b")));
        assert_eq!(got.header("BCC"), None);
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
fn headers_are_limited() {
    let server = Server::with_limits(Limits {
        header_bytes_max: 100,
        table_depth_max: 2,
        ..Limits::default()
    });
    let mut client = server.channel();
    let with = |headers| Properties {
        headers: Some(headers),
        ..Properties::default()
    };
    let long = with([("a", "x".repeat(100))].into_iter().collect());
    let bytes = long.encode().unwrap().len();
    client.publish_to("", "q", false, &long, b"x");
    client.expect_channel_close(
        406,
        &format!("PRECONDITION_FAILED - properties of {bytes} bytes are over the limit of 100"),
    );
    client.open(1);
    let level = |inner| Table::from_iter([("t", Value::Table(inner))]);
    client.publish_to("", "q", false, &with(level(Table::new())), b"x");
    client.expect_silence();
    client.publish_to("", "q", false, &with(level(level(Table::new()))), b"x");
    client.expect_channel_close(406, "PRECONDITION_FAILED - table of more than 2 levels");
    client.open(1);
    let arguments = level(level(Table::new())).encode().unwrap();
    client.send(
        1,
        &Method::QueueDeclare {
            queue: "q",
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: TableView::new(&arguments),
        },
    );
    client.expect_channel_close(406, "PRECONDITION_FAILED - table of more than 2 levels");
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
fn permissions_are_asked_and_seen_when_they_change() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.publish("q", b"x");
    client.expect_silence();
    let mut table = AccessTable::builder();
    table
        .permission("guest", "/", ".*", "^amq\\.", ".*")
        .unwrap();
    table
        .topic_permission("guest", "/", "amq.topic", "^free\\.", ".*")
        .unwrap();
    server.front.set_access(table.build());
    client.publish("q", b"x");
    client.expect_silence(); // the default exchange is checked as amq.default
    client.publish_to(
        "amq.topic",
        "free.for.all",
        false,
        &Properties::default(),
        b"x",
    );
    client.expect_silence();
    client.publish_to("amq.topic", "secret", false, &Properties::default(), b"x");
    client.expect_channel_close(
        403,
        "ACCESS_REFUSED - access to topic 'secret' in exchange 'amq.topic' in vhost '/' refused for user 'guest'",
    );
    client.open(1);
    let mut table = AccessTable::builder();
    table.permission("guest", "/", ".*", "^$", ".*").unwrap();
    server.front.set_access(table.build());
    client.publish("q", b"x");
    client.expect_channel_close(
        403,
        "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'guest'",
    );
}

#[test]
fn an_exchange_that_was_deleted_is_not_found() {
    let server = Server::new();
    let mut client = server.channel();
    declare_exchange(&mut client, "e", "direct", false);
    client.publish_to("e", "k", false, &Properties::default(), b"x");
    server.host().delete_exchange("e", false).unwrap();
    client.publish_to("e", "k", false, &Properties::default(), b"x");
    client.expect_channel_close(404, "NOT_FOUND - no exchange 'e' in vhost '/'");
}

#[test]
fn a_message_may_be_delayed_to_a_time() {
    use wherry_engine::BrokerOptions;
    use wherry_engine::clock::Clock;
    let clock = Clock::virtual_at(1_000_000_000_000);
    let options = BrokerOptions {
        clock,
        ..BrokerOptions::default()
    };
    let server = Server::with(options, Limits::default());
    let mut client = server.channel();
    client.declare("q");
    client.consume("q", "c", true);
    let at = |value: Value| Properties {
        headers: Some([("x-deliver-at", value)].into_iter().collect()),
        ..Properties::default()
    };
    client.publish_to("", "q", false, &at(Value::I64(1_005_000)), b"later");
    client.publish_to("", "q", false, &at(Value::Timestamp(1_003)), b"soon");
    let delay = Properties {
        headers: Some([("x-delay", 1000)].into_iter().collect()),
        ..Properties::default()
    };
    client.publish_to("", "q", false, &delay, b"first");
    client.expect_silence();
    let rings = client.bell.rings();
    for (seconds, body) in [(1, "first"), (2, "soon"), (2, "later")] {
        server
            .front
            .broker()
            .advance(std::time::Duration::from_secs(seconds))
            .unwrap();
        assert_eq!(client.bodies(), [body]);
    }
    assert!(
        client.bell.rings() >= rings + 3,
        "the server was told each time"
    );
}

#[test]
fn a_publisher_is_blocked_and_let_go() {
    use wherry_session::Alarms;
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    server.front.set_alarms(Alarms {
        memory: true,
        disk: false,
    });
    // Who does not publish is not blocked.
    client.send(1, &Method::TxSelect {});
    client.expect(1, &Method::TxSelectOk {});
    client.open(2);
    let status = client.raw(&publish_bytes(
        2,
        "",
        "q",
        false,
        &Properties::default(),
        b"one",
    ));
    assert!(status.contains(Status::PAUSE_READING | Status::WAITS_FOR_ROOM | Status::OUTPUT));
    client.expect(
        0,
        &Method::ConnectionBlocked {
            reason: "low on memory",
        },
    );
    assert!(client.session.is_blocked());
    client.raw(&publish_bytes(
        2,
        "",
        "q",
        false,
        &Properties::default(),
        b"two",
    ));
    client.send(3, &Method::ChannelOpen {});
    client.expect_silence(); // told once, and nothing behind it is worked off
    server.front.set_alarms(Alarms {
        memory: false,
        disk: true,
    });
    assert!(client.session.resume().contains(Status::PAUSE_READING));
    client.expect_silence();
    server.front.set_alarms(Alarms::default());
    client.status = client.session.resume();
    assert!(!client.status.contains(Status::PAUSE_READING));
    client.expect(0, &Method::ConnectionUnblocked {});
    client.expect(3, &Method::ChannelOpenOk {});
    assert_eq!(server.host().queue("q").unwrap().message_count(), 2);
}

#[test]
fn a_client_that_does_not_know_blocked_is_not_told() {
    use wherry_session::Alarms;
    let server = Server::new();
    let mut client = server.connect_as("guest", &[]);
    client.open(1);
    server.front.set_alarms(Alarms {
        memory: true,
        disk: true,
    });
    client.publish("q", b"x");
    client.expect_silence();
    assert!(client.session.is_blocked());
    server.front.set_alarms(Alarms::default());
    client.session.resume();
    client.expect_silence();
    assert!(!client.session.is_blocked());
}

#[test]
fn a_full_memory_pauses_and_an_empty_one_goes_on() {
    use wherry_engine::{BrokerOptions, MEMORY_BYTES_MIN};
    let options = BrokerOptions {
        memory_bytes_max: Some(MEMORY_BYTES_MIN),
        ..BrokerOptions::default()
    };
    let server = Server::with(options, Limits::default());
    let mut client = server.channel();
    client.declare("q");
    let mut sent = 0;
    while !client.status.contains(Status::WAITS_FOR_ROOM) {
        client.publish("q", &[0; 100_000]);
        sent += 1;
        assert!(sent < 10_000);
    }
    let mut consumer = server.channel();
    consumer.consume("q", "c", true);
    assert_eq!(consumer.deliveries().len(), sent - 1);
    client.status = client.session.resume();
    assert!(!client.status.contains(Status::PAUSE_READING));
    assert_eq!(consumer.deliveries().len(), 1);
}

#[test]
fn what_waits_behind_a_pause_is_bounded() {
    use wherry_session::Alarms;
    let server = Server::with_limits(Limits {
        input_bytes_max: 200_000,
        ..Limits::default()
    });
    let mut client = server.channel();
    server.front.set_alarms(Alarms {
        memory: true,
        disk: false,
    });
    client.publish("q", b"x");
    client.expect(
        0,
        &Method::ConnectionBlocked {
            reason: "low on memory",
        },
    );
    let bytes = publish_bytes(1, "", "q", false, &Properties::default(), &[0; 100_000]);
    client.raw(&bytes);
    client.raw(&bytes);
    let got = client.next();
    assert!(
        matches!(
            got.method(),
            Method::ConnectionClose {
                reply_code: 506,
                ..
            }
        ),
        "{:?}",
        got.method()
    );
}

#[test]
fn who_does_not_read_its_answers_is_not_read_from() {
    let server = Server::with_limits(Limits {
        output_bytes_max: 100_000,
        ..Limits::default()
    });
    let mut client = server.channel();
    let mut sent = 0;
    while !client.status.contains(Status::PAUSE_READING) {
        client.publish_to("", "none", true, &Properties::default(), &[0; 10_000]);
        sent += 1;
        assert!(sent < 100);
    }
    // What was sent before the server stopped reading is worked off when the answers are taken.
    client.publish_to("", "none", true, &Properties::default(), b"last");
    let mut returned = 0;
    while let Some(got) = client.try_next() {
        returned += usize::from(got.kind == FrameKind::Method);
    }
    assert_eq!(returned, sent + 1);
    assert!(!client.status.contains(Status::PAUSE_READING));
}

#[test]
fn delayed_exchanges_and_alternates_route() {
    let mut client = Server::new().channel();
    client.declare("q");
    let arguments = encoded([("x-delayed-type", Value::from("direct"))]);
    let declare = |name: &'static str, kind: &'static str, arguments: &[u8]| {
        method_bytes(
            1,
            &Method::ExchangeDeclare {
                exchange: name,
                kind,
                passive: false,
                durable: false,
                auto_delete: false,
                internal: false,
                no_wait: true,
                arguments: TableView::new(arguments),
            },
        )
    };
    client.raw(&declare("later", "x-delayed-message", &arguments));
    client.raw(&declare("net", "fanout", &[]));
    let alternate = encoded([("alternate-exchange", Value::from("net"))]);
    client.raw(&declare("first", "direct", &alternate));
    client.expect_silence();
    bind(&mut client, "q", "later", "k");
    bind(&mut client, "q", "net", "");
    client.publish_to("later", "k", true, &Properties::default(), b"1");
    client.publish_to("first", "nobody", true, &Properties::default(), b"2");
    client.consume("q", "c", true);
    assert_eq!(client.bodies(), ["1", "2"]);
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
