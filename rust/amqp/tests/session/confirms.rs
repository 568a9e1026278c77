//! Publisher confirms and transactions, in memory and on a disk.

use std::sync::Arc;

use wherry_amqp::codec::Method;
use wherry_amqp::session::{Status, TRANSACTION_BYTES_MAX};
use wherry_engine::properties::Properties;
use wherry_engine::table::{TableView, Value};
use wherry_engine::{Broker, BrokerOptions, Ticket};
use wherry_session::{Limits, Session as _};

use crate::client::{Client, Server, encoded, method_bytes, publish_bytes};

fn persistent() -> Properties {
    Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    }
}

fn select(client: &mut Client) {
    client.send(1, &Method::ConfirmSelect { no_wait: false });
    client.expect(1, &Method::ConfirmSelectOk {});
}

fn ack(tag: u64, multiple: bool) -> Method<'static> {
    Method::BasicAck {
        delivery_tag: tag,
        multiple,
    }
}

/// A broker on a directory that goes with the test.
struct OnDisk {
    server: Server,
    path: std::path::PathBuf,
}

impl OnDisk {
    fn new(name: &str) -> OnDisk {
        let path =
            std::env::temp_dir().join(format!("wherry-session-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let options = BrokerOptions {
            path: Some(path.clone()),
            ..BrokerOptions::default()
        };
        OnDisk {
            server: Server::with(options, Limits::default()),
            path,
        }
    }

    fn broker(&self) -> &Arc<Broker> {
        self.server.front.broker()
    }

    /// Everything so far is on the disk.
    fn sync(&self) {
        let ticket = self.broker().barrier().unwrap();
        assert!(self.broker().wait_durable(ticket, None).unwrap());
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = self.broker().close();
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[test]
fn publishes_are_confirmed_together() {
    let mut client = Server::new().channel();
    client.declare("q");
    select(&mut client);
    client.publish("q", b"1");
    assert!(client.status.contains(Status::OUTPUT));
    client.expect(1, &ack(1, false));
    for _ in 0..3 {
        client.publish("q", b"x");
    }
    client.expect(1, &ack(4, true));
    // Selected again: the numbers go on.
    select(&mut client);
    client.publish("none", b"unroutable");
    client.expect(1, &ack(5, false));
    assert_eq!(client.session.info().unconfirmed, 0);
}

#[test]
fn a_returned_message_is_confirmed_after_its_return() {
    let mut client = Server::new().channel();
    select(&mut client);
    client.publish_to("amq.direct", "none", true, &Properties::default(), b"x");
    let first = client.next();
    assert!(matches!(
        first.method(),
        Method::BasicReturn {
            reply_code: 312,
            ..
        }
    ));
    client.content(first);
    client.expect(1, &ack(1, false));
}

const NO_EXCHANGE: &str = "NOT_FOUND - no exchange 'absent' in vhost '/'";

/// A publish that no queue takes and behind it, in the same bytes, whatever ends its channel.
fn publish_and(client: &mut Client, ends: &[u8]) {
    let mut bytes = publish_bytes(1, "", "none", false, &Properties::default(), b"x");
    bytes.extend_from_slice(ends);
    client.raw(&bytes);
}

#[test]
fn what_is_known_of_a_publish_is_said_before_its_channel_ends() {
    let wrong = publish_bytes(1, "absent", "", false, &Properties::default(), b"x");
    let mut client = Server::new().channel();
    select(&mut client);
    publish_and(&mut client, &wrong);
    client.expect(1, &ack(1, false));
    client.expect_channel_close(404, NO_EXCHANGE);
    client.send(1, &Method::ChannelCloseOk {});
    // What was said is not said again when the number is taken anew.
    client.open(1);
    select(&mut client);
    let close = Method::ChannelClose {
        reply_code: 200,
        reply_text: "",
        class_id: 0,
        method_id: 0,
    };
    publish_and(&mut client, &method_bytes(1, &close));
    client.expect(1, &ack(1, false));
    client.expect(1, &Method::ChannelCloseOk {});
}

#[test]
fn what_is_known_of_a_publish_is_said_before_its_connection_ends() {
    let close = Method::ConnectionClose {
        reply_code: 200,
        reply_text: "",
        class_id: 0,
        method_id: 0,
    };
    let mut client = Server::new().channel();
    select(&mut client);
    publish_and(&mut client, &method_bytes(0, &close));
    client.expect(1, &ack(1, false));
    client.expect(0, &Method::ConnectionCloseOk {});
}

#[test]
fn what_waits_for_the_disk_is_not_confirmed_when_its_channel_ends() {
    let disk = OnDisk::new("confirms-end");
    let mut client = disk.server.channel();
    client.send(
        1,
        &Method::QueueDeclare {
            queue: "q",
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_wait: true,
            arguments: TableView::new(&[]),
        },
    );
    select(&mut client);
    let mut bytes = publish_bytes(1, "", "q", false, &persistent(), b"x");
    bytes.extend(publish_bytes(
        1,
        "absent",
        "",
        false,
        &Properties::default(),
        b"x",
    ));
    client.raw(&bytes);
    client.expect_channel_close(404, NO_EXCHANGE);
}

#[test]
fn a_full_queue_that_refuses_is_a_nack() {
    let server = Server::new();
    let mut client = server.channel();
    let arguments = encoded([
        ("x-max-length", Value::I32(1)),
        ("x-overflow", Value::from("reject-publish")),
    ]);
    client.declare_with("q", false, &arguments);
    select(&mut client);
    for _ in 0..3 {
        client.publish("q", b"x");
    }
    client.expect(1, &ack(1, false));
    let got = client.next();
    assert!(
        matches!(
            got.method(),
            Method::BasicNack {
                delivery_tag: 2 | 3,
                ..
            }
        ),
        "{:?}",
        got.method()
    );
    // Without confirms nobody asked.
    let mut other = server.channel();
    other.publish("q", b"x");
    other.expect_silence();
}

#[test]
fn faults_on_purpose() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    select(&mut client);
    server.front.faults().refuse_confirms(1);
    client.publish("q", b"x");
    client.expect(
        1,
        &Method::BasicNack {
            delivery_tag: 1,
            multiple: false,
            requeue: false,
        },
    );
    client.publish("q", b"y");
    client.expect(1, &ack(2, false));

    server.front.faults().deliver_twice(1);
    client.consume("q", "c", false);
    let got = client.deliveries();
    let tags: Vec<_> = got.iter().map(|content| content.deliver()).collect();
    assert_eq!(tags, [("c", 1, false), ("c", 2, true), ("c", 3, false)]);
    assert_eq!(got[0].body, got[1].body);
    for tag in [2, 3, 1] {
        client.ack(tag, false);
    }
    client.expect_silence();
    assert_eq!(server.host().queue("q").unwrap().statistics().unacked, 0);
}

#[test]
fn a_window_of_unconfirmed_publishes_pauses_reading() {
    let server = Server::with_limits(Limits {
        unconfirmed_per_channel_max: 2,
        ..Limits::default()
    });
    let mut client = server.channel();
    client.declare("q");
    select(&mut client);
    client.publish("q", b"1");
    assert!(!client.status.contains(Status::PAUSE_READING));
    client.publish("q", b"2");
    assert!(client.status.contains(Status::PAUSE_READING));
    client.publish("q", b"3"); // stands behind the pause
    client.expect(1, &ack(2, true));
    client.expect(1, &ack(3, false));
    assert!(!client.status.contains(Status::PAUSE_READING));
}

#[test]
fn tx_and_confirms_exclude_each_other() {
    let mut client = Server::new().channel();
    client.send(1, &Method::TxSelect {});
    client.expect(1, &Method::TxSelectOk {});
    client.send(1, &Method::ConfirmSelect { no_wait: false });
    client.expect_channel_close(
        406,
        "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
    );
    client.open(1);
    select(&mut client);
    client.send(1, &Method::TxSelect {});
    client.expect_channel_close(
        406,
        "PRECONDITION_FAILED - cannot switch from confirm to tx mode",
    );
    client.open(1);
    for method in [Method::TxCommit {}, Method::TxRollback {}] {
        client.send(1, &method);
        client.expect_channel_close(406, "PRECONDITION_FAILED - channel is not transactional");
        client.open(1);
    }
}

fn begin(client: &mut Client) {
    client.send(1, &Method::TxSelect {});
    client.expect(1, &Method::TxSelectOk {});
}

#[test]
fn a_commit_publishes_and_settles() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("in");
    client.declare("out");
    client.publish("in", b"1");
    client.publish("in", b"2");
    client.consume("in", "c", false);
    client.deliveries();
    begin(&mut client);
    client.publish("out", b"a");
    client.ack(1, false);
    client.send(
        1,
        &Method::BasicReject {
            delivery_tag: 2,
            requeue: false,
        },
    );
    client.expect_silence();
    let count = |queue: &str| {
        let statistics = server.host().queue(queue).unwrap().statistics();
        (statistics.ready, statistics.unacked)
    };
    assert_eq!((count("in"), count("out")), ((0, 2), (0, 0)));
    client.send(1, &Method::TxCommit {});
    client.expect(1, &Method::TxCommitOk {});
    assert_eq!((count("in"), count("out")), ((0, 0), (1, 0)));
    // The next transaction begins by itself.
    client.publish("out", b"b");
    assert_eq!(count("out"), (1, 0));
}

#[test]
fn a_rollback_drops_publishes_and_makes_deliveries_outstanding_again() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    for _ in 0..3 {
        client.publish("q", b"x");
    }
    client.consume("q", "c", false);
    client.deliveries();
    begin(&mut client);
    client.publish("q", b"never");
    client.ack(2, true);
    client.send(1, &Method::TxRollback {});
    client.expect(1, &Method::TxRollbackOk {});
    client.expect_silence(); // nothing is redelivered
    client.ack(2, false);
    client.ack(1, false);
    client.send(1, &Method::TxCommit {});
    client.expect(1, &Method::TxCommitOk {});
    assert_eq!(server.host().queue("q").unwrap().statistics().unacked, 1);
    client.ack(2, false);
    client.expect_channel_close(406, "PRECONDITION_FAILED - unknown delivery tag 2");
    assert_eq!(server.host().queue("q").unwrap().message_count(), 1);
}

