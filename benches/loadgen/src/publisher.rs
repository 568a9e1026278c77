//! One producer: a connection, a thread, and a train of publish frames encoded beforehand.
//!
//! All publish frames of a producer have one length, so a send patches the sequence numbers (and times) of the next few in
//! place and writes them with one system call. With confirms, a read follows when the window is full; the window opens as
//! confirms come, and what it lets through goes out in one write: the batch is as large as the server makes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::body::{STAMP_BYTES, STAMP_TIMES_BYTES, Stamp, filler};
use crate::entities::{Draw, digits};
use crate::link::Failure;
use crate::process::sharpen_timers;
use crate::progress::Progress;
use crate::wire::{Confirm, Destination, Outgoing, Wire, why_closed};

/// About how much one write carries when nothing else limits it.
const TRAIN_BYTES: usize = 64 * 1024;
/// Without confirms nothing is awaited; one look in so many writes still finds out that the server closed.
const WRITES_BETWEEN_READS: u32 = 64;
/// A paced producer sleeps until so long before the next message is due, and spends the rest awake. On a virtual
/// machine a processor takes about as long to wake up, and would be late by it, with each message, before the server
/// under load had anything to do with it.
const AWAKE_BEFORE_DUE: Duration = Duration::from_micros(30);

/// What one producer is to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) run: u32,
    pub(crate) producer: u32,
    /// Message `n` goes to `destinations[(producer + n) % destinations.len()]`. All of one length.
    pub(crate) destinations: Vec<Destination>,
    /// With a destination that is for entities: which one each message is of.
    pub(crate) entities: Option<Draw>,
    pub(crate) body_bytes: usize,
    pub(crate) persistent: bool,
    /// 0: no confirms.
    pub(crate) confirm_window: u64,
    pub(crate) count_max: u64,
    pub(crate) start: Instant,
    pub(crate) publish_time: Duration,
    pub(crate) drain: Duration,
    /// Open loop: message `n` is due at `start + first + n * every`, whatever the server does.
    pub(crate) pace: Option<Pace>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) first: Duration,
    pub(crate) every_ns: f64,
    /// Nothing before this is counted.
    pub(crate) warmup: Duration,
}

impl Pace {
    /// When message `sequence` is due, in nanoseconds after the start.
    fn due_ns(self, sequence: u64) -> u64 {
        self.first.as_nanos() as u64 + (sequence as f64 * self.every_ns) as u64
    }

    /// How many messages are due until `now_ns`.
    fn due_count(self, now_ns: u64) -> u64 {
        match now_ns.checked_sub(self.first.as_nanos() as u64) {
            None => 0,
            Some(since) => (since as f64 / self.every_ns) as u64 + 1,
        }
    }
}

/// What one producer did.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) sent: u64,
    /// Sequence numbers that the server nacked.
    pub(crate) refused: Vec<u64>,
    /// When the last message was written, and (with confirms) when the last confirm had come.
    pub(crate) written_at: Instant,
    pub(crate) confirmed_at: Instant,
    /// Paced only: how late each message was written, and when it was confirmed, from its due time.
    pub(crate) lag_ns: Vec<u64>,
    pub(crate) confirm_ns: Vec<u64>,
}

/// Publish frames for `slots` messages, all of `stride` bytes.
struct Train {
    bytes: Vec<u8>,
    stride: usize,
    slots: u64,
    /// Where in a slot the body begins.
    body: usize,
}

impl Train {
    fn new<W: Wire>(plan: &Plan) -> Train {
        let mut body = filler(plan.body_bytes);
        body[..STAMP_BYTES.max(STAMP_TIMES_BYTES.min(plan.body_bytes))].fill(0);
        let mut one = Vec::new();
        let publish = |out: &mut Vec<u8>, destination: &Destination| {
            let message = Outgoing {
                destination,
                persistent: plan.persistent,
                confirmed: plan.confirm_window > 0,
                body: &body,
            };
            W::publish(out, &message);
        };
        publish(&mut one, &plan.destinations[0]);
        let stride = one.len();
        let count = plan.destinations.len();
        let slots = (TRAIN_BYTES / stride).max(1).next_multiple_of(count);
        let mut bytes = Vec::with_capacity(slots * stride);
        for slot in 0..slots {
            let turn = (plan.producer as usize + slot) % count;
            publish(&mut bytes, &plan.destinations[turn]);
        }
        assert_eq!(bytes.len(), slots * stride, "destinations of one length");
        Train {
            bytes,
            stride,
            slots: slots as u64,
            body: W::body_at(stride, plan.body_bytes),
        }
    }

