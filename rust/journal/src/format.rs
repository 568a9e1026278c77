//! The bytes on disk, format version 1: encoding and decoding, nothing else. `docs/journal-format.md` is the contract.
//!
//! ```text
//! segment file:  | header page, 4096 | record | record | ... | seal | old bytes or zeros ... |
//!
//! record:  0        4      5        8         12        16                 length
//!          | length | kind | check  | durable | crc32c  | payload ...      | zeros to the next multiple of 8
//!            u32      u8     u24      u32       u32
//! ```
//!
//! Everything is little-endian and encoded field by field. `length` counts header and payload, so it is never zero and the
//! staging buffer can use it as the word that is stored last.

use crate::address::SegmentNumber;

/// First bytes of each segment file.
pub(crate) const MAGIC: [u8; 8] = *b"WherryJ\x1a";
/// The version that this code writes. It reads all versions up to it.
pub(crate) const VERSION: u32 = 1;
/// Encoded bytes of a segment header; the rest of its page is zero.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
/// Where the first record of a segment starts: the header has a page of its own, so that appending never rewrites it.
#[cfg(not(wherry_loom))]
pub(crate) const RECORDS_OFFSET: u32 = 4096;
/// Small, since the model checker pays for each word.
#[cfg(wherry_loom)]
pub(crate) const RECORDS_OFFSET: u32 = 8;
/// Bytes of a record before its payload.
pub(crate) const RECORD_HEADER_BYTES: u32 = 16;
/// Records start at multiples of this.
pub(crate) const RECORD_ALIGN: u32 = 8;
/// Files are a multiple of this long.
pub(crate) const FILE_ALIGN: u64 = 4096;

/// Kinds from here on belong to the journal itself.
pub(crate) const KIND_RESERVED: u8 = 0xf0;
/// Room that was claimed and not used.
pub(crate) const KIND_SKIP: u8 = 0xf0;
/// The last record of a segment: what follows in the file is not part of the journal.
pub(crate) const KIND_SEAL: u8 = 0xf1;
/// The payload is the number of the oldest segment that still counts (u32).
pub(crate) const KIND_RETIRE: u8 = 0xf2;
/// The journal was closed in order: all before it was on stable storage.
pub(crate) const KIND_CLOSE: u8 = 0xf3;

#[cfg(not(wherry_loom))]
const _: () = assert!(RECORDS_OFFSET as usize >= SEGMENT_HEADER_BYTES);
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(FILE_ALIGN.is_multiple_of(RECORD_ALIGN as u64));
#[cfg(not(wherry_loom))]
const _: () = assert!((RECORDS_OFFSET as u64).is_multiple_of(FILE_ALIGN));

/// Bytes that a record with this much payload takes in the segment.
pub(crate) const fn record_room(payload_bytes: u32) -> u32 {
    align(RECORD_HEADER_BYTES + payload_bytes)
}

/// Rounds up to where the next record may start.
pub(crate) const fn align(bytes: u32) -> u32 {
    bytes.next_multiple_of(RECORD_ALIGN)
}

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) journal: [u8; 16],
    pub(crate) number: SegmentNumber,
    /// Length of the file.
    pub(crate) capacity: u32,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        bytes[16..32].copy_from_slice(&self.journal);
        bytes[32..36].copy_from_slice(&self.number.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.capacity.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The version of a later Wherry's segment. Its header may have another length, and its checksum at another place; a
    /// version that is later through damage alone has the length and not the checksum.
    pub(crate) fn later_version(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Option<u32> {
        let version = u32_at(bytes, 8);
        let sure = u32_at(bytes, 60) == crc32c::crc32c(&bytes[..60])
            || u32_at(bytes, 12) as usize != SEGMENT_HEADER_BYTES;
        (bytes[0..8] == MAGIC && version > VERSION && sure).then_some(version)
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, &'static str> {
        if bytes[0..8] != MAGIC {
            return Err("not a journal segment (magic)");
        }
        if u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err("segment header fails its checksum");
        }
        if u32_at(bytes, 8) != VERSION || u32_at(bytes, 12) as usize != SEGMENT_HEADER_BYTES {
            return Err("segment header of no version that there is");
        }
        let header = Self {
            journal: bytes[16..32].try_into().expect("16 bytes"),
            number: u32_at(bytes, 32),
            capacity: u32_at(bytes, 36),
        };
        if header.number == 0
            || header.capacity <= RECORDS_OFFSET
            || !u64::from(header.capacity).is_multiple_of(FILE_ALIGN)
        {
            return Err("segment header with impossible values");
        }
        Ok(header)
    }

    /// Where the checksums of this segment's records start from: records of other journals and of this file's earlier lives
    /// do not fit it.
    pub(crate) fn seed(&self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.journal), &self.number.to_le_bytes())
    }
}

