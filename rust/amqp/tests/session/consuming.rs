//! Consumers: turns, limits, cancelling, get, and replies without a queue.

use wherry_amqp::codec::Method;
use wherry_amqp::session::Status;
use wherry_engine::QueueOptions;
use wherry_engine::properties::Properties;
use wherry_engine::table::{TableView, Value};
use wherry_session::{AccessTable, Limits, Session as _};

use crate::client::{Client, Server, encoded, method_bytes, publish_bytes};

fn get(client: &mut Client, queue: &str, no_ack: bool) {
    client.send(1, &Method::BasicGet { queue, no_ack });
}

/// Tag, redelivered, body, count left.
fn got(client: &mut Client) -> (u64, bool, String, u32) {
    let first = client.next();
    let Method::BasicGetOk {
        delivery_tag,
        redelivered,
        message_count,
        ..
    } = first.method()
    else {
        panic!("{:?}", first.method());
    };
    let body = client.content(first.clone()).body;
    (
        delivery_tag,
        redelivered,
        String::from_utf8(body).unwrap(),
        message_count,
    )
}

fn consume_with(client: &mut Client, queue: &str, tag: &str, exclusive: bool, arguments: &[u8]) {
    client.send(
        1,
        &Method::BasicConsume {
            queue,
            consumer_tag: tag,
            no_local: true,
            no_ack: false,
            exclusive,
            no_wait: false,
            arguments: TableView::new(arguments),
        },
    );
}

fn cancel(client: &mut Client, tag: &str) {
    client.send(
        1,
        &Method::BasicCancel {
            consumer_tag: tag,
            no_wait: false,
        },
    );
}

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
fn get_takes_one() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    get(&mut client, "q", false);
    client.expect(1, &Method::BasicGetEmpty {});
    for i in 0..3 {
        client.publish("q", i.to_string().as_bytes());
    }
    get(&mut client, "", false); // the queue declared last
    assert_eq!(got(&mut client), (1, false, "0".into(), 2));
    get(&mut client, "q", true);
    assert_eq!(got(&mut client), (2, false, "1".into(), 1));
    client.send(
        1,
        &Method::BasicNack {
            delivery_tag: 1,
            multiple: false,
            requeue: true,
        },
    );
    get(&mut client, "q", false);
    assert_eq!(got(&mut client), (3, true, "0".into(), 1));
    client.ack(3, false);
    let statistics = server.host().queue("q").unwrap().statistics();
    assert_eq!(
        (statistics.ready, statistics.unacked, statistics.consumers),
        (1, 0, 0)
    );
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
fn a_get_leaves_a_message_to_a_consumer_that_has_room() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.qos(1, false);
    client.consume("q", "c", false);
    // In one read, so that the consumer is not looked at between the publish and the get.
    let mut bytes = publish_bytes(1, "", "q", false, &Properties::default(), b"0");
    bytes.extend(method_bytes(
        1,
        &Method::BasicGet {
            queue: "q",
            no_ack: false,
        },
    ));
    client.raw(&bytes);
    client.expect(1, &Method::BasicGetEmpty {});
    assert_eq!(client.delivery().deliver(), ("c", 1, false));
    client.publish("q", b"1");
    get(&mut client, "q", false);
    assert_eq!(got(&mut client), (2, false, "1".into(), 0));
}

#[test]
fn a_get_does_not_wait_for_a_consumer_whose_channel_is_full() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.consume("q", "c", false);
    client.qos(1, true);
    client.publish("q", b"0");
    assert_eq!(client.delivery().deliver(), ("c", 1, false));
    client.publish("q", b"1");
    client.expect_silence();
    get(&mut client, "q", false);
    assert_eq!(got(&mut client), (2, false, "1".into(), 0));
    client.ack(1, false);
    client.publish("q", b"2");
    assert_eq!(client.delivery().deliver(), ("c", 3, false));
}

