//! One STOMP connection, without its socket: bytes in, bytes out.
//!
//! It is driven through [`wherry_session::Session`], as a session of any protocol is.
//!
//! ```text
//! state          bytes in: input -> parser -> frames        bytes out: output (receipts, errors), deliver (messages)
//! connection     login, what a connection has               time, refusal
//! send           SEND                                       headers, value, destination, endpoint, arguments
//! subscribe      SUBSCRIBE, UNSUBSCRIBE                     subscriptions
//! settle         ACK, NACK                                  transactions: BEGIN, COMMIT, ABORT
//! ```
//!
//! The specifications come first, then RabbitMQ's plugin (3.10 was asked; 3.13's texts are the same). On purpose otherwise than the plugin:
//!
//! - Every ERROR ends the connection, as the specifications demand. Malformed frames get one as well.
//! - SUBSCRIBE needs an `id` in 1.1 and 1.2. BEGIN of an open transaction is an error.
//! - A cumulative ACK or NACK is for its own subscription.
//! - A COMMIT is atomic. Its receipt, and that of SEND, SUBSCRIBE and ACK, mean that what they did is on stable storage; that
//!   of DISCONNECT means it of everything.
//! - There is no default login.
//!
//! Everything that a peer can make a session hold is bounded: frames (see [`crate::codec`]), answers that it does not read
//! (`output_bytes_max`), frames behind a pause (`input_bytes_max`), receipts that wait for the disk
//! (`unconfirmed_per_channel_max`), subscriptions (`consumers_per_channel_max`) and what each has unsettled
//! (`unacked_per_channel_max`), transactions.

mod arguments;
mod connection;
mod deliver;
mod destination;
mod endpoint;
mod headers;
mod info;
mod message_head;
mod output;
mod refusal;
mod run;
mod send;
mod settle;
mod state;
mod subscribe;
mod subscriptions;
mod time;
mod transactions;
mod value;

pub use transactions::{ACTIONS_MAX, TRANSACTION_BYTES_MAX, TRANSACTIONS_MAX};
pub use wherry_session::{ChannelInfo, Credentials, Peer, Secret, SessionInfo, Status};

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use wherry_engine::Notify;
use wherry_session::{FrontEnd, Session as _};

use state::State;

/// What all STOMP sessions of a server share beside its front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The virtual host of who names none, and of who names this machine.
    pub virtual_host: String,
    /// Names of this machine beside `localhost` and its addresses. Upper and lower case are the same.
    pub host_names: Vec<String>,
}

impl Settings {
    /// Whether a `host` header means this machine, whatever virtual hosts there are. The specifications recommend clients
    /// to put the name there that they connected to, so that many libraries do. Any address is one of this machine's: the
    /// client did reach it.
    fn is_this_machine(&self, host: &str) -> bool {
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        // An IPv6 address may name the interface, after a percent sign.
        let address = bare.split_once('%').map_or(bare, |(address, _)| address);
        address.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self
                .host_names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(host))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            virtual_host: "/".into(),
            host_names: Vec::new(),
        }
    }
}

/// One connection. Usable from any thread; dropping it is losing it.
pub struct Session {
    state: Mutex<State>,
}

impl Session {
    /// A connection that was just accepted, with default settings. `notify` is called with `token`, from any thread, when
    /// `write_into` may have something that no call of this session gave rise to.
    pub fn new(
        front: Arc<FrontEnd>,
        peer: Peer,
        notify: Arc<dyn Notify>,
        token: u64,
    ) -> Arc<Session> {
        Session::with_settings(front, Arc::default(), peer, notify, token)
    }

    /// As [`Session::new`], with other settings.
    pub fn with_settings(
        front: Arc<FrontEnd>,
        settings: Arc<Settings>,
        peer: Peer,
        notify: Arc<dyn Notify>,
        token: u64,
    ) -> Arc<Session> {
        Arc::new(Session {
            state: Mutex::new(State::new(front, settings, peer, notify, token)),
        })
    }

    fn with(&self, f: impl FnOnce(&mut State)) -> Status {
        let mut state = self.state.lock();
        f(&mut state);
        state.status()
    }
}

impl wherry_session::Session for Session {
    fn receive(&self, bytes: &[u8]) -> Status {
        self.with(|state| state.receive(bytes))
    }

    fn write_into(&self, out: &mut Vec<u8>, budget: usize) -> Status {
        self.with(|state| state.write_into(out, budget))
    }

    fn resume(&self) -> Status {
        self.with(State::resume)
    }

    fn credentials(&self) -> Option<Credentials> {
        self.state.lock().core.cn.credentials.clone()
    }

    fn authenticated(&self, user: &str) -> Status {
        self.with(|state| state.authenticated(user))
    }

    fn refused(&self) -> Status {
        self.with(State::refused)
    }

    fn tick(&self, now_seconds: f64) -> Status {
        self.with(|state| state.tick(now_seconds))
    }

    fn shut_down(&self, text: &str) -> Status {
        self.with(|state| state.shut_down(text))
    }

    fn lost(&self) {
        self.state.lock().lost();
    }

    fn status(&self) -> Status {
        self.state.lock().status()
    }

    fn info(&self) -> SessionInfo {
        self.state.lock().info()
    }

    fn channels(&self) -> Vec<ChannelInfo> {
        self.state.lock().channel_infos()
    }

    fn is_blocked(&self) -> bool {
        self.state.lock().is_blocked()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.lost();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let info = self.info();
        f.debug_struct("Session")
            .field("peer", &info.peer)
            .field("user", &info.user)
            .field("state", &info.state)
            .finish_non_exhaustive()
    }
}
