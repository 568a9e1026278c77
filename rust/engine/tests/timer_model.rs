//! The timer against a `BTreeMap`, step by step, and its promises one by one. Time is virtual throughout.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use wherry_engine::clock::{Clock, NotVirtual};
use wherry_engine::timer::{Timer, TimerId};

#[derive(Clone, Debug)]
enum Step {
    Schedule {
        delay_ns: u64,
    },
    /// Schedule this many at nearly the same time.
    Crowd {
        delay_ns: u64,
        count: u16,
        spread_ns: u64,
    },
    Past {
        before_ns: u64,
    },
    Cancel {
        which: usize,
    },
    /// Cancel all but each `keep`-th, to make a sweep happen.
    CancelMost {
        keep: usize,
    },
    Advance {
        by_ns: u64,
    },
}

/// Delays of all magnitudes, so that all levels of the wheel are used.
fn delay() -> impl Strategy<Value = u64> {
    (0u32..50, any::<u64>()).prop_map(|(bits, noise)| noise & ((1 << bits) - 1))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => delay().prop_map(|delay_ns| Step::Schedule { delay_ns }),
        1 => (delay(), 1u16..2500, 1u64..1 << 30)
            .prop_map(|(delay_ns, count, spread_ns)| Step::Crowd { delay_ns, count, spread_ns }),
        1 => delay().prop_map(|before_ns| Step::Past { before_ns }),
        2 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        1 => (1usize..9).prop_map(|keep| Step::CancelMost { keep }),
        4 => delay().prop_map(|by_ns| Step::Advance { by_ns }),
    ]
}

/// What is pending, by (deadline, order of scheduling).
#[derive(Default)]
struct Model {
    pending: BTreeMap<(u64, u64), TimerId>,
    scheduled: u64,
}

impl Model {
    fn schedule(&mut self, timer: &Timer<u64>, deadline_ns: u64) {
        let id = timer.schedule(deadline_ns, self.scheduled);
        self.pending.insert((deadline_ns, self.scheduled), id);
        self.scheduled += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn fires_what_the_model_fires(start_ns in any::<u64>().prop_map(|ns| ns >> 4), steps in prop::collection::vec(step(), 1..60)) {
        let timer = Timer::new(start_ns);
        let mut model = Model::default();
        let mut now_ns = start_ns;
        for step in steps {
            match step {
                Step::Schedule { delay_ns } => model.schedule(&timer, now_ns + delay_ns),
                Step::Crowd { delay_ns, count, spread_ns } => {
                    for index in 0..u64::from(count) {
                        model.schedule(&timer, now_ns + delay_ns + index.wrapping_mul(0x9E37_79B9_7F4A_7C15) % spread_ns);
                    }
                }
                Step::Past { before_ns } => model.schedule(&timer, now_ns.saturating_sub(before_ns)),
                Step::Cancel { which } => {
                    if !model.pending.is_empty() {
                        let key = *model.pending.keys().nth(which % model.pending.len()).unwrap();
                        timer.cancel(model.pending.remove(&key).unwrap());
                    }
                }
                Step::CancelMost { keep } => {
                    let mut index = 0;
                    model.pending.retain(|_, id| {
                        index += 1;
                        let kept = index % keep == 0;
                        if !kept {
                            timer.cancel(*id);
                        }
                        kept
                    });
                }
                Step::Advance { by_ns } => {
                    now_ns += by_ns;
                    let later = model.pending.split_off(&(now_ns + 1, 0));
                    let due = std::mem::replace(&mut model.pending, later);
                    let mut fired = Vec::new();
                    let count = timer.fire_due(now_ns, |deadline_ns, event| fired.push((deadline_ns, event)));
                    prop_assert_eq!(count, fired.len());
                    prop_assert!(fired.iter().eq(due.keys()), "fired {:?}, due {:?}", fired, due);
                }
            }
            // A cancelled event may be named, so the deadline is never too late but may be too early.
            let next = timer.next_deadline().unwrap_or(u64::MAX);
            let expected = model.pending.keys().next().map_or(u64::MAX, |key| key.0);
            prop_assert!(next <= expected);
            prop_assert!(timer.len() >= model.pending.len());
        }
        // What is due is gone after the first call, so the second one begins with a sweep, if one is worth while.
        for _ in 0..2 {
            timer.fire_due(now_ns, |_, _| ());
        }
        let live = model.pending.range((now_ns + 1, 0)..).count();
        prop_assert!(timer.len() <= 2 * live + 512, "{} for {live}", timer.len());
    }
}

#[test]
fn next_deadline_is_exact_when_nothing_was_cancelled() {
    let timer = Timer::new(0);
    assert_eq!(timer.next_deadline(), None);
    for deadline_ns in [7_000_000_000_000, 5_000_000, 1 << 60, 90] {
        timer.schedule(deadline_ns, ());
    }
    for deadline_ns in [90, 5_000_000, 7_000_000_000_000, 1 << 60] {
        assert_eq!(timer.next_deadline(), Some(deadline_ns));
        assert_eq!(
            timer.fire_due(deadline_ns - 1, |_, ()| panic!("too early")),
            0
        );
        assert_eq!(timer.next_deadline(), Some(deadline_ns));
        assert_eq!(
            timer.fire_due(deadline_ns, |at_ns, ()| assert_eq!(at_ns, deadline_ns)),
            1
        );
    }
    assert!(timer.is_empty());
}

#[test]
fn what_a_callback_schedules_fires_in_its_place() {
    let timer = Timer::new(0);
    for deadline_ns in [10, 20, 30] {
        timer.schedule(deadline_ns, deadline_ns);
    }
    let mut fired = Vec::new();
    timer.fire_due(30, |deadline_ns, event| {
        fired.push((deadline_ns, event));
        if event == 10 {
            timer.schedule(20, 21);
            timer.schedule(15, 15);
            timer.schedule(31, 31);
            // This moves the intake into the wheel behind the runner's back.
            assert_eq!(timer.next_deadline(), Some(15));
        }
        if event == 15 {
            timer.schedule(5, 5);
        }
    });
    assert_eq!(
        fired,
        [(10, 10), (15, 15), (5, 5), (20, 20), (20, 21), (30, 30)]
    );
    assert_eq!(timer.next_deadline(), Some(31));
}

#[test]
fn a_callback_can_cancel_what_is_due_after_it() {
    let timer = Timer::new(0);
    timer.schedule(10, "first");
    let second = timer.schedule(11, "second");
    timer.schedule(12, "third");
    let fourth = timer.schedule(13, "fourth");
    let mut fired = Vec::new();
    timer.fire_due(20, |_, event| {
        fired.push(event);
        if event == "first" {
            timer.cancel(second);
        }
        if event == "third" {
            timer.cancel(fourth);
            let _ = timer.next_deadline();
        }
    });
    assert_eq!(fired, ["first", "third"]);
    assert!(timer.is_empty());
}

#[test]
fn a_panic_in_a_callback_loses_nothing_but_its_own_event() {
    let timer = Timer::new(0);
    for event in 0..200 {
        timer.schedule(5, event);
    }
    let mut fired = Vec::new();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        timer.fire_due(5, |_, event| {
            assert_ne!(event, 3, "on purpose");
            fired.push(event);
        })
    }));
    assert!(result.is_err());
    assert_eq!(timer.next_deadline(), Some(5));
    assert_eq!(timer.fire_due(5, |_, event| fired.push(event)), 196);
    assert!(
        fired
            .iter()
            .copied()
            .eq((0..200).filter(|&event| event != 3))
    );
}

