//! Methods as tests ask them, and the answers that more than one file of tests expects.

use wherry_amqp::codec::Method;
use wherry_engine::table::TableView;

use crate::client::Client;

pub(crate) fn start_ok(client: &mut Client, mechanism: &str, response: &[u8]) {
    client.send(
        0,
        &Method::ConnectionStartOk {
            client_properties: TableView::new(&[]),
            mechanism,
            response,
            locale: "en_US",
        },
    );
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Queue<'a> {
    pub(crate) name: &'a str,
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) no_wait: bool,
    pub(crate) arguments: &'a [u8],
}

pub(crate) fn declare(client: &mut Client, queue: Queue<'_>) {
    client.send(
        1,
        &Method::QueueDeclare {
            queue: queue.name,
            passive: queue.passive,
            durable: queue.durable,
            exclusive: queue.exclusive,
            auto_delete: queue.auto_delete,
            no_wait: queue.no_wait,
            arguments: TableView::new(queue.arguments),
        },
    );
}

pub(crate) fn named(name: &str) -> Queue<'_> {
    Queue {
        name,
        ..Queue::default()
    }
}

pub(crate) fn expect_queue(client: &mut Client, name: &str, messages: u32, consumers: u32) {
    client.expect(
        1,
        &Method::QueueDeclareOk {
            queue: name,
            message_count: messages,
            consumer_count: consumers,
        },
    );
}

pub(crate) fn exchange<'a>(name: &'a str, kind: &'a str, arguments: &'a [u8]) -> Method<'a> {
    Method::ExchangeDeclare {
        exchange: name,
        kind,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: TableView::new(arguments),
    }
}

pub(crate) fn passive_exchange(name: &str) -> Method<'_> {
    Method::ExchangeDeclare {
        exchange: name,
        kind: "",
        passive: true,
        durable: false,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: TableView::new(&[]),
    }
}

pub(crate) fn delete_exchange(name: &str, if_unused: bool) -> Method<'_> {
    Method::ExchangeDelete {
        exchange: name,
        if_unused,
        no_wait: false,
    }
}

pub(crate) fn delete_queue(name: &str, if_unused: bool, if_empty: bool) -> Method<'_> {
    Method::QueueDelete {
        queue: name,
        if_unused,
        if_empty,
        no_wait: false,
    }
}

pub(crate) fn bind<'a>(
    queue: &'a str,
    source: &'a str,
    key: &'a str,
    arguments: &'a [u8],
) -> Method<'a> {
    Method::QueueBind {
        queue,
        exchange: source,
        routing_key: key,
        no_wait: false,
        arguments: TableView::new(arguments),
    }
}

pub(crate) fn unbind<'a>(queue: &'a str, source: &'a str, key: &'a str) -> Method<'a> {
    Method::QueueUnbind {
        queue,
        exchange: source,
        routing_key: key,
        arguments: TableView::new(&[]),
    }
}

pub(crate) fn bind_exchange<'a>(destination: &'a str, source: &'a str) -> Method<'a> {
    Method::ExchangeBind {
        destination,
        source,
        routing_key: "k",
        no_wait: false,
        arguments: TableView::new(&[]),
    }
}

pub(crate) fn unbind_exchange<'a>(destination: &'a str, source: &'a str) -> Method<'a> {
    Method::ExchangeUnbind {
        destination,
        source,
        routing_key: "k",
        no_wait: false,
        arguments: TableView::new(&[]),
    }
}

pub(crate) fn purge(name: &str) -> Method<'_> {
    Method::QueuePurge {
        queue: name,
        no_wait: false,
    }
}

/// Each method is refused on a channel of its own, with this code and text.
pub(crate) fn refused(client: &mut Client, cases: &[(Method<'_>, u16, &str)]) {
    for (method, code, text) in cases {
        client.send(1, method);
        client.expect_channel_close(*code, text);
        client.open(1);
    }
}

pub(crate) fn consume_with(
    client: &mut Client,
    queue: &str,
    tag: &str,
    exclusive: bool,
    arguments: &[u8],
) {
    client.send(
        1,
        &Method::BasicConsume {
            queue,
            consumer_tag: tag,
            no_local: true,
            no_ack: false,
            exclusive,
            no_wait: false,
            arguments: TableView::new(arguments),
        },
    );
}

pub(crate) fn cancel(client: &mut Client, tag: &str) {
    client.send(
        1,
        &Method::BasicCancel {
            consumer_tag: tag,
            no_wait: false,
        },
    );
}

pub(crate) fn get(client: &mut Client, queue: &str, no_ack: bool) {
    client.send(1, &Method::BasicGet { queue, no_ack });
}

/// Tag, redelivered, body, count left.
pub(crate) fn got(client: &mut Client) -> (u64, bool, String, u32) {
    let first = client.next();
    let Method::BasicGetOk {
        delivery_tag,
        redelivered,
        message_count,
        ..
    } = first.method()
    else {
        panic!("{:?}", first.method());
    };
    let body = client.content(first.clone()).body;
    (
        delivery_tag,
        redelivered,
        String::from_utf8(body).unwrap(),
        message_count,
    )
}
