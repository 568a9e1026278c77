//! Replies without a queue.

use wherry_amqp::codec::Method;
use wherry_engine::properties::Properties;
use wherry_engine::table::TableView;

use crate::client::{Client, Server};
use crate::methods::{cancel, consume_with};

pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn request(client: &mut Client) {
    let properties = Properties {
        reply_to: Some(REPLY_TO.into()),
        ..Properties::default()
    };
    client.publish_to("", "work", false, &properties, b"question");
}

#[test]
fn a_reply_comes_back_without_a_queue() {
    let server = Server::new();
    let mut client = server.channel();
    client.declare("work");
    client.consume(REPLY_TO, "r", true);
    request(&mut client);
    let mut worker = server.channel();
    worker.consume("work", "w", true);
    let question = worker.delivery();
    let name = String::from_utf8(question.properties.reply_to.unwrap()).unwrap();
    assert!(
        name.starts_with("amq.rabbitmq.reply-to.") && name.len() > 40,
        "{name}"
    );
    let declare = |name| Method::QueueDeclare {
        queue: name,
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: TableView::new(&[]),
    };
    worker.send(1, &declare(&name));
    worker.expect(
        1,
        &Method::QueueDeclareOk {
            queue: &name,
            message_count: 0,
            consumer_count: 1,
        },
    );
    let rings = client.bell.rings();
    worker.publish_to("", &name, true, &Properties::default(), b"answer");
    assert_eq!(client.bell.rings(), rings + 1);
    let answer = client.delivery();
    assert_eq!(answer.body, b"answer");
    assert_eq!(
        answer.first.method(),
        Method::BasicDeliver {
            consumer_tag: "r",
            delivery_tag: 1,
            redelivered: false,
            exchange: "",
            routing_key: &name
        }
    );
    cancel(&mut client, "r");
    client.expect(1, &Method::BasicCancelOk { consumer_tag: "r" });
    worker.publish_to("", &name, true, &Properties::default(), b"late");
    worker.expect_silence(); // at most once, and always routed
    worker.send(1, &declare(&name));
    worker.expect_channel_close(404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"));
    client.consume(REPLY_TO, "r", true);
    drop(client);
    assert_eq!(server.front.replies().open_count(), 0);
}

#[test]
fn reply_consumers_are_alone_and_do_not_acknowledge() {
    let mut client = Server::new().channel();
    consume_with(&mut client, REPLY_TO, "r", false, &[]);
    client.expect_channel_close(
        406,
        "PRECONDITION_FAILED - reply consumer cannot acknowledge",
    );
    client.open(1);
    client.consume(REPLY_TO, "r", true);
    client.send(
        1,
        &Method::BasicConsume {
            queue: REPLY_TO,
            consumer_tag: "r2",
            no_local: false,
            no_ack: true,
            exclusive: false,
            no_wait: false,
            arguments: TableView::new(&[]),
        },
    );
    client.expect_channel_close(406, "PRECONDITION_FAILED - reply consumer already set");
}
