//! From what bindings lead to back to the exchanges that they come from, so that deleting a queue or an exchange costs what
//! is bound to it, and not a look at every exchange of the virtual host.
//!
//! A pair of numbers for each destination and exchange between which there are bindings, however many: some 17 bytes for a
//! queue with one binding, nothing for one that only the default exchange reaches.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::exchange::Exchange;

/// Ids of queues and exchanges, which are drawn from one sequence.
type Id = u32;

#[derive(Default)]
pub(super) struct Sources {
    /// Destination and source.
    pairs: BTreeSet<(Id, Id)>,
    /// Those that have bindings.
    exchanges: HashMap<Id, Arc<Exchange>, foldhash::fast::RandomState>,
}

impl Sources {
    /// There is a binding.
    pub(super) fn insert(&mut self, destination: Id, source: &Arc<Exchange>) {
        if self.pairs.insert((destination, source.id())) {
            self.exchanges
                .entry(source.id())
                .or_insert_with(|| source.clone());
        }
    }

    /// There is no binding any more.
    pub(super) fn remove(&mut self, destination: Id, source: &Exchange) {
        self.pairs.remove(&(destination, source.id()));
        self.forget_unbound(source);
    }

    /// The exchanges that have bindings to a destination, which the caller removes: the destination is gone.
    pub(super) fn take(&mut self, destination: Id) -> Vec<Arc<Exchange>> {
        let all = (destination, Id::MIN)..=(destination, Id::MAX);
        let ids: Vec<(Id, Id)> = self.pairs.range(all).copied().collect();
        let mut found = Vec::with_capacity(ids.len());
        for pair in ids {
            self.pairs.remove(&pair);
            found.extend(self.exchanges.get(&pair.1).cloned());
        }
        found
    }

