//! What a consumer keeps of the deliveries it gets: the tally, and latencies. Knows no protocol: a wire tells it what begins,
//! which bytes come, and when a delivery is whole.

use std::time::Duration;

use crate::body::{STAMP_BYTES, STAMP_TIMES_BYTES, Stamp, filler};
use crate::entities::Hands;
use crate::tally::{Shape, Tally};

/// The whole body is compared only for every so many sequence numbers.
const COMPARED_EVERY: u64 = 64;

/// The delivery that is being received.
#[derive(Debug, Default)]
struct Arriving {
    queue: u32,
    redelivered: bool,
    stamp: Option<Stamp>,
    received_bytes: u64,
}

/// Counts and compares deliveries.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) tally: Tally,
    /// Where messages are updates of entities.
    hands: Option<Hands>,
    /// From when it was due, and from when it was written.
    pub(crate) latency_ns: Vec<u64>,
    pub(crate) since_written_ns: Vec<u64>,
    /// When the bytes that are scanned now were received, after the start.
    pub(crate) now_ns: u64,
    arriving: Arriving,
    body_bytes: u64,
    filler: Vec<u8>,
    latency_after_ns: Option<u64>,
}

impl Counter {
    /// `latency_after`: the bodies carry their times; latencies of what was due after this are kept.
    pub(crate) fn new(
        shape: Shape,
        body_bytes: usize,
        latency_after: Option<Duration>,
        hands: Option<Hands>,
    ) -> Counter {
        Counter {
            tally: Tally::new(shape),
            hands,
            latency_ns: Vec::new(),
            since_written_ns: Vec::new(),
            now_ns: 0,
            arriving: Arriving::default(),
            body_bytes: body_bytes as u64,
            filler: filler(body_bytes),
            latency_after_ns: latency_after.map(|after| after.as_nanos() as u64),
        }
    }

    /// A delivery begins.
    #[inline]
    pub(crate) fn begin(&mut self, queue: u32, redelivered: bool) {
        self.arriving = Arriving {
            queue,
            redelivered,
            ..Arriving::default()
        };
    }

    /// The next part of its body. Returns how much of it has come.
    #[inline]
    pub(crate) fn part(&mut self, part: &[u8]) -> u64 {
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
        arriving.received_bytes
    }

    /// The delivery is whole.
    #[inline]
    pub(crate) fn arrived(&mut self) {
        let arriving = &self.arriving;
        if arriving.received_bytes != self.body_bytes {
            self.tally.damaged += 1;
        }
        let stamp = self
            .tally
            .record(arriving.queue, arriving.redelivered, arriving.stamp);
        if let (Some(hands), Some(stamp)) = (&mut self.hands, stamp) {
            hands.take(stamp, arriving.redelivered);
        }
    }

    /// All that arrived is about to be acknowledged.
    #[inline]
    pub(crate) fn acknowledging(&mut self) {
        if let Some(hands) = &mut self.hands {
            hands.let_go();
        }
    }

    /// The tally, with what was seen of entities.
    pub(crate) fn into_tally(mut self) -> Tally {
        if let Some(hands) = &self.hands {
            self.tally.add(hands);
        }
        self.tally
    }
}

const _: () = assert!(STAMP_TIMES_BYTES > STAMP_BYTES);