    /// How many messages from `sequence` on can go out in one write.
    fn contiguous(&self, sequence: u64) -> u64 {
        self.slots - sequence % self.slots
    }

    /// The frames of `count` messages from `sequence` on, stamped; they are written `now_ns` after the start.
    fn stamped<W: Wire>(&mut self, plan: &Plan, sequence: u64, count: u64, now_ns: u64) -> &[u8] {
        let first = (sequence % self.slots) as usize * self.stride;
        let bytes = &mut self.bytes[first..first + count as usize * self.stride];
        for (sequence, frames) in (sequence..).zip(bytes.chunks_exact_mut(self.stride)) {
            W::number(frames, self.body, sequence);
            if let (Some(draw), Destination::Entities(exchange)) =
                (plan.entities, &plan.destinations[0])
            {
                let entity = draw.entity(plan.producer, sequence);
                W::entity(frames, exchange, digits(entity));
            }
            let body = &mut frames[self.body..];
            let stamp = Stamp {
                run: plan.run,
                producer: plan.producer,
                sequence,
            };
            stamp.write(body);
            if let Some(pace) = plan.pace {
                let (due, written) = body[STAMP_BYTES..STAMP_TIMES_BYTES].split_at_mut(8);
                due.copy_from_slice(&pace.due_ns(sequence).to_be_bytes());
                written.copy_from_slice(&now_ns.to_be_bytes());
            }
        }
        bytes
    }
}

/// Unconfirmed publishes. Tag `n + 1` is sequence number `n`.
#[derive(Debug, Default)]
struct Window {
    /// The lowest sequence number that is not confirmed.
    base: u64,
    /// Whether each one from `base` on is confirmed.
    settled: VecDeque<bool>,
    outstanding: u64,
}

impl Window {
    fn sent(&mut self, count: u64) {
        self.settled
            .extend(std::iter::repeat_n(false, count as usize));
        self.outstanding += count;
    }

    /// Handles a confirm; calls `each` with every sequence number that it settles.
    fn settle(&mut self, confirm: Confirm, mut each: impl FnMut(u64)) -> Result<(), Failure> {
        let Confirm { tag, multiple, .. } = confirm;
        let end = self.base + self.settled.len() as u64;
        if tag > end || (tag == 0 && !multiple) {
            return Err(format!("the server confirmed tag {tag}, which was not sent").into());
        }
        // Tag 0 with `multiple` stands for all that were sent.
        let last = if tag == 0 { end } else { tag };
        let first = if multiple { self.base + 1 } else { tag };
        if last <= self.base && !multiple {
            return Err(format!("the server confirmed tag {tag} again").into());
        }
        for tag in first..=last {
            let settled = &mut self.settled[(tag - 1 - self.base) as usize];
            if !*settled {
                *settled = true;
                self.outstanding -= 1;
                each(tag - 1);
            } else if !multiple {
                return Err(format!("the server confirmed tag {tag} again").into());
            }
        }
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.base += 1;
        }
        Ok(())
    }
}

/// A producer at work.
pub(crate) struct Publisher<W> {
    wire: W,
    plan: Plan,
    train: Train,
    window: Window,
    sent: u64,
    refused: Vec<u64>,
    lag_ns: Vec<u64>,
    confirm_ns: Vec<u64>,
    progress: Arc<Progress>,
}

impl<W: Wire> Publisher<W> {
    /// Prepares everything that is not to be measured.
    pub(crate) fn new(mut wire: W, plan: Plan, progress: Arc<Progress>) -> Result<Self, Failure> {
        if plan.confirm_window > 0 {
            wire.expect_confirms()?;
        }
        Ok(Publisher {
            wire,
            train: Train::new::<W>(&plan),
            plan,
            window: Window::default(),
            sent: 0,
            refused: Vec::new(),
            lag_ns: Vec::new(),
            confirm_ns: Vec::new(),
            progress,
        })
    }

