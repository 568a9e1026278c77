//! What arguments of queues and exchanges mean to the engine, our own among them.

use std::time::Duration;

use wherry_engine::table::{TableView, Value};
use wherry_engine::{
    DEDUP_ENTRIES_MAX, Dedup, DedupKey, ExchangeKind, Overflow, QueueOptions, RetryKind,
    RetryPolicy,
};
use wherry_session::arguments::queue_options;

use crate::{exchange, millis, queue, refused, table, text};

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
