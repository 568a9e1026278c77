//! Addresses in the journal: where a byte lies for as long as its segment lives.

/// A segment's number. Numbers start at 1, grow by one and are never used again.
pub type SegmentNumber = u32;

/// Segment number in the high 32 bits, offset in the segment's file in the low 32. Addresses of later records are greater.
pub type Address = u64;

/// The address just past an appended record: what [`Journal::durable`](crate::Journal::durable) must reach for the record to be
/// on stable storage. Tickets grow with every append.
pub type Ticket = u64;

/// The segment that an address lies in.
pub const fn segment_of(at: Address) -> SegmentNumber {
    (at >> 32) as u32
}

/// The offset of an address in its segment's file.
pub const fn offset_of(at: Address) -> u32 {
    at as u32
}

/// The address of an offset in a segment.
pub const fn address(segment: SegmentNumber, offset: u32) -> Address {
    (segment as u64) << 32 | offset as u64
}
