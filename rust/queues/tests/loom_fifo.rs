//! Models of the FIFO's races, one each, explored by loom. Segments have two slots here.
//!
//! ```text
//! RUSTFLAGS="--cfg wherry_loom" cargo test -p wherry-queues --release --test 'loom_*'
//! ```
//!
//! Besides what each model asserts, loom checks that every read of an element is ordered after the write of it, and every look
//! into a segment before the segment's end. At most five preemptions are explored unless `LOOM_MAX_PREEMPTIONS` says
//! otherwise (5 take half a minute on two busy cores); the known bugs of such queues need two.

#![cfg(wherry_loom)]

use loom::thread;
use std::sync::Arc as Untracked;
use wherry_queues::{Fifo, Lease, SlotState};

/// An element whose life can be counted from outside without adding to the model.
type Item = Untracked<u64>;

/// Runs a model; `model` gets a maker of elements, all of which must be gone when it returns.
fn check(model: impl Fn(&dyn Fn(u64) -> Item) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(5));
    builder.check(move || {
        let made = std::cell::RefCell::new(Vec::new());
        model(&|value| {
            let item = Item::new(value);
            made.borrow_mut().push(Untracked::downgrade(&item));
            item
        });
        for item in made.into_inner() {
            assert_eq!(item.strong_count(), 0, "an element outlived its queue");
        }
    });
}

fn queue_of(items: Vec<Item>) -> loom::sync::Arc<Fifo<Item>> {
    let queue = loom::sync::Arc::new(Fifo::new());
    if !items.is_empty() {
        queue.push_batch(items.into_iter().map(|item| (item, 0)));
    }
    queue
}

fn spawn<R: 'static>(
    queue: &loom::sync::Arc<Fifo<Item>>,
    f: impl FnOnce(&Fifo<Item>) -> R + 'static,
) -> thread::JoinHandle<R> {
    let queue = queue.clone();
    thread::spawn(move || f(&queue))
}

/// No segment is held by a queue whose elements are all settled.
fn assert_all_freed(queue: &Fifo<Item>) {
    queue.trim();
    assert_eq!(
        queue.memory_bytes(),
        Fifo::<Item>::new().memory_bytes(),
        "a segment was left behind"
    );
}

fn drain(queue: &Fifo<Item>) -> Vec<u64> {
    std::iter::from_fn(|| queue.pop().map(|item| *item)).collect()
}

