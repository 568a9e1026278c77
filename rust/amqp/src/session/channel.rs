//! A channel: what it holds, who consumes on it, and how it ends.
//!
//! Engine consumers sit in numbered slots. A slot lives as long as its consumer takes messages or has deliveries that
//! the client has not settled; a cancelled consumer keeps its slot until the last of those is settled, which for what a
//! transaction settles is its commit. `basic.get` uses slots too: a consumer that is hidden from its queue, kept for the
//! next get.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;
use wherry_engine::{Consumer, Outcome, SharedPrefetch};
use wherry_session::{ChannelAdmission, Confirms, End, Handouts, Slots, Turn};

use super::connection::Connection;
use super::content::{Draft, Expect};
use super::publish::Target;
use super::reply::Reply;
use super::tx::Tx;

/// Hidden consumers that a channel keeps for `basic.get`, each for a queue. A program polls a few queues; who polls more
/// pays for a new one each time.
const GETTERS_MAX: usize = 8;

/// The slot of a channel's reply inbox in notices; no consumer has it.
pub(super) const REPLY_SLOT: u32 = u32::MAX;

/// The slot of duplicates that were delivered on purpose: settling them means nothing.
pub(super) const DUPLICATE_SLOT: u32 = u32::MAX - 1;

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `basic.consume`.
    Consuming,
    /// `basic.get`.
    Getting,
    /// Cancelled; waits for its deliveries to be settled.
    Leaving,
}

pub(super) struct Holder {
    pub(super) consumer: Arc<Consumer>,
    pub(super) role: Role,
    pub(super) turn: Turn,
    pub(super) tag: Box<str>,
    pub(super) no_ack: bool,
    /// Whether deliveries can come back without the client's doing, whatever the queue says.
    pub(super) has_lease: bool,
    /// Bytes of the last delivery on the wire: a guess at the next.
    pub(super) delivery_bytes: usize,
}

struct Getter {
    no_ack: bool,
    slot: u32,
}

pub(super) struct Channel {
    pub(super) number: u16,
    /// `channel.close` was sent; only its answer counts.
    pub(super) closing: bool,
    pub(super) expect: Expect,
    pub(super) draft: Draft,
    pub(super) target: Option<Target>,
    pub(super) confirms: Confirms,
    /// In the connection's list of channels with unconfirmed publishes.
    pub(super) listed_confirming: bool,
    pub(super) tx: Option<Box<Tx>>,
    pub(super) handouts: Handouts,
    pub(super) holders: Slots<Holder>,
    /// Slots of consumers by tag.
    pub(super) consumers: HashMap<Box<str>, u32>,
    getters: Vec<Getter>,
    pub(super) reply: Option<Reply>,
    pub(super) last_queue: Box<str>,
    /// For consumers that start.
    pub(super) prefetch: u32,
    /// `basic.qos` since the last consumer started: meant for those that run.
    pub(super) prefetch_live: Option<u32>,
    /// Over all consumers, from the first `basic.qos` that asks for it.
    pub(super) prefetch_global: Option<Arc<SharedPrefetch>>,
    parked: Vec<u32>,
    _admission: ChannelAdmission,
}

impl Channel {
    pub(super) fn new(number: u16, admission: ChannelAdmission) -> Channel {
        Channel {
            number,
            closing: false,
            expect: Expect::Method,
            draft: Draft::default(),
            target: None,
            confirms: Confirms::new(),
            listed_confirming: false,
            tx: None,
            handouts: Handouts::new(),
            holders: Slots::default(),
            consumers: HashMap::new(),
            getters: Vec::new(),
            reply: None,
            last_queue: "".into(),
            prefetch: 0,
            prefetch_live: None,
            prefetch_global: None,
            parked: Vec::new(),
            _admission: admission,
        }
    }

    #[inline]
    pub(super) fn holder(&mut self, slot: u32) -> Option<&mut Holder> {
        self.holders.get_mut(slot)
    }

    /// After something of a leaving slot was settled: lets it go if that was the last.
    pub(super) fn tidy_slot(&mut self, slot: u32) {
        let leaving = self
            .holder(slot)
            .is_some_and(|holder| holder.role == Role::Leaving);
        if leaving && !self.has_unsettled(slot) {
            self.holders.remove(slot); // what its consumer holds still is released
        }
    }

    /// Whether deliveries of a slot are unsettled: what a transaction has settled is so until its commit.
    fn has_unsettled(&self, slot: u32) -> bool {
        self.handouts.live_of(slot) != 0 || self.tx.as_ref().is_some_and(|tx| tx.settles_of(slot))
    }

