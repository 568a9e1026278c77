//! Exchanges: where publishers hand messages in.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::RwLock;

use crate::core::Core;
use crate::dedup::Window;
use crate::draft::{Draft, NewMessage};
use crate::error::{Error, Refusal};
use crate::options::ExchangeOptions;
use crate::policy::{AlternateExchange, Policy};
use crate::publish::Published;
use crate::queue::Queue;
use crate::route::{RouteCache, Routes};
use crate::routing::{Bindings, ExchangeKind};
use crate::table::Table;
use crate::vhost::VirtualHost;

/// What a binding leads to.
#[derive(Clone)]
pub(crate) enum Destination {
    Queue(Arc<Queue>),
    /// Weak, since exchanges may be bound in circles.
    Exchange(u32, Weak<Exchange>),
}

impl Destination {
    pub(crate) fn exchange(exchange: &Arc<Exchange>) -> Destination {
        Destination::Exchange(exchange.id, Arc::downgrade(exchange))
    }

    pub(crate) fn id(&self) -> u32 {
        match self {
            Destination::Queue(queue) => queue.id(),
            Destination::Exchange(id, _) => *id,
        }
    }
}

// Queues and exchanges draw their ids from one sequence.
impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Destination {}

impl Hash for Destination {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

/// One binding, as listed.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingInfo {
    /// The exchange it starts from.
    pub source: String,
    /// The queue or exchange it leads to.
    pub destination: String,
    /// Whether `destination` is an exchange.
    pub to_exchange: bool,
    /// Its routing key or pattern.
    pub routing_key: String,
    /// Its arguments.
    pub arguments: Table,
}

/// What went through an exchange since the broker was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeStatistics {
    /// Messages published to it.
    pub published: u64,
    /// Messages that reached at least one queue.
    pub routed: u64,
    /// Messages that reached none.
    pub unroutable: u64,
    /// Messages that it had taken already.
    pub duplicates: u64,
    /// Bindings from it.
    pub bindings: usize,
}

/// An exchange: routes messages to queues.
pub struct Exchange {
    id: u32,
    name: Box<str>,
    /// As declared.
    options: ExchangeOptions,
    /// What a policy made of it, if one acts. Changed under the topology lock, and the topology has a new generation then.
    in_force: RwLock<Option<AlternateExchange>>,
    core: Arc<Core>,
    vhost: Weak<VirtualHost>,
    routes: Arc<Routes>,
    pub(crate) bindings: Bindings<Destination>,
    cache: OnceLock<Arc<RouteCache>>,
    /// Set once, under the topology lock. Relaxed: who is late publishes to an exchange without bindings.
    deleted: AtomicBool,
    /// The ids of what was published, in exchanges that know duplicates.
    window: Option<Box<Window>>,
    /// Counts only: Relaxed.
    published: AtomicU64,
    unroutable: AtomicU64,
    duplicates: AtomicU64,
}

