//! The timer's own thread, on the real clock. Nothing sleeps: the tests wait for what the thread sends.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use wherry_engine::clock::Clock;
use wherry_engine::timer::{Timer, TimerThread};

const MS: u64 = 1_000_000;

#[test]
fn fires_on_time_and_an_earlier_deadline_wakes_it() {
    let clock = Clock::real();
    let timer = Arc::new(Timer::new(clock.now_ns()));
    let (sender, fired) = channel();
    let thread_clock = clock.clone();
    let thread = TimerThread::spawn(
        Arc::clone(&timer),
        clock.clone(),
        move |deadline_ns, event: u32| {
            sender
                .send((event, deadline_ns, thread_clock.now_ns()))
                .unwrap();
        },
    )
    .unwrap();
    timer.schedule(clock.now_ns() + 3_600_000 * MS, 0);
    let mut late_ns = Vec::new();
    for round in 1..=20 {
        let now_ns = clock.now_ns();
        timer.schedule(now_ns + 6 * MS, 2 * round);
        timer.schedule(now_ns + 3 * MS, 2 * round + 1);
        for expected in [2 * round + 1, 2 * round] {
            let (event, deadline_ns, at_ns) = fired.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!(event, expected);
            assert!(at_ns >= deadline_ns, "early");
            late_ns.push(at_ns - deadline_ns);
        }
    }
    // The best of all: how late the rest is says how busy the machine is.
    assert!(late_ns.iter().min() < Some(&MS), "late by {late_ns:?} ns");
    drop(thread);
    assert!(
        fired.recv().is_err(),
        "the thread has ended and dropped its callback"
    );
    assert_eq!(timer.len(), 1);
}

#[test]
fn many_callers_are_all_served() {
    const EACH: u64 = 5_000;
    let clock = Clock::real();
    let timer = Arc::new(Timer::new(clock.now_ns()));
    let (sender, fired) = channel();
    let _thread = TimerThread::spawn(Arc::clone(&timer), clock.clone(), move |_, event: u64| {
        sender.send(event).unwrap();
    })
    .unwrap();
    std::thread::scope(|scope| {
        for caller in 0..2 {
            let (timer, clock) = (&timer, &clock);
            scope.spawn(move || {
                for number in 0..EACH {
                    timer.schedule(
                        clock.now_ns() + number % 64 * 10_000,
                        caller * EACH + number,
                    );
                }
            });
        }
    });
    let mut events: Vec<u64> = (0..2 * EACH)
        .map(|_| fired.recv_timeout(Duration::from_secs(20)).unwrap())
        .collect();
    events.sort_unstable();
    assert!(events.into_iter().eq(0..2 * EACH));
}

#[test]
fn a_panicking_callback_is_counted_and_the_thread_goes_on() {
    let clock = Clock::real();
    let timer = Arc::new(Timer::new(clock.now_ns()));
    let (sender, fired) = channel();
    let thread = TimerThread::spawn(Arc::clone(&timer), clock.clone(), move |_, event: u32| {
        assert_ne!(event, 0, "on purpose");
        sender.send(event).unwrap();
    })
    .unwrap();
    timer.schedule(1, 0);
    timer.schedule(2, 1);
    assert_eq!(fired.recv_timeout(Duration::from_secs(20)), Ok(1));
    assert_eq!(thread.panics(), 1);
}

#[test]
fn one_thread_to_a_timer_and_none_for_virtual_time() {
    let timer = Arc::new(Timer::<()>::new(0));
    let refused =
        TimerThread::spawn(Arc::clone(&timer), Clock::virtual_at(0), |_, ()| ()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    let _thread = TimerThread::spawn(Arc::clone(&timer), Clock::real(), |_, ()| ()).unwrap();
    let refused = TimerThread::spawn(timer, Clock::real(), |_, ()| ()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
}
