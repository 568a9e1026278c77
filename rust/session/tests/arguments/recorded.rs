//! Texts of refusals. Tests called "recorded" hold what RabbitMQ 3.10.8 answered to the same declaration of queue `q` in
//! virtual host `/` (exchange `e`, consumer of queue `q`).

use wherry_engine::table::{TableView, Value};
use wherry_engine::{ExchangeKind, ExchangeOptions};
use wherry_session::arguments::{ConsumeArguments, exchange_options, queue_options};
use wherry_session::{Failure, FailureKind};

use crate::{consume, exchange, millis, queue, refused, table, text};

/// One value of each type, and RabbitMQ's word for the type.
fn types() -> Vec<(Value, &'static str)> {
    vec![
        (Value::Bool(true), "bool"),
        (Value::I8(5), "byte"),
        (Value::U8(5), "unsignedbyte"),
        (Value::I16(5), "short"),
        (Value::U16(5), "unsignedshort"),
        (Value::I32(5), "signedint"),
        (Value::U32(5), "unsignedint"),
        (Value::I64(5), "long"),
        (Value::F32(1.5), "float"),
        (Value::F64(1.5), "double"),
        (
            Value::Decimal {
                scale: 1,
                value: 15,
            },
            "decimal",
        ),
        (text("word"), "longstr"),
        (Value::Bytes(b"raw".to_vec()), "binary"),
        (Value::Array(vec![Value::I32(1)]), "array"),
        (Value::Table(table(&[("a", Value::I32(1))])), "table"),
        (Value::Timestamp(1_577_836_800), "timestamp"),
        (Value::Void, "void"),
    ]
}

fn is_integer(word: &str) -> bool {
    matches!(
        word,
        "byte" | "unsignedbyte" | "short" | "unsignedshort" | "signedint" | "unsignedint" | "long"
    )
}

#[test]
fn whole_numbers_are_of_any_integer_type_recorded() {
    for (value, word) in types() {
        for key in [
            "x-message-ttl",
            "x-expires",
            "x-max-length",
            "x-max-length-bytes",
            "x-max-priority",
        ] {
            let result = queue(&[(key, value.clone())]);
            if is_integer(word) {
                assert!(result.is_ok(), "{key} {word}");
                continue;
            }
            assert_eq!(
                refused(result),
                format!(
                    "invalid arg '{key}' for queue 'q' in vhost '/': \"expected integer, got {word}\""
                )
            );
        }
    }
}

#[test]
fn texts_and_flags_are_of_one_type_recorded() {
    for (value, word) in types() {
        for (key, wanted) in [
            ("x-overflow", "longstr"),
            ("x-queue-type", "longstr"),
            ("x-queue-mode", "longstr"),
            ("x-single-active-consumer", "bool"),
        ] {
            if word == wanted {
                continue;
            }
            assert_eq!(
                refused(queue(&[(key, value.clone())])),
                format!(
                    "invalid arg '{key}' for queue 'q' in vhost '/': {{unacceptable_type,{word}}}"
                )
            );
        }
        if word != "longstr" {
            let routed = [
                ("x-dead-letter-exchange", text("e")),
                ("x-dead-letter-routing-key", value.clone()),
            ];
            assert_eq!(
                refused(queue(&routed)),
                format!(
                    "invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': {{unacceptable_type,{word}}}"
                )
            );
            assert_eq!(
                refused(queue(&[("x-dead-letter-exchange", value.clone())])),
                format!(
                    "invalid type '{word}' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"
                )
            );
            assert_eq!(
                refused(exchange("direct", &[("alternate-exchange", value)])),
                format!(
                    "invalid type '{word}' for arg 'alternate-exchange' in exchange 'e' in vhost '/'"
                )
            );
        }
    }
}

