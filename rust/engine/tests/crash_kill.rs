//! A process that is killed while it publishes and acknowledges, again and again on one directory, and a ledger of what
//! it was told. What survives a kill says nothing about power failures (`crash_model` does); it shows that nothing
//! waits in this process's memory that was promised.

mod common;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use wherry_engine::{Broker, BrokerOptions, Error, NewMessage, Outcome, QueueOptions, Ticket};

const CHILD: &str = "WHERRY_CRASH_CHILD";
const ROUNDS: u64 = 24;

fn open_path(path: &Path) -> Arc<Broker> {
    let options = BrokerOptions {
        path: Some(path.join("journal")),
        segment_bytes: 256 << 10,
        ..BrokerOptions::default()
    };
    Broker::open(options).unwrap()
}

/// Does nothing unless it runs in a process that `killed_at_any_moment` started.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let path = PathBuf::from(path);
    let mut ledger = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path.join("ledger"))
        .unwrap();
    // One write each: a kill leaves whole lines, or a last one without its end.
    let mut note = move |line: String| ledger.write_all(line.as_bytes()).unwrap();
    let broker = open_path(&path);
    let queue = queue(&broker, "q", QueueOptions::default());
    let consumer = consumer(&queue);
    let exchange = host(&broker).exchange("").unwrap();
    let life = std::process::id();
    let mut waiting: Vec<(Ticket, String)> = Vec::new();
    let mut out = Vec::new();
    for i in 0u64.. {
        let body = format!("{life}-{i}-{}", "z".repeat((i * 37 % 500) as usize));
        note(format!("p {body}\n"));
        match exchange.publish(&NewMessage::new("q", body.as_bytes())) {
            Ok(published) => waiting.push((published.ticket, format!("P {body}\n"))),
            Err(Error::Busy) => {
                broker.wait_space(None);
            }
            Err(error) => panic!("{error}"),
        }
        consumer.take(3, &mut out);
        for delivery in out.drain(..).filter(|d| d.position % 7 != 0) {
            let body = String::from_utf8(delivery.message.body().to_vec()).unwrap();
            note(format!("a {body}\n"));
            let ticket = consumer.settle(delivery.tag, false, Outcome::Ack).unwrap();
            if ticket != Ticket::NONE {
                waiting.push((ticket, format!("A {body}\n")));
            }
        }
        if i % 16 == 15 {
            let last = waiting.iter().map(|(ticket, _)| *ticket).max();
            broker.wait_durable(last.unwrap_or_default(), None).unwrap();
        }
        let durable = broker.durable();
        waiting.retain(|(ticket, line)| {
            let done = *ticket <= durable;
            if done {
                note(line.clone());
            }
            !done
        });
    }
}

#[derive(Default)]
struct Ledger {
    tried: BTreeSet<String>,
    confirmed: BTreeSet<String>,
    acked: BTreeSet<String>,
    acked_durably: BTreeSet<String>,
}

fn read_ledger(path: &Path) -> Ledger {
    let text = std::fs::read_to_string(path.join("ledger")).unwrap_or_default();
    let mut ledger = Ledger::default();
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        let Some((kind, body)) = line.trim_end().split_once(' ') else {
            continue;
        };
        let set = match kind {
            "p" => &mut ledger.tried,
            "P" => &mut ledger.confirmed,
            "a" => &mut ledger.acked,
            "A" => &mut ledger.acked_durably,
            _ => panic!("{line}"),
        };
        set.insert(body.to_string());
    }
    ledger
}

fn compare(path: &Path, round: u64) -> usize {
    let ledger = read_ledger(path);
    let broker = open_path(path);
    let Ok(queue) = host(&broker).queue("q") else {
        assert!(
            ledger.confirmed.is_empty(),
            "round {round}: the queue is gone"
        );
        return 0;
    };
    let found = bodies(&queue);
    let set: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(set.len(), found.len(), "round {round}: doubled");
    let sample = |mut bodies: Vec<&String>| {
        bodies.truncate(3);
        bodies.into_iter().cloned().collect::<Vec<_>>()
    };
    let lost = ledger.confirmed.difference(&ledger.acked);
    let lost: Vec<_> = lost.filter(|body| !set.contains(*body)).collect();
    assert!(
        lost.is_empty(),
        "round {round}: confirmed and lost: {:?}",
        sample(lost)
    );
    let risen: Vec<_> = ledger.acked_durably.intersection(&set).collect();
    assert!(
        risen.is_empty(),
        "round {round}: acknowledged and back: {:?}",
        sample(risen)
    );
    let invented: Vec<_> = set.difference(&ledger.tried).collect();
    assert!(
        invented.is_empty(),
        "round {round}: never published: {:?}",
        sample(invented)
    );
    broker.close().unwrap();
    ledger.confirmed.len()
}

#[test]
fn killed_at_any_moment() {
    let path = std::env::temp_dir().join(format!("wherry-kill-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    let mut random = Random::new(u64::from(std::process::id()));
    let mut confirmed = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--test-threads=1"])
            .env(CHILD, &path)
            .stdout(Stdio::null())
            .stderr(File::create(path.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        // Not for something to happen, but for it to happen at any moment.
        std::thread::sleep(Duration::from_millis(5 + random.below(196)));
        let died = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let said = std::fs::read_to_string(path.join("stderr")).unwrap();
        assert!(
            died.is_none(),
            "round {round}: the child ended by itself: {said}"
        );
        // Every other time the next child finds what the kill left.
        if round % 2 == 1 {
            confirmed = compare(&path, round);
        }
    }
    assert!(
        confirmed > 0,
        "no child lived long enough to be told anything"
    );
    std::fs::remove_dir_all(&path).unwrap();
}
