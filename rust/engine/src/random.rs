//! Numbers for tests that tell random stories: the same for a seed each time.

/// Each call gives a number below its argument. (Knuth's MMIX generator; its high bits.)
pub(crate) fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    }
}