#[test]
fn values_out_of_range_are_refused_recorded() {
    let quorum = ("x-queue-type", text("quorum"));
    for (key, value, why) in [
        ("x-message-ttl", Value::I32(-1), "{value_negative,-1}"),
        ("x-message-ttl", Value::I8(-5), "{value_negative,-5}"),
        (
            "x-message-ttl",
            Value::I64(315_360_000_001),
            "{value_too_large,315360000001}",
        ),
        (
            "x-message-ttl",
            Value::I64(-4_611_686_018_427_387_904),
            "{value_negative,-4611686018427387904}",
        ),
        ("x-expires", Value::I32(-1), "{value_negative,-1}"),
        ("x-expires", Value::I32(0), "{value_zero,0}"),
        (
            "x-expires",
            Value::I64(1_099_511_627_776),
            "{value_too_large,1099511627776}",
        ),
        ("x-max-length", Value::I32(-1), "{value_negative,-1}"),
        ("x-max-length-bytes", Value::I32(-1), "{value_negative,-1}"),
        ("x-overflow", text("word"), "invalid_overflow"),
        ("x-max-priority", Value::I32(-1), "{value_negative,-1}"),
        (
            "x-max-priority",
            Value::I32(256),
            "{max_value_exceeded,256}",
        ),
        (
            "x-queue-type",
            text("word"),
            "\"unsupported queue type 'word'\"",
        ),
        (
            "x-queue-mode",
            text("word"),
            "\"unsupported queue mode 'word'\"",
        ),
        ("x-queue-version", Value::I32(-1), "{value_negative,-1}"),
        (
            "x-queue-version",
            Value::I32(0),
            "\"unsupported queue version '0'\"",
        ),
        (
            "x-dead-letter-routing-key",
            text("k"),
            "routing_key_but_no_dlx_defined",
        ),
    ] {
        assert_eq!(
            refused(queue(&[(key, value)])),
            format!("invalid arg '{key}' for queue 'q' in vhost '/': {why}")
        );
    }
    for (key, value, why) in [
        (
            "x-dead-letter-strategy",
            text("word"),
            "invalid_dlx_strategy",
        ),
        (
            "x-queue-leader-locator",
            text("word"),
            "invalid_queue_locator_arg",
        ),
        (
            "x-quorum-initial-group-size",
            Value::I32(0),
            "{value_zero,0}",
        ),
        (
            "x-quorum-initial-group-size",
            text("word"),
            "\"expected integer, got longstr\"",
        ),
        (
            "x-max-in-memory-length",
            Value::I32(-1),
            "{value_negative,-1}",
        ),
        (
            "x-max-in-memory-bytes",
            Value::I32(-1),
            "{value_negative,-1}",
        ),
    ] {
        assert_eq!(
            refused(queue(&[(key, value), quorum.clone()])),
            format!("invalid arg '{key}' for queue 'q' in vhost '/': {why}")
        );
    }
}

#[test]
fn quorum_queues_are_durable_and_shared_recorded() {
    let bytes = table(&[("x-queue-type", text("quorum"))]).encode().unwrap();
    let declare = |durable, exclusive, auto_delete| {
        queue_options(
            "/",
            "q",
            durable,
            exclusive,
            auto_delete,
            TableView::new(&bytes),
        )
    };
    for (durable, exclusive, auto_delete, property) in [
        (false, None, false, "non-durable"),
        (true, Some(7), false, "exclusive-owner"),
        (true, None, true, "auto-delete"),
        (false, Some(7), true, "auto-delete"),
    ] {
        assert_eq!(
            refused(declare(durable, exclusive, auto_delete)),
            format!("invalid property '{property}' for queue 'q' in vhost '/'")
        );
    }
    let options = declare(true, None, false).unwrap();
    assert_eq!(options.delivery_limit, Some(20));
}