#[test]
fn to_ask_for_a_queue_keeps_it() {
    use std::time::Duration;
    use wherry_engine::BrokerOptions;
    use wherry_engine::clock::Clock;
    let options = BrokerOptions {
        clock: Clock::virtual_at(1_000_000_000),
        ..BrokerOptions::default()
    };
    let server = Server::with(options, Limits::default());
    let mut client = server.channel();
    client.declare_with("q", false, &encoded([("x-expires", Value::I32(1000))]));
    for _ in 0..3 {
        server
            .front
            .broker()
            .advance(Duration::from_millis(750))
            .unwrap();
        client.send(
            1,
            &Method::QueueDeclare {
                queue: "q",
                passive: true,
                durable: false,
                exclusive: false,
                auto_delete: false,
                no_wait: false,
                arguments: TableView::new(&[]),
            },
        );
        client.expect(
            1,
            &Method::QueueDeclareOk {
                queue: "q",
                message_count: 0,
                consumer_count: 0,
            },
        );
    }
}

#[test]
fn getting_from_many_queues_keeps_little_and_loses_nothing() {
    let server = Server::new();
    let mut client = server.channel();
    for i in 0..30 {
        let queue = format!("q{i}");
        client.declare(&queue);
        client.publish(&queue, queue.as_bytes());
        get(&mut client, &queue, false);
        assert_eq!(got(&mut client).2, queue);
    }
    client.ack(0, true);
    client.expect_silence();
    for i in 0..30 {
        let queue = server.host().queue(&format!("q{i}")).unwrap();
        assert_eq!(queue.statistics().unacked, 0, "q{i}");
    }
    // A queue that was deleted and declared again is another one.
    server.host().delete_queue("q29", false, false).unwrap();
    client.declare("q29");
    client.publish("q29", b"new");
    get(&mut client, "q29", false);
    assert_eq!(got(&mut client).2, "new");
}

#[test]
fn queues_that_count_say_how_often() {
    let mut client = Server::new().channel();
    let arguments = encoded([("x-delivery-limit", Value::I32(2))]);
    client.declare_with("q", false, &arguments);
    let properties = Properties {
        headers: Some([("mine", 1)].into_iter().collect()),
        ..Properties::default()
    };
    client.publish_to("", "q", false, &properties, b"x");
    client.consume("q", "c", false);
    let first = client.delivery();
    assert_eq!(first.header("x-delivery-count"), None);
    for count in 1..=2 {
        client.send(
            1,
            &Method::BasicReject {
                delivery_tag: count,
                requeue: true,
            },
        );
        let again = client.delivery();
        assert_eq!(
            again.header("x-delivery-count"),
            Some(Value::I64(count as i64))
        );
        assert_eq!(again.header("mine"), Some(Value::I32(1)));
    }
    client.send(
        1,
        &Method::BasicReject {
            delivery_tag: 3,
            requeue: true,
        },
    );
    client.expect_silence(); // two redeliveries were allowed
}

#[test]
fn settling_a_delivery_whose_lease_ended_means_nothing_once() {
    use wherry_engine::BrokerOptions;
    use wherry_engine::clock::Clock;
    let options = BrokerOptions {
        clock: Clock::virtual_at(1_000_000_000),
        ..BrokerOptions::default()
    };
    let server = Server::with(options, Limits::default());
    let mut client = server.channel();
    let arguments = encoded([("x-lease", Value::I32(1000))]);
    client.declare_with("q", false, &arguments);
    client.publish("q", b"x");
    client.publish("q", b"y");
    client.qos(1, false);
    client.consume("q", "c", false);
    client.delivery();
    let end_of_lease = || {
        server
            .front
            .broker()
            .advance(std::time::Duration::from_secs(2))
            .unwrap();
    };
    end_of_lease();
    let again = client.delivery();
    assert_eq!(again.deliver(), ("c", 2, true));
    client.ack(1, false);
    client.expect_silence();
    let unacked = || server.host().queue("q").unwrap().statistics().unacked;
    assert_eq!(unacked(), 1, "it is whose who has it now");
    // Among others, too: the first is somebody's again, the second is settled.
    client.ack(2, true);
    assert_eq!(client.delivery().deliver(), ("c", 3, false));
    end_of_lease();
    assert_eq!(client.delivery().deliver(), ("c", 4, true));
    client.ack(4, true);
    client.expect_silence();
    assert_eq!(unacked(), 0);
    client.ack(1, false);
    client.expect_channel_close(406, "PRECONDITION_FAILED - unknown delivery tag 1");
}

