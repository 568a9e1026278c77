//! A disk in memory that can fail and crash, for the tests of this crate and of those above it. Feature `testing`.
//!
//! [`MemoryDisk`] keeps, beside what a reader sees, what a power failure would leave. It can refuse calls, run out of room,
//! and be asked for the states that a crash could leave: now ([`MemoryDisk::crash`]) or after every single operation of a
//! recorded run ([`History`]). [`Sabotage`] breaks a journal on purpose: a test that does not notice proves nothing.

use std::sync::Arc;

use crate::Replay;
use crate::disk::Disk;
use crate::errors::OpenError;
use crate::journal::Journal;
use crate::options::Options;
use crate::recovery::Report;

mod crash;
mod memory_disk;
mod model;

pub use crate::testing_hooks::Sabotage;
pub use crash::{CrashPoint, History};
pub use memory_disk::{Fault, MemoryDisk};
pub use model::Survivors;

/// Opens a journal that is broken on purpose.
pub fn open_sabotaged(
    disk: Arc<dyn Disk>,
    options: Options,
    replay: &mut dyn Replay,
    sabotage: Sabotage,
) -> Result<Arc<Journal>, OpenError> {
    Journal::open_with(disk, options, replay, sabotage)
}

/// Does what opening does, up to where the committer would start, and lets the journal go again.
pub fn recover(
    disk: Arc<dyn Disk>,
    options: Options,
    replay: &mut dyn Replay,
    sabotage: Sabotage,
) -> Result<Report, OpenError> {
    crate::opening::prepare_open(&disk, options, replay, sabotage).map(|opening| opening.report)
}
