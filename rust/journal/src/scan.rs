//! Reading a segment's records back, in order, through a bounded window; and finding records behind damage.
//!
//! Used by recovery, verification and evacuation. Reads with positional reads in big pieces, not through a mapping, so that
//! resident memory stays small and a failing disk is an error instead of a signal.

use std::io;

use crate::disk::DiskFile;
use crate::format::{RECORD_ALIGN, RECORD_HEADER_BYTES, RecordHeader, SegmentHeader};

/// How much is read at once. Records that are larger are read whole.
const WINDOW_BYTES: usize = 1024 * 1024;

/// How many zeros are passed over at once: a multiple of the places where records begin.
const ZEROS_STEP_BYTES: usize = 64;
const _: () = assert!((ZEROS_STEP_BYTES as u32).is_multiple_of(RECORD_ALIGN));

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
            if self.bytes(offset, 4)? != [0; 4] {
                if let Some((header, _)) = self.record(offset)? {
                    return Ok(Some(header));
                }
                offset += RECORD_ALIGN;
            } else {
                offset += RECORD_ALIGN + self.zeros_seen(offset + RECORD_ALIGN);
            }
        }
        Ok(None)
    }

    /// Bytes from `offset` on that were read already and are zero, in steps of places where a record can begin. A segment's
    /// unused end is mostly that, and looking at each of its places would be most of the time that opening a journal takes.
    fn zeros_seen(&self, offset: u32) -> u32 {
        let Some(seen) = offset
            .checked_sub(self.start)
            .and_then(|from| self.window[..self.filled].get(from as usize..))
        else {
            return 0;
        };
        let (chunks, _) = seen.as_chunks::<ZEROS_STEP_BYTES>();
        let zeros = chunks
            .iter()
            // Without a way out in the middle: so it becomes a few wide instructions.
            .take_while(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
            .count();
        (zeros * ZEROS_STEP_BYTES) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk as _;
    use crate::format::RECORDS_OFFSET;
    use crate::testing::MemoryDisk;

    #[test]
    fn a_record_is_found_wherever_it_stands_among_zeros_and_rubbish() {
        let header = SegmentHeader {
            journal: [7; 16],
            number: 1,
            capacity: 2 * WINDOW_BYTES as u32,
        };
        let payload = *b"payload";
        let window = WINDOW_BYTES as u32;
        let last = header.capacity - 24;
        for offset in (0..10)
            .map(|place| RECORDS_OFFSET + place * RECORD_ALIGN)
            .chain((0..10).map(|place| RECORDS_OFFSET + window - 40 + place * RECORD_ALIGN))
            .chain([window + ZEROS_STEP_BYTES as u32, last])
        {
            let record = RecordHeader {
                offset,
                length: RECORD_HEADER_BYTES + payload.len() as u32,
                kind: 1,
                durable: 0,
            };
            for rubbish in [
                None,
                Some(RECORDS_OFFSET + 3),
                Some(offset.saturating_sub(5)),
            ] {
                let disk = MemoryDisk::new();
                let file = disk.create("segment", u64::from(header.capacity)).unwrap();
                if let Some(place) =
                    rubbish.filter(|place| (RECORDS_OFFSET..offset).contains(place))
                {
                    file.write(&[1], u64::from(place)).unwrap();
                }
                let bytes = [&record.encode(header.seed(), &payload)[..], &payload].concat();
                file.write(&bytes, u64::from(offset)).unwrap();
                let mut scanner = Scanner::new(&*file, &header, false);
                let found = scanner.find(RECORDS_OFFSET).unwrap();
                assert_eq!(found.map(|found| found.offset), Some(offset));
                let behind = scanner.find(offset + RECORD_ALIGN).unwrap();
                assert_eq!(behind.map(|found| found.offset), None);
            }
        }
    }
}
