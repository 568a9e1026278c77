//! Permissions: what AMQP would ask for is asked for.

use wherry_session::{AccessTable, Replies, Session as _};
use wherry_stomp::Status;
use wherry_stomp::codec::Version;

use crate::client::Server;

fn server(configure: &str, write: &str, read: &str) -> Server {
    let server = Server::new();
    let mut table = AccessTable::builder();
    table
        .permission("bob", "/", configure, write, read)
        .unwrap();
    table.permission("guest", "/", ".*", ".*", ".*").unwrap();
    server.front.set_access(table.build());
    server
}

fn refused(server: &Server, frame: &str, what: &str) {
    let mut client = server.connect_as("bob", Version::V1_2);
    client.send(frame);
    assert_eq!(
        client.error("access_refused"),
        format!("ACCESS_REFUSED - access to {what} in vhost '/' refused for user 'bob'"),
        "{frame}"
    );
}

#[test]
fn each_step_asks_for_its_permission() {
    let all = server(".*", ".*", ".*");
    let mut guest = all.v12();
    guest.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\n\n\0");

    let none = server("", "", "");
    let send = "SEND\ndestination:/queue/q\n\nx\0";
    let subscribe = "SUBSCRIBE\nid:1\ndestination:/queue/q\n\n\0";
    let topic = "SUBSCRIBE\nid:1\ndestination:/topic/k\nx-queue-name:mine\n\n\0";
    refused(&none, send, "queue 'q'");
    refused(&none, subscribe, "queue 'q'");
    refused(&none, topic, "queue 'mine'");
    assert_eq!(none.host().queues().len(), 0);

    let configures = server(".*", "", "");
    refused(&configures, send, "exchange 'amq.default'");
    refused(&configures, subscribe, "queue 'q'");
    refused(&configures, topic, "queue 'mine'");

    let writes = server(".*", ".*", "");
    refused(&writes, topic, "exchange 'amq.topic'");
    let reads_exchanges = server(".*", ".*", "^amq");
    refused(&reads_exchanges, topic, "queue 'mine'");

    let dead = "SUBSCRIBE\nid:1\ndestination:/queue/new\nx-dead-letter-exchange:dlx\n\n\0";
    refused(&server(".*", "^new$", ".*"), dead, "exchange 'dlx'");
}

#[test]
fn topics_have_permissions_of_their_own() {
    let server = server(".*", ".*", ".*");
    let mut table = AccessTable::builder();
    table.permission("bob", "/", ".*", ".*", ".*").unwrap();
    table
        .topic_permission("bob", "/", "amq.topic", "^out\\.", "^in\\.")
        .unwrap();
    server.front.set_access(table.build());
    let mut client = server.connect_as("bob", Version::V1_2);
    client.ask("SUBSCRIBE\nid:1\ndestination:/topic/in.*\n\n\0");
    client.ask("SEND\ndestination:/topic/out.a\n\nx\0");
    refused(
        &server,
        "SEND\ndestination:/topic/in.a\n\nx\0",
        "topic 'in.a' in exchange 'amq.topic'",
    );
    refused(
        &server,
        "SUBSCRIBE\nid:1\ndestination:/topic/%23\n\n\0",
        "topic '#' in exchange 'amq.topic'",
    );
}

#[test]
fn a_permission_that_is_taken_away_counts_at_the_next_send() {
    let server = server(".*", ".*", ".*");
    let mut client = server.connect_as("bob", Version::V1_2);
    client.ask("SEND\ndestination:/queue/q\n\nx\0");
    let mut table = AccessTable::builder();
    table.permission("bob", "/", ".*", "", ".*").unwrap();
    server.front.set_access(table.build());
    client.send("SEND\ndestination:/queue/q\n\nx\0");
    client.error("access_refused");
    assert_eq!(server.host().queue("q").unwrap().message_count(), 1);
}

#[test]
fn who_was_deleted_is_sent_home() {
    let server = server(".*", ".*", ".*");
    let mut client = server.connect_as("bob", Version::V1_2);
    server.front.set_access(AccessTable::builder().build());
    client.status = client.session.tick(1.0);
    assert!(client.status.contains(Status::CLOSE));
    assert_eq!(
        client.error("connection_forced"),
        "CONNECTION_FORCED - user 'bob' is deleted"
    );
}

#[test]
fn a_queue_of_another_connection_is_locked() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/mine\nexclusive:true\n\n\0");
    for destination in ["/queue/mine", "/amq/queue/mine"] {
        let mut other = server.v12();
        other.send(&format!("SUBSCRIBE\nid:1\ndestination:{destination}\n\n\0"));
        other.error("resource_locked");
    }
    client.session.lost();
    assert!(server.host().queue("mine").is_err());
}

#[test]
fn internal_exchanges_and_reserved_names_are_refused() {
    let server = Server::new();
    let options = wherry_engine::ExchangeOptions {
        internal: true,
        ..Default::default()
    };
    server.host().declare_exchange("inside", options).unwrap();
    for (frame, text) in [
        (
            "SEND\ndestination:/exchange/inside/k\n\n\0",
            "cannot publish to internal exchange 'inside' in vhost '/'",
        ),
        (
            "SUBSCRIBE\nid:1\ndestination:/queue/amq.q\n\n\0",
            "queue name 'amq.q' contains reserved prefix 'amq.*'",
        ),
    ] {
        let mut client = server.v12();
        client.send(frame);
        assert_eq!(
            client.error("access_refused"),
            format!("ACCESS_REFUSED - {text}")
        );
    }
}

#[test]
fn requests_of_amqp_clients_are_answered_directly() {
    let server = Server::new();
    let bell = std::sync::Arc::new(crate::client::Bell::default());
    let inbox = server.front.replies().open(bell, 1, 1000).unwrap();
    let mut client = server.v12();
    assert!(Replies::is_reserved(inbox.name()));
    let destination = format!("/reply-queue/{}", inbox.name());
    client.ask(&format!(
        "SEND\ndestination:{destination}\ncorrelation-id:7\n\nanswer\0"
    ));
    let mut replies = Vec::new();
    assert_eq!(inbox.take(5, &mut replies), 1);
    assert_eq!(replies[0].body(), b"answer");
    assert_eq!(replies[0].properties().correlation_id(), Some(&b"7"[..]));
    // Nobody reads what is addressed so by subscribing.
    client.send(&format!("SUBSCRIBE\nid:1\ndestination:{destination}\n\n\0"));
    client.error("not_found");
}
