//! What a session says while the disk takes its time: a disk here syncs when its test says so.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use wherry_amqp::codec::Method;
use wherry_amqp::session::Status;
use wherry_engine::BrokerOptions;
use wherry_engine::properties::Properties;
use wherry_engine::table::TableView;
use wherry_journal::testing::MemoryDisk;
use wherry_journal::{Disk, DiskFile, Mapping};
use wherry_session::{Limits, Session as _};

use crate::client::{Client, Server, method_bytes};

#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn close(&self) {
        *self.closed.lock() = true;
    }

    fn open(&self) {
        *self.closed.lock() = false;
        self.changed.notify_all();
    }
}

/// A disk whose syncs wait while the gate is closed.
struct Gated(Arc<MemoryDisk>, Arc<Gate>);

struct GatedFile(Arc<dyn DiskFile>, Arc<Gate>);

impl Disk for Gated {
    fn lock(&self) -> std::io::Result<Result<Box<dyn Send + Sync>, Option<u32>>> {
        self.0.lock()
    }
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }
    fn create(&self, name: &str, bytes: u64) -> std::io::Result<Arc<dyn DiskFile>> {
        let file = self.0.create(name, bytes)?;
        Ok(Arc::new(GatedFile(file, self.1.clone())))
    }
    fn open(&self, name: &str) -> std::io::Result<Arc<dyn DiskFile>> {
        let file = self.0.open(name)?;
        Ok(Arc::new(GatedFile(file, self.1.clone())))
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.0.remove(name)
    }
    fn sync_directory(&self) -> std::io::Result<()> {
        self.0.sync_directory()
    }
    fn coherent_maps(&self) -> bool {
        self.0.coherent_maps()
    }
}

impl DiskFile for GatedFile {
    fn bytes(&self) -> std::io::Result<u64> {
        self.0.bytes()
    }
    fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.read(buffer, offset)
    }
    fn write(&self, data: &[u8], offset: u64) -> std::io::Result<()> {
        self.0.write(data, offset)
    }
    fn sync(&self) -> std::io::Result<()> {
        let mut closed = self.1.closed.lock();
        while *closed {
            self.1.changed.wait(&mut closed);
        }
        drop(closed);
        self.0.sync()
    }
    fn map(&self) -> std::io::Result<Arc<dyn Mapping>> {
        self.0.map()
    }
}

struct Slow {
    server: Server,
    gate: Arc<Gate>,
}

impl Slow {
    fn new() -> Slow {
        let gate = Arc::new(Gate::default());
        let options = BrokerOptions {
            disk: Some(Arc::new(Gated(MemoryDisk::new(), gate.clone()))),
            ..BrokerOptions::default()
        };
        Slow {
            server: Server::with(options, Limits::default()),
            gate,
        }
    }

    /// A client with a durable queue `q`, and the gate closed.
    fn with_queue() -> (Slow, Client) {
        let slow = Slow::new();
        let mut client = slow.server.channel();
        client.raw(&durable("q"));
        slow.sync();
        assert!(matches!(
            client.next().method(),
            Method::QueueDeclareOk { .. }
        ));
        slow.gate.close();
        (slow, client)
    }

    /// Lets everything so far through.
    fn sync(&self) {
        let broker = self.server.front.broker();
        let ticket = broker.barrier().unwrap();
        self.gate.open();
        assert!(broker.wait_durable(ticket, None).unwrap());
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.gate.open(); // or the broker could not close
    }
}

fn durable(queue: &str) -> Vec<u8> {
    method_bytes(
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
    )
}

fn persistent() -> Properties {
    Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    }
}

#[test]
fn a_confirm_waits_for_the_disk() {
    let (slow, mut client) = Slow::with_queue();
    client.send(1, &Method::ConfirmSelect { no_wait: true });
    for _ in 0..3 {
        client.publish_to("", "q", false, &persistent(), b"x");
    }
    assert!(client.status.contains(Status::WAITS_FOR_DISK));
    client.expect_silence();
    assert_eq!(client.session.info().unconfirmed, 3);
    // A transient one has nothing to wait for, and does not answer for those before it.
    client.publish("q", b"transient");
    client.expect(
        1,
        &Method::BasicAck {
            delivery_tag: 4,
            multiple: false,
        },
    );
    slow.sync();
    assert!(client.session.status().contains(Status::OUTPUT));
    client.expect(
        1,
        &Method::BasicAck {
            delivery_tag: 3,
            multiple: true,
        },
    );
    assert!(!client.status.contains(Status::WAITS_FOR_DISK));
}

