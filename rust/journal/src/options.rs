//! What a journal can be told when it is opened.

use std::time::Duration;

use crate::errors::OpenError;
use crate::format::{FILE_ALIGN, RECORDS_OFFSET};
use crate::stage::{SEGMENT_BYTES_MIN, SEGMENT_RESERVE_BYTES};

/// How a journal is kept. `Options::default()` is right for a broker.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of segment files, rounded up to 4 KiB. The first one is smaller, so that opening is cheap.
    pub segment_bytes: u32,
    /// Largest record (or reservation) with its headers. What does not fit a usual segment gets one of its own.
    pub record_bytes_max: u32,
    /// Bytes that may wait to be written before publishers are refused: the journal's queue. A quarter of it is kept for
    /// [`Class::Settle`]. A single reservation that is larger is taken when nothing else waits.
    pub staging_bytes_max: usize,
    /// When a record counts as durable.
    pub durability: Durability,
    /// What to do about damage.
    pub on_corruption: OnCorruption,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * 1024 * 1024,
            record_bytes_max: 512 * 1024 * 1024,
            staging_bytes_max: 8 * 1024 * 1024,
            durability: Durability::Always,
            on_corruption: OnCorruption::Refuse,
        }
    }
}

/// When a record is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on stable storage: survives power loss.
    Always,
    /// When the operating system has it: survives the death of the process. Synced this often as well, so power loss takes at
    /// most that much.
    Interval(Duration),
    /// When the operating system has it. Synced when a segment is full and when the journal is closed, not in between.
    Never,
}

/// What to do about damage that no crash explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCorruption {
    /// Do not open.
    Refuse,
    /// Open with what is valid and list the holes in [`Journal::report`](crate::Journal::report).
    SalvageReport,
}

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// New work: refused first, while there still is room to settle what is there.
    Publish,
    /// Acknowledgements, evacuation, whatever frees space: may use the room that is kept back.
    Settle,
}

/// The first segment of a journal: small, so that opening a new one costs little.
const FIRST_SEGMENT_BYTES: u32 = 1024 * 1024;
/// Largest reservation that addresses allow.
const RECORD_BYTES_LIMIT: u32 = 2 * 1024 * 1024 * 1024;

impl Options {
    /// Rounds what may be rounded and refuses the rest.
    pub(crate) fn checked(mut self) -> Result<Self, OpenError> {
        if self.record_bytes_max > RECORD_BYTES_LIMIT {
            return Err(OpenError::Options("record_bytes_max is beyond 2 GiB"));
        }
        if self.segment_bytes > RECORD_BYTES_LIMIT {
            return Err(OpenError::Options("segment_bytes is beyond 2 GiB"));
        }
        self.segment_bytes = self
            .segment_bytes
            .max(SEGMENT_BYTES_MIN)
            .next_multiple_of(FILE_ALIGN as u32);
        self.staging_bytes_max = self.staging_bytes_max.max(4096);
        Ok(self)
    }

    pub(crate) fn first_segment_bytes(&self) -> u32 {
        self.segment_bytes.min(FIRST_SEGMENT_BYTES)
    }

    /// Room in the last segment that is kept for [`Class::Settle`] while the disk has no room for another one.
    pub(crate) fn settle_reserve_bytes(&self) -> u32 {
        self.segment_bytes / 4
    }

    /// Length of a segment that takes a claim of `bytes`, whoever makes it, and little else.
    pub(crate) fn own_segment_bytes(&self, bytes: u32) -> u32 {
        let needed = RECORDS_OFFSET + bytes + SEGMENT_RESERVE_BYTES + self.settle_reserve_bytes();
        needed
            .next_multiple_of(FILE_ALIGN as u32)
            .max(self.segment_bytes)
    }
}
