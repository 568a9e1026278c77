//! Models of the priority queue's races: see `loom_fifo.rs`.

#![cfg(wherry_loom)]

use loom::sync::Arc;
use loom::thread;
use wherry_queues::PriorityFifo;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(5));
    builder.check(model);
}

#[test]
fn late_push_against_a_bit_being_cleared() {
    check(|| {
        let queue = Arc::new(PriorityFifo::new(2));
        queue.push(1, 1, 0);
        assert_eq!(queue.pop(), Some(1));
        // The bit of level 1 is still set; the next consumer clears it.
        let producer = thread::spawn({
            let queue = queue.clone();
            move || {
                queue.push(1, 2, 0);
            }
        });
        let early = queue.pop();
        producer.join().unwrap();
        assert_eq!(early.or_else(|| queue.pop()), Some(2), "the bit was lost");
    });
}

#[test]
fn requeue_against_a_bit_being_cleared() {
    check(|| {
        let queue = Arc::new(PriorityFifo::new(1));
        queue.push(0, 1, 0);
        let lease = queue.take().unwrap();
        let other = thread::spawn({
            let queue = queue.clone();
            move || queue.pop()
        });
        queue.requeue(lease, 1);
        let early = other.join().unwrap();
        assert_eq!(early.or_else(|| queue.pop()), Some(1), "the bit was lost");
    });
}

#[test]
fn none_is_no_accident_while_another_clears_a_bit() {
    check(|| {
        let queue = Arc::new(PriorityFifo::new(1));
        queue.push(0, 1, 0);
        assert_eq!(queue.pop(), Some(1));
        // Clears the bit, finds the lane refilled and puts it back.
        let other = thread::spawn({
            let queue = queue.clone();
            move || queue.pop()
        });
        queue.push(0, 2, 0);
        queue.push(0, 3, 0);
        // At most one is gone, so there is one for us.
        assert!(queue.pop().is_some());
        other.join().unwrap();
    });
}

#[test]
fn two_threads_make_one_lane() {
    check(|| {
        let queue = Arc::new(PriorityFifo::new(1));
        let other = thread::spawn({
            let queue = queue.clone();
            move || queue.push(0, 1, 0)
        });
        let mine = queue.push(0, 2, 0);
        assert_eq!(mine + other.join().unwrap(), 1);
        assert_eq!(queue.pop().unwrap() + queue.pop().unwrap(), 3);
    });
}
