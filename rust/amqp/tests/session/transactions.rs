//! What a transaction has settled stays its consumer's until the commit, whatever becomes of the consumer meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use wherry_amqp::codec::Method;
use wherry_session::Session as _;

use crate::client::{Client, Server};

fn begin(client: &mut Client) {
    client.send(1, &Method::TxSelect {});
    client.expect(1, &Method::TxSelectOk {});
}

fn commit(client: &mut Client) {
    client.send(1, &Method::TxCommit {});
    client.expect(1, &Method::TxCommitOk {});
}

fn cancel(client: &mut Client, consumer_tag: &str) {
    let no_wait = false;
    client.send(
        1,
        &Method::BasicCancel {
            consumer_tag,
            no_wait,
        },
    );
    client.expect(1, &Method::BasicCancelOk { consumer_tag });
}

/// Ready and unsettled messages.
fn counts(server: &Server, queue: &str) -> (u64, u64) {
    let statistics = server.host().queue(queue).unwrap().statistics();
    (statistics.ready, statistics.unacked)
}

#[test]
fn a_consumer_that_is_cancelled_before_the_commit_has_settled() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.publish("q", b"1");
    client.publish("q", b"2");
    client.consume("q", "c", false);
    client.deliveries();
    begin(&mut client);
    client.ack(2, true);
    cancel(&mut client, "c");
    assert_eq!(counts(&server, "q"), (0, 2), "as before");
    commit(&mut client);
    assert_eq!(counts(&server, "q"), (0, 0));
}

#[test]
fn a_consumer_that_is_cancelled_before_the_rollback_has_its_deliveries() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.publish("q", b"1");
    client.publish("q", b"2");
    client.consume("q", "c", false);
    client.deliveries();
    begin(&mut client);
    client.ack(2, true);
    cancel(&mut client, "c");
    client.send(1, &Method::TxRollback {});
    client.expect(1, &Method::TxRollbackOk {});
    assert_eq!(counts(&server, "q"), (0, 2));
    client.ack(1, false);
    commit(&mut client);
    assert_eq!(counts(&server, "q"), (0, 1));
    client.ack(2, false);
    commit(&mut client);
    assert_eq!(counts(&server, "q"), (0, 0));
}

#[test]
fn the_next_consumer_has_nothing_of_what_the_one_before_settled() {
    let server = Server::new();
    let mut client = server.channel();
    for queue in ["old", "new"] {
        client.declare(queue);
        client.publish(queue, queue.as_bytes());
    }
    client.consume("old", "c", false);
    client.deliveries();
    begin(&mut client);
    client.ack(1, false);
    cancel(&mut client, "c");
    client.consume("new", "d", false);
    assert_eq!(client.delivery().deliver(), ("d", 2, false));
    commit(&mut client);
    assert_eq!(counts(&server, "old"), (0, 0));
    assert_eq!(counts(&server, "new"), (0, 1));
}

#[test]
fn recovering_the_rest_leaves_what_a_transaction_has_settled() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.publish("q", b"1");
    client.publish("q", b"2");
    client.consume("q", "c", false);
    client.deliveries();
    begin(&mut client);
    client.ack(1, false);
    cancel(&mut client, "c");
    client.send(1, &Method::BasicRecover { requeue: true });
    client.expect(1, &Method::BasicRecoverOk {});
    assert_eq!(counts(&server, "q"), (1, 1));
    commit(&mut client);
    assert_eq!(counts(&server, "q"), (1, 0));
}

