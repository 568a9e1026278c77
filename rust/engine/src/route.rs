//! From an exchange and a routing key to queues: through bindings, exchanges bound to exchanges, alternate exchanges,
//! and the CC and BCC headers. Each queue gets one copy, cycles are followed once.
//!
//! Answers are cached per exchange and routing key. A cached answer carries the generation of its virtual host's
//! topology; any change of topology makes a new generation and thereby every cached answer stale. When a queue is
//! deleted they are dropped at once, or they would keep it; otherwise the first answer of the new generation does so.
//! Which exchanges have cached anything since is noted, so that a deletion looks at those only: each was paid for by the
//! message that was routed.
//! Routes that looked at headers are not cached; those that did not look at the key either are cached once for all keys.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::error::Error;
use crate::exchange::{Destination, Exchange};
use crate::queue::Queue;
use crate::routing::{Answers, ExchangeKind};
use crate::table::{TableView, ValueView};
use crate::vhost::VirtualHost;

/// The queues of one routing decision.
pub(crate) struct Route {
    /// Whether another routing key could have led elsewhere.
    depends_on_key: bool,
    queues: SmallVec<[Arc<Queue>; 1]>,
}

/// What the routes of a virtual host have in common: the version of its topology, and who keeps routes of it.
#[derive(Default)]
pub(crate) struct Routes {
    generation: AtomicU64,
    /// Exchanges by id that have kept routes since `forget` was called. Locked after a cache's own lock, if that is held.
    keepers: Mutex<HashMap<u32, Arc<RouteCache>, foldhash::fast::RandomState>>,
}

impl Routes {
    /// Acquire pairs with the Release in `bump`: who sees the new number also sees the changed tables.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Called after a table changed.
    pub(crate) fn bump(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Lets go of all cached routes, and so of the queues in them. To be called after `bump`.
    pub(crate) fn forget(&self) {
        let keepers = std::mem::take(&mut *self.keepers.lock());
        for cache in keepers.into_values() {
            cache.routes.forget();
        }
    }

    /// The exchange was deleted, and marked as that before: lets go of its routes. None comes after them.
    pub(crate) fn forget_exchange(&self, exchange: &Exchange) {
        if let Some(cache) = exchange.cache_if_any() {
            // Who is about to keep a route has put it there by now, or sees that the exchange is deleted.
            cache.routes.forget();
            self.keepers.lock().remove(&exchange.id());
        }
    }
}

#[derive(Default)]
pub(crate) struct RouteCache {
    routes: Answers<Route>,
}

impl RouteCache {
    /// Calls `f` with the queues for `key`.
    pub(crate) fn with<R>(
        self: &Arc<Self>,
        exchange: &Exchange,
        key: &str,
        headers: Option<TableView<'_>>,
        f: impl FnOnce(&[Arc<Queue>]) -> R,
    ) -> Result<R, Error> {
        // Read before routing: a change in between makes the answer stale at once.
        let generation = exchange.routes().generation();
        // A fanout exchange has one answer for all keys, unless it leads to an exchange that looks at them.
        let is_fanout = exchange.kind() == ExchangeKind::Fanout;
        {
            let guard = crossbeam_epoch::pin();
            if is_fanout
                && let Some(route) = self.routes.find("", generation, &guard)
                && !route.depends_on_key
            {
                return Ok(f(&route.queues));
            }
            if let Some(route) = self.routes.find(key, generation, &guard) {
                return Ok(f(&route.queues));
            }
        }
        let vhost = exchange.vhost()?;
        let mut walk = Walk::new(&vhost);
        walk.from(exchange, &[key], headers);
        let outcome = f(&walk.queues);
        if !walk.looked_at_headers {
            let key = if is_fanout && !walk.looked_at_key {
                ""
            } else {
                key
            };
            let route = Route {
                depends_on_key: walk.looked_at_key,
                queues: walk.queues,
            };
            let routes = exchange.routes();
            let is_current = || routes.generation() == generation && !exchange.is_deleted();
            let is_first = || {
                let mut keepers = routes.keepers.lock();
                keepers.insert(exchange.id(), self.clone());
            };
            self.routes
                .keep(key, generation, is_current, is_first, route);
        }
        Ok(outcome)
    }

