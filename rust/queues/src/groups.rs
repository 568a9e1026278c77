//! Message groups: strict FIFO per key, parallel over keys, memory that follows the messages.
//!
//! Algorithm: one dense space of positions, as in a plain queue. Each slot is linked with its neighbours of the same group, and
//! a hash table leads from a key to the last message of its group while the group has messages (`groups/tails.rs`). Only the
//! first message of a group can be *ready*; those behind it *wait*. Bitmaps name the lowest ready position
//! (`position_bitmap.rs`), so a take costs the same with ten ready keys as with ten million, and there is no
//! window to scan. Slots lie in segments that are freed one by one (`groups/store.rs`).
//!
//! States and who changes them:
//!
//! ```text
//!  claim ──> claimed ──fill──> waiting ──(all before it in its group settled)──> ready ──take──> leased ──settle──> settled
//!               │    └─fill, first of its group───────────────────────────────────^  ^──requeue────┘                   ^
//!               └─abandon──────────────────> waiting, ready ──remove, purge────────────────────────────────────────────┘
//! ```
//!
//! A leased message keeps its group blocked until it is settled, however long that takes: so message n+1 of a group is
//! never handed out before n is settled, also across requeue and while a retry delay runs with the lease kept. A message
//! that is claimed but not filled blocks the takes of its own group only. Taking a message out of the middle (expiry, cancel)
//! leaves the rest of the group in order.
//!
//! Keys are 64-bit hashes that the caller makes with a secret seed; no key bytes are kept. Two keys with one hash share a
//! group: then there is less parallelism, never a wrong order. `None` is no group at all: freely parallel.
//!
//! Who may call: [`Groups`] is a plain structure for one owner. [`SharedGroups`] is the same for many threads behind one
//! short mutex, and therefore not lock-free: whoever is descheduled inside it makes the others wait. One lock and not shards by
//! key, because ready messages must leave in order of position over all keys; a bench decides whether it is fast
//! enough (`cargo bench -p wherry-queues --bench groups`).
//!
//! Memory: 32 bytes for a message that is not settled (if `Option<T>` is 8 bytes), about 15 to 30 for a group with
//! messages, nothing for a group without. Not promised: that a straggler does not keep the 256 slots around it.

mod batches;
mod shared;
mod store;
mod tails;

use std::fmt;
use std::ops::Range;

pub use shared::{GroupClaim, SharedGroups};
use store::{Handle, State, Store};
use tails::Tails;

/// A message's place in one queue: dense, only growing, never used twice.
type Position = u64;

/// What [`Groups::inspect`] finds a message doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupState {
    /// Behind another message of its group.
    Waiting,
    /// The next of its group.
    Ready,
    /// Handed out.
    Leased,
}

/// The only right to settle or requeue a message that was taken.
///
/// Dropping it does neither: the message stays leased and its group blocked for as long as the queue lives.
#[must_use = "a lease that is dropped blocks its group for ever"]
pub struct GroupLease<T> {
    position: Position,
    note: u32,
    handle: Handle,
    value: T,
}

impl<T> GroupLease<T> {
    /// The message's place in the queue.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The note as of the take.
    pub fn note(&self) -> u32 {
        self.note
    }

    /// The message: a clone of what the queue holds until the lease is settled.
    pub fn value(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for GroupLease<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            note,
            value,
            ..
        } = self;
        out.debug_struct("GroupLease")
            .field("position", position)
            .field("note", note)
            .field("value", value)
            .finish()
    }
}

/// A queue of messages in groups, for one owner; see the head of this file.
///
/// ```
/// use wherry_queues::groups::Groups;
///
/// let mut groups = Groups::new();
/// groups.push(Some(7), "first of 7", 0);
/// groups.push(Some(7), "second of 7", 0);
/// groups.push(Some(8), "first of 8", 0);
/// let first = groups.take().unwrap();
/// let other = groups.take().unwrap();
/// assert_eq!((*first.value(), *other.value()), ("first of 7", "first of 8"));
/// assert!(groups.take().is_none());
/// groups.settle(first);
/// assert_eq!(*groups.take().unwrap().value(), "second of 7");
/// ```
pub struct Groups<T> {
    store: Store<T>,
    tails: Tails,
    ready: usize,
    waiting: usize,
    leased: usize,
}

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Groups<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ready,
            waiting,
            leased,
            ..
        } = self;
        out.debug_struct("Groups")
            .field("ready", ready)
            .field("waiting", waiting)
            .field("leased", leased)
            .field("groups", &self.groups())
            .finish_non_exhaustive()
    }
}

impl<T> Groups<T> {
    /// An empty queue whose first position is 0.
    #[must_use]
    pub fn new() -> Self {
        Self::starting_at(0)
    }

    /// An empty queue whose first position is `first`.
    #[must_use]
    pub fn starting_at(first: Position) -> Self {
        Self {
            store: Store::starting_at(first),
            tails: Tails::new(),
            ready: 0,
            waiting: 0,
            leased: 0,
        }
    }

