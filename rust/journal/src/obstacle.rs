//! What is in the way of the next segment: which refusals of the system pass by themselves, and which end the journal.
//!
//! A file that is not part of the journal yet can be made again, so that a refusal there loses nothing. While it may pass,
//! publishers are refused and told the cause, and the committer tries again. The others end the journal as a failed write
//! does: a disk that fails, and a directory that is gone, into whose files everything could still be written and synced.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// What there is too little of, or who does not let us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObstacleKind {
    /// Room on the disk, in the quota, or below the limit of a file's size.
    Space,
    /// Descriptors of this process, or of the machine.
    Descriptors,
    /// Memory.
    Memory,
    /// The right to make files in the directory.
    Permission,
    /// The file system asks to come again.
    Contention,
}

/// Why there is no further segment for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is missing.
    pub kind: ObstacleKind,
    /// What was being done and what the system said.
    pub cause: Arc<str>,
}

impl Obstacle {
    /// The obstacle that an error stands for; none if it will not pass by itself.
    pub fn of(doing: &str, error: &io::Error) -> Option<Self> {
        let kind = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                ObstacleKind::Space
            }
            ErrorKind::OutOfMemory => ObstacleKind::Memory,
            ErrorKind::PermissionDenied => ObstacleKind::Permission,
            ErrorKind::ResourceBusy
            | ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::TimedOut => ObstacleKind::Contention,
            _ if is_out_of_descriptors(error) => ObstacleKind::Descriptors,
            _ => return None,
        };
        Some(Self {
            kind,
            cause: format!("{doing}: {error}").into(),
        })
    }

    /// What removes it.
    pub fn advice(&self) -> &'static str {
        match self.kind {
            ObstacleKind::Space => "free some space (or raise the quota)",
            ObstacleKind::Descriptors => "raise the limit of open files, or close some",
            ObstacleKind::Memory => "free some memory",
            ObstacleKind::Permission => "let this process make files in the journal's directory",
            ObstacleKind::Contention => "look at the file system, if it lasts",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

/// The standard library has no kind for it.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    #[cfg(unix)]
    return matches!(
        rustix::io::Errno::from_io_error(error),
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
    );
    // ERROR_TOO_MANY_OPEN_FILES
    #[cfg(not(unix))]
    return error.raw_os_error() == Some(4);
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        for (errno, kind) in [
            (Errno::NOSPC, Some(ObstacleKind::Space)),
            (Errno::DQUOT, Some(ObstacleKind::Space)),
            (Errno::FBIG, Some(ObstacleKind::Space)),
            (Errno::MFILE, Some(ObstacleKind::Descriptors)),
            (Errno::NFILE, Some(ObstacleKind::Descriptors)),
            (Errno::NOMEM, Some(ObstacleKind::Memory)),
            (Errno::ACCESS, Some(ObstacleKind::Permission)),
            (Errno::PERM, Some(ObstacleKind::Permission)),
            (Errno::BUSY, Some(ObstacleKind::Contention)),
            (Errno::AGAIN, Some(ObstacleKind::Contention)),
            (Errno::INTR, Some(ObstacleKind::Contention)),
            (Errno::TIMEDOUT, Some(ObstacleKind::Contention)),
            (Errno::IO, None),
            (Errno::ROFS, None),
            (Errno::NOENT, None),
            (Errno::NOTDIR, None),
            (Errno::STALE, None),
            (Errno::NODEV, None),
            (Errno::NXIO, None),
        ] {
            let error = io::Error::from(errno);
            let obstacle = Obstacle::of("making a segment", &error);
            assert_eq!(obstacle.as_ref().map(|o| o.kind), kind, "{error}");
            if let Some(obstacle) = obstacle {
                assert_eq!(&*obstacle.cause, format!("making a segment: {error}"));
            }
        }
    }
}
