//! Consumers: take messages from one queue and settle them.
//!
//! A consumer pulls: whoever runs it calls `take` when it can use more, `arm` when nothing was there. What it holds
//! unsettled is in its own ledger behind its own mutex, which no publisher and no other consumer ever touches.

mod assign;
mod leave;
mod register;
mod shared;
mod taking;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::core::{Event, Notify};
use crate::delivery::{Delivery, Outcome, Verdict};
use crate::error::{Error, Refusal};
use crate::ledger::{Ledger, Unacked};
use crate::options::{ConsumerOptions, DURATION_MAX};
use crate::queue::Queue;
use crate::storage::Ticket;
pub(crate) use assign::Ahead;
pub use assign::{IN_TURN_AHEAD_MAX, OVERFLOW_AHEAD_MAX};
pub(crate) use shared::Reserved;
pub use shared::SharedPrefetch;
use taking::Taking;

#[cfg(test)]
thread_local! {
    /// How often this thread asked a consumer for its room.
    pub(crate) static ASKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A consumer of one queue.
pub struct Consumer {
    id: u32,
    queue: Arc<Queue>,
    options: ConsumerOptions,
    prefetch: AtomicU32,
    /// Set under the ledger's lock, so that what is held then is counted.
    shared: OnceLock<Arc<SharedPrefetch>>,
    ledger: Mutex<Ledger>,
    /// What the ledger holds, for others who must not lock it. Relaxed: a count; written under the ledger's lock.
    unacked: AtomicUsize,
    /// How much of that is assigned only. As `unacked`.
    assigned: AtomicUsize,
    /// Its number in its queue's list of consumers; 0 when it is not there. Written under that list's lock, hence Relaxed.
    pub(crate) registered: AtomicU64,
    /// The same for the queue's list of waiters.
    pub(crate) waits: AtomicU64,
    /// Waits for room in its prefetch, not for the queue. Set and read around the ledger's lock.
    wants_room: AtomicBool,
    /// Since when it waits for room in the limit that it shares, as `SharedPrefetch` counts; 0 when it has taken something
    /// since. Relaxed: it decides who is told first.
    waits_since: AtomicU64,
    /// Relaxed: who sees it late takes a little more, and `cancel` looks again under the ledger's lock.
    cancelled: AtomicBool,
    notify: Option<(Arc<dyn Notify>, u64)>,
}

impl Consumer {
    /// Its number, which no other consumer of the broker has.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its name.
    pub fn tag(&self) -> &str {
        &self.options.tag
    }

    /// The queue it consumes.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// As it was started.
    pub fn options(&self) -> &ConsumerOptions {
        &self.options
    }

    /// False for who waits behind the single active consumer of its queue.
    pub fn is_active(&self) -> bool {
        self.queue.consumers.may_be_active(self)
    }

    /// Whether its prefetch allows another delivery.
    pub(crate) fn has_room(&self) -> bool {
        self.room_now() > 0
    }

    /// How many its prefetch allows.
    pub(crate) fn room_now(&self) -> usize {
        self.own_room().min(self.shared_room())
    }

    /// What its own prefetch allows.
    fn own_room(&self) -> usize {
        if self.is_cancelled() {
            return 0;
        }
        self.room(self.unacked.load(Ordering::Relaxed))
    }

    /// What a limit that it shares with others allows.
    fn shared_room(&self) -> usize {
        self.shared.get().map_or(usize::MAX, |shared| shared.room())
    }

    /// Puts it under a limit that it shares with others, from now on and for good. Deliveries without acknowledgement do
    /// not count, but such a consumer gets nothing either while the limit is reached, as in RabbitMQ.
    pub fn share_prefetch(&self, shared: &Arc<SharedPrefetch>) {
        let ledger = self.ledger.lock();
        if self.shared.set(shared.clone()).is_ok() && !self.options.no_ack {
            shared.add(ledger.held());
        }
    }

    /// What its prefetch allows beside so many.
    fn room(&self, held: usize) -> usize {
        #[cfg(test)]
        ASKED.set(ASKED.get() + 1);
        match self.prefetch.load(Ordering::Relaxed) as usize {
            0 => usize::MAX,
            _ if self.options.no_ack => usize::MAX,
            prefetch => prefetch.saturating_sub(held),
        }
    }

    pub(crate) fn notify(&self) {
        if let Some((notify, token)) = &self.notify {
            notify.notify(*token);
        }
    }

    /// Unsettled deliveries at most; 0 = no limit.
    pub fn prefetch(&self) -> u32 {
        self.prefetch.load(Ordering::Relaxed)
    }

    /// Changes the limit for what is taken from now on.
    pub fn set_prefetch(&self, n: u32) {
        let mut ledger = self.ledger.lock();
        self.prefetch.store(n, Ordering::Relaxed);
        self.come_back(&mut ledger);
        drop(ledger);
        self.room_again();
    }

    /// Deliveries not settled yet.
    pub fn unacked(&self) -> usize {
        self.unacked.load(Ordering::Relaxed)
    }

    /// True after `cancel`, and when its queue was deleted.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Takes up to `max` messages that are ready, as far as the prefetch allows. Never waits; returns how many were
    /// appended to `out`. A consumer that is served in turn may get fewer although more are ready: it comes again.
    pub fn take(&self, max: usize, out: &mut Vec<Delivery>) -> usize {
        if self.is_served_in_turn() && self.assigned.load(Ordering::Relaxed) < max {
            self.queue.dispatch(self);
        }
        let mut ledger = self.ledger.lock();
        if self.is_cancelled() || self.queue.core.is_closed() {
            return 0;
        }
        let mut taking = Taking::new(self, &mut ledger, out);
        if !taking.ledger.assigned.is_empty() {
            taking.assigned(max);
        }
        let room = (max - taking.taken as usize).min(self.room(taking.ledger.held()));
        let mut restricted = false;
        let mut reserved = 0;
        if room > 0 && !self.is_served_in_turn() {
            if self.options.hidden && self.queue.expires() {
                self.queue.touch(); // a `get` keeps an expiring queue alive
            }
            restricted = self.queue.consumers.is_restricted();
            if !restricted || self.queue.consumers.may_take(self) {
                let room = match self.shared.get() {
                    None => room,
                    Some(shared) if self.options.no_ack => room.min(shared.room()),
                    Some(shared) => {
                        reserved = shared.reserve(room).map_or(0, Reserved::into_places);
                        reserved
                    }
                };
                let mut buffer = std::mem::take(&mut taking.ledger.buffer);
                self.queue.take(room, &mut buffer, |token, message| {
                    taking.one(token, message);
                });
                taking.ledger.buffer = buffer;
            }
        }
        let taken = taking.taken;
        if taking.is_idle() {
            self.note_reserved(&mut ledger, reserved);
            return 0;
        }
        let after = taking.finish();
        if reserved != 0 {
            self.waits_since.store(0, Ordering::Relaxed);
        }
        self.note_reserved(&mut ledger, reserved);
        drop(ledger);
        if let Some(after) = after {
            after.happen(self);
        }
        if restricted && !self.has_room() {
            self.queue.wake(1); // a consumer of lower priority may take now
        }
        taken as usize
    }

    /// Whether messages come to it by dispatching. One that is alone takes them itself, without the lock.
    fn is_served_in_turn(&self) -> bool {
        self.options.in_turn && self.queue.consumers.in_turn() > 1
    }

    /// Asks for one notice when something may be there to take, or when the consumer was cancelled. True: look again
    /// now, no notice will come for this call.
    pub fn arm(self: &Arc<Self>) -> bool {
        if self.assigned.load(Ordering::Relaxed) > 0 {
            return true;
        }
        if !self.has_room() && !self.is_cancelled() {
            return self.wait_for_room();
        }
        let in_turn = self.is_served_in_turn();
        if in_turn && !self.is_cancelled() && !self.queue.consumers.may_be_active(self) {
            return self.is_cancelled(); // hears of it when it becomes the active one
        }
        self.queue.waiters().register(self);
        let something = self.is_cancelled()
            || self.queue.core.is_closed()
            || (self.queue.ready.has_ready()
                && if in_turn {
                    self.queue.dispatch(self);
                    self.assigned.load(Ordering::Relaxed) > 0
                } else {
                    !self.queue.consumers.is_restricted() || self.queue.consumers.may_take(self)
                });
        // If somebody took us off the list meanwhile, the notice is on its way as well, which does no harm.
        if something {
            self.queue.waiters().unregister(self);
        }
        something
    }

    fn wait_for_room(&self) -> bool {
        let shared = self.shared.get().filter(|shared| shared.room() == 0);
        if let (Some(shared), Some((notify, token))) = (shared, &self.notify) {
            shared.wait(self.id, notify, *token, &self.waits_since);
        }
        self.wants_room.store(true, Ordering::SeqCst);
        // SeqCst here and in `room_again`: either it sees the wish, or we see the room it made.
        if self.has_room() && self.wants_room.swap(false, Ordering::SeqCst) {
            return true;
        }
        // Its room went without its doing: a notice that came for it is another's now.
        if shared.is_some() && self.queue.ready.has_ready() {
            self.queue.wake(1);
        }
        false
    }

    /// No longer waits. A notice that was spent on this consumer is passed on to another.
    pub fn disarm(&self) {
        self.wants_room.store(false, Ordering::SeqCst);
        if let Some(shared) = self.shared.get() {
            shared.forget(self.id);
        }
        if !self.queue.waiters().unregister(self) && self.queue.ready.has_ready() {
            self.queue.wake(1);
        }
    }

    fn room_again(&self) {
        if self.wants_room.load(Ordering::SeqCst) && self.wants_room.swap(false, Ordering::SeqCst) {
            self.notify();
        }
    }

    /// Under the ledger's lock, so that the last word is the right one.
    fn note_held(&self, ledger: &mut Ledger) {
        self.note_reserved(ledger, 0);
    }

    /// As `note_held`, when so many places of the shared limit were reserved for what is new.
    fn note_reserved(&self, ledger: &mut Ledger, reserved: usize) {
        let held = ledger.held();
        if let Some(shared) = self.shared.get()
            && !self.options.no_ack
        {
            let counted = self.unacked.load(Ordering::Relaxed) + reserved;
            shared.add(held.saturating_sub(counted));
            shared.give_back(counted.saturating_sub(held));
        }
        self.unacked.store(held, Ordering::Relaxed);
        self.assigned
            .store(ledger.assigned.len(), Ordering::Relaxed);
        self.come_back(ledger);
    }

    /// Settles one delivery, or with `multiple` all up to it; tag 0 with `multiple` means all.
    ///
    /// The ticket is for acknowledgements. It is zero also while the journal had no room for them, and for what is
    /// retried or dead-lettered: `Broker::barrier` answers for everything.
    ///
    /// # Errors
    /// [`Error::UnknownDelivery`], with nothing settled. [`Error::JournalFailed`]: settled in memory, but it will
    /// come back after a restart.
    pub fn settle(&self, tag: u64, multiple: bool, outcome: Outcome) -> Result<Ticket, Error> {
        let mut ledger = self.ledger.lock();
        if multiple {
            let next = ledger.next_tag();
            let last = if tag == 0 {
                next.saturating_sub(1)
            } else {
                tag
            };
            if tag != 0 && !ledger.has_up_to(tag) {
                return self.unknown(&ledger, tag).map(|()| Ticket::NONE);
            }
            let settled = ledger.remove_up_to(last);
            self.note_held(&mut ledger);
            drop(ledger);
            let ticket = self.decide(settled.into_iter().map(|(_, unacked)| unacked), outcome);
            self.room_again();
            return ticket;
        }
        let Some(unacked) = ledger.remove(tag) else {
            return self.unknown(&ledger, tag).map(|()| Ticket::NONE);
        };
        self.note_held(&mut ledger);
        drop(ledger);
        let ticket = self.decide(std::iter::once(unacked), outcome);
        self.room_again();
        ticket
    }

    /// A delivery that is not here. Not an error when its queue was deleted, and the delivery with it: whoever held it
    /// could not know, and RabbitMQ does not mind either.
    fn unknown(&self, ledger: &Ledger, tag: u64) -> Result<(), Error> {
        if self.queue.is_deleted() && (1..ledger.next_tag()).contains(&tag) {
            return Ok(());
        }
        Err(Error::UnknownDelivery { tag })
    }

    /// Settles many deliveries alike, with one journal record for acks.
    ///
    /// # Errors
    /// [`Error::UnknownDelivery`] for the first tag that is unknown or named twice, with nothing settled.
    pub fn settle_many(&self, tags: &[u64], outcome: Outcome) -> Result<Ticket, Error> {
        let mut ledger = self.ledger.lock();
        let mut removed = Vec::with_capacity(tags.len());
        for &tag in tags {
            match ledger.remove(tag) {
                Some(unacked) => removed.push((tag, unacked)),
                None if self.unknown(&ledger, tag).is_ok() => {}
                None => {
                    for (tag, unacked) in removed {
                        ledger.put_back(tag, unacked);
                    }
                    return Err(Error::UnknownDelivery { tag });
                }
            }
        }
        self.note_held(&mut ledger);
        drop(ledger);
        let ticket = self.decide(removed.into_iter().map(|(_, unacked)| unacked), outcome);
        self.room_again();
        ticket
    }

    /// All of them, whatever becomes of one: a journal that fails must not cost the others their places.
    fn decide(
        &self,
        unacked: impl Iterator<Item = Unacked>,
        outcome: Outcome,
    ) -> Result<Ticket, Error> {
        let queue = &self.queue;
        match outcome.kind() {
            Verdict::Settle => queue.settle(unacked.map(|u| u.token)),
            Verdict::Release => {
                let mut returned = 0;
                for u in unacked {
                    queue.give_back(u.token, u.body_bytes);
                    returned += 1;
                }
                queue.after_entry(returned);
                Ok(Ticket::NONE)
            }
            Verdict::Fail => each(unacked, |u| queue.fail(u.token, u.body_bytes)),
            Verdict::Lose => each(unacked, |u| queue.lose(u.token, u.body_bytes)),
            Verdict::Reject => each(unacked, |u| queue.reject(u.token)),
        }
    }

    /// For a transaction: takes deliveries out of the ledger without deciding about them.
    pub(crate) fn withdraw(&self, tag: u64, multiple: bool) -> Result<Vec<(u64, Unacked)>, Error> {
        let mut ledger = self.ledger.lock();
        if multiple {
            let next = ledger.next_tag();
            if tag != 0 && !ledger.has_up_to(tag) {
                return self.unknown(&ledger, tag).map(|()| Vec::new());
            }
            return Ok(ledger.remove_up_to(if tag == 0 {
                next.saturating_sub(1)
            } else {
                tag
            }));
        }
        match ledger.remove(tag) {
            Some(unacked) => Ok(vec![(tag, unacked)]),
            None => self.unknown(&ledger, tag).map(|()| Vec::new()),
        }
    }

    /// A transaction failed: what it had withdrawn is held again, or if the consumer left meanwhile goes back to its
    /// place as everything else it held did.
    pub(crate) fn put_back(&self, deliveries: Vec<(u64, Unacked)>) {
        let mut ledger = self.ledger.lock();
        if ledger.ended {
            drop(ledger);
            let returned = deliveries.len();
            for (_, unacked) in deliveries {
                self.queue.give_back(unacked.token, unacked.body_bytes);
            }
            self.queue.after_entry(returned);
            return;
        }
        for (tag, unacked) in deliveries {
            if unacked.lease_until_ns != 0 {
                // Its timer may have found nothing while it was withdrawn.
                let event = Event::Lease {
                    consumer: self.id,
                    tag,
                };
                self.queue
                    .core
                    .timer
                    .schedule(unacked.lease_until_ns, event);
            }
            ledger.put_back(tag, unacked);
        }
        // Somebody may have counted what it holds while they were away.
        self.note_held(&mut ledger);
    }

    pub(crate) fn settled_elsewhere(&self) {
        self.note_held(&mut self.ledger.lock());
        self.room_again();
    }

    pub(crate) fn knows(&self, tag: u64, multiple: bool) -> bool {
        let mut ledger = self.ledger.lock();
        if multiple && (tag == 0 || ledger.has_up_to(tag)) {
            return true;
        }
        ledger.get_mut(tag).is_some() || self.unknown(&ledger, tag).is_ok()
    }

    /// Makes a lease longer: it ends `by` from now.
    ///
    /// # Errors
    /// [`Error::UnknownDelivery`]; [`Error::PreconditionFailed`] when the queue has no leases.
    pub fn extend(&self, tag: u64, by: Duration) -> Result<(), Error> {
        if by > DURATION_MAX {
            return Err(Error::InvalidArgument(
                "lease: the limit is ten years".into(),
            ));
        }
        let mut ledger = self.ledger.lock();
        let Some(unacked) = ledger.get_mut(tag) else {
            return Err(Error::UnknownDelivery { tag });
        };
        if unacked.lease_until_ns == 0 {
            return Err(Error::PreconditionFailed(Refusal::advised(
                format!(
                    "queue '{}' was declared without a lease, so there is none to extend",
                    self.queue.name()
                ),
                ": declare it with lease=...",
            )));
        }
        let until = self.queue.core.clock.now_ns() + by.as_nanos() as u64;
        unacked.lease_until_ns = until;
        drop(ledger);
        self.queue.core.timer.schedule(
            until,
            Event::Lease {
                consumer: self.id,
                tag,
            },
        );
        Ok(())
    }

    /// The timer's call: returns the delivery to its place if its lease is over and was not extended.
    pub(crate) fn lease_over(&self, tag: u64, now_ns: u64) {
        let mut ledger = self.ledger.lock();
        match ledger.get_mut(tag) {
            Some(unacked) if unacked.lease_until_ns <= now_ns => {}
            _ => return,
        }
        let Some(unacked) = ledger.remove(tag) else {
            return;
        };
        self.note_held(&mut ledger);
        drop(ledger);
        // Counted as a failed attempt. A journal error here is seen by the publishers.
        let _ = self.queue.fail(unacked.token, unacked.body_bytes);
        self.room_again();
    }
}

/// The last ticket, or the first error.
fn each(
    unacked: impl Iterator<Item = Unacked>,
    mut decide: impl FnMut(Unacked) -> Result<Ticket, Error>,
) -> Result<Ticket, Error> {
    let mut outcome = Ok(Ticket::NONE);
    for unacked in unacked {
        let ticket = decide(unacked);
        outcome = outcome.and_then(|last| Ok(last.max(ticket?)));
    }
    outcome
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("tag", &self.options.tag)
            .field("queue", &self.queue.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::{Broker, BrokerOptions, NewMessage, QueueOptions};

    fn held(options: QueueOptions) -> (Arc<Broker>, Arc<Consumer>) {
        let clock = Clock::virtual_at(1_000_000_000);
        let broker = Broker::open(BrokerOptions {
            clock,
            ..Default::default()
        })
        .unwrap();
        let host = broker.virtual_host("/").unwrap();
        let (queue, _) = host.declare_queue("q", options).unwrap();
        host.exchange("")
            .unwrap()
            .publish(&NewMessage::new("q", b"x"))
            .unwrap();
        let consumer = queue.consume(ConsumerOptions::default(), None).unwrap();
        assert_eq!(consumer.take(1, &mut Vec::new()), 1);
        (broker, consumer)
    }

    #[test]
    fn what_a_failed_transaction_had_goes_home_when_its_consumer_left() {
        let (_broker, consumer) = held(QueueOptions::default());
        let withdrawn = consumer.withdraw(1, false).unwrap();
        consumer.cancel();
        assert_eq!(consumer.queue().statistics().ready, 0);
        consumer.put_back(withdrawn);
        let statistics = consumer.queue().statistics();
        assert_eq!((statistics.ready, statistics.unacked), (1, 0));
    }

    #[test]
    fn what_a_failed_transaction_had_counts_again() {
        let (_broker, consumer) = held(QueueOptions::default());
        let shared = SharedPrefetch::new();
        consumer.share_prefetch(&shared);
        let withdrawn = consumer.withdraw(1, false).unwrap();
        // Another thread settles something of it, or takes, and counts.
        consumer.settled_elsewhere();
        assert_eq!((consumer.unacked(), shared.held()), (0, 0));
        consumer.put_back(withdrawn);
        assert_eq!((consumer.unacked(), shared.held()), (1, 1));
    }

    #[test]
    fn a_lease_that_ended_inside_a_failed_transaction_ends_after_it() {
        let lease = Some(Duration::from_secs(1));
        let (broker, consumer) = held(QueueOptions {
            lease,
            ..Default::default()
        });
        let withdrawn = consumer.withdraw(1, false).unwrap();
        broker.advance(Duration::from_secs(5)).unwrap();
        consumer.put_back(withdrawn);
        broker.advance(Duration::ZERO).unwrap();
        assert_eq!(consumer.queue().statistics().ready, 1);
    }
}
