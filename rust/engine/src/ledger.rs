//! What a consumer holds unsettled, by delivery tag.

use std::collections::VecDeque;

use crate::message::Message;
use crate::queue::candidates::Absent;
use crate::queue::ready::{TakeBuffer, Token};

pub(crate) struct Unacked {
    pub(crate) token: Token,
    pub(crate) body_bytes: u64,
    /// 0 = no lease.
    pub(crate) lease_until_ns: u64,
}

/// Deliveries by tag: tags are dense, and most are settled nearly in order.
pub(crate) struct Ledger {
    /// Tag of `entries[0]`.
    pub(crate) base: u64,
    pub(crate) entries: VecDeque<Option<Unacked>>,
    pub(crate) live: usize,
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

    pub(crate) fn get_mut(&mut self, tag: u64) -> Option<&mut Unacked> {
        let index = usize::try_from(tag.checked_sub(self.base)?).ok()?;
        self.entries.get_mut(index)?.as_mut()
    }

    pub(crate) fn remove(&mut self, tag: u64) -> Option<Unacked> {
        let index = usize::try_from(tag.checked_sub(self.base)?).ok()?;
        let unacked = self.entries.get_mut(index)?.take()?;
        self.live -= 1;
        self.trim();
        Some(unacked)
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
        while self.base <= tag {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            removed.extend(entry.map(|unacked| (self.base, unacked)));
            self.base += 1;
        }
        self.live -= removed.len();
        self.trim();
        removed
    }

    /// Puts back what a failed transaction had taken.
    pub(crate) fn put_back(&mut self, tag: u64, unacked: Unacked) {
        while tag < self.base {
            self.base -= 1;
            self.entries.push_front(None);
        }
        let index = (tag - self.base) as usize;
        while self.entries.len() <= index {
            self.entries.push_back(None);
        }
        self.entries[index] = Some(unacked);
        self.live += 1;
    }
}
