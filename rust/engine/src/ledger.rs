//! What a consumer holds unsettled, by delivery tag.
//!
//! Tags are dense and mostly settled in order, so a delivery is nearly always found where its tag says. Those that stay
//! while many after them are settled are put aside, each once at most: so one that is never settled does not keep a place
//! for each that came after it.

use std::collections::{BTreeMap, VecDeque};

use crate::message::Message;
use crate::queue::candidates::Absent;
use crate::queue::ready::{TakeBuffer, Token};

pub(crate) struct Unacked {
    pub(crate) token: Token,
    pub(crate) body_bytes: u64,
    /// 0 = no lease.
    pub(crate) lease_until_ns: u64,
}

/// Places of settled deliveries that may lie between others: putting aside must be rare for small prefetches.
const SETTLED_KEPT: usize = 256;

pub(crate) struct Ledger {
    /// Tag of `entries[0]`.
    base: u64,
    /// The first one is there.
    entries: VecDeque<Option<Unacked>>,
    /// Put aside: their tags are below `base`.
    aside: BTreeMap<u64, Unacked>,
    /// Those that are there, put aside or not.
    live: usize,
    /// Given to the consumer in its turn, not yet taken by it. Has no tag yet.
    pub(crate) assigned: VecDeque<(Token, Message)>,
    /// The consumer holds nothing any more, and what comes back to it goes on to the queue.
    pub(crate) ended: bool,
    pub(crate) buffer: TakeBuffer,
    /// Its place among the consumers of its queue that may have room, while its own prefetch leaves none.
    pub(crate) absent: Option<Box<Absent>>,
}

impl Ledger {
    pub(crate) fn new() -> Ledger {
        Ledger {
            base: 1,
            entries: VecDeque::new(),
            aside: BTreeMap::new(),
            live: 0,
            assigned: VecDeque::new(),
            ended: false,
            buffer: TakeBuffer::default(),
            absent: None,
        }
    }

    /// The tag of the next delivery.
    pub(crate) fn next_tag(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// What counts towards a prefetch.
    pub(crate) fn held(&self) -> usize {
        self.live + self.assigned.len()
    }

    /// Whether a tag was given and something up to it is there.
    pub(crate) fn has_up_to(&self, tag: u64) -> bool {
        let first = self.aside.first_key_value().map(|(first, _)| *first);
        let first = first.or((!self.entries.is_empty()).then_some(self.base));
        tag < self.next_tag() && first.is_some_and(|first| first <= tag)
    }

    /// The delivery with the next tag.
    #[inline]
    pub(crate) fn push(&mut self, unacked: Unacked) {
        self.live += 1;
        self.entries.push_back(Some(unacked));
    }

    /// So many tags go to deliveries that need no settling. Such a consumer holds nothing.
    pub(crate) fn skip(&mut self, tags: u64) {
        debug_assert!(self.live == 0, "a consumer needs acknowledgements or not");
        self.base += tags;
    }

    pub(crate) fn get_mut(&mut self, tag: u64) -> Option<&mut Unacked> {
        match tag.checked_sub(self.base) {
            None => self.aside.get_mut(&tag),
            Some(index) => self.entries.get_mut(usize::try_from(index).ok()?)?.as_mut(),
        }
    }

    pub(crate) fn remove(&mut self, tag: u64) -> Option<Unacked> {
        let unacked = match tag.checked_sub(self.base) {
            None => self.aside.remove(&tag)?,
            Some(index) => {
                let index = usize::try_from(index).ok()?;
                self.entries.get_mut(index)?.take()?
            }
        };
        self.live -= 1;
        self.tidy();
        Some(unacked)
    }

    /// Keeps the first entry there, and settled ones few.
    fn tidy(&mut self) {
        self.trim();
        while self.entries.len() > 2 * (self.live - self.aside.len()) + SETTLED_KEPT {
            if let Some(Some(stays)) = self.entries.pop_front() {
                self.aside.insert(self.base, stays);
            }
            self.base += 1;
            self.trim();
        }
        // Memory of a burst is given back when three quarters of it are unused, so that it is moved rarely.
        let (len, capacity) = (self.entries.len(), self.entries.capacity());
        if capacity > 4 * (len + SETTLED_KEPT) {
            self.entries.shrink_to(2 * len);
        }
    }

    fn trim(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.base += 1;
        }
    }