impl Exchange {
    pub(crate) fn new(
        id: u32,
        name: &str,
        options: ExchangeOptions,
        core: &Arc<Core>,
        vhost: Weak<VirtualHost>,
        routes: &Arc<Routes>,
    ) -> Arc<Exchange> {
        let durable = options.durable && core.storage().is_some();
        let window = options
            .dedup
            .as_ref()
            .map(|dedup| Window::new(id, dedup, durable, core));
        Arc::new(Exchange {
            window,
            duplicates: AtomicU64::new(0),
            routes: routes.clone(),
            id,
            name: name.into(),
            bindings: Bindings::new(options.kind),
            options,
            in_force: RwLock::new(None),
            core: core.clone(),
            vhost,
            cache: OnceLock::new(),
            deleted: AtomicBool::new(false),
            published: AtomicU64::new(0),
            unroutable: AtomicU64::new(0),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Its name; empty for the default exchange.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it routes.
    pub fn kind(&self) -> ExchangeKind {
        self.options.kind
    }

    /// Where messages go that no binding takes: as declared, or else as a policy has it.
    pub fn alternate_exchange(&self) -> Option<String> {
        match &*self.in_force.read() {
            Some(in_force) => in_force.name.clone(),
            None => self.options.alternate_exchange.clone(),
        }
    }

    pub(crate) fn set_alternate_exchange(&self, in_force: Option<AlternateExchange>) {
        *self.in_force.write() = in_force;
    }

    /// The policy that acts on it.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.in_force.read().as_ref().map(|one| one.policy.clone())
    }

    /// As declared, whatever policies make of it.
    pub fn options(&self) -> &ExchangeOptions {
        &self.options
    }

    /// Whether it was deleted: nobody finds it any more, and publishing to it is refused.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed)
    }

    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_default(&self) -> bool {
        self.name.is_empty()
    }

    pub(crate) fn vhost(&self) -> Result<Arc<VirtualHost>, Error> {
        self.vhost.upgrade().ok_or(Error::Closed)
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    pub(crate) fn cache(&self) -> &Arc<RouteCache> {
        self.cache.get_or_init(Arc::default)
    }

    pub(crate) fn cache_if_any(&self) -> Option<&Arc<RouteCache>> {
        self.cache.get()
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn count(&self, published: u64, unroutable: u64) {
        self.published.fetch_add(published, Ordering::Relaxed);
        if unroutable != 0 {
            self.unroutable.fetch_add(unroutable, Ordering::Relaxed);
        }
    }

    pub(crate) fn window(&self) -> Option<&Window> {
        self.window.as_deref()
    }

    pub(crate) fn count_duplicate(&self) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
    }

    fn check_publish(&self) -> Result<(), Error> {
        self.core.check_open()?;
        if self.core.memory.is_over() {
            return Err(Error::Busy);
        }
        self.check_target()
    }

    /// Whether it may be published to at all.
    pub(crate) fn check_target(&self) -> Result<(), Error> {
        if self.is_deleted() {
            return Err(Error::UnknownExchange {
                name: self.name.to_string(),
                virtual_host: self.virtual_host_name(),
            });
        }
        if self.options.internal {
            return Err(Error::AccessRefused(Refusal::advised(
                format!(
                    "cannot publish to internal exchange '{}' in vhost '{}'",
                    self.name,
                    self.virtual_host_name()
                ),
                ": it takes messages from other exchanges only; publish to one that it is bound to",
            )));
        }
        Ok(())
    }

    /// The name of its virtual host; empty when the broker is closed.
    pub fn virtual_host_name(&self) -> String {
        self.vhost
            .upgrade()
            .map(|v| v.name().to_string())
            .unwrap_or_default()
    }

    /// Publishes one message: routes it and puts it into every queue found.
    ///
    /// The ticket is zero unless the message is persistent and reached a durable queue of a broker with a journal.
    ///
    /// # Errors
    /// [`Error::PublishRejected`]; and where nothing was published: [`Error::Unroutable`] (mandatory only),
    /// [`Error::Busy`], [`Error::DiskFull`], [`Error::NoSegment`], [`Error::JournalFailed`], [`Error::MessageTooLarge`],
    /// [`Error::InvalidArgument`], [`Error::AccessRefused`] (internal exchange), [`Error::UnknownExchange`] (it was deleted), [`Error::Closed`].
    pub fn publish(&self, message: &NewMessage<'_>) -> Result<Published, Error> {
        self.check_publish()?;
        let draft = Draft::new(self, message, self.core.clock.now_ns())?;
        crate::publish::publish_one(self, message, draft)
    }

    /// Publishes messages in order, with one journal record for many of them. Not a transaction: `accepted` tells
    /// how many were published when the journal ran out of room on the way; an error means none was.
    ///
    /// # Errors
    /// As [`Exchange::publish`], for the first message that cannot be published.
    pub fn publish_batch(&self, messages: &[NewMessage<'_>]) -> Result<Published, Error> {
        self.check_publish()?;
        crate::publish::publish_batch(self, messages)
    }

    /// Bindings from this exchange.
    pub fn bindings(&self) -> Vec<BindingInfo> {
        self.bindings
            .list()
            .into_iter()
            .map(|(routing_key, arguments, destination)| {
                let (destination, to_exchange) = match destination {
                    Destination::Queue(queue) => (queue.name().to_string(), false),
                    Destination::Exchange(_, weak) => (
                        weak.upgrade()
                            .map(|e| e.name().to_string())
                            .unwrap_or_default(),
                        true,
                    ),
                };
                BindingInfo {
                    source: self.name.to_string(),
                    destination,
                    to_exchange,
                    routing_key,
                    arguments,
                }
            })
            .collect()
    }

    /// What went through since the broker was opened.
    pub fn statistics(&self) -> ExchangeStatistics {
        let unroutable = self.unroutable.load(Ordering::Relaxed);
        let published = self.published.load(Ordering::Relaxed);
        ExchangeStatistics {
            published,
            routed: published.saturating_sub(unroutable),
            unroutable,
            duplicates: self.duplicates.load(Ordering::Relaxed),
            bindings: self.bindings.len(),
        }
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
