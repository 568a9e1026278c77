//! One STOMP connection, without its socket: bytes in, bytes out.
//!
//! It is driven as an AMQP session is, and has the same methods: a server owns the socket, the clock and the passwords; it
//! calls [`Session::receive`] with what it read, [`Session::write_into`] when the socket takes more, and does what the
//! returned [`Status`] says. Nothing here waits for anything but the session's own mutex, so any thread may call.
//!
//! ```text
//! state          bytes in: input -> parser -> frames        bytes out: output (receipts, errors), deliver (messages)
//! connection     login, what a connection has               time, refusal
//! send           SEND                                       headers, value, destination, endpoint, arguments
//! subscribe      SUBSCRIBE, UNSUBSCRIBE                     subscriptions
//! settle         ACK, NACK                                  transactions: BEGIN, COMMIT, ABORT
//! ```
//!
//! The specifications come first, then RabbitMQ's plugin (3.10 was asked). On purpose otherwise than the plugin:
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
mod input;
mod output;
mod refusal;
mod send;
mod settle;
mod state;
mod subscribe;
mod subscriptions;
mod time;
mod transactions;
mod value;

pub use transactions::{ACTIONS_MAX, TRANSACTION_BYTES_MAX, TRANSACTIONS_MAX};
pub use wherry_session::{Credentials, Peer, Secret, SessionInfo, Status};

use std::sync::Arc;

use parking_lot::Mutex;
use wherry_engine::Notify;
use wherry_session::FrontEnd;

use state::State;

/// What all STOMP sessions of a server share beside its front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The virtual host of who names none.
    pub virtual_host: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            virtual_host: "/".into(),
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

    /// Takes bytes that were read from the socket, however they were cut. Whole frames are worked off before it returns;
    /// nothing of `bytes` is kept but the beginning of a frame, or what stands behind a pause.
    pub fn receive(&self, bytes: &[u8]) -> Status {
        self.with(|state| state.receive(bytes))
    }

    /// Appends what is to be sent to `out`: answers, then messages until it is about `budget` bytes. The last message may go
    /// over it.
    pub fn write_into(&self, out: &mut Vec<u8>, budget: usize) -> Status {
        self.with(|state| state.write_into(out, budget))
    }

    /// To be called when an alarm is clear, and when the broker has room again, while the status says
    /// [`Status::WAITS_FOR_ROOM`]: tries again what could not be published, and goes on with what stands behind.
    pub fn resume(&self) -> Status {
        self.with(State::resume)
    }

    /// What the client wants to be known by, while the status says [`Status::AUTHENTICATE`].
    pub fn credentials(&self) -> Option<Credentials> {
        self.state.lock().core.cn.credentials.clone()
    }

    /// The credentials are right, and this is the user.
    pub fn authenticated(&self, user: &str) -> Status {
        self.with(|state| state.authenticated(user))
    }

    /// The credentials are wrong.
    pub fn refused(&self) -> Status {
        self.with(State::refused)
    }

    /// To be called about once a second with the seconds of a clock that never goes back.
    pub fn tick(&self, now_seconds: f64) -> Status {
        self.with(|state| state.tick(now_seconds))
    }

    /// Ends the connection with the server's reason.
    pub fn shut_down(&self, text: &str) -> Status {
        self.with(|state| state.shut_down(text))
    }

    /// The socket is gone: everything is given back. Deliveries without an answer count as lost. Idempotent.
    pub fn lost(&self) {
        self.state.lock().lost();
    }

    /// What the last call returned, or would return now.
    pub fn status(&self) -> Status {
        self.state.lock().status()
    }

    /// State and history, for listings.
    pub fn info(&self) -> SessionInfo {
        self.state.lock().info()
    }

    /// Whether something of this connection waits for memory or disk.
    pub fn is_blocked(&self) -> bool {
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
