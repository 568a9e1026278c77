//! A queue's counts. Three cache lines by who writes them (publishers, takers, settlers), so that the two sides of a
//! queue do not fight over one; what a reader wants is computed from them. What is left of the lines holds other things
//! that the same threads use: idle queues are many, and should be small.
//!
//! All Relaxed: each count is right by itself, and nobody concludes anything about other memory from it. A sum over
//! several of them is a snapshot that may be off by what is in motion.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::waiters::Waiters;

#[repr(align(64))]
#[derive(Default)]
pub(crate) struct In {
    /// Messages that became ready, for the first time or again.
    pub(crate) entered: AtomicU64,
    pub(crate) entered_bytes: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    /// Each publisher looks whether there are any.
    pub(crate) waiters: Waiters,
}

#[repr(align(64))]
#[derive(Default)]
pub(crate) struct Out {
    /// Messages that stopped being ready, for whatever reason.
    pub(crate) left: AtomicU64,
    pub(crate) left_bytes: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    /// Positions below this may have been handed out before a crash, by level for priority queues collapsed into one
    /// (positions of a level never exceed it either). Only grows; a hint.
    pub(crate) ceiling: AtomicU64,
    /// When the queue was last declared, got from or had a consumer.
    pub(crate) last_used_ns: AtomicU64,
}

#[repr(align(64))]
#[derive(Default)]
pub(crate) struct Done {
    /// Deliveries that are no longer unacked, for whatever reason.
    pub(crate) returned: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) requeued: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) dropped: AtomicU64,
    /// The id of the next message that waits for its time.
    pub(crate) next_schedule_id: AtomicU64,
}

const _: () = assert!(size_of::<Counters>() == 3 * 64 || size_of::<usize>() != 8);

pub(crate) struct Counters {
    pub(crate) input: In,
    pub(crate) output: Out,
    pub(crate) done: Done,
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

impl Counters {
    pub(crate) fn new(now_ns: u64) -> Counters {
        Counters {
            input: In::default(),
            output: Out {
                last_used_ns: AtomicU64::new(now_ns),
                ..Out::default()
            },
            done: Done {
                next_schedule_id: AtomicU64::new(1),
                ..Done::default()
            },
        }
    }

    pub(crate) fn enter(&self, messages: u64, bytes: u64) {
        add(&self.input.entered, messages);
        add(&self.input.entered_bytes, bytes);
    }

    pub(crate) fn leave(&self, messages: u64, bytes: u64) {
        add(&self.output.left, messages);
        add(&self.output.left_bytes, bytes);
    }

    /// Ready messages. `left` is read first, so that the difference is never negative by a message in motion.
    pub(crate) fn ready(&self) -> u64 {
        let left = self.output.left.load(Relaxed);
        self.input.entered.load(Relaxed).saturating_sub(left)
    }

    pub(crate) fn ready_bytes(&self) -> u64 {
        let left = self.output.left_bytes.load(Relaxed);
        self.input.entered_bytes.load(Relaxed).saturating_sub(left)
    }

    pub(crate) fn unacked(&self) -> u64 {
        let returned = self.done.returned.load(Relaxed);
        self.output.delivered.load(Relaxed).saturating_sub(returned)
    }
}
