//! The life of segment files: made or recycled, given a header and a name, renamed away when retired.
//!
//! ```text
//!  NUMBER.tmp  -> zeros written -> header, sync -> renamed NUMBER.segment, directory sync
//!  NUMBER.free ------------------> header, sync -> renamed NUMBER.segment, directory sync
//!  NUMBER.segment (retired) -> renamed NUMBER.free or removed, directory sync
//! ```
//!
//! A file that is called `.segment` therefore always has a good header of its own number, whatever a crash leaves behind, and
//! a file that is not is worth nothing. Called by recovery and then by the committer only.

use std::io;
use std::sync::Arc;

use crate::address::SegmentNumber;
use crate::disk::{Disk, DiskFile};
use crate::format::{RECORDS_OFFSET, SegmentHeader};
use crate::obstacle::{Obstacle, ObstacleKind};

/// Retired files kept for later.
const FREE_FILES_MAX: usize = 4;
/// New files are written with zeros in steps of this, between commits: a step is felt as one slow sync.
const FILL_STEP_BYTES: u32 = 1024 * 1024;

pub(crate) fn segment_name(number: SegmentNumber) -> String {
    format!("{number:08x}.segment")
}

pub(crate) fn free_name(number: SegmentNumber) -> String {
    format!("{number:08x}.free")
}

pub(crate) fn temporary_name(number: SegmentNumber) -> String {
    format!("{number:08x}.tmp")
}

/// What a name in the directory stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(SegmentNumber),
    Free,
    Temporary,
    Other,
}

pub(crate) fn parse_name(name: &str) -> Name {
    let Some((stem, extension)) = name.split_once('.') else {
        return Name::Other;
    };
    let digits = stem.len() == 8
        && stem
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match (u32::from_str_radix(stem, 16), extension) {
        (Ok(number), "segment") if digits && number != 0 => Name::Segment(number),
        (Ok(_), "free") if digits => Name::Free,
        (Ok(_), "tmp") if digits => Name::Temporary,
        _ => Name::Other,
    }
}

/// A segment's file that is ready to be appended to.
pub(crate) struct Prepared {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DiskFile>,
}

