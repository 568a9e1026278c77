//! One level of a queue while the journal is replayed: which positions hold a message, and where its entry is.
//!
//! Positions live in chunks that exist only while one of theirs holds a message. So what is settled costs nothing, in
//! whatever order messages and their ends come, and building a queue frees its chunks one by one. A message's group is
//! kept beside its address for the same reason, and because it is then looked for nowhere.

use std::collections::HashMap;

use wherry_journal::Address;

const CHUNK: u64 = 64;

/// An address and a length; address 0 holds nothing. In words, so that it takes 12 bytes.
#[derive(Clone, Copy, Default)]
struct Slot {
    at: [u32; 2],
    body_bytes: u32,
}

impl Slot {
    fn new(at: Address, body_bytes: u32) -> Slot {
        Slot {
            at: [(at >> 32) as u32, at as u32],
            body_bytes,
        }
    }

    fn at(self) -> Address {
        u64::from(self.at[0]) << 32 | u64::from(self.at[1])
    }
}

#[derive(Default)]
struct Chunk {
    /// As long as its last position needs.
    slots: Vec<Slot>,
    /// Of each slot; 0 is no group. Empty while none has one.
    groups: Vec<u64>,
    live: usize,
}

/// A message that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) position: u64,
    pub(super) at: Address,
    pub(super) body_bytes: u32,
    pub(super) group: Option<u64>,
}

impl Chunk {
    fn set_group(&mut self, index: usize, group: Option<u64>) {
        let group = group.unwrap_or(0);
        if index >= self.groups.len() {
            if group == 0 {
                return;
            }
            self.groups.resize(index + 1, 0);
        }
        self.groups[index] = group;
    }

    fn group(&self, index: usize) -> Option<u64> {
        self.groups.get(index).copied().filter(|group| *group != 0)
    }
}

#[derive(Default)]
pub(super) struct Level {
    chunks: HashMap<u64, Chunk, foldhash::fast::RandomState>,
    live: usize,
    /// Above every position that is known to have been given out.
    next: u64,
}

impl Level {
    /// A message of `group` stands at `position`, or its entry was copied.
    pub(super) fn insert(
        &mut self,
        position: u64,
        at: Address,
        body_bytes: u32,
        group: Option<u64>,
    ) {
        self.skip_to(position + 1);
        let chunk = self.chunks.entry(position / CHUNK).or_default();
        let index = (position % CHUNK) as usize;
        if index >= chunk.slots.len() {
            chunk.slots.resize(index + 1, Slot::default());
        }
        if chunk.slots[index].at() == 0 {
            chunk.live += 1;
            self.live += 1;
        }
        chunk.slots[index] = Slot::new(at, body_bytes);
        chunk.set_group(index, group);
    }

    pub(super) fn settle_run(&mut self, first: u64, count: u32) {
        let end = first + u64::from(count);
        self.skip_to(end);
        let (from, to) = (first / CHUNK, end.div_ceil(CHUNK));
        if to - from > self.chunks.len() as u64 {
            let numbers = self.chunks.keys().copied();
            let numbers: Vec<u64> = numbers.filter(|n| (from..to).contains(n)).collect();
            for number in numbers {
                self.settle_in(number, first, end);
            }
        } else {
            for number in from..to {
                self.settle_in(number, first, end);
            }
        }
    }

    fn settle_in(&mut self, number: u64, first: u64, end: u64) {
        let Some(chunk) = self.chunks.get_mut(&number) else {
            return;
        };
        let start = number * CHUNK;
        let length = chunk.slots.len() as u64;
        let from = first.saturating_sub(start).min(length) as usize;
        let to = (end - start).min(length) as usize;
        for slot in &mut chunk.slots[from..to] {
            if slot.at() != 0 {
                *slot = Slot::default();
                chunk.live -= 1;
                self.live -= 1;
            }
        }
        if chunk.live == 0 {
            self.chunks.remove(&number);
        }
    }

    pub(super) fn contains(&self, position: u64) -> bool {
        self.chunks
            .get(&(position / CHUNK))
            .and_then(|chunk| chunk.slots.get((position % CHUNK) as usize))
            .is_some_and(|slot| slot.at() != 0)
    }

