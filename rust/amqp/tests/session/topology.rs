//! Exchanges, queues and bindings: declarations, permissions, and the words of refusals. More single cases against RabbitMQ's
//! recorded answers are in tests/differential.

use wherry_amqp::codec::Method;
use wherry_amqp::session::Status;
use wherry_engine::QueueOptions;
use wherry_engine::properties::Properties;
use wherry_engine::table::{TableView, Value};
use wherry_session::{AccessTable, Limits, Session as _, UserLimits, VirtualHostLimits};

use crate::client::{Client, Server, encoded};

#[derive(Clone, Copy, Default)]
struct Queue<'a> {
    name: &'a str,
    passive: bool,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    no_wait: bool,
    arguments: &'a [u8],
}

fn declare(client: &mut Client, queue: Queue<'_>) {
    client.send(
        1,
        &Method::QueueDeclare {
            queue: queue.name,
            passive: queue.passive,
            durable: queue.durable,
            exclusive: queue.exclusive,
            auto_delete: queue.auto_delete,
            no_wait: queue.no_wait,
            arguments: TableView::new(queue.arguments),
        },
    );
}

fn named(name: &str) -> Queue<'_> {
    Queue {
        name,
        ..Queue::default()
    }
}

fn expect_queue(client: &mut Client, name: &str, messages: u32, consumers: u32) {
    client.expect(
        1,
        &Method::QueueDeclareOk {
            queue: name,
            message_count: messages,
            consumer_count: consumers,
        },
    );
}

fn exchange<'a>(name: &'a str, kind: &'a str, arguments: &'a [u8]) -> Method<'a> {
    Method::ExchangeDeclare {
        exchange: name,
        kind,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: TableView::new(arguments),
    }
}

fn passive_exchange(name: &str) -> Method<'_> {
    Method::ExchangeDeclare {
        exchange: name,
        kind: "",
        passive: true,
        durable: false,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: TableView::new(&[]),
    }
}

fn delete_exchange(name: &str, if_unused: bool) -> Method<'_> {
    Method::ExchangeDelete {
        exchange: name,
        if_unused,
        no_wait: false,
    }
}

fn delete_queue(name: &str, if_unused: bool, if_empty: bool) -> Method<'_> {
    Method::QueueDelete {
        queue: name,
        if_unused,
        if_empty,
        no_wait: false,
    }
}

fn bind<'a>(queue: &'a str, source: &'a str, key: &'a str, arguments: &'a [u8]) -> Method<'a> {
    Method::QueueBind {
        queue,
        exchange: source,
        routing_key: key,
        no_wait: false,
        arguments: TableView::new(arguments),
    }
}

fn unbind<'a>(queue: &'a str, source: &'a str, key: &'a str) -> Method<'a> {
    Method::QueueUnbind {
        queue,
        exchange: source,
        routing_key: key,
        arguments: TableView::new(&[]),
    }
}

fn bind_exchange<'a>(destination: &'a str, source: &'a str) -> Method<'a> {
    Method::ExchangeBind {
        destination,
        source,
        routing_key: "k",
        no_wait: false,
        arguments: TableView::new(&[]),
    }
}

fn unbind_exchange<'a>(destination: &'a str, source: &'a str) -> Method<'a> {
    Method::ExchangeUnbind {
        destination,
        source,
        routing_key: "k",
        no_wait: false,
        arguments: TableView::new(&[]),
    }
}

fn purge(name: &str) -> Method<'_> {
    Method::QueuePurge {
        queue: name,
        no_wait: false,
    }
}

