//! One AMQP 0-9-1 connection, without its socket: bytes in, bytes out.
//!
//! A server owns the socket, the clock and the passwords; the session owns the protocol and calls the engine itself. The
//! server calls [`Session::receive`] with what it read, [`Session::write_into`] when the socket takes more, and does what
//! the returned [`Status`] says. Nothing here waits for anything but the session's own mutex, so any thread may call.
//!
//! ```text
//!               bytes in: input -> state (frames) -> dispatch (methods)      bytes out: output (answers, held for the disk)
//! wakeups                         connection  handshake, limits, close                  writing  (confirms)
//! info                            topology    exchanges, queues                         deliver  (consumers in turn)
//! time                            content, publish, run, stuck, reply, tx, consume, settle
//! failing, ending                 channel     what a channel holds
//! ```
//!
//! Rules and texts are RabbitMQ's; 3.10 was asked for them. On purpose otherwise:
//!
//! - An unknown method is answered with 540, bytes that are no table with 501; RabbitMQ resets the connection.
//! - A transaction is atomic, and its `commit-ok` means that it is on stable storage; so do declare-ok, bind-ok and delete-ok
//!   of durable things.
//! - `basic.qos` with `global=false` also changes the consumers that run, if no consumer is started after it.
//! - Before authentication every error ends the connection at once, with its reason.
//!
//! Everything that a peer can make a session hold is bounded: answers that it does not read (`output_bytes_max`), frames
//! behind a pause (`input_bytes_max`), an unfinished message (`message_bytes_max`, allocated as it comes), deliveries and
//! publishes without answer, channels, consumers, transactions.

mod channel;
mod connection;
mod consume;
mod content;
mod deliver;
mod dispatch;
mod ending;
mod failing;
mod info;
mod input;
mod output;
mod publish;
mod reply;
mod run;
mod settle;
mod state;
mod stuck;
mod time;
mod topology;
mod tx;
mod wakeups;
mod writing;

pub use tx::TRANSACTION_BYTES_MAX;
pub use wherry_session::{Credentials, Peer, Secret, SessionInfo, Status};

use std::sync::Arc;

use parking_lot::Mutex;
use wherry_engine::Notify;
use wherry_session::FrontEnd;

use crate::codec::ReplyCode;
use connection::Connection;
use state::State;

/// One connection. Usable from any thread; dropping it is losing it.
pub struct Session {
    state: Mutex<State>,
}

impl Session {
    /// A connection that was just accepted. `notify` is called with `token`, from any thread, when `write_into` may have
    /// something that no call of this session gave rise to.
    pub fn new(
        front: Arc<FrontEnd>,
        peer: Peer,
        notify: Arc<dyn Notify>,
        token: u64,
    ) -> Arc<Session> {
        Arc::new(Session {
            state: Mutex::new(State::new(Connection::new(front, peer, notify, token))),
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

    /// Appends what is to be sent to `out`: answers, confirms, then deliveries until it is about `budget` bytes. The last
    /// message may go over it.
    pub fn write_into(&self, out: &mut Vec<u8>, budget: usize) -> Status {
        self.with(|state| state.write_into(out, budget))
    }

    /// To be called when an alarm is clear, and when the broker has room again, while the status says
    /// [`Status::WAITS_FOR_ROOM`]: tries again what could not be published, and goes on with what stands behind.
    pub fn resume(&self) -> Status {
        self.with(State::resume)
    }

    /// What the client wants to be known by, while the status says [`Status::AUTHENTICATE`]: at the handshake, and again
    /// when the client renews its secret.
    pub fn credentials(&self) -> Option<Credentials> {
        self.state.lock().cn.credentials.clone()
    }

    /// The credentials are right, and this is the user.
    pub fn authenticated(&self, user: &str) -> Status {
        self.with(|state| state.authenticated(user))
    }

    /// The credentials are wrong, or whoever renews a secret may be here no more: the connection ends.
    pub fn refused(&self) -> Status {
        self.with(State::refused)
    }

    /// To be called about once a second with the seconds of a clock that never goes back.
    pub fn tick(&self, now_seconds: f64) -> Status {
        self.with(|state| state.tick(now_seconds))
    }

    /// Ends the connection with the server's reason, and waits for the client's answer (`tick` bounds that).
    pub fn shut_down(&self, text: &str) -> Status {
        self.with(|state| state.shut_down(ReplyCode::ConnectionForced, text))
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
