//! Arguments as large as they may be come back: what was accepted must not make the journal unreadable.

mod common;

use common::*;
use wherry_engine::table::{BYTES_MAX, DEPTH_MAX, Table, VALUES_MAX, Value};
use wherry_engine::{Error, ExchangeOptions, QueueOptions};
use wherry_journal::testing::MemoryDisk;

/// Tables in each other, so many levels in all.
fn deep(levels: usize) -> Table {
    (1..levels).fold(Table::from_iter([("n", Value::Void)]), |inner, _| {
        Table::from_iter([("n", Value::Table(inner))])
    })
}

/// A table of so many values, itself not counted.
fn many(values: usize) -> Table {
    Table::from_iter([("n", Value::Array(vec![Value::Void; values - 1]))])
}

/// A table that takes so many bytes.
fn long(bytes: usize) -> Table {
    Table::from_iter([("n", Value::Bytes(vec![7; bytes - 7]))])
}

#[test]
fn arguments_as_large_as_they_may_be_come_back() {
    for arguments in [deep(DEPTH_MAX), many(VALUES_MAX), long(BYTES_MAX)] {
        let disk = MemoryDisk::new();
        let broker = open(&disk);
        let queue_options = QueueOptions {
            delivery_limit: Some(7),
            arguments: arguments.clone(),
            ..Default::default()
        };
        patiently(&broker, || {
            host(&broker).declare_queue("q", queue_options.clone())
        });
        let exchange_options = ExchangeOptions {
            alternate_exchange: Some("lost".into()),
            arguments: arguments.clone(),
            ..Default::default()
        };
        patiently(&broker, || {
            host(&broker).declare_exchange("x", exchange_options.clone())
        });
        patiently(&broker, || {
            host(&broker).bind_queue("q", "x", "k", arguments.clone())
        });
        let before = snapshot(&broker);
        broker.close().unwrap();

        let broker = open(&disk);
        assert_same(&snapshot(&broker), &before, "after the restart");
        let kept = host(&broker)
            .queue("q")
            .unwrap()
            .options()
            .arguments
            .clone();
        assert_eq!(kept, arguments);
        broker.close().unwrap();
    }
}

#[test]
fn larger_arguments_are_refused() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    queue(&broker, "q", QueueOptions::default());
    for arguments in [
        deep(DEPTH_MAX + 1),
        many(VALUES_MAX + 1),
        long(BYTES_MAX + 1),
    ] {
        let queue_options = QueueOptions {
            arguments: arguments.clone(),
            ..Default::default()
        };
        let exchange_options = ExchangeOptions {
            arguments: arguments.clone(),
            ..Default::default()
        };
        let host = host(&broker);
        for refused in [
            host.declare_queue("new", queue_options).err(),
            host.declare_exchange("new", exchange_options).err(),
            host.bind_queue("q", "amq.direct", "k", arguments).err(),
        ] {
            assert!(
                matches!(refused, Some(Error::InvalidArgument(_))),
                "{refused:?}"
            );
        }
    }
    broker.close().unwrap();
    let broker = open(&disk);
    assert!(host(&broker).queue("new").is_err());
    broker.close().unwrap();
}
