//! What binding tables take from the allocator: bytes for a binding, what is left when all is unbound, creep under churn, and that a
//! match allocates nothing. One test, because the counters belong to the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use wherry_engine::routing::{Bindings, ExchangeKind};
use wherry_engine::table::{Table, TableView, Value};

struct Counting;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's layout is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's block came from `alloc` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Live bytes once the collector has freed what this thread has unlinked.
fn live_bytes() -> isize {
    for _ in 0..2000 {
        crossbeam_epoch::pin().flush();
    }
    LIVE_BYTES.load(Ordering::Relaxed)
}

/// Numbers that look random, the same in every run.
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Binding `number` of a table: four words out of 300, one pattern in five with a wildcard.
fn place(kind: ExchangeKind, number: u64) -> (String, Table) {
    let random = scatter(number);
    let word = |index: u64| match (random >> 40) % 25 {
        4 if index == 3 => "#".to_owned(),
        wildcard if wildcard == index && index < 4 => "*".to_owned(),
        _ => format!("w{}", (random >> (index * 9)) % 300),
    };
    match kind {
        ExchangeKind::Topic => ((0..4).map(word).collect::<Vec<_>>().join("."), Table::new()),
        ExchangeKind::Headers => {
            let id = Value::from(number as i64);
            let mut arguments = Table::from_iter([("id", id), ("w", Value::from(word(0)))]);
            if number.is_multiple_of(3) {
                arguments.push("x-match", "any");
            }
            (String::new(), arguments)
        }
        ExchangeKind::Direct | ExchangeKind::Fanout => (format!("key.{number}"), Table::new()),
    }
}

fn bind(bindings: &Bindings<u64>, number: u64) {
    let (key, arguments) = place(bindings.kind(), number);
    assert_eq!(bindings.bind(&key, &arguments, number % QUEUES), Ok(true));
}

fn unbind(bindings: &Bindings<u64>, number: u64) {
    let (key, arguments) = place(bindings.kind(), number);
    assert!(bindings.unbind(&key, &arguments, &(number % QUEUES)));
}

const KINDS: [(ExchangeKind, isize); 4] = [
    (ExchangeKind::Direct, 250),
    (ExchangeKind::Topic, 250),
    (ExchangeKind::Headers, 800),
    (ExchangeKind::Fanout, 250),
];

/// Bindings in a table. Tables have powers of two: this number is not near the one at which the next is taken.
const COUNT: u64 = 30_000;

/// Queues that have them.
const QUEUES: u64 = 1000;

#[test]
fn memory() {
    for (kind, bytes_max) in KINDS {
        let bindings = Bindings::new(kind);
        let empty = live_bytes();
        (0..COUNT).for_each(|number| bind(&bindings, number));
        let full = live_bytes();
        let bytes = (full - empty) / COUNT as isize;
        println!("{kind}: {bytes} bytes/binding");
        assert!(bytes <= bytes_max, "{kind}: {bytes} bytes/binding");

        // Every binding is replaced, four times over. Tables that were only ever filled are a little denser than those in which things
        // come and go; but what is held must not creep.
        let mut churned = [0; 4];
        for (round, taken) in (0..).zip(&mut churned) {
            for number in round * COUNT..(round + 1) * COUNT {
                unbind(&bindings, number);
                bind(&bindings, number + COUNT);
            }
            *taken = live_bytes() - empty;
        }
        println!("{kind}: {} bytes, in churn {churned:?}", full - empty);
        assert!(
            churned[0] <= (full - empty) * 5 / 4,
            "{kind}: churn takes memory"
        );
        assert!(
            churned[3] <= churned[0] * 103 / 100,
            "{kind}: memory creeps"
        );

        // A tenth is left: so is a tenth of the memory, with a little for sparser tables.
        (4 * COUNT..5 * COUNT)
            .filter(|number| number % 10 != 0)
            .for_each(|number| unbind(&bindings, number));
        let tenth = live_bytes() - empty;
        println!("{kind}: {tenth} bytes with a tenth of the bindings");
        assert!(
            tenth <= (full - empty) * 13 / 100,
            "{kind}: {tenth} bytes left of {}",
            full - empty
        );

        (0..QUEUES).for_each(|queue| drop(bindings.unbind_destination(&queue)));
        assert!(bindings.is_empty());
        let left = live_bytes() - empty;
        assert!(left <= (full - empty) / 100, "{kind}: {left} bytes left");
    }
    one_key();
    no_allocation();
}

/// Many destinations under one key, many keys of one destination.
fn one_key() {
    for (kind, _) in KINDS {
        let bindings = Bindings::new(kind);
        let empty = live_bytes();
        for number in 0..COUNT {
            assert_eq!(bindings.bind("k", &Table::new(), number), Ok(true));
            assert_eq!(
                bindings.bind(&format!("k{number}"), &Table::new(), 0),
                Ok(true)
            );
        }
        assert_eq!(bindings.unbind_destination(&0).len(), COUNT as usize + 1);
        for number in 1..COUNT {
            assert!(bindings.unbind("k", &Table::new(), &number));
        }
        let left = live_bytes() - empty;
        assert!(left <= COUNT as isize, "{kind}: {left} bytes left");
    }
}

fn no_allocation() {
    let headers: Table = (0..12)
        .map(|number| (format!("h{number}"), number))
        .collect();
    let headers = headers.encode().unwrap();
    let key = vec!["a"; 16].join(".");
    for (kind, _) in KINDS {
        let bindings = Bindings::new(kind);
        bindings.bind(&key, &Table::new(), 0).unwrap();
        bindings
            .bind("a.#", &Table::from_iter([("h3", 3)]), 1)
            .unwrap();
        let any = Table::from_iter([("h5", Value::from(5)), ("x-match", Value::from("any"))]);
        bindings.bind("#.a.#.a", &any, 2).unwrap();
        let mut found = 0;
        // The first match of a thread registers it with the collector.
        bindings.route(&key, None, &mut |_| {});
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..100 {
            bindings.route(&key, Some(TableView::new(&headers)), &mut |_| found += 1);
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(allocations, 0, "{kind}");
        assert_eq!(
            found,
            if kind == ExchangeKind::Direct {
                100
            } else {
                300
            }
        );
    }
}
