//! Binding tables: time to bind, memory, time to match. `cargo bench -p wherry-engine --bench routing [part...]`
//!
//! Parts: topic, headers, direct, fanout, bomb, churn; readers; all if none is named. Single thread, but for `readers`.
//! Topic patterns have four words out of 1,000. `few`: one pattern in five has a wildcard in place of a word, `*` anywhere or (one in five
//! of them) `#` at the end. `many`: one word in ten is `*`, one pattern in twenty ends in `#`; then most of a match is reporting what was found.
//! Keys are four random words. `naive` is a trie of std hash maps without epochs, in the same run over the same patterns: the floor.
//! Bytes are what was asked of the allocator; times are this thread's processor time (Linux; elsewhere the wall's), rates the median
//! of 5 rounds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::time::Duration;

use wherry_engine::routing::{Bindings, ExchangeKind};
use wherry_engine::table::{Table, TableView, Value};

struct Counting;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call is handed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
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

fn live_bytes() -> isize {
    LIVE_BYTES.load(Ordering::Relaxed)
}

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn word(&mut self) -> String {
        format!("w{}", self.below(1000))
    }

    fn pattern(&mut self, many_wildcards: bool) -> String {
        let mut words: Vec<String> = (0..4).map(|_| self.word()).collect();
        if many_wildcards {
            for word in &mut words {
                if self.below(10) == 0 {
                    *word = "*".to_owned();
                }
            }
            if self.below(20) == 0 {
                words[3] = "#".to_owned();
            }
        } else if self.below(5) == 0 {
            match self.below(5) {
                0 => words[3] = "#".to_owned(),
                index => words[index as usize - 1] = "*".to_owned(),
            }
        }
        words.join(".")
    }

    fn key(&mut self) -> String {
        [self.word(), self.word(), self.word(), self.word()].join(".")
    }
}

