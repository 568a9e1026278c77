//! One consumer connection: consumes from its queues, counts by scanning frames, acknowledges.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::counter::Counter;
use crate::entities::{Entities, Hands};
use crate::link::{Failure, READ_TICK};
use crate::options::Value;
use crate::progress::Progress;
use crate::tally::{Shape, Tally};
use crate::wire::{Subscription, Wire};

/// After the last message a consumer listens on for doubles, until this long nothing came.
const QUIET: Duration = READ_TICK;
/// And at most this long.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(1);

/// What one consumer connection is to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    /// Of a fan-out.
    pub(crate) exchange: Option<String>,
    /// Where messages are updates of entities: all of them, and this consumer's number.
    pub(crate) entities: Option<(Arc<Entities>, u32)>,
    /// Index and name of each queue to consume from.
    pub(crate) queues: Vec<(u32, String)>,
    pub(crate) arguments: Vec<(String, Value)>,
    pub(crate) prefetch: u16,
    /// 0: automatic acknowledgement.
    pub(crate) ack_every: u64,
    /// No acknowledgement stands for those before it.
    pub(crate) individual: bool,
    pub(crate) body_bytes: usize,
    pub(crate) start: Instant,
    pub(crate) drain: Duration,
    /// The body carries its due time; latencies of what was due after this are kept.
    pub(crate) latency_after: Option<Duration>,
}

/// What one consumer connection got.
#[derive(Debug)]
pub(crate) struct Consumed {
    pub(crate) tally: Tally,
    pub(crate) last_at: Instant,
    /// From when it was due, and from when it was written.
    pub(crate) latency_ns: Vec<u64>,
    pub(crate) since_written_ns: Vec<u64>,
}

/// A consumer at work.
pub(crate) struct Consumer<W> {
    wire: W,
    plan: Plan,
    counter: Counter,
    progress: Arc<Progress>,
}

impl<W: Wire> Consumer<W> {
    /// Declares its wish to the server; deliveries may come from now on.
    pub(crate) fn new(mut wire: W, plan: Plan, progress: Arc<Progress>) -> Result<Self, Failure> {
        wire.consume(&Subscription {
            exchange: plan.exchange.as_deref(),
            queues: &plan.queues,
            arguments: &plan.arguments,
            prefetch: plan.prefetch,
            ack_every: plan.ack_every,
            individual: plan.individual,
        })?;
        let hands = plan
            .entities
            .clone()
            .map(|(entities, number)| Hands::new(entities, number));
        let counter = Counter::new(plan.shape, plan.body_bytes, plan.latency_after, hands);
        Ok(Consumer {
            wire,
            plan,
            counter,
            progress,
        })
    }

    /// Consumes until all that was sent has come, or nothing comes any more.
    pub(crate) fn run(mut self) -> Result<Consumed, Failure> {
        let mut last_at = self.plan.start;
        let mut total_seen = 0;
        let mut total_changed_at = Instant::now();
        let mut complete_at = None;
        let patience = self.plan.drain.max(QUIET);
        loop {
            let before = self.counter.tally.received;
            let came = self.wire.link().receive()?;
            let now = Instant::now();
            if came {
                self.counter.now_ns =
                    now.saturating_duration_since(self.plan.start).as_nanos() as u64;
                self.wire.deliveries(&mut self.counter)?;
                let received = self.counter.tally.received - before;
                if received > 0 {
                    last_at = now;
                    self.progress
                        .received
                        .fetch_add(received, Ordering::Relaxed);
                }
                self.wire.acknowledge(false, now + patience)?;
            } else {
                // Few are left, and they may wait for the entities that are held here.
                self.acknowledge_all(now + patience)?;
            }
            let total = self.progress.received.load(Ordering::Relaxed);
            if total != total_seen {
                (total_seen, total_changed_at) = (total, now);
            }
            let stalled = || now.saturating_duration_since(total_changed_at) > self.plan.drain;
            // Acquire: pairs with the Release in `Progress::publishing_ended`, though only the number itself is used.
            let expected = self.progress.expected.load(Ordering::Acquire);
            if total >= expected {
                let complete_at = *complete_at.get_or_insert(now);
                if !came || now > complete_at + QUIET_WAIT_MAX {
                    break;
                }
            } else if expected != u64::MAX && stalled() {
                break;
            }
        }
        self.acknowledge_all(Instant::now() + patience)?;
        self.wire.close()?;
        Ok(Consumed {
            latency_ns: std::mem::take(&mut self.counter.latency_ns),
            since_written_ns: std::mem::take(&mut self.counter.since_written_ns),
            tally: self.counter.into_tally(),
            last_at,
        })
    }

    fn acknowledge_all(&mut self, deadline: Instant) -> Result<(), Failure> {
        self.counter.acknowledging();
        self.wire.acknowledge(true, deadline)
    }
}