#[test]
fn push_beside_take() {
    check(|item| {
        let queue = queue_of(vec![]);
        let (first, second) = (item(1), item(2));
        let producer = spawn(&queue, move |queue| {
            queue.push(first, 7);
            queue.push(second, 8);
        });
        let early = queue.take();
        if let Some(lease) = early {
            assert_eq!((**lease.value(), lease.note(), lease.position()), (1, 7, 0));
            assert_eq!(*queue.settle(lease), 1);
            producer.join().unwrap();
            assert_eq!(drain(&queue), [2]);
        } else {
            producer.join().unwrap();
            assert_eq!(drain(&queue), [1, 2]);
        }
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn two_consumers_share_what_one_pushed() {
    check(|item| {
        let queue = queue_of(vec![item(1)]);
        let other = spawn(&queue, |queue| queue.pop().map(|item| *item));
        let second = item(2);
        queue.push(second, 0);
        let mine = queue.pop().map(|item| *item);
        let others = other.join().unwrap();
        let mut all: Vec<_> = mine
            .into_iter()
            .chain(others)
            .chain(drain(&queue))
            .collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn segment_hand_over_between_producers() {
    check(|item| {
        let queue = queue_of(vec![item(1)]);
        let (second, third) = (item(2), item(3));
        // The second slot of the first segment, and the first of the next: either may link it.
        let other = spawn(&queue, move |queue| queue.push(second, 0));
        let mine = queue.push(third, 0);
        let theirs = other.join().unwrap();
        assert_eq!(mine + theirs, 3);
        let order = if theirs < mine { [1, 2, 3] } else { [1, 3, 2] };
        assert_eq!(drain(&queue), order);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn segment_hand_over_between_consumers() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2), item(3)]);
        let other = spawn(&queue, |queue| {
            [queue.pop(), queue.pop()].map(|item| item.map(|item| *item))
        });
        let mine = queue.pop().map(|item| *item);
        let others = other.join().unwrap();
        let mut all: Vec<_> = others.into_iter().flatten().chain(mine).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        assert_eq!(queue.oldest_unsettled(), 3);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn batches_across_segments_meet() {
    check(|item| {
        let queue = queue_of(vec![]);
        let items = vec![item(1), item(2), item(3)];
        let producer = spawn(&queue, move |queue| {
            queue.push_batch(items.into_iter().map(|item| (item, 0)));
        });
        let mut popped = Vec::new();
        queue.pop_batch(3, &mut popped);
        producer.join().unwrap();
        let all: Vec<_> = popped
            .iter()
            .map(|item| **item)
            .chain(drain(&queue))
            .collect();
        assert_eq!(all, [1, 2, 3]);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn take_beside_remove() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2)]);
        let remover = spawn(&queue, |queue| queue.remove(0).map(|(item, _)| *item));
        let taken = queue.take().map(|lease| *queue.settle(lease)).unwrap();
        let removed = remover.join().unwrap();
        match removed {
            Some(value) => assert_eq!((value, taken), (1, 2)),
            None => assert_eq!(taken, 1),
        }
        assert_eq!(queue.len(), if removed.is_some() { 0 } else { 1 });
        drop(drain(&queue));
        assert_eq!(queue.oldest_unsettled(), 2);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn pop_leaving_the_segment_beside_remove() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2)]);
        let remover = spawn(&queue, |queue| queue.remove(1).map(|(item, _)| *item));
        let mut popped = Vec::new();
        queue.pop_batch(2, &mut popped);
        let removed = remover.join().unwrap();
        assert_eq!(
            popped
                .iter()
                .map(|item| **item)
                .chain(removed)
                .collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(queue.len(), 0);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn two_consumers_pass_a_tombstone() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2)]);
        assert_eq!(queue.remove(0).map(|(item, _)| *item), Some(1));
        // One of them claims the tombstone, and must find the segment alive although the other ends it.
        let other = spawn(&queue, |queue| queue.pop().map(|item| *item));
        let mine = queue.pop().map(|item| *item);
        assert_eq!(mine.or(other.join().unwrap()), Some(2));
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn requeue_beside_take() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2)]);
        let lease = queue.take().unwrap();
        let other = spawn(&queue, |queue| {
            queue
                .take()
                .map(|lease| (lease.note(), *queue.settle(lease)))
        });
        queue.requeue(lease, 9);
        let theirs = other.join().unwrap().unwrap();
        assert!(theirs == (9, 1) || theirs == (0, 2));
        let rest = drain(&queue);
        assert_eq!(rest, [3 - theirs.1]);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn requeue_beside_remove() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2)]);
        let lease = queue.take().unwrap();
        let remover = spawn(&queue, |queue| queue.remove(0).is_some());
        queue.requeue(lease, 9);
        let mine = queue.take().map(|lease| *queue.settle(lease));
        let removed = remover.join().unwrap();
        assert_eq!(mine, Some(if removed { 2 } else { 1 }));
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn settles_pass_the_baton_to_the_end_of_the_segment() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2)]);
        let (first, second) = (queue.take().unwrap(), queue.take().unwrap());
        let other = spawn(&queue, move |queue| *queue.settle(first));
        assert_eq!(*queue.settle(second), 2);
        assert_eq!(other.join().unwrap(), 1);
        assert_eq!(queue.oldest_unsettled(), 2);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn settle_of_the_first_beside_pop_of_the_last() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2)]);
        let first = queue.take().unwrap();
        let other = spawn(&queue, move |queue| *queue.settle(first));
        assert_eq!(*queue.pop().unwrap(), 2);
        assert_eq!(other.join().unwrap(), 1);
        let last = item(3);
        queue.push(last, 0);
        assert_eq!(drain(&queue), [3]);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

/// An element whose bytes loom watches, wherever it is moved to.
struct Watched(loom::cell::UnsafeCell<u64>);

// SAFETY: none is claimed: whether the cell is shared wrongly is what the model finds out.
unsafe impl Sync for Watched {}

impl Watched {
    fn read(&self) -> u64 {
        // SAFETY: loom stops the model if this meets a write.
        self.0.with(|value| unsafe { *value })
    }

    fn overwrite(&self) {
        // SAFETY: loom stops the model if this meets any other access.
        self.0.with_mut(|value| unsafe { *value = 0 });
    }
}

#[test]
fn inspect_beside_settle() {
    check(|_| {
        let queue = loom::sync::Arc::new(Fifo::new());
        queue.push_batch([1, 2].map(|value| (Watched(loom::cell::UnsafeCell::new(value)), 0)));
        let first = queue.take().unwrap();
        let inspector = thread::spawn({
            let queue = queue.clone();
            move || queue.inspect(0, |state, _, item| (state, item.read()))
        });
        // Nobody else may see the element once it is settled.
        queue.settle(first).overwrite();
        let seen = inspector.join().unwrap();
        assert!(seen.is_none() || seen == Some((SlotState::Leased, 1)));
    });
}

