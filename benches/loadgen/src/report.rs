//! Figures as JSON: one object a run.

use serde_json::{Map, Value, json};

use crate::options::Options;
use crate::process::{Usage, machine_seconds, own_processor_seconds, usage};
use crate::tally::Verdict;

pub(crate) type Report = Map<String, Value>;

/// A report that begins with what was asked for.
pub(crate) fn begin(options: &Options) -> Report {
    let mut report = Report::new();
    let mut put = |name: &str, value: Value| report.insert(name.to_owned(), value);
    let protocol = format!("{:?}", options.protocol).to_lowercase();
    put("protocol", json!(protocol));
    put("mode", json!(format!("{:?}", options.mode).to_lowercase()));
    put("producers", json!(options.producers));
    put("consumers", json!(options.consumers));
    put("queues", json!(options.queues));
    put("fanout", json!(options.fanout));
    put("entities", json!(options.entities));
    put("bytes", json!(options.body_bytes));
    put("confirms", json!(options.confirm_window));
    put("prefetch", json!(options.prefetch));
    put("ack_every", json!(options.ack_every));
    put("persistent", json!(options.persistent));
    put("durable", json!(options.durable));
    report
}

/// Three digits after the point are enough for seconds, none for rates.
pub(crate) fn seconds(value: f64) -> Value {
    json!((value * 1e6).round() / 1e6)
}

/// Things a second, or null when there was no time to measure.
pub(crate) fn rate(count: u64, seconds: f64) -> Value {
    if seconds > 0.0 {
        json!((count as f64 / seconds).round())
    } else {
        Value::Null
    }
}

pub(crate) fn put_verdict(report: &mut Report, verdict: &Verdict) {
    for (name, value) in [
        ("received", verdict.received),
        ("redelivered", verdict.redelivered),
        ("lost", verdict.lost),
        ("invented", verdict.invented),
        ("doubled", verdict.doubled),
        ("out_of_order", verdict.out_of_order),
        ("overlapping", verdict.overlapping),
        ("misrouted", verdict.misrouted),
        ("damaged", verdict.damaged),
    ] {
        report.insert(name.to_owned(), json!(value));
    }
    report.insert("clean".to_owned(), json!(verdict.is_clean()));
}

/// Percentiles in microseconds. Sorts.
pub(crate) fn percentiles(samples_ns: &mut [u64]) -> Value {
    samples_ns.sort_unstable();
    let Some(&max) = samples_ns.last() else {
        return Value::Null;
    };
    let at = |share: f64| {
        // The smallest sample that at least `share` of all are not above.
        let rank = (share * samples_ns.len() as f64).ceil().max(1.0) as usize;
        microseconds(samples_ns[rank - 1])
    };
    json!({
        "samples": samples_ns.len(),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p99_9": at(0.999),
        "max": microseconds(max),
    })
}

fn microseconds(ns: u64) -> f64 {
    (ns as f64 / 100.0).round() / 10.0
}

/// Processor time and memory from one moment to another.
pub(crate) struct Meter {
    pid: Option<u32>,
    server: Option<Usage>,
    own_seconds: f64,
    machine: Option<(f64, f64)>,
}

impl Meter {
    pub(crate) fn start(options: &Options) -> Meter {
        Meter {
            pid: options.pid,
            server: options.pid.and_then(usage),
            own_seconds: own_processor_seconds(),
            machine: machine_seconds(),
        }
    }

    /// Resident bytes now.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        self.pid.and_then(usage).map(|usage| usage.resident_bytes)
    }

    /// Reports processor time since the start, and how much each of `messages` cost the server.
    pub(crate) fn put(&self, report: &mut Report, messages: u64) {
        let own = own_processor_seconds() - self.own_seconds;
        report.insert("load_cpu_seconds".to_owned(), seconds(own));
        if let (Some(before), Some(now)) = (self.server, self.pid.and_then(usage)) {
            let used = now.processor_seconds - before.processor_seconds;
            report.insert("server_cpu_seconds".to_owned(), seconds(used));
            if messages > 0 {
                let each = json!((used * 1e9 / messages as f64).round() / 1e3);
                report.insert("server_cpu_us_per_message".to_owned(), each);
            }
            if let (Some((busy, all)), Some((busy_now, all_now))) =
                (self.machine, machine_seconds())
                && all_now > all
            {
                let others = (busy_now - busy - used - own).max(0.0) / (all_now - all);
                let share = json!((others * 100.0).round() / 100.0);
                report.insert("others_cpu_share".to_owned(), share);
            }
            let resident = json!(now.resident_bytes);
            report.insert("server_resident_bytes".to_owned(), resident);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let mut samples: Vec<u64> = (1..=1000).rev().map(|n| n * 1000).collect();
        let found = percentiles(&mut samples);
        assert_eq!(found["p50"], json!(500.0));
        assert_eq!(found["p99"], json!(990.0));
        assert_eq!(found["p99_9"], json!(999.0));
        assert_eq!(found["max"], json!(1000.0));
        assert_eq!(percentiles(&mut [7_000])["p50"], json!(7.0));
        assert_eq!(percentiles(&mut []), Value::Null);
    }
}