/// Why a file is not ready.
pub(crate) enum PrepareError {
    /// Something is in the way; nothing is lost, later it may go.
    Obstructed(Obstacle),
    /// What is on the disk is uncertain, or will not get better.
    Fatal(&'static str, io::Error),
}

impl PrepareError {
    /// For what is done to a file that is no part of the journal yet.
    fn of(doing: &'static str, error: io::Error) -> Self {
        match Obstacle::of(doing, &error) {
            Some(obstacle) => Self::Obstructed(obstacle),
            None => Self::Fatal(doing, error),
        }
    }
}

struct Preparing {
    header: SegmentHeader,
    file: Arc<dyn DiskFile>,
    name: String,
    /// Zeros written so far; the whole file for a recycled one.
    filled: u32,
}

impl Preparing {
    /// Brings a step more of the file to stable storage: zeros, and its header when those are complete.
    fn fill(&mut self) -> Result<(), (&'static str, io::Error)> {
        let capacity = self.header.capacity;
        if self.filled < capacity {
            let step = FILL_STEP_BYTES.min(capacity - self.filled);
            self.file
                .write(&vec![0; step as usize], u64::from(self.filled))
                .map_err(|error| ("writing a new journal segment", error))?;
            self.file
                .sync()
                .map_err(|error| ("syncing a new journal segment", error))?;
            self.filled += step;
        }
        if self.filled < capacity {
            return Ok(());
        }
        let mut page = vec![0; RECORDS_OFFSET as usize];
        let header = self.header.encode();
        page[..header.len()].copy_from_slice(&header);
        self.file
            .write(&page, 0)
            .map_err(|error| ("writing a journal segment's header", error))?;
        self.file
            .sync()
            .map_err(|error| ("syncing a journal segment's header", error))
    }
}

pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    journal: [u8; 16],
    free: Vec<(String, u64)>,
    preparing: Option<Preparing>,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, journal: [u8; 16], free: Vec<(String, u64)>) -> Self {
        Self {
            disk,
            journal,
            free,
            preparing: None,
        }
    }

    pub(crate) fn free_files(&self) -> u64 {
        self.free.len() as u64
    }

    /// Goes on with the file for segment `number`, one bounded step a call; `None` means call again.
    pub(crate) fn prepare(
        &mut self,
        number: SegmentNumber,
        capacity: u32,
    ) -> Result<Option<Prepared>, PrepareError> {
        let wanted = SegmentHeader {
            journal: self.journal,
            number,
            capacity,
        };
        if self
            .preparing
            .as_ref()
            .is_some_and(|preparing| preparing.header != wanted)
        {
            self.abandon();
        }
        let mut now = match self.preparing.take() {
            Some(preparing) => preparing,
            None => self
                .begin(wanted)
                .map_err(|error| PrepareError::of("making a journal segment", error))?,
        };
        // Allocated and still no room: some file systems allocate when they write, or when they sync.
        if let Err((doing, error)) = now.fill() {
            let _ = self.disk.remove(&now.name);
            return Err(PrepareError::of(doing, error));
        }
        if now.filled < capacity {
            self.preparing = Some(now);
            return Ok(None);
        }
        if let Err(error) = self.disk.rename(&now.name, &segment_name(number)) {
            self.preparing = Some(now);
            return Err(PrepareError::of("naming a journal segment", error));
        }
        self.disk
            .sync_directory()
            .map_err(|error| PrepareError::Fatal("syncing the directory", error))?;
        Ok(Some(Prepared {
            header: now.header,
            file: now.file,
        }))
    }

    fn begin(&mut self, header: SegmentHeader) -> io::Result<Preparing> {
        if let Some(index) = self
            .free
            .iter()
            .position(|(_, bytes)| *bytes == u64::from(header.capacity))
        {
            let file = self.disk.open(&self.free[index].0)?;
            let (name, _) = self.free.swap_remove(index);
            // Old pages may have left the cache; writing part of one would then wait for a read.
            file.will_need();
            return Ok(Preparing {
                header,
                file,
                name,
                filled: header.capacity,
            });
        }
        let name = temporary_name(header.number);
        let file = match self.disk.create(&name, u64::from(header.capacity)) {
            Ok(file) => file,
            // Of an attempt that could not take it away.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(&name)?;
                return self.begin(header);
            }
            Err(error) => {
                // Free files of other sizes are in the way of what is needed.
                if is_full(&error)
                    && let Some((name, _)) = self.free.pop()
                {
                    let _ = self.disk.remove(&name);
                    return self.begin(header);
                }
                return Err(error);
            }
        };
        Ok(Preparing {
            header,
            file,
            name,
            filled: 0,
        })
    }

    /// Gives up the file in the making.
    fn abandon(&mut self) {
        if let Some(preparing) = self.preparing.take() {
            let whole = preparing.filled == preparing.header.capacity;
            if whole && parse_name(&preparing.name) == Name::Free {
                self.free
                    .push((preparing.name, u64::from(preparing.header.capacity)));
            } else {
                let _ = self.disk.remove(&preparing.name);
            }
        }
    }

    /// Takes a segment's file out of the journal: into the pool if it may be written again and there is place, else away.
    /// An outer error is fatal; with an inner one the file is still there and the call may be repeated.
    pub(crate) fn retire(
        &mut self,
        number: SegmentNumber,
        bytes: u64,
        reusable: bool,
    ) -> Result<io::Result<()>, io::Error> {
        let done = if reusable && self.free.len() < FREE_FILES_MAX {
            let name = free_name(number);
            self.disk
                .rename(&segment_name(number), &name)
                .map(|()| self.free.push((name, bytes)))
        } else {
            self.disk.remove(&segment_name(number))
        };
        match done {
            // Before the next one goes, and before this one is written again, its name must be gone for good.
            Ok(()) => self.disk.sync_directory().map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    Obstacle::of("", error).is_some_and(|obstacle| obstacle.kind == ObstacleKind::Space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        assert_eq!(parse_name(&segment_name(0xab)), Name::Segment(0xab));
        assert_eq!(parse_name(&free_name(7)), Name::Free);
        assert_eq!(parse_name(&temporary_name(7)), Name::Temporary);
        for name in [
            "LOCK",
            "1.segment",
            "0000000A.segment",
            "00000000.segment",
            "+0000001.segment",
            "00000001.segment.bak",
        ] {
            assert_eq!(parse_name(name), Name::Other, "{name}");
        }
    }
}
