//! Room for some records, to be filled by the caller in place.

use crate::address::{Address, Ticket, address};
use crate::format::{
    KIND_RESERVED, KIND_SKIP, RECORD_HEADER_BYTES, RecordHeader, align, record_room,
};
use crate::shared::Shared;
use crate::stage::Claim;

/// Room for records of sizes that were told beforehand, at the journal's end and in order. Nothing that others append later is
/// written before this is finished or dropped: fill it without delay. What is not finished when it is dropped becomes a
/// record that nobody reads; a reservation that is leaked holds up the journal for ever.
pub struct Reservation<'a> {
    shared: &'a Shared,
    payload_bytes: &'a [usize],
    claim: Claim,
    /// The record being filled.
    open: Option<(u8, u32)>,
    /// Where it, or the next one, starts.
    cursor: u32,
    end: u32,
    quiet: bool,
}

impl<'a> Reservation<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        payload_bytes: &'a [usize],
        claim: Claim,
        bytes: u32,
    ) -> Self {
        let cursor = claim.offset;
        Self {
            shared,
            payload_bytes,
            claim,
            open: None,
            cursor,
            end: cursor + bytes,
            quiet: false,
        }
    }

    /// The next record: the address of its payload and the payload's bytes, zeros at first. The record before it is complete
    /// with this call.
    ///
    /// # Panics
    /// If there are no more records than were reserved, or for a kind from 0xf0 on, which are the journal's own.
    pub fn next(&mut self, kind: u8) -> (Address, &mut [u8]) {
        assert!(kind < KIND_RESERVED, "record kind {kind:#x} is reserved");
        self.complete_open();
        let (&bytes, rest) = self
            .payload_bytes
            .split_first()
            .expect("more records than were reserved");
        self.payload_bytes = rest;
        let bytes = bytes as u32;
        self.open = Some((kind, bytes));
        let offset = self.cursor + RECORD_HEADER_BYTES;
        // SAFETY: within our claim; handed out once, since the cursor moves on before the next call hands out anything.
        let payload = unsafe { self.claim.staging().range_mut(offset, bytes) };
        (address(self.claim.segment, offset), payload)
    }

    /// Appends the records. They are durable when the journal is durable up to the ticket.
    pub fn finish(mut self) -> Ticket {
        self.complete_open();
        address(self.claim.segment, self.end)
    }

    /// As [`finish`](Self::finish), for records that nobody waits for: they are written with the next ones that somebody does
    /// wait for, or [`QUIET_MAX`](crate::QUIET_MAX) later, or when [`Journal::hurry`](crate::Journal::hurry) asks for it.
    pub fn finish_quietly(mut self) -> Ticket {
        self.quiet = true;
        self.complete_open();
        address(self.claim.segment, self.end)
    }

    fn complete_open(&mut self) {
        if let Some((kind, payload_bytes)) = self.open.take() {
            self.seal_record(kind, payload_bytes);
            self.cursor += record_room(payload_bytes);
        }
    }

    /// Writes the header of the record at the cursor and makes it complete.
    fn seal_record(&self, kind: u8, payload_bytes: u32) {
        let length = RECORD_HEADER_BYTES + payload_bytes;
        let header = RecordHeader {
            offset: self.cursor,
            length,
            kind,
            durable: self.claim.durable,
        };
        let staging = self.claim.staging();
        // SAFETY: the record lies in our claim and is not complete; the slice of `next` is gone (it borrowed us).
        let bytes = unsafe {
            let payload = &*staging.range_mut(self.cursor + RECORD_HEADER_BYTES, payload_bytes);
            header.encode(self.claim.seed, payload)
        };
        // SAFETY: as above, and the length word is left out.
        unsafe { staging.put(self.cursor + 4, &bytes[4..]) };
        self.claim.complete(self.cursor, length);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.cursor < self.end {
            // Not finished: one record over all that is left.
            debug_assert_eq!(self.cursor, align(self.cursor));
            self.seal_record(KIND_SKIP, self.end - self.cursor - RECORD_HEADER_BYTES);
        }
        if self.quiet {
            self.shared.bell.ring_quietly();
        } else {
            self.shared.hurry(address(self.claim.segment, self.end));
        }
    }
}
