//! Exchanges and bindings: declarations, deletions, and the words of refusals. More single cases against RabbitMQ's recorded
//! answers are in tests/differential.

use wherry_amqp::codec::Method;
use wherry_engine::properties::Properties;
use wherry_engine::table::{TableView, Value};

use crate::client::{Server, encoded};
use crate::methods::{
    bind, bind_exchange, delete_exchange, exchange, passive_exchange, refused, unbind,
    unbind_exchange,
};

#[test]
fn exchanges_are_declared_bound_and_deleted() {
    let server = Server::new();
    let mut client = server.channel();
    for kind in ["direct", "fanout", "topic", "headers"] {
        client.send(1, &exchange(kind, kind, &[]));
        client.expect(1, &Method::ExchangeDeclareOk {});
        client.send(1, &passive_exchange(kind));
        client.expect(1, &Method::ExchangeDeclareOk {});
    }
    for _ in 0..2 {
        client.send(1, &bind_exchange("fanout", "direct"));
        client.expect(1, &Method::ExchangeBindOk {});
    }
    client.send(1, &bind_exchange("direct", "fanout")); // in a circle
    client.expect(1, &Method::ExchangeBindOk {});
    client.declare("q");
    client.send(1, &bind("q", "fanout", "", &[]));
    client.expect(1, &Method::QueueBindOk {});
    client.publish_to("direct", "k", true, &Properties::default(), b"once");
    client.consume("q", "c", true);
    assert_eq!(client.bodies(), ["once"]);
    for _ in 0..2 {
        client.send(1, &unbind_exchange("fanout", "direct"));
        client.expect(1, &Method::ExchangeUnbindOk {});
        client.send(1, &unbind("q", "fanout", ""));
        client.expect(1, &Method::QueueUnbindOk {});
    }
    refused(
        &mut client,
        &[(
            delete_exchange("fanout", true),
            406,
            "PRECONDITION_FAILED - exchange 'fanout' in vhost '/' in use",
        )],
    );
    for _ in 0..2 {
        client.send(1, &delete_exchange("fanout", false));
        client.expect(1, &Method::ExchangeDeleteOk {});
    }
}

#[test]
fn exchanges_are_refused_in_rabbitmqs_words() {
    let mut client = Server::new().channel();
    client.declare("q");
    let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
    let some = encoded([("x-match", Value::from("some"))]);
    let number = encoded([("x-match", Value::I32(5))]);
    refused(
        &mut client,
        &[
            (exchange("", "direct", &[]), 403, default),
            (passive_exchange(""), 403, default),
            (delete_exchange("", false), 403, default),
            (bind("q", "", "k", &[]), 403, default),
            (unbind("q", "", "k"), 403, default),
            (bind_exchange("", "amq.direct"), 403, default),
            (bind_exchange("amq.direct", ""), 403, default),
            (unbind_exchange("amq.direct", ""), 403, default),
            (
                exchange("amq.mine", "direct", &[]),
                403,
                "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
            ),
            (
                delete_exchange("amq.direct", false),
                403,
                "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed",
            ),
            (
                Method::ExchangeDeclare {
                    exchange: "amq.direct",
                    kind: "fanout",
                    passive: false,
                    durable: true,
                    auto_delete: false,
                    internal: false,
                    no_wait: false,
                    arguments: TableView::new(&[]),
                },
                406,
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'fanout' but current is 'direct'",
            ),
            (
                passive_exchange("none"),
                404,
                "NOT_FOUND - no exchange 'none' in vhost '/'",
            ),
            (
                bind("q", "none", "k", &[]),
                404,
                "NOT_FOUND - no exchange 'none' in vhost '/'",
            ),
            (
                bind("none", "none", "k", &[]),
                404,
                "NOT_FOUND - no exchange 'none' in vhost '/'",
            ),
            (
                bind("none", "amq.direct", "k", &[]),
                404,
                "NOT_FOUND - no queue 'none' in vhost '/'",
            ),
            (
                bind("", "amq.direct", "k", &[]),
                404,
                "NOT_FOUND - no previously declared queue",
            ),
            (
                bind("q", "amq.headers", "", &some),
                406,
                "PRECONDITION_FAILED - Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x",
            ),
            (
                bind("q", "amq.headers", "", &number),
                406,
                "PRECONDITION_FAILED - Invalid x-match field type signedint (value 5); expected longstr",
            ),
            (
                bind_exchange("none", "amq.direct"),
                404,
                "NOT_FOUND - no exchange 'none' in vhost '/'",
            ),
            (
                exchange("e", "strange", &[]),
                406,
                "PRECONDITION_FAILED - unknown exchange type 'strange'",
            ),
        ],
    );
}

#[test]
fn federation_is_told_as_by_a_server_without_its_plugin() {
    // It takes this answer alone for that, on a connection of its own, and then declares a fanout.
    let mut client = Server::new().channel();
    client.send(1, &exchange("e", "x-federation-upstream", &[]));
    client.expect_close(
        503,
        "COMMAND_INVALID - unknown exchange type 'x-federation-upstream'",
    );
}

#[test]
fn a_binding_that_is_not_there_is_removed_already() {
    let mut client = Server::new().channel();
    client.declare("q");
    for method in [
        unbind("q", "amq.direct", "none"),
        unbind("none", "amq.direct", "k"),
        unbind("q", "none", "k"),
    ] {
        client.send(1, &method);
        client.expect(1, &Method::QueueUnbindOk {});
    }
    client.send(1, &unbind_exchange("none", "amq.direct"));
    client.expect(1, &Method::ExchangeUnbindOk {});
}
