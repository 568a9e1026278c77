//! The engine of Wherry: virtual hosts, exchanges, queues, consumers, leases, timers and transactions, over lock-free
//! queues and a crash-safe journal. It knows no protocol and no Python.
//!
//! ```
//! use wherry_engine::{Broker, BrokerOptions, ConsumerOptions, NewMessage, Outcome, QueueOptions};
//!
//! let broker = Broker::open(BrokerOptions::default())?; // in memory
//! let host = broker.virtual_host("/")?;
//! let (queue, _) = host.declare_queue("tasks", QueueOptions::default())?;
//! host.exchange("")?.publish(&NewMessage::new("tasks", b"seven"))?;
//!
//! let consumer = queue.consume(ConsumerOptions::default(), None)?;
//! let mut deliveries = Vec::new();
//! consumer.take(100, &mut deliveries);
//! assert_eq!(deliveries[0].message.body(), b"seven");
//! consumer.settle(deliveries[0].tag, false, Outcome::Ack)?;
//! # Ok::<(), wherry_engine::Error>(())
//! ```

mod broker;
pub mod clock;
mod commit;
mod compaction;
mod consumer;
mod core;
mod deadletter;
mod dedup;
mod delivery;
mod draft;
mod entries;
mod equivalence;
mod error;
mod exchange;
mod in_flight;
mod ledger;
mod memory;
mod message;
mod options;
pub mod pattern;
mod policy;
pub mod properties;
mod publish;
mod queue;
#[cfg(test)]
mod random;
mod recovery;
mod retry;
mod route;
pub mod routing;
mod storage;
pub mod table;
#[cfg(feature = "testing")]
pub mod testing;
pub mod timer;
mod topology;
mod transaction;
mod vhost;
mod watch;

pub use broker::{Broker, BrokerOptions, BrokerStatistics};
pub use consumer::{Consumer, IN_TURN_AHEAD_MAX, OVERFLOW_AHEAD_MAX, SharedPrefetch};
pub use core::{Notify, WatchId};
pub use dedup::{DEDUP_ENTRIES_MAX, Dedup, DedupKey};
pub use delivery::{Delivery, Outcome};
pub use draft::{Delay, NewMessage};
pub use error::{Error, Refusal};
pub use exchange::{BindingInfo, Exchange, ExchangeStatistics};
pub use memory::LIMIT_BYTES_MIN as MEMORY_BYTES_MIN;
pub use message::Message;
pub use options::{
    ConsumerOptions, DURATION_MAX, ExchangeOptions, LENGTH_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX,
    Overflow, OwnerId, PROPERTIES_BYTES_MAX, QueueOptions,
};
pub use policy::{AppliesTo, NewPolicy, POLICIES_MAX, POLICY_DEFINITION_BYTES_MAX, Policy};
pub use publish::Published;
pub use queue::{Browsed, Queue, QueueStatistics, ScheduledMessage};
pub use retry::{RetryKind, RetryPolicy};
pub use routing::ExchangeKind;
pub use storage::Ticket;
pub use transaction::{Committed, TRANSACTION_ACTIONS_MAX, Transaction};
pub use vhost::VirtualHost;
pub use watch::ConsumerWatch;
pub use wherry_journal::{
    Durability, Obstacle, ObstacleKind, OnCorruption, Statistics as JournalStatistics,
};
