//! From exchanges to queues.

use wherry_engine::Error;
use wherry_engine::ExchangeKind;
use wherry_engine::ExchangeOptions;
use wherry_engine::NewMessage;
use wherry_engine::QueueOptions;
use wherry_engine::properties::Properties;
use wherry_engine::table::Table;
use wherry_engine::table::Value;

use crate::world::{consumer, drain, take, world};

#[test]
fn the_default_exchange_routes_by_queue_name() {
    let w = world();
    let q = w.queue("tasks", QueueOptions::default());
    assert_eq!(w.publish("", "tasks", "one"), 1);
    assert_eq!(w.publish("", "nobody", "lost"), 0);
    assert_eq!(drain(&q), ["one"]);
    assert_eq!(q.statistics().acknowledged, 1);
}

#[test]
fn one_copy_a_queue_through_circles_of_exchanges() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    for name in ["a", "b", "c"] {
        w.exchange(name, ExchangeKind::Topic);
    }
    w.host
        .bind_exchange("b", "a", "#", Table::default())
        .unwrap();
    w.host
        .bind_exchange("c", "b", "x.*", Table::default())
        .unwrap();
    w.host
        .bind_exchange("a", "c", "#", Table::default())
        .unwrap();
    for exchange in ["a", "b", "c"] {
        w.bind("q", exchange, "x.#");
    }
    assert_eq!(w.publish("a", "x.y", "once"), 1);
    assert_eq!(w.publish("a", "z", "nowhere"), 0);
    assert_eq!(drain(&q), ["once"]);
}

#[test]
fn the_alternate_exchange_takes_what_nobody_wants() {
    let w = world();
    let rest = w.queue("rest", QueueOptions::default());
    w.queue("wanted", QueueOptions::default());
    w.exchange("unrouted", ExchangeKind::Fanout);
    let options = ExchangeOptions {
        alternate_exchange: Some("unrouted".into()),
        ..Default::default()
    };
    w.host.declare_exchange("main", options).unwrap();
    w.bind("rest", "unrouted", "");
    w.bind("wanted", "main", "yes");
    w.publish("main", "yes", "taken");
    w.publish("main", "no", "left");
    assert_eq!(drain(&rest), ["left"]);
}

#[test]
fn a_changed_binding_is_seen_by_the_next_publish() {
    let w = world();
    w.queue("q", QueueOptions::default());
    w.exchange("x", ExchangeKind::Direct);
    assert_eq!(w.publish("x", "k", ""), 0);
    w.bind("q", "x", "k");
    assert_eq!(w.publish("x", "k", ""), 1);
    w.host
        .unbind_queue("q", "x", "k", Table::default())
        .unwrap();
    assert_eq!(w.publish("x", "k", ""), 0);
    w.bind("q", "x", "k");
    w.host.delete_queue("q", false, false).unwrap();
    assert_eq!(w.publish("x", "k", ""), 0);
}

#[test]
fn carbon_copies_route_and_blind_ones_stay_blind() {
    let w = world();
    let queues: Vec<_> = ["to", "cc", "bcc"]
        .map(|n| w.queue(n, QueueOptions::default()))
        .into();
    let mut headers = Table::default();
    headers.insert("CC", Value::Array(vec!["cc".into()]));
    headers.insert("BCC", Value::Array(vec!["bcc".into()]));
    w.publish_with(
        "to",
        "hello",
        &Properties {
            headers: Some(headers),
            ..Default::default()
        },
    );
    for queue in &queues {
        let c = consumer(queue, 0);
        let deliveries = take(&c, 10);
        assert_eq!(deliveries.len(), 1, "{}", queue.name());
        let headers = deliveries[0].message.properties().headers().unwrap();
        assert!(headers.get("CC").is_some() && headers.get("BCC").is_none());
    }
}

#[test]
fn mandatory_says_when_nobody_listens() {
    let w = world();
    let message = NewMessage {
        mandatory: true,
        ..NewMessage::new("nobody", b"")
    };
    let error = w.host.exchange("").unwrap().publish(&message).unwrap_err();
    assert!(matches!(error, Error::Unroutable { .. }), "{error}");
}

#[test]
fn an_internal_exchange_takes_from_exchanges_only() {
    let w = world();
    w.host
        .declare_exchange(
            "inner",
            ExchangeOptions {
                internal: true,
                ..Default::default()
            },
        )
        .unwrap();
    let inner = w.host.exchange("inner").unwrap();
    assert!(matches!(
        inner.publish(&NewMessage::new("k", b"")),
        Err(Error::AccessRefused(_))
    ));
    w.exchange("outer", ExchangeKind::Fanout);
    w.host
        .bind_exchange("inner", "outer", "", Table::default())
        .unwrap();
    let q = w.queue("q", QueueOptions::default());
    w.bind("q", "inner", "k");
    w.publish("outer", "k", "through");
    assert_eq!(drain(&q), ["through"]);
}

#[test]
fn batches_publish_in_order_through_every_route() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    let bodies: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    let messages: Vec<_> = bodies
        .iter()
        .enumerate()
        .map(|(n, b)| NewMessage::new(if n % 7 == 3 { "nobody" } else { "q" }, b.as_bytes()))
        .collect();
    let published = w
        .host
        .exchange("")
        .unwrap()
        .publish_batch(&messages)
        .unwrap();
    assert_eq!(published.accepted, 5000);
    let expected: Vec<_> = bodies
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 7 != 3)
        .map(|(_, b)| b.clone())
        .collect();
    assert_eq!(published.routed as usize, expected.len());
    assert_eq!(drain(&q), expected);
}