#[test]
fn inspect_beside_pop() {
    check(|_| {
        let queue = loom::sync::Arc::new(Fifo::new());
        queue.push_batch([1, 2].map(|value| (Watched(loom::cell::UnsafeCell::new(value)), 0)));
        let inspector = thread::spawn({
            let queue = queue.clone();
            move || queue.inspect(0, |state, _, item| (state, item.read()))
        });
        queue.pop().unwrap().overwrite();
        let seen = inspector.join().unwrap();
        assert!(seen.is_none() || seen == Some((SlotState::Ready, 1)));
    });
}

#[test]
fn inspect_beside_pop_that_ends_the_segment() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2)]);
        assert_eq!(*queue.pop().unwrap(), 1);
        let inspector = spawn(&queue, |queue| queue.inspect(1, |_, _, item| **item));
        assert_eq!(Untracked::try_unwrap(queue.pop().unwrap()).unwrap(), 2);
        let seen = inspector.join().unwrap();
        assert!(seen.is_none() || seen == Some(2));
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn browse_beside_take_and_settle() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2), item(3)]);
        let browser = spawn(&queue, |queue| {
            let mut seen = Vec::new();
            queue.browse(0, 9, |_, _, item| seen.push(**item));
            seen
        });
        assert_eq!(queue.take().map(|lease| *queue.settle(lease)), Some(1));
        assert_eq!(queue.pop().map(|item| *item), Some(2));
        let seen = browser.join().unwrap();
        assert!(seen.ends_with(&[3]) && seen.is_sorted());
        assert_eq!(drain(&queue), [3]);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn claim_dropped_beside_pop() {
    check(|item| {
        let queue = queue_of(vec![]);
        let value = item(1);
        let producer = spawn(&queue, move |queue| {
            // Fills one of two.
            queue.claim(2).fill([(value, 0)]);
        });
        let popped = queue.pop().map(|item| *item);
        producer.join().unwrap();
        assert_eq!(
            popped.into_iter().chain(drain(&queue)).collect::<Vec<_>>(),
            [1]
        );
        assert_eq!(queue.len(), 0);
        assert_eq!(queue.oldest_unsettled(), 2);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn sweep_meets_an_unfilled_slot() {
    check(|item| {
        let queue = queue_of(vec![]);
        let claim = queue.claim(1);
        let last = item(2);
        queue.push(last, 0);
        // One consumer waits at the claim, or takes what lies behind it and starts the sweep.
        let others = [(); 2].map(|()| spawn(&queue, |queue| *queue.pop().unwrap()));
        claim.fill([(item(1), 0)]);
        let mut all = others.map(|other| other.join().unwrap());
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
        assert!(queue.pop().is_none());
        assert_eq!(queue.oldest_unsettled(), 2);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn purge_beside_take() {
    check(|item| {
        let queue = queue_of(vec![item(1), item(2), item(3)]);
        let purger = spawn(&queue, |queue| {
            let mut purged = Vec::new();
            queue.purge(|_, item, _| purged.push(*item));
            purged
        });
        let taken: Vec<_> = queue
            .take()
            .map(|lease| *queue.settle(lease))
            .into_iter()
            .collect();
        let purged = purger.join().unwrap();
        assert!(purged.is_sorted());
        let mut all = [taken, purged].concat();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn trim_beside_push() {
    check(|item| {
        let queue = queue_of(vec![item(1)]);
        assert_eq!(*queue.pop().unwrap(), 1);
        let second = item(2);
        let producer = spawn(&queue, move |queue| queue.push(second, 0));
        queue.trim();
        let early = queue.pop().map(|item| *item);
        assert_eq!(producer.join().unwrap(), 1);
        assert_eq!(
            early.into_iter().chain(drain(&queue)).collect::<Vec<_>>(),
            [2]
        );
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn trim_beside_pop_and_settle() {
    check(|item| {
        let queue = queue_of(vec![item(1)]);
        let lease = queue.take().unwrap();
        let trimmer = spawn(&queue, |queue| queue.trim());
        let second = item(2);
        assert_eq!(queue.push(second, 0), 1);
        assert_eq!(*queue.settle(lease), 1);
        assert_eq!(*queue.pop().unwrap(), 2);
        trimmer.join().unwrap();
        assert!(queue.pop().is_none());
        drop(drain(&queue));
        assert_all_freed(&queue);
    });
}

#[test]
fn leases_dropped_beside_their_queue() {
    check(|item| {
        let queue = Fifo::new();
        queue.push_batch([1, 2].map(|value| (item(value), 0)));
        let (first, second): (Lease<Item>, Lease<Item>) =
            (queue.take().unwrap(), queue.take().unwrap());
        let other = thread::spawn(move || {
            assert_eq!(**first.value(), 1);
            drop(first);
        });
        drop(queue);
        assert_eq!(**second.value(), 2);
        drop(second);
        other.join().unwrap();
    });
}
