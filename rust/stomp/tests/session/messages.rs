//! SEND and MESSAGE: destinations, headers and properties, receipts.

use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};
use wherry_engine::{NewMessage, QueueOptions};
use wherry_session::Session as _;
use wherry_stomp::codec::Version;

use crate::client::Server;

#[test]
fn a_message_goes_from_client_to_client() {
    let server = Server::new();
    let (mut from, mut to) = (server.v12(), server.v12());
    to.ask("SUBSCRIBE\nid:s:1\ndestination:/queue/a%2Fb\n\n\0");
    from.send_bytes(b"SEND\ndestination:/queue/a%2Fb\ncontent-length:3\nx-own:a\\nb\n\nx\0y\0");
    assert_eq!(to.bell.rings(), 1);
    let message = to.message();
    assert_eq!(message.get("subscription"), "s:1");
    assert_eq!(message.get("destination"), "/queue/a%2Fb");
    assert_eq!(message.get("redelivered"), "false");
    assert_eq!(message.get("x-own"), "a\nb");
    assert_eq!(message.get("content-length"), "3");
    assert!(message.get("message-id").starts_with("T_s:1@@session-"));
    assert_eq!(
        message.header("ack"),
        None,
        "in mode auto there is nothing to say"
    );
    assert_eq!(message.body, b"x\0y");
    to.nothing();
    server.host().queue("a/b").unwrap();
    let info = from.session.info();
    assert_eq!((info.messages_in, to.session.info().messages_out), (1, 1));
}

#[test]
fn properties_are_those_of_amqp() {
    let server = Server::new();
    let mut client = server.v12();
    let (queue, _) = server
        .host()
        .declare_queue("q", QueueOptions::default())
        .unwrap();
    client.ask(
        "SEND\ndestination:/amq/queue/q\ncontent-type:text/plain\ncontent-encoding:utf8\npersistent:true\npriority:3\n\
        correlation-id:c1\nreply-to:/queue/answers\nexpiration:60000\namqp-message-id:m1\ntimestamp:5\ntype:T\nuser-id:guest\n\
        app-id:app\ncluster-id:cl\nx-own:1\nx-own:2\nx-max-length:99\n\nb\0",
    );
    let consumer = queue.consume(Default::default(), None).unwrap();
    let mut taken = Vec::new();
    consumer.take(1, &mut taken);
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let headers: Table = [("x-own", Value::from("1"))].into_iter().collect();
    let expected = Properties {
        content_type: text("text/plain"),
        content_encoding: text("utf8"),
        headers: Some(headers),
        delivery_mode: Some(2),
        priority: Some(3),
        correlation_id: text("c1"),
        reply_to: text("/queue/answers"),
        expiration: text("60000"),
        message_id: text("m1"),
        timestamp: Some(5),
        type_: text("T"),
        user_id: text("guest"),
        app_id: text("app"),
        cluster_id: text("cl"),
    };
    let properties = taken[0].message.properties().to_properties().unwrap();
    assert_eq!(properties, expected);
    assert_eq!(
        taken[0].message.properties_bytes(),
        expected.encode().unwrap()
    );
    assert!(taken[0].message.persistent());
    drop(consumer);
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\n\n\0");
    let message = client.message();
    for (name, value) in [
        ("redelivered", "true"),
        ("content-type", "text/plain"),
        ("content-encoding", "utf8"),
        ("persistent", "true"),
        ("priority", "3"),
        ("correlation-id", "c1"),
        ("reply-to", "/queue/answers"),
        ("expiration", "60000"),
        ("amqp-message-id", "m1"),
        ("timestamp", "5"),
        ("type", "T"),
        ("user-id", "guest"),
        ("app-id", "app"),
        ("cluster-id", "cl"),
        ("x-own", "1"),
    ] {
        assert_eq!(message.get(name), value, "{name}");
    }
    assert_eq!(message.headers.len(), 15 + 4, "{message:?}");
}

