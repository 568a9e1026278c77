//! The journal's entries: what the engine writes, byte by byte. `docs/journal-format.md` has the same tables.
//!
//! A journal record of kind [`RECORD_COMMIT`] is a run of entries, and a record is valid as a whole or not at all: so
//! one record is one atomic change. Every entry starts alike; all integers are little-endian.
//!
//! ```text
//! offset  size  field
//!      0     1  kind
//!      1     1  flags
//!      2     2  zero
//!      4     4  length of the whole entry
//! ```
//!
//! Message (kind 1; flags 1 = expires, 2 = due, 4 = notes):
//!
//! ```text
//!      8     8  published, ns since the UNIX epoch
//!     16     4  number of targets
//!           8  expires, ns (only with flag 1)
//!           8  due, ns (only with flag 2); the targets' positions are then ids in their schedules
//!    each target: queue u32, level u8, position u64 [, note u32 with flag 4]
//!              content (message.rs)
//! ```

use smallvec::SmallVec;
use wherry_journal::{Address, Journal};

use crate::error::Error;
use crate::message::{Facts, Message, Parts};

/// The only kind of journal record that the engine writes: a run of entries.
pub(crate) const RECORD_COMMIT: u8 = 1;

pub(crate) const MESSAGE: u8 = 1;
pub(crate) const SETTLE: u8 = 2;
pub(crate) const REQUEUE: u8 = 3;
/// Messages that were handed out and came back, as runs like those of [`SETTLE`]. Written when a journal is closed.
pub(crate) const RETURNED: u8 = 4;
pub(crate) const CEILING: u8 = 5;
pub(crate) const CANCEL: u8 = 6;
/// All positions of a level below this one were given out. Written when the messages that would tell leave the journal.
pub(crate) const NEXT: u8 = 7;
/// As [`NEXT`], for the ids of a queue's schedule.
pub(crate) const NEXT_SCHEDULED: u8 = 8;
/// An id that a queue or exchange remembers, to know duplicates.
pub(crate) const ID: u8 = 9;
pub(crate) const DECLARE_QUEUE: u8 = 16;
pub(crate) const DELETE_QUEUE: u8 = 17;
pub(crate) const DECLARE_EXCHANGE: u8 = 18;
pub(crate) const DELETE_EXCHANGE: u8 = 19;
pub(crate) const BIND: u8 = 20;
pub(crate) const UNBIND: u8 = 21;
pub(crate) const DECLARE_VIRTUAL_HOST: u8 = 22;
pub(crate) const DELETE_VIRTUAL_HOST: u8 = 23;
pub(crate) const SET_POLICY: u8 = 24;
pub(crate) const CLEAR_POLICY: u8 = 25;
/// The last entry of a journal that was closed in order.
pub(crate) const CLOSED: u8 = 32;

const FLAG_EXPIRES: u8 = 1;
const FLAG_DUE: u8 = 2;
const FLAG_NOTES: u8 = 4;

const HEADER_BYTES: usize = 8;
const TARGET_BYTES: usize = 13;
const RUN_BYTES: usize = 17;

/// A message's place in one queue: the level is its priority in a priority queue, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) queue: u32,
    pub(crate) level: u8,
    pub(crate) position: u64,
}

/// Positions end here: the queues count to 2^52, which is a million messages a second for 140 years.
const POSITIONS: u64 = 1 << 51;

impl Place {
    /// Whether a queue could have given it out; what is read from a disk may say anything.
    pub(crate) fn is_sound(self) -> bool {
        self.position < POSITIONS && self.queue < crate::topology::IDS
    }
}

/// One queue that a message entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) place: Place,
    /// The slot's note; 0 for a new message.
    pub(crate) note: u32,
}

/// Consecutive positions of one level of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Place,
    pub(crate) count: u32,
}

/// A single acknowledgement, and a batch in order, are one run and need no allocation.
pub(crate) type Runs = SmallVec<[Run; 2]>;