/// What a record's header says. `offset` is where it lies and is covered by both checksums without being stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) offset: u32,
    /// Header and payload, without padding.
    pub(crate) length: u32,
    pub(crate) kind: u8,
    /// All of this segment before this offset was on stable storage when the record was claimed.
    pub(crate) durable: u32,
}

impl RecordHeader {
    /// Checksum of the header: its upper 24 bits are stored as `check`, and the payload's checksum goes on from it.
    fn digest(&self, seed: u32) -> u32 {
        let mut bytes = [0; 16];
        bytes[0..4].copy_from_slice(&self.offset.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.durable.to_le_bytes());
        bytes[12] = self.kind;
        crc32c::crc32c_append(seed, &bytes)
    }

    pub(crate) fn encode(&self, seed: u32, payload: &[u8]) -> [u8; RECORD_HEADER_BYTES as usize] {
        debug_assert_eq!(
            self.length as usize,
            RECORD_HEADER_BYTES as usize + payload.len()
        );
        let digest = self.digest(seed);
        let mut bytes = [0; RECORD_HEADER_BYTES as usize];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&(digest & !0xff | u32::from(self.kind)).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.durable.to_le_bytes());
        bytes[12..16].copy_from_slice(&crc32c::crc32c_append(digest, payload).to_le_bytes());
        bytes
    }

    /// The header at `offset` if it fits there and its own check holds; the payload is not looked at.
    pub(crate) fn decode(bytes: &[u8], offset: u32, capacity: u32, seed: u32) -> Option<Self> {
        let length = u32_at(bytes, 0);
        if length < RECORD_HEADER_BYTES || length > capacity - offset {
            return None;
        }
        let kind_and_check = u32_at(bytes, 4);
        let header = Self {
            offset,
            length,
            kind: kind_and_check as u8,
            durable: u32_at(bytes, 8),
        };
        (header.digest(seed) & !0xff == kind_and_check & !0xff && header.durable <= offset)
            .then_some(header)
    }

    /// Whether the whole record (`bytes` is header and payload) fits its checksum.
    pub(crate) fn matches(&self, bytes: &[u8], seed: u32) -> bool {
        u32_at(bytes, 12)
            == crc32c::crc32c_append(
                self.digest(seed),
                &bytes[RECORD_HEADER_BYTES as usize..self.length as usize],
            )
    }

    /// Where the next record starts.
    pub(crate) fn end(&self) -> u32 {
        self.offset + align(self.length)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_of_a_segment_header_counts() {
        let header = SegmentHeader {
            journal: [7; 16],
            number: 3,
            capacity: 8192,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&broken).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn each_bit_of_a_record_and_its_place_count() {
        let seed = SegmentHeader {
            journal: [7; 16],
            number: 3,
            capacity: 8192,
        }
        .seed();
        let payload = b"payload";
        let header = RecordHeader {
            offset: 4096,
            length: 16 + 7,
            kind: 9,
            durable: 4096,
        };
        let mut bytes = header.encode(seed, payload).to_vec();
        bytes.extend_from_slice(payload);
        let valid = |bytes: &[u8], offset, seed| {
            RecordHeader::decode(bytes, offset, 8192, seed)
                .is_some_and(|h| h.length as usize <= bytes.len() && h.matches(bytes, seed))
        };
        assert!(valid(&bytes, 4096, seed));
        assert!(!valid(&bytes, 4104, seed), "moved");
        assert!(!valid(&bytes, 4096, seed ^ 1), "another segment's");
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(!valid(&broken, 4096, seed), "bit {bit}");
        }
    }
}
