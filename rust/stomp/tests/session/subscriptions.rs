//! SUBSCRIBE, ACK, NACK, UNSUBSCRIBE.

use std::time::Duration;

use wherry_engine::clock::Clock;
use wherry_engine::{BrokerOptions, NewMessage};
use wherry_session::{Limits, Session as _};
use wherry_stomp::codec::Version;

use crate::client::{Client, Got, Server};

pub(crate) fn publish(server: &Server, queue: &str, count: usize) {
    let exchange = server.host().exchange("").unwrap();
    for n in 0..count {
        let body = n.to_string();
        exchange
            .publish(&NewMessage::new(queue, body.as_bytes()))
            .unwrap();
    }
}

pub(crate) fn bodies(client: &mut Client) -> Vec<String> {
    client.read();
    (0..client.pending())
        .map(|_| client.message().text().to_string())
        .collect()
}

pub(crate) fn unacked(server: &Server, queue: &str) -> (u64, u64) {
    let statistics = server.host().queue(queue).unwrap().statistics();
    (statistics.ready, statistics.unacked)
}

fn ack(client: &mut Client, message: &Got) {
    let id = message.get("message-id").replace(':', "\\c");
    client.ask(&format!("ACK\nid:{id}\n\n\0"));
}

#[test]
fn auto_needs_no_acknowledgement() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:auto\n\n\0");
    publish(&server, "q", 3);
    assert_eq!(bodies(&mut client), ["0", "1", "2"]);
    assert_eq!(unacked(&server, "q"), (0, 0));
}

#[test]
fn client_acknowledges_all_up_to_one_of_its_subscription() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\n\n\0");
    client.ask("SUBSCRIBE\nid:2\ndestination:/queue/r\nack:client\n\n\0");
    publish(&server, "r", 1);
    publish(&server, "q", 3);
    client.read();
    let messages: Vec<Got> = (0..4).map(|_| client.message()).collect();
    let of_first: Vec<&Got> = messages
        .iter()
        .filter(|message| message.get("subscription") == "1")
        .collect();
    assert_eq!(of_first[1].get("ack"), of_first[1].get("message-id"));
    ack(&mut client, of_first[1]);
    assert_eq!(unacked(&server, "q"), (0, 1));
    assert_eq!(unacked(&server, "r"), (0, 1), "another subscription's");
    ack(&mut client, of_first[2]);
    assert_eq!(unacked(&server, "q"), (0, 0));
    assert_eq!(server.front.counters().acknowledged.get(), 3);
    assert_eq!(client.session.info().unacked, 1);
}

#[test]
fn client_individual_acknowledges_one() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client-individual\n\n\0");
    publish(&server, "q", 3);
    let messages: Vec<Got> = (0..3).map(|_| client.message()).collect();
    ack(&mut client, &messages[2]);
    assert_eq!(unacked(&server, "q"), (0, 2));
    ack(&mut client, &messages[0]);
    let name = messages[0].get("ack");
    client.send(&format!("ACK\nid:{name}\n\n\0"));
    assert!(client.error("Message not found").contains(name));
    assert_eq!(
        unacked(&server, "q"),
        (1, 0),
        "what was outstanding is back"
    );
}

#[test]
fn versions_name_messages_by_their_own_headers() {
    let server = Server::new();
    let mut client = server.connect(Version::V1_0);
    client.ask("SUBSCRIBE\ndestination:/queue/q\nack:client\n\n\0");
    publish(&server, "q", 2);
    let message = client.message();
    client.message();
    assert_eq!(message.header("subscription"), None);
    assert_eq!(message.header("ack"), None);
    let name = message.get("message-id");
    assert!(name.starts_with("Q_/queue/q@@session-"), "{name}");
    client.ask(&format!("ACK\nmessage-id:{name}\n\n\0"));
    client.ask("UNSUBSCRIBE\ndestination:/queue/q\n\n\0");
    assert_eq!(unacked(&server, "q"), (0, 1));
    let mut client = server.connect(Version::V1_1);
    client.ask("SUBSCRIBE\nid:a\\cb\ndestination:/queue/r\nack:client\n\n\0");
    publish(&server, "r", 1);
    let name = client.message().get("message-id").replace(':', "\\c");
    client.ask(&format!("ACK\nsubscription:a\\cb\nmessage-id:{name}\n\n\0"));
    assert_eq!(unacked(&server, "r"), (0, 0));
}

