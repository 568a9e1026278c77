//! What a session of any protocol needs beside the engine: who may do what, what is refused in which words, how many
//! of everything, delivery tags and confirms of a channel, replies without queues, and declarations from arguments.
//!
//! Nothing here knows frames, sockets, threads or the time. The words and rules are RabbitMQ's (3.10 was asked for each
//! text), because clients and people read them; each file says where it differs.
//!
//! ```text
//! failure     a refusal: what kind, in which words
//! connection  what a session and the server that runs it tell each other
//! input       bytes that came and could not be worked off yet
//! pause       why a session works off no frame
//! traffic     what went through a session
//! exclusive   queues that end with their connection
//! wakeups     from a publisher's thread to the session whose consumer can go on
//! limits      every limit of the server, with its reason
//! access      users, permissions, and the answers that a session keeps
//! front       what all sessions of one server share
//! handouts    delivery tags of a channel over its consumers
//! confirms    publisher confirms of a channel
//! replies     direct reply-to
//! arguments   declarations and consumers from argument tables
//! ```

mod access;
pub mod arguments;
mod confirms;
mod connection;
mod exclusive;
mod failure;
mod faults;
mod front;
mod handouts;
mod input;
mod limits;
mod pattern;
mod pause;
mod replies;
mod traffic;
mod wakeups;

pub use access::{
    ANSWERS_MAX, Access, AccessTable, AccessTableBuilder, Action, Resource, UserLimits,
    VirtualHostLimits,
};
pub use confirms::{Confirm, Confirms, Verdict};
pub use connection::{ChannelInfo, Credentials, Peer, Secret, Session, SessionInfo, Status};
pub use exclusive::ExclusiveQueues;
pub use failure::{Failure, FailureKind};
pub use faults::Faults;
pub use front::{Admission, Alarms, ChannelAdmission, Counter, FrontCounters, FrontEnd, Identity};
pub use handouts::{Handout, Handouts, Settled, SettledList, UnknownTag};
pub use input::Input;
pub use limits::{Limits, RUN_BYTES_MAX, RUN_MAX};
pub use pattern::{PATTERN_BYTES_MAX, Pattern, check_pattern};
pub use pause::Pause;
pub use replies::{REPLY_TO, Replies, ReplyInbox};
pub use traffic::Traffic;
pub use wakeups::Wakeups;
