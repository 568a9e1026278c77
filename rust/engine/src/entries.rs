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

mod place;
mod read;
mod write;

use wherry_journal::Address;

use place::POSITIONS;
pub(crate) use place::{Place, Run, Runs, Target, push_run};
pub(crate) use read::{Entry, MessageEntry, parse, read_message};
pub(crate) use write::{
    ID_BYTES, PLACE_BYTES, REQUEUE_BYTES, message_bytes, named_bytes, settle_bytes, write_id,
    write_message, write_named, write_place, write_requeue, write_runs, write_settle,
};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Facts, Parts};

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
