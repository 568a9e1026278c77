//! Virtual hosts, exchanges, queues, consumers, leases, timers and transactions. Knows no protocol and no Python.

pub mod clock;
pub mod properties;
pub mod routing;
pub mod table;
pub mod timer;
