//! The exclusive queues of a connection, which end with it.

use std::collections::HashSet;

use wherry_engine::{OwnerId, VirtualHost};

/// Names below which nothing is swept out.
const KEPT: usize = 64;

/// Names of the exclusive queues that one connection has declared in its virtual host.
#[derive(Debug)]
pub struct ExclusiveQueues {
    owner: OwnerId,
    names: HashSet<Box<str>>,
}

impl ExclusiveQueues {
    /// None yet of the owner that the connection is to the engine.
    pub fn new(owner: OwnerId) -> ExclusiveQueues {
        ExclusiveQueues {
            owner,
            names: HashSet::new(),
        }
    }

    fn is_ours(&self, host: &VirtualHost, name: &str) -> bool {
        host.queue(name)
            .is_ok_and(|queue| queue.options().exclusive == Some(self.owner))
    }

    /// One was declared. Names of those that went by themselves are swept out now and then.
    pub fn remember(&mut self, host: &VirtualHost, name: &str) {
        if self.names.len() == self.names.capacity() && self.names.len() >= KEPT {
            let mut names = std::mem::take(&mut self.names);
            names.retain(|name| self.is_ours(host, name));
            self.names = names;
        }
        self.names.insert(name.into());
    }

    /// One was deleted.
    pub fn forget(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// The connection ends, and they with it.
    pub fn delete_all(&mut self, host: &VirtualHost) {
        for name in std::mem::take(&mut self.names) {
            if self.is_ours(host, &name) {
                // No exclusive queue is in the journal, which therefore cannot refuse.
                let _ = host.delete_queue(&name, false, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wherry_engine::{Broker, BrokerOptions, QueueOptions};

    use super::*;

    fn host() -> (Arc<Broker>, Arc<VirtualHost>) {
        let broker = Broker::open(BrokerOptions::default()).unwrap();
        let host = broker.virtual_host("/").unwrap();
        (broker, host)
    }

    fn declare(host: &Arc<VirtualHost>, name: &str, exclusive: Option<OwnerId>) {
        let options = QueueOptions {
            exclusive,
            ..QueueOptions::default()
        };
        host.declare_queue(name, options).unwrap();
    }

    #[test]
    fn only_ones_own_queues_end_with_the_connection() {
        let (_broker, host) = host();
        let mut queues = ExclusiveQueues::new(7);
        for (name, now) in [("mine", Some(7)), ("theirs", Some(8)), ("shared", None)] {
            queues.remember(&host, name); // as if all had been ours once, and others came under their names
            declare(&host, name, now);
        }
        declare(&host, "forgotten", Some(7));
        queues.remember(&host, "forgotten");
        queues.forget("forgotten");
        queues.remember(&host, "gone");
        queues.delete_all(&host);
        let left = ["mine", "theirs", "shared", "forgotten"].map(|name| host.queue(name).is_ok());
        assert_eq!(left, [false, true, true, true]);
        queues.delete_all(&host); // again is nothing
        assert!(host.queue("forgotten").is_ok());
    }

    #[test]
    fn names_of_queues_that_went_do_not_pile_up() {
        let (_broker, host) = host();
        let mut queues = ExclusiveQueues::new(7);
        declare(&host, "stays", Some(7));
        queues.remember(&host, "stays");
        for number in 0..10_000 {
            queues.remember(&host, &format!("went-{number}"));
        }
        assert!(queues.names.len() < 4 * KEPT, "{}", queues.names.len());
        assert!(queues.names.contains("stays"));
    }
}