#[test]
fn a_nack_comes_again_or_goes_to_the_dead_letters() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:d\ndestination:/queue/dead\n\n\0");
    client.ask(
        "SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client-individual\nx-delivery-limit:5\nx-dead-letter-exchange:\n\
        x-dead-letter-routing-key:dead\n\n\0",
    );
    // The count is the queue's to say, and not of who sends a message on.
    client.send("SEND\ndestination:/queue/q\nx-delivery-count:7\n\n0\0");
    let first = client.message();
    assert_eq!(first.header("x-delivery-count"), None);
    client.send(&format!("NACK\nid:{}\n\n\0", first.get("ack")));
    let second = client.message();
    assert_eq!(second.get("redelivered"), "true");
    assert_eq!(second.get("x-delivery-count"), "1");
    client.send(&format!(
        "NACK\nid:{}\nrequeue:false\n\n\0",
        second.get("ack")
    ));
    let dead = client.message();
    assert_eq!(dead.get("subscription"), "d");
    assert_eq!(dead.get("x-first-death-queue"), "q");
    assert!(
        dead.get("x-death").contains(r#""reason":"rejected""#),
        "{dead:?}"
    );
}

#[test]
fn prefetch_is_what_may_be_unsettled() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask(
        "SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client-individual\nprefetch-count:2\n\n\0",
    );
    publish(&server, "q", 4);
    let first = client.message();
    let _second = client.message();
    client.nothing();
    ack(&mut client, &first);
    client.message();
    client.nothing();
    assert_eq!(unacked(&server, "q"), (1, 2));
}

#[test]
fn what_was_delivered_can_be_settled_behind_unsubscribe() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client-individual\n\n\0");
    publish(&server, "q", 2);
    let (first, second) = (client.message(), client.message());
    client.ask("UNSUBSCRIBE\nid:1\n\n\0");
    publish(&server, "q", 1);
    client.nothing();
    ack(&mut client, &first);
    // The same id again: no name is given twice.
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client-individual\n\n\0");
    let third = client.message();
    assert_ne!(third.get("ack"), first.get("ack"));
    assert_ne!(third.get("ack"), second.get("ack"));
    ack(&mut client, &second);
    ack(&mut client, &third);
    assert_eq!(unacked(&server, "q"), (0, 0));
    client.ask("UNSUBSCRIBE\nid:1\n\n\0");
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client-individual\n\n\0");
    client.send(&format!("ACK\nid:{}\n\n\0", third.get("ack")));
    client.error("Message not found");
}

/// A server whose clock stands still, and how it moves on by two seconds.
pub(crate) fn at_rest() -> (Server, impl Fn()) {
    let options = BrokerOptions {
        clock: Clock::virtual_at(1_000_000_000),
        ..BrokerOptions::default()
    };
    let server = Server::with(options, Limits::default());
    let broker = server.front.broker().clone();
    (server, move || {
        broker.advance(Duration::from_secs(2)).unwrap();
    })
}

#[test]
fn settling_a_delivery_whose_lease_ended_means_nothing_once() {
    for (mode, command) in [
        ("client", "ACK"),
        ("client-individual", "ACK"),
        ("client-individual", "NACK"),
    ] {
        let (server, end_of_lease) = at_rest();
        let mut client = server.v12();
        client.ask(&format!(
            "SUBSCRIBE\nid:1\ndestination:/queue/q\nack:{mode}\nx-lease:1000\nprefetch-count:1\n\n\0"
        ));
        publish(&server, "q", 1);
        let first = client.message();
        end_of_lease();
        let second = client.message();
        assert_eq!(second.get("redelivered"), "true");
        let settle = |message: &Got| {
            let receipt = "receipt:late\n";
            format!("{command}\nid:{}\n{receipt}\n\0", message.get("ack"))
        };
        client.send(&settle(&first));
        client.receipt("late");
        assert_eq!(unacked(&server, "q"), (0, 1), "it is whose who has it now");
        ack(&mut client, &second);
        assert_eq!(unacked(&server, "q"), (0, 0));
        client.send(&settle(&first));
        client.error("Message not found");
        drop(client);
        server.assert_nothing_is_left();
    }
}