#[test]
fn a_fanout_exchange_follows_keys_only_where_somebody_looks_at_them() {
    let w = world();
    w.exchange("all", ExchangeKind::Fanout);
    w.exchange("some", ExchangeKind::Topic);
    let (a, b) = (
        w.queue("a", QueueOptions::default()),
        w.queue("b", QueueOptions::default()),
    );
    w.bind("a", "all", "");
    assert_eq!(
        (w.publish("all", "x", "1"), w.publish("all", "y", "2")),
        (1, 1)
    );
    w.bind("b", "some", "x");
    w.host
        .bind_exchange("some", "all", "", Table::default())
        .unwrap();
    assert_eq!(
        (w.publish("all", "x", "3"), w.publish("all", "y", "4")),
        (2, 1)
    );
    let keys = ["x", "y", "x"];
    let messages: Vec<_> = keys
        .iter()
        .map(|key| NewMessage::new(key, key.as_bytes()))
        .collect();
    let exchange = w.host.exchange("all").unwrap();
    assert_eq!(exchange.publish_batch(&messages).unwrap().routed, 5);
    w.host
        .unbind_exchange("some", "all", "", Table::default())
        .unwrap();
    assert_eq!(w.publish("all", "x", "5"), 1);
    assert_eq!(exchange.publish_batch(&messages).unwrap().routed, 3);
    assert_eq!(
        drain(&a),
        ["1", "2", "3", "4", "x", "y", "x", "5", "x", "y", "x"]
    );
    assert_eq!(drain(&b), ["3", "x", "x"]);
}

#[test]
fn more_routing_keys_than_the_cache_holds_are_routed_all_the_same() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    w.exchange("x", ExchangeKind::Topic);
    w.bind("q", "x", "*.odd");
    let exchange = w.host.exchange("x").unwrap();
    let keys: Vec<String> = (0..200_000)
        .map(|n| format!("{n}.{}", if n % 2 == 0 { "even" } else { "odd" }))
        .collect();
    let mut routed = 0;
    for key in keys.iter().chain(&keys[..1000]) {
        routed += exchange.publish(&NewMessage::new(key, b"")).unwrap().routed;
    }
    assert_eq!(routed, 100_500);
    assert_eq!(q.purge().unwrap().0, 100_500);
}

#[test]
fn virtual_hosts_are_apart() {
    let w = world();
    let (other, _) = w.broker.add_virtual_host("other").unwrap();
    other.declare_queue("q", QueueOptions::default()).unwrap();
    assert_eq!(w.publish("", "q", "x"), 0);
    assert!(w.host.queue("q").is_err());
    w.broker.delete_virtual_host("other").unwrap();
    assert!(matches!(
        w.broker.virtual_host("other"),
        Err(Error::UnknownVirtualHost { .. })
    ));
    assert!(matches!(
        w.broker.delete_virtual_host("/"),
        Err(Error::AccessRefused(_))
    ));
}

/// Runs it where a function that calls itself a thousand times would overflow the stack.
fn on_a_small_stack(run: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        thread.spawn_scoped(scope, run).unwrap().join().unwrap();
    });
}

const CHAIN: usize = 2000;

#[test]
fn a_chain_of_exchanges_may_be_longer_than_the_stack_is_deep() {
    let w = world();
    let q = w.queue("q", QueueOptions::default());
    for n in 0..CHAIN {
        w.exchange(&format!("bound-{n}"), ExchangeKind::Fanout);
        let options = ExchangeOptions {
            alternate_exchange: Some(format!("alternate-{}", n + 1)),
            ..Default::default()
        };
        w.host
            .declare_exchange(&format!("alternate-{n}"), options)
            .unwrap();
    }
    for n in 1..CHAIN {
        let (before, this) = (format!("bound-{}", n - 1), format!("bound-{n}"));
        w.host
            .bind_exchange(&this, &before, "", Table::default())
            .unwrap();
    }
    w.exchange(&format!("alternate-{CHAIN}"), ExchangeKind::Fanout);
    w.bind("q", &format!("bound-{}", CHAIN - 1), "");
    w.bind("q", &format!("alternate-{CHAIN}"), "");
    on_a_small_stack(|| {
        assert_eq!(w.publish("bound-0", "k", "bound"), 1);
        assert_eq!(w.publish("alternate-0", "k", "alternate"), 1);
    });
    assert_eq!(drain(&q), ["bound", "alternate"]);
}

#[test]
fn auto_delete_exchanges_go_one_after_the_other_however_many() {
    let w = world();
    w.queue("q", QueueOptions::default());
    let auto_delete = |n: usize| ExchangeOptions {
        kind: ExchangeKind::Fanout,
        auto_delete: n > 0,
        ..Default::default()
    };
    for n in 0..CHAIN {
        w.host
            .declare_exchange(&format!("x{n}"), auto_delete(n))
            .unwrap();
        if n > 0 {
            let (before, this) = (format!("x{}", n - 1), format!("x{n}"));
            w.host
                .bind_exchange(&this, &before, "", Table::default())
                .unwrap();
        }
    }
    w.bind("q", &format!("x{}", CHAIN - 1), "");
    on_a_small_stack(|| {
        w.host.delete_queue("q", false, false).unwrap();
    });
    assert!(w.host.exchange("x0").is_ok());
    assert!(w.host.exchange("x1").is_err());
    assert!(w.host.exchange(&format!("x{}", CHAIN - 1)).is_err());
}
