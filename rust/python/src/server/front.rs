//! What all sessions of one server share, made and steered by Python.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wherry_engine::WatchId;
use wherry_session::{Alarms, FrontEnd as Front, Identity, Limits};
use wherry_stomp::Settings as StompSettings;

use crate::engine::Engine;
use crate::errors::{Error, Result};
use crate::port::{COMMITS, Port};
use crate::whole;

use super::access;

/// An output buffer that grew beyond this, for one large message, is not kept.
const OUTPUT_KEPT_BYTES: usize = 2 << 20;

/// What the sessions' Python ends share.
pub(crate) struct Shared {
    pub(crate) front: Arc<Front>,
    pub(crate) stomp: Arc<StompSettings>,
    watch: Mutex<Option<WatchId>>,
    /// One buffer for the output of all sessions, lent to one after the other. Waits for nobody, since only the loop's
    /// thread writes output.
    output: Mutex<Vec<u8>>,
}

impl Shared {
    pub(crate) fn borrow_output(&self) -> Vec<u8> {
        std::mem::take(&mut *self.output.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn give_back_output(&self, mut output: Vec<u8>) {
        if output.capacity() <= OUTPUT_KEPT_BYTES {
            output.clear();
            *self.output.lock().unwrap_or_else(PoisonError::into_inner) = output;
        }
    }

    fn unwatch(&self) {
        let watch = self
            .watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(watch) = watch {
            self.front.broker().unwatch(watch);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.unwatch();
    }
}

/// What all sessions of one server share. Used by `wherry.server` only. Safe to use from any thread.
#[pyclass(frozen, module = "wherry._core")]
pub(crate) struct FrontEnd {
    pub(crate) shared: Arc<Shared>,
}

/// Takes one limit out of a dict, if it is there.
macro_rules! take_limits {
    ($limits:ident, $dict:ident, $($name:ident),+) => {
        for (name, value) in $dict {
            let name: String = name.extract()?;
            match name.as_str() {
                $(stringify!($name) => {
                    $limits.$name = value.extract().map_err(|_| out_of_range(&name, &value))?;
                })+
                _ => return Err(Error::invalid(format!("there is no limit '{name}'"))),
            }
        }
    };
}

fn out_of_range(name: &str, value: &Bound<'_, PyAny>) -> Error {
    Error::invalid(format!("limits.{name}={value}: out of range"))
}

fn limits_of(dict: &Bound<'_, PyDict>) -> Result<Limits> {
    let mut limits = Limits::default();
    take_limits!(
        limits,
        dict,
        frame_max,
        channel_max,
        heartbeat_seconds,
        message_bytes_max,
        handshake_seconds,
        connections_max,
        connections_per_user_max,
        connections_per_virtual_host_max,
        channels_per_connection_max,
        consumers_per_channel_max,
        unacked_per_channel_max,
        unconfirmed_per_channel_max,
        queues_per_virtual_host_max,
        reply_inbox_bytes_max,
        table_depth_max,
        header_bytes_max,
        output_bytes_max,
        input_bytes_max
    );
    limits.validate().map_err(Error::invalid)?;
    Ok(limits)
}

#[pymethods]
impl FrontEnd {
    /// For an open broker. `limits`: names and values, defaults for the rest. `mechanisms`: what clients may
    /// authenticate with; without it, everything that is known. `stomp_virtual_host`: for STOMP clients that name none, or
    /// this machine by one of `host_names`, its address, or `localhost`.
    #[new]
    #[pyo3(signature = (
        engine, limits, *, cluster_name, platform, stomp_virtual_host, host_names, mechanisms=None
    ))]
    fn new(
        engine: &Engine,
        limits: &Bound<'_, PyDict>,
        cluster_name: String,
        platform: String,
        stomp_virtual_host: String,
        host_names: Vec<String>,
        mechanisms: Option<Vec<String>>,
    ) -> Result<Self> {
        let mut identity = Identity {
            cluster_name,
            platform,
            ..Identity::default()
        };
        if let Some(mechanisms) = mechanisms {
            identity.mechanisms = mechanisms;
        }
        let broker = Arc::clone(&engine.shared.broker);
        Ok(FrontEnd {
            shared: Arc::new(Shared {
                front: Front::new(broker, limits_of(limits)?, identity),
                stomp: Arc::new(StompSettings {
                    virtual_host: stomp_virtual_host,
                    host_names,
                }),
                watch: Mutex::default(),
                output: Mutex::default(),
            }),
        })
    }

    /// Gives the journal's progress to a loop, as token 0.
    fn attach(&self, port: &Port) {
        self.shared.unwatch();
        let notify = Arc::clone(&port.inner) as _;
        let watch = self.shared.front.broker().watch(notify, COMMITS);
        *self
            .shared
            .watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(watch);
    }

    /// Stops that.
    fn detach(&self) {
        self.shared.unwatch();
    }

    /// Puts a `wherry.server.permissions.AccessTable` in force.
    fn set_access(&self, table: &Bound<'_, PyAny>) -> Result<()> {
        let front = &self.shared.front;
        front.set_access(access::table(table, front.access())?);
        Ok(())
    }

    /// Whether messages waiting in memory are over the limit.
    fn memory_full(&self) -> bool {
        self.shared.front.broker().is_memory_full()
    }

    /// Says what is short. The server resumes its sessions after it.
    #[pyo3(signature = (*, memory, disk))]
    fn set_alarms(&self, memory: bool, disk: bool) {
        self.shared.front.set_alarms(Alarms { memory, disk });
    }

    /// How many messages came from clients, published or acknowledged, and how many went to them.
    fn traffic(&self) -> (u64, u64) {
        let counters = self.shared.front.counters();
        let came = counters.published.get() + counters.acknowledged.get();
        (came, counters.delivered.get())
    }

    /// What the sessions did since the server started, by name.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = self.shared.front.counters();
        let dict = PyDict::new(py);
        for (name, counter) in [
            ("connections_opened", &counters.connections_opened),
            ("connections_closed", &counters.connections_closed),
            ("channels_opened", &counters.channels_opened),
            ("channels_closed", &counters.channels_closed),
            ("logins_refused", &counters.logins_refused),
            ("published", &counters.published),
            ("confirmed", &counters.confirmed),
            ("refused", &counters.refused),
            ("returned", &counters.returned),
            ("delivered", &counters.delivered),
            ("acknowledged", &counters.acknowledged),
            ("bytes_received", &counters.bytes_received),
            ("bytes_sent", &counters.bytes_sent),
        ] {
            dict.set_item(name, counter.get())?;
        }
        Ok(dict)
    }

    /// The next `count` confirms are nacks.
    fn refuse_confirms(&self, #[pyo3(from_py_with = whole::count)] count: u64) {
        self.shared.front.faults().refuse_confirms(count);
    }

    /// The next `count` deliveries are followed by duplicates.
    fn deliver_twice(&self, #[pyo3(from_py_with = whole::count)] count: u64) {
        self.shared.front.faults().deliver_twice(count);
    }
}
