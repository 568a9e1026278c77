//! Entries as they are written: how many bytes each takes, and their bytes.

use super::{
    FLAG_DUE, FLAG_EXPIRES, FLAG_NOTES, HEADER_BYTES, ID, IdEntry, MESSAGE, Place, REQUEUE,
    RUN_BYTES, Run, SETTLE, TARGET_BYTES, Target,
};
use crate::message::{Facts, Parts};

struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (head, tail) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.0 = tail;
    }

    fn header(&mut self, kind: u8, flags: u8, length: usize) {
        self.put(&[kind, flags, 0, 0]);
        self.put(&(length as u32).to_le_bytes());
    }

    fn place(&mut self, place: Place) {
        self.put(&place.queue.to_le_bytes());
        self.put(&[place.level]);
        self.put(&place.position.to_le_bytes());
    }
}

pub(crate) fn message_bytes(
    parts: &Parts<'_>,
    facts: &Facts,
    targets: usize,
    notes: bool,
) -> usize {
    HEADER_BYTES
        + 12
        + if facts.expires_ns != 0 { 8 } else { 0 }
        + if facts.due_ns != 0 { 8 } else { 0 }
        + targets * (TARGET_BYTES + if notes { 4 } else { 0 })
        + parts.content_bytes()
}

/// `out` has exactly `message_bytes(...)`.
pub(crate) fn write_message(
    out: &mut [u8],
    parts: &Parts<'_>,
    facts: &Facts,
    targets: impl ExactSizeIterator<Item = Target>,
    notes: bool,
) {
    let mut flags = 0;
    if facts.expires_ns != 0 {
        flags |= FLAG_EXPIRES;
    }
    if facts.due_ns != 0 {
        flags |= FLAG_DUE;
    }
    if notes {
        flags |= FLAG_NOTES;
    }
    let length = out.len();
    let mut w = Writer(out);
    w.header(MESSAGE, flags, length);
    w.put(&facts.published_ns.to_le_bytes());
    w.put(&(targets.len() as u32).to_le_bytes());
    if facts.expires_ns != 0 {
        w.put(&facts.expires_ns.to_le_bytes());
    }
    if facts.due_ns != 0 {
        w.put(&facts.due_ns.to_le_bytes());
    }
    for target in targets {
        w.place(target.place);
        if notes {
            w.put(&target.note.to_le_bytes());
        }
    }
    parts.write(w.0);
}

/// For entries that are runs: [`SETTLE`] and [`RETURNED`](super::RETURNED).
pub(crate) fn settle_bytes(runs: usize) -> usize {
    HEADER_BYTES + runs * RUN_BYTES
}

pub(crate) fn write_settle(out: &mut [u8], runs: &[Run]) {
    write_runs(out, SETTLE, runs);
}

pub(crate) fn write_runs(out: &mut [u8], kind: u8, runs: &[Run]) {
    let length = out.len();
    let mut w = Writer(out);
    w.header(kind, 0, length);
    for run in runs {
        w.place(run.first);
        w.put(&run.count.to_le_bytes());
    }
}

pub(crate) const REQUEUE_BYTES: usize = HEADER_BYTES + TARGET_BYTES + 12;

/// The message goes back to its place with `note`, at once or when `due_ns` comes.
pub(crate) fn write_requeue(out: &mut [u8], place: Place, note: u32, due_ns: u64) {
    let mut w = Writer(out);
    w.header(REQUEUE, 0, REQUEUE_BYTES);
    w.place(place);
    w.put(&note.to_le_bytes());
    w.put(&due_ns.to_le_bytes());
}

pub(crate) const PLACE_BYTES: usize = HEADER_BYTES + TARGET_BYTES;

/// Entries of one place: [`CEILING`](super::CEILING) (everything below may have been handed out), [`CANCEL`](super::CANCEL)
/// (position = id in the queue's schedule), [`NEXT`](super::NEXT) and [`NEXT_SCHEDULED`](super::NEXT_SCHEDULED).
pub(crate) fn write_place(out: &mut [u8], kind: u8, place: Place) {
    let mut w = Writer(out);
    w.header(kind, 0, PLACE_BYTES);
    w.place(place);
}

/// Owner u32, sequence u64, accepted ns u64, hash 16.
pub(crate) const ID_BYTES: usize = HEADER_BYTES + 36;

/// `out` has exactly `ID_BYTES`.
pub(crate) fn write_id(out: &mut [u8], id: &IdEntry) {
    let mut w = Writer(out);
    w.header(ID, 0, ID_BYTES);
    w.put(&id.owner.to_le_bytes());
    w.put(&id.sequence.to_le_bytes());
    w.put(&id.accepted_ns.to_le_bytes());
    w.put(&id.hash[0].to_le_bytes());
    w.put(&id.hash[1].to_le_bytes());
}

pub(crate) fn named_bytes(payload: usize) -> usize {
    HEADER_BYTES + payload
}

/// Topology entries: the payload is the topology's own (topology.rs).
pub(crate) fn write_named(out: &mut [u8], kind: u8, payload: &[u8]) {
    let length = out.len();
    let mut w = Writer(out);
    w.header(kind, 0, length);
    w.put(payload);
}
