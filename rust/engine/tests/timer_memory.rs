//! What pending and cancelled timers cost, counted by the allocator. One test: others would disturb the count.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use wherry_engine::timer::Timer;

struct Counting;

/// Bytes allocated now. Relaxed: only this test's thread allocates while it looks.
static HEAP_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go to the system allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HEAP_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn heap_bytes() -> usize {
    HEAP_BYTES.load(Ordering::Relaxed)
}

#[test]
fn memory_follows_the_pending_events() {
    const COUNT: u64 = 1_000_000;
    const HOUR_NS: u64 = 3_600_000_000_000;
    let empty = heap_bytes();
    let timer = Timer::new(1_700_000_000 * 1_000_000_000);
    assert!(
        heap_bytes() - empty < 40_000,
        "an empty timer takes {}",
        heap_bytes() - empty
    );
    let now_ns = 1_700_000_000 * 1_000_000_000;

    // Nobody runs the timer: the callers keep the intake short.
    let ids: Vec<_> = (0..COUNT)
        .map(|index| timer.schedule(now_ns + HOUR_NS + index * 1_000, (index, index)))
        .collect();
    let ids_bytes = ids.capacity() * size_of_val(&ids[0]);
    let full = heap_bytes() - empty - ids_bytes;
    assert!(
        full <= 40 * COUNT as usize,
        "{} bytes each",
        full / COUNT as usize
    );
    println!(
        "{} bytes for each pending timer",
        full as f64 / COUNT as f64
    );

    // All but each hundredth are cancelled, long before their time.
    for (index, id) in ids.into_iter().enumerate() {
        if index % 100 != 0 {
            timer.cancel(id);
        }
    }
    assert_eq!(timer.fire_due(now_ns, |_, _| panic!("nothing is due")), 0);
    let kept = heap_bytes() - empty;
    assert!(kept < full / 20, "{kept} of {full} bytes are left");
    assert_eq!(
        timer.fire_due(now_ns + 2 * HOUR_NS, |_, (index, _)| assert_eq!(
            index % 100,
            0
        )),
        COUNT as usize / 100
    );
    timer.fire_due(now_ns + 3 * HOUR_NS, |_, _| panic!("nothing is left"));
    let drained = heap_bytes() - empty;
    assert!(
        drained < 400_000,
        "{drained} bytes are left of an empty timer"
    );

    // A steady flow of timers that are cancelled at once, with one far timer that stays.
    timer.schedule(now_ns + 10 * HOUR_NS, (0, 0));
    for index in 0..COUNT {
        timer.cancel(timer.schedule(now_ns + 5 * HOUR_NS, (index, index)));
        assert!(heap_bytes() - empty < 2_000_000);
    }
}
