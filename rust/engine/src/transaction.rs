//! Transactions: publishes and acknowledgements that become durable together, as one journal record.
//!
//! Nothing happens before `commit`; dropping a transaction is rolling it back. Acks are atomic with the publishes.
//! Negative outcomes (nack, reject) are decided right after the record is written, since what follows from them
//! (retry, dead-lettering) is a change of its own. Duplicates (dedup.rs) are left out, those inside one transaction too.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;
use wherry_journal::Class;

use crate::commit::{PublishRun, write};
use crate::consumer::Consumer;
use crate::core::Core;
use crate::dedup::{Judgement, Judges, judged};
use crate::delivery::{Outcome, Verdict};
use crate::draft::{Delay, Draft, NewMessage};
use crate::entries::{Place, Runs, push_run};
use crate::error::{Error, Refusal};
use crate::exchange::Exchange;
use crate::ledger::Unacked;
use crate::publish::{rejected, unroutable, with_route, without_bcc};
use crate::queue::Queue;
use crate::storage::Ticket;

/// Messages and settlements that one transaction may hold: it is one journal record, and held in memory.
pub const TRANSACTION_ACTIONS_MAX: usize = 65_536;

struct Publish {
    exchange: Arc<Exchange>,
    routing_key: String,
    properties: Vec<u8>,
    body: Vec<u8>,
    persistent: bool,
    mandatory: bool,
    delay: Delay,
}

impl Publish {
    fn message(&self) -> NewMessage<'_> {
        NewMessage {
            routing_key: &self.routing_key,
            properties: &self.properties,
            body: &self.body,
            persistent: self.persistent,
            mandatory: self.mandatory,
            delay: self.delay,
        }
    }
}

struct Settle {
    consumer: Arc<Consumer>,
    tag: u64,
    multiple: bool,
    outcome: Outcome,
}

/// What became of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// When it is on stable storage.
    pub ticket: Ticket,
    /// Which of its publishes, counted from 0 in their order, were mandatory and reached no queue. They are gone.
    pub returned: Vec<usize>,
}

/// A transaction that is being put together.
pub struct Transaction {
    core: Arc<Core>,
    publishes: Vec<Publish>,
    settles: Vec<Settle>,
}

/// Deliveries taken out of their consumers' ledgers; they go back unless the commit succeeds.
struct Withdrawn<'a> {
    settle: &'a Settle,
    deliveries: Vec<(u64, Unacked)>,
}

impl Transaction {
    pub(crate) fn new(core: Arc<Core>) -> Transaction {
        Transaction {
            core,
            publishes: Vec::new(),
            settles: Vec::new(),
        }
    }

    fn check_room(&self) -> Result<(), Error> {
        self.core.check_open()?;
        if self.publishes.len() + self.settles.len() >= TRANSACTION_ACTIONS_MAX {
            return Err(Error::PreconditionFailed(Refusal::advised(
                format!("transaction of more than {TRANSACTION_ACTIONS_MAX} actions"),
                ": commit more often",
            )));
        }
        Ok(())
    }

    /// Adds a publish.
    ///
    /// # Errors
    /// What is wrong with the message itself is found now; the rest at the commit.
    pub fn publish(
        &mut self,
        exchange: &Arc<Exchange>,
        message: &NewMessage<'_>,
    ) -> Result<(), Error> {
        self.check_room()?;
        exchange.check_target()?;
        Draft::new(exchange, message, self.core.clock.now_ns())?;
        self.publishes.push(Publish {
            exchange: exchange.clone(),
            routing_key: message.routing_key.to_string(),
            properties: message.properties.to_vec(),
            body: message.body.to_vec(),
            persistent: message.persistent,
            mandatory: message.mandatory,
            delay: message.delay,
        });
        Ok(())
    }

