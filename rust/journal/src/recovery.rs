//! From what lies on the disk to a journal that can be appended to: order, damage, torn tail.
//!
//! **What a crash can leave.** Names: see [`crate::files`]. Contents: a segment is synced before the next one is written to,
//! so only the newest segment with records can be incomplete, and in it only what was written after its last sync: there, any
//! sector may be old or new. Each record carries how far its segment was on stable storage when it was claimed. So when the
//! chain of valid records breaks at offset X, it is a *torn tail* if no valid record behind X, here or in a later segment,
//! says that X was durable; otherwise something that was on stable storage is gone: *corruption*.
//!
//! **Order of repairs.** (0) The newest segments are read for retirement records: what they name is not replayed. (1)
//! Everything else is read and replayed. (2) The part of the newest segment (and of the one before it, if the
//! newest is empty) that may never have reached stable storage is written again, unchanged, since after a failed sync the system may show bytes that are not on the disk;
//! valid records behind the torn place are overwritten with zeros, so that they can never come back to life after new
//! records; then sync. (3) Only now are segments retired that a retirement record names. A crash in any of these steps leaves
//! a state that recovery maps to the same records.

use std::sync::Arc;

use crate::address::{SegmentNumber, address};
use crate::disk::{Disk, DiskFile};
use crate::errors::OpenError;
use crate::files::{Name, parse_name, segment_name};
use crate::format::{
    FILE_ALIGN, KIND_RESERVED, KIND_RETIRE, KIND_SEAL, RECORD_HEADER_BYTES, RECORDS_OFFSET,
    SEGMENT_HEADER_BYTES, SegmentHeader,
};
use crate::scan::Scanner;
use crate::{Hole, OnCorruption, Replay};

/// A segment found on the disk.
pub(crate) struct Found {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Offset after the seal.
    pub(crate) end: Option<u32>,
}

/// What recovery found and what is left to do.
pub(crate) struct Recovered {
    pub(crate) journal: [u8; 16],
    /// Oldest first: sealed ones, the active one, perhaps a spare.
    pub(crate) segments: Vec<Found>,
    /// Index of the active segment.
    pub(crate) active: usize,
    /// Where the next record goes.
    pub(crate) next: u32,
    /// Segments before this number are retired.
    pub(crate) first_live: SegmentNumber,
    /// What may never have reached stable storage.
    tails: Vec<Tail>,
    pub(crate) report: Report,
}

/// The part of a segment that recovery cannot be sure of.
#[derive(Clone, Copy)]
struct Tail {
    /// Index of the segment.
    segment: usize,
    /// All before it was on stable storage when a later record was claimed.
    uncertain: u32,
    /// The valid records end here.
    end: u32,
    /// Valid records behind the torn place end here.
    dirty_end: u32,
}

/// What reading a journal found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments read.
    pub segments: u64,
    /// Valid records, the caller's only.
    pub records: u64,
    /// Bytes of valid records of all kinds.
    pub bytes: u64,
    /// Bytes from the first torn record to the last valid one behind it; they were never confirmed. Zero too when nothing valid was behind it.
    pub cut_bytes: u64,
    /// The journal was closed in order.
    pub closed: bool,
    /// Damaged places that were skipped.
    pub holes: Vec<Hole>,
}

/// What is in the directory.
pub(crate) struct Listing {
    pub(crate) segments: Vec<SegmentNumber>,
    pub(crate) free: Vec<(String, u64)>,
    pub(crate) temporary: Vec<String>,
}

pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> OpenError {
    let doing = doing.into();
    move |error| OpenError::Io { doing, error }
}

pub(crate) fn list(disk: &dyn Disk) -> Result<Listing, OpenError> {
    let mut listing = Listing {
        segments: Vec::new(),
        free: Vec::new(),
        temporary: Vec::new(),
    };
    for name in disk.list().map_err(io("listing the journal's directory"))? {
        match parse_name(&name) {
            Name::Segment(number) => listing.segments.push(number),
            Name::Free => {
                let file = disk.open(&name).map_err(io(format!("opening {name}")))?;
                let bytes = file.bytes().map_err(io(format!("looking at {name}")))?;
                listing.free.push((name, bytes));
            }
            Name::Temporary => listing.temporary.push(name),
            Name::Other => {}
        }
    }
    listing.segments.sort_unstable();
    listing.free.sort_unstable();
    Ok(listing)
}

