//! A run: its queues, its producers and consumers, and the verdict over what they sent and got.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::consumer::{self, Consumed, Consumer};
use crate::entities::{Draw, Entities};
use crate::link::{Failure, INBOX_BYTES};
use crate::options::{COUNT_MAX, Mode, Options};
use crate::progress::Progress;
use crate::publisher::{self, Pace, Published, Publisher};
use crate::tally::{Shape, Verdict};
use crate::wire::{Destination, Exchange, Topology, Wire};

/// A long setup (queues, connections) comes between reading the clock and the first publish.
const HEAD_START: Duration = Duration::from_millis(20);

/// A run's queues, declared on the server; deleted by [`Stage::clear`].
pub(crate) struct Stage<'a, W> {
    options: &'a Options,
    control: W,
    run: u32,
    topology: Topology,
}

/// Everything that was published.
pub(crate) struct Publishing {
    pub(crate) published: Vec<Published>,
    pub(crate) start: Instant,
    /// The part that counts: from behind the warm-up to the end of publishing.
    pub(crate) window: Window,
}

/// Counters at both ends of the part that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) seconds: f64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl<'a, W: Wire> Stage<'a, W> {
    /// Declares queues (and the exchange of a fan-out) under names that no other run has.
    pub(crate) fn set(options: &'a Options) -> Result<Self, Failure> {
        let mut control = W::open(&options.target, INBOX_BYTES)?;
        let run = run_number();
        let topology = topology(run, options);
        control.declare(&topology, options)?;
        Ok(Stage {
            options,
            control,
            run,
            topology,
        })
    }

    /// How many messages wait in the queues, by the server's word; None if it has none.
    pub(crate) fn waiting(&mut self) -> Result<Option<u64>, Failure> {
        self.control.waiting(&self.topology.queues)
    }

    fn shape(&self) -> Shape {
        Shape {
            run: self.run,
            producers: self.options.producers,
            queues: self.options.queues,
            fanout: self.options.fanout,
            by_entity: self.options.entities > 0,
            count_max: COUNT_MAX,
        }
    }

    /// How many deliveries come of `sent` messages.
    pub(crate) fn copies(&self) -> u64 {
        if self.options.fanout {
            u64::from(self.options.queues)
        } else {
            1
        }
    }

    /// Starts the producers, waits for their end and tells the consumers how much must come.
    pub(crate) fn publish(&self, progress: &Arc<Progress>) -> Result<Publishing, Failure> {
        let options = self.options;
        let mut connections = Vec::new();
        for _ in 0..options.producers {
            connections.push(W::open(&options.target, INBOX_BYTES)?);
        }
        let start = progress_start(connections.len());
        let mut publishers = Vec::new();
        for (producer, connection) in (0..).zip(connections) {
            let plan = self.publisher_plan(producer, start);
            publishers.push(Publisher::new(connection, plan, Arc::clone(progress))?);
        }
        let (ended, ends) = mpsc::channel();
        let threads: Vec<JoinHandle<Result<Published, Failure>>> = publishers
            .into_iter()
            .map(|publisher| {
                let ended = ended.clone();
                thread::spawn(move || {
                    let published = publisher.run();
                    // Nobody listens any more after the deadline, which is no fault.
                    let _ = ended.send(());
                    published
                })
            })
            .collect();
        drop(ended);
        let look = || {
            (
                Instant::now(),
                progress.sent.load(Ordering::Relaxed),
                progress.received.load(Ordering::Relaxed),
            )
        };
        // With a count the warm-up is not worth its name: everything counts.
        let warmup = if options.count.is_some() {
            Duration::ZERO
        } else {
            options.warmup.min(options.publish_time / 2)
        };
        thread::sleep((start + warmup).saturating_duration_since(Instant::now()));
        let first = look();
        let deadline = start + options.publish_time;
        for _ in 0..threads.len() {
            let wait = deadline.saturating_duration_since(Instant::now());
            if ends.recv_timeout(wait).is_err() {
                break;
            }
        }
        let last = look();
        let mut published = Vec::new();
        let mut failure = None;
        for thread in threads {
            match thread.join().expect("a producer does not panic") {
                Ok(one) => published.push(one),
                Err(error) => failure = Some(error),
            }
        }
        let delivered: u64 = published
            .iter()
            .map(|one| one.sent - one.refused.len() as u64)
            .sum();
        progress.publishing_ended(delivered * self.copies());
        if let Some(failure) = failure {
            return Err(failure);
        }
        Ok(Publishing {
            published,
            start,
            window: Window {
                seconds: last.0.saturating_duration_since(first.0).as_secs_f64(),
                sent: last.1 - first.1,
                received: last.2 - first.2,
            },
        })
    }

    fn publisher_plan(&self, producer: u32, start: Instant) -> publisher::Plan {
        let options = self.options;
        let pace = (options.mode == Mode::Latency).then(|| {
            let every_ns = 1e9 * f64::from(options.producers) / options.rate;
            Pace {
                first: Duration::from_nanos((f64::from(producer) * 1e9 / options.rate) as u64),
                every_ns,
                warmup: options.warmup,
            }
        });
        publisher::Plan {
            run: self.run,
            producer,
            entities: (options.entities > 0)
                .then(|| Draw::new(options.entities, options.producers)),
            destinations: match &self.topology.exchange {
                Some(exchange) if options.entities > 0 => {
                    vec![Destination::Entities(exchange.name.clone())]
                }
                Some(exchange) => vec![Destination::Fanout(exchange.name.clone())],
                None => self
                    .topology
                    .queues
                    .iter()
                    .map(|name| Destination::Queue(name.clone(), options.arguments.clone()))
                    .collect(),
            },
            body_bytes: options.body_bytes,
            persistent: options.persistent,
            confirm_window: options.confirm_window,
            count_max: options.count.unwrap_or(COUNT_MAX),
            start,
            publish_time: options.publish_time,
            drain: options.drain,
            pace,
        }
    }

    /// Starts the consumers. `start`: from when latencies are counted; the publishing's.
    pub(crate) fn consume(
        &self,
        progress: &Arc<Progress>,
        start: Instant,
    ) -> Result<Vec<JoinHandle<Result<Consumed, Failure>>>, Failure> {
        let options = self.options;
        let entities = (options.entities > 0)
            .then(|| Arc::new(Entities::new(options.entities, options.producers)));
        let mut consumers = Vec::new();
        for number in 0..options.consumers {
            let own = |index: u32| {
                if options.consumers <= options.queues {
                    index % options.consumers == number
                } else {
                    number % options.queues == index
                }
            };
            let queues = (0..)
                .zip(&self.topology.queues)
                .filter(|&(index, _)| own(index))
                .map(|(index, name)| (index, name.clone()))
                .collect();
            let plan = consumer::Plan {
                shape: self.shape(),
                exchange: self
                    .topology
                    .exchange
                    .as_ref()
                    .filter(|_| options.fanout)
                    .map(|exchange| exchange.name.clone()),
                entities: entities.clone().map(|entities| (entities, number)),
                queues,
                arguments: options.arguments.clone(),
                prefetch: options.prefetch,
                ack_every: options.ack_every,
                individual: options.individual,
                body_bytes: options.body_bytes,
                start,
                drain: options.drain,
                latency_after: (options.mode == Mode::Latency).then_some(options.warmup),
            };
            let wire = W::open(&options.target, INBOX_BYTES)?;
            consumers.push(Consumer::new(wire, plan, Arc::clone(progress))?);
        }
        Ok(consumers
            .into_iter()
            .map(|consumer| thread::spawn(move || consumer.run()))
            .collect())
    }

    /// Deletes what was declared, where that can be done.
    pub(crate) fn clear(mut self) -> Result<(), Failure> {
        self.control.delete(&self.topology)?;
        self.control.close()
    }
}

