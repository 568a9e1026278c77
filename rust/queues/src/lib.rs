//! Lock-free FIFO and priority structures, and message groups.
//!
//! | type             | what it is                                                                       |
//! |------------------|----------------------------------------------------------------------------------|
//! | [`Fifo`]         | segmented many-producer many-consumer queue whose slots carry the element's state |
//! | [`PriorityFifo`] | lanes of `Fifo` and a bitmap of those that may have elements                      |
//! | [`groups`]       | strict order per key, parallel over keys                                         |
//!
//! An element is *ready*, *leased* or *settled*. [`Fifo::take`] leases the oldest ready one; [`Fifo::settle`] ends it,
//! [`Fifo::requeue`] returns it to its own position. Positions are dense, rise, and are never used twice.

mod claim;
mod cursor;
mod directory;
mod fifo;
pub mod groups;
mod lease;
mod position_bitmap;
mod prefetch;
mod priority;
mod rare;
mod segment;
mod slot;
mod sync;

pub use claim::Claim;
pub use fifo::Fifo;
pub use lease::Lease;
pub use prefetch::prefetch;
pub use priority::PriorityFifo;
pub use slot::SlotState;

/// An element's place in one queue.
pub type Position = u64;