/// Each method is refused on a channel of its own, with this code and text.
fn refused(client: &mut Client, cases: &[(Method<'_>, u16, &str)]) {
    for (method, code, text) in cases {
        client.send(1, method);
        client.expect_channel_close(*code, text);
        client.open(1);
    }
}

#[test]
fn a_queue_is_declared_found_and_deleted() {
    let server = Server::new();
    let mut client = server.channel();
    declare(&mut client, named("q"));
    expect_queue(&mut client, "q", 0, 0);
    client.publish("q", b"x");
    client.publish("q", b"y");
    client.consume("q", "c", false);
    client.delivery();
    client.delivery();
    declare(&mut client, named("q"));
    expect_queue(&mut client, "q", 0, 1);
    let queue = server.host().queue("q").unwrap();
    assert_eq!((queue.message_count(), queue.consumer_count()), (0, 1));
    declare(
        &mut client,
        Queue {
            passive: true,
            ..named("q")
        },
    );
    expect_queue(&mut client, "q", 0, 1);
    client.send(1, &delete_queue("q", false, false));
    client.expect(1, &Method::QueueDeleteOk { message_count: 0 });
    client.expect(
        1,
        &Method::BasicCancel {
            consumer_tag: "c",
            no_wait: true,
        },
    );
    client.send(1, &delete_queue("q", false, false));
    client.expect(1, &Method::QueueDeleteOk { message_count: 0 });
}

#[test]
fn the_broker_names_a_queue_and_the_channel_remembers_it() {
    let server = Server::new();
    let mut client = server.channel();
    declare(&mut client, named(""));
    let answer = client.next();
    let Method::QueueDeclareOk { queue, .. } = answer.method() else {
        panic!();
    };
    assert!(queue.starts_with("amq.gen-"), "{queue}");
    // Neither queue nor key: the queue by its own name.
    client.send(1, &bind("", "amq.direct", "", &[]));
    client.expect(1, &Method::QueueBindOk {});
    client.publish_to("amq.direct", queue, true, &Properties::default(), b"x");
    client.expect_silence();
    client.send(1, &purge(""));
    client.expect(1, &Method::QueuePurgeOk { message_count: 1 });
    client.send(1, &delete_queue("", false, false));
    client.expect(1, &Method::QueueDeleteOk { message_count: 0 });
}

#[test]
fn without_a_wish_for_an_answer_there_is_none() {
    let mut client = Server::new().channel();
    declare(
        &mut client,
        Queue {
            no_wait: true,
            ..named("q")
        },
    );
    client.send(
        1,
        &Method::QueueBind {
            queue: "q",
            exchange: "amq.fanout",
            routing_key: "",
            no_wait: true,
            arguments: TableView::new(&[]),
        },
    );
    client.send(
        1,
        &Method::QueuePurge {
            queue: "q",
            no_wait: true,
        },
    );
    client.send(1, &Method::ConfirmSelect { no_wait: true });
    client.send(
        1,
        &Method::QueueDelete {
            queue: "q",
            if_unused: false,
            if_empty: false,
            no_wait: true,
        },
    );
    client.expect_silence();
}

#[test]
fn line_ends_are_taken_out_of_names() {
    let mut client = Server::new().channel();
    declare(&mut client, named("a\r\nb"));
    expect_queue(&mut client, "ab", 0, 0);
}

#[test]
fn queues_are_refused_in_rabbitmqs_words() {
    let mut client = Server::new().channel();
    client.declare("q");
    let ttl = encoded([("x-message-ttl", Value::I32(-1))]);
    let priority = encoded([("x-max-priority", Value::I32(10))]);
    let passive = |name| Method::QueueDeclare {
        queue: name,
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: TableView::new(&[]),
    };
    let with = |name, durable, arguments| Method::QueueDeclare {
        queue: name,
        passive: false,
        durable,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: TableView::new(arguments),
    };
    refused(
        &mut client,
        &[
            (
                passive("none"),
                404,
                "NOT_FOUND - no queue 'none' in vhost '/'",
            ),
            (passive(""), 404, "NOT_FOUND - no queue '' in vhost '/'"),
            (
                with("amq.mine", false, &[]),
                403,
                "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
            ),
            (
                with("q", true, &[]),
                406,
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
            ),
            (
                with("q", false, &priority),
                406,
                "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received the value '10' of type 'signedint' but current is none",
            ),
            (
                with("new", false, &ttl),
                406,
                "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'new' in vhost '/': {value_negative,-1}",
            ),
            (
                purge("none"),
                404,
                "NOT_FOUND - no queue 'none' in vhost '/'",
            ),
        ],
    );
    let stream = encoded([("x-queue-type", Value::from("stream"))]);
    declare(
        &mut client,
        Queue {
            durable: true,
            arguments: &stream,
            ..named("s")
        },
    );
    client.expect_close(540, "NOT_IMPLEMENTED - stream queues are not supported yet");
}

#[test]
fn queues_in_use_or_not_empty_can_be_spared() {
    let mut client = Server::new().channel();
    client.declare("q");
    client.publish("q", b"x");
    refused(
        &mut client,
        &[(
            delete_queue("q", false, true),
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
        )],
    );
    client.open(2);
    client.consume_on(2, "q", "c", true);
    client.delivery();
    refused(
        &mut client,
        &[(
            delete_queue("q", true, false),
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
        )],
    );
}

#[test]
fn another_connections_exclusive_queue_is_locked() {
    let server = Server::new();
    let mut owner = server.channel();
    declare(
        &mut owner,
        Queue {
            exclusive: true,
            ..named("mine")
        },
    );
    expect_queue(&mut owner, "mine", 0, 0);
    let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.";
    let plain = |passive, exclusive| Method::QueueDeclare {
        queue: "mine",
        passive,
        durable: false,
        exclusive,
        auto_delete: false,
        no_wait: false,
        arguments: TableView::new(&[]),
    };
    let mut other = server.channel();
    refused(
        &mut other,
        &[
            (plain(true, false), 405, locked),
            (plain(false, false), 405, locked),
            (plain(false, true), 405, locked),
            (delete_queue("mine", false, false), 405, locked),
            (purge("mine"), 405, locked),
            (bind("mine", "amq.direct", "k", &[]), 405, locked),
            (unbind("mine", "amq.direct", "k"), 405, locked),
            (
                Method::BasicGet {
                    queue: "mine",
                    no_ack: true,
                },
                405,
                locked,
            ),
        ],
    );
    // Publishing is nobody's privilege.
    other.publish("mine", b"x");
    other.expect_silence();
    // The owner itself may not make it another.
    refused(&mut owner, &[(plain(false, false), 405, locked)]);
    owner.session.lost();
    refused(
        &mut other,
        &[(
            plain(true, false),
            404,
            "NOT_FOUND - no queue 'mine' in vhost '/'",
        )],
    );
}

#[test]
fn exchanges_are_declared_bound_and_deleted() {
    let server = Server::new();
    let mut client = server.channel();
    for kind in ["direct", "fanout", "topic", "headers"] {
        client.send(1, &exchange(kind, kind, &[]));
        client.expect(1, &Method::ExchangeDeclareOk {});
        client.send(1, &passive_exchange(kind));
        client.expect(1, &Method::ExchangeDeclareOk {});
    }
    for _ in 0..2 {
        client.send(1, &bind_exchange("fanout", "direct"));
        client.expect(1, &Method::ExchangeBindOk {});
    }
    client.send(1, &bind_exchange("direct", "fanout")); // in a circle
    client.expect(1, &Method::ExchangeBindOk {});
    client.declare("q");
    client.send(1, &bind("q", "fanout", "", &[]));
    client.expect(1, &Method::QueueBindOk {});
    client.publish_to("direct", "k", true, &Properties::default(), b"once");
    client.consume("q", "c", true);
    assert_eq!(client.bodies(), ["once"]);
    for _ in 0..2 {
        client.send(1, &unbind_exchange("fanout", "direct"));
        client.expect(1, &Method::ExchangeUnbindOk {});
        client.send(1, &unbind("q", "fanout", ""));
        client.expect(1, &Method::QueueUnbindOk {});
    }
    refused(
        &mut client,
        &[(
            delete_exchange("fanout", true),
            406,
            "PRECONDITION_FAILED - exchange 'fanout' in vhost '/' in use",
        )],
    );
    for _ in 0..2 {
        client.send(1, &delete_exchange("fanout", false));
        client.expect(1, &Method::ExchangeDeleteOk {});
    }
}

#[test]
fn exchanges_are_refused_in_rabbitmqs_words() {
    let mut client = Server::new().channel();
    client.declare("q");
    let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
    let some = encoded([("x-match", Value::from("some"))]);
    let number = encoded([("x-match", Value::I32(5))]);
    refused(
        &mut client,
        &[
            (exchange("", "direct", &[]), 403, default),
            (passive_exchange(""), 403, default),
            (delete_exchange("", false), 403, default),
            (bind("q", "", "k", &[]), 403, default),
            (unbind("q", "", "k"), 403, default),
            (bind_exchange("", "amq.direct"), 403, default),
            (bind_exchange("amq.direct", ""), 403, default),
            (unbind_exchange("amq.direct", ""), 403, default),
            (
                exchange("amq.mine", "direct", &[]),
                403,
                "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
            ),
            (
                delete_exchange("amq.direct", false),
                403,
                "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed",
            ),
            (
                Method::ExchangeDeclare {
                    exchange: "amq.direct",
                    kind: "fanout",
                    passive: false,
                    durable: true,
                    auto_delete: false,
                    internal: false,
                    no_wait: false,
                    arguments: TableView::new(&[]),
                },
                406,
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'fanout' but current is 'direct'",
            ),
            (
                passive_exchange("none"),
                404,
                "NOT_FOUND - no exchange 'none' in vhost '/'",
            ),
            (
                bind("q", "none", "k", &[]),
                404,
                "NOT_FOUND - no exchange 'none' in vhost '/'",
            ),
            (
                bind("none", "none", "k", &[]),
                404,
                "NOT_FOUND - no exchange 'none' in vhost '/'",
            ),
            (
                bind("none", "amq.direct", "k", &[]),
                404,
                "NOT_FOUND - no queue 'none' in vhost '/'",
            ),
            (
                bind("", "amq.direct", "k", &[]),
                404,
                "NOT_FOUND - no previously declared queue",
            ),
            (
                bind("q", "amq.headers", "", &some),
                406,
                "PRECONDITION_FAILED - Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x",
            ),
            (
                bind("q", "amq.headers", "", &number),
                406,
                "PRECONDITION_FAILED - Invalid x-match field type signedint (value 5); expected longstr",
            ),
            (
                bind_exchange("none", "amq.direct"),
                404,
                "NOT_FOUND - no exchange 'none' in vhost '/'",
            ),
            (
                exchange("e", "strange", &[]),
                406,
                "PRECONDITION_FAILED - unknown exchange type 'strange'",
            ),
        ],
    );
}

#[test]
fn a_binding_that_is_not_there_is_removed_already() {
    let mut client = Server::new().channel();
    client.declare("q");
    for method in [
        unbind("q", "amq.direct", "none"),
        unbind("none", "amq.direct", "k"),
        unbind("q", "none", "k"),
    ] {
        client.send(1, &method);
        client.expect(1, &Method::QueueUnbindOk {});
    }
    client.send(1, &unbind_exchange("none", "amq.direct"));
    client.expect(1, &Method::ExchangeUnbindOk {});
}

#[test]
fn every_operation_needs_its_permission() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.send(1, &exchange("e", "topic", &[]));
    client.expect(1, &Method::ExchangeDeclareOk {});
    let allow = |configure: &str, write: &str, read: &str| {
        let mut table = AccessTable::builder();
        table
            .permission("guest", "/", configure, write, read)
            .unwrap();
        table
            .topic_permission("guest", "/", "e", ".*", "^open")
            .unwrap();
        server.front.set_access(table.build());
    };
    let queue = "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'guest'";
    let of_exchange =
        "ACCESS_REFUSED - access to exchange 'e' in vhost '/' refused for user 'guest'";
    let new = Method::QueueDeclare {
        queue: "q",
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: TableView::new(&[]),
    };
    let consume = Method::BasicConsume {
        queue: "q",
        consumer_tag: "c",
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: TableView::new(&[]),
    };
    let get = Method::BasicGet {
        queue: "q",
        no_ack: true,
    };
    allow("^$", ".*", ".*");
    refused(
        &mut client,
        &[
            (new, 403, queue),
            (delete_queue("q", false, false), 403, queue),
            (exchange("e", "topic", &[]), 403, of_exchange),
            (delete_exchange("e", false), 403, of_exchange),
        ],
    );
    allow(".*", ".*", "^$");
    refused(
        &mut client,
        &[
            (consume, 403, queue),
            (get, 403, queue),
            (purge("q"), 403, queue),
            (bind("q", "e", "k", &[]), 403, of_exchange),
            (bind_exchange("amq.direct", "e"), 403, of_exchange),
        ],
    );
    allow(".*", "^$", ".*");
    refused(
        &mut client,
        &[
            (bind("q", "e", "k", &[]), 403, queue),
            (unbind("q", "e", "k"), 403, queue),
            (bind_exchange("e", "amq.direct"), 403, of_exchange),
            // Before it is said what nobody may.
            (bind("q", "", "k", &[]), 403, queue),
            (bind_exchange("e", ""), 403, of_exchange),
        ],
    );
    allow(".*", ".*", ".*");
    client.send(1, &bind("q", "e", "open.#", &[]));
    client.expect(1, &Method::QueueBindOk {});
    refused(
        &mut client,
        &[(
            bind("q", "e", "secret", &[]),
            403,
            "ACCESS_REFUSED - access to topic 'secret' in exchange 'e' in vhost '/' refused for user 'guest'",
        )],
    );
    // Whoever lets messages go somewhere must be allowed to put them there, and to take them.
    let dead = encoded([("x-dead-letter-exchange", Value::from("e"))]);
    let alternate = encoded([("alternate-exchange", Value::from("e"))]);
    let dying = Method::QueueDeclare {
        queue: "dying",
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: TableView::new(&dead),
    };
    allow(".*", "^$", ".*");
    refused(
        &mut client,
        &[
            (dying, 403, of_exchange),
            (exchange("first", "direct", &alternate), 403, of_exchange),
        ],
    );
    allow(".*", ".*", "^$");
    refused(
        &mut client,
        &[
            (
                dying,
                403,
                "ACCESS_REFUSED - access to queue 'dying' in vhost '/' refused for user 'guest'",
            ),
            (
                exchange("first", "direct", &alternate),
                403,
                "ACCESS_REFUSED - access to exchange 'first' in vhost '/' refused for user 'guest'",
            ),
        ],
    );
    // To ask whether something is there needs no permission, as in RabbitMQ 3.10.
    allow("^$", "^$", "^$");
    declare(
        &mut client,
        Queue {
            passive: true,
            ..named("q")
        },
    );
    expect_queue(&mut client, "q", 0, 0);
    client.send(1, &passive_exchange("e"));
    client.expect(1, &Method::ExchangeDeclareOk {});
}

#[test]
fn queues_of_a_virtual_host_are_limited() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("one");
    let mut table = AccessTable::builder();
    table.permission("guest", "/", ".*", ".*", ".*").unwrap();
    table.virtual_host_limits(
        "/",
        VirtualHostLimits {
            queues_max: Some(1),
            ..VirtualHostLimits::default()
        },
    );
    server.front.set_access(table.build());
    client.declare("one"); // it is there
    declare(&mut client, named("two"));
    client.expect_channel_close(
        406,
        "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost '/' (1) is reached",
    );
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let server = Server::new();
    let mut client = server.channel();
    declare(
        &mut client,
        Queue {
            auto_delete: true,
            ..named("q")
        },
    );
    expect_queue(&mut client, "q", 0, 0);
    client.publish("q", b"x");
    client.consume("q", "c", false);
    client.delivery();
    client.send(
        1,
        &Method::BasicCancel {
            consumer_tag: "c",
            no_wait: false,
        },
    );
    client.expect(1, &Method::BasicCancelOk { consumer_tag: "c" });
    assert!(server.host().queue("q").is_err());
    client.ack(1, false); // gone with it
    client.expect_silence();
}