    /// A consumer takes nothing more; what it delivered can be settled.
    pub(super) fn retire(&mut self, slot: u32) {
        let unsettled = self.has_unsettled(slot);
        let Some(holder) = self.holder(slot) else {
            return;
        };
        holder.consumer.cancel_keeping();
        holder.role = Role::Leaving;
        if !unsettled {
            self.holders.remove(slot); // what its consumer holds still is released
        }
    }

    /// The hidden consumer for a queue, if there is one that still works.
    pub(super) fn getter(&mut self, queue: &wherry_engine::Queue, no_ack: bool) -> Option<u32> {
        let mut found = None;
        let holders = &self.holders;
        let mut stale: SmallVec<[u32; 4]> = SmallVec::new();
        self.getters.retain(|getter| {
            let Some(holder) = holders.get(getter.slot) else {
                return false;
            };
            if holder.consumer.is_cancelled() {
                stale.push(getter.slot);
                return false;
            }
            if getter.no_ack == no_ack && std::ptr::eq(&**holder.consumer.queue(), queue) {
                found = Some(getter.slot);
            }
            true
        });
        for slot in stale {
            self.retire(slot);
        }
        found
    }

    pub(super) fn add_getter(&mut self, holder: Holder) -> u32 {
        if self.getters.len() >= GETTERS_MAX {
            let oldest = self.getters.remove(0);
            self.retire(oldest.slot);
        }
        let no_ack = holder.no_ack;
        let slot = self.holders.add(holder);
        self.getters.push(Getter { no_ack, slot });
        slot
    }

    /// Deliveries that the channel may have more, `no_ack` ones aside.
    pub(super) fn room(&self, connection: &Connection) -> usize {
        let most = connection.limits().unacked_per_channel_max as usize;
        most.saturating_sub(self.handouts.live())
    }

    /// Sets the limit over all consumers, those that run included; 0 is none.
    pub(super) fn set_prefetch_global(&mut self, prefetch: u32) {
        if prefetch == 0 && self.prefetch_global.is_none() {
            return;
        }
        let shared = self.prefetch_global.get_or_insert_with(SharedPrefetch::new);
        for holder in self.holders.iter() {
            if holder.role != Role::Getting {
                holder.consumer.share_prefetch(shared);
            }
        }
        shared.set_limit(prefetch);
    }

    /// A consumer that has to wait for the channel.
    pub(super) fn park(&mut self, slot: u32) {
        if let Some(holder) = self.holder(slot) {
            holder.turn = Turn::Parked;
            self.parked.push(slot);
        }
    }

    /// The channel may have deliveries again.
    pub(super) fn unpark(&mut self, connection: &mut Connection) {
        let number = self.number;
        for slot in std::mem::take(&mut self.parked) {
            if slot == REPLY_SLOT {
                connection.ready.push_back((number, REPLY_SLOT));
            } else if let Some(holder) = self.holder(slot)
                && holder.turn == Turn::Parked
            {
                holder.turn = Turn::Listed;
                connection.ready.push_back((number, slot));
            }
        }
    }

    pub(super) fn park_replies(&mut self) {
        if !self.parked.contains(&REPLY_SLOT) {
            self.parked.push(REPLY_SLOT);
        }
    }

    /// Lists a consumer among those to visit.
    pub(super) fn list(&mut self, connection: &mut Connection, slot: u32) {
        let number = self.number;
        if let Some(holder) = self.holder(slot)
            && holder.role == Role::Consuming
            && holder.turn != Turn::Listed
        {
            holder.turn = Turn::Listed;
            connection.ready.push_back((number, slot));
        }
    }

    /// Puts the limit that the client asked for last on the consumers that run.
    pub(super) fn apply_prefetch(&mut self, connection: &mut Connection) {
        let Some(prefetch) = self.prefetch_live.take() else {
            return;
        };
        for slot in self.holders.numbers() {
            let Some(holder) = self.holder(slot) else {
                continue;
            };
            if holder.role == Role::Consuming {
                holder.consumer.set_prefetch(prefetch);
                if holder.turn == Turn::Full {
                    self.list(connection, slot);
                }
            }
        }
    }

    /// Everything is given back; idempotent. Deliveries that were taken and not written have been returned before.
    pub(super) fn end(&mut self, end: End) {
        self.tx = None;
        self.reply = None;
        self.target = None;
        self.draft = Draft::default();
        self.consumers.clear();
        self.getters.clear();
        self.parked.clear();
        self.confirms = Confirms::new();
        self.listed_confirming = false;
        for holder in self.holders.drain() {
            end.cancel(&holder.consumer);
        }
        self.handouts = Handouts::new();
    }

    /// A delivery that was taken and never written goes back as if it had not been.
    pub(super) fn unwritten(&mut self, slot: u32, tag: u64) {
        if let Some(holder) = self.holder(slot)
            && !holder.no_ack
        {
            // Unknown if its queue is gone.
            let _ = holder.consumer.settle(tag, false, Outcome::Release);
        }
    }
}