/// The processor time this thread has used: other programs on the machine disturb it less than the wall's time.
fn now() -> Duration {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: `timespec` is plain numbers, and the call writes only to it.
        let time = unsafe {
            let mut time = std::mem::zeroed();
            libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
            time
        };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
    #[cfg(not(target_os = "linux"))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// Calls `operation` for all of `inputs`, five times, and prints the median rate.
fn rate<T>(name: &str, inputs: &[T], mut operation: impl FnMut(&T)) {
    let mut rounds: Vec<Duration> = (0..5)
        .map(|_| {
            let start = now();
            inputs.iter().for_each(&mut operation);
            now() - start
        })
        .collect();
    rounds.sort();
    let nanos = rounds[2].as_nanos() as f64 / inputs.len() as f64;
    println!("  {name:<44} {nanos:>9.1} ns  {:>8.3} M/s", 1e3 / nanos);
}

/// Hands the garbage of this thread on until the collector has freed it.
fn collect() {
    for _ in 0..1000 {
        crossbeam_epoch::pin().flush();
    }
}

#[derive(Default)]
struct Naive {
    children: HashMap<String, Naive>,
    destinations: Vec<u64>,
}

impl Naive {
    fn bind(&mut self, pattern: &str, destination: u64) {
        let mut node = self;
        for word in pattern.split('.') {
            node = node.children.entry(word.to_owned()).or_default();
        }
        node.destinations.push(destination);
    }

    fn route(&self, words: &[&str], found: &mut impl FnMut(&u64)) {
        if let Some(next) = self.children.get("#") {
            for rest in 0..=words.len() {
                next.route(&words[rest..], found);
            }
        }
        let Some((word, rest)) = words.split_first() else {
            self.destinations.iter().for_each(found);
            return;
        };
        for word in [*word, "*"] {
            if let Some(next) = self.children.get(word) {
                next.route(rest, found);
            }
        }
    }
}

fn topic() {
    let none = Table::new();
    for (count, queues, many) in [
        (1_000, 1_000, false),
        (100_000, 1_000, false),
        (1_000_000, 1_000, false),
        (1_000_000, 1_000_000, false),
        (100_000, 1_000, true),
    ] {
        let mut random = Random(1);
        let patterns: Vec<String> = (0..count).map(|_| random.pattern(many)).collect();
        let keys: Vec<String> = (0..500_000).map(|_| random.key()).collect();
        let wildcards = if many { "many" } else { "few" };
        println!("topic, {count} bindings of {queues} queues, {wildcards} wildcards");
        let before = live_bytes();
        let bindings = Bindings::new(ExchangeKind::Topic);
        let start = now();
        for (index, pattern) in patterns.iter().enumerate() {
            bindings
                .bind(pattern, &none, index as u64 % queues)
                .unwrap();
        }
        let elapsed = now() - start;
        collect();
        let bytes = (live_bytes() - before) as f64 / bindings.len() as f64;
        println!(
            "  bound in {:.3} s; {bytes:.0} bytes/binding",
            elapsed.as_secs_f64()
        );
        let mut hits = 0_u64;
        rate("match random keys", &keys, |key| {
            bindings.route(key, None, &mut |_| hits += 1);
        });
        println!(
            "  {:.3} destinations/match",
            hits as f64 / keys.len() as f64 / 5.0
        );
        if count == 1_000_000 {
            let bound: Vec<&String> = patterns.iter().take(500_000).collect();
            rate("match keys that are bound", &bound, |key| {
                bindings.route(key, None, &mut |destination| {
                    black_box(destination);
                });
            });
        }
        let start = now();
        if queues < count {
            (0..queues).for_each(|queue| drop(bindings.unbind_destination(&queue)));
        } else {
            for (index, pattern) in patterns.iter().enumerate() {
                bindings.unbind(pattern, &none, &(index as u64));
            }
        }
        let elapsed = now() - start;
        assert!(bindings.is_empty());
        collect();
        let bytes = live_bytes() - before;
        println!(
            "  unbound in {:.3} s; {bytes} bytes left",
            elapsed.as_secs_f64()
        );
        if queues == 1_000 {
            let before = live_bytes();
            let mut naive = Naive::default();
            let start = now();
            for (index, pattern) in patterns.iter().enumerate() {
                naive.bind(pattern, index as u64 % queues);
            }
            let elapsed = (now() - start).as_secs_f64();
            let bytes = (live_bytes() - before) as f64 / count as f64;
            println!("  naive: bound in {elapsed:.3} s; {bytes:.0} bytes/binding");
            rate("naive: match random keys", &keys, |key| {
                let words: Vec<&str> = key.split('.').collect();
                naive.route(&words, &mut |destination| {
                    black_box(destination);
                });
            });
        }
    }
}

fn direct() {
    let none = Table::new();
    for count in [1_000, 1_000_000] {
        println!("direct, {count} keys");
        let keys: Vec<String> = (0..count).map(|index| format!("orders.{index}")).collect();
        let before = live_bytes();
        let bindings = Bindings::new(ExchangeKind::Direct);
        let start = now();
        for (index, key) in keys.iter().enumerate() {
            bindings.bind(key, &none, index as u64).unwrap();
        }
        let elapsed = (now() - start).as_secs_f64();
        collect();
        let bytes = (live_bytes() - before) as f64 / count as f64;
        println!("  bound in {elapsed:.3} s; {bytes:.0} bytes/binding");
        let mut random = Random(2);
        let asked: Vec<&String> = (0..500_000)
            .map(|_| &keys[random.below(count) as usize])
            .collect();
        rate("match", &asked, |key| {
            bindings.route(key, None, &mut |destination| {
                black_box(destination);
            });
        });
    }
}

fn fanout() {
    let none = Table::new();
    for kind in [
        ExchangeKind::Fanout,
        ExchangeKind::Direct,
        ExchangeKind::Topic,
    ] {
        const QUEUES: u64 = 100_000;
        println!("{kind}, {QUEUES} queues under one key");
        let bindings = Bindings::new(kind);
        let start = now();
        (0..QUEUES).for_each(|queue| assert!(bindings.bind("k", &none, queue).unwrap()));
        println!("  bound in {:.3} s", (now() - start).as_secs_f64());
        rate("match, all queues", &[(); 20], |()| {
            bindings.route("k", None, &mut |destination| {
                black_box(destination);
            });
        });
        let start = now();
        (0..QUEUES).for_each(|queue| assert!(bindings.unbind("k", &none, &queue)));
        println!("  unbound in {:.3} s", (now() - start).as_secs_f64());
    }
}

fn headers() {
    println!("headers, 100000 bindings");
    type Arguments = fn(u64) -> Table;
    let shapes: [(&str, Arguments); 4] = [
        ("all: one distinct value", |n| {
            Table::from_iter([("id", Value::from(n as i64))])
        }),
        ("all: common value first, then distinct", |n| {
            Table::from_iter([("a", Value::from(1)), ("id", Value::from(n as i64))])
        }),
        ("any: two distinct values", |n| {
            Table::from_iter([
                ("id", Value::from(n as i64)),
                ("name", Value::from(format!("n{n}"))),
                ("x-match", Value::from("any")),
            ])
        }),
        ("all: five values out of ten each", |n| {
            let digit = |power| Value::from((n / 10_u64.pow(power) % 10) as i32);
            Table::from_iter(["a", "b", "c", "d", "e"].into_iter().zip((0..5).map(digit)))
        }),
    ];
    for (name, arguments) in shapes {
        let before = live_bytes();
        let bindings = Bindings::new(ExchangeKind::Headers);
        let start = now();
        for n in 0..100_000 {
            bindings.bind("", &arguments(n), n).unwrap();
        }
        let elapsed = (now() - start).as_secs_f64();
        collect();
        let bytes = (live_bytes() - before) as f64 / 1e5;
        println!("  {name}: bound in {elapsed:.3} s; {bytes:.0} bytes/binding");
        let mut random = Random(3);
        let messages: Vec<Vec<u8>> = (0..10_000)
            .map(|_| {
                let mut headers = arguments(random.below(100_000));
                headers.remove("x-match");
                headers.push("other", "text");
                headers.encode().unwrap()
            })
            .collect();
        let mut hits = 0;
        rate("match", &messages, |bytes| {
            bindings.route("", Some(TableView::new(bytes)), &mut |_| hits += 1);
        });
        assert_eq!(hits, 50_000);
        let large: Table = (0..10_000).map(|n| (format!("h{n}"), n)).collect();
        let large = large.encode().unwrap();
        rate("match of 10,000 headers", &[(); 3], |()| {
            bindings.route("", Some(TableView::new(&large)), &mut |_| {});
        });
    }
}

fn bomb() {
    println!("bombs: keys of 127 words");
    let none = Table::new();
    let key = vec!["a"; 127].join(".");
    let hashes = |count: usize, end: &str| format!("{}{end}", "#.".repeat(count));
    let alternating = |count: usize, end: &str| format!("{}{end}", "#.a.".repeat(count));
    let mut words = Random(4);
    let many = (0..1000)
        .map(|_| {
            let word = |random: &mut Random| ["#", "*", "a", "b"][random.below(4) as usize];
            let pattern: Vec<&str> = (0..127).map(|_| word(&mut words)).collect();
            pattern.join(".")
        })
        .collect();
    let cases: [(&str, Vec<String>); 6] = [
        ("#.#. ... .b, one pattern", vec![hashes(126, "b")]),
        (
            "#.#. ... .b and .c",
            vec![hashes(126, "b"), hashes(126, "c")],
        ),
        ("#.a.#.a. ... .b, one pattern", vec![alternating(63, "b")]),
        (
            "#.a.#.a. ... .b and .c",
            vec![alternating(63, "b"), alternating(63, "c")],
        ),
        (
            "#.#. with .b after every #",
            (0..126).map(|count| hashes(count, "b")).collect(),
        ),
        ("1,000 random patterns of 127 words", many),
    ];
    for (name, patterns) in cases {
        let bindings = Bindings::new(ExchangeKind::Topic);
        for (index, pattern) in patterns.iter().enumerate() {
            bindings.bind(pattern, &none, index).unwrap();
        }
        rate(name, &[(); 20], |()| {
            bindings.route(&key, None, &mut |destination| {
                black_box(destination);
            });
        });
    }
}

/// A part of the bindings comes and goes for long; memory must not creep.
fn churn() {
    println!("churn: 100,000 topic bindings, 2,000,000 changes");
    let none = Table::new();
    let mut random = Random(5);
    let bindings = Bindings::new(ExchangeKind::Topic);
    let mut held: Vec<String> = Vec::new();
    let mut next = |held: &mut Vec<String>| {
        let pattern = random.pattern(false);
        bindings.bind(&pattern, &none, 0_u64).unwrap();
        held.push(pattern);
    };
    (0..100_000).for_each(|_| next(&mut held));
    collect();
    let before = live_bytes();
    let start = now();
    for step in 0..1_000_000_usize {
        let gone = held.swap_remove(step * 7919 % held.len());
        bindings.unbind(&gone, &none, &0);
        next(&mut held);
    }
    let elapsed = (now() - start).as_nanos() as f64 / 2e6;
    collect();
    let after = live_bytes();
    println!("  {elapsed:.0} ns/change; {before} bytes before, {after} after");
}

fn readers() {
    println!("readers: 100,000 topic bindings, one thread changes others all the time, n match");
    let none = Table::new();
    let mut random = Random(6);
    let bindings = Bindings::new(ExchangeKind::Topic);
    for queue in 0..100_000_u64 {
        bindings.bind(&random.pattern(false), &none, queue).unwrap();
    }
    let keys: Vec<String> = (0..100_000).map(|_| random.key()).collect();
    let changes: Vec<String> = (0..1000).map(|_| random.pattern(false)).collect();
    for changing in [false, true] {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if changing {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        for pattern in &changes {
                            bindings.bind(pattern, &none, 0).unwrap();
                            bindings.unbind(pattern, &none, &0);
                        }
                    }
                });
            }
            let name = if changing {
                "match beside a writer"
            } else {
                "match alone"
            };
            rate(name, &keys, |key| {
                bindings.route(key, None, &mut |destination| {
                    black_box(destination);
                });
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
}

fn main() {
    // Cargo adds `--bench`.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let parts: [(&str, fn()); 7] = [
        ("topic", topic),
        ("headers", headers),
        ("direct", direct),
        ("fanout", fanout),
        ("bomb", bomb),
        ("churn", churn),
        ("readers", readers),
    ];
    for (name, part) in parts {
        if asked.is_empty() || asked.iter().any(|argument| argument == name) {
            part();
        }
    }
}
