//! The extension module `wherry._core`: converts, calls, converts back. No rule of the broker lives here.
//!
//! Classes whose methods are called once per message (`Exchange`, `Queue`, `Consumer`, `Delivery`, `Fifo`) are the
//! very objects that users hold, or the base classes of them, so that nothing in Python stands between a call and
//! the engine. Everything else is wrapped by the modules of `python/wherry`.

mod awaitable;
mod browse;
mod clock;
mod consumer;
mod convert;
mod delivery;
mod describe;
mod engine;
mod errors;
mod exchange;
mod fifo;
mod fork;
mod headers;
mod host;
mod message;
mod parker;
mod policies;
mod port;
mod properties;
mod queue;
mod server;
mod shared;
mod statistics;
mod transaction;
mod verify;
mod watch;
mod whole;

use pyo3::prelude::*;

/// The list of exports.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::awaitable::Completed;
    #[pymodule_export]
    use crate::clock::{Clock, VirtualClock};
    #[pymodule_export]
    use crate::consumer::{BlockingConsumer, Consumer};
    #[pymodule_export]
    use crate::delivery::Delivery;
    #[pymodule_export]
    use crate::describe::{describe_exchange, describe_queue};
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::exchange::Exchange;
    #[pymodule_export]
    use crate::fifo::{Fifo, PriorityFifo};
    #[pymodule_export]
    use crate::host::VirtualHost;
    #[pymodule_export]
    use crate::message::Message;
    #[pymodule_export]
    use crate::policies::{clear_policy, policies, set_policy};
    #[pymodule_export]
    use crate::port::Port;
    #[pymodule_export]
    use crate::queue::Queue;
    #[pymodule_export]
    use crate::server::{
        FrontEnd, Session, check_pattern, declare_exchange_from_arguments,
        declare_queue_from_arguments, decode_users, encode_users, user_file_version,
    };
    #[pymodule_export]
    use crate::transaction::Transaction;
    #[pymodule_export]
    use crate::verify::verify_journal;
    #[pymodule_export]
    use crate::watch::ConsumerWatch;
}