    /// Messages to be delivered: ready and waiting ones, not those that are leased.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready + self.waiting
    }

    /// Whether no message is to be delivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages that could be taken now.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Messages that are handed out.
    #[must_use]
    pub fn leased(&self) -> usize {
        self.leased
    }

    /// Positions that are claimed and neither filled nor abandoned.
    #[must_use]
    pub fn claimed(&self) -> usize {
        self.store.unsettled() as usize - self.len() - self.leased
    }

    /// Groups that have messages which are not settled.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.tails.len()
    }

    /// The position that the next message will get.
    #[must_use]
    pub fn next_position(&self) -> Position {
        self.store.next_position()
    }

    /// The lowest position that is not settled (claimed ones included).
    #[must_use]
    pub fn oldest_unsettled(&self) -> Option<Position> {
        let mut segments = self.store.segments_from(0);
        segments.find_map(|(_, index)| {
            self.store
                .unsettled_in(index)
                .next()
                .map(|(position, ..)| position)
        })
    }

    /// Gives out consecutive positions, one for each key and in this order within the groups, before the messages are there.
    /// Each must be filled or abandoned: until then it blocks its group.
    pub fn claim(&mut self, keys: impl IntoIterator<Item = Option<u64>>) -> Range<Position> {
        let first = self.next_position();
        for key in keys {
            self.append(key);
        }
        first..self.next_position()
    }

    /// Puts messages and their notes on claimed positions, in order; returns how many there were.
    ///
    /// # Panics
    /// If a position is not claimed.
    pub fn fill(
        &mut self,
        claimed: Range<Position>,
        items: impl IntoIterator<Item = (T, u32)>,
    ) -> usize {
        let mut next = claimed.start;
        self.fill_from(&mut next, claimed.end, items);
        (next - claimed.start) as usize
    }

    /// `fill` that moves `next` on with each item, so that the caller knows how far it came if the items panic.
    fn fill_from(
        &mut self,
        next: &mut Position,
        end: Position,
        items: impl IntoIterator<Item = (T, u32)>,
    ) {
        let mut items = items.into_iter();
        let mut last: Option<Handle> = None;
        while *next < end
            && let Some((value, note)) = items.next()
        {
            // Consecutive positions have consecutive handles inside a segment; only a new segment is searched for.
            let handle = match last.and_then(Handle::following) {
                Some(handle) => handle,
                None => self.claimed_slot(*next),
            };
            self.fill_slot(handle, value, note);
            *next += 1;
            last = Some(handle);
        }
    }

    /// Gives claimed positions back unused: they count as settled.
    ///
    /// # Panics
    /// If a position is not claimed.
    pub fn abandon(&mut self, claimed: Range<Position>) {
        for position in claimed {
            let handle = self.claimed_slot(position);
            self.unlink(handle);
            self.store.settle(handle);
        }
    }

    /// Adds a message at the end of its group and of the queue.
    pub fn push(&mut self, key: Option<u64>, value: T, note: u32) -> Position {
        let position = self.next_position();
        let handle = self.append(key);
        self.fill_slot(handle, value, note);
        position
    }

    /// Hands out the ready message with the lowest position.
    pub fn take(&mut self) -> Option<GroupLease<T>>
    where
        T: Clone,
    {
        let handle = self.store.first_ready()?;
        Some(self.lease(handle))
    }

    /// Ends a message that was taken; the next one of its group becomes ready.
    pub fn settle(&mut self, lease: GroupLease<T>) -> T {
        let handle = self.leased_slot(&lease);
        self.leased -= 1;
        self.unlink(handle);
        // The slot of a lease holds its message.
        self.store.settle(handle).unwrap_or(lease.value)
    }

    /// Puts a message that was taken back to its own position, with a new note. It is the next of its group again.
    pub fn requeue(&mut self, lease: GroupLease<T>, note: u32) {
        let handle = self.leased_slot(&lease);
        self.leased -= 1;
        self.ready += 1;
        self.store.slot_mut(handle).note = note;
        self.store.set_ready(handle);
    }

    /// Takes a ready or waiting message out of the queue. None if there is no such message at `position`.
    pub fn remove(&mut self, position: Position) -> Option<(T, u32)> {
        let handle = self.store.locate(position)?;
        self.remove_slot(handle)
    }

    /// Shows a ready, waiting or leased message.
    pub fn inspect<R>(
        &self,
        position: Position,
        f: impl FnOnce(GroupState, u32, &T) -> R,
    ) -> Option<R> {
        let slot = self.store.slot(self.store.locate(position)?);
        let state = match slot.state {
            State::Waiting => GroupState::Waiting,
            State::Ready => GroupState::Ready,
            State::Leased => GroupState::Leased,
            State::Claimed | State::Settled => return None,
        };
        slot.value.as_ref().map(|value| f(state, slot.note, value))
    }

    /// Shows up to `max` ready and waiting messages from position `from` on, in order; returns how many.
    pub fn browse(
        &self,
        from: Position,
        max: usize,
        mut f: impl FnMut(Position, u32, &T),
    ) -> usize {
        let mut shown = 0;
        for (_, index) in self.store.segments_from(from) {
            for (position, _, slot) in self.store.unsettled_in(index) {
                if shown == max {
                    return shown;
                }
                if position >= from
                    && matches!(slot.state, State::Ready | State::Waiting)
                    && let Some(value) = &slot.value
                {
                    f(position, slot.note, value);
                    shown += 1;
                }
            }
        }
        shown
    }

    /// Takes all ready and waiting messages out, in order of position; returns how many. What is leased or claimed stays.
    pub fn purge(&mut self, mut f: impl FnMut(Position, T, u32)) -> usize {
        let mut purged = 0;
        let segments: Vec<(u64, u32)> = self.store.segments_from(0).collect();
        let mut handles = Vec::new();
        for (_, index) in segments {
            // A segment keeps its index until the last message of all is out.
            if self.store.unsettled() == 0 {
                break;
            }
            handles.clear();
            handles.extend(
                self.store
                    .unsettled_in(index)
                    .map(|(position, handle, _)| (position, handle)),
            );
            for &(position, handle) in &handles {
                if let Some((value, note)) = self.remove_slot(handle) {
                    f(position, value, note);
                    purged += 1;
                }
            }
        }
        purged
    }

    /// Makes `position` the next one; those before it that were not given out count as settled.
    ///
    /// # Panics
    /// If it was given out already.
    pub fn skip_to(&mut self, position: Position) {
        self.store.skip_to(position);
    }

    /// A new claimed slot, linked behind the last one of its group.
    fn append(&mut self, key: Option<u64>) -> Handle {
        let handle = self.store.append(key);
        if let Some(key) = key
            && let Some(prev) = self.tails.replace(key, handle)
        {
            self.store.slot_mut(prev).next = handle;
            self.store.slot_mut(handle).prev = prev;
        }
        handle
    }

    fn fill_slot(&mut self, handle: Handle, value: T, note: u32) {
        let slot = self.store.slot_mut(handle);
        assert_eq!(
            slot.state,
            State::Claimed,
            "only claimed positions are filled"
        );
        slot.value = Some(value);
        slot.note = note;
        if slot.prev.is_some() {
            slot.state = State::Waiting;
            self.waiting += 1;
        } else {
            self.store.set_ready(handle);
            self.ready += 1;
        }
    }

    fn lease(&mut self, handle: Handle) -> GroupLease<T>
    where
        T: Clone,
    {
        let slot = self.store.slot(handle);
        let (note, value) = (slot.note, slot.value.clone());
        // Taken first: whatever happens to the clone, the counts below are changed together.
        let value = value.expect("a ready slot holds a message");
        self.store.clear_ready(handle, State::Leased);
        self.ready -= 1;
        self.leased += 1;
        GroupLease {
            position: self.store.position(handle),
            note,
            handle,
            value,
        }
    }

    fn remove_slot(&mut self, handle: Handle) -> Option<(T, u32)> {
        let slot = self.store.slot(handle);
        let note = slot.note;
        match slot.state {
            State::Ready => {
                self.ready -= 1;
                self.store.clear_ready(handle, State::Leased);
            }
            State::Waiting => self.waiting -= 1,
            State::Claimed | State::Leased | State::Settled => return None,
        }
        self.unlink(handle);
        self.store.settle(handle).map(|value| (value, note))
    }

    /// Takes a slot out of its group. If it was the first, the next one becomes ready, unless it is still to be filled;
    /// if it was the only one, the group is forgotten.
    fn unlink(&mut self, handle: Handle) {
        let slot = self.store.slot(handle);
        if !slot.grouped {
            return;
        }
        let (prev, next, key) = (slot.prev, slot.next, slot.key);
        if prev.is_some() {
            self.store.slot_mut(prev).next = next;
        }
        if next.is_some() {
            let slot = self.store.slot_mut(next);
            slot.prev = prev;
            if !prev.is_some() && slot.state == State::Waiting {
                self.waiting -= 1;
                self.ready += 1;
                self.store.set_ready(next);
            }
        } else if prev.is_some() {
            self.tails.replace(key, prev);
        } else {
            self.tails.remove(key);
        }
    }

    fn claimed_slot(&self, position: Position) -> Handle {
        let handle = self
            .store
            .locate(position)
            .filter(|&handle| self.store.slot(handle).state == State::Claimed);
        handle.expect("only claimed positions are filled or abandoned")
    }

    fn leased_slot(&self, lease: &GroupLease<T>) -> Handle {
        let slot = self.store.slot(lease.handle);
        assert!(
            slot.state == State::Leased && self.store.position(lease.handle) == lease.position,
            "a lease goes back to the queue that gave it"
        );
        lease.handle
    }
}
