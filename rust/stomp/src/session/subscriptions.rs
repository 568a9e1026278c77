//! The subscriptions of a connection, in numbered slots.
//!
//! A delivery is named by its subscription, its session and a number: `T_<id>@@<session>@@<number>`. Numbers are those of the
//! engine's consumer, plus what subscriptions before used: no name is given twice, also not when an id is used again. A
//! subscription that was ended keeps its slot until what it delivered is settled: whoever unsubscribes first and acknowledges
//! then means what he says.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use wherry_engine::Consumer;
use wherry_session::{Slots, Turn};

use super::message_head::MessageHead;
use super::refusal::Refusal;
use crate::codec::Escapes;

/// Who acknowledges, and how much at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckMode {
    /// Nobody: a message that was sent is gone.
    Auto,
    /// The client, everything up to a message.
    Client,
    /// The client, each message.
    Individual,
}

pub(super) struct Subscription {
    pub(super) consumer: Arc<Consumer>,
    /// `T_` and the id, or `Q_` and the destination of one without an id.
    pub(super) key: Box<str>,
    /// How its messages begin.
    pub(super) head: MessageHead,
    pub(super) mode: AckMode,
    pub(super) turn: Turn,
    /// Ended by the client; only settling counts.
    pub(super) leaving: bool,
    /// What is added to the consumer's tags.
    offset: u64,
    /// The highest tag that was delivered.
    pub(super) last: u64,
    /// Whether deliveries can come back without the client's doing, whatever the queue says.
    pub(super) has_lease: bool,
    /// With a lease: numbers of deliveries that the client has not settled, whether or not they are its own still.
    lent: BTreeSet<u64>,
    /// Bytes of the last delivery on the wire: a guess at the next.
    pub(super) delivery_bytes: usize,
    /// The queue that goes when the client ends the subscription for good.
    pub(super) durable_queue: Option<Box<str>>,
}

impl Subscription {
    /// `id` is none for one that is known by its destination.
    pub(super) fn new(
        consumer: Arc<Consumer>,
        key: &str,
        id: Option<&str>,
        session: &str,
        escapes: Escapes,
        mode: AckMode,
    ) -> Subscription {
        Subscription {
            key: key.into(),
            head: MessageHead::new(key, id, session, escapes),
            mode,
            turn: Turn::Armed,
            leaving: false,
            offset: 0,
            last: 0,
            has_lease: false,
            lent: BTreeSet::new(),
            delivery_bytes: 256,
            durable_queue: None,
            consumer,
        }
    }

    /// The number of a delivery in its name.
    #[inline]
    pub(super) fn number(&self, tag: u64) -> u64 {
        self.offset + tag
    }

    /// The delivery that a number names, if it is one of ours.
    fn tag(&self, number: u64) -> Option<u64> {
        number
            .checked_sub(self.offset)
            .filter(|tag| (1..=self.last).contains(tag))
    }

    /// Whether deliveries can come back without the client's doing.
    pub(super) fn is_lending(&self) -> bool {
        self.has_lease || self.consumer.queue().has_lease()
    }

    /// The same of deliveries that went out already: the lease of a queue may have gone since.
    pub(super) fn has_lent(&self) -> bool {
        self.is_lending() || !self.lent.is_empty()
    }

    /// A delivery under a lease goes out. Of more than `most` that a client never settles the oldest are forgotten.
    pub(super) fn lend(&mut self, tag: u64, most: u32) {
        let number = self.number(tag);
        self.lent.insert(number);
        if self.lent.len() > most as usize {
            self.lent.pop_first();
        }
    }

    /// The client settles a delivery, or all up to it. Whether it may although the delivery is not outstanding: its lease
    /// has ended, which the client could not know. Once; what it settled is used up.
    pub(super) fn take_back(&mut self, number: u64, multiple: bool) -> bool {
        let was_lent = self.lent.remove(&number);
        if multiple {
            self.lent = self.lent.split_off(&number);
        }
        was_lent
    }

    /// For an ERROR about it.
    pub(super) fn id(&self) -> Option<&str> {
        self.key.strip_prefix("T_")
    }
}

/// A delivery as a client names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) key: &'a str,
    pub(super) session: &'a str,
    /// None for a duplicate that was delivered on purpose: settling it means nothing.
    pub(super) number: Option<u64>,
}

/// What stands before the number of a duplicate.
pub(super) const DUPLICATE: char = 'd';

impl Named<'_> {
    /// Takes the name of a delivery apart. Ids may have the separator in them.
    pub(super) fn parse(name: &str) -> Option<Named<'_>> {
        let (rest, number) = name.rsplit_once("@@")?;
        let (key, session) = rest.rsplit_once("@@")?;
        let (digits, duplicate) = match number.strip_prefix(DUPLICATE) {
            Some(digits) => (digits, true),
            None => (number, false),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        Some(Named {
            key,
            session,
            number: (!duplicate).then_some(number),
        })
    }
}

