//! What hostile tables take from the allocator: their own size and a constant. One test, because the counters belong to the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use wherry_engine::properties::{PropertiesError, PropertiesView};
use wherry_engine::table::{BYTES_MAX, DEPTH_MAX, TableError, TableView, VALUES_MAX};

struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK_BYTES.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's layout is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's block came from `alloc` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `operation` takes at most.
fn peak<T>(operation: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let result = operation();
    (result, PEAK_BYTES.load(Ordering::Relaxed) - before)
}

/// What a decoded table may take above its own size: 16,384 values of up to 56 bytes with their names.
const CONSTANT_BYTES: usize = 1 << 20;

#[test]
fn memory() {
    let array = |count: usize| {
        let length = (count as u32).to_be_bytes();
        [b"\x01nA".as_slice(), &length, &vec![b'V'; count]].concat()
    };
    let voids = array(BYTES_MAX - 7);
    let voids_allowed = array(VALUES_MAX - 1);
    let empty_names = b"\x00V".repeat(VALUES_MAX);
    let text = [
        b"\x01nS".as_slice(),
        &1_000_000_u32.to_be_bytes(),
        &[b'a'; 1_000_000],
    ]
    .concat();
    let huge_length = b"\x01nS\xff\xff\xff\xff".to_vec();
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        let length = (nested.len() as u32).to_be_bytes();
        nested = [b"\x00F".as_slice(), &length, &nested].concat();
    }
    let cases: [(&str, &[u8], Option<TableError>); 6] = [
        ("a million voids", &voids, Some(TableError::TooManyValues)),
        ("as many voids as allowed", &voids_allowed, None),
        ("as many empty names as allowed", &empty_names, None),
        ("a long text", &text, None),
        (
            "a text that claims 4 GiB",
            &huge_length,
            Some(TableError::Truncated),
        ),
        (
            "10,000 tables in each other",
            &nested,
            Some(TableError::TooDeep),
        ),
    ];
    for (name, bytes, error) in cases {
        let view = TableView::new(bytes);
        let (_, taken) = peak(|| {
            (
                view.validate(DEPTH_MAX, BYTES_MAX).is_ok(),
                view.iter().count(),
            )
        });
        assert_eq!(taken, 0, "{name}: a view takes nothing");
        let (table, taken) = peak(|| view.to_table());
        assert_eq!(table.err(), error, "{name}");
        assert!(
            taken <= bytes.len() + CONSTANT_BYTES,
            "{name}: {taken} bytes"
        );

        let length = (bytes.len() as u32).to_be_bytes();
        let properties = [b"\x20\x00".as_slice(), &length, bytes].concat();
        let view = PropertiesView::new(&properties);
        let (result, taken) = peak(|| view.validate());
        assert_eq!(taken, 0, "{name}: a view takes nothing");
        // Too many values is no error of a view.
        let expected = error.filter(|error| *error != TableError::TooManyValues);
        assert_eq!(
            result.err(),
            expected.map(PropertiesError::Headers),
            "{name}"
        );
    }
}
