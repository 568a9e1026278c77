//! Consumers: turns, cancelling, exclusiveness, priorities.

use wherry_amqp::codec::Method;
use wherry_amqp::session::Status;
use wherry_engine::QueueOptions;
use wherry_engine::properties::Properties;
use wherry_engine::table::{TableView, Value};
use wherry_session::Session as _;

use crate::client::{Server, encoded, publish_bytes};
use crate::direct_reply::REPLY_TO;
use crate::methods::{cancel, consume_with, get};

#[test]
fn a_consumer_is_told_of_what_comes_later() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.consume("q", "c", true);
    client.expect_silence();
    let rings = client.bell.rings();
    let mut other = server.channel();
    other.publish("q", b"1");
    assert_eq!(client.bell.rings(), rings + 1);
    other.publish("q", b"2");
    assert_eq!(client.bell.rings(), rings + 1, "once until it has looked");
    assert_eq!(client.bodies(), ["1", "2"]);
    other.publish("q", b"3");
    assert_eq!(client.bell.rings(), rings + 2);
    assert_eq!(client.bodies(), ["3"]);
}

#[test]
fn consumers_of_a_queue_take_turns() {
    let server = Server::new();
    let mut first = server.channel();
    first.declare("q");
    first.consume("q", "c", true);
    let mut second = server.channel();
    second.consume("q", "c", true);
    let mut publisher = server.channel();
    for i in 0..6 {
        publisher.publish("q", i.to_string().as_bytes());
    }
    let (mut a, mut b) = (first.bodies(), second.bodies());
    a.extend(first.bodies());
    b.extend(second.bodies());
    assert_eq!((a.len(), b.len()), (3, 3), "{a:?} {b:?}");
}

#[test]
fn queues_of_a_connection_take_turns() {
    let mut client = Server::new().channel();
    for queue in ["a", "b"] {
        client.declare(queue);
    }
    for i in 0..200 {
        client.publish(if i < 150 { "a" } else { "b" }, b"x");
    }
    for queue in ["a", "b"] {
        client.send(
            1,
            &Method::BasicConsume {
                queue,
                consumer_tag: queue,
                no_local: false,
                no_ack: true,
                exclusive: false,
                no_wait: true,
                arguments: TableView::new(&[]),
            },
        );
    }
    let all = client.deliveries();
    assert_eq!(all.len(), 200);
    let first_b = all.iter().position(|c| c.deliver().0 == "b").unwrap();
    assert!(first_b <= 64, "{first_b}");
}

#[test]
fn a_cancelled_consumer_gets_nothing_more_and_can_settle_what_it_has() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.publish("q", b"1");
    client.consume("q", "c", false);
    client.delivery();
    cancel(&mut client, "c");
    client.expect(1, &Method::BasicCancelOk { consumer_tag: "c" });
    client.publish("q", b"2");
    client.expect_silence();
    let statistics = server.host().queue("q").unwrap().statistics();
    assert_eq!(
        (statistics.consumers, statistics.unacked, statistics.ready),
        (0, 1, 1)
    );
    client.ack(1, false);
    assert_eq!(server.host().queue("q").unwrap().statistics().unacked, 0);
    cancel(&mut client, "never");
    client.expect(
        1,
        &Method::BasicCancelOk {
            consumer_tag: "never",
        },
    );
    client.consume("q", "c", false);
    assert_eq!(client.delivery().deliver(), ("c", 2, false));
}

#[test]
fn a_cancelled_consumer_keeps_its_deliveries_until_the_last() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    for _ in 0..3 {
        client.publish("q", b"x");
    }
    client.consume("q", "c", false);
    client.deliveries();
    cancel(&mut client, "c");
    client.expect(1, &Method::BasicCancelOk { consumer_tag: "c" });
    let queue = server.host().queue("q").unwrap();
    for tag in [2, 1, 3] {
        assert_eq!(queue.message_count(), 0, "nothing goes back");
        client.ack(tag, false);
    }
    let statistics = queue.statistics();
    assert_eq!((statistics.ready, statistics.unacked), (0, 0));
    assert_eq!(statistics.acknowledged, 3);
}