    /// Messages that are left.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// All positions below this one were given out.
    pub(super) fn skip_to(&mut self, position: u64) {
        self.next = self.next.max(position);
    }

    /// Finds the group of each message that is left, in no order, by its position and address.
    pub(super) fn find_groups<E>(
        &mut self,
        mut find: impl FnMut(u64, Address) -> Result<Option<u64>, E>,
    ) -> Result<(), E> {
        for (number, chunk) in &mut self.chunks {
            for index in 0..chunk.slots.len() {
                let at = chunk.slots[index].at();
                if at != 0 {
                    let group = find(number * CHUNK + index as u64, at)?;
                    chunk.set_group(index, group);
                }
            }
        }
        Ok(())
    }

    /// What is left, ascending; frees it on the way.
    pub(super) fn into_messages(mut self) -> impl Iterator<Item = Left> {
        let mut numbers: Vec<u64> = self.chunks.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().flat_map(move |number| {
            let chunk = self.chunks.remove(&number).unwrap_or_default();
            (0..chunk.slots.len()).filter_map(move |index| {
                let slot = chunk.slots[index];
                (slot.at() != 0).then(|| Left {
                    position: number * CHUNK + index as u64,
                    at: slot.at(),
                    body_bytes: slot.body_bytes,
                    group: chunk.group(index),
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn left(position: u64, at: Address, group: Option<u64>) -> Left {
        Left {
            position,
            at,
            body_bytes: 9,
            group,
        }
    }

    fn messages(level: Level) -> Vec<Left> {
        level.into_messages().collect()
    }

    #[test]
    fn messages_come_back_in_order_whatever_order_they_came_in() {
        let mut level = Level::default();
        for position in [200_000, 5, 70, 150_000, 6, 64, 63, 5] {
            level.insert(position, position + 1, 9, None);
        }
        level.settle_run(64, 1);
        assert_eq!(level.next(), 200_001);
        assert_eq!(level.live(), 6);
        assert!(level.contains(63) && !level.contains(64) && !level.contains(7));
        assert_eq!(
            messages(level),
            [5, 6, 63, 70, 150_000, 200_000].map(|p| left(p, p + 1, None))
        );
    }

    #[test]
    fn a_run_may_be_longer_than_anything_there_is() {
        let mut level = Level::default();
        for position in 0..1000 {
            level.insert(position, 8, 9, None);
        }
        level.settle_run(10, u32::MAX);
        assert_eq!(level.live(), 10);
        assert_eq!(level.next(), 10 + u64::from(u32::MAX));
        level.settle_run(0, 10);
        assert!(level.chunks.is_empty());
    }

    #[test]
    fn groups_are_found_again_for_what_is_left() {
        let mut level = Level::default();
        for position in [1, 2, 3, 100] {
            level.insert(position, position, 9, Some(7));
        }
        level.settle_run(2, 1);
        let found: Result<(), ()> = level.find_groups(|position, at| {
            assert_eq!(position, at);
            Ok(Some(position).filter(|p| *p != 3))
        });
        found.expect("nothing fails");
        let expected = [(1, Some(1)), (3, None), (100, Some(100))];
        assert_eq!(
            messages(level),
            expected.map(|(position, group)| left(position, position, group))
        );
    }

    #[test]
    fn random_runs_agree_with_a_map() {
        let mut random = 0x1234_5678_9abc_def1u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut level = Level::default();
        let mut model = BTreeMap::new();
        for step in 1..20_000 {
            let position = next(3000);
            if next(3) > 0 {
                let group = Some(next(4)).filter(|group| *group != 0);
                level.insert(position, step, 9, group);
                model.insert(position, (step, group));
            } else {
                let count = next(200) as u32;
                level.settle_run(position, count);
                model.retain(|p, _| !(position..position + u64::from(count)).contains(p));
            }
        }
        assert_eq!(level.live(), model.len());
        let expected: Vec<_> = model
            .into_iter()
            .map(|(position, (at, group))| left(position, at, group))
            .collect();
        assert_eq!(messages(level), expected);
    }
}
