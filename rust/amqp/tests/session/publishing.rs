//! Publishing: routing, mandatory, properties, refusals.

use wherry_amqp::codec::Method;
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, TableView, Value};
use wherry_session::{AccessTable, Limits};

use crate::client::{Client, Server, encoded, method_bytes};

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