#[test]
fn arguments_of_streams_are_refused_recorded() {
    for key in ["x-max-age", "x-stream-max-segment-size-bytes"] {
        assert_eq!(
            refused(queue(&[(key, Value::I32(5))])),
            format!(
                "invalid arg '{key}' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"
            )
        );
    }
    let fields = [("x-queue-type", text("quorum")), ("x-max-age", text("1D"))];
    assert_eq!(
        refused(queue(&fields)),
        "invalid arg 'x-max-age' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue"
    );
    assert_eq!(
        refused(consume(&[("x-stream-offset", text("first"))])),
        "invalid arg 'x-stream-offset' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"
    );
}

#[test]
fn streams_are_not_there_yet() {
    let failure = queue(&[("x-queue-type", text("stream"))]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotImplemented);
    assert_eq!(failure.text, "stream queues are not supported yet");
}

#[test]
fn exchanges() {
    for (word, kind) in [
        ("direct", ExchangeKind::Direct),
        ("topic", ExchangeKind::Topic),
        ("fanout", ExchangeKind::Fanout),
        ("headers", ExchangeKind::Headers),
    ] {
        let fields = [("alternate-exchange", text("other"))];
        let expected = ExchangeOptions {
            kind,
            alternate_exchange: Some("other".into()),
            arguments: table(&fields),
            ..ExchangeOptions::default()
        };
        assert_eq!(exchange(word, &fields).unwrap(), expected);
        let options = exchange("x-delayed-message", &[("x-delayed-type", text(word))]).unwrap();
        assert_eq!(options.kind, kind);
        assert_eq!(options.type_name(), "x-delayed-message");
    }
    let flags = exchange_options("/", "e", "topic", false, true, true, TableView::default());
    let flags = flags.unwrap();
    assert!(!flags.durable && flags.auto_delete && flags.internal);
    assert_eq!(flags.type_name(), "topic");
    // The words are recorded; 3.10 closes the connection with them.
    assert_eq!(
        refused(exchange("nope", &[])),
        "unknown exchange type 'nope'"
    );
    assert_eq!(refused(exchange("", &[])), "invalid exchange type ''");
    // As 3.10 still, since federation knows a server without its plugin by that.
    let upstream = exchange("x-federation-upstream", &[("x-max-hops", Value::I64(1))]);
    assert_eq!(
        upstream.unwrap_err(),
        Failure::new(
            FailureKind::CommandInvalid,
            "unknown exchange type 'x-federation-upstream'"
        )
    );
    for fields in [
        vec![],
        vec![("x-delayed-type", text("x-delayed-message"))],
        vec![("x-delayed-type", Value::I32(5))],
    ] {
        assert_eq!(
            refused(exchange("x-delayed-message", &fields)),
            "Invalid argument, 'x-delayed-type' must be an existing exchange type"
        );
    }
}

#[test]
fn consumers() {
    assert_eq!(consume(&[]), Ok(ConsumeArguments::default()));
    for (given, priority) in [
        (Value::I32(-1), -1),
        (Value::I64(1_099_511_627_776), i32::MAX),
        (Value::I64(-2_147_483_649), i32::MIN),
    ] {
        let expected = ConsumeArguments {
            priority,
            lease: None,
        };
        assert_eq!(consume(&[("x-priority", given)]), Ok(expected));
    }
    let lease = consume(&[("x-lease", Value::I32(2500))]).unwrap().lease;
    assert_eq!(lease, millis(2500));
    assert!(refused(consume(&[("x-lease", Value::I32(0))])).ends_with("{value_zero,0}"));
    assert!(consume(&[("x-cancel-on-ha-failover", Value::Bool(true))]).is_ok());
    assert!(consume(&[("x-consumer-timeout", Value::Void)]).is_ok());
    // Recorded.
    assert_eq!(
        refused(consume(&[("x-priority", text("5"))])),
        "invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\""
    );
    assert_eq!(
        refused(consume(&[("x-cancel-on-ha-failover", Value::I32(1))])),
        "invalid arg 'x-cancel-on-ha-failover' for queue 'q' in vhost '/': {unacceptable_type,signedint}"
    );
}