#[derive(Default)]
pub(super) struct Subscriptions {
    slots: Slots<Subscription>,
    /// Slots of those that run.
    by_key: HashMap<Box<str>, u32>,
    /// Slots of those that were ended.
    leaving: Vec<u32>,
    /// Above every number that a subscription that is gone has used.
    numbers: u64,
}

impl Subscriptions {
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Subscription> {
        self.slots.get_mut(slot)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.slots.iter()
    }

    /// The slot of one that runs.
    pub(super) fn find(&self, key: &str) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Those that run, and those that were ended and wait to be settled.
    pub(super) fn len(&self) -> usize {
        self.by_key.len() + self.leaving.len()
    }

    /// The slot that the next one gets.
    pub(super) fn next_slot(&self) -> u32 {
        self.slots.next_number()
    }

    /// Puts one into `next_slot`.
    pub(super) fn add(&mut self, mut subscription: Subscription) -> u32 {
        // One of the same key may be leaving still: the new one counts on behind it.
        let leaving = self.leaving.iter();
        let used = leaving.filter_map(|slot| {
            let old = self.slots.get(*slot)?;
            Some(old.number(old.last))
        });
        subscription.offset = used.max().unwrap_or(0).max(self.numbers);
        let key = subscription.key.clone();
        let slot = self.slots.add(subscription);
        self.by_key.insert(key, slot);
        slot
    }

    fn remove(&mut self, slot: u32) {
        if let Some(subscription) = self.slots.remove(slot) {
            self.numbers = self.numbers.max(subscription.number(subscription.last));
        }
    }

    /// One takes nothing more; what it delivered can be settled.
    pub(super) fn retire(&mut self, slot: u32) {
        let Some(subscription) = self.get_mut(slot) else {
            return;
        };
        subscription.consumer.cancel_keeping();
        subscription.leaving = true;
        let key = subscription.key.clone();
        self.by_key.remove(&key);
        self.leaving.push(slot);
        self.tidy(slot);
    }

    /// After something of a leaving one was settled: lets it go if that was the last. Also when its queue is gone, or a lease
    /// has ended, the client may settle what it has, without effect.
    pub(super) fn tidy(&mut self, slot: u32) {
        let done = self
            .get_mut(slot)
            .is_some_and(|one| one.leaving && one.consumer.unacked() == 0 && one.lent.is_empty());
        if done {
            self.remove(slot);
            self.leaving.retain(|other| *other != slot);
        }
    }

    /// The slot and the consumer's tag of a delivery.
    pub(super) fn delivery(&mut self, key: &str, number: u64) -> Result<(u32, u64), Unfound> {
        let running = self.find(key);
        if let Some(slot) = running
            && let Some(tag) = self.get_mut(slot).and_then(|one| one.tag(number))
        {
            return Ok((slot, tag));
        }
        let mut known = running.is_some();
        for &slot in &self.leaving {
            if let Some(one) = self.slots.get(slot)
                && &*one.key == key
            {
                known = true;
                if let Some(tag) = one.tag(number) {
                    return Ok((slot, tag));
                }
            }
        }
        Err(if known {
            Unfound::Message
        } else {
            Unfound::Subscription
        })
    }

    /// All of them, taken out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Subscription> + use<> {
        std::mem::take(self).slots.drain()
    }
}

/// What is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfound {
    Subscription,
    Message,
}

impl Unfound {
    pub(super) fn refusal(self, name: &str) -> Refusal {
        let name = super::refusal::shown(name);
        match self {
            Unfound::Subscription => Refusal::new(
                "Subscription not found",
                format!("Message with id \"{name}\" has no subscription"),
            ),
            Unfound::Message => Refusal::new(
                "Message not found",
                format!(
                    "Message with id \"{name}\" is not outstanding: it was settled already, or never delivered"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_deliveries_are_taken_apart_from_behind() {
        let named = Named::parse("T_a@@b@@session-x@@17").unwrap();
        assert_eq!((named.key, named.session), ("T_a@@b", "session-x"));
        assert_eq!(named.number, Some(17));
        assert_eq!(Named::parse("T_a@@s@@d5").unwrap().number, None);
        for bad in [
            "",
            "17",
            "T_a@@17",
            "T_a@@s@@",
            "T_a@@s@@x",
            "T_a@@s@@-1",
            "T_a@@s@@+1",
        ] {
            assert_eq!(Named::parse(bad), None, "{bad}");
        }
    }
}
