//! Asking for a cache line before it is needed.

/// Has the processor fetch what the pointer leads to, while the caller goes on with something else. Only a hint: any address
/// will do, also one where nothing is, and nothing but time depends on it.
#[inline(always)]
pub fn prefetch<T: ?Sized>(pointer: *const T) {
    // Not under Miri and the like, which know no caches.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no effect that a program could see and does not fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = pointer;
}
