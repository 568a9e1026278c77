//! Who gets what: bindings by exchange and key, and consumers by queue.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::content::Content;
use super::peer::Peer;

type Bytes = Box<[u8]>;

/// Somebody who gets the messages of a queue.
#[derive(Clone)]
pub(super) struct Consumer {
    pub(super) peer: Arc<Peer>,
    pub(super) channel: u16,
    pub(super) tag: Arc<str>,
}

impl Consumer {
    pub(super) fn deliver(&self, exchange: &[u8], key: &[u8], content: &Content<'_>) {
        self.peer
            .deliver(self.channel, &self.tag, exchange, key, content);
    }
}

/// Everything that was declared.
#[derive(Default)]
pub(super) struct Routes {
    tables: Mutex<Tables>,
    /// Grows with each change, under the lock; Release, so that who sees it (Acquire) finds the change behind the lock.
    version: AtomicU64,
}

#[derive(Default)]
struct Tables {
    /// Exchanges where the key means nothing.
    fanouts: HashSet<Bytes>,
    /// Queues by exchange and key; the default exchange leads to all by their names.
    bindings: HashMap<(Bytes, Bytes), Vec<Bytes>>,
    /// One consumer a queue has all its messages.
    consumers: HashMap<Bytes, Consumer>,
    named: u64,
}

impl Routes {
    fn change(&self) -> MutexGuard<'_, Tables> {
        let tables = self.tables.lock().expect("nobody panics with it");
        self.version.fetch_add(1, Ordering::Release);
        tables
    }

    pub(super) fn exchange(&self, name: &[u8], kind: &[u8]) {
        if kind == b"fanout" {
            self.change().fanouts.insert(name.into());
        }
    }

    /// A name that no other queue has.
    pub(super) fn name(&self) -> String {
        let mut tables = self.change();
        tables.named += 1;
        format!("relay-{}", tables.named)
    }

    pub(super) fn bind(&self, queue: &[u8], exchange: &[u8], key: &[u8]) {
        let mut tables = self.change();
        let key = if tables.fanouts.contains(exchange) {
            b""
        } else {
            key
        };
        let bound = tables
            .bindings
            .entry((exchange.into(), key.into()))
            .or_default();
        if !bound.iter().any(|known| **known == *queue) {
            bound.push(queue.into());
        }
    }

    pub(super) fn consume(&self, queue: &[u8], consumer: Consumer) {
        self.change().consumers.insert(queue.into(), consumer);
    }

    pub(super) fn cancel(&self, peer: &Arc<Peer>, tag: &[u8]) {
        self.change().consumers.retain(|_, consumer| {
            !Arc::ptr_eq(&consumer.peer, peer) || consumer.tag.as_bytes() != tag
        });
    }

    /// It has gone.
    pub(super) fn forget(&self, peer: &Arc<Peer>) {
        self.change()
            .consumers
            .retain(|_, consumer| !Arc::ptr_eq(&consumer.peer, peer));
    }

    fn find(&self, exchange: &[u8], key: &[u8]) -> Vec<Consumer> {
        let tables = self.tables.lock().expect("nobody panics with it");
        if exchange.is_empty() {
            return tables.consumers.get(key).cloned().into_iter().collect();
        }
        let key = if tables.fanouts.contains(exchange) {
            b""
        } else {
            key
        };
        let queues = tables.bindings.get(&(exchange.into(), key.into()));
        let consumers = queues.into_iter().flatten();
        consumers
            .filter_map(|queue| tables.consumers.get(queue).cloned())
            .collect()
    }
}

/// The consumers that a message was for, while nothing changes.
#[derive(Default)]
pub(super) struct Last {
    /// None yet: 0 comes only before the first declaration.
    version: u64,
    exchange: Vec<u8>,
    key: Vec<u8>,
    consumers: Vec<Consumer>,
}

impl Last {
    pub(super) fn of(&mut self, routes: &Routes, exchange: &[u8], key: &[u8]) -> &[Consumer] {
        let version = routes.version.load(Ordering::Acquire);
        if version != self.version || self.key != key || self.exchange != exchange {
            *self = Last {
                version,
                exchange: exchange.into(),
                key: key.into(),
                consumers: routes.find(exchange, key),
            };
        }
        &self.consumers
    }
}
