//! What can go wrong, one enum for each thing that a caller asks for.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::address::{Address, SegmentNumber};
use crate::format::VERSION;
use crate::obstacle::Obstacle;

/// Why the journal confirms nothing any more: the first write or sync that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poisoned {
    /// What was being done and what the system said.
    pub cause: Arc<str>,
    /// What to do when the journal is closed.
    pub advice: &'static str,
}

impl Poisoned {
    pub(crate) fn new(doing: &str, error: &io::Error) -> Self {
        let gone = matches!(
            error.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::StaleNetworkFileHandle
        );
        Self {
            cause: format!("{doing}: {error}").into(),
            advice: if gone {
                "put its directory back (it was deleted, moved away or unmounted), and open it again"
            } else {
                CHECK_THE_DISK
            },
        }
    }

    pub(crate) fn panicked() -> Self {
        Self {
            cause: "the committer panicked".into(),
            advice: CHECK_THE_DISK,
        }
    }
}

const CHECK_THE_DISK: &str = "check the disk, and open it again, which recovers what was confirmed";

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the journal stopped confirming: {}", self.cause)
    }
}

impl std::error::Error for Poisoned {}

/// Why a journal did not open.
#[derive(Debug)]
pub enum OpenError {
    /// Another journal holds the directory.
    Locked {
        /// Its process, if it said so.
        by: Option<u32>,
    },
    /// The disk holds something that no crash of ours can leave behind: data that was confirmed may be lost.
    Corrupt {
        /// The damaged segment.
        segment: SegmentNumber,
        /// Where in the segment's file.
        offset: u32,
        /// What is wrong.
        reason: String,
    },
    /// A later version wrote it. Refused whatever is asked for, and nothing is changed.
    Later {
        /// A segment of that version.
        segment: SegmentNumber,
        /// The format's version, which is beyond ours.
        version: u32,
    },
    /// The caller's [`Replay`](crate::Replay) refused a record.
    Replay {
        /// The refused payload's address.
        at: Address,
        /// The caller's words.
        reason: String,
    },
    /// The options make no sense.
    Options(&'static str),
    /// There is no first segment for now.
    Obstructed(Obstacle),
    /// The system refused something.
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { by: Some(process) } => {
                write!(
                    f,
                    "the journal is open in process {process}: close it there, or use another directory"
                )
            }
            Self::Locked { by: None } => write!(
                f,
                "the journal is open elsewhere: close it there, or use another directory"
            ),
            Self::Corrupt {
                segment,
                offset,
                reason,
            } => {
                write!(
                    f,
                    "journal segment {segment} is damaged at offset {offset}: {reason}"
                )
            }
            Self::Later { segment, version } => write!(
                f,
                "journal segment {segment} has format version {version}, and this is a Wherry that knows versions up to \
                 {VERSION}: open it with the version that wrote it, or a later one"
            ),
            Self::Replay { at, reason } => write!(f, "the record at {at:#x} was refused: {reason}"),
            Self::Options(reason) => write!(f, "{reason}"),
            Self::Obstructed(obstacle) => {
                write!(f, "{obstacle}: {}, and open it again", obstacle.advice())
            }
            Self::Io { doing, error } => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Why a record was not appended, or a segment not retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The disk is behind. Wait for [`wait_space`](crate::Journal::wait_space) or [`Observer::space`](crate::Observer::space).
    Busy,
    /// There is no further segment for now; the observer hears when that changes.
    Obstructed(Obstacle),
    /// Larger than the journal takes.
    TooLarge {
        /// The bytes asked for, with headers.
        bytes: u64,
        /// The bytes that would go.
        bytes_max: u64,
    },
    /// A write or sync failed before.
    Poisoned(Poisoned),
    /// The journal is closed.
    Closed,
    /// Only the oldest segment can be retired, and only when it is sealed.
    NotRetirable(SegmentNumber),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => write!(f, "the journal waits for the disk"),
            Self::Obstructed(obstacle) => write!(f, "no further journal segment: {obstacle}"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "a record of {bytes} bytes; at most {bytes_max} fit")
            }
            Self::Poisoned(poisoned) => poisoned.fmt(f),
            Self::Closed => write!(f, "the journal is closed"),
            Self::NotRetirable(segment) => {
                write!(f, "segment {segment} is not the oldest sealed one")
            }
        }
    }
}

impl std::error::Error for AppendError {}

/// Why bytes could not be read back.
#[derive(Debug)]
pub enum ReadError {
    /// No live record lies there: never written, or its segment is retired.
    NotThere(Address),
    /// The segment's records do not fit their checksums.
    Corrupt {
        /// The damaged segment.
        segment: SegmentNumber,
        /// Where in the segment's file.
        offset: u32,
    },
    /// The caller's [`Replay`](crate::Replay) refused a record.
    Replay {
        /// The refused payload's address.
        at: Address,
        /// The caller's words.
        reason: String,
    },
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere(at) => write!(f, "nothing lies at {at:#x}"),
            Self::Corrupt { segment, offset } => {
                write!(f, "journal segment {segment} is damaged at offset {offset}")
            }
            Self::Replay { at, reason } => write!(f, "the record at {at:#x} was refused: {reason}"),
            Self::Io(error) => write!(f, "reading the journal: {error}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}