#[test]
fn a_late_acknowledgement_behind_unsubscribe_means_nothing() {
    let (server, end_of_lease) = at_rest();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\nx-lease:1000\n\n\0");
    publish(&server, "q", 2);
    let (first, second) = (client.message(), client.message());
    client.ask("UNSUBSCRIBE\nid:1\n\n\0");
    end_of_lease();
    assert_eq!(unacked(&server, "q"), (2, 0));
    ack(&mut client, &first);
    ack(&mut client, &second);
    assert_eq!(unacked(&server, "q"), (2, 0));
    // And that was all of it.
    client.send(&format!("ACK\nid:{}\n\n\0", second.get("ack")));
    client.error("Subscription not found");
}

#[test]
fn what_a_client_never_settles_of_leases_is_forgotten() {
    let limits = Limits {
        unacked_per_channel_max: 2,
        ..Limits::default()
    };
    let options = BrokerOptions {
        clock: Clock::virtual_at(1_000_000_000),
        ..BrokerOptions::default()
    };
    let server = Server::with(options, limits);
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client-individual\nx-lease:1000\n\n\0");
    publish(&server, "q", 1);
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(client.message());
        let broker = server.front.broker();
        broker.advance(Duration::from_secs(2)).unwrap();
    }
    ack(&mut client, &got[1]);
    client.message();
    client.send(&format!("ACK\nid:{}\n\n\0", got[0].get("ack")));
    client.error("Message not found");
}

#[test]
fn a_small_budget_gives_few_messages_and_subscriptions_take_turns() {
    let server = Server::new();
    let mut client = server.v12();
    for id in ["a", "b"] {
        client.ask(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/queue/{id}\n\n\0"
        ));
    }
    for queue in ["a", "b"] {
        publish(&server, queue, 200);
    }
    let mut seen = Vec::new();
    while seen.len() < 400 {
        let before = client.pending();
        client.read_some(500);
        let got = client.pending() - before;
        assert!((1..=5).contains(&got), "{got}");
        for _ in 0..got {
            seen.push(client.next().get("subscription").to_string());
        }
    }
    let first_of_b = seen.iter().position(|id| id == "b");
    assert!(first_of_b.is_some_and(|at| at < 100), "{first_of_b:?}");
    client.nothing();
}

#[test]
fn a_durable_subscription_outlasts_its_connection() {
    let server = Server::new();
    let subscribe = "SUBSCRIBE\nid:1\ndestination:/topic/news\ndurable:true\nauto-delete:false\nack:client\n\n\0";
    let mut client = server.v12();
    client.ask(subscribe);
    let queues = server.host().queues();
    let options = queues[0].options();
    assert!(options.durable && !options.auto_delete && options.exclusive.is_none());
    client.ask("DISCONNECT\n\n\0");
    let mut sender = server.v12();
    sender.ask("SEND\ndestination:/topic/news\n\nwhile away\0");
    let mut client = server.v12();
    client.ask(subscribe);
    assert_eq!(server.host().queues().len(), 1);
    let message = client.message();
    assert_eq!(message.text(), "while away");
    ack(&mut client, &message);
    // Another connection may share it; ended for good it takes its queue along.
    let mut other = server.v12();
    other.ask(subscribe);
    other.ask("UNSUBSCRIBE\nid:1\n\n\0");
    assert_eq!(server.host().queues().len(), 1);
    client.ask("UNSUBSCRIBE\nid:1\ndurable:true\n\n\0");
    assert_eq!(server.host().queues().len(), 0);
    let mut old = server.connect(Version::V1_0);
    old.send("SUBSCRIBE\ndestination:/topic/news\ndurable:true\n\n\0");
    assert_eq!(
        old.error("Missing Header"),
        "Header 'id' is required for durable subscriptions"
    );
    let mut named = server.v12();
    named.ask("SUBSCRIBE\nid:1\ndestination:/topic/news\nx-queue-name:mine\n\n\0");
    assert!(server.host().queue("mine").is_ok());
}