#[test]
fn messages_of_many_queues_are_got_and_settled_in_one_transaction() {
    let server = Server::new();
    let mut client = server.channel();
    let queues: Vec<String> = (0..20).map(|number| format!("q{number}")).collect();
    begin(&mut client);
    for queue in &queues {
        client.declare(queue);
        client.publish(queue, queue.as_bytes());
    }
    commit(&mut client);
    for (queue, tag) in queues.iter().zip(1..) {
        let no_ack = false;
        client.send(1, &Method::BasicGet { queue, no_ack });
        let first = client.next();
        assert_eq!(client.content(first).body, queue.as_bytes());
        client.ack(tag, false);
    }
    commit(&mut client);
    for queue in &queues {
        assert_eq!(counts(&server, queue), (0, 0), "{queue}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Publishes a message.
    Publish,
    /// Settles one of the deliveries that are outstanding, or all up to it.
    Ack {
        which: usize,
        multiple: bool,
    },
    /// Gives one of them back.
    Requeue {
        which: usize,
    },
    Commit,
    Rollback,
    Cancel,
    Consume,
    Get,
    Recover,
    CloseChannel,
    LoseConnection,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..8_usize;
    prop_oneof![
        6 => Just(Step::Publish),
        6 => (which.clone(), any::<bool>()).prop_map(|(which, multiple)| Step::Ack { which, multiple }),
        2 => which.prop_map(|which| Step::Requeue { which }),
        3 => Just(Step::Commit),
        2 => Just(Step::Rollback),
        2 => Just(Step::Cancel),
        3 => Just(Step::Consume),
        1 => Just(Step::Get),
        1 => Just(Step::Recover),
        1 => Just(Step::CloseChannel),
        1 => Just(Step::LoseConnection),
    ]
}

/// A client of one queue whose channel is always in a transaction, and what it may expect.
struct Model {
    server: Server,
    client: Client,
    prefetch: u16,
    /// Messages by number: those that exist, and whether they were delivered before.
    messages: BTreeMap<u32, bool>,
    next: u32,
    consuming: bool,
    /// Deliveries that the client has not settled, by tag.
    outstanding: BTreeMap<u64, u32>,
    /// In the transaction: messages published, deliveries acknowledged and given back.
    published: BTreeSet<u32>,
    acknowledged: BTreeMap<u64, u32>,
    requeued: BTreeMap<u64, u32>,
}

impl Model {
    fn new(prefetch: u16) -> Model {
        let server = Server::new();
        let mut client = server.channel();
        client.declare("q");
        let mut model = Model {
            server,
            client,
            prefetch,
            messages: BTreeMap::new(),
            next: 0,
            consuming: false,
            outstanding: BTreeMap::new(),
            published: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            requeued: BTreeMap::new(),
        };
        model.start();
        model
    }

    fn start(&mut self) {
        begin(&mut self.client);
        self.client.qos(self.prefetch, false);
    }

    /// A message arrives: nobody else has it, and it says whether somebody had it before.
    fn arrived(&mut self, tag: u64, redelivered: bool, body: &[u8]) {
        let number = std::str::from_utf8(body).unwrap().parse().unwrap();
        let held = self.held();
        assert!(!held.contains(&number), "{number} is delivered twice");
        let had = self.messages.get_mut(&number).expect("it is not settled");
        assert_eq!(redelivered, std::mem::replace(had, true), "{number}");
        self.outstanding.insert(tag, number);
    }

    /// What the channel has, settled in the transaction or not.
    fn held(&self) -> BTreeSet<u32> {
        let all = [&self.outstanding, &self.acknowledged, &self.requeued];
        all.into_iter()
            .flat_map(BTreeMap::values)
            .copied()
            .collect()
    }

    fn look(&mut self) {
        for content in self.client.deliveries() {
            assert!(self.consuming);
            let (_, tag, redelivered) = content.deliver();
            self.arrived(tag, redelivered, &content.body);
        }
        let (held, all) = (self.held().len(), self.messages.len());
        assert_eq!(
            counts(&self.server, "q"),
            ((all - held) as u64, held as u64)
        );
        // A consumer that has room takes; `basic.get` and consumers before may have more than the prefetch.
        if self.consuming && held < usize::from(self.prefetch) {
            assert_eq!(all, held, "a message waits though there is room");
        }
    }

    /// All that the channel had is in the queue again, and its transaction never was.
    fn ended(&mut self) {
        self.outstanding.clear();
        self.published.clear();
        self.acknowledged.clear();
        self.requeued.clear();
        self.consuming = false;
    }

    fn pick(&self, which: usize) -> Option<u64> {
        let tags: Vec<u64> = self.outstanding.keys().copied().collect();
        (!tags.is_empty()).then(|| tags[which % tags.len()])
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish => {
                let body = self.next.to_string();
                self.client.publish("q", body.as_bytes());
                self.published.insert(self.next);
                self.next += 1;
            }
            Step::Ack { which, multiple } => {
                let Some(tag) = self.pick(which) else { return };
                self.client.ack(tag, multiple);
                let first = if multiple { 0 } else { tag };
                let settled: Vec<u64> = self.outstanding.range(first..=tag).map(|e| *e.0).collect();
                for tag in settled {
                    let number = self.outstanding.remove(&tag).unwrap();
                    self.acknowledged.insert(tag, number);
                }
            }
            Step::Requeue { which } => {
                let Some(delivery_tag) = self.pick(which) else {
                    return;
                };
                let requeue = true;
                self.client.send(
                    1,
                    &Method::BasicReject {
                        delivery_tag,
                        requeue,
                    },
                );
                let number = self.outstanding.remove(&delivery_tag).unwrap();
                self.requeued.insert(delivery_tag, number);
            }
            Step::Commit => {
                self.client.send(1, &Method::TxCommit {});
                for number in std::mem::take(&mut self.acknowledged).into_values() {
                    self.messages.remove(&number);
                }
                for number in std::mem::take(&mut self.published) {
                    self.messages.insert(number, false);
                }
                self.requeued.clear();
                self.client.expect(1, &Method::TxCommitOk {});
            }
            Step::Rollback => {
                self.client.send(1, &Method::TxRollback {});
                self.client.expect(1, &Method::TxRollbackOk {});
                self.outstanding.append(&mut self.acknowledged);
                self.outstanding.append(&mut self.requeued);
                self.published.clear();
            }
            Step::Cancel if self.consuming => {
                cancel(&mut self.client, "c");
                self.consuming = false;
            }
            Step::Consume if !self.consuming => {
                self.client.consume("q", "c", false);
                self.consuming = true;
            }
            Step::Get => {
                let (queue, no_ack) = ("q", false);
                self.client.send(1, &Method::BasicGet { queue, no_ack });
                let first = self.client.next();
                if let Method::BasicGetOk {
                    delivery_tag,
                    redelivered,
                    ..
                } = first.method()
                {
                    let body = self.client.content(first.clone()).body;
                    self.arrived(delivery_tag, redelivered, &body);
                }
            }
            Step::Recover => {
                self.client.send(1, &Method::BasicRecover { requeue: true });
                self.client.expect(1, &Method::BasicRecoverOk {});
                self.outstanding.clear();
            }
            Step::CloseChannel => {
                self.client.send(
                    1,
                    &Method::ChannelClose {
                        reply_code: 200,
                        reply_text: "",
                        class_id: 0,
                        method_id: 0,
                    },
                );
                self.client.expect(1, &Method::ChannelCloseOk {});
                self.ended();
                self.client.open(1);
                self.start();
            }
            Step::LoseConnection => {
                self.client.session.lost();
                self.ended();
                self.client = self.server.channel();
                self.start();
            }
            Step::Cancel | Step::Consume => {}
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_had_twice(
        prefetch in 1..6_u16,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut model = Model::new(prefetch);
        for step in steps {
            model.take(step);
            model.look();
        }
        // Whatever is left comes, and once.
        model.take(Step::LoseConnection);
        while !model.messages.is_empty() {
            model.take(Step::Get);
            model.take(Step::Ack { which: 0, multiple: true });
            model.take(Step::Commit);
            model.look();
        }
    }
}
