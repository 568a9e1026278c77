//! Many messages in one call, with the memory that each needs asked for ahead of time.
//!
//! With a million keys nothing that an update touches is in a cache: the entry of its key in the table of tails, the slot
//! of the message before it, the message. One after the other they cost three waits for memory an update, and the
//! processor does not look far enough ahead by itself to overlap those of one message with those of the next. So each
//! batch is gone through in steps of `AHEAD`: once to look, where no step depends on the one before it, and once to do.
//! Looking changes nothing, and its results are not kept: what is done is done as for single messages.

use super::store::{Handle, SEGMENT_SLOTS};
use super::{GroupLease, Groups, Position};
use crate::prefetch;

/// How many messages are looked at before the first of them is done. What they need fits into a first-level cache.
const AHEAD: usize = 32;
/// Up to so many groups everything is in a cache anyway.
const CACHED_GROUPS: usize = 4096;

impl<T> Groups<T> {
    /// Adds messages, of the given keys and with the given notes, and returns the first one's position.
    pub fn push_batch(
        &mut self,
        items: impl IntoIterator<Item = (Option<u64>, T, u32)>,
    ) -> Position {
        let first = self.next_position();
        self.push_ahead(
            items,
            |(key, ..)| *key,
            |groups, (key, value, note)| {
                groups.push(key, value, note);
            },
        );
        first
    }

    /// Puts messages back that survived a restart: position, key, message and note, in ascending order of position and
    /// from `next_position()` on. Positions between them count as settled and cost nothing.
    ///
    /// # Panics
    /// If the positions do not ascend.
    pub fn restore(&mut self, items: impl IntoIterator<Item = (Position, Option<u64>, T, u32)>) {
        self.push_ahead(
            items,
            |(_, key, ..)| *key,
            |groups, (position, key, value, note)| {
                groups.store.skip_to(position);
                groups.push(key, value, note);
            },
        );
    }

    /// Calls `push` with each of `items`, some of whose keys were looked at before.
    fn push_ahead<I>(
        &mut self,
        items: impl IntoIterator<Item = I>,
        key: impl Fn(&I) -> Option<u64>,
        mut push: impl FnMut(&mut Self, I),
    ) {
        let mut items = items.into_iter();
        let mut some = Vec::with_capacity(items.size_hint().0.min(AHEAD));
        loop {
            some.extend(items.by_ref().take(AHEAD));
            if some.is_empty() {
                return;
            }
            if self.tails.len() > CACHED_GROUPS {
                some.iter()
                    .filter_map(&key)
                    .for_each(|key| self.look_at_tail(key));
            }
            some.drain(..).for_each(|item| push(self, item));
        }
    }

    /// Hands out up to `max` ready messages in order of position, each of a different group; returns how many.
    pub fn take_batch(&mut self, max: usize, out: &mut Vec<GroupLease<T>>) -> usize
    where
        T: Clone,
    {
        self.take_batch_ahead(max, out, |_| {})
    }

    /// As [`Groups::take_batch`]; `ahead` is shown each message a while before it is cloned, so that it can have the memory
    /// fetched that the message points to.
    pub fn take_batch_ahead(
        &mut self,
        max: usize,
        out: &mut Vec<GroupLease<T>>,
        mut ahead: impl FnMut(&T),
    ) -> usize
    where
        T: Clone,
    {
        if max == 1 {
            let lease = self.take();
            let taken = usize::from(lease.is_some());
            out.extend(lease);
            return taken;
        }
        let mut taken = 0;
        let mut handles = [Handle::NONE; SEGMENT_SLOTS as usize];
        while taken < max {
            let ready = self.store.list_ready(&mut handles);
            let ready = &handles[..ready.min(max - taken)];
            if ready.is_empty() {
                break;
            }
            for some in ready.chunks(AHEAD) {
                for &handle in some {
                    if let Some(value) = &self.store.slot(handle).value {
                        ahead(value);
                    }
                }
                out.extend(some.iter().map(|&handle| self.lease(handle)));
            }
            taken += ready.len();
        }
        taken
    }

    /// [`Groups::settle`] for all of `leases`, some dozens, whose messages go behind those in `out`.
    pub fn settle_batch(&mut self, leases: &mut Vec<GroupLease<T>>, out: &mut Vec<T>) {
        if self.tails.len() > CACHED_GROUPS {
            for lease in &*leases {
                let slot = self.store.slot(lease.handle);
                if slot.next.is_some() {
                    prefetch(self.store.slot(slot.next));
                } else if slot.grouped {
                    self.look_at_tail(slot.key);
                }
            }
        }
        out.extend(leases.drain(..).map(|lease| self.settle(lease)));
    }

    /// Fetches what a push to this group, or its end, will need.
    fn look_at_tail(&self, key: u64) {
        if let Some(last) = self.tails.find(key) {
            prefetch(self.store.slot(last));
        }
    }
}
