//! The only door to atomics: std, or loom under `cfg(wherry_loom)`.

#[cfg(not(wherry_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(wherry_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(wherry_loom))]
pub(crate) use parking_lot::Mutex;

/// loom's mutex with the face of `parking_lot`'s.
#[cfg(wherry_loom)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(wherry_loom)]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("a model panicked with the lock held")
    }
}