struct Recovery<'a> {
    on_corruption: OnCorruption,
    trusting: bool,
    replay: &'a mut dyn Replay,
    report: Report,
    first_live: SegmentNumber,
    done_bytes: u64,
    total_bytes: u64,
}

/// How the walk through one segment ended.
enum End {
    Sealed,
    /// Nothing valid behind the tail, and nothing says that there should be.
    Open,
}

/// Reads all segments (there is at least one) and replays them. Writes nothing.
pub(crate) fn read(
    disk: &dyn Disk,
    numbers: &[SegmentNumber],
    on_corruption: OnCorruption,
    trusting: bool,
    replay: &mut dyn Replay,
) -> Result<Recovered, OpenError> {
    let mut recovery = Recovery {
        on_corruption,
        trusting,
        replay,
        report: Report::default(),
        first_live: 1,
        done_bytes: 0,
        total_bytes: 0,
    };
    let mut segments = recovery.headers(disk, numbers)?;
    recovery.total_bytes = segments
        .iter()
        .map(|found| u64::from(found.header.capacity))
        .sum();
    let journal = segments[0].header.journal;
    let mut active = None;
    let mut tails = Vec::new();
    recovery.first_live = recovery.retirements(&segments)?;
    for index in 0..segments.len() {
        if segments[index].header.number < recovery.first_live && index + 1 < segments.len() {
            // Retired, and a crash kept the file from being put away.
            segments[index].end = Some(RECORDS_OFFSET);
            continue;
        }
        if let Some(before) = index
            .checked_sub(1)
            .map(|before| segments[before].header.number)
            && segments[index].header.number != before + 1
        {
            recovery.damage(before + 1, 0, 0, "the segment is missing")?;
        }
        let (head, later) = segments.split_at_mut(index + 1);
        let found = &mut head[index];
        let (end, tail) = recovery.segment(index, found, later)?;
        // A segment is synced before the next one is written to: with records in this one, those before are sure.
        if tail.end > RECORDS_OFFSET {
            tails.clear();
        }
        tails.push(tail);
        match end {
            End::Sealed => {
                found.end = Some(tail.end);
                if later.is_empty() {
                    let reason = "the segment is missing: the one before it is sealed";
                    recovery.damage(found.header.number + 1, 0, 0, reason)?;
                }
            }
            End::Open => {
                active = Some((index, tail.end));
                break;
            }
        }
        recovery.done_bytes += u64::from(found.header.capacity);
        recovery
            .replay
            .progress(recovery.done_bytes, recovery.total_bytes);
    }
    let oldest = segments[0].header.number;
    if oldest > recovery.first_live {
        recovery.damage(
            recovery.first_live,
            0,
            0,
            "the segment is missing: it was never retired",
        )?;
    }
    recovery
        .replay
        .progress(recovery.total_bytes, recovery.total_bytes);
    // Salvage may find every segment sealed; the caller then goes on in a new one.
    let (active, next) = active.unwrap_or((segments.len(), 0));
    let Recovery {
        report, first_live, ..
    } = recovery;
    Ok(Recovered {
        journal,
        segments,
        active,
        next,
        first_live,
        tails,
        report,
    })
}