#[test]
fn what_was_taken_and_not_written_goes_back_with_the_consumer() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    for _ in 0..50 {
        client.publish("q", &[0; 1000]);
    }
    client.consume("q", "c", false); // writes all of it: so again, with a small budget
    client.deliveries();
    client.send(1, &Method::BasicRecover { requeue: true });
    let mut bytes = Vec::new();
    client.session.write_into(&mut bytes, 3000);
    let written = bytes.len() / 1000;
    cancel(&mut client, "c");
    let statistics = server.host().queue("q").unwrap().statistics();
    assert!((2..=5).contains(&written), "{written}");
    assert_eq!(statistics.ready + statistics.unacked, 50);
    assert!(statistics.unacked <= 5, "{statistics:?}");
}

#[test]
fn a_consumer_is_told_when_its_queue_goes() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.publish("q", b"x");
    client.consume("q", "c", false);
    client.delivery();
    server.host().delete_queue("q", false, false).unwrap();
    assert!(client.session.status().contains(Status::OUTPUT));
    client.expect(
        1,
        &Method::BasicCancel {
            consumer_tag: "c",
            no_wait: true,
        },
    );
    // What it holds is gone: settling that is no error.
    client.ack(1, false);
    cancel(&mut client, "c");
    client.expect(1, &Method::BasicCancelOk { consumer_tag: "c" });

    let mut client = server.connect_as("guest", &[]);
    client.open(1);
    client.declare("q");
    client.consume("q", "c", false);
    server.host().delete_queue("q", false, false).unwrap();
    client.expect_silence();
}

#[test]
fn tags_are_the_channels_own() {
    let mut client = Server::new().channel();
    client.declare("q");
    client.consume("q", "c", true);
    client.open(2);
    client.consume_on(2, "q", "c", true);
    consume_with(&mut client, "q", "", false, &[]);
    let answer = client.next();
    let Method::BasicConsumeOk { consumer_tag } = answer.method() else {
        panic!();
    };
    assert!(consumer_tag.starts_with("amq.ctag-"), "{consumer_tag}");
    consume_with(&mut client, "q", "c", false, &[]);
    client.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 'c'");
}

#[test]
fn exclusive_consumers_are_alone() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    consume_with(&mut client, "q", "a", true, &[]);
    client.expect(1, &Method::BasicConsumeOk { consumer_tag: "a" });
    let mut other = server.channel();
    consume_with(&mut other, "q", "b", false, &[]);
    other.expect_channel_close(
        403,
        "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use",
    );
    let single = encoded([("x-single-active-consumer", Value::Bool(true))]);
    other.open(1);
    other.declare_with("single", false, &single);
    consume_with(&mut other, "single", "c", true, &[]);
    other.expect_channel_close(
        403,
        "ACCESS_REFUSED - queue 'single' in vhost '/' in exclusive use",
    );
}

#[test]
fn a_single_active_consumer_is_followed_by_the_next() {
    let server = Server::new();
    let mut first = server.channel();
    let single = encoded([("x-single-active-consumer", Value::Bool(true))]);
    first.declare_with("q", false, &single);
    first.consume("q", "a", true);
    let mut second = server.channel();
    second.consume("q", "b", true);
    second.publish("q", b"1");
    second.publish("q", b"2");
    second.expect_silence();
    assert_eq!(first.bodies(), ["1", "2"]);
    first.session.lost();
    second.publish("q", b"3");
    assert_eq!(second.bodies(), ["3"]);
}