#[test]
fn a_transaction_with_a_delivery_whose_lease_ended_does_nothing() {
    use wherry_engine::BrokerOptions;
    use wherry_engine::clock::Clock;
    let options = BrokerOptions {
        clock: Clock::virtual_at(1_000_000_000),
        ..BrokerOptions::default()
    };
    let server = Server::with(options, Limits::default());
    let mut client = server.channel();
    let arguments = encoded([("x-lease", Value::I32(1000))]);
    client.declare_with("q", false, &arguments);
    client.declare("results");
    client.publish("q", b"x");
    client.consume("q", "c", false);
    client.delivery();
    client.send(1, &Method::TxSelect {});
    client.expect(1, &Method::TxSelectOk {});
    client.publish("results", b"done");
    client.ack(1, false);
    let broker = server.front.broker();
    broker.advance(std::time::Duration::from_secs(2)).unwrap();
    assert_eq!(client.delivery().deliver(), ("c", 2, true));
    client.send(1, &Method::TxCommit {});
    client.expect_channel_close(406, "PRECONDITION_FAILED - unknown delivery tag 1");
    let results = server.host().queue("results").unwrap();
    assert_eq!(results.statistics().ready, 0);
}

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn request(client: &mut Client) {
    let properties = Properties {
        reply_to: Some(REPLY_TO.into()),
        ..Properties::default()
    };
    client.publish_to("", "work", false, &properties, b"question");
}

#[test]
fn a_reply_comes_back_without_a_queue() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("work");
    client.consume(REPLY_TO, "r", true);
    request(&mut client);
    let mut worker = server.channel();
    worker.consume("work", "w", true);
    let question = worker.delivery();
    let name = String::from_utf8(question.properties.reply_to.unwrap()).unwrap();
    assert!(
        name.starts_with("amq.rabbitmq.reply-to.") && name.len() > 40,
        "{name}"
    );
    let declare = |name| Method::QueueDeclare {
        queue: name,
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: TableView::new(&[]),
    };
    worker.send(1, &declare(&name));
    worker.expect(
        1,
        &Method::QueueDeclareOk {
            queue: &name,
            message_count: 0,
            consumer_count: 1,
        },
    );
    let rings = client.bell.rings();
    worker.publish_to("", &name, true, &Properties::default(), b"answer");
    assert_eq!(client.bell.rings(), rings + 1);
    let answer = client.delivery();
    assert_eq!(answer.body, b"answer");
    assert_eq!(
        answer.first.method(),
        Method::BasicDeliver {
            consumer_tag: "r",
            delivery_tag: 1,
            redelivered: false,
            exchange: "",
            routing_key: &name
        }
    );
    cancel(&mut client, "r");
    client.expect(1, &Method::BasicCancelOk { consumer_tag: "r" });
    worker.publish_to("", &name, true, &Properties::default(), b"late");
    worker.expect_silence(); // at most once, and always routed
    worker.send(1, &declare(&name));
    worker.expect_channel_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"));
    client.consume(REPLY_TO, "r", true);
    drop(client);
    assert_eq!(server.front.replies().open_count(), 0);
}

#[test]
fn reply_consumers_are_alone_and_do_not_acknowledge() {
    let mut client = Server::new().channel();
    consume_with(&mut client, REPLY_TO, "r", false, &[]);
    client.expect_channel_close(
        406,
        "PRECONDITION_FAILED - reply consumer cannot acknowledge",
    );
    client.open(1);
    client.consume(REPLY_TO, "r", true);
    client.send(
        1,
        &Method::BasicConsume {
            queue: REPLY_TO,
            consumer_tag: "r2",
            no_local: false,
            no_ack: true,
            exclusive: false,
            no_wait: false,
            arguments: TableView::new(&[]),
        },
    );
    client.expect_channel_close(406, "PRECONDITION_FAILED - reply consumer already set");
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
