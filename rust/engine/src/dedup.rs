//! Deduplication: a message whose id was seen a short while ago is accepted and confirmed, and not stored again.
//!
//! A queue or an exchange that is declared with a window remembers the ids of what was published to it. An id is a
//! header's (or a property's) value; messages without one are never duplicates. What is promised:
//!
//! - An id is remembered for at least the window asked for: the time, or so many newer ids, or with both whichever is
//!   over first. Where a window by time alone has [`DEDUP_ENTRIES_MAX`] ids, further ones are refused, not forgotten.
//! - Two publishers with the same id at the same time: one stores it, and the other's confirm waits for the same record.
//! - A message that was refused, or went to no queue, leaves no id.
//! - In a durable queue or exchange the ids of persistent messages outlive a restart: an id is in the same journal
//!   record as its message (entries.rs), so that after a crash both are there or neither.
//! - Dead letters, moved messages and those that come back are not judged again: nothing is lost as a duplicate that
//!   was accepted once. Of several exchanges on a message's way, the one that was published to judges.
//!
//! Ids are kept as 128-bit SipHash values, keyed by the journal's own id: two different ids that are taken for one are
//! not to be expected in the age of the universe, nor to be made by who does not know the key.
//!
//! A window is behind a mutex, which its publishers hold while their record is written (never while the disk is
//! waited for); several windows are locked in the order of their owners' ids. Queues without a window pay one look at
//! a pointer.

mod judge;
mod siphash;
mod window;

use std::time::Duration;

pub(crate) use judge::{Judgement, Judges, judged};
pub(crate) use window::Window;

use crate::error::Error;
use crate::message::Parts;
use crate::options::{NAME_BYTES_MAX, check_duration};
use crate::queue::key::with_key;
use crate::table::{Table, Value};

/// Ids that one window holds at most: some 45 bytes each. A window of ten minutes is full at 7,000 messages a second.
pub const DEDUP_ENTRIES_MAX: u64 = 1 << 22;

/// The headers that are looked for if nothing else is said: our own name, and that of RabbitMQ's community plugin.
const DEFAULT_HEADERS: [&str; 2] = ["x-dedup-id", "x-deduplication-header"];

/// Where a message's id is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DedupKey {
    /// In the header `x-dedup-id`, or else in `x-deduplication-header`.
    #[default]
    Default,
    /// In this header, or in the property of this name (those of `group_by`).
    Named(String),
}

/// A window of ids. At least one of `window` and `size` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dedup {
    /// Where the id is.
    pub by: DedupKey,
    /// How long an id is remembered.
    pub window: Option<Duration>,
    /// How many ids are remembered, the newest ones; at most [`DEDUP_ENTRIES_MAX`].
    pub size: Option<u64>,
}

impl Dedup {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_duration("dedup.window", self.window, false)?;
        if self.window.is_none() && self.size.is_none() {
            return Err(Error::InvalidArgument(
                "dedup without a window: give a time, a number of ids, or both".into(),
            ));
        }
        if let Some(size) = self.size
            && !(1..=DEDUP_ENTRIES_MAX).contains(&size)
        {
            return Err(Error::InvalidArgument(format!(
                "dedup.size of {size}: use 1 to {DEDUP_ENTRIES_MAX}"
            )));
        }
        match &self.by {
            DedupKey::Named(name) if name.is_empty() || name.len() > NAME_BYTES_MAX => {
                Err(Error::InvalidArgument(
                    "dedup.by: name a header or property of 1 to 255 bytes".into(),
                ))
            }
            _ => Ok(()),
        }
    }

    /// The message's id under a key of the broker's own; none if it has no id.
    fn id_of(&self, key: &[u8; 16], parts: &Parts<'_>) -> Option<[u64; 2]> {
        let by_name = |name: &str| {
            with_key(name, parts, |kind, bytes| {
                let mut tagged = Vec::with_capacity(bytes.len() + 1);
                tagged.push(kind);
                tagged.extend_from_slice(bytes);
                siphash::siphash128(key, &tagged)
            })
        };
        match &self.by {
            DedupKey::Named(name) => by_name(name),
            DedupKey::Default => DEFAULT_HEADERS.iter().find_map(|name| by_name(name)),
        }
    }

    pub(crate) fn to_table(&self) -> Table {
        let mut table = Table::default();
        if let DedupKey::Named(name) = &self.by {
            table.insert("by", Value::Str(name.clone().into_bytes()));
        }
        if let Some(window) = self.window {
            let ns = i64::try_from(window.as_nanos()).unwrap_or(i64::MAX);
            table.insert("window-ns", Value::I64(ns));
        }
        if let Some(size) = self.size {
            table.insert("size", Value::U64(size));
        }
        table
    }

    pub(crate) fn from_table(table: &Table) -> Dedup {
        let count = |name: &str| {
            let n = table.get(name)?.as_integer()?;
            u64::try_from(n).ok()
        };
        Dedup {
            by: match table.get("by") {
                Some(Value::Str(name)) => {
                    DedupKey::Named(String::from_utf8_lossy(name).into_owned())
                }
                _ => DedupKey::Default,
            },
            window: count("window-ns").map(Duration::from_nanos),
            size: count("size"),
        }
    }
}