/// Joins neighbours, so that the acks of a batch are one run.
pub(crate) fn push_run(runs: &mut Runs, place: Place) {
    if let Some(last) = runs.last_mut()
        && last.first.queue == place.queue
        && last.first.level == place.level
        && last.count < u32::MAX
    {
        if last.first.position + u64::from(last.count) == place.position {
            last.count += 1;
            return;
        }
        if place.position + 1 == last.first.position {
            last.first.position = place.position;
            last.count += 1;
            return;
        }
    }
    runs.push(Run {
        first: place,
        count: 1,
    });
}

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

/// For entries that are runs: [`SETTLE`] and [`RETURNED`].
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

/// Entries of one place: [`CEILING`] (everything below may have been handed out), [`CANCEL`] (position = id in the
/// queue's schedule), [`NEXT`] and [`NEXT_SCHEDULED`].
pub(crate) fn write_place(out: &mut [u8], kind: u8, place: Place) {
    let mut w = Writer(out);
    w.header(kind, 0, PLACE_BYTES);
    w.place(place);
}

/// Owner u32, sequence u64, accepted ns u64, hash 16.
pub(crate) const ID_BYTES: usize = HEADER_BYTES + 36;

/// What an id counts in its segment: its entry in a record of its own, as compaction writes it.
pub(crate) const ID_KEPT_BYTES: u64 = 64;

/// An id as the journal has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdEntry {
    /// The queue or exchange that remembers it.
    pub(crate) owner: u32,
    /// Its number in the owner's window: orders the ids, and doubles have the same.
    pub(crate) sequence: u64,
    pub(crate) accepted_ns: u64,
    pub(crate) hash: [u64; 2],
    /// Where this entry is; not part of it.
    pub(crate) at: Address,
}

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

/// One entry as read back.
pub(crate) struct Entry<'a> {
    /// Offset from the start of the record's payload.
    pub(crate) offset: usize,
    pub(crate) kind: u8,
    flags: u8,
    /// Without the header.
    pub(crate) payload: &'a [u8],
}

/// The entries of one record's payload; an error names what does not fit.
pub(crate) fn parse(payload: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, String>> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let rest = &payload[offset..];
        if rest.is_empty() {
            return None;
        }
        let Some(length) = rest
            .get(4..8)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
        else {
            offset = payload.len();
            return Some(Err("entry header cut short".to_string()));
        };
        if length < HEADER_BYTES || length > rest.len() {
            offset = payload.len();
            return Some(Err(format!(
                "entry of {length} bytes where {} are left",
                rest.len()
            )));
        }
        let entry = Entry {
            offset,
            kind: rest[0],
            flags: rest[1],
            payload: &rest[HEADER_BYTES..length],
        };
        offset += length;
        Some(Ok(entry))
    })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place {
            queue: self.u32()?,
            level: self.take::<1>()?[0],
            position: self.u64()?,
        })
    }
}

/// A message entry without its content's bytes being looked at.
pub(crate) struct MessageEntry<'a> {
    pub(crate) facts: Facts,
    target_bytes: &'a [u8],
    notes: bool,
    /// From the start of the entry.
    pub(crate) content_offset: usize,
    pub(crate) content: &'a [u8],
}

impl MessageEntry<'_> {
    pub(crate) fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        let size = TARGET_BYTES + if self.notes { 4 } else { 0 };
        self.target_bytes.chunks_exact(size).filter_map(|chunk| {
            let mut r = Reader(chunk);
            Some(Target {
                place: r.place()?,
                note: if self.notes { r.u32()? } else { 0 },
            })
        })
    }

    /// The parts of the content; none when it is malformed.
    pub(crate) fn parts(&self) -> Option<Parts<'_>> {
        let mut rest = self.content;
        let mut name = || {
            let (length, tail) = rest.split_first()?;
            let (text, tail) = tail.split_at_checked(usize::from(*length))?;
            rest = tail;
            std::str::from_utf8(text).ok()
        };
        let exchange = name()?;
        let routing_key = name()?;
        let mut r = Reader(rest);
        let length = r.u32()? as usize;
        let (properties, body) = r.0.split_at_checked(length)?;
        Some(Parts {
            exchange,
            routing_key,
            properties,
            body,
        })
    }
}