#[test]
fn settling_twice_in_a_transaction_is_found_at_once() {
    let mut client = Server::new().channel();
    client.declare("q");
    client.publish("q", b"x");
    client.consume("q", "c", false);
    client.deliveries();
    begin(&mut client);
    client.ack(1, false);
    client.ack(1, false);
    client.expect_channel_close(406, "PRECONDITION_FAILED - unknown delivery tag 1");
}

#[test]
fn what_a_closed_transaction_had_settled_goes_back() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.publish("q", b"x");
    client.consume("q", "c", false);
    client.deliveries();
    begin(&mut client);
    client.ack(1, false);
    client.session.lost();
    let statistics = server.host().queue("q").unwrap().statistics();
    assert_eq!((statistics.ready, statistics.unacked), (1, 0));
}

#[test]
fn a_transaction_is_bounded() {
    let mut client = Server::new().channel();
    client.declare("q");
    begin(&mut client);
    let body = vec![0; 8 << 20];
    for _ in 0..8 {
        client.publish("q", &body);
    }
    client.expect_channel_close(
        406,
        &format!("PRECONDITION_FAILED - transaction of more than {TRANSACTION_BYTES_MAX} bytes"),
    );
}

#[test]
fn a_mandatory_message_in_a_transaction_comes_back_before_the_commit_is_answered() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    begin(&mut client);
    client.publish_to("", "none", true, &Properties::default(), b"lost");
    client.publish("q", b"kept");
    client.expect_silence();
    client.send(1, &Method::TxCommit {});
    let first = client.next();
    assert!(
        matches!(
            first.method(),
            Method::BasicReturn {
                reply_code: 312,
                routing_key: "none",
                ..
            }
        ),
        "{:?}",
        first.method()
    );
    assert_eq!(client.content(first).body, b"lost");
    client.expect(1, &Method::TxCommitOk {});
    assert_eq!(server.host().queue("q").unwrap().message_count(), 1);
}

