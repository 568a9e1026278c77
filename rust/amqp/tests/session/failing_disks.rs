//! A journal that fails or fills up under a session: nothing is confirmed that is not on the disk.

use std::io::ErrorKind;
use std::sync::Arc;

use wherry_amqp::codec::Method;
use wherry_amqp::session::Status;
use wherry_engine::BrokerOptions;
use wherry_engine::properties::Properties;
use wherry_engine::table::TableView;
use wherry_journal::testing::{Fault, MemoryDisk};
use wherry_session::{Limits, Session as _};

use crate::client::{Client, Server};

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

fn declare_durable(client: &mut Client, queue: &str) {
    client.send(
        1,
        &Method::QueueDeclare {
            queue,
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: TableView::new(&[]),
        },
    );
}

fn persistent() -> Properties {
    Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    }
}

/// From now on every change fails.
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

#[test]
fn what_was_not_confirmed_is_refused_when_the_journal_fails() {
    let disk = MemoryDisk::new();
    let server = durable_server(&disk);
    let mut client = server.channel();
    declare_durable(&mut client, "q");
    client.send(1, &Method::ConfirmSelect { no_wait: true });
    sync(&server);
    assert!(matches!(
        client.next().method(),
        Method::QueueDeclareOk { .. }
    ));
    break_disk(&disk);
    client.publish_to("", "q", false, &persistent(), b"1");
    assert!(client.status.contains(Status::WAITS_FOR_DISK));
    failed(&server);
    client.expect(
        1,
        &Method::BasicNack {
            delivery_tag: 1,
            multiple: false,
            requeue: false,
        },
    );
    // From now on every persistent publish is refused.
    client.publish_to("", "q", false, &persistent(), b"2");
    client.expect(
        1,
        &Method::BasicNack {
            delivery_tag: 2,
            multiple: false,
            requeue: false,
        },
    );
    // Transient messages and consumers go on.
    client.consume("q", "c", false);
    let first = client.delivery();
    assert_eq!(first.body, b"1");
    client.ack(1, false);
    client.expect_silence();
}

#[test]
fn without_confirms_a_failed_journal_ends_the_connection_of_a_publisher() {
    let disk = MemoryDisk::new();
    let server = durable_server(&disk);
    let mut client = server.channel();
    declare_durable(&mut client, "q");
    sync(&server);
    client.next();
    break_disk(&disk);
    client.publish_to("", "q", false, &persistent(), b"1");
    failed(&server);
    client.publish_to("", "q", false, &persistent(), b"2");
    let got = client.next();
    assert!(
        matches!(
            got.method(),
            Method::ConnectionClose {
                reply_code: 541,
                ..
            }
        ),
        "{:?}",
        got.method()
    );
}

#[test]
fn an_answer_that_can_never_be_given_ends_the_connection() {
    let disk = MemoryDisk::new();
    let server = durable_server(&disk);
    let mut client = server.channel();
    break_disk(&disk);
    declare_durable(&mut client, "q");
    failed(&server);
    let got = client.next();
    assert!(
        matches!(
            got.method(),
            Method::ConnectionClose {
                reply_code: 541,
                ..
            }
        ),
        "{:?}",
        got.method()
    );
    assert_eq!(server.front.connections(), 0);
}

#[test]
fn a_full_disk_pauses_publishers_until_acknowledgements_have_made_room() {
    let disk = MemoryDisk::new();
    let server = durable_server(&disk);
    let mut client = server.channel();
    declare_durable(&mut client, "q");
    sync(&server);
    client.next();
    disk.set_capacity_bytes(Some(512 << 10));
    let mut sent = 0_u64;
    while !client.status.contains(Status::WAITS_FOR_ROOM) {
        client.publish_to("", "q", false, &persistent(), &[7; 8000]);
        sent += 1;
        assert!(sent < 1000, "the disk never fills up");
    }
    let kept = server.host().queue("q").unwrap().message_count();
    assert_eq!(kept, sent - 1, "the last one waits");
    let mut consumer = server.channel();
    consumer.consume("q", "c", false);
    assert_eq!(consumer.deliveries().len() as u64, kept);
    consumer.ack(0, true);
    // Segments are given back by a thread of the broker's own.
    let broker = server.front.broker();
    while client.session.is_blocked() {
        broker.wait_space(Some(std::time::Duration::from_millis(10)));
        client.status = client.session.resume();
    }
    assert!(!client.status.contains(Status::PAUSE_READING));
    assert_eq!(consumer.deliveries().len(), 1);
}
