//! What each mode does and reports.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::body::filler;
use crate::link::Failure;
use crate::options::{Mode, Options};
use crate::publisher;
use crate::relay;
use crate::report::{self, Meter, Report, percentiles, put_verdict, rate, seconds};
use crate::stage::{self, Publishing, Stage};
use crate::wire::{Destination, Outgoing, Topology, Wire};

/// Room for what an idle connection receives: replies of the handshake.
const IDLE_INBOX_BYTES: usize = 4096;

/// Runs the mode. The report's `clean`, if it has one, tells whether all messages came as they were sent.
pub(crate) fn run<W: Wire>(options: &Options) -> Result<Report, Failure> {
    match options.mode {
        Mode::Throughput | Mode::Latency => flow::<W>(options),
        Mode::Backlog => backlog::<W>(options),
        Mode::Connections => connections::<W>(options),
        Mode::Queues => queues::<W>(options),
        Mode::Churn => churn::<W>(options),
        Mode::Relay => relay::serve(options.target.address).map(|never| match never {}),
    }
}

fn put(report: &mut Report, name: &str, value: serde_json::Value) {
    report.insert(name.to_owned(), value);
}

fn flow<W: Wire>(options: &Options) -> Result<Report, Failure> {
    let stage = Stage::<W>::set(options)?;
    let meter = Meter::start(options);
    let (publishing, mut consumed) = stage::both(&stage)?;
    let copies = stage.copies();
    stage.clear()?;
    let mut report = report::begin(options);
    let window = publishing.window;
    let sent = put_published(&mut report, &publishing);
    put(&mut report, "window_seconds", seconds(window.seconds));
    put(
        &mut report,
        "published_per_second",
        rate(window.sent, window.seconds),
    );
    put(
        &mut report,
        "received_per_second",
        rate(window.received, window.seconds),
    );
    let last_at = consumed.iter().map(|one| one.last_at).max();
    let whole = last_at.map_or(0.0, |at| (at - publishing.start).as_secs_f64());
    put(&mut report, "drained_seconds", seconds(whole));
    put(
        &mut report,
        "drained_per_second",
        rate(sent * copies, whole),
    );
    if options.mode == Mode::Latency {
        let gather = |of: fn(&publisher::Published) -> &Vec<u64>| -> Vec<u64> {
            publishing.published.iter().flat_map(of).copied().collect()
        };
        let mut latency_ns = Vec::new();
        let mut since_written_ns = Vec::new();
        for one in &mut consumed {
            latency_ns.append(&mut one.latency_ns);
            since_written_ns.append(&mut one.since_written_ns);
        }
        put(&mut report, "rate", json!(options.rate));
        put(&mut report, "latency_us", percentiles(&mut latency_ns));
        put(
            &mut report,
            "since_written_us",
            percentiles(&mut since_written_ns),
        );
        put(
            &mut report,
            "send_lag_us",
            percentiles(&mut gather(|one| &one.lag_ns)),
        );
        put(
            &mut report,
            "confirm_us",
            percentiles(&mut gather(|one| &one.confirm_ns)),
        );
    }
    put_verdict(&mut report, &stage::verdict(&publishing, consumed));
    meter.put(&mut report, sent);
    Ok(report)
}

/// Reports what the producers did; returns how many messages were sent.
fn put_published(report: &mut Report, publishing: &Publishing) -> u64 {
    let sent = publishing.published.iter().map(|one| one.sent).sum();
    let nacked: usize = publishing
        .published
        .iter()
        .map(|one| one.refused.len())
        .sum();
    let since = |at: Option<Instant>| at.map_or(0.0, |at| (at - publishing.start).as_secs_f64());
    let written = publishing.published.iter().map(|one| one.written_at).max();
    let confirmed = publishing
        .published
        .iter()
        .map(|one| one.confirmed_at)
        .max();
    put(report, "sent", json!(sent));
    put(report, "nacked", json!(nacked));
    put(report, "written_seconds", seconds(since(written)));
    put(report, "confirmed_seconds", seconds(since(confirmed)));
    sent
}

fn backlog<W: Wire>(options: &Options) -> Result<Report, Failure> {
    let mut stage = Stage::<W>::set(options)?;
    let meter = Meter::start(options);
    let mut report = report::begin(options);
    let before = meter.resident_bytes();
    let publishing = stage::publish_only(&stage)?;
    let sent = put_published(&mut report, &publishing);
    let expected = sent * stage.copies();
    let published_seconds = publishing.start.elapsed().as_secs_f64();
    thread::sleep(options.settle);
    let waiting = stage.waiting()?;
    let full = meter.resident_bytes();
    put(
        &mut report,
        "published_per_second",
        rate(sent, published_seconds),
    );
    put(&mut report, "waiting", json!(waiting));
    put(&mut report, "resident_bytes_before", json!(before));
    put(&mut report, "resident_bytes_full", json!(full));
    if let (Some(before), Some(full)) = (before, full)
        && expected > 0
    {
        let each = full.saturating_sub(before) as f64 / expected as f64;
        put(
            &mut report,
            "resident_bytes_per_message",
            json!(each.round()),
        );
    }
    let refused: usize = publishing
        .published
        .iter()
        .map(|one| one.refused.len())
        .sum();
    let (start, consumed) = stage::drain(&stage, expected - refused as u64 * stage.copies())?;
    let last_at = consumed.iter().map(|one| one.last_at).max();
    let drained_seconds = last_at.map_or(0.0, |at| (at - start).as_secs_f64());
    put(&mut report, "drained_seconds", seconds(drained_seconds));
    put(
        &mut report,
        "drained_per_second",
        rate(expected, drained_seconds),
    );
    stage.clear()?;
    thread::sleep(options.settle);
    put(
        &mut report,
        "resident_bytes_drained",
        json!(meter.resident_bytes()),
    );
    put_verdict(&mut report, &stage::verdict(&publishing, consumed));
    meter.put(&mut report, sent);
    Ok(report)
}