#[test]
fn what_a_channel_says_stands_behind_what_it_waits_for() {
    let (slow, mut client) = Slow::with_queue();
    client.open(2);
    client.raw(&durable("new"));
    client.send(1, &Method::ConfirmSelect { no_wait: false });
    client.publish_to("", "none", true, &Properties::default(), b"back");
    client.consume_later("q", "c");
    client.publish("q", b"delivered");
    assert!(client.status.contains(Status::WAITS_FOR_DISK));
    client.expect_silence();
    // Other channels are not held up.
    client.send(2, &Method::TxSelect {});
    client.expect(2, &Method::TxSelectOk {});
    slow.sync();
    client.expect(
        1,
        &Method::QueueDeclareOk {
            queue: "new",
            message_count: 0,
            consumer_count: 0,
        },
    );
    client.expect(1, &Method::ConfirmSelectOk {});
    let returned = client.next();
    assert!(matches!(returned.method(), Method::BasicReturn { .. }));
    client.content(returned);
    client.expect(1, &Method::BasicConsumeOk { consumer_tag: "c" });
    client.expect(
        1,
        &Method::BasicAck {
            delivery_tag: 2,
            multiple: true,
        },
    );
    assert_eq!(client.bodies(), ["delivered"]);
}

#[test]
fn a_commit_is_answered_when_it_is_on_disk() {
    let (slow, mut client) = Slow::with_queue();
    client.send(1, &Method::TxSelect {});
    client.expect(1, &Method::TxSelectOk {});
    client.publish_to("", "q", false, &persistent(), b"x");
    client.send(1, &Method::TxCommit {});
    client.send(1, &Method::TxRollback {});
    client.expect_silence();
    slow.sync();
    client.expect(1, &Method::TxCommitOk {});
    client.expect(1, &Method::TxRollbackOk {});
}

#[test]
fn a_channel_that_fails_says_so_behind_what_it_waits_for() {
    let (slow, mut client) = Slow::with_queue();
    client.raw(&durable("new"));
    client.ack(7, false);
    client.expect_silence();
    slow.sync();
    assert!(matches!(
        client.next().method(),
        Method::QueueDeclareOk { .. }
    ));
    client.expect_channel_close(406, "PRECONDITION_FAILED - unknown delivery tag 7");
}

#[test]
fn deliveries_that_wait_for_a_held_answer_keep_their_order() {
    let (slow, mut client) = Slow::with_queue();
    client.open(2);
    client.declare("one");
    client.declare("two");
    // Of sizes that cannot be guessed from the one before, so that more is taken than fits.
    let body = |i: usize| format!("{i}{}", ".".repeat(i % 5 * 60));
    for i in 0..40 {
        client.publish("one", body(i).as_bytes());
        client.publish("two", body(i).as_bytes());
    }
    client.consume_later("one", "c");
    let consume = Method::BasicConsume {
        queue: "two",
        consumer_tag: "d",
        no_local: false,
        no_ack: true,
        exclusive: false,
        no_wait: true,
        arguments: TableView::new(&[]),
    };
    client.send(2, &consume);
    // A little of the first queue is written, the rest of what was taken waits; then its channel is held up.
    let mut bytes = client.flush_some(200);
    client.raw(&durable("new"));
    for _ in 0..20 {
        bytes.extend(client.flush_some(200));
    }
    slow.sync();
    client.feed(&bytes);
    let mut seen = [Vec::new(), Vec::new()];
    while let Some(got) = client.try_next() {
        match got.method() {
            Method::BasicDeliver { consumer_tag, .. } => {
                let queue = usize::from(consumer_tag == "d");
                let body = client.content(got).body;
                seen[queue].push(String::from_utf8(body).unwrap());
            }
            Method::QueueDeclareOk { .. } | Method::BasicConsumeOk { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<String> = (0..40).map(body).collect();
    assert_eq!(seen, [expected.clone(), expected]);
}

#[test]
fn a_connection_that_ends_waits_for_nothing() {
    let (slow, mut client) = Slow::with_queue();
    client.raw(&durable("new"));
    client.send(
        0,
        &Method::ConnectionClose {
            reply_code: 200,
            reply_text: "",
            class_id: 0,
            method_id: 0,
        },
    );
    client.expect(0, &Method::ConnectionCloseOk {});
    assert!(!client.status.contains(Status::CLOSE)); // the client's turn
    assert!(!client.status.contains(Status::WAITS_FOR_DISK));
    assert_eq!(slow.server.front.connections(), 0);
}
