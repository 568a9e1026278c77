//! What a consumer got, so that at the end nothing lost, invented, doubled or out of order goes unseen.
//!
//! Every body begins with a [`Stamp`]: which run, which producer, which sequence number. Each consumer keeps a tally of its
//! own, without sharing; at the end they are [`merged`](Verdict::of) and compared with what the producers had sent.
//!
//! - *lost*: sent (and not refused by a nack), but in no tally.
//! - *invented*: not a stamp of this run, or a sequence number that its producer never sent.
//! - *doubled*: came again without being marked as redelivered (marked ones are allowed, and counted as `redelivered`).
//! - *out of order*: on one channel and queue, behind a later one of its producer, and not redelivered. Where messages are
//!   updates of entities, behind a later one of its entity, whichever queue and consumer; and then
//! - *overlapping*: an update of an entity of which another consumer has one (`entities`).
//! - *misrouted*: delivered from another queue than the one it was published to.
//! - *damaged*: the body has another length or content.

use crate::body::Stamp;
use crate::entities::Hands;

/// What may come in this run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) run: u32,
    pub(crate) producers: u32,
    pub(crate) queues: u32,
    /// Every queue gets a copy of every message; otherwise message `n` of producer `p` goes to queue `(p + n) % queues`.
    pub(crate) fanout: bool,
    /// Order is by entity, which [`entities`](crate::entities) watches, and any queue may have a message.
    pub(crate) by_entity: bool,
    /// No producer sends more than this; a larger sequence number is invented. It bounds the memory of a tally.
    pub(crate) count_max: u64,
}

/// The deliveries of one consumer.
#[derive(Debug)]
pub(crate) struct Tally {
    shape: Shape,
    /// One bit a sequence number, for each producer (and, in a fan-out, each queue): `queue * producers + producer`.
    seen: Vec<Vec<u64>>,
    /// One more than the last sequence number by queue and producer, 0 before the first.
    next: Vec<u64>,
    /// Deliveries seen for the first time here.
    pub(crate) received: u64,
    pub(crate) redelivered: u64,
    doubled: u64,
    doubled_marked: u64,
    invented: u64,
    out_of_order: u64,
    overlapping: u64,
    misrouted: u64,
    pub(crate) damaged: u64,
}

impl Tally {
    pub(crate) fn new(shape: Shape) -> Tally {
        let pairs = shape.queues as usize * shape.producers as usize;
        let maps = if shape.fanout {
            pairs
        } else {
            shape.producers as usize
        };
        Tally {
            shape,
            seen: vec![Vec::new(); maps],
            next: vec![0; pairs],
            received: 0,
            redelivered: 0,
            doubled: 0,
            doubled_marked: 0,
            invented: 0,
            out_of_order: 0,
            overlapping: 0,
            misrouted: 0,
            damaged: 0,
        }
    }

    /// Counts one delivery from `queue`. Returns its stamp if it is of this run.
    #[inline]
    pub(crate) fn record(
        &mut self,
        queue: u32,
        redelivered: bool,
        stamp: Option<Stamp>,
    ) -> Option<Stamp> {
        let shape = self.shape;
        let known = stamp.filter(|stamp| {
            stamp.run == shape.run
                && stamp.producer < shape.producers
                && stamp.sequence < shape.count_max
                && queue < shape.queues
        });
        match known {
            Some(stamp) => self.record_known(queue, redelivered, stamp),
            None => self.invented += 1,
        }
        known
    }

    #[inline]
    fn record_known(&mut self, queue: u32, redelivered: bool, stamp: Stamp) {
        let shape = self.shape;
        let Stamp {
            producer, sequence, ..
        } = stamp;
        self.redelivered += u64::from(redelivered);
        let pair = queue as usize * shape.producers as usize + producer as usize;
        let map = if shape.fanout {
            pair
        } else {
            if shape.queues > 1
                && !shape.by_entity
                && (u64::from(producer) + sequence) % u64::from(shape.queues) != u64::from(queue)
            {
                self.misrouted += 1;
            }
            producer as usize
        };
        if !insert(&mut self.seen[map], sequence) {
            if redelivered {
                self.doubled_marked += 1;
            } else {
                self.doubled += 1;
            }
            return;
        }
        self.received += 1;
        if shape.by_entity {
            return;
        }
        if sequence >= self.next[pair] {
            self.next[pair] = sequence + 1;
        } else if !redelivered {
            self.out_of_order += 1;
        }
    }

