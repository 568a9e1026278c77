//! BEGIN, COMMIT, ABORT.

use wherry_session::Session as _;
use wherry_stomp::session::{ACTIONS_MAX, TRANSACTION_BYTES_MAX, TRANSACTIONS_MAX};

use crate::client::Server;
use crate::subscriptions::{at_rest, bodies, publish, unacked};

#[test]
fn nothing_of_a_transaction_happens_before_its_commit() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/in\nack:client-individual\n\n\0");
    publish(&server, "in", 2);
    let (first, second) = (client.message(), client.message());
    client.ask("BEGIN\ntransaction:t\n\n\0");
    client.send("SEND\ndestination:/queue/out\ntransaction:t\n\n1\0");
    client.send("SEND\ndestination:/queue/out\ntransaction:t\n\n2\0");
    client.send(&format!(
        "ACK\nid:{}\ntransaction:t\n\n\0",
        first.get("ack")
    ));
    client.send(&format!(
        "NACK\nid:{}\nrequeue:false\ntransaction:t\n\n\0",
        second.get("ack")
    ));
    assert_eq!(unacked(&server, "in"), (0, 2));
    assert_eq!(unacked(&server, "out"), (0, 0));
    client.ask("COMMIT\ntransaction:t\n\n\0");
    assert_eq!(unacked(&server, "in"), (0, 0));
    assert_eq!(unacked(&server, "out"), (2, 0));
    client.ask("SUBSCRIBE\nid:2\ndestination:/queue/out\n\n\0");
    assert_eq!(bodies(&mut client), ["1", "2"]);
}

#[test]
fn an_abort_leaves_everything_as_it_was() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\nprefetch-count:1\n\n\0");
    publish(&server, "q", 2);
    let message = client.message();
    client.ask("BEGIN\ntransaction:t\n\n\0");
    client.send("SEND\ndestination:/queue/q\ntransaction:t\n\n2\0");
    client.send(&format!(
        "ACK\nid:{}\ntransaction:t\n\n\0",
        message.get("ack")
    ));
    client.ask("ABORT\ntransaction:t\n\n\0");
    assert_eq!(unacked(&server, "q"), (1, 1));
    // What was not settled can be settled, also in another of the same name; and gives room to the next.
    client.ask("BEGIN\ntransaction:t\n\n\0");
    client.send(&format!(
        "ACK\nid:{}\ntransaction:t\n\n\0",
        message.get("ack")
    ));
    client.nothing();
    client.ask("COMMIT\ntransaction:t\n\n\0");
    assert_eq!(client.message().text(), "1");
}

#[test]
fn a_transaction_with_a_delivery_whose_lease_ended_does_nothing() {
    for late in ["ACK", "COMMIT"] {
        let (server, end_of_lease) = at_rest();
        let mut client = server.v12();
        client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\nx-lease:1000\n\n\0");
        publish(&server, "q", 1);
        let message = client.message();
        client.ask("BEGIN\ntransaction:t\n\n\0");
        client.send("SEND\ndestination:/queue/results\ntransaction:t\n\ndone\0");
        let ack = format!("ACK\nid:{}\ntransaction:t\n\n\0", message.get("ack"));
        if late == "COMMIT" {
            client.send(&ack);
        }
        end_of_lease();
        client.message();
        client.send(if late == "COMMIT" {
            "COMMIT\ntransaction:t\n\n\0"
        } else {
            &ack
        });
        client.error("Message not found");
        assert_eq!(unacked(&server, "results"), (0, 0));
    }
}

#[test]
fn what_a_transaction_settled_under_a_lease_is_used_up_by_its_commit() {
    for (end, again) in [("ABORT", true), ("COMMIT", false)] {
        let (server, end_of_lease) = at_rest();
        let mut client = server.v12();
        client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\nx-lease:1000\n\n\0");
        publish(&server, "q", 1);
        let id = client.message().get("ack").to_string();
        client.ask("BEGIN\ntransaction:t\n\n\0");
        client.send(&format!("ACK\nid:{id}\ntransaction:t\n\n\0"));
        client.ask(&format!("{end}\ntransaction:t\n\n\0"));
        end_of_lease();
        if again {
            client.message();
        }
        client.send(&format!("ACK\nid:{id}\n\n\0"));
        if again {
            client.nothing();
        } else {
            client.error("Message not found");
        }
    }
}

