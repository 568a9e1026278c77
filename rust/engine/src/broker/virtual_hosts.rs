//! Virtual hosts as they come and go.

use std::sync::Arc;

use wherry_journal::Class;

use super::Broker;
use crate::core::Core;
use crate::entries;
use crate::error::{Error, Refusal};
use crate::options::{ExchangeOptions, check_name};
use crate::queue::Queue;
use crate::storage::Ticket;
use crate::topology;
use crate::vhost::{PREDECLARED, VirtualHost};

impl Broker {
    /// A virtual host and its predeclared exchanges are one journal record.
    pub(super) fn create_virtual_host(
        core: &Arc<Core>,
        name: &str,
    ) -> Result<(Arc<VirtualHost>, Ticket), Error> {
        let id = core.new_id();
        let vhost = VirtualHost::new(id, name, core);
        let empty = crate::table::Table::default();
        let mut payloads = vec![(
            entries::DECLARE_VIRTUAL_HOST,
            topology::declared(id, 0, name, &empty).map_err(Error::Io)?,
        )];
        let mut exchanges = Vec::new();
        for (name, kind) in PREDECLARED {
            let options = ExchangeOptions {
                kind,
                ..ExchangeOptions::default()
            };
            let exchange = core.new_id();
            let payload = topology::declared(exchange, id, name, &options.to_table())
                .map_err(Error::InvalidArgument)?;
            payloads.push((entries::DECLARE_EXCHANGE, payload));
            exchanges.push((exchange, name, options));
        }
        let bytes = payloads
            .iter()
            .map(|(_, payload)| entries::named_bytes(payload.len()))
            .sum();
        let ticket = match core.storage() {
            None => Ticket::NONE,
            Some(storage) => storage.append(bytes, Class::Publish, |mut out| {
                for (kind, payload) in &payloads {
                    let (mine, rest) = out.split_at_mut(entries::named_bytes(payload.len()));
                    entries::write_named(mine, *kind, payload);
                    out = rest;
                }
            })?,
        };
        for (exchange, name, options) in exchanges {
            vhost.add_exchange(exchange, name, options);
        }
        core.virtual_hosts
            .write()
            .insert(name.to_string(), vhost.clone());
        Ok((vhost, ticket))
    }

    /// The virtual host of this name; `/` always exists.
    ///
    /// # Errors
    /// [`Error::UnknownVirtualHost`], [`Error::Closed`].
    pub fn virtual_host(&self, name: &str) -> Result<Arc<VirtualHost>, Error> {
        self.core.check_open()?;
        self.core
            .virtual_hosts
            .read()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::UnknownVirtualHost {
                name: name.to_string(),
            })
    }

    /// Makes sure that a virtual host exists.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that is empty or too long, journal errors.
    pub fn add_virtual_host(&self, name: &str) -> Result<(Arc<VirtualHost>, Ticket), Error> {
        self.core.check_open()?;
        check_name("virtual host name", name)?;
        if name.is_empty() {
            return Err(Error::InvalidArgument(
                "virtual host name: it cannot be empty".into(),
            ));
        }
        let _topology = self.core.topology.lock();
        if let Ok(vhost) = self.virtual_host(name) {
            return Ok((vhost, Ticket::NONE));
        }
        Self::create_virtual_host(&self.core, name)
    }

    /// Deletes a virtual host with everything in it.
    ///
    /// # Errors
    /// [`Error::UnknownVirtualHost`], [`Error::AccessRefused`] for `/`, journal errors.
    pub fn delete_virtual_host(&self, name: &str) -> Result<Ticket, Error> {
        let vhost = self.virtual_host(name)?;
        if name == "/" {
            return Err(Error::AccessRefused(Refusal::advised(
                "virtual host '/' cannot be deleted",
                ": delete its queues and exchanges",
            )));
        }
        for queue in vhost.queues() {
            match vhost.delete_queue(queue.name(), false, false) {
                Ok(_) | Err(Error::UnknownQueue { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        crate::core::interruptible();
        let topology = self.core.topology.lock();
        let mut late = Vec::new();
        let deleted = self.delete_virtual_host_locked(&vhost, &mut late);
        drop(topology);
        for queue in late {
            queue.empty_deleted();
        }
        let ticket = deleted?;
        self.core.consumer_watches.tell(vhost.id(), None);
        Ok(ticket)
    }

    /// Under the topology lock. Adds queues that came since others were deleted; after them none comes.
    fn delete_virtual_host_locked(
        &self,
        vhost: &VirtualHost,
        late: &mut Vec<Arc<Queue>>,
    ) -> Result<Ticket, Error> {
        if vhost.is_deleted() {
            return Err(vhost.unknown()); // and its name may be another's by now
        }
        for queue in vhost.queues() {
            vhost.delete_queue_locked(&queue)?;
            late.push(queue);
        }
        let ticket = match self.core.storage() {
            None => Ticket::NONE,
            Some(storage) => {
                let mut deleted: Vec<(u8, [u8; 4])> = vhost
                    .exchanges()
                    .iter()
                    .filter(|e| !e.name().is_empty() && e.options().durable)
                    .map(|e| (entries::DELETE_EXCHANGE, topology::deleted(e.id())))
                    .collect();
                deleted.push((entries::DELETE_VIRTUAL_HOST, topology::deleted(vhost.id())));
                let each = entries::named_bytes(4);
                storage.append(each * deleted.len(), Class::Settle, |out| {
                    for (mine, (kind, payload)) in out.chunks_exact_mut(each).zip(&deleted) {
                        entries::write_named(mine, *kind, payload);
                    }
                })?
            }
        };
        vhost.mark_deleted();
        self.core.virtual_hosts.write().remove(vhost.name());
        vhost.clear();
        Ok(ticket)
    }
}