impl Recovery<'_> {
    /// Reports damage, as an error or as a hole.
    fn damage(
        &mut self,
        segment: SegmentNumber,
        from: u32,
        to: u32,
        reason: &str,
    ) -> Result<(), OpenError> {
        match self.on_corruption {
            OnCorruption::Refuse => Err(OpenError::Corrupt {
                segment,
                offset: from,
                reason: reason.into(),
            }),
            OnCorruption::SalvageReport => {
                self.report.holes.push(Hole {
                    segment,
                    from,
                    to,
                    reason: reason.into(),
                });
                Ok(())
            }
        }
    }

    /// Opens the files and reads their headers. Salvage makes up for a header that is gone and leaves out strangers.
    fn headers(
        &mut self,
        disk: &dyn Disk,
        numbers: &[SegmentNumber],
    ) -> Result<Vec<Found>, OpenError> {
        let mut read = Vec::new();
        for &number in numbers {
            let name = segment_name(number);
            let file = match disk.open(&name) {
                Ok(file) => file,
                Err(error)
                    if error.kind() == std::io::ErrorKind::InvalidInput || is_link(&error) =>
                {
                    self.damage(number, 0, 0, "not a regular file")?;
                    continue;
                }
                Err(error) => return Err(io(format!("opening {name}"))(error)),
            };
            let bytes = file.bytes().map_err(io(format!("looking at {name}")))?;
            let mut head = [0; SEGMENT_HEADER_BYTES];
            let header = if bytes < u64::from(RECORDS_OFFSET) {
                Err("the file is shorter than a segment's header")
            } else {
                file.read(&mut head, 0)
                    .map_err(io(format!("reading {name}")))?;
                if let Some(version) = SegmentHeader::later_version(&head) {
                    return Err(OpenError::Later {
                        segment: number,
                        version,
                    });
                }
                SegmentHeader::decode(&head)
            };
            read.push((number, file, bytes, header));
        }
        let journal = read
            .iter()
            .find_map(|(.., header)| header.as_ref().ok())
            .map(|header| header.journal);
        let mut segments = Vec::new();
        for (number, file, bytes, header) in read {
            let length =
                u32::try_from(bytes).unwrap_or(u32::MAX) / FILE_ALIGN as u32 * FILE_ALIGN as u32;
            let header = match header {
                Ok(header) if header.number != number => {
                    self.damage(
                        number,
                        0,
                        length,
                        &format!("the file is segment {}", header.number),
                    )?;
                    continue;
                }
                Ok(header) if Some(header.journal) != journal => {
                    self.damage(number, 0, length, "the file belongs to another journal")?;
                    continue;
                }
                Ok(header) if u64::from(header.capacity) != bytes => {
                    let at = u32::try_from(bytes).unwrap_or(u32::MAX);
                    self.damage(
                        number,
                        at,
                        header.capacity,
                        &format!("the file has {bytes} of {} bytes", header.capacity),
                    )?;
                    SegmentHeader {
                        capacity: header.capacity.min(length),
                        ..header
                    }
                }
                Ok(header) => header,
                Err(reason) => {
                    self.damage(number, 0, RECORDS_OFFSET.min(length), reason)?;
                    let Some(journal) = journal else { continue };
                    SegmentHeader {
                        journal,
                        number,
                        capacity: length,
                    }
                }
            };
            if header.capacity <= RECORDS_OFFSET {
                continue;
            }
            segments.push(Found {
                header,
                file,
                end: None,
            });
        }
        if segments.is_empty() {
            return Err(OpenError::Corrupt {
                segment: numbers[0],
                offset: 0,
                reason: "no segment has a header that can be read".into(),
            });
        }
        Ok(segments)
    }

    /// The oldest segment that still counts, as far as the two newest segments with records say: a retirement is carried out
    /// as soon as its record is on stable storage, so none that is left to do can be older.
    fn retirements(&self, segments: &[Found]) -> Result<SegmentNumber, OpenError> {
        let mut first_live = self.first_live;
        let mut looked_at = 0;
        for found in segments.iter().rev() {
            let reading = || io(format!("reading segment {}", found.header.number));
            let mut scanner = Scanner::new(&*found.file, &found.header, self.trusting);
            let mut offset = RECORDS_OFFSET;
            while let Some((header, payload)) = scanner.record(offset).map_err(reading())? {
                first_live = first_live.max(retirement(header.kind, payload));
                offset = header.end();
            }
            looked_at += u32::from(offset > RECORDS_OFFSET);
            if looked_at == 2 {
                break;
            }
        }
        Ok(first_live)
    }

    /// Walks one segment.
    fn segment(
        &mut self,
        index: usize,
        found: &Found,
        later: &[Found],
    ) -> Result<(End, Tail), OpenError> {
        let number = found.header.number;
        let reading = || io(format!("reading segment {number}"));
        let mut scanner = Scanner::new(&*found.file, &found.header, self.trusting);
        let mut offset = RECORDS_OFFSET;
        let mut uncertain = RECORDS_OFFSET;
        let tail = |uncertain: u32, end: u32, dirty_end: u32| Tail {
            segment: index,
            uncertain: uncertain.min(end),
            end,
            dirty_end,
        };
        let mut told = offset;
        self.report.segments += 1;
        loop {
            while let Some((header, payload)) = scanner.record(offset).map_err(reading())? {
                self.report.closed = header.kind == crate::format::KIND_CLOSE;
                self.report.bytes += u64::from(header.end() - offset);
                uncertain = uncertain.max(header.durable);
                if header.kind < KIND_RESERVED {
                    self.report.records += 1;
                    let at = address(number, offset + RECORD_HEADER_BYTES);
                    self.replay
                        .record(at, header.kind, payload)
                        .map_err(|reason| OpenError::Replay { at, reason })?;
                } else {
                    self.first_live = self.first_live.max(retirement(header.kind, payload));
                }
                offset = header.end();
                if header.kind == KIND_SEAL {
                    return Ok((End::Sealed, tail(uncertain, offset, offset)));
                }
                if offset - told >= PROGRESS_BYTES {
                    told = offset;
                    self.replay
                        .progress(self.done_bytes + u64::from(offset), self.total_bytes);
                }
            }
            // The chain breaks here. What lies behind?
            let mut next = None;
            let mut dirty_end = offset;
            let mut durable = false;
            let mut look = offset.saturating_add(8);
            while let Some(header) = scanner.find(look).map_err(reading())? {
                next = next.or(Some(header.offset));
                dirty_end = header.end();
                durable |= header.durable > offset;
                look = header.end();
            }
            let mut followed = false;
            for found in later {
                let mut scanner = Scanner::new(&*found.file, &found.header, self.trusting);
                followed |= scanner.find(RECORDS_OFFSET).map_err(reading())?.is_some();
            }
            if !durable && !followed {
                self.report.cut_bytes += u64::from(dirty_end - offset);
                return Ok((End::Open, tail(uncertain, offset, dirty_end)));
            }
            let to = next.unwrap_or(found.header.capacity);
            self.damage(
                number,
                offset,
                to,
                "no valid record, yet later ones say that it was on stable storage",
            )?;
            match next {
                Some(next) => offset = next,
                None => {
                    let end = found.header.capacity;
                    return Ok((End::Sealed, tail(end, end, end)));
                }
            }
        }
    }
}