#[test]
fn headers_of_amqp_clients_become_text() {
    let server = Server::new();
    let mut client = server.connect(Version::V1_1);
    client.ask("SUBSCRIBE\nid:1\ndestination:/queue/q\n\n\0");
    let entry: Table = [("count", Value::I64(1)), ("queue", Value::from("dead"))]
        .into_iter()
        .collect();
    let headers: Table = [
        ("number", Value::I32(-7)),
        ("flag", Value::Bool(true)),
        ("x-death", Value::Array(vec![Value::Table(entry)])),
        ("x-first-death-queue", Value::from("dead")),
        ("co:lon", Value::from("a\nb")),
        ("carriage", Value::from("a\rb")),
        ("nul", Value::from("a\0b")),
        ("message-id", Value::from("forged")),
        ("destination", Value::from("forged")),
        ("content-length", Value::from("0")),
        ("type", Value::from("a header of that name")),
        ("\u{fc}", Value::from("\u{fc}")),
    ]
    .into_iter()
    .collect();
    let properties = Properties {
        headers: Some(headers),
        reply_to: Some(b"amq.gen-1".to_vec()),
        ..Properties::default()
    };
    let message = NewMessage {
        properties: &properties.encode().unwrap(),
        ..NewMessage::new("q", b"body")
    };
    server
        .host()
        .exchange("")
        .unwrap()
        .publish(&message)
        .unwrap();
    let message = client.message();
    for (name, value) in [
        ("number", "-7"),
        ("flag", "true"),
        ("x-death", r#"[{"count":1,"queue":"dead"}]"#),
        ("x-first-death-queue", "dead"),
        ("co:lon", "a\nb"),
        ("type", "a header of that name"),
        ("reply-to", "/reply-queue/amq.gen-1"),
        ("\u{fc}", "\u{fc}"),
    ] {
        assert_eq!(message.get(name), value);
    }
    // What the version cannot say, and what would pretend to be the server's own.
    for name in ["carriage", "nul"] {
        assert_eq!(message.header(name), None);
    }
    for name in ["message-id", "destination", "content-length"] {
        let all = message.headers.iter().filter(|(known, _)| known == name);
        assert_eq!(
            all.map(|(_, value)| value.as_str())
                .filter(|v| *v == "forged" || *v == "0")
                .count(),
            0
        );
    }
}

#[test]
fn topics_and_exchanges_have_queues_of_their_own() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SUBSCRIBE\nid:1\ndestination:/topic/a.*\n\n\0");
    client.ask("SUBSCRIBE\nid:2\ndestination:/exchange/amq.fanout\n\n\0");
    client.ask("SUBSCRIBE\nid:3\ndestination:/exchange/amq.direct/k\n\n\0");
    let queues = server.host().queues();
    assert_eq!(queues.len(), 3);
    for queue in &queues {
        assert!(queue.name().starts_with("stomp-subscription-"));
        let options = queue.options();
        assert!(options.exclusive.is_some() && options.auto_delete && !options.durable);
    }
    for (to, subscription, shown) in [
        ("/topic/a.b%2Fc", "1", "/topic/a.b%2Fc"),
        ("/exchange/amq.topic/a.\u{e9}", "1", "/topic/a.%C3%A9"),
        ("/exchange/amq.fanout", "2", "/exchange/amq.fanout"),
        ("/exchange/amq.fanout/x", "2", "/exchange/amq.fanout/x"),
        ("/exchange/amq.direct/k", "3", "/exchange/amq.direct/k"),
    ] {
        client.send(&format!("SEND\ndestination:{to}\n\nx\0"));
        let message = client.message();
        assert_eq!(message.get("subscription"), subscription);
        assert_eq!(message.get("destination"), shown);
    }
    client.send("SEND\ndestination:/topic/b.c\n\nnobody\0");
    client.nothing();
    client.ask("UNSUBSCRIBE\nid:1\n\n\0");
    assert_eq!(server.host().queues().len(), 2);
    client.session.lost();
    assert_eq!(server.host().queues().len(), 0);
    server.assert_empty();
}