#[test]
fn a_full_queue_refuses_what_it_has_no_room_for_once() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("dead");
    let arguments = encoded([
        ("x-max-length", Value::I32(3)),
        ("x-overflow", Value::from("reject-publish-dlx")),
        ("x-dead-letter-exchange", Value::from("")),
        ("x-dead-letter-routing-key", Value::from("dead")),
    ]);
    client.declare_with("q", false, &arguments);
    select(&mut client);
    // In one read, so that they are handed over together.
    let mut bytes = Vec::new();
    for i in 0..6 {
        let body = i.to_string();
        bytes.extend(publish_bytes(
            1,
            "",
            "q",
            false,
            &Properties::default(),
            body.as_bytes(),
        ));
    }
    client.raw(&bytes);
    let (mut acked, mut nacked) = (0, 0);
    while let Some(got) = client.try_next() {
        match got.method() {
            Method::BasicAck {
                delivery_tag: 3,
                multiple: true,
            } => acked = 3,
            Method::BasicNack {
                delivery_tag: 6,
                multiple: true,
                ..
            } => nacked = 3,
            Method::BasicNack {
                delivery_tag: 4..=6,
                multiple: false,
                ..
            } => nacked += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((acked, nacked), (3, 3));
    client.consume("q", "c", true);
    assert_eq!(client.bodies(), ["0", "1", "2"]);
    client.consume("dead", "d", true);
    assert_eq!(client.bodies(), ["3", "4", "5"]);
}

#[test]
fn a_commit_that_a_queue_refuses_is_refused_whole() {
    let server = Server::new();
    let mut client = server.channel();
    let arguments = encoded([
        ("x-max-length", Value::I32(1)),
        ("x-overflow", Value::from("reject-publish")),
    ]);
    client.declare_with("q", false, &arguments);
    client.declare("other");
    client.publish("q", b"full");
    begin(&mut client);
    client.publish("other", b"x");
    client.publish("q", b"y");
    client.send(1, &Method::TxCommit {});
    client.expect_channel_close(
        406,
        "PRECONDITION_FAILED - nothing of the transaction was committed: queue 'q' is at its length limit",
    );
    assert_eq!(server.host().queue("other").unwrap().message_count(), 0);
}

#[test]
fn persistent_publishes_are_confirmed_when_they_are_on_disk() {
    let disk = OnDisk::new("confirm");
    let mut client = disk.server.channel();
    // The answer to a durable declaration waits as well; whatever the channel says stands behind it.
    client.send(
        1,
        &Method::QueueDeclare {
            queue: "q",
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: TableView::new(&[]),
        },
    );
    client.send(1, &Method::ConfirmSelect { no_wait: false });
    disk.sync();
    assert!(matches!(
        client.next().method(),
        Method::QueueDeclareOk { .. }
    ));
    client.expect(1, &Method::ConfirmSelectOk {});
    for _ in 0..10 {
        client.publish_to("", "q", false, &persistent(), b"x");
    }
    assert!(
        client.status.contains(Status::WAITS_FOR_DISK) || disk.broker().durable() != Ticket::NONE
    );
    disk.sync();
    assert!(
        client.session.status().contains(Status::OUTPUT),
        "the disk has moved on"
    );
    let mut last = 0;
    while last < 10 {
        match client.next().method() {
            Method::BasicAck { delivery_tag, .. } => last = delivery_tag,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.session.info().unconfirmed, 0);
}

#[test]
fn a_commit_is_answered_when_it_is_on_disk_and_survives() {
    let disk = OnDisk::new("commit");
    let mut client = disk.server.channel();
    client.send(
        1,
        &Method::QueueDeclare {
            queue: "q",
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_wait: true,
            arguments: TableView::new(&[]),
        },
    );
    client.send(1, &Method::TxSelect {});
    client.publish_to("", "q", false, &persistent(), b"x");
    client.send(1, &Method::TxCommit {});
    client.send(2, &Method::ChannelOpen {});
    disk.sync();
    client.expect(1, &Method::TxSelectOk {});
    // Channel 2 waits for nobody.
    client.expect(2, &Method::ChannelOpenOk {});
    client.expect(1, &Method::TxCommitOk {});
    client.session.lost();
    disk.broker().close().unwrap();
    let broker = Broker::open(BrokerOptions {
        path: Some(disk.path.clone()),
        ..BrokerOptions::default()
    })
    .unwrap();
    let queue = broker.virtual_host("/").unwrap().queue("q").unwrap();
    assert_eq!(queue.message_count(), 1);
}
