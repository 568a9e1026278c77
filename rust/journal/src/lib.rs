//! The journal: records in pre-allocated segments, group commit, recovery. Knows nothing of queues or messages.
//!
//! Publishers copy records into a staging buffer in parallel; one thread, the *committer*, writes what is complete and syncs
//! it, and what gathered meanwhile goes with the next sync. A record is confirmed when its sync returned. The bytes on the
//! disk are described in `docs/journal-format.md`, which is the contract; [`Journal`] is the way in.
//!
//! ```
//! use wherry_journal::{Class, Disk, Journal, Options, Replay, testing::MemoryDisk};
//!
//! struct Print;
//! impl Replay for Print {
//!     fn record(&mut self, at: u64, kind: u8, payload: &[u8]) -> Result<(), String> {
//!         println!("{at:#x}: kind {kind}, {} bytes", payload.len());
//!         Ok(())
//!     }
//! }
//!
//! // `<dyn Disk>::real("directory")` is the one to use.
//! let journal = Journal::open(MemoryDisk::new(), Options::default(), &mut Print).unwrap();
//! let (at, ticket) = journal.append(1, b"hello", Class::Publish).unwrap();
//! assert!(journal.wait_durable(ticket, None).unwrap());
//! assert_eq!(&journal.read(at).unwrap()[..5], b"hello");
//! journal.close().unwrap();
//! ```

#![cfg_attr(
    wherry_loom,
    allow(
        dead_code,
        reason = "only the protocols are built for the model checker"
    )
)]

mod format;
mod stage;
mod staging;
mod sync;

#[cfg(not(wherry_loom))]
mod committer;
#[cfg(not(wherry_loom))]
mod errors;
#[cfg(not(wherry_loom))]
mod files;
#[cfg(not(wherry_loom))]
mod journal;
#[cfg(not(wherry_loom))]
mod obstacle;
#[cfg(not(wherry_loom))]
mod opening;
#[cfg(not(wherry_loom))]
mod options;
#[cfg(not(wherry_loom))]
mod recovery;
#[cfg(not(wherry_loom))]
mod reservation;
#[cfg(not(wherry_loom))]
mod scan;
#[cfg(not(wherry_loom))]
mod segments;
#[cfg(not(wherry_loom))]
mod shared;
#[cfg(not(wherry_loom))]
mod testing_hooks;
#[cfg(not(wherry_loom))]
mod verify;
#[cfg(not(wherry_loom))]
mod view;

mod address;
mod bell;
#[cfg(not(wherry_loom))]
mod disk;
#[cfg(all(wherry_loom, test))]
mod models;
#[cfg(all(feature = "testing", not(wherry_loom)))]
pub mod testing;

#[cfg(not(wherry_loom))]
mod face {
    use crate::errors::Poisoned;
    use crate::obstacle::Obstacle;

    pub use crate::address::{Address, SegmentNumber, Ticket, address, offset_of, segment_of};

    /// Who receives the records of a journal.
    pub trait Replay {
        /// One record, in the order of addresses: its payload's address, its kind, its payload. An error ends the replay.
        fn record(&mut self, at: Address, kind: u8, payload: &[u8]) -> Result<(), String>;

        /// Called now and then.
        fn progress(&mut self, done_bytes: u64, total_bytes: u64) {
            let _ = (done_bytes, total_bytes);
        }
    }

    /// Who hears of the committer's progress. Called from the committer, so nothing here may block, nor append.
    pub trait Observer: Send + Sync + 'static {
        /// All before the ticket is durable.
        fn durable(&self, ticket: Ticket) {
            let _ = ticket;
        }
        /// A write or sync failed: nothing is confirmed any more.
        fn failed(&self, poisoned: &Poisoned) {
            let _ = poisoned;
        }
        /// Somebody was refused with `Busy`, and now there is room.
        fn space(&self) {}
        /// There is no further segment for now, or again.
        fn obstructed(&self, by: Option<&Obstacle>) {
            let _ = by;
        }
        /// [`Journal::evacuation`](crate::Journal::evacuation) has something to say.
        fn wants_evacuation(&self) {}
    }

    /// A damaged place that was skipped.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Hole {
        /// The damaged segment.
        pub segment: SegmentNumber,
        /// First byte that is not part of a valid record.
        pub from: u32,
        /// Where valid records go on.
        pub to: u32,
        /// What is wrong.
        pub reason: String,
    }

    /// Figures of a journal at one moment. Bytes count records of all kinds with headers, since opening.
    #[derive(Clone, Debug)]
    pub struct Statistics {
        /// Claimed by publishers. Counts the unused end of a full segment until the next one is written to.
        pub appended_bytes: u64,
        /// Handed to the operating system.
        pub written_bytes: u64,
        /// On stable storage.
        pub durable_bytes: u64,
        /// Records written, of all kinds.
        pub records: u64,
        /// Syncs of record data.
        pub syncs: u64,
        /// How long the last of them took.
        pub last_sync_ns: u64,
        /// Segments in use.
        pub segments: u64,
        /// Length of their files.
        pub segments_bytes: u64,
        /// Files kept for later segments.
        pub free_segments: u64,
        /// Bytes that wait to be written.
        pub staging_bytes: u64,
        /// Why there is no further segment for now: publishers are refused.
        pub obstacle: Option<Obstacle>,
        /// Why nothing is confirmed any more.
        pub poisoned: Option<Poisoned>,
        /// When records are confirmed.
        pub durability: crate::Durability,
    }
}

#[cfg(not(wherry_loom))]
pub use committer::QUIET_MAX;
#[cfg(not(wherry_loom))]
pub use disk::{Disk, DiskFile, Mapping, RealDisk};
#[cfg(not(wherry_loom))]
pub use errors::{AppendError, OpenError, Poisoned, ReadError};
#[cfg(not(wherry_loom))]
pub use face::*;
#[cfg(not(wherry_loom))]
pub use journal::Journal;
#[cfg(not(wherry_loom))]
pub use obstacle::{Obstacle, ObstacleKind};
#[cfg(not(wherry_loom))]
pub use options::{Class, Durability, OnCorruption, Options};
#[cfg(not(wherry_loom))]
pub use recovery::Report;
#[cfg(not(wherry_loom))]
pub use reservation::Reservation;
#[cfg(not(wherry_loom))]
pub use verify::{Verification, verify};
#[cfg(not(wherry_loom))]
pub use view::View;
