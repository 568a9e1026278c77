//! How many deliveries a client may have at once: the limits of consumers, of channels, and the server's.

use wherry_amqp::codec::Method;
use wherry_engine::table::Value;
use wherry_session::{Limits, Session as _};

use crate::client::{Server, encoded};
use crate::methods::{consume_with, get, got};

#[test]
fn prefetch_is_the_consumers_that_start_after_it() {
    let mut client = Server::new().channel();
    client.declare("q");
    for i in 0..10 {
        client.publish("q", i.to_string().as_bytes());
    }
    client.qos(2, false);
    client.consume_on(1, "q", "c", false);
    assert_eq!(client.bodies(), ["0", "1"]);
    client.ack(1, false);
    assert_eq!(client.bodies(), ["2"]);
    client.ack(3, true);
    assert_eq!(client.bodies(), ["3", "4"]);
}

#[test]
fn qos_is_for_running_consumers_if_none_is_started_after_it() {
    let mut client = Server::new().channel();
    client.declare("q");
    client.qos(1, false);
    client.consume("q", "c", false);
    for i in 0..10 {
        client.publish("q", i.to_string().as_bytes());
    }
    assert_eq!(client.bodies(), ["0"]);
    client.qos(3, false);
    client.expect_silence();
    client.ack(1, false);
    assert_eq!(client.bodies(), ["1", "2", "3"]);
    client.qos(4, false);
    client.session.tick(1.0);
    assert_eq!(client.bodies(), ["4"]);
    // A consumer that starts makes it its own.
    client.declare("other");
    client.qos(9, false);
    client.consume("other", "d", false);
    client.ack(0, true);
    assert_eq!(client.bodies().len(), 4);
}

#[test]
fn a_global_limit_is_the_channels() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("a");
    client.declare("b");
    client.qos(3, true);
    client.consume("a", "one", false);
    client.consume("b", "two", false);
    let mut publisher = server.channel();
    for _ in 0..5 {
        publisher.publish("a", b"a");
        publisher.publish("b", b"b");
    }
    assert_eq!(client.deliveries().len(), 3);
    client.ack(1, false);
    assert_eq!(client.deliveries().len(), 1);
    client.qos(5, true);
    assert_eq!(client.deliveries().len(), 2, "it holds at once");
    // What the channel may not have is there for others.
    let mut other = server.channel();
    other.consume("a", "c", true);
    let taken = other.deliveries().len();
    let (a, b) = (
        server.host().queue("a").unwrap().statistics(),
        server.host().queue("b").unwrap().statistics(),
    );
    assert_eq!(a.ready, 0);
    assert_eq!(taken as u64 + a.unacked + b.unacked + b.ready + 1, 10);
}

#[test]
fn consumers_under_a_limit_of_their_channel_take_turns() {
    let server = Server::new();
    let mut limited = server.channel();
    limited.declare("q");
    limited.qos(4, true);
    limited.consume("q", "one", false);
    limited.consume("q", "two", false);
    let mut other = server.channel();
    other.consume("q", "c", false);
    let mut publisher = server.channel();
    for i in 0..9 {
        publisher.publish("q", i.to_string().as_bytes());
    }
    // Four for the channel with its two, and everything that is left for who has room, in order.
    let (mine, theirs) = (limited.deliveries(), other.bodies());
    let tags: Vec<_> = mine.iter().map(|c| c.deliver().0).collect();
    assert_eq!(tags.iter().filter(|tag| **tag == "one").count(), 2);
    assert_eq!(theirs, ["2", "5", "6", "7", "8"]);
    // Room goes around, too.
    limited.ack(0, true);
    for i in 10..16 {
        publisher.publish("q", i.to_string().as_bytes());
    }
    assert_eq!(limited.deliveries().len(), 4);
    assert_eq!(other.deliveries().len(), 2);
}

#[test]
fn queues_under_a_limit_of_the_channel_are_served_in_turn() {
    let server = Server::new();
    let mut client = server.channel();
    let mut publisher = server.channel();
    client.qos(1, true);
    for queue in ["a", "b", "c"] {
        client.declare(queue);
        client.consume(queue, queue, false);
    }
    for _ in 0..9 {
        for queue in ["a", "b", "c"] {
            publisher.publish(queue, queue.as_bytes());
        }
    }
    let mut seen = String::new();
    for tag in 1..=9 {
        seen += &client.bodies().concat();
        client.ack(tag, false);
    }
    // The second one is there before others have waited.
    assert_eq!(seen, "aabcabcab", "none is left behind");
}

#[test]
fn a_limit_of_the_channel_is_for_consumers_that_run() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("a");
    client.declare("b");
    client.consume("a", "one", false);
    client.consume("b", "two", false);
    client.publish("a", b"1");
    assert_eq!(client.bodies(), ["1"]);
    client.qos(2, true);
    for body in [b"2", b"3", b"4"] {
        client.publish("b", body);
    }
    assert_eq!(client.bodies(), ["2"]);
    client.ack(1, false);
    assert_eq!(client.bodies(), ["3"]);
    // What `basic.get` brings is not in it, as in RabbitMQ.
    get(&mut client, "b", false);
    assert_eq!(got(&mut client).2, "4");
    // The channel ends with all that it had.
    client.publish("a", b"5");
    client.expect_silence();
    client.qos(0, true);
    assert_eq!(client.bodies(), ["5"]);
}

#[test]
fn a_consumer_of_lower_priority_goes_on_while_the_others_channel_is_full() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("a");
    client.declare("b");
    client.qos(1, true);
    let first = encoded([("x-priority", Value::I32(10))]);
    consume_with(&mut client, "a", "one", false, &first);
    client.expect(
        1,
        &Method::BasicConsumeOk {
            consumer_tag: "one",
        },
    );
    client.consume("b", "two", false);
    let mut other = server.channel();
    other.consume("a", "c", false);
    other.expect_silence();
    client.publish("b", b"full");
    assert_eq!(client.bodies(), ["full"]);
    client.publish("a", b"1");
    client.expect_silence();
    assert_eq!(other.bodies(), ["1"]);
    client.ack(1, false);
    client.publish("a", b"2");
    other.expect_silence();
    assert_eq!(client.bodies(), ["2"]);
}

#[test]
fn qos_by_bytes_is_not_there() {
    let mut client = Server::new().channel();
    client.send(
        1,
        &Method::BasicQos {
            prefetch_size: 5,
            prefetch_count: 0,
            global: false,
        },
    );
    client.expect_close(540, "NOT_IMPLEMENTED - prefetch_size!=0 (5)");
}

#[test]
fn deliveries_without_an_answer_are_bounded() {
    let server = Server::with_limits(Limits {
        unacked_per_channel_max: 4,
        ..Limits::default()
    });
    let mut client = server.channel();
    client.declare("q");
    client.consume("q", "c", false);
    for _ in 0..10 {
        client.publish("q", b"x");
    }
    assert_eq!(client.deliveries().len(), 4);
    get(&mut client, "q", false);
    client.expect(1, &Method::BasicGetEmpty {});
    client.ack(2, true);
    assert_eq!(client.deliveries().len(), 2);
}