#[test]
fn higher_priority_comes_first() {
    let server = Server::new();
    let mut low = server.channel();
    low.declare("q");
    low.consume("q", "low", false);
    let mut high = server.channel();
    high.qos(2, false);
    let arguments = encoded([("x-priority", Value::I32(10))]);
    consume_with(&mut high, "q", "high", false, &arguments);
    high.expect(
        1,
        &Method::BasicConsumeOk {
            consumer_tag: "high",
        },
    );
    let mut publisher = server.channel();
    for i in 0..4 {
        publisher.publish("q", i.to_string().as_bytes());
    }
    assert_eq!(high.bodies(), ["0", "1"]);
    assert_eq!(low.bodies(), ["2", "3"]);
}

#[test]
fn what_cannot_be_consumed_is_refused() {
    let server = Server::new();
    server
        .host()
        .declare_queue(
            "theirs",
            QueueOptions {
                exclusive: Some(1),
                ..QueueOptions::default()
            },
        )
        .unwrap();
    let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'theirs' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.";
    let mut client = server.channel();
    for (queue, code, text) in [
        ("none", 404, "NOT_FOUND - no queue 'none' in vhost '/'"),
        ("", 404, "NOT_FOUND - no previously declared queue"),
        ("theirs", 405, locked),
    ] {
        consume_with(&mut client, queue, "c", false, &[]);
        client.expect_channel_close(code, text);
        client.open(1);
        get(&mut client, queue, true);
        client.expect_channel_close(code, text);
        client.open(1);
    }
}

#[test]
fn a_limit_of_length_is_for_what_no_consumer_has_room_for() {
    for (overflow, last) in [("drop-head", "5"), ("reject-publish", "3")] {
        let server = Server::new();
        let mut client = server.channel();
        let arguments = encoded([
            ("x-max-length", Value::I32(1)),
            ("x-overflow", overflow.into()),
        ]);
        client.declare_with("q", false, &arguments);
        client.qos(3, false);
        client.consume("q", "c", false);
        // In one read, so that the consumer is not looked at in between.
        let bodies = [b"0", b"1", b"2", b"3", b"4", b"5"];
        let bytes: Vec<u8> = bodies
            .into_iter()
            .flat_map(|body| publish_bytes(1, "", "q", false, &Properties::default(), body))
            .collect();
        client.raw(&bytes);
        assert_eq!(client.bodies(), ["0", "1", "2"], "{overflow}");
        client.ack(0, true);
        assert_eq!(client.bodies(), [last], "{overflow}");
        client.expect_silence();
    }
}

#[test]
fn a_session_that_ends_leaves_nothing() {
    let server = Server::new();
    let before = server.front.broker().statistics();
    for round in 0..20 {
        let mut client = server.connect();
        for channel in [1, 2, 7] {
            client.open(channel);
            client.send(
                channel,
                &Method::QueueDeclare {
                    queue: &format!("mine-{channel}"),
                    passive: false,
                    durable: false,
                    exclusive: true,
                    auto_delete: false,
                    no_wait: true,
                    arguments: TableView::new(&[]),
                },
            );
            client.consume_on(channel, &format!("mine-{channel}"), "c", false);
        }
        client.publish("mine-7", b"x");
        client.delivery();
        client.consume(REPLY_TO, "r", true);
        match round % 4 {
            0 => client.session.lost(),
            1 => {
                client.send(
                    7,
                    &Method::ChannelClose {
                        reply_code: 200,
                        reply_text: "",
                        class_id: 0,
                        method_id: 0,
                    },
                );
                client.expect(7, &Method::ChannelCloseOk {});
                client.send(
                    0,
                    &Method::ConnectionClose {
                        reply_code: 200,
                        reply_text: "",
                        class_id: 0,
                        method_id: 0,
                    },
                );
            }
            2 => {
                client.session.shut_down("bye");
            }
            _ => drop(client),
        }
        let after = server.front.broker().statistics();
        assert_eq!(
            (after.queues, after.ready, after.unacked, after.scheduled),
            (before.queues, 0, 0, 0),
            "round {round}"
        );
        assert_eq!(server.front.connections(), 0);
        assert_eq!(server.front.replies().open_count(), 0);
    }
}
