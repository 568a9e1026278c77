//! Durability: what a receipt promises, and disks that fail or fill up.

use std::io::ErrorKind;
use std::sync::Arc;

use wherry_engine::{Broker, BrokerOptions};
use wherry_journal::testing::{Fault, MemoryDisk, Survivors};
use wherry_session::{Alarms, Limits, Session as _};
use wherry_stomp::Status;

use crate::client::{Client, Server};

const SEND: &str = "SEND\ndestination:/queue/q\npersistent:true\nreceipt:r\n\nbody\0";

fn durable_server(disk: &Arc<MemoryDisk>) -> Server {
    let options = BrokerOptions {
        disk: Some(disk.clone()),
        segment_bytes: 64 << 10,
        ..BrokerOptions::default()
    };
    Server::with(options, Limits::default())
}

fn sync(server: &Server) {
    let broker = server.front.broker();
    let ticket = broker.barrier().unwrap();
    assert!(broker.wait_durable(ticket, None).unwrap());
}

fn break_disk(disk: &MemoryDisk) {
    disk.fail(Some(Fault {
        after_calls: 0,
        error: ErrorKind::Other,
        for_ever: true,
    }));
}

/// Waits until the journal knows that it failed. The test would hang here if it never did.
fn failed(server: &Server) {
    let broker = server.front.broker();
    while broker.failed().is_none() {
        let appended = broker.barrier().unwrap_or_default();
        let _ = broker.wait_durable(appended, None);
    }
}

fn declared(server: &Server) -> Client {
    let mut client = server.v12();
    client.send("SEND\ndestination:/queue/q\n\nfirst\0");
    sync(server);
    client
}

#[test]
fn a_receipt_means_that_the_message_is_on_stable_storage() {
    let disk = MemoryDisk::new();
    let server = durable_server(&disk);
    let mut client = declared(&server);
    client.send(SEND);
    sync(&server);
    client.receipt("r");
    assert_eq!(server.front.counters().confirmed.get(), 1);
    let copy = disk.crash(Survivors::None);
    let again = Broker::open(BrokerOptions {
        disk: Some(copy),
        segment_bytes: 64 << 10,
        ..BrokerOptions::default()
    })
    .unwrap();
    let queue = again.virtual_host("/").unwrap().queue("q").unwrap();
    assert_eq!(queue.message_count(), 1, "the persistent one");
}

#[test]
fn nothing_is_promised_that_the_disk_did_not_take() {
    let disk = MemoryDisk::new();
    let server = durable_server(&disk);
    let mut client = declared(&server);
    break_disk(&disk);
    client.send(SEND);
    // Other receipts do not wait for it.
    client.send("BEGIN\ntransaction:t\nreceipt:b\n\n\0");
    assert!(client.status.contains(Status::WAITS_FOR_DISK));
    client.receipt("b");
    failed(&server);
    client.error("internal_error");
    assert_eq!(server.front.connections(), 0);
}

#[test]
fn disconnect_waits_for_everything() {
    let disk = MemoryDisk::new();
    let server = durable_server(&disk);
    let mut client = declared(&server);
    client.send("SEND\ndestination:/queue/q\npersistent:true\n\nno receipt\0");
    client.send("DISCONNECT\nreceipt:bye\n\n\0");
    sync(&server);
    client.receipt("bye");
    assert!(client.status.contains(Status::CLOSE));
    // And not for ever.
    let mut client = server.v12();
    break_disk(&disk);
    client.send("SEND\ndestination:/queue/q\npersistent:true\n\nx\0");
    client.send("DISCONNECT\nreceipt:bye\n\n\0");
    client.session.tick(0.0);
    client.status = client.session.tick(10.0);
    assert!(
        !client.status.contains(Status::CLOSE),
        "it waits for the disk"
    );
    client.status = client.session.tick(10.1);
    assert!(client.status.contains(Status::CLOSE));
}

#[test]
fn a_commit_that_the_disk_did_not_take_has_no_receipt() {
    let disk = MemoryDisk::new();
    let server = durable_server(&disk);
    let mut client = declared(&server);
    client.send("BEGIN\ntransaction:t\n\n\0");
    client.send("SEND\ndestination:/queue/q\npersistent:true\ntransaction:t\n\nx\0");
    client.nothing();
    break_disk(&disk);
    client.send("COMMIT\ntransaction:t\nreceipt:c\n\n\0");
    failed(&server);
    client.error("internal_error");
}

#[test]
fn a_full_disk_pauses_until_acknowledgements_have_made_room() {
    let disk = MemoryDisk::new();
    let server = durable_server(&disk);
    let mut client = declared(&server);
    disk.set_capacity_bytes(Some(512 << 10));
    let body = "x".repeat(8000);
    let mut sent = 0;
    while !client.status.contains(Status::WAITS_FOR_ROOM) {
        client.send(&format!(
            "SEND\ndestination:/queue/q\npersistent:true\n\n{body}\0"
        ));
        sent += 1;
        assert!(sent < 1000, "the disk never fills up");
    }
    assert!(client.status.contains(Status::PAUSE_READING));
    assert!(client.session.is_blocked());
    assert_eq!(client.session.info().state, "blocked");
    // Behind the pause: worked off in its turn.
    client.send("SEND\ndestination:/queue/q\n\nlast\0");
    let queue = server.host().queue("q").unwrap();
    assert_eq!(
        queue.message_count(),
        sent,
        "the last one waits, \"first\" does not"
    );
    let mut consumer = server.v12();
    consumer.send("SUBSCRIBE\nid:1\ndestination:/queue/q\nack:client\n\n\0");
    let mut last = None;
    for _ in 0..sent {
        last = Some(consumer.message());
    }
    let name = last.unwrap().get("ack").to_string();
    consumer.send(&format!("ACK\nid:{name}\n\n\0"));
    // Segments are given back by a thread of the broker's own.
    let broker = server.front.broker();
    while client.session.is_blocked() {
        broker.wait_space(Some(std::time::Duration::from_millis(10)));
        client.status = client.session.resume();
    }
    assert!(!client.status.contains(Status::PAUSE_READING));
    assert_eq!(consumer.message().body.len(), 8000);
    assert_eq!(consumer.message().text(), "last");
}

#[test]
fn an_alarm_holds_up_messages_and_nothing_else() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("BEGIN\ntransaction:t\n\n\0");
    client.send("SEND\ndestination:/queue/q\ntransaction:t\n\n1\0");
    server.front.set_alarms(Alarms {
        memory: true,
        disk: false,
    });
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\n\n\0");
    client.send("COMMIT\ntransaction:t\nreceipt:c\n\n\0");
    assert!(
        client
            .status
            .contains(Status::WAITS_FOR_ROOM | Status::PAUSE_READING)
    );
    client.status = client.session.resume();
    assert!(client.status.contains(Status::WAITS_FOR_ROOM));
    client.nothing();
    server.front.set_alarms(Alarms::default());
    client.status = client.session.resume();
    assert!(!client.status.contains(Status::WAITS_FOR_ROOM));
    client.receipt("c");
    assert_eq!(client.message().text(), "1");
    server.front.set_alarms(Alarms {
        memory: false,
        disk: true,
    });
    client.send("SEND\ndestination:/queue/q\nreceipt:s\n\n2\0SEND\ndestination:/queue/q\n\n3\0");
    client.nothing();
    server.front.set_alarms(Alarms::default());
    client.status = client.session.resume();
    client.receipt("s");
    assert_eq!(client.message().text(), "2");
    assert_eq!(client.message().text(), "3");
}
