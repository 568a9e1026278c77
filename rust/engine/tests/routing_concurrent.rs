//! Readers beside writers. What exists all the time is found by every match; what was removed is found by no match that begins later;
//! nothing is found that was never bound; nothing is freed too early or kept for ever.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::thread;

use wherry_engine::routing::{Bindings, ExchangeKind};
use wherry_engine::table::{Table, TableView, Value};

const KINDS: [ExchangeKind; 4] = [
    ExchangeKind::Direct,
    ExchangeKind::Topic,
    ExchangeKind::Headers,
    ExchangeKind::Fanout,
];

/// Changes that the writers make in one test; enough for many rebuilds and several collections.
const ROUNDS: usize = if cfg!(debug_assertions) { 300 } else { 1000 };

/// A destination that says whether it is alive when it is looked at, and how many there are.
#[derive(Clone)]
struct Queue {
    number: usize,
    alive: Arc<Alive>,
}

struct Alive {
    check: AtomicUsize,
    count: Arc<AtomicIsize>,
}

const ALIVE: usize = 0x600d_600d;

impl Drop for Alive {
    fn drop(&mut self) {
        self.check.store(0xdead, Ordering::Relaxed);
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    fn new(number: usize, count: &Arc<AtomicIsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        let alive = Alive {
            check: AtomicUsize::new(ALIVE),
            count: count.clone(),
        };
        Self {
            number,
            alive: Arc::new(alive),
        }
    }

    fn look(&self) -> usize {
        assert_eq!(
            self.alive.check.load(Ordering::Relaxed),
            ALIVE,
            "a freed queue was found"
        );
        self.number
    }
}

impl PartialEq for Queue {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Queue {}

impl Hash for Queue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

/// Key and arguments under which binding `number` stands, all of them neighbours in the structure.
fn place(kind: ExchangeKind, number: usize) -> (String, Table) {
    match kind {
        ExchangeKind::Direct => (format!("k{}", number % 7), Table::new()),
        ExchangeKind::Topic => {
            let patterns = ["a.b.c", "a.*.c", "a.#", "#.c", "a.b.#.c", "*.b.*", "#"];
            let literal = format!("a.b.x{number}");
            let pattern = patterns
                .get(number % 11)
                .map_or(literal, ToString::to_string);
            (pattern, Table::new())
        }
        ExchangeKind::Headers => {
            let mut arguments = Table::from_iter([("n", Value::from(number as i64 % 5))]);
            if number.is_multiple_of(3) {
                arguments.push("x-match", "any");
                arguments.push("m", 1);
            }
            (String::new(), arguments)
        }
        ExchangeKind::Fanout => (format!("{number}"), Table::new()),
    }
}

/// What a message looks like that the binding `number` matches.
fn message(kind: ExchangeKind, number: usize) -> (String, Vec<u8>) {
    let (key, _) = place(kind, number);
    match kind {
        ExchangeKind::Topic if number % 11 < 7 => ("a.b.c".to_owned(), Vec::new()),
        ExchangeKind::Headers => {
            let headers = Table::from_iter([("n", number as i64 % 5), ("other", 1)]);
            (key, headers.encode().unwrap())
        }
        _ => (key, Vec::new()),
    }
}

fn find(bindings: &Bindings<Queue>, kind: ExchangeKind, number: usize) -> Vec<usize> {
    let (key, headers) = message(kind, number);
    let mut found = Vec::new();
    bindings.route(
        &key,
        Some(TableView::new(&headers)),
        &mut |queue: &Queue| {
            found.push(queue.look());
        },
    );
    found
}

/// Numbers below this stay bound.
const STAY: usize = 40;

#[test]
fn what_stays_is_always_found_and_what_is_gone_never() {
    for kind in KINDS {
        let count = Arc::new(AtomicIsize::new(0));
        let bindings = Bindings::new(kind);
        let bind = |number| {
            let (key, arguments) = place(kind, number);
            bindings.bind(&key, &arguments, Queue::new(number, &count))
        };
        for number in 0..STAY {
            assert_eq!(bind(number), Ok(true));
        }
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..2 {
                let (bindings, stop) = (&bindings, &stop);
                scope.spawn(move || {
                    let mut number = reader;
                    while !stop.load(Ordering::Relaxed) {
                        number = (number + 1) % STAY;
                        let found = find(bindings, kind, number);
                        let times = found.iter().filter(|found| **found == number).count();
                        assert!(times >= 1, "{kind}: {number} was not found");
                        assert!(found.iter().all(|found| *found < 3000));
                    }
                });
            }
            let writers: Vec<_> = [1000, 2000]
                .into_iter()
                .map(|base| {
                    let (bindings, bind) = (&bindings, &bind);
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            // From a few to many bindings, so that blocks grow and shrink.
                            let numbers = base..base + 1 + round * 7 % 90;
                            for number in numbers.clone() {
                                assert_eq!(bind(number), Ok(true));
                                assert!(find(bindings, kind, number).contains(&number));
                            }
                            for number in numbers {
                                let count = Arc::new(AtomicIsize::new(0));
                                let queue = Queue::new(number, &count);
                                if round % 2 == 0 {
                                    let (key, arguments) = place(kind, number);
                                    assert!(bindings.unbind(&key, &arguments, &queue));
                                } else {
                                    assert_eq!(bindings.unbind_destination(&queue).len(), 1);
                                }
                                let found = find(bindings, kind, number);
                                assert!(!found.contains(&number), "{kind}: {number} is gone");
                            }
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.join().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(bindings.len(), STAY);
        // All that was unbound is freed once the collector was asked often enough.
        for _ in 0..100_000 {
            if count.load(Ordering::Relaxed) == STAY as isize {
                break;
            }
            crossbeam_epoch::pin().flush();
        }
        assert_eq!(count.load(Ordering::Relaxed), STAY as isize);
        drop(bindings);
        assert_eq!(
            count.load(Ordering::Relaxed),
            0,
            "a dropped table frees at once"
        );
    }
}

/// A cache that keeps a match for as long as the generation stays: no match may be kept that misses a change counted in its generation.
#[test]
fn a_match_made_after_reading_the_generation_has_its_changes() {
    let bindings = Bindings::new(ExchangeKind::Topic);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Binding n is the change that makes generation n + 1.
            for number in 0..20_000_usize {
                bindings
                    .bind(&format!("k.{}.#", number % 10), &Table::new(), number)
                    .unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            let generation = bindings.generation() as usize;
            let mut found = 0;
            (0..10)
                .for_each(|word| bindings.route(&format!("k.{word}"), None, &mut |_| found += 1));
            assert!(found >= generation, "{found} of {generation}");
        }
    });
    assert_eq!(bindings.generation(), 20_000);
}

/// The callback may use the table it is called from: no lock is held.
#[test]
fn bindings_can_be_changed_from_inside_a_match() {
    for kind in KINDS {
        let bindings = Bindings::new(kind);
        bindings.bind("k", &Table::new(), 1).unwrap();
        let mut found = Vec::new();
        bindings.route("k", None, &mut |destination| {
            found.push(*destination);
            // The new one may be met by this very match.
            if *destination == 1 {
                let arguments = Table::from_iter([("x-a", 1)]);
                assert_eq!(bindings.bind("k", &arguments, 2), Ok(true));
                assert!(bindings.unbind("k", &Table::new(), &1));
            }
        });
        assert_eq!(found[0], 1);
        let mut found = Vec::new();
        bindings.route("k", None, &mut |destination| found.push(*destination));
        assert_eq!(found, [2], "{kind}");
    }
}