#[test]
fn the_older_word_for_durable_ends_a_subscription_for_good() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/topic/t\npersistent:true\n\n\0");
    client.ask("UNSUBSCRIBE\nid:1\n\n\0");
    assert_eq!(server.host().queues().len(), 1);
    client.ask("SUBSCRIBE\nid:1\ndestination:/topic/t\npersistent:true\n\n\0");
    client.ask("UNSUBSCRIBE\nid:1\npersistent:True\n\n\0");
    assert_eq!(server.host().queues().len(), 0);
}

#[test]
fn a_subscription_that_cannot_be_is_an_error() {
    let server = Server::new();
    let case = |frame: &str, message: &str, text: &str| {
        let mut client = server.v12();
        client.ask("SUBSCRIBE\nid:used\ndestination:/queue/used\n\n\0");
        client.send(frame);
        assert_eq!(client.error(message), text, "{frame}");
    };
    case(
        "SUBSCRIBE\nid:1\n\n\0",
        "Missing destination",
        "\"SUBSCRIBE\" must include a 'destination' header\n",
    );
    case(
        "SUBSCRIBE\ndestination:/queue/a\n\n\0",
        "Missing header",
        "\"SUBSCRIBE\" must include the \"id\" header\n",
    );
    case(
        "SUBSCRIBE\nid:used\ndestination:/queue/a\n\n\0",
        "Duplicated subscription identifier",
        "A subscription identified by 'T_used' already exists.",
    );
    case(
        "SUBSCRIBE\nid:1\ndestination:/temp-queue/a\n\n\0",
        "Invalid destination",
        "'/temp-queue/a' is not a valid destination for 'SUBSCRIBE'\n",
    );
    case(
        "SUBSCRIBE\nid:1\ndestination:/amq/queue/nope\n\n\0",
        "not_found",
        "NOT_FOUND - no queue 'nope' in vhost '/'",
    );
    case(
        "SUBSCRIBE\nid:1\ndestination:/exchange/nope\n\n\0",
        "not_found",
        "NOT_FOUND - no exchange 'nope' in vhost '/'",
    );
    case(
        "SUBSCRIBE\nid:1\ndestination:/queue/a\nack:foo\n\n\0",
        "Invalid header",
        "'foo' is not a valid ack: use auto, client or client-individual\n",
    );
    case(
        "SUBSCRIBE\nid:1\ndestination:/queue/a\nprefetch-count:65536\n\n\0",
        "Invalid header",
        "'65536' is not a valid prefetch-count: use a whole number in range\n",
    );
    case(
        "SUBSCRIBE\nid:1\ndestination:/queue/used\nx-max-length:5\n\n\0",
        "precondition_failed",
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'used' in vhost '/': received the value '5' of type 'long' but current is none",
    );
    case(
        "UNSUBSCRIBE\nid:1\n\n\0",
        "No subscription found",
        "UNSUBSCRIBE must refer to an existing subscription.\nSubscription to \"id='1'\" not found.\n",
    );
    case(
        "UNSUBSCRIBE\ndestination:/queue/used\n\n\0",
        "No subscription found",
        "UNSUBSCRIBE must refer to an existing subscription.\nSubscription to \"destination='/queue/used'\" not found.\n",
    );
    case(
        "UNSUBSCRIBE\n\n\0",
        "Missing destination or id",
        "UNSUBSCRIBE must include a 'destination' or 'id' header",
    );
    case(
        "ACK\n\n\0",
        "Missing header",
        "\"ACK\" must include the \"id\" header\n",
    );
    case(
        "NACK\nid:foo\n\n\0",
        "Invalid header",
        "\"NACK\" must include a valid \"id\" header\n",
    );
    case(
        "ACK\nid:T_1@@session-x@@1\n\n\0",
        "Subscription not found",
        "Message with id \"T_1@@session-x@@1\" has no subscription",
    );
}

#[test]
fn a_queue_that_a_connection_declared_is_its_queue_without_the_arguments() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nx-max-length:5\n\n\0");
    client.ask("SEND\ndestination:/queue/q\n\n1\0");
    assert_eq!(client.message().text(), "1");
    client.ask("SUBSCRIBE\nid:2\ndestination:/queue/q\n\n\0");
    // Another connection does not know what was asked for, and may not mean it.
    let mut other = server.v12();
    other.send("SEND\ndestination:/queue/q\n\n2\0");
    other.error("precondition_failed");
    // Who says something of the queue must be right.
    client.send("SUBSCRIBE\nid:3\ndestination:/queue/q\nx-max-length:6\n\n\0");
    client.error("precondition_failed");
}

