//! Who may do what, and what becomes of who may no longer.

use wherry_amqp::codec::Method;
use wherry_amqp::session::Status;
use wherry_engine::properties::Properties;
use wherry_engine::table::{TableView, Value};
use wherry_session::{AccessTable, Session as _};

use crate::client::{Server, encoded};
use crate::methods::{
    Queue, bind, bind_exchange, declare, delete_exchange, delete_queue, exchange, expect_queue,
    named, passive_exchange, purge, refused, unbind,
};

#[test]
fn the_table_of_permissions_decides_who_enters() {
    let server = Server::new();
    let mut table = AccessTable::builder();
    table.user("nobody", ["monitoring"]);
    server.front.set_access(table.build());
    let mut client = server.accept();
    client.handshake("nobody", &[]);
    client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
    client.expect_close(
        530,
        "NOT_ALLOWED - access to vhost '/' refused for user 'nobody'",
    );
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
fn who_may_not_read_any_more_consumes_no_longer() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("public");
    client.declare("secret");
    client.consume("public", "p", false);
    client.session.tick(0.0);
    client.send(2, &Method::ChannelOpen {});
    assert_eq!(client.next().method(), Method::ChannelOpenOk {});
    client.consume_on(2, "secret", "s", false);
    let mut table = AccessTable::builder();
    table.user("guest", [""; 0]);
    table
        .permission("guest", "/", ".*", ".*", "^public$")
        .unwrap();
    server.front.set_access(table.build());
    client.session.tick(1.0);
    client.expect_channel_close(
        403,
        "ACCESS_REFUSED - access to queue 'secret' in vhost '/' refused for user 'guest'",
    );
    let consumers = |queue| server.host().queue(queue).unwrap().consumer_count();
    assert_eq!((consumers("public"), consumers("secret")), (1, 0));
    client.session.tick(2.0);
    client.expect_silence();
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
