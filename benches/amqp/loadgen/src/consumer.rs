//! One consumer connection: consumes from its queues on one channel, counts by scanning frames, acknowledges.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::connection::{CHANNEL, Connection, Failure, READ_TICK, refuse_close};
use crate::run::{Progress, filler};
use crate::tally::{STAMP_BYTES, STAMP_TIMES_BYTES, Shape, Stamp, Tally};
use crate::wire::{self, Fields, Frame};

/// The whole body is compared only for every so many sequence numbers.
const COMPARED_EVERY: u64 = 64;
/// After the last message a consumer listens on for doubles, until this long nothing came.
const QUIET: Duration = READ_TICK;
/// And at most this long.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(1);

/// What one consumer connection is to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    /// Index and name of each queue to consume from.
    pub(crate) queues: Vec<(u32, String)>,
    pub(crate) prefetch: u16,
    /// 0: automatic acknowledgement.
    pub(crate) ack_every: u64,
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

/// The delivery that is being received.
#[derive(Debug, Default)]
struct Arriving {
    queue: u32,
    redelivered: bool,
    stamp: Option<Stamp>,
    body_bytes: u64,
    received_bytes: u64,
}

/// A consumer at work.
pub(crate) struct Consumer {
    connection: Connection,
    plan: Plan,
    counter: Counter,
    progress: Arc<Progress>,
}

/// What is done with each frame; apart from the connection, whose buffer the frames borrow.
struct Counter {
    tally: Tally,
    arriving: Arriving,
    body_bytes: u64,
    filler: Vec<u8>,
    ack_every: u64,
    latency_after_ns: Option<u64>,
    latency_ns: Vec<u64>,
    since_written_ns: Vec<u64>,
    now_ns: u64,
    last_tag: u64,
    unacked: u64,
    acks: Vec<u8>,
}

