//! Declarations from arguments: what they become, and the texts of refusals.
//!
//! Rows marked "recorded" hold what RabbitMQ 3.10.8 answered to the same declaration of queue `q` in virtual host `/`
//! (exchange `e`, consumer of queue `q`).

use std::time::Duration;

use wherry_engine::table::{Table, TableView, Value};
use wherry_engine::{
    DEDUP_ENTRIES_MAX, Dedup, DedupKey, ExchangeKind, ExchangeOptions, Overflow, QueueOptions,
    RetryKind, RetryPolicy,
};
use wherry_session::arguments::{
    ConsumeArguments, consume_arguments, exchange_options, queue_options,
};
use wherry_session::{Failure, FailureKind};

fn table(fields: &[(&str, Value)]) -> Table {
    let mut table = Table::default();
    for (name, value) in fields {
        table.push(*name, value.clone());
    }
    table
}

fn queue(fields: &[(&str, Value)]) -> Result<QueueOptions, Failure> {
    let bytes = table(fields).encode().unwrap();
    queue_options("/", "q", true, None, false, TableView::new(&bytes))
}

fn exchange(kind: &str, fields: &[(&str, Value)]) -> Result<ExchangeOptions, Failure> {
    let bytes = table(fields).encode().unwrap();
    exchange_options("/", "e", kind, true, false, false, TableView::new(&bytes))
}

fn consume(fields: &[(&str, Value)]) -> Result<ConsumeArguments, Failure> {
    let bytes = table(fields).encode().unwrap();
    consume_arguments("/", "q", TableView::new(&bytes))
}

fn refused<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::PreconditionFailed);
    failure.text
}

fn text(value: &str) -> Value {
    Value::Str(value.into())
}

