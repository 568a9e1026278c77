//! From tokens to deliveries: tags, leases, and what is acknowledged by being handed out.

use super::Consumer;
use crate::core::Event;
use crate::delivery::Delivery;
use crate::ledger::{Ledger, Unacked};
use crate::message::Message;
use crate::queue::note::Note;
use crate::queue::ready::Token;

/// One `take`, under the ledger's lock.
pub(super) struct Taking<'a> {
    consumer: &'a Consumer,
    pub(super) ledger: &'a mut Ledger,
    out: &'a mut Vec<Delivery>,
    first_tag: u64,
    pub(super) taken: u64,
    lease_until_ns: u64,
    auto_acked: Vec<Token>,
    /// Assigned ones whose time was over before they were taken.
    expired: Vec<Token>,
}

/// What follows when the lock is gone.
pub(super) struct AfterTake {
    first_tag: u64,
    taken: u64,
    lease_until_ns: u64,
    auto_acked: Vec<Token>,
    expired: Vec<Token>,
}

impl<'a> Taking<'a> {
    #[inline]
    pub(super) fn new(
        consumer: &'a Consumer,
        ledger: &'a mut Ledger,
        out: &'a mut Vec<Delivery>,
    ) -> Self {
        let lease = consumer.options.lease.or_else(|| consumer.queue.lease());
        let lease_until_ns = match lease {
            Some(time) if !consumer.options.no_ack => {
                consumer.queue.core.clock.now_ns() + time.as_nanos() as u64
            }
            _ => 0,
        };
        Taking {
            consumer,
            first_tag: ledger.next_tag(),
            ledger,
            out,
            taken: 0,
            lease_until_ns,
            auto_acked: Vec::new(),
            expired: Vec::new(),
        }
    }

    /// Once for each delivery of every consumer, and too large to be inlined by itself.
    #[inline(always)]
    pub(super) fn one(&mut self, token: Token, message: Message) {
        let note = Note(token.note());
        let tag = self.first_tag + self.taken;
        self.taken += 1;
        let body_bytes = message.body_bytes();
        self.out.push(Delivery {
            tag,
            message,
            redelivered: note.redelivered(),
            delivery_count: note.delivery_count(),
            position: token.position(),
            priority: token.level(),
        });
        if self.consumer.options.no_ack {
            self.auto_acked.push(token);
        } else {
            self.ledger.push(Unacked {
                token,
                body_bytes,
                lease_until_ns: self.lease_until_ns,
            });
        }
    }

    /// Those that came in its turn, up to `max`.
    pub(super) fn assigned(&mut self, max: usize) {
        while (self.taken as usize) < max
            && let Some((token, message)) = self.ledger.assigned.pop_front()
        {
            if self.consumer.queue.is_over(&message) {
                self.expired.push(token);
            } else {
                self.one(token, message);
            }
        }
    }

    /// Whether anything left the ledger or came to it.
    pub(super) fn is_idle(&self) -> bool {
        self.taken == 0 && self.expired.is_empty()
    }

    /// None when nothing follows, which is the usual case.
    #[inline]
    pub(super) fn finish(self) -> Option<AfterTake> {
        if self.consumer.options.no_ack {
            self.ledger.skip(self.taken);
        } else if self.lease_until_ns == 0 && self.expired.is_empty() {
            return None;
        }
        Some(AfterTake {
            first_tag: self.first_tag,
            taken: self.taken,
            lease_until_ns: self.lease_until_ns,
            auto_acked: self.auto_acked,
            expired: self.expired,
        })
    }
}

impl AfterTake {
    pub(super) fn happen(self, consumer: &Consumer) {
        if !self.auto_acked.is_empty() {
            // A failure of the journal is seen by publishers and by `barrier`; at most once is what was asked for.
            let _ = consumer.queue.settle(self.auto_acked.into_iter());
        }
        if self.lease_until_ns != 0 {
            for tag in self.first_tag..self.first_tag + self.taken {
                consumer.queue.core.timer.schedule(
                    self.lease_until_ns,
                    Event::Lease {
                        consumer: consumer.id,
                        tag,
                    },
                );
            }
        }
        for token in self.expired {
            consumer.queue.expire_assigned(token);
        }
    }
}
