//! The one error type of the engine. Each message is whole: it says what was refused, why, and what to do about it.

use std::fmt;

use wherry_journal::{Obstacle, ObstacleKind, Poisoned};

/// The words of a refusal: what a protocol tells its peer, and advice for whoever reads it in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    text: String,
    /// With what parts it from the text; may be empty.
    advice: String,
}

impl Refusal {
    /// `advice` is shown behind `text`, and begins with its own punctuation.
    pub fn advised(text: impl Into<String>, advice: impl Into<String>) -> Refusal {
        Refusal {
            text: text.into(),
            advice: advice.into(),
        }
    }
}

impl<T: Into<String>> From<T> for Refusal {
    fn from(text: T) -> Refusal {
        Refusal::advised(text, "")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(&self.advice)
    }
}

/// Why the engine refused a call. A refused call has changed nothing, unless its documentation says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No exchange of this name in the virtual host.
    UnknownExchange {
        /// The name asked for.
        name: String,
        /// The virtual host searched.
        virtual_host: String,
    },
    /// No queue of this name in the virtual host.
    UnknownQueue {
        /// The name asked for.
        name: String,
        /// The virtual host searched.
        virtual_host: String,
    },
    /// No virtual host of this name.
    UnknownVirtualHost {
        /// The name asked for.
        name: String,
    },
    /// The delivery tag was never handed out by this consumer, or is settled already.
    UnknownDelivery {
        /// The tag asked for.
        tag: u64,
    },
    /// The thing exists with other properties, or is in use or not empty.
    PreconditionFailed(Refusal),
    /// An argument that can never be right.
    InvalidArgument(String),
    /// The message is larger than the broker takes.
    MessageTooLarge {
        /// Bytes of the refused message, body and properties.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// `mandatory` was asked for and no queue is bound for this key.
    Unroutable {
        /// The exchange published to.
        exchange: String,
        /// The routing key used.
        routing_key: String,
    },
    /// A queue with `reject-publish` is at its length limit. Outside of transactions other queues that the message was
    /// routed to have taken it, unless duplicates are known on its way (then none has).
    PublishRejected {
        /// The full queue.
        queue: String,
    },
    /// The call would have to wait: for the disk, or for consumers to free memory.
    Busy,
    /// The name is reserved, or the exchange is internal.
    AccessRefused(Refusal),
    /// The queue belongs to somebody else.
    ResourceLocked(Refusal),
    /// The broker, or this object of it, is closed.
    Closed,
    /// A write or sync failed; nothing is confirmed any more.
    JournalFailed(Refusal),
    /// The journal on disk is damaged.
    JournalCorrupt(String),
    /// Another process, or another broker in this one, has the directory.
    DirectoryLocked(String),
    /// No room for another journal segment, on the disk or in the quota.
    DiskFull(Refusal),
    /// No further journal segment for now, for another reason (descriptors, memory, permissions).
    NoSegment(Refusal),
    /// The operating system refused a file operation.
    Io(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::UnknownExchange { name, virtual_host } => write!(
                f,
                "no exchange '{name}' in vhost '{virtual_host}': declare it first, or check the spelling"
            ),
            Error::UnknownQueue { name, virtual_host } => write!(
                f,
                "no queue '{name}' in vhost '{virtual_host}': declare it first, or check the spelling"
            ),
            Error::UnknownVirtualHost { name } => {
                write!(f, "no virtual host '{name}': add it first, or check the spelling")
            }
            Error::UnknownDelivery { tag } => write!(
                f,
                "unknown delivery tag {tag}: it was settled already, its lease ran out, its consumer is gone, or it was never handed out here; settle each delivery once, on the consumer that took it"
            ),
            Error::PreconditionFailed(refusal)
            | Error::AccessRefused(refusal)
            | Error::ResourceLocked(refusal)
            | Error::JournalFailed(refusal)
            | Error::DiskFull(refusal)
            | Error::NoSegment(refusal) => refusal.fmt(f),
            Error::InvalidArgument(text)
            | Error::JournalCorrupt(text)
            | Error::DirectoryLocked(text)
            | Error::Io(text) => f.write_str(text),
            Error::MessageTooLarge { bytes, bytes_max } => write!(
                f,
                "message of {bytes} bytes is over the limit of {bytes_max}: send a reference to large data, or split it"
            ),
            Error::Unroutable { exchange, routing_key } => write!(
                f,
                "no queue is bound to exchange '{exchange}' for routing key '{routing_key}': bind one, give the exchange an alternate exchange, or publish without mandatory"
            ),
            Error::PublishRejected { queue } => write!(
                f,
                "queue '{queue}' is at its length limit and rejects publishes: publish again when consumers have caught up, or raise max_length"
            ),
            Error::Busy => f.write_str(
                "no room now: the journal's buffer waits for the disk, or messages waiting in memory are at the memory limit; wait for space and try again (the awaiting form of the call does)",
            ),
            Error::Closed => f.write_str("the broker is closed, or this consumer or queue of it: open it again; a process that was forked has none of its parent's"),
        }
    }
}

impl std::error::Error for Error {}

impl From<&Poisoned> for Error {
    fn from(poisoned: &Poisoned) -> Error {
        let Poisoned { cause, advice } = poisoned;
        Error::JournalFailed(Refusal::advised(
            format!("the journal failed and nothing is confirmed any more ({cause})"),
            format!(": reading goes on; close the broker, {advice}"),
        ))
    }
}

impl From<Obstacle> for Error {
    fn from(obstacle: Obstacle) -> Error {
        let (cause, advice) = (&obstacle.cause, obstacle.advice());
        if obstacle.kind == ObstacleKind::Space {
            return Error::DiskFull(Refusal::advised(
                format!("no disk space for another journal segment ({cause})"),
                format!(
                    ": publishing is refused until there is, which is looked for at least every second; {advice}; consuming and acknowledging go on and free some"
                ),
            ));
        }
        Error::NoSegment(Refusal::advised(
            format!("the journal cannot grow ({cause})"),
            format!(
                ": publishing is refused until it can, which is tried at least every second; {advice}; consuming and acknowledging go on"
            ),
        ))
    }
}

impl Error {
    /// Whether the same call may go through a little later, without anybody doing anything about it here.
    pub fn is_passing(&self) -> bool {
        matches!(self, Error::Busy | Error::DiskFull(_) | Error::NoSegment(_))
    }

    /// The text without advice, in RabbitMQ's words where it has some: what a protocol sends behind its reply code
    /// (`NOT_FOUND - ` and the like are the protocol's to add).
    pub fn wire_text(&self) -> String {
        match self {
            Error::UnknownExchange { name, virtual_host } => {
                format!("no exchange '{name}' in vhost '{virtual_host}'")
            }
            Error::UnknownQueue { name, virtual_host } => {
                format!("no queue '{name}' in vhost '{virtual_host}'")
            }
            Error::UnknownVirtualHost { name } => format!("vhost {name} not found"),
            Error::UnknownDelivery { tag } => format!("unknown delivery tag {tag}"),
            Error::PreconditionFailed(refusal)
            | Error::AccessRefused(refusal)
            | Error::ResourceLocked(refusal)
            | Error::JournalFailed(refusal)
            | Error::DiskFull(refusal)
            | Error::NoSegment(refusal) => refusal.text.clone(),
            Error::MessageTooLarge { bytes, bytes_max } => {
                format!("message size {bytes} is larger than configured max size {bytes_max}")
            }
            other => other.to_string(),
        }
    }
}
