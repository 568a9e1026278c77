//! `basic.get`.

use wherry_amqp::codec::Method;
use wherry_engine::properties::Properties;
use wherry_engine::table::{TableView, Value};
use wherry_session::Limits;

use crate::client::{Server, encoded, method_bytes, publish_bytes};
use crate::methods::{get, got};

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