/// Reports memory before and after, and the difference by thing.
fn put_memory(report: &mut Report, before: Option<u64>, after: Option<u64>, count: u64) {
    put(report, "resident_bytes_before", json!(before));
    put(report, "resident_bytes_after", json!(after));
    if let (Some(before), Some(after)) = (before, after)
        && count > 0
    {
        let each = after.saturating_sub(before) as f64 / count as f64;
        put(report, "resident_bytes_each", json!(each.round()));
    }
}

fn connections<W: Wire>(options: &Options) -> Result<Report, Failure> {
    let count = options.count.unwrap_or(0);
    let meter = Meter::start(options);
    let before = meter.resident_bytes();
    let start = Instant::now();
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(W::open(&options.target, IDLE_INBOX_BYTES)?);
    }
    let opened_seconds = start.elapsed().as_secs_f64();
    thread::sleep(options.settle);
    let after = meter.resident_bytes();
    let mut report = report::begin(options);
    put(&mut report, "count", json!(count));
    put(
        &mut report,
        "opened_per_second",
        rate(count, opened_seconds),
    );
    put_memory(&mut report, before, after, count);
    let start = Instant::now();
    for connection in open {
        connection.close()?;
    }
    let closed_seconds = start.elapsed().as_secs_f64();
    put(
        &mut report,
        "closed_per_second",
        rate(count, closed_seconds),
    );
    thread::sleep(options.settle);
    put(
        &mut report,
        "resident_bytes_closed",
        json!(meter.resident_bytes()),
    );
    meter.put(&mut report, count);
    Ok(report)
}

fn only_queues(count: u32) -> Topology {
    Topology {
        exchange: None,
        queues: stage::queues(stage::run_number(), count),
    }
}

fn queues<W: Wire>(options: &Options) -> Result<Report, Failure> {
    let count = options.count.unwrap_or(0);
    let mut control = W::open(&options.target, IDLE_INBOX_BYTES)?;
    let queues = u32::try_from(count)?;
    let topology = only_queues(queues);
    let meter = Meter::start(options);
    let before = meter.resident_bytes();
    let start = Instant::now();
    control.declare(&topology, options)?;
    let declared_seconds = start.elapsed().as_secs_f64();
    thread::sleep(options.settle);
    let after = meter.resident_bytes();
    let mut report = report::begin(options);
    put(&mut report, "count", json!(count));
    put(
        &mut report,
        "declared_per_second",
        rate(count, declared_seconds),
    );
    put_memory(&mut report, before, after, count);
    let start = Instant::now();
    if control.delete(&topology)? {
        let deleted_seconds = start.elapsed().as_secs_f64();
        put(
            &mut report,
            "deleted_per_second",
            rate(count, deleted_seconds),
        );
    }
    control.close()?;
    meter.put(&mut report, count);
    Ok(report)
}

/// `--producers` threads connect and close in a loop.
fn churn<W: Wire>(options: &Options) -> Result<Report, Failure> {
    let meter = Meter::start(options);
    let before = meter.resident_bytes();
    let mut control = W::open(&options.target, IDLE_INBOX_BYTES)?;
    let topology = only_queues(1);
    control.declare(&topology, options)?;
    let queue = Destination::Queue(topology.queues[0].clone(), options.arguments.clone());
    let start = Instant::now();
    let deadline = start + options.publish_time;
    let count_max = options.count.unwrap_or(u64::MAX);
    let threads: Vec<_> = (0..options.producers)
        .map(|_| {
            let (options, queue) = (options.clone(), queue.clone());
            thread::spawn(move || -> Result<Vec<u64>, Failure> {
                let mut took_ns = Vec::new();
                while Instant::now() < deadline && (took_ns.len() as u64) < count_max {
                    let begun = Instant::now();
                    one_connection::<W>(&options, &queue)?;
                    took_ns.push(begun.elapsed().as_nanos() as u64);
                }
                Ok(took_ns)
            })
        })
        .collect();
    let mut took_ns = Vec::new();
    for thread in threads {
        took_ns.extend(thread.join().expect("no panic in a loop of connections")?);
    }
    let elapsed = start.elapsed().as_secs_f64();
    let count = took_ns.len() as u64;
    control.delete(&topology)?;
    control.close()?;
    thread::sleep(options.settle.min(Duration::from_secs(5)));
    let mut report = report::begin(options);
    put(&mut report, "count", json!(count));
    put(&mut report, "connections_per_second", rate(count, elapsed));
    put(&mut report, "connection_us", percentiles(&mut took_ns));
    put_memory(&mut report, before, meter.resident_bytes(), count);
    meter.put(&mut report, count);
    Ok(report)
}

/// Connect, log in, perhaps publish once with a confirm, close.
fn one_connection<W: Wire>(options: &Options, queue: &Destination) -> Result<(), Failure> {
    let mut wire = W::open(&options.target, IDLE_INBOX_BYTES)?;
    if options.churn_publish {
        wire.expect_confirms()?;
        let message = Outgoing {
            destination: queue,
            persistent: options.persistent,
            confirmed: true,
            body: &filler(options.body_bytes),
        };
        let mut out = Vec::new();
        W::publish(&mut out, &message);
        let deadline = Instant::now() + options.drain;
        wire.link().send(&out, deadline)?;
        let mut confirmed = false;
        while !confirmed {
            if !wire.link().receive()? && Instant::now() > deadline {
                return Err("a publish unconfirmed".into());
            }
            wire.confirms(|_| {
                confirmed = true;
                Ok(())
            })?;
        }
    }
    wire.close()
}
