//! Virtual hosts: name spaces of exchanges and queues, and every change of topology.
//!
//! Changes are serialised by the broker's topology lock and appended to the journal before they are made in memory,
//! so that a change the journal refuses is not made. Readers (publishing, routing) never take that lock.

mod binding;
mod expiry;
mod policies;
mod sources;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use wherry_journal::Class;

use crate::core::Core;
use crate::entries;
use crate::equivalence;
use crate::error::{Error, Refusal};
use crate::exchange::{Destination, Exchange};
use crate::options::{ExchangeOptions, QueueOptions, check_name};
use crate::policy::Policies;
use crate::queue::{Queue, new_ready};
use crate::route::Routes;
use crate::routing::ExchangeKind;
use crate::storage::Ticket;
use crate::table::{Table, TableView};
use crate::topology;
use crate::transaction::Transaction;
use sources::Sources;

/// The exchanges that every virtual host has, beside the default exchange.
pub(crate) const PREDECLARED: [(&str, ExchangeKind); 5] = [
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
];

/// Queues by their own names: a table of pointers, since there may be millions.
#[derive(Default)]
struct QueuesByName {
    table: hashbrown::HashTable<Arc<Queue>>,
    hasher: foldhash::fast::RandomState,
}

impl QueuesByName {
    fn get(&self, name: &str) -> Option<&Arc<Queue>> {
        self.table
            .find(self.hasher.hash_one(name), |queue| queue.name() == name)
    }

    fn insert(&mut self, queue: Arc<Queue>) {
        let hash = self.hasher.hash_one(queue.name());
        let hasher = &self.hasher;
        self.table
            .insert_unique(hash, queue, |queue| hasher.hash_one(queue.name()));
    }

    fn remove(&mut self, name: &str) {
        if let Ok(entry) = self
            .table
            .find_entry(self.hasher.hash_one(name), |queue| queue.name() == name)
        {
            entry.remove();
        }
        if self.table.len() < self.table.capacity() / 4 {
            let hasher = &self.hasher;
            self.table
                .shrink_to_fit(|queue| hasher.hash_one(queue.name()));
        }
    }
}

/// A name space of exchanges and queues.
pub struct VirtualHost {
    id: u32,
    name: Box<str>,
    core: Arc<Core>,
    pub(crate) routes: Arc<Routes>,
    exchanges: RwLock<HashMap<Box<str>, Arc<Exchange>>>,
    queues: RwLock<QueuesByName>,
    /// Changed under the topology lock, with the bindings.
    sources: Mutex<Sources>,
    /// Changed under the topology lock.
    pub(crate) policies: Mutex<Policies>,
    /// Set once, under the topology lock, which those who declare in it hold.
    deleted: AtomicBool,
}

fn check_table(table: &Table) -> Result<(), Error> {
    let bytes = table
        .encode()
        .map_err(|e| Error::InvalidArgument(e.to_string()))?;
    // Also refuses what could be encoded but not read again.
    TableView::new(&bytes)
        .to_table()
        .map(drop)
        .map_err(|e| Error::InvalidArgument(e.to_string()))
}

impl VirtualHost {
    /// Empty but for the default exchange.
    pub(crate) fn new(id: u32, name: &str, core: &Arc<Core>) -> Arc<VirtualHost> {
        let vhost = Arc::new(VirtualHost {
            id,
            name: name.into(),
            core: core.clone(),
            routes: Arc::default(),
            exchanges: RwLock::default(),
            queues: RwLock::default(),
            sources: Mutex::default(),
            policies: Mutex::default(),
            deleted: AtomicBool::new(false),
        });
        vhost.add_exchange(core.new_id(), "", ExchangeOptions::default());
        vhost
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn unknown(&self) -> Error {
        Error::UnknownVirtualHost {
            name: self.name.to_string(),
        }
    }

    /// Whether it was deleted, with everything in it.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed) // a flag; what must not miss it holds the topology lock
    }