    /// After bindings of an exchange were removed.
    pub(super) fn forget_unbound(&mut self, source: &Exchange) {
        if source.bindings.is_empty() {
            self.exchanges.remove(&source.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::exchange::Destination;
    use crate::random::numbers;
    use crate::table::{Table, Value};
    use crate::{Broker, BrokerOptions, ExchangeKind, ExchangeOptions, QueueOptions, VirtualHost};

    /// Source, destination with whether it is an exchange, key and argument.
    type Known = (usize, (bool, usize), usize, usize);

    const NAMES: usize = 6;
    const KINDS: [ExchangeKind; 4] = [
        ExchangeKind::Fanout,
        ExchangeKind::Direct,
        ExchangeKind::Topic,
        ExchangeKind::Headers,
    ];

    fn arguments(number: usize) -> Table {
        let mut table = Table::default();
        if number > 0 {
            table.insert("n", Value::I64(number as i64));
        }
        table
    }

    /// What a look at every binding of every exchange finds.
    fn walk(host: &VirtualHost) -> BTreeSet<(Id, Id)> {
        let mut pairs = BTreeSet::new();
        for source in host.exchanges() {
            for (_, _, destination) in source.bindings.list() {
                if let Destination::Exchange(_, exchange) = &destination {
                    assert!(exchange.upgrade().is_some_and(|one| !one.is_deleted()));
                }
                pairs.insert((destination.id(), source.id()));
            }
        }
        pairs
    }

    fn check(host: &VirtualHost, bindings: &BTreeSet<Known>, exchanges: &BTreeMap<usize, bool>) {
        let pairs = walk(host);
        let sources = host.sources.lock();
        assert_eq!(sources.pairs, pairs);
        let ids = |them: &mut dyn Iterator<Item = Id>| them.collect::<BTreeSet<Id>>();
        assert_eq!(
            ids(&mut sources.exchanges.keys().copied()),
            ids(&mut pairs.iter().map(|(_, source)| *source))
        );
        drop(sources);
        let mut found = BTreeSet::new();
        for number in 0..NAMES {
            let exchange = host.exchange(&format!("e{number}"));
            assert_eq!(exchange.is_ok(), exchanges.contains_key(&number));
            for binding in exchange.iter().flat_map(|one| one.bindings()) {
                let digits = |text: &str| text[1..].parse::<usize>().unwrap();
                found.insert((
                    number,
                    (binding.to_exchange, digits(&binding.destination)),
                    digits(&binding.routing_key),
                    binding.arguments.len(),
                ));
            }
        }
        assert_eq!(&found, bindings);
    }

    /// An exchange goes, and auto-delete exchanges that led only to what goes.
    fn model_delete(
        gone: (bool, usize),
        bindings: &mut BTreeSet<Known>,
        exchanges: &mut BTreeMap<usize, bool>,
    ) {
        if gone.0 {
            exchanges.remove(&gone.1);
            bindings.retain(|binding| binding.0 != gone.1);
        }
        let led: BTreeSet<usize> = bindings
            .iter()
            .filter(|b| b.1 == gone)
            .map(|b| b.0)
            .collect();
        bindings.retain(|binding| binding.1 != gone);
        for source in led {
            model_emptied(source, bindings, exchanges);
        }
    }

    fn model_emptied(
        source: usize,
        bindings: &mut BTreeSet<Known>,
        exchanges: &mut BTreeMap<usize, bool>,
    ) {
        let is_empty = bindings.iter().all(|binding| binding.0 != source);
        if is_empty && exchanges.get(&source) == Some(&true) {
            model_delete((true, source), bindings, exchanges);
        }
    }

    #[test]
    fn the_index_is_what_a_look_at_all_bindings_finds() {
        let mut random = numbers(5);
        for _ in 0..60 {
            let broker = Broker::open(BrokerOptions::default()).unwrap();
            let host = broker.virtual_host("/").unwrap();
            let mut bindings: BTreeSet<Known> = BTreeSet::new();
            // And whether they are deleted with their last binding.
            let mut exchanges: BTreeMap<usize, bool> = BTreeMap::new();
            let mut queues: BTreeSet<usize> = BTreeSet::new();
            for _ in 0..300 {
                let (source, number) = (random(NAMES), random(NAMES));
                let (source_name, queue) = (format!("e{source}"), format!("q{number}"));
                let target_name = format!("e{number}");
                let (to_exchange, key, argument) = (random(2) == 1, random(2), random(2));
                let binding = (source, (to_exchange, number), key, argument);
                let there = exchanges.contains_key(&source)
                    && if to_exchange {
                        exchanges.contains_key(&number)
                    } else {
                        queues.contains(&number)
                    };
                let (key, table) = (format!("k{key}"), arguments(argument));
                match random(16) {
                    0 | 1 => {
                        let options = ExchangeOptions {
                            kind: KINDS[source % KINDS.len()],
                            auto_delete: source % 2 == 1,
                            ..Default::default()
                        };
                        host.declare_exchange(&source_name, options).unwrap();
                        exchanges.insert(source, source % 2 == 1);
                    }
                    2 => {
                        host.declare_queue(&queue, QueueOptions::default()).unwrap();
                        queues.insert(number);
                    }
                    3 if random(3) == 0 => {
                        let deleted = host.delete_exchange(&source_name, false);
                        assert_eq!(deleted.is_ok(), exchanges.contains_key(&source));
                        model_delete((true, source), &mut bindings, &mut exchanges);
                    }
                    4 if random(3) == 0 => {
                        let deleted = host.delete_queue(&queue, false, false);
                        assert_eq!(deleted.is_ok(), queues.remove(&number));
                        model_delete((false, number), &mut bindings, &mut exchanges);
                    }
                    5..8 => {
                        let unbound = if to_exchange {
                            host.unbind_exchange(&target_name, &source_name, &key, table)
                        } else {
                            host.unbind_queue(&queue, &source_name, &key, table)
                        };
                        assert_eq!(unbound.is_ok(), there);
                        if bindings.remove(&binding) {
                            model_emptied(source, &mut bindings, &mut exchanges);
                        }
                    }
                    _ => {
                        let bound = if to_exchange {
                            host.bind_exchange(&target_name, &source_name, &key, table)
                        } else {
                            host.bind_queue(&queue, &source_name, &key, table)
                        };
                        assert_eq!(bound.is_ok(), there);
                        if there {
                            bindings.insert(binding);
                        }
                    }
                }
                check(&host, &bindings, &exchanges);
            }
        }
    }

    #[test]
    fn recovery_builds_the_index_too() {
        let disk = wherry_journal::testing::MemoryDisk::new();
        let open = || {
            Broker::open(BrokerOptions {
                disk: Some(disk.clone()),
                segment_bytes: 256 << 10,
                ..Default::default()
            })
            .unwrap()
        };
        let broker = open();
        let host = broker.virtual_host("/").unwrap();
        host.declare_queue("q", QueueOptions::default()).unwrap();
        for key in ["k0", "k1"] {
            host.bind_queue("q", "amq.direct", key, Table::default())
                .unwrap();
        }
        host.bind_exchange("amq.topic", "amq.direct", "k0", Table::default())
            .unwrap();
        let before = walk(&host);
        broker.close().unwrap();
        let broker = open();
        let host = broker.virtual_host("/").unwrap();
        assert_eq!(before.len(), 2);
        assert_eq!(host.sources.lock().pairs, before);
        assert_eq!(walk(&host), before);
        host.delete_queue("q", false, false).unwrap();
        assert_eq!(host.sources.lock().pairs, walk(&host));
        assert_eq!(host.exchange("amq.direct").unwrap().bindings().len(), 1);
    }
}