impl<'a> Entry<'a> {
    pub(crate) fn message(&self) -> Option<MessageEntry<'a>> {
        read_message_entry(self.flags, self.payload)
    }

    /// The runs of an entry that has them; none when it is malformed.
    pub(crate) fn runs(&self) -> Option<impl Iterator<Item = Run> + 'a> {
        let runs = self.payload.chunks_exact(RUN_BYTES);
        if !runs.remainder().is_empty() {
            return None;
        }
        let read = |chunk: &'a [u8]| {
            let mut r = Reader(chunk);
            let run = Run {
                first: r.place()?,
                count: r.u32()?,
            };
            run.first.is_sound().then_some(run)
        };
        let sound = runs.clone().all(|chunk| read(chunk).is_some());
        sound.then(|| runs.filter_map(read))
    }

    pub(crate) fn requeue(&self) -> Option<(Place, u32, u64)> {
        let mut r = Reader(self.payload);
        let (place, note, due_ns) = (r.place()?, r.u32()?, r.u64()?);
        place.is_sound().then_some((place, note, due_ns))
    }

    pub(crate) fn id(&self, at: Address) -> Option<IdEntry> {
        let mut r = Reader(self.payload);
        let id = IdEntry {
            owner: r.u32()?,
            sequence: r.u64()?,
            accepted_ns: r.u64()?,
            hash: [r.u64()?, r.u64()?],
            at,
        };
        (id.owner < crate::topology::IDS && id.sequence < POSITIONS).then_some(id)
    }

    pub(crate) fn place(&self) -> Option<Place> {
        Reader(self.payload)
            .place()
            .filter(|place| place.is_sound())
    }
}

fn read_message_entry(flags: u8, payload: &[u8]) -> Option<MessageEntry<'_>> {
    let all = payload.len();
    let mut r = Reader(payload);
    let published_ns = r.u64()?;
    let count = r.u32()? as usize;
    let expires_ns = if flags & FLAG_EXPIRES != 0 {
        r.u64()?
    } else {
        0
    };
    let due_ns = if flags & FLAG_DUE != 0 { r.u64()? } else { 0 };
    let notes = flags & FLAG_NOTES != 0;
    let size = TARGET_BYTES + if notes { 4 } else { 0 };
    let (target_bytes, content) = r.0.split_at_checked(count.checked_mul(size)?)?;
    Some(MessageEntry {
        facts: Facts {
            published_ns,
            expires_ns,
            due_ns,
            persistent: true,
        },
        target_bytes,
        notes,
        content_offset: HEADER_BYTES + all - content.len(),
        content,
    })
}

