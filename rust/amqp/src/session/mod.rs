//! One AMQP 0-9-1 connection, without its socket: bytes in, bytes out.
//!
//! It is driven through [`wherry_session::Session`], as a session of any protocol is.
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

pub use time::BLOCKED_SECONDS_MIN;
pub use tx::TRANSACTION_BYTES_MAX;
pub use wherry_session::{ChannelInfo, Credentials, Peer, Secret, SessionInfo, Status};

use std::sync::Arc;

use parking_lot::Mutex;
use wherry_engine::Notify;
use wherry_session::{FrontEnd, Session as _};

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
        self.state.lock().cn.credentials.clone()
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
        self.with(|state| state.shut_down(ReplyCode::ConnectionForced, text))
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