fn millis(n: u64) -> Option<Duration> {
    Some(Duration::from_millis(n))
}

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
fn every_argument_of_a_queue_reaches_the_engine() {
    let fields = [
        ("x-message-ttl", Value::I32(0)),
        ("x-expires", Value::I64(315_360_000_000)),
        ("x-max-length", Value::I32(0)),
        ("x-max-length-bytes", Value::I64(i64::MAX)),
        ("x-overflow", text("reject-publish-dlx")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
        ("x-max-priority", Value::U8(255)),
        ("x-single-active-consumer", Value::Bool(true)),
        ("x-delivery-limit", Value::I32(3)),
        ("x-lease", Value::I32(1500)),
        ("x-unknown", Value::Void),
    ];
    let expected = QueueOptions {
        durable: true,
        message_ttl: millis(0),
        expires: millis(315_360_000_000),
        max_length: Some(0),
        max_length_bytes: Some(i64::MAX as u64),
        overflow: Overflow::RejectPublishDeadLetter,
        dead_letter_exchange: Some(String::new()),
        dead_letter_routing_key: Some("dead".into()),
        max_priority: Some(255),
        single_active_consumer: true,
        delivery_limit: Some(3),
        lease: millis(1500),
        arguments: table(&fields),
        ..QueueOptions::default()
    };
    assert_eq!(queue(&fields).unwrap(), expected);
}

#[test]
fn without_arguments_a_queue_is_plain() {
    let options = queue_options("/", "q", false, Some(7), true, TableView::default()).unwrap();
    let expected = QueueOptions {
        durable: false,
        exclusive: Some(7),
        auto_delete: true,
        ..QueueOptions::default()
    };
    assert_eq!(options, expected);
}

#[test]
fn what_has_no_effect_here_is_taken() {
    for (key, value) in [
        ("x-queue-mode", text("lazy")),
        ("x-queue-mode", text("default")),
        ("x-queue-version", Value::I32(1)),
        ("x-queue-version", Value::I32(2)),
        ("x-queue-leader-locator", text("balanced")),
        ("x-queue-master-locator", text("min-masters")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-quorum-initial-group-size", Value::I32(3)),
        ("x-max-in-memory-length", Value::I32(0)),
        ("x-consumer-timeout", Value::I32(-1)),
        ("x-ha-policy", Value::Void),
        ("x-max-priority", Value::I32(0)),
        ("x-delayed-retry-type", text("disabled")),
    ] {
        let fields = [(key, value)];
        let expected = QueueOptions {
            arguments: table(&fields),
            ..QueueOptions::default()
        };
        assert_eq!(queue(&fields).unwrap(), expected, "{key}");
    }
}

#[test]
fn delivery_limits_count_from_zero_and_minus_one_is_none() {
    let limit = |n: i64, kind: &str| {
        queue(&[
            ("x-delivery-limit", Value::I64(n)),
            ("x-queue-type", text(kind)),
        ])
        .map(|options| options.delivery_limit)
    };
    for kind in ["classic", "quorum"] {
        assert_eq!(limit(-1, kind), Ok(None));
        assert_eq!(limit(0, kind), Ok(Some(0)));
        assert_eq!(limit(7, kind), Ok(Some(7)));
        assert!(refused(limit(-2, kind)).ends_with("{value_negative,-2}"));
        assert!(refused(limit(1 << 32, kind)).ends_with("{value_too_large,4294967296}"));
    }
}

#[test]
fn retry_policies() {
    let policy = |fields: &[(&str, Value)]| queue(fields).map(|options| options.retry.unwrap());
    let plain = RetryPolicy {
        kind: RetryKind::Exponential,
        attempts: 5,
        first: Duration::from_millis(200),
        factor: 2.0,
        maximum: None,
        jitter: false,
        dead_letter: None,
    };
    let attempts = ("x-retry-attempts", Value::I32(5));
    assert_eq!(policy(std::slice::from_ref(&attempts)), Ok(plain.clone()));
    let all = [
        attempts.clone(),
        ("x-retry-kind", text("constant")),
        ("x-retry-first", Value::I32(50)),
        ("x-retry-factor", Value::F64(1.5)),
        ("x-retry-max", Value::I32(1000)),
        ("x-retry-jitter", Value::Bool(true)),
        ("x-retry-dead-letter", text("dead")),
    ];
    let expected = RetryPolicy {
        kind: RetryKind::Constant,
        first: Duration::from_millis(50),
        factor: 1.5,
        maximum: millis(1000),
        jitter: true,
        dead_letter: Some("dead".into()),
        ..plain.clone()
    };
    assert_eq!(policy(&all), Ok(expected));
    for factor in [
        Value::I32(3),
        Value::F32(3.0),
        Value::Decimal {
            scale: 1,
            value: 30,
        },
    ] {
        let fields = [attempts.clone(), ("x-retry-factor", factor)];
        assert_eq!(policy(&fields).unwrap().factor, 3.0);
    }
    // A policy says itself when a message is dead: the default of quorum queues does not come on top.
    let quorum = queue(&[attempts.clone(), ("x-queue-type", text("quorum"))]).unwrap();
    assert_eq!(quorum.delivery_limit, None);

    for (key, value, why) in [
        ("x-retry-kind", text("random"), "unsupported retry kind"),
        ("x-retry-first", Value::I32(-1), "{value_negative,-1}"),
        (
            "x-retry-factor",
            Value::F64(0.5),
            "{value_out_of_range,0.5}",
        ),
        (
            "x-retry-factor",
            Value::F64(f64::NAN),
            "{value_out_of_range,NaN}",
        ),
        ("x-retry-factor", text("2"), "{unacceptable_type,longstr}"),
        ("x-retry-dead-letter", text(""), "name a queue"),
        (
            "x-retry-jitter",
            Value::I32(1),
            "{unacceptable_type,signedint}",
        ),
    ] {
        let text = refused(queue(&[attempts.clone(), (key, value.clone())]));
        assert!(text.contains(key) && text.contains(why), "{text}");
        let alone = refused(queue(&[(key, value)]));
        assert!(alone.contains("needs x-retry-attempts"), "{alone}");
    }
    let none = queue(&[("x-retry-attempts", Value::I32(0))]);
    assert!(refused(none).ends_with("{value_zero,0}"));
}

#[test]
fn delayed_retries_of_quorum_queues_are_a_linear_policy() {
    let fields = [
        ("x-queue-type", text("quorum")),
        ("x-delayed-retry-type", text("all")),
        ("x-delayed-retry-min", Value::I32(1000)),
        ("x-delayed-retry-max", Value::I32(60_000)),
    ];
    let expected = RetryPolicy {
        kind: RetryKind::Linear,
        attempts: 21,
        first: Duration::from_secs(1),
        factor: 2.0,
        maximum: millis(60_000),
        jitter: false,
        dead_letter: None,
    };
    assert_eq!(queue(&fields).unwrap().retry, Some(expected));
    let endless = [&fields[1..], &[("x-delivery-limit", Value::I32(-1))]].concat();
    assert_eq!(queue(&endless).unwrap().retry.unwrap().attempts, u32::MAX);
    assert!(refused(queue(&fields[..2])).contains("needs x-delayed-retry-min"));
    let unknown = [("x-delayed-retry-type", text("some"))];
    assert!(refused(queue(&unknown)).contains("invalid_delayed_retry_type"));
}

#[test]
fn groups_are_named_and_contradictions_refused() {
    let by = ("x-group-by", text("customer"));
    let options = queue(std::slice::from_ref(&by)).unwrap();
    assert_eq!(options.group_by.as_deref(), Some("customer"));
    assert!(refused(queue(&[("x-group-by", text(""))])).contains("x-group-by"));
    let both = [by, ("x-max-priority", Value::I32(3))];
    assert!(refused(queue(&both)).contains("not together with x-max-priority"));
    let twice = [
        ("x-retry-attempts", Value::I32(3)),
        ("x-retry-dead-letter", text("d")),
        ("x-dead-letter-exchange", text("e")),
    ];
    assert!(refused(queue(&twice)).contains("not together with x-dead-letter-exchange"));
}

#[test]
fn names_end_at_255_bytes_and_are_utf8() {
    for key in ["x-dead-letter-exchange", "x-group-by"] {
        assert!(queue(&[(key, text(&"n".repeat(255)))]).is_ok());
        assert!(refused(queue(&[(key, text(&"n".repeat(256)))])).contains("over 255 bytes"));
        assert!(refused(queue(&[(key, Value::Str(vec![0xff]))])).ends_with("not_utf8"));
    }
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

#[test]
fn deduplication_by_our_own_arguments() {
    let window = ("x-dedup-window", Value::I32(60_000));
    let size = ("x-dedup-size", Value::I64(DEDUP_ENTRIES_MAX as i64));
    let header = ("x-dedup-header", text("job"));
    let expected = |by, window, size| Some(Dedup { by, window, size });
    let minute = millis(60_000);
    for (fields, dedup) in [
        (vec![], None),
        (
            vec![window.clone()],
            expected(DedupKey::Default, minute, None),
        ),
        (
            vec![size.clone()],
            expected(DedupKey::Default, None, Some(DEDUP_ENTRIES_MAX)),
        ),
        (
            vec![header.clone(), window.clone(), size],
            expected(
                DedupKey::Named("job".into()),
                minute,
                Some(DEDUP_ENTRIES_MAX),
            ),
        ),
    ] {
        assert_eq!(queue(&fields).unwrap().dedup, dedup);
        assert_eq!(exchange("topic", &fields).unwrap().dedup, dedup);
    }
    for (fields, why) in [
        (vec![header], "needs x-dedup-window or x-dedup-size"),
        (vec![("x-dedup-header", text("")), window], "name a header"),
        (vec![("x-dedup-window", Value::I32(0))], "{value_zero,0}"),
        (
            vec![("x-dedup-size", Value::I32(-1))],
            "{value_negative,-1}",
        ),
        (
            vec![("x-dedup-size", Value::I64(DEDUP_ENTRIES_MAX as i64 + 1))],
            "{value_too_large,4194305}",
        ),
    ] {
        let refusal = refused(queue(&fields));
        assert!(refusal.contains(why), "{refusal}");
        assert!(refused(exchange("topic", &fields)).contains(why));
    }
}

#[test]
fn deduplication_by_the_plugins_arguments() {
    let by = DedupKey::Named("x-deduplication-header".into());
    let on = ("x-message-deduplication", Value::Bool(true));
    let size = ("x-cache-size", Value::I32(100));
    let ttl = ("x-cache-ttl", Value::I32(1500));
    let fields = [on.clone(), size.clone(), ttl.clone()];
    let both = Some(Dedup {
        by: by.clone(),
        window: millis(1500),
        size: Some(100),
    });
    assert_eq!(queue(&fields).unwrap().dedup, both);
    let only = queue(&[on.clone(), ttl.clone()]).unwrap().dedup.unwrap();
    assert_eq!((only.window, only.size), (millis(1500), None));
    // "Not twice in the queue at once" is no window.
    assert!(refused(queue(std::slice::from_ref(&on))).contains("x-cache-ttl or x-cache-size"));
    let off = [
        ("x-message-deduplication", Value::Bool(false)),
        size.clone(),
    ];
    assert_eq!(queue(&off).unwrap().dedup, None);

    let options = exchange("x-message-deduplication", &fields[1..]).unwrap();
    assert_eq!(options.dedup, both);
    assert_eq!(options.kind, ExchangeKind::Fanout);
    assert_eq!(options.type_name(), "x-message-deduplication");
    assert!(refused(exchange("x-message-deduplication", &[ttl])).contains("'x-cache-size'"));
    for (key, value) in [
        ("x-cache-size", Value::I32(0)),
        ("x-cache-ttl", text("5")),
        ("x-cache-persistence", text("tape")),
        ("x-dedup-window", Value::I32(5)),
    ] {
        let fields = [size.clone(), (key, value)];
        let fields = if key == "x-cache-size" {
            &fields[1..]
        } else {
            &fields
        };
        let refusal = refused(exchange("x-message-deduplication", fields));
        assert!(refusal.contains(key), "{refusal}");
    }
}