    /// Calls `f` with the queues for every key there is, if all keys are known to have the same ones.
    pub(crate) fn with_any_key<R>(
        &self,
        exchange: &Exchange,
        f: impl FnOnce(&[Arc<Queue>]) -> R,
    ) -> Option<R> {
        if exchange.kind() != ExchangeKind::Fanout {
            return None;
        }
        let guard = crossbeam_epoch::pin();
        let generation = exchange.routes().generation();
        self.routes
            .find("", generation, &guard)
            .filter(|route| !route.depends_on_key)
            .map(|route| f(&route.queues))
    }
}

/// Routing by several keys (CC, BCC) is rare and not cached. Each exchange on the way goes by all of them, as in
/// RabbitMQ: a message may come to an exchange by one key and leave it by another.
pub(crate) fn route_all(
    vhost: &VirtualHost,
    exchange: &Exchange,
    keys: &[&str],
    headers: Option<TableView<'_>>,
) -> SmallVec<[Arc<Queue>; 1]> {
    let mut walk = Walk::new(vhost);
    walk.from(exchange, keys, headers);
    walk.queues
}

/// Routing keys of the CC and BCC headers: arrays of texts, anything else is ignored as RabbitMQ does.
pub(crate) fn carbon_copies<'a>(headers: TableView<'a>, name: &str) -> SmallVec<[&'a str; 2]> {
    match headers.get(name) {
        Some(ValueView::Array(items)) => items.iter().filter_map(|item| item.as_str()).collect(),
        _ => SmallVec::new(),
    }
}

/// A walk from an exchange to all that it leads to, depth first. The way back is in a list and not on the thread's stack,
/// which clients could make overflow with a chain of exchanges.
struct Walk<'a> {
    vhost: &'a VirtualHost,
    queues: SmallVec<[Arc<Queue>; 1]>,
    /// Exchanges still to be walked, the next one last.
    next: SmallVec<[Arc<Exchange>; 2]>,
    seen: Seen,
    looked_at_headers: bool,
    looked_at_key: bool,
}

/// Above this many queues or exchanges a set is faster than looking through the list.
const LINEAR_MAX: usize = 32;

/// Destinations, doubles among them, that are held before doubles are sorted out: a megabyte at most.
const SORT_OUT_MIN: usize = 65_536;

/// Ids of exchanges that were walked already.
#[derive(Default)]
struct Seen {
    few: SmallVec<[u32; 4]>,
    /// All of them, when they are more.
    many: HashSet<u32>,
}

impl Seen {
    /// False if it was seen before.
    fn insert(&mut self, id: u32) -> bool {
        if self.few.len() == LINEAR_MAX {
            self.many.extend(self.few.drain(..));
        }
        if !self.many.is_empty() {
            return self.many.insert(id);
        }
        let is_new = !self.few.contains(&id);
        if is_new {
            self.few.push(id);
        }
        is_new
    }
}

impl<'a> Walk<'a> {
    fn new(vhost: &'a VirtualHost) -> Self {
        Walk {
            vhost,
            queues: SmallVec::new(),
            next: SmallVec::new(),
            seen: Seen::default(),
            looked_at_headers: false,
            looked_at_key: false,
        }
    }

    fn from(&mut self, exchange: &Exchange, keys: &[&str], headers: Option<TableView<'_>>) {
        self.exchange(exchange, keys, headers);
        while let Some(exchange) = self.next.pop() {
            self.exchange(&exchange, keys, headers);
        }
    }

