//! One level of a queue while the journal is replayed: which positions hold a message, and where its entry is.
//!
//! Positions live in chunks that exist only while one of theirs holds a message. So what is settled costs nothing, in
//! whatever order messages and their ends come, and building a queue frees its chunks one by one.

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
    live: usize,
}

#[derive(Default)]
pub(super) struct Level {
    chunks: HashMap<u64, Chunk, foldhash::fast::RandomState>,
    live: usize,
    /// Above every position that is known to have been given out.
    next: u64,
}

impl Level {
    /// A message stands at `position`, or its entry was copied.
    pub(super) fn insert(&mut self, position: u64, at: Address, body_bytes: u32) {
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

    /// Positions and addresses of what is left, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Address)> + '_ {
        self.chunks.iter().flat_map(|(number, chunk)| {
            chunk
                .slots
                .iter()
                .enumerate()
                .filter(|(_, slot)| slot.at() != 0)
                .map(move |(index, slot)| (number * CHUNK + index as u64, slot.at()))
        })
    }

    /// What is left, ascending; frees it on the way.
    pub(super) fn into_messages(mut self) -> impl Iterator<Item = (u64, Address, u32)> {
        let mut numbers: Vec<u64> = self.chunks.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().flat_map(move |number| {
            let chunk = self.chunks.remove(&number).unwrap_or_default();
            chunk
                .slots
                .into_iter()
                .enumerate()
                .filter(|(_, slot)| slot.at() != 0)
                .map(move |(index, slot)| {
                    (number * CHUNK + index as u64, slot.at(), slot.body_bytes)
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn messages(level: Level) -> Vec<(u64, Address, u32)> {
        level.into_messages().collect()
    }

    #[test]
    fn messages_come_back_in_order_whatever_order_they_came_in() {
        let mut level = Level::default();
        for position in [200_000, 5, 70, 150_000, 6, 64, 63, 5] {
            level.insert(position, position + 1, 9);
        }
        level.settle_run(64, 1);
        assert_eq!(level.next(), 200_001);
        assert_eq!(level.live(), 6);
        assert!(level.contains(63) && !level.contains(64) && !level.contains(7));
        let found: Vec<u64> = level.iter().map(|(position, _)| position).collect();
        assert_eq!(found.len(), 6);
        assert_eq!(
            messages(level),
            [5, 6, 63, 70, 150_000, 200_000].map(|p| (p, p + 1, 9))
        );
    }

    #[test]
    fn a_run_may_be_longer_than_anything_there_is() {
        let mut level = Level::default();
        for position in 0..1000 {
            level.insert(position, 8, 1);
        }
        level.settle_run(10, u32::MAX);
        assert_eq!(level.live(), 10);
        assert_eq!(level.next(), 10 + u64::from(u32::MAX));
        level.settle_run(0, 10);
        assert!(level.chunks.is_empty());
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
                level.insert(position, step, 1);
                model.insert(position, step);
            } else {
                let count = next(200) as u32;
                level.settle_run(position, count);
                model.retain(|p, _| !(position..position + u64::from(count)).contains(p));
            }
        }
        assert_eq!(level.live(), model.len());
        let expected: Vec<_> = model.into_iter().map(|(p, at)| (p, at, 1)).collect();
        assert_eq!(messages(level), expected);
    }
}