    /// Adds what was seen of entities.
    pub(crate) fn add(&mut self, hands: &Hands) {
        self.out_of_order += hands.out_of_order;
        self.overlapping += hands.overlapping;
    }
}

/// Sets a bit; false if it was set.
#[inline]
fn insert(map: &mut Vec<u64>, sequence: u64) -> bool {
    let word = (sequence / 64) as usize;
    if word >= map.len() {
        map.resize((word + 1).next_power_of_two(), 0);
    }
    let bit = 1 << (sequence % 64);
    let fresh = map[word] & bit == 0;
    map[word] |= bit;
    fresh
}

/// All tallies of a run against what was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Distinct deliveries (a fan-out counts each queue's copy).
    pub(crate) received: u64,
    pub(crate) redelivered: u64,
    pub(crate) lost: u64,
    pub(crate) invented: u64,
    pub(crate) doubled: u64,
    pub(crate) out_of_order: u64,
    pub(crate) overlapping: u64,
    pub(crate) misrouted: u64,
    pub(crate) damaged: u64,
}

impl Verdict {
    /// `sent[p]`: how many messages producer `p` sent; `refused[p]`: sequence numbers that were nacked, which may be lost.
    pub(crate) fn of(tallies: &[Tally], sent: &[u64], refused: &[Vec<u64>]) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(first) = tallies.first() else {
            return verdict;
        };
        let producers = first.shape.producers as usize;
        for tally in tallies {
            verdict.redelivered += tally.redelivered;
            verdict.invented += tally.invented;
            verdict.doubled += tally.doubled;
            verdict.out_of_order += tally.out_of_order;
            verdict.overlapping += tally.overlapping;
            verdict.misrouted += tally.misrouted;
            verdict.damaged += tally.damaged;
        }
        let mut doubled_across = 0;
        for map in 0..first.seen.len() {
            let sent = sent[map % producers];
            let refused = &refused[map % producers];
            let words = tallies
                .iter()
                .map(|tally| tally.seen[map].len())
                .max()
                .unwrap_or(0);
            let mut found = 0;
            for word in 0..words {
                let mut union = 0u64;
                let mut sum = 0u64;
                for tally in tallies {
                    let bits = tally.seen[map].get(word).copied().unwrap_or(0);
                    union |= bits;
                    sum += u64::from(bits.count_ones());
                }
                doubled_across += sum - u64::from(union.count_ones());
                let start = word as u64 * 64;
                let legal = match sent.saturating_sub(start) {
                    0 => 0,
                    few @ 1..64 => u64::MAX >> (64 - few),
                    _ => u64::MAX,
                };
                verdict.invented += u64::from((union & !legal).count_ones());
                found += u64::from((union & legal).count_ones());
            }
            verdict.received += found;
            let gone = |&&sequence: &&u64| {
                let word = (sequence / 64) as usize;
                !tallies.iter().any(|tally| {
                    tally.seen[map]
                        .get(word)
                        .is_some_and(|bits| bits & (1 << (sequence % 64)) != 0)
                })
            };
            let excused = refused.iter().filter(gone).count() as u64;
            verdict.lost += (sent - found).saturating_sub(excused);
        }
        // A message that two consumers got was marked at the second one, which saw it for the first time.
        let excused: u64 = tallies
            .iter()
            .map(|tally| tally.redelivered - tally.doubled_marked.min(tally.redelivered))
            .sum();
        verdict.doubled += doubled_across.saturating_sub(excused);
        verdict
    }

    /// Whether everything came as it was sent.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0
            && self.invented == 0
            && self.doubled == 0
            && self.out_of_order == 0
            && self.overlapping == 0
            && self.misrouted == 0
            && self.damaged == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 9;

    fn shape(producers: u32, queues: u32, fanout: bool) -> Shape {
        Shape {
            run: RUN,
            producers,
            queues,
            fanout,
            by_entity: false,
            count_max: 1000,
        }
    }

    fn stamp(producer: u32, sequence: u64) -> Option<Stamp> {
        Some(Stamp {
            run: RUN,
            producer,
            sequence,
        })
    }

    fn of_one(tally: Tally, sent: u64) -> Verdict {
        Verdict::of(&[tally], &[sent], &[Vec::new()])
    }

    #[test]
    fn all_in_order_is_clean() {
        let mut tally = Tally::new(shape(1, 1, false));
        for sequence in 0..130 {
            tally.record(0, false, stamp(0, sequence));
        }
        let verdict = of_one(tally, 130);
        assert!(verdict.is_clean(), "{verdict:?}");
        assert_eq!(verdict.received, 130);
    }

    #[test]
    fn a_gap_at_each_place_is_lost() {
        for missing in [0, 1, 63, 64, 129] {
            let mut tally = Tally::new(shape(1, 1, false));
            for sequence in (0..130).filter(|&sequence| sequence != missing) {
                tally.record(0, false, stamp(0, sequence));
            }
            assert_eq!(of_one(tally, 130).lost, 1, "{missing}");
        }
    }

    #[test]
    fn nothing_received_is_everything_lost() {
        assert_eq!(of_one(Tally::new(shape(1, 1, false)), 5).lost, 5);
    }

    #[test]
    fn what_was_refused_may_be_lost_and_may_come() {
        let mut tally = Tally::new(shape(1, 1, false));
        tally.record(0, false, stamp(0, 0));
        tally.record(0, false, stamp(0, 2));
        let verdict = Verdict::of(&[tally], &[3], &[vec![1, 2]]);
        assert!(verdict.is_clean(), "{verdict:?}");
    }

    #[test]
    fn what_nobody_sent_is_invented() {
        let mut tally = Tally::new(shape(1, 1, false));
        tally.record(0, false, stamp(0, 0));
        tally.record(0, false, stamp(0, 1)); // never sent
        tally.record(0, false, stamp(1, 0)); // no such producer
        tally.record(0, false, stamp(0, 1 << 60)); // and no memory taken for it
        tally.record(0, false, None);
        let other_run = Stamp {
            run: 8,
            producer: 0,
            sequence: 0,
        };
        tally.record(0, false, Some(other_run));
        let verdict = of_one(tally, 1);
        assert_eq!((verdict.invented, verdict.received), (5, 1));
    }

    #[test]
    fn a_double_needs_its_mark() {
        let mut tally = Tally::new(shape(1, 1, false));
        tally.record(0, false, stamp(0, 0));
        tally.record(0, true, stamp(0, 0));
        assert!(of_one(tally, 1).is_clean());
        let mut tally = Tally::new(shape(1, 1, false));
        tally.record(0, false, stamp(0, 0));
        tally.record(0, false, stamp(0, 0));
        assert_eq!(of_one(tally, 1).doubled, 1);
    }

    #[test]
    fn a_double_at_another_consumer_needs_its_mark() {
        for (mark, doubled) in [(true, 0), (false, 1)] {
            let mut first = Tally::new(shape(1, 1, false));
            first.record(0, false, stamp(0, 0));
            let mut second = Tally::new(shape(1, 1, false));
            second.record(0, mark, stamp(0, 0));
            let verdict = Verdict::of(&[first, second], &[1], &[Vec::new()]);
            assert_eq!((verdict.doubled, verdict.received), (doubled, 1));
        }
    }

    #[test]
    fn order_is_by_producer_and_queue() {
        let mut tally = Tally::new(shape(2, 1, false));
        tally.record(0, false, stamp(0, 5));
        tally.record(0, false, stamp(1, 4));
        assert_eq!(tally.out_of_order, 0);
        tally.record(0, true, stamp(0, 3));
        assert_eq!(tally.out_of_order, 0, "redelivered");
        tally.record(0, false, stamp(0, 4));
        assert_eq!(tally.out_of_order, 1);
    }

    #[test]
    fn a_queue_gets_what_was_published_to_it() {
        let mut tally = Tally::new(shape(2, 3, false));
        tally.record(2, false, stamp(1, 4));
        assert_eq!(tally.misrouted, 0);
        tally.record(1, false, stamp(1, 7));
        assert_eq!(tally.misrouted, 1);
    }

    #[test]
    fn in_a_fanout_every_queue_gets_its_copy() {
        let mut tally = Tally::new(shape(1, 2, true));
        for (queue, sequence) in [(0, 0), (1, 0), (0, 1)] {
            tally.record(queue, false, stamp(0, sequence));
        }
        let verdict = of_one(tally, 2);
        assert_eq!((verdict.received, verdict.lost, verdict.doubled), (3, 1, 0));
    }
}
