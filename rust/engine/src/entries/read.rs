//! Entries as they are read back. What is read from a disk may say anything: whatever does not fit is an error or none.

use wherry_journal::{Address, Journal};

use super::{
    FLAG_DUE, FLAG_EXPIRES, FLAG_NOTES, HEADER_BYTES, IdEntry, MESSAGE, POSITIONS, Place,
    RUN_BYTES, Run, TARGET_BYTES, Target,
};
use crate::error::Error;
use crate::message::{Facts, Message, Parts};

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
