//! How long opening a journal with a backlog takes, and what memory it costs.
//!
//! `cargo bench -p wherry-engine --bench recovery -- [MESSAGES] [DIRECTORY]`: writes MESSAGES (default 1,000,000) of
//! 100 bytes to one queue, acknowledges a tenth of them, closes, and opens again in a process of its own, so that the
//! resident memory is that of recovery alone. `fill` and `open` as first argument do one half each.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use wherry_engine::{
    Broker, BrokerOptions, ConsumerOptions, Durability, Error, NewMessage, Outcome, QueueOptions,
};

fn options(path: PathBuf) -> BrokerOptions {
    BrokerOptions {
        path: Some(path),
        durability: Durability::Never,
        ..BrokerOptions::default()
    }
}

fn fill(path: PathBuf, messages: usize) {
    let broker = Broker::open(options(path)).expect("the directory can be written");
    let host = broker.virtual_host("/").expect("it exists");
    let (queue, _) = host
        .declare_queue("backlog", QueueOptions::default())
        .expect("a new queue");
    let exchange = host.exchange("").expect("it exists");
    let body = [b'x'; 100];
    let batch = vec![NewMessage::new("backlog", &body); 500];
    let mut done = 0;
    while done < messages {
        let wanted = &batch[..batch.len().min(messages - done)];
        match exchange.publish_batch(wanted) {
            Ok(published) => done += published.accepted,
            Err(Error::Busy) => {
                broker.wait_space(Some(Duration::from_secs(10)));
            }
            Err(error) => panic!("{error}"),
        }
    }
    let consumer = queue
        .consume(ConsumerOptions::default(), None)
        .expect("a consumer");
    let mut deliveries = Vec::new();
    consumer.take(messages / 10, &mut deliveries);
    for delivery in &deliveries {
        consumer
            .settle(delivery.tag, false, Outcome::Ack)
            .expect("its own delivery");
    }
    broker.close().expect("a good disk");
}

/// Resident bytes of this process: all, and those that are not pages of files.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| {
                rest.trim()
                    .trim_end_matches(" kB")
                    .trim()
                    .parse::<u64>()
                    .ok()
            })
            .unwrap_or(0)
            * 1024
    };
    (field("VmHWM:"), field("RssAnon:"))
}

fn open(path: PathBuf) {
    let started = Instant::now();
    let broker = Broker::open(options(path)).expect("a good journal");
    let seconds = started.elapsed().as_secs_f64();
    let ready = broker.statistics().ready;
    let (peak, now) = resident();
    println!(
        "{ready} messages in {seconds:.2} s: {:.2} M/s, {} MiB resident at most, {} MiB of heap now, journal of {} MiB",
        ready as f64 / seconds / 1e6,
        peak >> 20,
        now >> 20,
        broker.statistics().journal.map_or(0, |j| j.segments_bytes) >> 20,
    );
    broker.close().expect("a good disk");
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["fill", path, messages] => fill(path.into(), messages.parse().expect("a number")),
        ["open", path] => open(path.into()),
        _ => {
            let messages = words.first().copied().unwrap_or("1000000");
            let base = words
                .get(1)
                .map_or_else(std::env::temp_dir, |p| PathBuf::from(*p));
            let path = base.join(format!("wherry-recovery-{}", std::process::id()));
            let me = std::env::current_exe().expect("a running program");
            let run = |args: &[&std::ffi::OsStr]| {
                let status = Command::new(&me).args(args).status().expect("ourselves");
                assert!(status.success());
            };
            run(&["fill".as_ref(), path.as_ref(), messages.as_ref()]);
            for _ in 0..2 {
                run(&["open".as_ref(), path.as_ref()]);
            }
            std::fs::remove_dir_all(&path).expect("our own directory");
        }
    }
}