    /// Adds the settlement of a delivery, or with `multiple` of all up to it.
    ///
    /// # Errors
    /// [`Error::UnknownDelivery`].
    pub fn settle(
        &mut self,
        consumer: &Arc<Consumer>,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Error> {
        self.check_room()?;
        if !consumer.knows(tag, multiple) {
            return Err(Error::UnknownDelivery { tag });
        }
        self.settles.push(Settle {
            consumer: consumer.clone(),
            tag,
            multiple,
            outcome,
        });
        Ok(())
    }

    /// Makes all of it happen, as one journal record, and leaves the transaction empty.
    ///
    /// # Errors
    /// Nothing of it happened, and the transaction is as it was: after what is [passing](Error::is_passing) it can be
    /// committed again.
    /// [`Error::Unroutable`] (mandatory only), [`Error::PublishRejected`], and those of a publish.
    pub fn commit(&mut self) -> Result<Ticket, Error> {
        let committed = self.try_commit(false)?;
        self.publishes.clear();
        self.settles.clear();
        Ok(committed.ticket)
    }

    /// As `commit`, for protocols that give unroutable mandatory messages back instead of failing.
    ///
    /// A queue that rejects a publish fails the commit here too. RabbitMQ does the rest and closes the channel with
    /// 406 "partial tx completion"; here nothing of it happens.
    ///
    /// # Errors
    /// As `commit`, but for [`Error::Unroutable`].
    pub fn commit_returning(&mut self) -> Result<Committed, Error> {
        let committed = self.try_commit(true)?;
        self.publishes.clear();
        self.settles.clear();
        Ok(committed)
    }

    fn try_commit(&self, return_unroutable: bool) -> Result<Committed, Error> {
        self.core.check_open()?;
        let now = self.core.clock.now_ns();
        let _compaction = self.core.storage().map(|s| s.compaction.read_recursive());

        let messages: Vec<NewMessage<'_>> = self.publishes.iter().map(Publish::message).collect();
        let mut stripped: Vec<Option<Vec<u8>>> = Vec::with_capacity(messages.len());
        for message in &messages {
            stripped.push(without_bcc(message.properties)?);
        }
        let mut drafts: Vec<Draft<'_>> = Vec::with_capacity(messages.len());
        let mut routes: Vec<SmallVec<[Arc<Queue>; 1]>> = Vec::with_capacity(messages.len());
        let mut returned = Vec::new();
        for (index, ((publish, message), stripped)) in self
            .publishes
            .iter()
            .zip(&messages)
            .zip(&stripped)
            .enumerate()
        {
            let mut draft = Draft::new(&publish.exchange, message, now)?;
            let queues = with_route(&publish.exchange, draft, |queues, _| SmallVec::from(queues))?;
            if queues.is_empty() && publish.mandatory {
                if !return_unroutable {
                    return Err(unroutable(&publish.exchange, &publish.routing_key));
                }
                returned.push(index);
            }
            if let Some(properties) = stripped {
                draft.parts.properties = properties;
            }
            drafts.push(draft);
            routes.push(queues);
        }

        let found = routes.clone();
        let windows = self
            .publishes
            .iter()
            .filter_map(|publish| publish.exchange.window())
            .chain(found.iter().flatten().filter_map(|queue| queue.window()));
        let mut judges = Judges::lock(windows, now);
        let mut knows_first = false;
        // Messages and bytes of this transaction, by queue, for those that refuse what is too much.
        let mut entering: HashMap<u32, (u64, u64)> = HashMap::new();
        for ((publish, queues), draft) in self.publishes.iter().zip(&mut routes).zip(&drafts) {
            if judged(&publish.exchange, queues) && !queues.is_empty() {
                let reached = queues.len();
                match judges.judge(&publish.exchange, queues, draft)? {
                    Judgement::Duplicate => queues.clear(),
                    Judgement::New(left) => *queues = left,
                }
                knows_first |= draft.facts.persistent && queues.len() < reached;
            }
            for queue in queues.iter().filter(|queue| queue.may_refuse()) {
                let (messages, bytes) = entering.entry(queue.id()).or_default();
                *messages += 1;
                *bytes += draft.parts.body.len() as u64;
                if queue.is_full(*messages, *bytes) {
                    return Err(rejected(queue));
                }
            }
        }

        let mut withdrawn: Vec<Withdrawn<'_>> = Vec::new();
        for settle in &self.settles {
            match settle.consumer.withdraw(settle.tag, settle.multiple) {
                Ok(deliveries) => withdrawn.push(Withdrawn { settle, deliveries }),
                Err(error) => {
                    put_back(withdrawn);
                    return Err(error);
                }
            }
        }

        let mut runs = Runs::new();
        for Withdrawn { settle, deliveries } in &withdrawn {
            if settle.outcome.kind() == Verdict::Settle {
                for (_, unacked) in deliveries {
                    let token = &unacked.token;
                    if token.stored().at() != 0 {
                        let queue = settle.consumer.queue().id();
                        push_run(
                            &mut runs,
                            Place {
                                queue,
                                level: token.level(),
                                position: token.position(),
                            },
                        );
                    }
                }
            }
        }

        let publish_runs: Vec<PublishRun<'_>> = routes
            .iter()
            .zip(&drafts)
            .map(|(queues, draft)| PublishRun {
                queues,
                drafts: std::slice::from_ref(draft),
            })
            .collect();
        let ids = &mut judges.entries;
        let written = write(&self.core, &publish_runs, &runs, &[], ids, Class::Publish);
        let mut ticket = match written {
            Ok((ticket, after)) => {
                judges.keep();
                after.happen();
                ticket
            }
            Err(error) => {
                drop(judges);
                put_back(withdrawn);
                return Err(error);
            }
        };
        if let (true, Some(storage)) = (knows_first, self.core.storage()) {
            ticket = ticket.max(storage.appended()); // no sooner than what it is a duplicate of
        }
        for (queues, publish) in found.iter().zip(&self.publishes) {
            publish.exchange.count(1, u64::from(queues.is_empty()));
        }
        for Withdrawn { settle, deliveries } in withdrawn {
            let queue = settle.consumer.queue();
            for (_, unacked) in deliveries {
                // The record stands: a journal that fails now is reported to whoever waits for the ticket.
                match settle.outcome.kind() {
                    Verdict::Settle => queue.settle_recorded(unacked.token),
                    Verdict::Fail => drop(queue.fail(unacked.token, unacked.body_bytes)),
                    Verdict::Release => {
                        queue.give_back(unacked.token, unacked.body_bytes);
                        queue.after_entry(1);
                    }
                    Verdict::Reject => drop(queue.reject(unacked.token)),
                    Verdict::Lose => drop(queue.lose(unacked.token, unacked.body_bytes)),
                }
            }
            settle.consumer.settled_elsewhere();
        }
        Ok(Committed { ticket, returned })
    }
}

fn put_back(withdrawn: Vec<Withdrawn<'_>>) {
    for Withdrawn { settle, deliveries } in withdrawn {
        settle.consumer.put_back(deliveries);
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("publishes", &self.publishes.len())
            .field("settles", &self.settles.len())
            .finish_non_exhaustive()
    }
}
