//! What clients declare by arguments meets the engine: the same again is the same, another is refused, and the window
//! of ids works.

use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, TableView, Value};
use wherry_engine::{Broker, BrokerOptions, NewMessage, QueueOptions};
use wherry_session::Failure;
use wherry_session::arguments::{exchange_options, queue_options};

fn text(value: &str) -> Value {
    Value::Str(value.into())
}

fn table(fields: &[(&str, Value)]) -> Table {
    let mut table = Table::default();
    for (name, value) in fields {
        table.push(*name, value.clone());
    }
    table
}

fn queue(fields: &[(&str, Value)]) -> QueueOptions {
    let bytes = table(fields).encode().unwrap();
    queue_options("/", "q", true, None, false, TableView::new(&bytes)).unwrap()
}

#[test]
fn declaring_again_is_nothing_new_and_otherwise_is_refused() {
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    let host = broker.virtual_host("/").unwrap();
    for fields in [
        vec![("x-message-ttl", Value::I32(1000))],
        vec![("x-max-priority", Value::U8(3))],
        vec![("x-queue-type", text("quorum"))],
        vec![
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", Value::I32(-1)),
        ],
        vec![
            ("x-retry-attempts", Value::I32(3)),
            ("x-retry-first", Value::I32(10)),
        ],
        vec![("x-group-by", text("customer"))],
        vec![("x-lease", Value::I32(1000))],
        vec![("x-dedup-window", Value::I32(1000))],
        vec![
            ("x-message-deduplication", Value::Bool(true)),
            ("x-cache-size", Value::I32(10)),
        ],
    ] {
        host.declare_queue("q", queue(&fields)).unwrap();
        let again = host.declare_queue("q", queue(&fields));
        assert!(!again.unwrap().0.is_deleted(), "{fields:?}");
        let failure = Failure::from(host.declare_queue("q", queue(&[])).unwrap_err());
        assert!(
            failure.text.starts_with("inequivalent arg '"),
            "{fields:?}: {failure}"
        );
        host.delete_queue("q", false, false).unwrap();
    }
}

#[test]
fn the_plugins_exchange_lets_an_id_through_once() {
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    let host = broker.virtual_host("/").unwrap();
    let bytes = table(&[("x-cache-size", Value::I32(10))]).encode().unwrap();
    let options = exchange_options(
        "/",
        "e",
        "x-message-deduplication",
        true,
        false,
        false,
        TableView::new(&bytes),
    );
    let (exchange, _) = host.declare_exchange("e", options.unwrap()).unwrap();
    let (queue, _) = host.declare_queue("q", queue(&[])).unwrap();
    host.bind_queue("q", "e", "", Table::default()).unwrap();
    for id in ["a", "b", "a", "a"] {
        let properties = Properties {
            headers: Some(table(&[("x-deduplication-header", text(id))])),
            ..Properties::default()
        };
        let properties = properties.encode().unwrap();
        let message = NewMessage {
            properties: &properties,
            ..NewMessage::new("any", b"x")
        };
        exchange.publish(&message).unwrap();
    }
    assert_eq!(queue.statistics().ready, 2);
}
