//! Checking a journal that nobody has open: reads everything, changes nothing.

use std::sync::Arc;

use crate::disk::Disk;
use crate::errors::OpenError;
use crate::opening::take_lock;
use crate::recovery::{self, Report};
use crate::{Address, OnCorruption, Replay, SegmentNumber};

struct Count<'a> {
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Replay for Count<'_> {
    fn record(&mut self, _: Address, _: u8, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn progress(&mut self, done_bytes: u64, total_bytes: u64) {
        (self.progress)(done_bytes, total_bytes);
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Counts and damage.
    pub report: Report,
    /// Where the valid records end: segment and offset. None when the newest segment is sealed, or there is no journal.
    pub end: Option<(SegmentNumber, u32)>,
}

/// Reads a journal as opening it would and lists all damage; `progress` hears bytes done and in total. Takes the directory's
/// lock meanwhile and changes no other file. A directory without a journal is a good journal with nothing in it.
pub fn verify(
    disk: Arc<dyn Disk>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verification, OpenError> {
    let _lock = take_lock(&*disk)?;
    let listing = recovery::list(&*disk)?;
    if listing.segments.is_empty() {
        return Ok(Verification::default());
    }
    let read = recovery::read(
        &*disk,
        &listing.segments,
        OnCorruption::SalvageReport,
        false,
        &mut Count { progress },
    )?;
    let end = read
        .segments
        .get(read.active)
        .map(|active| (active.header.number, read.next));
    Ok(Verification {
        report: read.report,
        end,
    })
}