#[test]
fn channels_are_limited_and_opened_once() {
    let mut client = Server::new().accept();
    client.greet("guest", "secret", &[]);
    client.session.authenticated("guest");
    client.next();
    client.send(
        0,
        &Method::ConnectionTuneOk {
            channel_max: 2,
            frame_max: 4096,
            heartbeat: 0,
        },
    );
    client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
    client.next();
    client.open(1);
    client.open(2);
    let mut third = client;
    third.send(3, &Method::ChannelOpen {});
    third.expect_close(
        530,
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
    );

    let mut client = Server::with_limits(Limits {
        channels_per_connection_max: 1,
        ..Limits::default()
    })
    .channel();
    client.send(2, &Method::ChannelOpen {});
    client.expect_close(
        530,
        "NOT_ALLOWED - number of channels opened (1) has reached the negotiated channel_max (1)",
    );

    // A user's limit. No method is named for any of them.
    let server = Server::new();
    let mut client = server.channel();
    let mut table = AccessTable::builder();
    let one = UserLimits {
        channels_max: Some(1),
        ..UserLimits::default()
    };
    table.user_limits("guest", one);
    server.front.set_access(table.build());
    client.send(2, &Method::ChannelOpen {});
    let refused = client.next();
    assert_eq!(
        refused.method(),
        Method::ConnectionClose {
            reply_code: 530,
            reply_text: "NOT_ALLOWED - number of channels opened for user 'guest' has reached the maximum allowed user limit of (1)",
            class_id: 0,
            method_id: 0,
        }
    );

    // How many, not which.
    let mut client = Server::new().channel();
    client.open(65_535);
    client.send(65_535, &Method::ChannelOpen {});
    client.expect_close(504, "CHANNEL_ERROR - second 'channel.open' seen");

    let mut client = Server::new().channel();
    client.send(1, &Method::ChannelOpen {});
    client.expect_close(504, "CHANNEL_ERROR - second 'channel.open' seen");

    let mut client = Server::new().channel();
    client.send(2, &Method::TxSelect {});
    client.expect_close(504, "CHANNEL_ERROR - expected 'channel.open'");
}