#[test]
fn receipts_of_a_transaction_come_with_its_end() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/in\nack:client-individual\n\n\0");
    publish(&server, "in", 1);
    let ack = client.message().get("ack").to_string();
    for _ in 0..2 {
        client.ask("BEGIN\ntransaction:t\n\n\0");
        client.send("SEND\ndestination:/queue/q\ntransaction:t\nreceipt:sent\n\n1\0");
        client.send(&format!(
            "ACK\nid:{ack}\ntransaction:t\nreceipt:settled\n\n\0"
        ));
        client.nothing();
        client.ask("ABORT\ntransaction:t\n\n\0");
    }
    client.ask("BEGIN\ntransaction:t\n\n\0");
    client.send("SEND\ndestination:/queue/q\ntransaction:t\nreceipt:sent\n\n1\0");
    client.send(&format!(
        "ACK\nid:{ack}\ntransaction:t\nreceipt:settled\n\n\0"
    ));
    client.send("COMMIT\ntransaction:t\nreceipt:done\n\n\0");
    for receipt in ["sent", "settled", "done"] {
        client.receipt(receipt);
    }
}

#[test]
fn transactions_of_a_lost_connection_never_happened() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("BEGIN\ntransaction:t\n\n\0");
    client.send("SEND\ndestination:/queue/q\ntransaction:t\n\n1\0");
    client.session.lost();
    assert_eq!(unacked(&server, "q"), (0, 0));
}

#[test]
fn what_was_settled_elsewhere_makes_the_commit_fail_whole() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/in\nack:client-individual\n\n\0");
    publish(&server, "in", 1);
    let message = client.message();
    client.ask("BEGIN\ntransaction:t\n\n\0");
    client.send("SEND\ndestination:/queue/out\ntransaction:t\n\n1\0");
    client.send(&format!(
        "ACK\nid:{}\ntransaction:t\n\n\0",
        message.get("ack")
    ));
    client.ask(&format!("ACK\nid:{}\n\n\0", message.get("ack")));
    client.send("COMMIT\ntransaction:t\n\n\0");
    client.error("Message not found");
    assert_eq!(unacked(&server, "out"), (0, 0));
}

#[test]
fn transactions_are_named_and_bounded() {
    let server = Server::new();
    let case = |frame: &str, message: &str, text: &str| {
        let mut client = server.v12();
        client.ask("BEGIN\ntransaction:open\n\n\0");
        client.send(frame);
        assert_eq!(client.error(message), text, "{frame}");
    };
    for command in ["BEGIN", "COMMIT", "ABORT"] {
        case(
            &format!("{command}\n\n\0"),
            "Missing transaction",
            &format!("\"{command}\" must include a 'transaction' header\n"),
        );
    }
    let unknown = "Invalid transaction identifier: \"u\"\n";
    for command in ["COMMIT", "ABORT", "SEND\ndestination:/queue/q"] {
        case(
            &format!("{command}\ntransaction:u\n\n\0"),
            "Bad transaction",
            unknown,
        );
    }
    case(
        "BEGIN\ntransaction:open\n\n\0",
        "Bad transaction",
        "Transaction \"open\" is open already\n",
    );
    let mut client = server.v12();
    for n in 0..TRANSACTIONS_MAX {
        client.ask(&format!("BEGIN\ntransaction:{n}\n\n\0"));
    }
    client.ask("ABORT\ntransaction:0\n\n\0");
    client.ask("BEGIN\ntransaction:0\n\n\0");
    client.send("BEGIN\ntransaction:more\n\n\0");
    client.error("Too many transactions");
}

#[test]
fn a_transaction_has_a_size() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("BEGIN\ntransaction:t\n\n\0");
    let frame = "SEND\ndestination:/queue/q\ntransaction:t\n\nx\0";
    client.send(&frame.repeat(ACTIONS_MAX));
    client.nothing();
    client.send(frame);
    client.error("Transaction too large");
    let mut client = server.v12();
    let body = "x".repeat(12 << 20);
    let mut sent = 0;
    for name in ["a", "b"] {
        client.ask(&format!("BEGIN\ntransaction:{name}\n\n\0"));
        for _ in 0..3 {
            sent += body.len();
            client.send(&format!(
                "SEND\ndestination:/queue/q\ntransaction:{name}\n\n{body}\0"
            ));
            if sent > TRANSACTION_BYTES_MAX {
                client.error("Transaction too large");
                return;
            }
            client.nothing();
        }
    }
    panic!("{sent} bytes were taken");
}
