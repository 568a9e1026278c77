//! What waiting messages and groups cost, counted by the allocator. One test: others would disturb the count.

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};

use wherry_queues::groups::Groups;

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

const ONE: NonZeroU64 = NonZeroU64::MIN;

#[test]
fn memory_follows_the_messages() {
    let mut each = Vec::with_capacity(2);
    let mut leases = Vec::with_capacity(1000);
    let start = heap_bytes();
    let mut groups = Groups::new();
    assert!(
        heap_bytes() - start < 100,
        "a queue without messages takes {} bytes",
        heap_bytes() - start
    );

    // A quiet queue with one message.
    groups.push(Some(1), ONE, 0);
    assert!(
        heap_bytes() - start < 800,
        "one message takes {} bytes",
        heap_bytes() - start
    );
    let lease = groups.take().unwrap();
    groups.settle(lease);

    for number in 0..200 {
        groups.push(None, ONE, number);
    }
    groups.purge(|_, _, _| ());
    assert!(
        heap_bytes() - start < 1_300,
        "a quiet queue takes {} bytes",
        heap_bytes() - start
    );

    // A million messages of ten groups, then of a million.
    for keys in [10, 1_000_000] {
        for number in 0..1_000_000 {
            groups.push(Some(number % keys), ONE, 0);
        }
        each.push((heap_bytes() - start) / 1_000_000);
        while groups.take_batch(1000, &mut leases) != 0 {
            for lease in leases.drain(..) {
                groups.settle(lease);
            }
        }
        let left = heap_bytes() - start;
        assert!(left < 2_000, "{left} bytes are left when all is settled");
    }
    println!(
        "{} bytes for each message, {} if each is a group",
        each[0], each[1]
    );
    assert!(each[0] <= 33 && each[1] <= 66);

    // A straggler keeps its segment, those that pass it cost nothing; nor does a hole after a restart.
    groups.push(Some(1), ONE, 0);
    let straggler = groups.take().unwrap();
    for number in 0..200_000 {
        groups.push(Some(2 + number % 100), ONE, 0);
        let lease = groups.take().unwrap();
        groups.settle(lease);
    }
    for hole in 1..1_000 {
        groups.skip_to(hole << 40);
        groups.push(Some(2), ONE, 0);
        let lease = groups.take().unwrap();
        groups.settle(lease);
    }
    groups.push(Some(2), ONE, 0);
    let kept = heap_bytes() - start;
    assert!(kept < 64_000, "{kept} bytes for two messages");
    groups.settle(straggler);
    assert_eq!(groups.purge(|_, _, _| ()), 1);
    let left = heap_bytes() - start;
    assert!(left < 2_000, "{left} bytes are left in the end");

    // Messages that expire behind a blocked head of their group go too.
    groups.push(Some(1), ONE, 0);
    let head = groups.take().unwrap();
    let first = groups.push_batch((0..100_000).map(|_| (Some(1), ONE, 0)));
    for position in first..first + 99_999 {
        groups.remove(position).unwrap();
    }
    // The table of segments keeps its size until the queue is empty.
    let kept = heap_bytes() - start;
    assert!(kept < 100_000, "{kept} bytes for two messages");
    groups.settle(head);
    assert_eq!(groups.take().unwrap().position(), first + 99_999);

    // Groups that end give their place in the table back, also when others go on.
    groups.purge(|_, _, _| ());
    for key in 0..200_000 {
        groups.push(Some(key), ONE, 0);
    }
    let full = heap_bytes() - start;
    for _ in 0..199_900 {
        let lease = groups.take().unwrap();
        groups.settle(lease);
    }
    let kept = heap_bytes() - start;
    assert!(
        kept < full / 50,
        "{kept} of {full} bytes for the last hundred groups"
    );
}