    /// All up to and including `tag`, in order of tags.
    pub(crate) fn remove_up_to(&mut self, tag: u64) -> Vec<(u64, Unacked)> {
        let mut removed = Vec::new();
        while let Some(first) = self.aside.first_entry()
            && *first.key() <= tag
        {
            removed.push(first.remove_entry());
        }
        while self.base <= tag {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            removed.extend(entry.map(|unacked| (self.base, unacked)));
            self.base += 1;
        }
        self.live -= removed.len();
        self.tidy();
        removed
    }

    /// Puts back what a failed transaction had taken.
    pub(crate) fn put_back(&mut self, tag: u64, unacked: Unacked) {
        self.live += 1;
        match tag.checked_sub(self.base) {
            None => {
                self.aside.insert(tag, unacked);
            }
            // A place of a tag that was given, since others before it are there.
            Some(index) => self.entries[index as usize] = Some(unacked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::numbers;
    use crate::{Broker, BrokerOptions, NewMessage, QueueOptions};

    #[test]
    fn deliveries_that_stay_keep_no_places_of_those_that_went() {
        let broker = Broker::open(BrokerOptions::default()).unwrap();
        let host = broker.virtual_host("/").unwrap();
        let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
        let exchange = host.exchange("").unwrap();
        let mut buffer = TakeBuffer::default();
        let mut ledger = Ledger::new();
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut next, mut most_aside) = (1, 0);
        let mut random = numbers(3);
        for step in 0..60_000 {
            // Mostly one comes and the youngest of a few goes, so that some stay for long.
            if model.len() < 40 {
                exchange.publish(&NewMessage::new("q", b"x")).unwrap();
                queue.take(1, &mut buffer, |token, _| {
                    model.insert(next, token.position());
                    ledger.push(Unacked {
                        token,
                        body_bytes: 1,
                        lease_until_ns: 0,
                    });
                    next += 1;
                });
            }
            let young = model.keys().rev().nth(random(4)).copied();
            let tag = match (random(400), young) {
                (0, _) => random(next as usize + 3) as u64,
                (1.., Some(young)) if model.len() >= 20 => young,
                _ => continue,
            };
            assert_eq!(ledger.get_mut(tag).is_some(), model.contains_key(&tag));
            let some_up_to = model.range(..=tag).next().is_some() && tag < next;
            assert_eq!(ledger.has_up_to(tag), some_up_to);
            let removed = if step % 5000 == 0 {
                ledger.remove_up_to(tag)
            } else {
                let removed = ledger.remove(tag);
                removed.map(|unacked| (tag, unacked)).into_iter().collect()
            };
            for (tag, unacked) in &removed {
                assert_eq!(model.remove(tag), Some(unacked.token.position()));
            }
            assert!(removed.is_sorted_by_key(|(tag, _)| *tag));
            if step % 5000 == 0 {
                assert!(model.range(..=tag).next().is_none());
            }
            // As a transaction that fails, now and then.
            if random(20) == 0 {
                for (tag, unacked) in removed {
                    model.insert(tag, unacked.token.position());
                    ledger.put_back(tag, unacked);
                }
            } else {
                let tokens = removed.into_iter().map(|(_, unacked)| unacked.token);
                queue.settle(tokens).unwrap();
            }
            assert_eq!((ledger.held(), ledger.next_tag()), (model.len(), next));
            assert!(ledger.entries.len() <= 2 * ledger.held() + SETTLED_KEPT + 1);
            most_aside = most_aside.max(ledger.aside.len());
        }
        assert!(most_aside > 5);
        let left = ledger.remove_up_to(u64::MAX - 1);
        let left: Vec<_> = left
            .iter()
            .map(|(tag, u)| (*tag, u.token.position()))
            .collect();
        assert_eq!(left, model.into_iter().collect::<Vec<_>>());
    }
}
