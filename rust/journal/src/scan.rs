//! Reading a segment's records back, in order, through a bounded window; and finding records behind damage.
//!
//! Used by recovery, verification and evacuation. Reads with positional reads in big pieces, not through a mapping, so that
//! resident memory stays small and a failing disk is an error instead of a signal.

use std::io;

use crate::disk::DiskFile;
use crate::format::{RECORD_ALIGN, RECORD_HEADER_BYTES, RecordHeader, SegmentHeader};

/// How much is read at once. Records that are larger are read whole.
const WINDOW_BYTES: usize = 1024 * 1024;

/// A segment's file seen through a window.
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    capacity: u32,
    seed: u32,
    /// Payload checksums are not looked at: a negative control for the tests.
    trusting: bool,
    window: Vec<u8>,
    start: u32,
    filled: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, header: &SegmentHeader, trusting: bool) -> Self {
        Self {
            file,
            capacity: header.capacity,
            seed: header.seed(),
            trusting,
            window: Vec::new(),
            start: 0,
            filled: 0,
        }
    }

    /// The bytes at `offset`, which must lie in the file.
    pub(crate) fn bytes(&mut self, offset: u32, length: u32) -> io::Result<&[u8]> {
        debug_assert!(u64::from(offset) + u64::from(length) <= u64::from(self.capacity));
        let inside =
            offset >= self.start && (offset - self.start) as usize + length as usize <= self.filled;
        if !inside {
            let wanted = WINDOW_BYTES
                .max(length as usize)
                .min((self.capacity - offset) as usize);
            if self.window.len() < wanted {
                self.window.resize(wanted, 0);
            }
            self.filled = 0;
            self.file
                .read(&mut self.window[..wanted], u64::from(offset))?;
            self.start = offset;
            self.filled = wanted;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.window[from..from + length as usize])
    }

    /// The record at `offset` with its payload, if there is a valid one.
    pub(crate) fn record(&mut self, offset: u32) -> io::Result<Option<(RecordHeader, &[u8])>> {
        if u64::from(offset) + u64::from(RECORD_HEADER_BYTES) > u64::from(self.capacity) {
            return Ok(None);
        }
        let (capacity, seed, trusting) = (self.capacity, self.seed, self.trusting);
        let Some(header) = RecordHeader::decode(
            self.bytes(offset, RECORD_HEADER_BYTES)?,
            offset,
            capacity,
            seed,
        ) else {
            return Ok(None);
        };
        let bytes = self.bytes(offset, header.length)?;
        if !trusting && !header.matches(bytes, seed) {
            return Ok(None);
        }
        Ok(Some((header, &bytes[RECORD_HEADER_BYTES as usize..])))
    }

    /// The first valid record at or after `offset`. Each place is judged by its header's own check before any payload is
    /// read, so bytes that look like lengths cost nothing.
    pub(crate) fn find(&mut self, mut offset: u32) -> io::Result<Option<RecordHeader>> {
        while u64::from(offset) + u64::from(RECORD_HEADER_BYTES) <= u64::from(self.capacity) {
            // Most places hold zeros or text: leave them without a call.
            if self.bytes(offset, 4)? != [0; 4]
                && let Some((header, _)) = self.record(offset)?
            {
                return Ok(Some(header));
            }
            offset += RECORD_ALIGN;
        }
        Ok(None)
    }
}