    /// Publishes until time or count are up, waits for the confirms and closes.
    pub(crate) fn run(mut self) -> Result<Published, Failure> {
        sharpen_timers();
        let deadline = self.plan.start + self.plan.publish_time;
        let mut writes = 0u32;
        std::thread::sleep(self.plan.start.saturating_duration_since(Instant::now()));
        while self.sent < self.plan.count_max && Instant::now() < deadline {
            let count = self.allowed();
            if count == 0 {
                self.wait(deadline)?;
                continue;
            }
            let now_ns = self.plan.start.elapsed().as_nanos() as u64;
            let bytes = self
                .train
                .stamped::<W>(&self.plan, self.sent, count, now_ns);
            let patience = deadline + self.plan.drain;
            if let Err(failure) = self.wire.link().send(bytes, patience) {
                return Err(why_closed(&mut self.wire, failure));
            }
            if let Some(pace) = self.plan.pace {
                for sequence in self.sent..self.sent + count {
                    let due_ns = pace.due_ns(sequence);
                    if due_ns >= pace.warmup.as_nanos() as u64 {
                        self.lag_ns.push(now_ns.saturating_sub(due_ns));
                    }
                }
            }
            self.sent += count;
            self.progress.sent.fetch_add(count, Ordering::Relaxed);
            if self.plan.confirm_window > 0 {
                self.window.sent(count);
            }
            writes += 1;
            if writes.is_multiple_of(WRITES_BETWEEN_READS)
                && self.wire.link().wait_readable(Duration::ZERO)
            {
                self.wire.link().receive()?;
                self.handle_confirms()?;
            }
        }
        let written_at = Instant::now();
        while self.window.outstanding > 0 {
            if Instant::now() > written_at + self.plan.drain {
                return Err(format!("{} publishes unconfirmed", self.window.outstanding).into());
            }
            self.wire.link().receive()?;
            self.handle_confirms()?;
        }
        let confirmed_at = Instant::now();
        self.wire.close()?;
        Ok(Published {
            sent: self.sent,
            refused: self.refused,
            written_at,
            confirmed_at,
            lag_ns: self.lag_ns,
            confirm_ns: self.confirm_ns,
        })
    }

    /// How many messages may be written now.
    fn allowed(&self) -> u64 {
        let mut count = self.train.contiguous(self.sent);
        count = count.min(self.plan.count_max - self.sent);
        if self.plan.confirm_window > 0 {
            count = count.min(self.plan.confirm_window - self.window.outstanding);
        }
        if let Some(pace) = self.plan.pace {
            let now_ns = self.plan.start.elapsed().as_nanos() as u64;
            count = count.min(pace.due_count(now_ns).saturating_sub(self.sent));
        }
        count
    }

    /// Waits for what keeps us from writing: the next due time, or confirms.
    fn wait(&mut self, deadline: Instant) -> Result<(), Failure> {
        let window_full =
            self.plan.confirm_window > 0 && self.window.outstanding >= self.plan.confirm_window;
        if let Some(pace) = self.plan.pace
            && !window_full
        {
            let due = self.plan.start + Duration::from_nanos(pace.due_ns(self.sent));
            let wait = due
                .min(deadline)
                .saturating_duration_since(Instant::now())
                .saturating_sub(AWAKE_BEFORE_DUE);
            if wait.is_zero() || !self.wire.link().wait_readable(wait) {
                return Ok(());
            }
        }
        self.wire.link().receive()?;
        self.handle_confirms()
    }