impl Consumer {
    /// Declares its wish to the server; deliveries may come from now on.
    pub(crate) fn new(
        mut connection: Connection,
        plan: Plan,
        progress: Arc<Progress>,
    ) -> Result<Consumer, Failure> {
        connection.call(CHANNEL, wire::BASIC_QOS, wire::BASIC_QOS_OK, |out| {
            out.extend_from_slice(&0u32.to_be_bytes());
            out.extend_from_slice(&plan.prefetch.to_be_bytes());
            out.push(0);
        })?;
        for (index, name) in &plan.queues {
            // Without a reply: replies would come mixed with deliveries. The tag is the queue's index.
            connection.request(CHANNEL, wire::BASIC_CONSUME, |out| {
                out.extend_from_slice(&[0, 0]);
                wire::short(out, name);
                wire::short(out, &index.to_string());
                let no_ack = u8::from(plan.ack_every == 0) << 1;
                out.push(no_ack | 1 << 3);
                wire::table(out, &[]);
            })?;
        }
        let counter = Counter {
            tally: Tally::new(plan.shape),
            arriving: Arriving::default(),
            body_bytes: plan.body_bytes as u64,
            filler: filler(plan.body_bytes),
            ack_every: plan.ack_every,
            latency_after_ns: plan.latency_after.map(|after| after.as_nanos() as u64),
            latency_ns: Vec::new(),
            since_written_ns: Vec::new(),
            now_ns: 0,
            last_tag: 0,
            unacked: 0,
            acks: Vec::new(),
        };
        Ok(Consumer {
            connection,
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
        loop {
            let before = self.counter.tally.received;
            let came = self.connection.receive()?;
            let now = Instant::now();
            if came {
                self.counter.now_ns =
                    now.saturating_duration_since(self.plan.start).as_nanos() as u64;
                while let Some(frame) = self.connection.inbox.next()? {
                    self.counter.frame(frame)?;
                }
                let received = self.counter.tally.received - before;
                if received > 0 {
                    last_at = now;
                    self.progress
                        .received
                        .fetch_add(received, Ordering::Relaxed);
                }
                self.send_acks()?;
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
        if self.counter.unacked > 0 {
            wire::ack(&mut self.counter.acks, CHANNEL, self.counter.last_tag, true);
            self.send_acks()?;
        }
        self.connection.close()?;
        Ok(Consumed {
            tally: self.counter.tally,
            last_at,
            latency_ns: self.counter.latency_ns,
            since_written_ns: self.counter.since_written_ns,
        })
    }

    fn send_acks(&mut self) -> Result<(), Failure> {
        if !self.counter.acks.is_empty() {
            let deadline = Instant::now() + self.plan.drain.max(QUIET);
            self.connection.send(&self.counter.acks, deadline)?;
            self.counter.acks.clear();
        }
        Ok(())
    }
}

impl Counter {
    #[inline]
    fn frame(&mut self, frame: Frame<'_>) -> Result<(), Failure> {
        match frame.kind {
            wire::KIND_METHOD => self.method(Fields(frame.payload)),
            wire::KIND_HEADER => {
                let mut fields = Fields(frame.payload);
                fields.u32()?; // class and weight
                self.arriving.body_bytes = fields.u64()?;
                if self.arriving.body_bytes == 0 {
                    self.arrived();
                }
                Ok(())
            }
            wire::KIND_BODY => {
                self.body(frame.payload);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn method(&mut self, mut fields: Fields<'_>) -> Result<(), Failure> {
        let id = fields.method_id()?;
        if id != wire::BASIC_DELIVER {
            if id == wire::BASIC_CANCEL {
                return Err("the server cancelled a consumer".into());
            }
            return refuse_close(id, fields);
        }
        let mut queue = 0u32;
        for digit in fields.short()? {
            queue = queue * 10 + u32::from(digit.wrapping_sub(b'0') % 10);
        }
        self.last_tag = fields.u64()?;
        self.arriving = Arriving {
            queue,
            redelivered: fields.u8()? & 1 == 1,
            ..Arriving::default()
        };
        Ok(())
    }

    #[inline]
    fn body(&mut self, part: &[u8]) {
        let arriving = &mut self.arriving;
        if arriving.received_bytes == 0 {
            arriving.stamp = Stamp::read(part);
            if let (Some(after), Some(head)) = (
                self.latency_after_ns,
                part.first_chunk::<STAMP_TIMES_BYTES>(),
            ) {
                let time =
                    |at: usize| u64::from_be_bytes(std::array::from_fn(|index| head[at + index]));
                let due_ns = time(STAMP_BYTES);
                if due_ns >= after {
                    self.latency_ns.push(self.now_ns.saturating_sub(due_ns));
                    let written_ns = time(STAMP_BYTES + 8);
                    self.since_written_ns
                        .push(self.now_ns.saturating_sub(written_ns));
                }
            }
            let compared = arriving
                .stamp
                .is_some_and(|stamp| stamp.sequence % COMPARED_EVERY == 0);
            let end = part.len().min(self.filler.len());
            let from = STAMP_TIMES_BYTES.min(end);
            if compared && part[from..end] != self.filler[from..end] {
                self.tally.damaged += 1;
            }
        }
        arriving.received_bytes += part.len() as u64;
        if arriving.received_bytes >= arriving.body_bytes {
            self.arrived();
        }
    }

    #[inline]
    fn arrived(&mut self) {
        let arriving = &self.arriving;
        if arriving.received_bytes != self.body_bytes || arriving.body_bytes != self.body_bytes {
            self.tally.damaged += 1;
        }
        self.tally
            .record(arriving.queue, arriving.redelivered, arriving.stamp);
        if self.ack_every > 0 {
            self.unacked += 1;
            if self.unacked == self.ack_every {
                self.unacked = 0;
                wire::ack(&mut self.acks, CHANNEL, self.last_tag, self.ack_every > 1);
            }
        }
    }
}

const _: () = assert!(STAMP_TIMES_BYTES > STAMP_BYTES);