/// Reads the message whose entry is at `at`.
pub(crate) fn read_message(journal: &Journal, at: Address) -> Result<Message, Error> {
    let damaged = || {
        Error::JournalCorrupt(format!(
            "the message entry at journal address {at:#x} cannot be read: run a verification of the journal"
        ))
    };
    let view = journal
        .read(at)
        .map_err(|e| Error::JournalCorrupt(e.to_string()))?;
    let length = view.get(4..8).ok_or_else(damaged)?;
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if view[0] != MESSAGE || length < HEADER_BYTES {
        return Err(damaged());
    }
    let (facts, content) = {
        let payload = view.get(HEADER_BYTES..length).ok_or_else(damaged)?;
        let entry = read_message_entry(view[1], payload).ok_or_else(damaged)?;
        (entry.facts, entry.content_offset)
    };
    Message::mapped(view, at, content, length, facts).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_entry_gives_back_what_was_written() {
        let parts = Parts {
            exchange: "x",
            routing_key: "a.b",
            properties: &[0x10, 0, 2],
            body: b"hello",
        };
        for (expires_ns, due_ns, notes) in
            [(0, 0, false), (7, 0, true), (0, 9, false), (7, 9, true)]
        {
            let facts = Facts {
                published_ns: 5,
                expires_ns,
                due_ns,
                persistent: true,
            };
            let targets = [3u32, 4].map(|queue| Target {
                place: Place {
                    queue,
                    level: 2,
                    position: 1 << 40,
                },
                note: if notes { queue } else { 0 },
            });
            let mut out = vec![0; message_bytes(&parts, &facts, 2, notes)];
            write_message(&mut out, &parts, &facts, targets.into_iter(), notes);
            let entries: Vec<_> = parse(&out).collect::<Result<_, _>>().unwrap();
            assert_eq!(entries.len(), 1);
            let entry = entries[0].message().unwrap();
            assert_eq!(entry.targets().collect::<Vec<_>>(), targets);
            let back = entry.parts().unwrap();
            assert_eq!(
                (back.exchange, back.routing_key, back.body),
                ("x", "a.b", &b"hello"[..])
            );
            assert_eq!(
                (entry.facts.expires_ns, entry.facts.due_ns),
                (expires_ns, due_ns)
            );
            assert_eq!(&out[entry.content_offset..], entry.content);
        }
    }

    #[test]
    fn neighbours_join_into_runs() {
        let mut runs = Runs::new();
        let place = |queue, position| Place {
            queue,
            level: 0,
            position,
        };
        for p in [5, 6, 7, 9, 8, 12] {
            push_run(&mut runs, place(1, p));
        }
        push_run(&mut runs, place(2, 13));
        let seen: Vec<_> = runs
            .iter()
            .map(|r| (r.first.queue, r.first.position, r.count))
            .collect();
        assert_eq!(seen, [(1, 5, 3), (1, 8, 2), (1, 12, 1), (2, 13, 1)]);
        let mut out = vec![0; settle_bytes(runs.len())];
        write_settle(&mut out, &runs);
        let entry = parse(&out).next().unwrap().unwrap();
        assert_eq!(entry.runs().unwrap().collect::<Runs>(), runs);
    }

    #[test]
    fn cut_entries_are_named_not_followed() {
        let mut out = vec![0; REQUEUE_BYTES];
        write_requeue(
            &mut out,
            Place {
                queue: 1,
                level: 0,
                position: 2,
            },
            3,
            4,
        );
        assert_eq!(parse(&out).next().unwrap().unwrap().requeue().unwrap().1, 3);
        for cut in 1..out.len() {
            let results: Vec<_> = parse(&out[..cut]).collect();
            assert!(results.len() == 1 && results[0].is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn random_bytes_are_read_without_a_panic() {
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut read = 0;
        for _ in 0..50_000 {
            let length = (next() % 120) as usize;
            let mut payload: Vec<u8> = (0..length).map(|_| next() as u8).collect();
            // Most with a header that fits, or little would be looked at.
            if length >= HEADER_BYTES && next() % 8 != 0 {
                let flags = (next() % 8) as u8;
                payload[..4].copy_from_slice(&[MESSAGE, flags, 0, 0]);
                payload[4..8].copy_from_slice(&(length as u32).to_le_bytes());
                if length >= 20 && next() % 2 == 0 {
                    payload[16..20].copy_from_slice(&((next() % 4) as u32).to_le_bytes());
                }
            }
            for entry in parse(&payload).flatten() {
                if let Some(message) = entry.message() {
                    read += message.targets().count();
                    let _ = message.parts();
                }
                let _ = entry.runs().map(Iterator::count);
                let _ = (entry.place(), entry.requeue(), entry.id(0));
                let _ = crate::topology::read_declared(entry.payload);
                let _ = crate::topology::read_bound(entry.payload);
            }
        }
        assert!(read > 100, "{read}");
    }
}