#[test]
fn virtual_time_stops_at_each_deadline() {
    let clock = Clock::virtual_at(1_000);
    let timer = Timer::new(clock.now_ns());
    timer.schedule(1_500, 0u32);
    timer.schedule(900, 1);
    timer.schedule(clock.now_ns() + 3_600_000_000_000, 2);
    timer.schedule(u64::MAX, 3);
    let mut seen = Vec::new();
    let until_ns = 1_000 + 7_200_000_000_000;
    let fired = timer.run_virtual(&clock, until_ns, |deadline_ns, event| {
        seen.push((event, deadline_ns, clock.now_ns()));
        if event == 0 {
            timer.schedule(clock.now_ns() + 250, 4);
        }
    });
    assert_eq!(fired, Ok(4));
    let hour_ns = 3_600_000_001_000;
    assert_eq!(
        seen,
        [
            (1, 900, 1_000),
            (0, 1_500, 1_500),
            (4, 1_750, 1_750),
            (2, hour_ns, hour_ns)
        ]
    );
    assert_eq!(clock.now_ns(), until_ns);
    assert_eq!(
        timer.run_virtual(&clock, u64::MAX, |_, _| panic!("never is never")),
        Ok(0)
    );
    assert_eq!(
        timer.run_virtual(&Clock::real(), 0, |_, _| ()),
        Err(NotVirtual)
    );
}

#[test]
fn many_threads_schedule_and_all_fires_once_in_order() {
    const THREADS: u64 = 4;
    const EACH: u64 = 20_000;
    let timer = Timer::new(0);
    let mut last: HashMap<(u64, u64), u64> = HashMap::new();
    let mut fired = 0;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let timer = &timer;
            scope.spawn(move || {
                for number in 0..EACH {
                    timer.schedule(number % 7 * 1_000_000, (thread, number));
                }
            });
        }
        while fired < THREADS * EACH {
            let now_ns = Duration::from_secs(1).as_nanos() as u64;
            timer.fire_due(now_ns, |deadline_ns, (thread, number)| {
                assert_eq!(deadline_ns, number % 7 * 1_000_000);
                if let Some(before) = last.insert((thread, number % 7), number) {
                    assert!(before < number);
                }
                fired += 1;
            });
        }
    });
    assert!(timer.is_empty());
}
