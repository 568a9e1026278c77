//! [`Groups`] for many threads: one mutex, held for one operation or one batch.
//!
//! Everything here is `Groups` under the lock; messages are dropped and claims are built outside it.
//! Closures and iterators that are passed in run under the lock, so they must be short and must not call the queue.
//! A closure that panics leaves the queue as it is after the messages handled so far (the mutex does not poison).

use std::fmt;

use parking_lot::Mutex;

use super::{GroupLease, GroupState, Groups};

/// A queue of messages in groups, shared between threads. Not lock-free: see the head of the module.
pub struct SharedGroups<T> {
    groups: Mutex<Groups<T>>,
}

impl<T> Default for SharedGroups<T> {
    fn default() -> Self {
        Self::from(Groups::new())
    }
}

impl<T> From<Groups<T>> for SharedGroups<T> {
    /// Shares a queue, for example one that was restored.
    fn from(groups: Groups<T>) -> Self {
        Self {
            groups: Mutex::new(groups),
        }
    }
}

impl<T> fmt::Debug for SharedGroups<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.groups.lock().fmt(out)
    }
}

impl<T> SharedGroups<T> {
    /// An empty queue whose first position is 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty queue whose first position is `first`.
    #[must_use]
    pub fn starting_at(first: u64) -> Self {
        Self::from(Groups::starting_at(first))
    }

    /// [`Groups::len`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.lock().len()
    }

    /// [`Groups::is_empty`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.lock().is_empty()
    }

    /// [`Groups::ready`].
    #[must_use]
    pub fn ready(&self) -> usize {
        self.groups.lock().ready()
    }

    /// [`Groups::leased`].
    #[must_use]
    pub fn leased(&self) -> usize {
        self.groups.lock().leased()
    }

    /// [`Groups::claimed`].
    #[must_use]
    pub fn claimed(&self) -> usize {
        self.groups.lock().claimed()
    }

    /// [`Groups::groups`].
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.lock().groups()
    }

    /// [`Groups::next_position`].
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.groups.lock().next_position()
    }

    /// [`Groups::oldest_unsettled`].
    #[must_use]
    pub fn oldest_unsettled(&self) -> Option<u64> {
        self.groups.lock().oldest_unsettled()
    }

    /// Gives out consecutive positions, one for each key, so that a record can name them before the messages are visible.
    /// Until it is filled or dropped the claim blocks its groups, and nothing else.
    pub fn claim(&self, keys: impl IntoIterator<Item = Option<u64>>) -> GroupClaim<'_, T> {
        let claimed = self.groups.lock().claim(keys);
        GroupClaim {
            queue: self,
            next: claimed.start,
            first: claimed.start,
            end: claimed.end,
        }
    }

    /// [`Groups::push`].
    pub fn push(&self, key: Option<u64>, value: T, note: u32) -> u64 {
        self.groups.lock().push(key, value, note)
    }

    /// [`Groups::push_batch`]. The positions are consecutive.
    pub fn push_batch(&self, items: impl IntoIterator<Item = (Option<u64>, T, u32)>) -> u64 {
        self.groups.lock().push_batch(items)
    }

    /// [`Groups::take`].
    pub fn take(&self) -> Option<GroupLease<T>>
    where
        T: Clone,
    {
        self.groups.lock().take()
    }

    /// [`Groups::take_batch`].
    pub fn take_batch(&self, max: usize, out: &mut Vec<GroupLease<T>>) -> usize
    where
        T: Clone,
    {
        self.groups.lock().take_batch(max, out)
    }

    /// [`Groups::take_batch_ahead`].
    pub fn take_batch_ahead(
        &self,
        max: usize,
        out: &mut Vec<GroupLease<T>>,
        ahead: impl FnMut(&T),
    ) -> usize
    where
        T: Clone,
    {
        self.groups.lock().take_batch_ahead(max, out, ahead)
    }

    /// [`Groups::settle`].
    pub fn settle(&self, lease: GroupLease<T>) -> T {
        self.groups.lock().settle(lease)
    }

    /// [`Groups::settle_batch`].
    pub fn settle_batch(&self, leases: &mut Vec<GroupLease<T>>, out: &mut Vec<T>) {
        self.groups.lock().settle_batch(leases, out);
    }

    /// [`Groups::requeue`].
    pub fn requeue(&self, lease: GroupLease<T>, note: u32) {
        self.groups.lock().requeue(lease, note);
    }

    /// [`Groups::remove`].
    pub fn remove(&self, position: u64) -> Option<(T, u32)> {
        self.groups.lock().remove(position)
    }

    /// [`Groups::inspect`].
    pub fn inspect<R>(&self, position: u64, f: impl FnOnce(GroupState, u32, &T) -> R) -> Option<R> {
        self.groups.lock().inspect(position, f)
    }

    /// [`Groups::browse`].
    pub fn browse(&self, from: u64, max: usize, f: impl FnMut(u64, u32, &T)) -> usize {
        self.groups.lock().browse(from, max, f)
    }

    /// [`Groups::purge`], but `f` runs when the lock is free again.
    pub fn purge(&self, mut f: impl FnMut(u64, T, u32)) -> usize {
        let mut purged = Vec::new();
        self.groups
            .lock()
            .purge(|position, value, note| purged.push((position, value, note)));
        let count = purged.len();
        for (position, value, note) in purged {
            f(position, value, note);
        }
        count
    }

    /// [`Groups::restore`].
    pub fn restore(&self, items: impl IntoIterator<Item = (u64, Option<u64>, T, u32)>) {
        self.groups.lock().restore(items);
    }

    /// [`Groups::skip_to`].
    pub fn skip_to(&self, position: u64) {
        self.groups.lock().skip_to(position);
    }
}

/// Positions that were given out and wait for their messages. What is not filled when it is dropped counts as settled.
#[must_use = "a claim that is dropped unfilled gives its positions up"]
pub struct GroupClaim<'a, T> {
    queue: &'a SharedGroups<T>,
    first: u64,
    /// The next position to be filled.
    next: u64,
    end: u64,
}

impl<T> GroupClaim<'_, T> {
    /// The first position.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number of positions.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.end - self.first) as usize
    }

    /// Whether no position was claimed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == self.end
    }

    /// Puts the messages and their notes on the positions, in order. Positions for which `items` has nothing are given up;
    /// items beyond the claim stay in the iterator.
    pub fn fill(mut self, items: impl IntoIterator<Item = (T, u32)>) {
        let Self {
            queue, next, end, ..
        } = &mut self;
        queue.groups.lock().fill_from(next, *end, items);
    }
}

impl<T> Drop for GroupClaim<'_, T> {
    fn drop(&mut self) {
        if self.next < self.end {
            self.queue.groups.lock().abandon(self.next..self.end);
        }
    }
}

impl<T> fmt::Debug for GroupClaim<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "GroupClaim({}..{})", self.first, self.end)
    }
}