#[test]
fn a_queue_that_was_declared_and_is_gone_is_declared_again() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SEND\ndestination:/queue/q\nx-max-length:5\n\n1\0");
    server.host().delete_queue("q", false, false).unwrap();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\n\n\0");
    assert_eq!(server.host().queue("q").unwrap().options().max_length, None);
}

#[test]
fn a_named_queue_behind_a_topic_can_be_shared() {
    let server = Server::new();
    let (mut one, mut other, mut publisher) = (server.v12(), server.v12(), server.v12());
    let frame = "SUBSCRIBE\nid:1\ndestination:/topic/t\nx-queue-name:mine\n\n\0";
    one.ask(frame);
    other.ask(frame);
    for body in ["1", "2"] {
        publisher.ask(&format!("SEND\ndestination:/topic/t\n\n{body}\0"));
    }
    assert_eq!(one.message().text(), "1");
    assert_eq!(other.message().text(), "2");
    one.session.lost();
    assert_eq!(server.host().queues().len(), 1);
    other.session.lost();
    assert_eq!(server.host().queues().len(), 0);
}

#[test]
fn who_loses_its_queue_is_told() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\n\n\0");
    server.host().delete_queue("q", false, false).unwrap();
    let frame = client.frame();
    assert_eq!(frame.get("message"), "Server cancelled subscription");
    assert_eq!(frame.get("subscription"), "1");
    server.assert_empty();
}

#[test]
fn in_mode_auto_nothing_that_was_taken_is_lost_by_unsubscribe() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\n\n\0");
    publish(&server, "q", 20);
    client.read_some(1);
    assert!(client.pending() < 20);
    client.send("UNSUBSCRIBE\nid:1\nreceipt:r\n\n\0");
    client.read();
    let delivered = client.session.info().messages_out as usize;
    let (ready, unacked) = unacked(&server, "q");
    assert_eq!((ready as usize + delivered, unacked), (20, 0));
}

#[test]
fn what_is_lost_comes_back_and_disconnecting_counts_no_attempt() {
    let server = Server::new();
    let subscribe = "SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\nx-delivery-limit:3\n\n\0";
    for (end, attempts) in [("DISCONNECT\n\n\0", None), ("", Some("1"))] {
        let mut client = server.v12();
        client.ask(subscribe);
        publish(&server, "q", 1);
        client.message();
        client.send(end);
        client.session.lost();
        let mut client = server.v12();
        client.ask(subscribe);
        let message = client.message();
        assert_eq!(message.get("redelivered"), "true");
        assert_eq!(message.header("x-delivery-count"), attempts);
        ack(&mut client, &message);
    }
    server.assert_nothing_is_left();
}

#[test]
fn faults_on_purpose_reach_this_protocol_too() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client-individual\n\n\0");
    server.front.faults().deliver_twice(1);
    publish(&server, "q", 1);
    let (first, twin) = (client.message(), client.message());
    assert_eq!(twin.get("redelivered"), "true");
    assert_eq!(twin.text(), first.text());
    ack(&mut client, &twin);
    ack(&mut client, &first);
    assert_eq!(unacked(&server, "q"), (0, 0));
    server.front.faults().refuse_confirms(1);
    client.send("SEND\ndestination:/queue/q\nreceipt:r\n\nx\0");
    client.error("Message refused");
}

#[test]
fn what_a_topic_delivered_can_be_settled_when_its_queue_is_gone() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/topic/k\nack:client\n\n\0");
    client.ask("SEND\ndestination:/topic/k\n\nx\0");
    let message = client.message();
    client.ask("UNSUBSCRIBE\nid:1\n\n\0");
    assert_eq!(server.host().queues().len(), 0);
    ack(&mut client, &message);
    client.send(&format!("ACK\nid:{}\n\n\0", message.get("ack")));
    client.error("Subscription not found");
}