/// Queues, and the exchange that a run may need before them.
fn topology(run: u32, options: &Options) -> Topology {
    let exchange = |kind: &str, binding_key| {
        Some(Exchange {
            name: run_name(run),
            kind: kind.to_owned(),
            binding_key,
        })
    };
    Topology {
        queues: queues(run, options.queues),
        exchange: if options.fanout {
            exchange("fanout", "")
        } else if options.entities > 0 {
            // What a consistent hash exchange takes for a queue's weight.
            exchange(&options.spread, "1")
        } else {
            None
        },
    }
}

/// That no other run has.
fn run_name(run: u32) -> String {
    format!("load{:04x}", run & 0xffff)
}

/// Names that no other run has, all of one length.
pub(crate) fn queues(run: u32, count: u32) -> Vec<String> {
    let name = run_name(run);
    let width = count.saturating_sub(1).to_string().len();
    (0..count)
        .map(|index| format!("{name}-{index:0width$}"))
        .collect()
}

/// Producers and consumers at the same time.
pub(crate) fn both<W: Wire>(stage: &Stage<'_, W>) -> Result<(Publishing, Vec<Consumed>), Failure> {
    let progress = Progress::new();
    // The consumers' clock must be the producers', who start a moment later; the difference is taken out afterwards.
    let clock = Instant::now();
    let threads = stage.consume(&progress, clock)?;
    let publishing = stage.publish(&progress);
    if publishing.is_err() {
        progress.publishing_ended(0);
    }
    let mut consumed = collect(threads)?;
    let publishing = publishing?;
    let ahead_ns = publishing.start.duration_since(clock).as_nanos() as u64;
    for consumer in &mut consumed {
        let times = consumer.latency_ns.iter_mut();
        for latency_ns in times.chain(&mut consumer.since_written_ns) {
            *latency_ns = latency_ns.saturating_sub(ahead_ns);
        }
    }
    Ok((publishing, consumed))
}

