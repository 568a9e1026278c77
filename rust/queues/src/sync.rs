//! The only door to atomics, cells, locks and threads: std's, or loom's under `cfg(wherry_loom)`.
//!
//! Everything else in the crate names these types, so that a model run with
//! `RUSTFLAGS="--cfg wherry_loom"` checks the code that ships and not a copy of it.

#[cfg(not(wherry_loom))]
mod door {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };

    /// A cell whose accesses are visible to the model checker; free of charge outside of it.
    #[derive(Debug)]
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        #[inline]
        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }

    pub(super) fn spin() {
        std::hint::spin_loop();
    }

    pub(super) fn yield_now() {
        std::thread::yield_now();
    }

    /// Nothing: the accesses on both sides of a crossing are `SeqCst` themselves, which costs no fence on x86-64.
    #[inline(always)]
    pub(crate) fn crossing_fence() {}

    /// A plain store to a word that others change by exchange at the same time.
    #[inline(always)]
    pub(crate) fn store_beside_exchanges(word: &AtomicU64, value: u64) {
        // Release: the callers say what it pairs with.
        word.store(value, Ordering::Release);
    }

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock()
    }

    pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        mutex.try_lock()
    }
}

#[cfg(wherry_loom)]
mod door {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    pub(super) fn spin() {
        loom::thread::yield_now();
    }

    pub(super) fn yield_now() {
        loom::thread::yield_now();
    }

    /// Loom treats a `SeqCst` access as `AcqRel` and honours only fences, so a crossing is spelt out for it.
    pub(crate) fn crossing_fence() {
        fence(Ordering::SeqCst);
    }

    /// Loom lets a store and another thread's two exchanges 1 → 3 → 1 end with 1, as if the store could fall between
    /// or before them; the memory model (an exchange follows what it read at once) and all machines end with the
    /// store. Said as an exchange, loom orders it right.
    pub(crate) fn store_beside_exchanges(word: &AtomicU64, value: u64) {
        // Release: as the store that it stands for.
        word.swap(value, Ordering::Release);
    }

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        mutex.try_lock().ok()
    }
}

pub(crate) use door::*;

/// How long to spin before giving the processor away: 2^6 pauses is about the length of a scheduler call.
const SPIN_LIMIT: u32 = 6;

/// Waiting for another thread's few instructions: spins at first, then yields the processor each time.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    step: u32,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[cold]
    pub(crate) fn snooze(&mut self) {
        if self.step <= SPIN_LIMIT && !cfg!(wherry_loom) {
            for _ in 0..1u32 << self.step {
                spin();
            }
            self.step += 1;
        } else {
            yield_now();
        }
    }
}
