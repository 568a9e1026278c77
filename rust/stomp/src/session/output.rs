//! Frames on their way to the peer, deliveries aside.
//!
//! A receipt for something that must be on stable storage is held back until it is. Others pass it: a receipt says that one
//! frame was worked off, and the specification lets earlier ones take longer. Only the receipt of DISCONNECT waits for all.

use wherry_engine::Ticket;
use wherry_session::{AwaitingDisk, OutputBuffer};

use super::refusal::Refusal;
use crate::codec::{
    Escapes, Version, write_body, write_end, write_head, write_header, write_number,
    write_text_header,
};

/// What a receipt takes beside its text while it waits.
const HELD_BYTES: usize = size_of::<(Ticket, Box<str>)>();

#[derive(Default)]
pub(super) struct Output {
    ready: OutputBuffer,
    /// Values of `receipt` headers.
    held: AwaitingDisk<Box<str>>,
    held_bytes: usize,
}

impl Output {
    /// Bytes that wait here, whether for the disk or for the peer.
    pub(super) fn bytes(&self) -> usize {
        self.ready.len() + self.held_bytes
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Receipts that wait for the disk.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Where whole frames are appended.
    pub(super) fn ready(&mut self) -> &mut Vec<u8> {
        self.ready.bytes()
    }

    fn write_receipt(receipt: &str, escapes: Escapes, out: &mut Vec<u8>) {
        write_head("RECEIPT", out);
        // It came in a header of this version, so that it can be written in one.
        write_header(b"receipt-id", receipt.as_bytes(), escapes, out);
        write_end(out);
    }

    /// A receipt that may be given when `until` is durable. True: it is.
    pub(super) fn receipt(
        &mut self,
        receipt: &str,
        until: Ticket,
        durable: Ticket,
        escapes: Escapes,
    ) -> bool {
        if until <= durable {
            Output::write_receipt(receipt, escapes, self.ready.bytes());
            return true;
        }
        self.held_bytes += receipt.len() + HELD_BYTES;
        self.held.push(until, receipt.into());
        false
    }

    /// Lets go what is durable by now.
    pub(super) fn release(&mut self, durable: Ticket, escapes: Escapes) -> usize {
        let mut count = 0;
        while let Some(receipt) = self.held.pop(durable) {
            self.held_bytes -= receipt.len() + HELD_BYTES;
            Output::write_receipt(&receipt, escapes, self.ready.bytes());
            count += 1;
        }
        count
    }

    /// An ERROR frame.
    pub(super) fn error(&mut self, refusal: &Refusal, receipt: Option<&str>, escapes: Escapes) {
        let out = self.ready.bytes();
        write_head("ERROR", out);
        write_text_header("message", refusal.message, out);
        write_text_header("content-type", "text/plain", out);
        write_text_header("version", Version::ALL, out);
        if let Some(receipt) = receipt {
            write_header(b"receipt-id", receipt.as_bytes(), escapes, out);
        }
        if let Some(subscription) = &refusal.subscription {
            write_header(b"subscription", subscription.as_bytes(), escapes, out);
        }
        write_body(refusal.text.as_bytes(), out);
    }

    /// Milliseconds as a pair, for `heart-beat`.
    pub(super) fn write_pair(name: &str, pair: (u64, u64), out: &mut Vec<u8>) {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        write_number(pair.0, out);
        out.push(b',');
        write_number(pair.1, out);
        out.push(b'\n');
    }

    /// Moves what is ready to the end of `out`.
    pub(super) fn move_into(&mut self, out: &mut Vec<u8>) {
        self.ready.move_into(out);
    }

    /// What was held back is not true any more: the connection ends.
    pub(super) fn drop_held(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(output: &mut Output) -> String {
        let mut out = Vec::new();
        output.move_into(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_receipt_waits_for_the_disk_and_holds_up_no_other() {
        let mut output = Output::default();
        let escapes = Escapes::V1_2;
        output.receipt("a", Ticket(5), Ticket(4), escapes);
        output.receipt("c", Ticket(9), Ticket(4), escapes);
        output.receipt("b", Ticket(7), Ticket(4), escapes);
        output.receipt("n:w", Ticket::NONE, Ticket(4), escapes);
        assert_eq!(frames(&mut output), "RECEIPT\nreceipt-id:n\\cw\n\n\0\n");
        assert_eq!(output.release(Ticket(4), escapes), 0);
        assert_eq!(output.release(Ticket(7), escapes), 2);
        let both = frames(&mut output);
        assert!(both.find(":a\n") < both.find(":b\n"), "{both}");
        assert_eq!(output.held(), 1);
        output.drop_held();
        assert_eq!((output.held(), output.bytes()), (0, 0));
    }
}