#[test]
fn a_reply_comes_back_by_a_queue_of_the_connection() {
    let server = Server::new();
    let (mut asks, mut answers) = (server.v12(), server.v12());
    answers.ask("SUBSCRIBE\nid:1\ndestination:/queue/requests\n\n\0");
    for body in ["one", "two"] {
        asks.ask(&format!(
            "SEND\ndestination:/queue/requests\nreply-to:/temp-queue/foo\n\n{body}\0"
        ));
        let request = answers.message();
        let reply_to = request.get("reply-to").to_string();
        assert!(reply_to.starts_with("/reply-queue/amq.gen-"), "{reply_to}");
        answers.ask(&format!("SEND\ndestination:{reply_to}\n\n{body} too\0"));
        let reply = asks.message();
        assert_eq!(reply.get("subscription"), "/temp-queue/foo");
        assert_eq!(reply.text(), format!("{body} too"));
    }
    assert_eq!(server.host().queues().len(), 2, "one queue for all replies");
    asks.session.lost();
    assert_eq!(server.host().queues().len(), 1);
}

#[test]
fn a_send_that_cannot_be_is_an_error() {
    let server = Server::new();
    let case = |headers: &str, message: &str, text: &str| {
        let mut client = server.v12();
        client.send(&format!("SEND\nreceipt:r\n{headers}\n\n\0"));
        let shown = client.error(message);
        assert_eq!(shown, text, "{headers}");
    };
    case(
        "a:b",
        "Missing destination",
        "\"SEND\" must include a 'destination' header\n",
    );
    case(
        "destination:/queue/a\nmessage-id:1",
        "Invalid header",
        "'message-id' is not allowed on 'SEND'.\n",
    );
    case(
        "destination:/temp-queue/a",
        "Invalid destination",
        "'/temp-queue/a' is not a valid destination for 'SEND'\n",
    );
    case(
        "destination:/exchange/nope/k",
        "not_found",
        "NOT_FOUND - no exchange 'nope' in vhost '/'",
    );
    case(
        "destination:/queue/a\nuser-id:bob",
        "precondition_failed",
        "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'",
    );
    case(
        "destination:/queue/a\npriority:high",
        "Invalid header",
        "'high' is not a valid priority: use a whole number in range\n",
    );
    case(
        "destination:/queue/a\npersistent:yes",
        "Invalid header",
        "'yes' is not a valid persistent: use true or false\n",
    );
    case(
        "destination:/queue/amq.q",
        "access_refused",
        "ACCESS_REFUSED - queue name 'amq.q' contains reserved prefix 'amq.*'",
    );
    case(
        "destination:/queue/full\nx-max-length:abc",
        "precondition_failed",
        "PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 'full' in vhost '/': \"expected integer, got longstr\"",
    );
    let mut client = server.v12();
    client.send("SEND\ndestination:/queue/a\nexpiration:abc\n\n\0");
    assert!(
        client
            .error("precondition_failed")
            .contains("invalid expiration 'abc'")
    );
    let long = "x".repeat(256);
    for headers in [format!("{long}:a"), format!("type:{long}")] {
        let mut client = server.v12();
        client.send(&format!("SEND\ndestination:/queue/a\n{headers}\n\n\0"));
        client.error("Invalid header");
    }
    assert_eq!(server.host().queue("a").unwrap().message_count(), 0);
}

#[test]
fn a_full_queue_refuses_who_wants_to_know() {
    let server = Server::new();
    let mut client = server.v12();
    client.ask("SEND\ndestination:/queue/q\nx-max-length:1\nx-overflow:reject-publish\n\n1\0");
    client.send("SEND\ndestination:/queue/q\n\n2\0");
    client.nothing();
    client.send("SEND\ndestination:/queue/q\nreceipt:r3\n\n3\0");
    let text = client.error("Message refused");
    assert_eq!(text, "queue 'q' is full and refuses messages");
    assert_eq!(server.host().queue("q").unwrap().message_count(), 1);
    assert_eq!(server.front.counters().refused.get(), 1);
}
