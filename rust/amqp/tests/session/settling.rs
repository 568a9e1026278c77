//! Acknowledgements, rejections, recovery; attempts that are counted, and leases that end.

use wherry_amqp::codec::Method;
use wherry_engine::properties::Properties;
use wherry_engine::table::Value;
use wherry_session::{Limits, Session as _};

use crate::client::{Client, Server, encoded};

fn ready(server: &Server, queue: &str) -> (u64, u64) {
    let statistics = server.host().queue(queue).unwrap().statistics();
    (statistics.ready, statistics.unacked)
}

fn with_messages(n: usize) -> (Server, Client) {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    for i in 0..n {
        client.publish("q", i.to_string().as_bytes());
    }
    (server, client)
}

#[test]
fn what_is_acked_is_gone() {
    let (server, mut client) = with_messages(3);
    client.consume("q", "c", false);
    let got = client.deliveries();
    assert_eq!(got.len(), 3);
    assert_eq!(got[0].deliver(), ("c", 1, false));
    assert_eq!(ready(&server, "q"), (0, 3));
    client.ack(1, false);
    assert_eq!(ready(&server, "q"), (0, 2));
    client.ack(3, true);
    assert_eq!(ready(&server, "q"), (0, 0));
    client.expect_silence();
}

#[test]
fn unknown_tags_close_the_channel() {
    for (tag, multiple) in [(7, false), (0, false), (7, true)] {
        let (server, mut client) = with_messages(1);
        client.consume("q", "c", false);
        client.deliveries();
        client.ack(tag, multiple);
        client.expect_channel_close(
            406,
            &format!("PRECONDITION_FAILED - unknown delivery tag {tag}"),
        );
        assert_eq!(ready(&server, "q"), (1, 0), "given back");
        client.open(1);
    }
    let (_server, mut client) = with_messages(1);
    client.ack(0, true);
    client.expect_silence();
    for method in [
        Method::BasicReject {
            delivery_tag: 7,
            requeue: true,
        },
        Method::BasicNack {
            delivery_tag: 7,
            multiple: false,
            requeue: true,
        },
    ] {
        client.send(1, &method);
        client.expect_channel_close(406, "PRECONDITION_FAILED - unknown delivery tag 7");
        client.open(1);
    }
}

#[test]
fn an_ack_counts_once() {
    let (_server, mut client) = with_messages(1);
    client.consume("q", "c", false);
    client.deliveries();
    client.ack(1, false);
    client.ack(1, false);
    client.expect_channel_close(406, "PRECONDITION_FAILED - unknown delivery tag 1");
}

#[test]
fn what_is_rejected_comes_back_or_goes() {
    let (server, mut client) = with_messages(2);
    client.consume("q", "c", false);
    client.deliveries();
    client.send(
        1,
        &Method::BasicReject {
            delivery_tag: 1,
            requeue: true,
        },
    );
    let back = client.delivery();
    assert_eq!((back.deliver(), &*back.body), (("c", 3, true), &b"0"[..]));
    client.send(
        1,
        &Method::BasicReject {
            delivery_tag: 3,
            requeue: false,
        },
    );
    client.expect_silence();
    assert_eq!(ready(&server, "q"), (0, 1));
}

#[test]
fn nack_takes_many_at_once() {
    let (server, mut client) = with_messages(4);
    client.consume("q", "c", false);
    client.deliveries();
    client.send(
        1,
        &Method::BasicNack {
            delivery_tag: 2,
            multiple: true,
            requeue: true,
        },
    );
    assert_eq!(client.bodies(), ["0", "1"]);
    client.send(
        1,
        &Method::BasicNack {
            delivery_tag: 0,
            multiple: true,
            requeue: false,
        },
    );
    assert_eq!(ready(&server, "q"), (0, 0));
}

#[test]
fn recover_brings_everything_again() {
    let (_server, mut client) = with_messages(3);
    client.consume("q", "c", false);
    client.deliveries();
    client.ack(2, false);
    client.send(1, &Method::BasicRecover { requeue: true });
    client.expect(1, &Method::BasicRecoverOk {});
    let again = client.deliveries();
    assert_eq!(again.len(), 2);
    assert!(
        again.iter().all(|content| content.deliver().2),
        "redelivered"
    );
    client.ack(1, false);
    client.expect_channel_close(406, "PRECONDITION_FAILED - unknown delivery tag 1");
    client.open(1);
    client.send(1, &Method::BasicRecoverAsync { requeue: true });
    client.expect_silence();
    client.send(1, &Method::BasicRecover { requeue: false });
    client.expect_close(540, "NOT_IMPLEMENTED - requeue=false");
}

#[test]
fn a_lost_connection_gives_everything_back() {
    let (server, mut client) = with_messages(3);
    client.consume("q", "c", false);
    assert_eq!(client.deliveries().len(), 3);
    client.session.lost();
    assert_eq!(ready(&server, "q"), (3, 0));
    let mut other = server.channel();
    other.consume("q", "c", false);
    let again = other.deliveries();
    assert!(again.iter().all(|content| content.deliver().2));
}

#[test]
fn tags_are_the_channels_over_all_its_consumers() {
    let (server, mut client) = with_messages(0);
    client.declare("other");
    client.consume("q", "one", false);
    client.consume("other", "two", false);
    for queue in ["q", "other", "q"] {
        client.publish(queue, b"a");
    }
    let tags: Vec<u64> = client.deliveries().iter().map(|c| c.deliver().1).collect();
    assert_eq!(tags, [1, 2, 3]);
    client.ack(3, true);
    assert_eq!(ready(&server, "q"), (0, 0));
    assert_eq!(ready(&server, "other"), (0, 0));
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
