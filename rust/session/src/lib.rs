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
//! output_buffer  bytes that are ready for the peer
//! pause       why a session works off no frame
//! slots       numbered places, whose numbers are used again
//! turn        where a consumer stands between two visits of the writer, and how it ends
//! awaiting_disk  what is to be said once something is on stable storage
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
mod awaiting_disk;
mod confirms;
mod connection;
mod exclusive;
mod failure;
mod faults;
mod front;
mod handouts;
mod input;
mod limits;
mod output_buffer;
mod pattern;
mod pause;
mod random_name;
mod replies;
mod slots;
mod stint;
mod traffic;
mod turn;
mod wakeups;

pub use access::{
    ANSWERS_MAX, Access, AccessTable, AccessTableBuilder, Action, Resource, UserLimits,
    VirtualHostLimits,
};
pub use awaiting_disk::AwaitingDisk;
pub use confirms::{Confirm, Confirms, Verdict};
pub use connection::{ChannelInfo, Credentials, Peer, Secret, Session, SessionInfo, Status};
pub use exclusive::ExclusiveQueues;
pub use failure::{Failure, FailureKind};
pub use faults::Faults;
pub use front::{Admission, Alarms, ChannelAdmission, Counter, FrontCounters, FrontEnd, Identity};
pub use handouts::{Handout, Handouts, Settled, SettledList, UnknownTag};
pub use input::Input;
pub use limits::{Limits, RUN_BYTES_MAX, RUN_MAX};
pub use output_buffer::OutputBuffer;
pub use pattern::{PATTERN_BYTES_MAX, Pattern, check_pattern};
pub use pause::Pause;
pub use random_name::random_name;
pub use replies::{REPLY_TO, Replies, ReplyInbox};
pub use slots::Slots;
pub use stint::{SLOW_REQUESTS_PER_STINT, Stint};
pub use traffic::Traffic;
pub use turn::{End, Turn};
pub use wakeups::Wakeups;
