//! Queues: declarations, purges, deletions, and the words of refusals. More single cases against RabbitMQ's recorded
//! answers are in tests/differential.

use wherry_amqp::codec::Method;
use wherry_engine::properties::Properties;
use wherry_engine::table::{TableView, Value};
use wherry_session::Session as _;

use crate::client::{Server, encoded};
use crate::methods::{
    Queue, bind, declare, delete_queue, expect_queue, named, purge, refused, unbind,
};

#[test]
fn a_queue_is_declared_found_and_deleted() {
    let server = Server::new();
    let mut client = server.channel();
    declare(&mut client, named("q"));
    expect_queue(&mut client, "q", 0, 0);
    client.publish("q", b"x");
    client.publish("q", b"y");
    client.consume("q", "c", false);
    client.delivery();
    client.delivery();
    declare(&mut client, named("q"));
    expect_queue(&mut client, "q", 0, 1);
    let queue = server.host().queue("q").unwrap();
    assert_eq!((queue.message_count(), queue.consumer_count()), (0, 1));
    declare(
        &mut client,
        Queue {
            passive: true,
            ..named("q")
        },
    );
    expect_queue(&mut client, "q", 0, 1);
    client.send(1, &delete_queue("q", false, false));
    client.expect(1, &Method::QueueDeleteOk { message_count: 0 });
    client.expect(
        1,
        &Method::BasicCancel {
            consumer_tag: "c",
            no_wait: true,
        },
    );
    client.send(1, &delete_queue("q", false, false));
    client.expect(1, &Method::QueueDeleteOk { message_count: 0 });
}

#[test]
fn the_broker_names_a_queue_and_the_channel_remembers_it() {
    let server = Server::new();
    let mut client = server.channel();
    declare(&mut client, named(""));
    let answer = client.next();
    let Method::QueueDeclareOk { queue, .. } = answer.method() else {
        panic!();
    };
    assert!(queue.starts_with("amq.gen-"), "{queue}");
    // Neither queue nor key: the queue by its own name.
    client.send(1, &bind("", "amq.direct", "", &[]));
    client.expect(1, &Method::QueueBindOk {});
    client.publish_to("amq.direct", queue, true, &Properties::default(), b"x");
    client.expect_silence();
    client.send(1, &purge(""));
    client.expect(1, &Method::QueuePurgeOk { message_count: 1 });
    client.send(1, &delete_queue("", false, false));
    client.expect(1, &Method::QueueDeleteOk { message_count: 0 });
}

#[test]
fn without_a_wish_for_an_answer_there_is_none() {
    let mut client = Server::new().channel();
    declare(
        &mut client,
        Queue {
            no_wait: true,
            ..named("q")
        },
    );
    client.send(
        1,
        &Method::QueueBind {
            queue: "q",
            exchange: "amq.fanout",
            routing_key: "",
            no_wait: true,
            arguments: TableView::new(&[]),
        },
    );
    client.send(
        1,
        &Method::QueuePurge {
            queue: "q",
            no_wait: true,
        },
    );
    client.send(1, &Method::ConfirmSelect { no_wait: true });
    client.send(
        1,
        &Method::QueueDelete {
            queue: "q",
            if_unused: false,
            if_empty: false,
            no_wait: true,
        },
    );
    client.expect_silence();
}

#[test]
fn line_ends_are_taken_out_of_names() {
    let mut client = Server::new().channel();
    declare(&mut client, named("a\r\nb"));
    expect_queue(&mut client, "ab", 0, 0);
}

#[test]
fn queues_are_refused_in_rabbitmqs_words() {
    let mut client = Server::new().channel();
    client.declare("q");
    let ttl = encoded([("x-message-ttl", Value::I32(-1))]);
    let priority = encoded([("x-max-priority", Value::I32(10))]);
    let passive = |name| Method::QueueDeclare {
        queue: name,
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: TableView::new(&[]),
    };
    let with = |name, durable, arguments| Method::QueueDeclare {
        queue: name,
        passive: false,
        durable,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: TableView::new(arguments),
    };
    refused(
        &mut client,
        &[
            (
                passive("none"),
                404,
                "NOT_FOUND - no queue 'none' in vhost '/'",
            ),
            (passive(""), 404, "NOT_FOUND - no queue '' in vhost '/'"),
            (
                with("amq.mine", false, &[]),
                403,
                "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
            ),
            (
                with("q", true, &[]),
                406,
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
            ),
            (
                with("q", false, &priority),
                406,
                "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received the value '10' of type 'signedint' but current is none",
            ),
            (
                with("new", false, &ttl),
                406,
                "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'new' in vhost '/': {value_negative,-1}",
            ),
            (
                purge("none"),
                404,
                "NOT_FOUND - no queue 'none' in vhost '/'",
            ),
        ],
    );
    let stream = encoded([("x-queue-type", Value::from("stream"))]);
    declare(
        &mut client,
        Queue {
            durable: true,
            arguments: &stream,
            ..named("s")
        },
    );
    client.expect_close(540, "NOT_IMPLEMENTED - stream queues are not supported yet");
}

#[test]
fn queues_in_use_or_not_empty_can_be_spared() {
    let mut client = Server::new().channel();
    client.declare("q");
    client.publish("q", b"x");
    refused(
        &mut client,
        &[(
            delete_queue("q", false, true),
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
        )],
    );
    client.open(2);
    client.consume_on(2, "q", "c", true);
    client.delivery();
    refused(
        &mut client,
        &[(
            delete_queue("q", true, false),
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
        )],
    );
}

#[test]
fn another_connections_exclusive_queue_is_locked() {
    let server = Server::new();
    let mut owner = server.channel();
    declare(
        &mut owner,
        Queue {
            exclusive: true,
            ..named("mine")
        },
    );
    expect_queue(&mut owner, "mine", 0, 0);
    let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.";
    let plain = |passive, exclusive| Method::QueueDeclare {
        queue: "mine",
        passive,
        durable: false,
        exclusive,
        auto_delete: false,
        no_wait: false,
        arguments: TableView::new(&[]),
    };
    let mut other = server.channel();
    refused(
        &mut other,
        &[
            (plain(true, false), 405, locked),
            (plain(false, false), 405, locked),
            (plain(false, true), 405, locked),
            (delete_queue("mine", false, false), 405, locked),
            (purge("mine"), 405, locked),
            (bind("mine", "amq.direct", "k", &[]), 405, locked),
            (unbind("mine", "amq.direct", "k"), 405, locked),
            (
                Method::BasicGet {
                    queue: "mine",
                    no_ack: true,
                },
                405,
                locked,
            ),
        ],
    );
    // Publishing is nobody's privilege.
    other.publish("mine", b"x");
    other.expect_silence();
    // The owner itself may not make it another.
    refused(&mut owner, &[(plain(false, false), 405, locked)]);
    owner.session.lost();
    refused(
        &mut other,
        &[(
            plain(true, false),
            404,
            "NOT_FOUND - no queue 'mine' in vhost '/'",
        )],
    );
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let server = Server::new();
    let mut client = server.channel();
    declare(
        &mut client,
        Queue {
            auto_delete: true,
            ..named("q")
        },
    );
    expect_queue(&mut client, "q", 0, 0);
    client.publish("q", b"x");
    client.consume("q", "c", false);
    client.delivery();
    client.send(
        1,
        &Method::BasicCancel {
            consumer_tag: "c",
            no_wait: false,
        },
    );
    client.expect(1, &Method::BasicCancelOk { consumer_tag: "c" });
    assert!(server.host().queue("q").is_err());
    client.ack(1, false); // gone with it
    client.expect_silence();
}