/// Producers alone.
pub(crate) fn publish_only<W: Wire>(stage: &Stage<'_, W>) -> Result<Publishing, Failure> {
    stage.publish(&Progress::new())
}

/// Consumers alone, until `expected` deliveries came.
pub(crate) fn drain<W: Wire>(
    stage: &Stage<'_, W>,
    expected: u64,
) -> Result<(Instant, Vec<Consumed>), Failure> {
    let progress = Progress::new();
    progress.publishing_ended(expected);
    let start = Instant::now();
    let threads = stage.consume(&progress, start)?;
    Ok((start, collect(threads)?))
}

fn collect(threads: Vec<JoinHandle<Result<Consumed, Failure>>>) -> Result<Vec<Consumed>, Failure> {
    let results: Vec<Result<Consumed, Failure>> = threads
        .into_iter()
        .map(|thread| thread.join().expect("a consumer does not panic"))
        .collect();
    results.into_iter().collect()
}

/// What came against what was sent.
pub(crate) fn verdict(publishing: &Publishing, consumed: Vec<Consumed>) -> Verdict {
    let sent: Vec<u64> = publishing.published.iter().map(|one| one.sent).collect();
    let refused: Vec<Vec<u64>> = publishing
        .published
        .iter()
        .map(|one| one.refused.clone())
        .collect();
    let tallies: Vec<_> = consumed.into_iter().map(|one| one.tally).collect();
    Verdict::of(&tallies, &sent, &refused)
}

fn progress_start(connections: usize) -> Instant {
    Instant::now() + HEAD_START * u32::try_from(connections).unwrap_or(1).div_ceil(10)
}

/// Differs between runs, so that nothing of another run is taken for this one's.
pub(crate) fn run_number() -> u32 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_nanos() as u32) ^ std::process::id().rotate_left(16)
}