    /// Takes its queues, and notes where to go on.
    fn exchange(&mut self, exchange: &Exchange, keys: &[&str], headers: Option<TableView<'_>>) {
        if !self.seen.insert(exchange.id()) {
            return;
        }
        self.looked_at_key |= exchange.kind() != ExchangeKind::Fanout;
        if exchange.is_default() {
            for key in keys {
                if let Ok(queue) = self.vhost.queue(key) {
                    self.add(&queue);
                }
            }
            return;
        }
        if exchange.kind() == ExchangeKind::Headers {
            self.looked_at_headers = true;
        }
        let first = self.next.len();
        let mut matched = false;
        let before = self.queues.len();
        // Of those that do not look at the key, one answer is that of all keys.
        let keys_count = match exchange.kind() {
            ExchangeKind::Fanout | ExchangeKind::Headers => keys.len().min(1),
            ExchangeKind::Direct | ExchangeKind::Topic => keys.len(),
        };
        let mut doubles_at = SORT_OUT_MIN;
        for key in &keys[..keys_count] {
            exchange.bindings.route(key, headers, &mut |destination| {
                matched = true;
                match destination {
                    // Doubles of one large table are sorted out below.
                    Destination::Queue(queue) => {
                        if self.queues.len() >= LINEAR_MAX || !contains(&self.queues, queue) {
                            self.queues.push(queue.clone());
                        }
                    }
                    Destination::Exchange(_, exchange) => self.next.extend(exchange.upgrade()),
                }
            });
            // Thousands of keys that all lead to the same thousands.
            if self.queues.len() + self.next.len() > doubles_at {
                self.sort_out(first);
                doubles_at = 2 * (self.queues.len() + self.next.len()) + SORT_OUT_MIN;
            }
        }
        if self.queues.len() > LINEAR_MAX && self.queues.len() > before {
            self.sort_out(first);
        }
        self.next[first..].reverse();
        if !matched
            && let Some(name) = exchange.alternate_exchange()
            && let Ok(alternate) = self.vhost.exchange(&name)
        {
            self.next.push(alternate);
        }
    }

    /// Leaves one of each queue, and of each exchange that is to be walked from `first` on.
    fn sort_out(&mut self, first: usize) {
        let mut known = HashSet::new();
        self.queues.retain(|queue| known.insert(queue.id()));
        let mut place = 0;
        self.next.retain(|exchange| {
            place += 1;
            place <= first || known.insert(exchange.id())
        });
    }

    fn add(&mut self, queue: &Arc<Queue>) {
        if !contains(&self.queues, queue) {
            self.queues.push(queue.clone());
        }
    }
}

fn contains(queues: &[Arc<Queue>], queue: &Arc<Queue>) -> bool {
    queues.iter().any(|known| Arc::ptr_eq(known, queue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use crate::{Broker, BrokerOptions, ExchangeOptions, NewMessage, QueueOptions};

    fn publish(exchange: &Exchange) -> u32 {
        exchange
            .publish(&NewMessage::new("key", b"x"))
            .unwrap()
            .routed
    }

    /// Whether a deleted queue is let go of, once the collector had its turn.
    fn is_gone(queue: &std::sync::Weak<Queue>) -> bool {
        for _ in 0..2000 {
            crossbeam_epoch::pin().flush();
        }
        queue.strong_count() == 0
    }

    #[test]
    fn no_route_keeps_a_deleted_queue() {
        let broker = Broker::open(BrokerOptions::default()).unwrap();
        let host = broker.virtual_host("/").unwrap();
        for round in ["bound", "unbound before", "its exchange deleted before"] {
            let options = ExchangeOptions::default();
            let (exchange, _) = host.declare_exchange("e", options).unwrap();
            let (queue, _) = host.declare_queue("q", QueueOptions::default()).unwrap();
            let queue = {
                let weak = Arc::downgrade(&queue);
                drop(queue);
                weak
            };
            host.bind_queue("q", "e", "key", Table::default()).unwrap();
            assert_eq!(publish(&exchange), 1);
            assert!(host.routes.keepers.lock().contains_key(&exchange.id()));
            match round {
                "unbound before" => {
                    host.unbind_queue("q", "e", "key", Table::default())
                        .unwrap();
                }
                "its exchange deleted before" => {
                    host.delete_exchange("e", false).unwrap();
                    assert!(!host.routes.keepers.lock().contains_key(&exchange.id()));
                }
                _ => {}
            }
            host.delete_queue("q", false, false).unwrap();
            assert!(is_gone(&queue), "{round}");
            assert!(host.routes.keepers.lock().is_empty());
            // And the next route is known of again.
            if !exchange.is_deleted() {
                assert_eq!(publish(&exchange), 0);
                assert!(host.routes.keepers.lock().contains_key(&exchange.id()));
            }
        }
    }
}