    /// Under the topology lock.
    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Relaxed);
    }

    /// Under the topology lock.
    fn check_usable(&self) -> Result<(), Error> {
        if self.is_deleted() {
            return Err(self.unknown());
        }
        Ok(())
    }

    pub(crate) fn add_exchange(
        self: &Arc<Self>,
        id: u32,
        name: &str,
        options: ExchangeOptions,
    ) -> Arc<Exchange> {
        let exchange = Exchange::new(
            id,
            name,
            options,
            &self.core,
            Arc::downgrade(self),
            &self.routes,
        );
        let in_force = self.policies.lock().for_exchange(name, exchange.options());
        exchange.set_alternate_exchange(in_force);
        self.exchanges.write().insert(name.into(), exchange.clone());
        self.routes.bump();
        exchange
    }

    pub(crate) fn add_queue(&self, queue: &Arc<Queue>) {
        self.queues.write().insert(queue.clone());
        self.routes.bump();
    }

    /// Its name; the first one is `/`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The exchange of this name; empty for the default exchange.
    ///
    /// # Errors
    /// [`Error::UnknownExchange`].
    pub fn exchange(&self, name: &str) -> Result<Arc<Exchange>, Error> {
        self.exchanges
            .read()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::UnknownExchange {
                name: name.to_string(),
                virtual_host: self.name.to_string(),
            })
    }

    /// The queue of this name.
    ///
    /// # Errors
    /// [`Error::UnknownQueue`].
    pub fn queue(&self, name: &str) -> Result<Arc<Queue>, Error> {
        self.queues
            .read()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::UnknownQueue {
                name: name.to_string(),
                virtual_host: self.name.to_string(),
            })
    }

    /// All exchanges, the default exchange included.
    pub fn exchanges(&self) -> Vec<Arc<Exchange>> {
        self.exchanges.read().values().cloned().collect()
    }

    /// All queues.
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        self.queues.read().table.iter().cloned().collect()
    }

    /// Begins a transaction.
    pub fn transaction(self: &Arc<Self>) -> Transaction {
        Transaction::new(self.core.clone())
    }

    fn append(&self, durable: bool, kind: u8, payload: &[u8]) -> Result<Ticket, Error> {
        match self.core.storage() {
            Some(storage) if durable => {
                storage.append(entries::named_bytes(payload.len()), Class::Publish, |out| {
                    entries::write_named(out, kind, payload);
                })
            }
            _ => Ok(Ticket::NONE),
        }
    }

    /// For things that exist already: they are durable once everything so far is.
    fn so_far(&self, durable: bool) -> Ticket {
        match self.core.storage() {
            Some(storage) if durable => storage.appended(),
            _ => Ticket::NONE,
        }
    }

    fn refuse_reserved(kind: &str, name: &str) -> Result<(), Error> {
        if name.starts_with("amq.") {
            return Err(Error::AccessRefused(Refusal::advised(
                format!("{kind} name '{name}' contains reserved prefix 'amq.*'"),
                ": choose another name",
            )));
        }
        Ok(())
    }

    /// Makes sure that an exchange exists as asked for.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when it exists otherwise, [`Error::AccessRefused`] for a new `amq.` name,
    /// [`Error::InvalidArgument`], journal errors.
    pub fn declare_exchange(
        self: &Arc<Self>,
        name: &str,
        options: ExchangeOptions,
    ) -> Result<(Arc<Exchange>, Ticket), Error> {
        self.core.check_open()?;
        check_name("exchange name", name)?;
        check_table(&options.arguments)?;
        if let Some(alternate) = &options.alternate_exchange {
            check_name("alternate exchange name", alternate)?;
        }
        if let Some(dedup) = &options.dedup {
            dedup.validate()?;
        }
        let _topology = self.core.topology.lock();
        self.check_usable()?;
        if let Ok(exchange) = self.exchange(name) {
            if name.is_empty() {
                return Err(Error::AccessRefused(Refusal::advised(
                    "operation not permitted on the default exchange",
                    ": it exists in every virtual host, just publish to it",
                )));
            }
            let current = exchange.options();
            equivalence::exchange(name, &self.name, &options, current)?;
            let ticket = self.so_far(current.durable);
            return Ok((exchange, ticket));
        }
        Self::refuse_reserved("exchange", name)?;
        let id = self.core.new_id();
        let payload = topology::declared(id, self.id, name, &options.to_table())
            .map_err(Error::InvalidArgument)?;
        let ticket = self.append(options.durable, entries::DECLARE_EXCHANGE, &payload)?;
        Ok((self.add_exchange(id, name, options), ticket))
    }

    /// Makes sure that a queue exists as asked for; an empty name lets the broker choose one.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when it exists otherwise, [`Error::ResourceLocked`] when it is somebody else's,
    /// [`Error::AccessRefused`] for an `amq.` name, [`Error::InvalidArgument`], journal errors.
    pub fn declare_queue(
        self: &Arc<Self>,
        name: &str,
        options: QueueOptions,
    ) -> Result<(Arc<Queue>, Ticket), Error> {
        self.core.check_open()?;
        check_name("queue name", name)?;
        options.validate()?;
        check_table(&options.arguments)?;
        let _topology = self.core.topology.lock();
        self.check_usable()?;
        if self.queue(name).is_err() && !name.is_empty() {
            Self::refuse_reserved("queue", name)?;
        }
        self.declare_queue_locked(name, options)
    }

    /// A name for a queue that the server names, so that permissions can be asked for it before
    /// [`VirtualHost::declare_queue_generated`].
    pub fn generated_queue_name(&self) -> String {
        self.core.generated_name("amq.gen-")
    }

    /// As [`VirtualHost::declare_queue`], under a name of [`VirtualHost::generated_queue_name`].
    ///
    /// # Errors
    /// As there.
    pub fn declare_queue_generated(
        self: &Arc<Self>,
        name: &str,
        options: QueueOptions,
    ) -> Result<(Arc<Queue>, Ticket), Error> {
        self.core.check_open()?;
        options.validate()?;
        check_table(&options.arguments)?;
        let _topology = self.core.topology.lock();
        self.check_usable()?;
        self.declare_queue_locked(name, options)
    }

    fn declare_queue_locked(
        self: &Arc<Self>,
        name: &str,
        options: QueueOptions,
    ) -> Result<(Arc<Queue>, Ticket), Error> {
        if let Ok(queue) = self.queue(name) {
            let current = queue.options();
            if current.exclusive != options.exclusive {
                return Err(queue.locked());
            }
            equivalence::queue(name, &self.name, &options, current)?;
            queue.touch();
            let ticket = self.so_far(queue.is_durable());
            return Ok((queue, ticket));
        }
        let generated;
        let name = if name.is_empty() {
            generated = self.generated_queue_name();
            &generated
        } else {
            name
        };
        if let Some(dead) = options
            .retry
            .as_ref()
            .and_then(|retry| retry.dead_letter.clone())
            && self.queue(&dead).is_err()
        {
            let graveyard = QueueOptions {
                durable: options.durable,
                ..QueueOptions::default()
            };
            Self::refuse_reserved("queue", &dead)?;
            self.declare_queue_locked(&dead, graveyard)?;
        }
        let id = self.core.new_id();
        let options = self.core.share_options(options);
        let ready = new_ready(&options);
        let in_force = self.policies.lock().for_queue(name, &options);
        let vhost = Arc::downgrade(self);
        let queue = Queue::new(id, name, options, in_force, &self.core, vhost, ready);
        let payload = topology::declared(id, self.id, name, &queue.options().to_table())
            .map_err(Error::InvalidArgument)?;
        let ticket = match self.append(queue.is_durable(), entries::DECLARE_QUEUE, &payload) {
            Ok(ticket) => ticket,
            Err(error) => {
                self.core.forget_queue(id);
                return Err(error);
            }
        };
        self.add_queue(&queue);
        Ok((queue, ticket))
    }

    /// Deletes an exchange and all bindings from and to it.
    ///
    /// # Errors
    /// [`Error::UnknownExchange`], [`Error::PreconditionFailed`] (`if_unused` and it has bindings),
    /// [`Error::AccessRefused`] for predeclared exchanges, journal errors.
    pub fn delete_exchange(&self, name: &str, if_unused: bool) -> Result<Ticket, Error> {
        self.core.check_open()?;
        let _topology = self.core.topology.lock();
        let exchange = self.exchange(name)?;
        if name.is_empty() || name.starts_with("amq.") {
            let text = if name.is_empty() {
                "operation not permitted on the default exchange".to_string()
            } else {
                format!(
                    "deletion of system exchange '{name}' in vhost '{}' not allowed",
                    self.name
                )
            };
            return Err(Error::AccessRefused(Refusal::advised(
                text,
                ": it is predeclared and cannot be deleted; leave it unused",
            )));
        }
        if if_unused && !exchange.bindings.is_empty() {
            return Err(Error::PreconditionFailed(Refusal::advised(
                format!("exchange '{name}' in vhost '{}' in use", self.name),
                ": unbind what is bound to it first, or delete without if_unused",
            )));
        }
        self.delete_exchange_locked(&exchange)
    }

    /// With it go auto-delete exchanges that lead to nothing else, one after the other: a chain of them may be longer than
    /// the thread's stack is deep.
    fn delete_exchange_locked(&self, exchange: &Arc<Exchange>) -> Result<Ticket, Error> {
        let mut emptied = Vec::new();
        let ticket = self.delete_exchange_alone(exchange, &mut emptied)?;
        self.delete_emptied(emptied);
        Ok(ticket)
    }

    fn delete_exchange_alone(
        &self,
        exchange: &Arc<Exchange>,
        emptied: &mut Vec<Arc<Exchange>>,
    ) -> Result<Ticket, Error> {
        let payload = topology::deleted(exchange.id());
        let ticket = self.append(
            exchange.options().durable,
            entries::DELETE_EXCHANGE,
            &payload,
        )?;
        exchange.mark_deleted();
        self.exchanges.write().remove(exchange.name());
        self.leads_nowhere(exchange);
        self.unbind_everywhere(&Destination::exchange(exchange), emptied);
        self.routes.bump();
        self.routes.forget_exchange(exchange);
        Ok(ticket)
    }

    fn delete_emptied(&self, mut emptied: Vec<Arc<Exchange>>) {
        while let Some(exchange) = emptied.pop() {
            // A journal that refuses leaves an exchange without bindings, which is what it is.
            let _ = self.delete_exchange_alone(&exchange, &mut emptied);
        }
    }

    /// Deletes a queue with everything in it; its consumers are cancelled and told. Returns how many messages it had.
    ///
    /// # Errors
    /// [`Error::UnknownQueue`], [`Error::PreconditionFailed`] (`if_unused`, `if_empty`), journal errors.
    pub fn delete_queue(
        &self,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(u64, Ticket), Error> {
        self.core.check_open()?;
        let topology = self.core.topology.lock();
        let queue = self.queue(name)?;
        if if_unused && queue.consumers.count() > 0 {
            return Err(Error::PreconditionFailed(Refusal::advised(
                format!("queue '{name}' in vhost '{}' in use", self.name),
                ": cancel its consumers first, or delete without if_unused",
            )));
        }
        if if_empty && queue.ready.len() > 0 {
            return Err(Error::PreconditionFailed(Refusal::advised(
                format!("queue '{name}' in vhost '{}' not empty", self.name),
                ": purge it first, or delete without if_empty",
            )));
        }
        let ticket = self.delete_queue_locked(&queue)?;
        drop(topology);
        Ok((queue.empty_deleted(), ticket))
    }

    /// Under the topology lock; `Queue::empty_deleted` follows without it.
    pub(crate) fn delete_queue_locked(&self, queue: &Arc<Queue>) -> Result<Ticket, Error> {
        let payload = topology::deleted(queue.id());
        let ticket = self.append(queue.is_durable(), entries::DELETE_QUEUE, &payload)?;
        queue.mark_deleted();
        self.queues.write().remove(queue.name());
        self.core.forget_queue(queue.id());
        let mut emptied = Vec::new();
        self.unbind_everywhere(&Destination::Queue(queue.clone()), &mut emptied);
        self.delete_emptied(emptied);
        self.routes.bump();
        self.routes.forget();
        Ok(ticket)
    }

    /// The broker closes: nobody may find anything here any more.
    pub(crate) fn clear(&self) {
        for (_, exchange) in self.exchanges.write().drain() {
            exchange.mark_deleted();
        }
        self.queues.write().table.clear();
        *self.sources.lock() = Sources::default();
        self.routes.bump();
        self.routes.forget();
    }
}

impl std::fmt::Debug for VirtualHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VirtualHost")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
