//! How many there may be: connections, queues, consumers, bytes of a name.

use wherry_amqp::codec::Method;
use wherry_engine::QueueOptions;
use wherry_session::{AccessTable, Limits, VirtualHostLimits};

use crate::client::Server;
use crate::methods::{consume_with, declare, expect_queue, named, purge};

#[test]
fn connections_are_counted_and_limited() {
    let server = Server::with_limits(Limits {
        connections_max: 1,
        ..Limits::default()
    });
    let first = server.connect();
    let mut client = server.accept();
    client.handshake("guest", &[]);
    client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
    client.expect_close(
        530,
        "NOT_ALLOWED - connection refused: node connection limit (1) is reached",
    );
    drop(first);
    server.connect();
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
fn consumers_of_a_channel_are_limited() {
    let server = Server::with_limits(Limits {
        consumers_per_channel_max: 1,
        ..Limits::default()
    });
    let mut client = server.channel();
    client.declare("q");
    client.consume("q", "a", true);
    consume_with(&mut client, "q", "b", false, &[]);
    client.expect_close(
        530,
        "NOT_ALLOWED - reached maximum (1) of consumers per channel",
    );
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
