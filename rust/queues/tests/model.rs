//! Random operations against a plain model, compared after every step; one set of tests for both kinds of queue.

#![cfg(not(wherry_loom))]

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wherry_queues::{Fifo, Lease, Position, PriorityFifo, SlotState};

const LEVELS: u8 = 3;

/// An element that counts how many of its kind are alive.
#[derive(Debug)]
struct Item {
    value: u64,
    alive: Arc<AtomicUsize>,
}

impl Item {
    fn new(value: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self {
            value,
            alive: alive.clone(),
        }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What both kinds can do; a plain queue ignores levels.
trait Kind {
    const LEVELS: u8;
    fn new(first: Position) -> Self;
    fn push(&self, level: u8, value: Item, note: u32) -> Position;
    fn push_batch(&self, level: u8, items: Vec<(Item, u32)>) -> Position;
    fn claim_and_fill(&self, level: u8, count: usize, items: Vec<(Item, u32)>) -> Position;
    fn take(&self) -> Option<Lease<Item>>;
    fn take_batch(&self, max: usize, out: &mut Vec<Lease<Item>>) -> usize;
    fn pop(&self) -> Option<Item>;
    fn pop_batch(&self, max: usize, out: &mut Vec<Item>) -> usize;
    fn settle(&self, lease: Lease<Item>) -> Item;
    fn requeue(&self, lease: Lease<Item>, note: u32);
    fn remove(&self, level: u8, position: Position) -> Option<(Item, u32)>;
    fn inspect(&self, level: u8, position: Position) -> Option<(SlotState, u32, u64)>;
    fn browse(&self, level: u8, from: Position, max: usize) -> Vec<(u8, Position, u32, u64)>;
    fn purge(&self) -> Vec<(u8, Position, Item, u32)>;
    fn restore(&mut self, level: u8, items: Vec<Option<(Item, u32)>>);
    fn restore_holes(&mut self, level: u8, count: u64);
    fn trim(&self);
    fn len(&self) -> usize;
    fn next_position(&self, level: u8) -> Position;
    fn oldest_unsettled(&self, level: u8) -> Position;
}

macro_rules! shared_by_both_kinds {
    () => {
        fn take(&self) -> Option<Lease<Item>> {
            self.take()
        }
        fn take_batch(&self, max: usize, out: &mut Vec<Lease<Item>>) -> usize {
            self.take_batch(max, out)
        }
        fn pop(&self) -> Option<Item> {
            self.pop()
        }
        fn pop_batch(&self, max: usize, out: &mut Vec<Item>) -> usize {
            self.pop_batch(max, out)
        }
        fn settle(&self, lease: Lease<Item>) -> Item {
            self.settle(lease)
        }
        fn requeue(&self, lease: Lease<Item>, note: u32) {
            self.requeue(lease, note)
        }
        fn trim(&self) {
            self.trim()
        }
        fn len(&self) -> usize {
            self.len()
        }
    };
}

impl Kind for Fifo<Item> {
    const LEVELS: u8 = 1;

    shared_by_both_kinds!();

    fn new(first: Position) -> Self {
        Fifo::starting_at(first)
    }
    fn push(&self, _: u8, value: Item, note: u32) -> Position {
        self.push(value, note)
    }
    fn push_batch(&self, _: u8, items: Vec<(Item, u32)>) -> Position {
        self.push_batch(items)
    }
    fn claim_and_fill(&self, _: u8, count: usize, items: Vec<(Item, u32)>) -> Position {
        let claim = self.claim(count);
        let first = claim.first();
        claim.fill(items);
        first
    }
    fn remove(&self, _: u8, position: Position) -> Option<(Item, u32)> {
        self.remove(position)
    }
    fn inspect(&self, _: u8, position: Position) -> Option<(SlotState, u32, u64)> {
        self.inspect(position, |state, note, item| (state, note, item.value))
    }
    fn browse(&self, _: u8, from: Position, max: usize) -> Vec<(u8, Position, u32, u64)> {
        let mut seen = Vec::new();
        let count = self.browse(from, max, |position, note, item| {
            seen.push((0, position, note, item.value))
        });
        assert_eq!(count, seen.len());
        seen
    }
    fn purge(&self) -> Vec<(u8, Position, Item, u32)> {
        let mut purged = Vec::new();
        let count = self.purge(|position, item, note| purged.push((0, position, item, note)));
        assert_eq!(count, purged.len());
        purged
    }
    fn restore(&mut self, _: u8, items: Vec<Option<(Item, u32)>>) {
        self.restore(items)
    }
    fn restore_holes(&mut self, _: u8, count: u64) {
        self.restore_holes(count)
    }
    fn next_position(&self, _: u8) -> Position {
        self.next_position()
    }
    fn oldest_unsettled(&self, _: u8) -> Position {
        self.oldest_unsettled()
    }
}

impl Kind for PriorityFifo<Item> {
    const LEVELS: u8 = LEVELS;

    shared_by_both_kinds!();

    fn new(first: Position) -> Self {
        let mut queue = PriorityFifo::new(LEVELS.into());
        for level in 0..LEVELS {
            queue.start_level_at(level, first);
        }
        queue
    }
    fn push(&self, level: u8, value: Item, note: u32) -> Position {
        self.push(level, value, note)
    }
    fn push_batch(&self, level: u8, items: Vec<(Item, u32)>) -> Position {
        self.push_batch(level, items)
    }
    fn claim_and_fill(&self, level: u8, count: usize, items: Vec<(Item, u32)>) -> Position {
        let claim = self.claim(level, count);
        let first = claim.first();
        claim.fill(items);
        first
    }
    fn remove(&self, level: u8, position: Position) -> Option<(Item, u32)> {
        self.remove(level, position)
    }
    fn inspect(&self, level: u8, position: Position) -> Option<(SlotState, u32, u64)> {
        self.inspect(level, position, |state, note, item| {
            (state, note, item.value)
        })
    }
    fn browse(&self, level: u8, from: Position, max: usize) -> Vec<(u8, Position, u32, u64)> {
        let mut seen = Vec::new();
        self.browse(level, from, max, |level, position, note, item| {
            seen.push((level, position, note, item.value))
        });
        seen
    }
    fn purge(&self) -> Vec<(u8, Position, Item, u32)> {
        let mut purged = Vec::new();
        self.purge(|level, position, item, note| purged.push((level, position, item, note)));
        purged
    }
    fn restore(&mut self, level: u8, items: Vec<Option<(Item, u32)>>) {
        self.restore(level, items)
    }
    fn restore_holes(&mut self, level: u8, count: u64) {
        self.restore_holes(level, count)
    }
    fn next_position(&self, level: u8) -> Position {
        self.next_position(level)
    }
    fn oldest_unsettled(&self, level: u8) -> Position {
        self.oldest_unsettled(level)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(u8),
    PushBatch(u8, usize),
    ClaimAndFill(u8, usize, usize),
    Take,
    TakeBatch(usize),
    Pop,
    PopBatch(usize),
    Settle(usize),
    Requeue(usize),
    Forget(usize),
    Remove(u8, usize),
    Inspect(u8, usize),
    Browse(u8, usize, usize),
    Purge,
    Restore(u8, usize, Vec<bool>),
    RestoreHoles(u8, u64),
    Trim,
}

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let level = || 0..LEVELS;
    let bulk = || prop_oneof![4 => 0..5usize, 3 => 5..100usize, 1 => 100..2500usize];
    let op = prop_oneof![
        6 => level().prop_map(Op::Push),
        4 => (level(), bulk()).prop_map(|(level, count)| Op::PushBatch(level, count)),
        2 => (level(), bulk(), bulk()).prop_map(|(level, count, fill)| Op::ClaimAndFill(level, count, fill.min(count))),
        6 => Just(Op::Take),
        5 => bulk().prop_map(Op::TakeBatch),
        4 => Just(Op::Pop),
        4 => bulk().prop_map(Op::PopBatch),
        12 => any::<usize>().prop_map(Op::Settle),
        4 => any::<usize>().prop_map(Op::Requeue),
        1 => any::<usize>().prop_map(Op::Forget),
        3 => (level(), any::<usize>()).prop_map(|(level, which)| Op::Remove(level, which)),
        2 => (level(), any::<usize>()).prop_map(|(level, which)| Op::Inspect(level, which)),
        1 => (level(), any::<usize>(), bulk()).prop_map(|(level, from, max)| Op::Browse(level, from, max)),
        1 => Just(Op::Purge),
        1 => (level(), 0..60usize, prop::collection::vec(any::<bool>(), 0..40))
            .prop_map(|(level, holes, items)| Op::Restore(level, holes, items)),
        1 => (level(), 0..5000u64).prop_map(|(level, holes)| Op::RestoreHoles(level, holes)),
        1 => Just(Op::Trim),
    ];
    prop::collection::vec(op, 0..120)
}

/// By order of delivery: level downwards, position upwards.
type Key = (std::cmp::Reverse<u8>, Position);

fn key(level: u8, position: Position) -> Key {
    (std::cmp::Reverse(level), position)
}

#[derive(Default)]
struct Model {
    /// value, note, leased
    elements: BTreeMap<Key, (u64, u32, bool)>,
    next: BTreeMap<u8, Position>,
    value: u64,
}

impl Model {
    fn push(&mut self, level: u8) -> (Position, u64, u32) {
        let position = self.skip(level, 1);
        self.value += 1;
        let note = (self.value as u32).wrapping_mul(0x9E37_79B9);
        self.elements
            .insert(key(level, position), (self.value, note, false));
        (position, self.value, note)
    }

    fn skip(&mut self, level: u8, count: u64) -> Position {
        let next = self.next.get_mut(&level).unwrap();
        *next += count;
        *next - count
    }

    fn ready(&self) -> impl Iterator<Item = (Key, u64, u32)> + '_ {
        self.elements
            .iter()
            .filter(|(_, element)| !element.2)
            .map(|(&key, &(value, note, _))| (key, value, note))
    }

    fn check_taken(&mut self, taken: &[Lease<Item>], max: usize) {
        let expected: Vec<_> = self.ready().take(max).collect();
        let found: Vec<_> = taken
            .iter()
            .map(|lease| {
                (
                    key(lease.level(), lease.position()),
                    lease.value().value,
                    lease.note(),
                )
            })
            .collect();
        assert_eq!(found, expected);
        for (key, ..) in expected {
            self.elements.get_mut(&key).unwrap().2 = true;
        }
    }

    fn check_popped(&mut self, popped: &[Item], max: usize) {
        let expected: Vec<_> = self.ready().take(max).collect();
        assert_eq!(
            popped.iter().map(|item| item.value).collect::<Vec<_>>(),
            expected
                .iter()
                .map(|&(_, value, _)| value)
                .collect::<Vec<_>>()
        );
        for (key, ..) in expected {
            self.elements.remove(&key);
        }
    }
}

fn run<K: Kind>(first: Position, operations: Vec<Op>) {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut queue = K::new(first);
    let mut model = Model::default();
    for level in 0..K::LEVELS {
        model.next.insert(level, first);
    }
    let mut leases: Vec<Lease<Item>> = Vec::new();
    let mut forgotten = 0;
    let level_of = |level: u8| level % K::LEVELS;
    let position_of = |model: &Model, level, which: usize| {
        first + which as u64 % (model.next[&level] - first + 2)
    };

    for operation in operations {
        match operation {
            Op::Push(level) => {
                let (position, value, note) = model.push(level_of(level));
                assert_eq!(
                    queue.push(level_of(level), Item::new(value, &alive), note),
                    position
                );
            }
            Op::PushBatch(level, count) => {
                let expected = model.next[&level_of(level)];
                let items = (0..count).map(|_| model.push(level_of(level)));
                let items = items
                    .map(|(_, value, note)| (Item::new(value, &alive), note))
                    .collect();
                assert_eq!(queue.push_batch(level_of(level), items), expected);
            }
            Op::ClaimAndFill(level, count, fill) => {
                let expected = model.next[&level_of(level)];
                let items = (0..fill).map(|_| model.push(level_of(level)));
                let items = items
                    .map(|(_, value, note)| (Item::new(value, &alive), note))
                    .collect();
                model.skip(level_of(level), (count - fill) as u64);
                assert_eq!(
                    queue.claim_and_fill(level_of(level), count, items),
                    expected
                );
            }
            Op::Take => {
                let taken: Vec<_> = queue.take().into_iter().collect();
                model.check_taken(&taken, 1);
                leases.extend(taken);
            }
            Op::TakeBatch(max) => {
                let mut taken = Vec::new();
                assert_eq!(queue.take_batch(max, &mut taken), taken.len());
                model.check_taken(&taken, max);
                leases.extend(taken);
            }
            Op::Pop => {
                let popped: Vec<_> = queue.pop().into_iter().collect();
                model.check_popped(&popped, 1);
            }
            Op::PopBatch(max) => {
                let mut popped = Vec::new();
                assert_eq!(queue.pop_batch(max, &mut popped), popped.len());
                model.check_popped(&popped, max);
            }
            Op::Settle(which) if !leases.is_empty() => {
                // A run of them, so that queues also get shorter.
                for offset in 0..1 + which % 70 {
                    if leases.is_empty() {
                        break;
                    }
                    let lease = leases.swap_remove(which.wrapping_add(offset) % leases.len());
                    let (value, _, leased) = model
                        .elements
                        .remove(&key(lease.level(), lease.position()))
                        .unwrap();
                    assert!(leased);
                    assert_eq!(queue.settle(lease).value, value);
                }
            }
            Op::Requeue(which) if !leases.is_empty() => {
                let lease = leases.swap_remove(which % leases.len());
                let element = model
                    .elements
                    .get_mut(&key(lease.level(), lease.position()))
                    .unwrap();
                element.1 = element.1.wrapping_add(1);
                element.2 = false;
                queue.requeue(lease, element.1);
            }
            Op::Forget(which) if !leases.is_empty() => {
                drop(leases.swap_remove(which % leases.len()));
                forgotten += 1;
            }
            Op::Settle(_) | Op::Requeue(_) | Op::Forget(_) => {}
            Op::Remove(level, which) => {
                let position = position_of(&model, level_of(level), which);
                let key = key(level_of(level), position);
                let expected = model
                    .elements
                    .get(&key)
                    .filter(|element| !element.2)
                    .copied();
                let removed = queue.remove(level_of(level), position);
                assert_eq!(
                    removed.map(|(item, note)| (item.value, note)),
                    expected.map(|(value, note, _)| (value, note))
                );
                if expected.is_some() {
                    model.elements.remove(&key);
                }
            }
            Op::Inspect(level, which) => {
                let position = position_of(&model, level_of(level), which);
                let expected = model.elements.get(&key(level_of(level), position)).map(
                    |&(value, note, leased)| {
                        (
                            if leased {
                                SlotState::Leased
                            } else {
                                SlotState::Ready
                            },
                            note,
                            value,
                        )
                    },
                );
                assert_eq!(queue.inspect(level_of(level), position), expected);
            }
            Op::Browse(level, from, max) => {
                let from = position_of(&model, level_of(level), from);
                let expected: Vec<_> = model
                    .ready()
                    .filter(|&(key_of, ..)| key_of >= key(level_of(level), from))
                    .map(|((level, position), value, note)| (level.0, position, note, value))
                    .take(max)
                    .collect();
                assert_eq!(queue.browse(level_of(level), from, max), expected);
            }
            Op::Purge => {
                let purged: Vec<_> = queue
                    .purge()
                    .into_iter()
                    .map(|(level, position, item, note)| (key(level, position), item.value, note))
                    .collect();
                assert_eq!(purged, model.ready().collect::<Vec<_>>());
                model.elements.retain(|_, element| element.2);
            }
            Op::Restore(level, holes, items) => {
                let level = level_of(level);
                let mut restored: Vec<_> = (0..holes).map(|_| None).collect();
                model.skip(level, holes as u64);
                for present in items {
                    restored.push(if present {
                        let (_, value, note) = model.push(level);
                        Some((Item::new(value, &alive), note))
                    } else {
                        model.skip(level, 1);
                        None
                    });
                }
                queue.restore(level, restored);
            }
            Op::RestoreHoles(level, count) => {
                model.skip(level_of(level), count);
                queue.restore_holes(level_of(level), count);
            }
            Op::Trim => queue.trim(),
        }
        assert_eq!(queue.len(), model.ready().count());
        assert_eq!(alive.load(Ordering::Relaxed), model.elements.len());
        for level in 0..K::LEVELS {
            assert_eq!(queue.next_position(level), model.next[&level]);
            let oldest = model
                .elements
                .range(key(level, 0)..=key(level, Position::MAX))
                .next();
            assert_eq!(
                queue.oldest_unsettled(level),
                oldest.map_or(model.next[&level], |(&(_, position), _)| position)
            );
        }
    }

    // The queue goes first; leases outlive it, and keep their own elements only.
    drop(queue);
    assert_eq!(alive.load(Ordering::Relaxed), leases.len());
    for lease in &leases {
        assert!(
            model
                .elements
                .contains_key(&key(lease.level(), lease.position()))
        );
        assert_eq!(
            lease.value().value,
            model.elements[&key(lease.level(), lease.position())].0
        );
    }
    drop(leases);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    let _ = forgotten;
}

macro_rules! model_tests {
    ($($name:ident: $kind:ty),*) => {
        $(
            proptest! {
                #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

                #[test]
                fn $name(first in prop_oneof![Just(0), 0..3000u64, Just((1 << 52) - 4_000_000)], operations in operations()) {
                    run::<$kind>(first, operations);
                }
            }
        )*
    };
}

model_tests! {
    fifo_agrees_with_a_sorted_map: Fifo<Item>,
    priority_fifo_agrees_with_a_sorted_map: PriorityFifo<Item>
}