    fn handle_confirms(&mut self) -> Result<(), Failure> {
        let now_ns = self.plan.start.elapsed().as_nanos() as u64;
        let pace = self.plan.pace;
        let (window, refused) = (&mut self.window, &mut self.refused);
        let confirm_ns = &mut self.confirm_ns;
        self.wire.confirms(|confirm| {
            window.settle(confirm, |sequence| {
                if confirm.refused {
                    refused.push(sequence);
                } else if let Some(pace) = pace
                    && pace.due_ns(sequence) >= pace.warmup.as_nanos() as u64
                {
                    confirm_ns.push(now_ns.saturating_sub(pace.due_ns(sequence)));
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(body_bytes: usize, queues: &[&str]) -> Plan {
        Plan {
            run: 1,
            producer: 2,
            destinations: queues
                .iter()
                .map(|&queue| Destination::Queue(queue.to_owned(), Vec::new()))
                .collect(),
            entities: None,
            body_bytes,
            persistent: false,
            confirm_window: 10,
            count_max: 10,
            start: Instant::now(),
            publish_time: Duration::ZERO,
            drain: Duration::ZERO,
            pace: None,
        }
    }

    /// Each frame but for its body must be what the protocol writes for the queue whose turn it is, and its number.
    fn the_train_carries_numbers<W: Wire>() {
        for body_bytes in [16, 24, 1000, 200_000] {
            let plan = plan(body_bytes, &["a", "b", "c"]);
            let mut train = Train::new::<W>(&plan);
            let (stride, body_at) = (train.stride, train.body);
            let mut sequence = 0;
            while sequence < 2 * train.slots + 1 {
                let count = train.contiguous(sequence).min(7);
                let bytes = train.stamped::<W>(&plan, sequence, count, 0);
                assert_eq!(bytes.len(), count as usize * stride);
                for (number, frames) in (sequence..).zip(bytes.chunks_exact(stride)) {
                    let stamp = Stamp::read(&frames[body_at..]).expect("stamp");
                    assert_eq!((stamp.sequence, stamp.producer), (number, 2));
                    let mut body = filler(body_bytes);
                    body[16..STAMP_TIMES_BYTES.min(body_bytes).max(16)].fill(0);
                    stamp.write(&mut body);
                    let message = Outgoing {
                        destination: &plan.destinations[(number as usize + 2) % 3],
                        persistent: false,
                        confirmed: true,
                        body: &body,
                    };
                    let mut expected = Vec::new();
                    W::publish(&mut expected, &message);
                    W::number(&mut expected, body_at, number);
                    assert!(frames == expected, "message {number} of {body_bytes} bytes");
                }
                sequence += count;
            }
        }
    }

    #[test]
    fn messages_carry_their_number_and_go_to_the_queues_in_turn() {
        the_train_carries_numbers::<crate::wire::amqp::Amqp>();
        the_train_carries_numbers::<crate::wire::stomp::Stomp>();
    }

    fn confirm(tag: u64, multiple: bool) -> Confirm {
        Confirm {
            tag,
            multiple,
            refused: false,
        }
    }

    #[test]
    fn a_window_opens_as_confirms_come_in_any_order() {
        let mut window = Window::default();
        window.sent(5);
        let mut seen = Vec::new();
        window
            .settle(confirm(2, false), |n| seen.push(n))
            .expect("sent");
        assert_eq!((window.base, window.outstanding), (0, 4));
        window
            .settle(confirm(3, true), |n| seen.push(n))
            .expect("sent");
        assert_eq!((window.base, window.outstanding), (3, 2));
        window
            .settle(confirm(0, true), |n| seen.push(n))
            .expect("all");
        assert_eq!((window.base, window.outstanding), (5, 0));
        assert_eq!(seen, [1, 0, 2, 3, 4]);
    }

    #[test]
    fn confirms_of_what_was_not_sent_and_second_ones_are_errors() {
        let mut window = Window::default();
        window.sent(3);
        assert!(window.settle(confirm(4, false), |_| ()).is_err());
        assert!(window.settle(confirm(0, false), |_| ()).is_err());
        window.settle(confirm(1, false), |_| ()).expect("sent");
        assert!(window.settle(confirm(1, false), |_| ()).is_err());
        window.settle(confirm(3, false), |_| ()).expect("sent");
        assert!(window.settle(confirm(3, false), |_| ()).is_err());
    }

    #[test]
    fn the_pace_counts_what_is_due() {
        let pace = Pace {
            first: Duration::from_nanos(50),
            every_ns: 100.0,
            warmup: Duration::ZERO,
        };
        assert_eq!(pace.due_count(49), 0);
        assert_eq!(pace.due_count(50), 1);
        assert_eq!(pace.due_count(249), 2);
        assert_eq!(pace.due_ns(2), 250);
    }
}
