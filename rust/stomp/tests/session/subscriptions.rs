//! SUBSCRIBE, ACK, NACK, UNSUBSCRIBE.

use wherry_engine::NewMessage;
use wherry_stomp::codec::Version;

use crate::client::{Client, Got, Server};

fn publish(server: &Server, queue: &str, count: usize) {
    let exchange = server.host().exchange("").unwrap();
    for n in 0..count {
        let body = n.to_string();
        exchange
            .publish(&NewMessage::new(queue, body.as_bytes()))
            .unwrap();
    }
}

fn bodies(client: &mut Client) -> Vec<String> {
    client.read();
    (0..client.pending())
        .map(|_| client.message().text().to_string())
        .collect()
}

fn unacked(server: &Server, queue: &str) -> (u64, u64) {
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
    publish(&server, "q", 1);
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