#[test]
fn small_things_are_answered() {
    let mut client = Server::new().channel();
    client.send(1, &Method::ChannelFlow { active: true });
    client.expect(1, &Method::ChannelFlowOk { active: true });
    client.send(
        1,
        &Method::AccessRequest {
            realm: "/data",
            exclusive: false,
            passive: true,
            active: true,
            write: true,
            read: true,
        },
    );
    client.expect(1, &Method::AccessRequestOk { ticket: 1 });
    client.send(1, &Method::ChannelFlow { active: false });
    client.expect_close(540, "NOT_IMPLEMENTED - active=false");
}

#[test]
fn who_is_deleted_has_to_go() {
    let server = Server::new();
    server.front.broker().add_virtual_host("other").unwrap();
    let mut table = AccessTable::builder();
    table.permission("guest", "/", ".*", ".*", ".*").unwrap();
    table
        .permission("guest", "other", ".*", ".*", ".*")
        .unwrap();
    server.front.set_access(table.build());
    let mut client = server.accept();
    client.handshake("guest", &[]);
    client.send(
        0,
        &Method::ConnectionOpen {
            virtual_host: "other",
        },
    );
    client.next();
    client.session.tick(0.0);
    server.front.broker().delete_virtual_host("other").unwrap();
    client.session.tick(1.0);
    client.expect_close(320, "CONNECTION_FORCED - vhost 'other' is deleted");

    let mut client = server.channel();
    let mut table = AccessTable::builder();
    table.permission("other", "/", ".*", ".*", ".*").unwrap();
    server.front.set_access(table.build());
    client.session.tick(0.0);
    client.expect_close(320, "CONNECTION_FORCED - user 'guest' is deleted");
    assert!(client.status.contains(Status::CLOSE));
}

#[test]
fn names_of_255_bytes_are_fine() {
    let server = Server::new();
    let long = "q".repeat(255);
    let mut client = server.channel();
    declare(&mut client, named(&long));
    expect_queue(&mut client, &long, 0, 0);
    client.publish(&long, b"x");
    client.consume(&long, &long.replace('q', "c"), true);
    assert_eq!(client.bodies(), ["x"]);
    server
        .host()
        .declare_queue(
            &long.replace('q', "e"),
            QueueOptions {
                exclusive: Some(1),
                ..QueueOptions::default()
            },
        )
        .unwrap();
    client.send(1, &purge(&long.replace('q', "e")));
    let got = client.next();
    let Method::ChannelClose { reply_text, .. } = got.method() else {
        panic!();
    };
    assert!(
        reply_text.len() == 255 && reply_text.ends_with("..."),
        "{reply_text}"
    );
}
