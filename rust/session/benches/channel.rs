//! What a session pays here for a message: tags, confirms, permissions.
//!
//! `cargo bench -p wherry-session --bench channel`; prints millions a second, best of five rounds (machines are shared;
//! the best is the least disturbed), and nanoseconds for each.

use std::hint::black_box;
use std::time::Instant;

use wherry_engine::{Broker, BrokerOptions, Ticket};
use wherry_session::{
    AccessTable, Action, Confirms, FrontEnd, Handouts, Identity, Limits, Resource, SettledList,
};

const MESSAGES: u64 = 2_000_000;

fn report(name: &str, mut round: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let rate = MESSAGES as f64 / best;
    println!("{name:<52} {:>9.3} M/s {:>9.1} ns", rate / 1e6, 1e9 / rate);
}

fn main() {
    for every in [1, 100] {
        report(&format!("tags: push, settled {every} at a time"), || {
            let mut handouts = Handouts::new();
            let mut settled = SettledList::new();
            for n in 1..=MESSAGES {
                let tag = handouts.push(1, n);
                if n % every == 0 {
                    settled.clear();
                    let done = handouts.settle(tag, every > 1, &mut settled);
                    black_box(done.expect("it is outstanding"));
                }
            }
        });
    }
    report("tags: 1,000 outstanding, settled one by one", || {
        let mut handouts = Handouts::new();
        let mut settled = SettledList::new();
        for n in 1..=MESSAGES {
            handouts.push((n % 8) as u32, n);
            if n > 1000 {
                settled.clear();
                let done = handouts.settle(n - 1000, false, &mut settled);
                black_box(done.expect("it is outstanding"));
            }
        }
    });
    for (name, step) in [("no disk", 0), ("100 publishes a sync", 1)] {
        report(&format!("confirms: {name}"), || {
            let mut confirms = Confirms::new();
            for n in 1..=MESSAGES {
                let number = confirms.next();
                confirms.published(number, Ticket(n * step));
                if n % 100 == 0 {
                    confirms.settle(Ticket(n), &mut |confirm| {
                        black_box(confirm);
                    });
                }
            }
        });
    }

    let broker = Broker::open(BrokerOptions::default()).expect("in memory");
    let front = FrontEnd::new(broker, Limits::default(), Identity::default());
    let mut table = AccessTable::builder();
    table
        .permission("u", "/", "^jobs", "^jobs", "^jobs")
        .expect("good patterns");
    table
        .topic_permission("u", "/", "jobs", "^{username}[.]", "")
        .expect("good patterns");
    front.set_access(table.build());
    let access = front.access_for("u", "/");
    report("permission of one exchange", || {
        for _ in 0..MESSAGES {
            let allowed = access.check(Action::Write, Resource::Exchange(black_box("jobs")));
            assert!(allowed.is_ok());
        }
    });
    report("topic permission of one routing key", || {
        for _ in 0..MESSAGES {
            let allowed = access.check_topic(Action::Write, "jobs", black_box("u.created"));
            assert!(allowed.is_ok());
        }
    });
    report("version of the permissions", || {
        for _ in 0..MESSAGES {
            black_box(access.version());
        }
    });
}