/// The oldest segment that still counts according to a record; 0 if it is about something else.
fn retirement(kind: u8, payload: &[u8]) -> SegmentNumber {
    match payload.try_into() {
        Ok(bytes) if kind == KIND_RETIRE => u32::from_le_bytes(bytes),
        _ => 0,
    }
}

/// How often a long recovery tells how far it is.
const PROGRESS_BYTES: u32 = 64 * 1024 * 1024;

fn is_link(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    #[cfg(not(unix))]
    return error.kind() == std::io::ErrorKind::InvalidInput;
}

impl Recovered {
    /// Makes the recovered records durable and what lies behind them harmless: step (2) above.
    pub(crate) fn settle_tails(&self) -> Result<(), OpenError> {
        self.tails.iter().try_for_each(|tail| self.settle(tail))
    }

    fn settle(&self, tail: &Tail) -> Result<(), OpenError> {
        let found = &self.segments[tail.segment];
        let number = found.header.number;
        let failed = || io(format!("making the end of segment {number} durable"));
        let page = FILE_ALIGN as u32;
        let from = (tail.uncertain / page * page).max(RECORDS_OFFSET);
        let to = tail.end.max(tail.dirty_end);
        if from == to {
            return Ok(());
        }
        let mut bytes = vec![0; (to - from) as usize];
        let valid = &mut bytes[..(tail.end - from) as usize];
        found.file.read(valid, u64::from(from)).map_err(failed())?;
        found
            .file
            .write(&bytes, u64::from(from))
            .map_err(failed())?;
        found.file.sync().map_err(failed())
    }
}

/// Reads a sealed segment's records to `replay`.
pub(crate) fn scan_sealed(
    file: &dyn DiskFile,
    header: &SegmentHeader,
    end: u32,
    trusting: bool,
    skip_damage: bool,
    replay: &mut dyn Replay,
) -> Result<(), crate::ReadError> {
    use crate::ReadError;
    let mut scanner = Scanner::new(file, header, trusting);
    let mut offset = RECORDS_OFFSET;
    while offset < end {
        let Some((header_of, payload)) = scanner.record(offset).map_err(ReadError::Io)? else {
            if !skip_damage {
                return Err(ReadError::Corrupt {
                    segment: header.number,
                    offset,
                });
            }
            // Salvaged segments keep their holes, which were reported at opening.
            match scanner.find(offset + 8).map_err(ReadError::Io)? {
                Some(next) => offset = next.offset,
                None => break,
            }
            continue;
        };
        if header_of.kind < KIND_RESERVED {
            let at = address(header.number, offset + RECORD_HEADER_BYTES);
            replay
                .record(at, header_of.kind, payload)
                .map_err(|reason| ReadError::Replay { at, reason })?;
        }
        offset = header_of.end();
    }
    Ok(())
}
