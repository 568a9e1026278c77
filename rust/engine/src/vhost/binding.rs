//! Bindings: how exchanges lead to queues and to each other.

use super::*;
use crate::routing::BindError;

impl VirtualHost {
    /// In memory only. Under the topology lock, or in a recovery. False: it was there.
    pub(crate) fn add_binding(
        &self,
        source: &Arc<Exchange>,
        key: &str,
        arguments: &Table,
        destination: &Destination,
    ) -> Result<bool, BindError> {
        let bindings = &source.bindings;
        let added = bindings.bind(key, arguments, destination.clone())?;
        if added {
            self.sources.lock().insert(destination.id(), source);
        }
        Ok(added)
    }

    /// In memory only. Under the topology lock. False: it was not there.
    fn remove_binding(
        &self,
        source: &Exchange,
        key: &str,
        arguments: &Table,
        destination: &Destination,
    ) -> bool {
        let removed = source.bindings.unbind(key, arguments, destination);
        if removed && !source.bindings.leads_to(destination) {
            self.sources.lock().remove(destination.id(), source);
        }
        removed
    }

    /// Removes all bindings of an exchange that is gone.
    pub(super) fn leads_nowhere(&self, source: &Exchange) {
        let mut sources = self.sources.lock();
        for destination in source.bindings.destinations() {
            source.bindings.unbind_destination(&destination);
            sources.remove(destination.id(), source);
        }
    }

    /// Removes what leads to a destination that is gone. Adds auto-delete exchanges that have nothing left.
    pub(super) fn unbind_everywhere(
        &self,
        destination: &Destination,
        emptied: &mut Vec<Arc<Exchange>>,
    ) {
        let mut sources = self.sources.lock();
        for source in sources.take(destination.id()) {
            source.bindings.unbind_destination(destination);
            sources.forget_unbound(&source);
            if source.options().auto_delete && source.bindings.is_empty() {
                emptied.push(source);
            }
        }
    }

    fn source(&self, name: &str) -> Result<Arc<Exchange>, Error> {
        if name.is_empty() {
            return Err(Error::AccessRefused(Refusal::advised(
                "operation not permitted on the default exchange",
                ": every queue is bound to it by its own name already",
            )));
        }
        self.exchange(name)
    }

    fn bind(
        &self,
        source: &str,
        (destination, durable): (Destination, bool),
        key: &str,
        arguments: &Table,
    ) -> Result<Ticket, Error> {
        let source = self.source(source)?;
        check_name("routing key", key)?;
        check_table(arguments)?;
        let durable = durable && source.options().durable;
        let payload = topology::bound(source.id(), destination.id(), key, arguments)
            .map_err(Error::InvalidArgument)?;
        // In memory first, since only the table knows whether the pattern is right; nobody else can bind meanwhile.
        let added = self
            .add_binding(&source, key, arguments, &destination)
            .map_err(|e| Error::InvalidArgument(e.to_string()))?;
        if !added {
            return Ok(self.so_far(durable));
        }
        match self.append(durable, entries::BIND, &payload) {
            Ok(ticket) => {
                self.routes.bump();
                Ok(ticket)
            }
            Err(error) => {
                self.remove_binding(&source, key, arguments, &destination);
                Err(error)
            }
        }
    }

    fn unbind(
        &self,
        source: &str,
        (destination, durable): (Destination, bool),
        key: &str,
        arguments: &Table,
    ) -> Result<Ticket, Error> {
        let source = self.source(source)?;
        let durable = durable && source.options().durable;
        let payload = topology::bound(source.id(), destination.id(), key, arguments)
            .map_err(Error::InvalidArgument)?;
        let ticket = self.append(durable, entries::UNBIND, &payload)?;
        if self.remove_binding(&source, key, arguments, &destination) {
            self.routes.bump();
            if source.options().auto_delete && source.bindings.is_empty() {
                self.delete_exchange_locked(&source)?;
            }
        }
        Ok(ticket)
    }

    /// A queue as the end of a binding, and whether it lasts.
    fn to_queue(&self, name: &str) -> Result<(Destination, bool), Error> {
        let queue = self.queue(name)?;
        let durable = queue.is_durable();
        Ok((Destination::Queue(queue), durable))
    }

    /// An exchange as the end of a binding, and whether it lasts.
    fn to_exchange(&self, name: &str) -> Result<(Destination, bool), Error> {
        let exchange = self.source(name)?;
        Ok((Destination::exchange(&exchange), exchange.options().durable))
    }

    /// Binds a queue to an exchange. Binding twice is binding once.
    ///
    /// # Errors
    /// [`Error::UnknownExchange`], [`Error::UnknownQueue`], [`Error::InvalidArgument`] (pattern, arguments),
    /// [`Error::AccessRefused`] for the default exchange, journal errors.
    pub fn bind_queue(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: Table,
    ) -> Result<Ticket, Error> {
        self.core.check_open()?;
        let _topology = self.core.topology.lock();
        self.bind(exchange, self.to_queue(queue)?, key, &arguments)
    }

    /// Removes a binding; one that is not there is removed already.
    ///
    /// # Errors
    /// As `bind_queue`.
    pub fn unbind_queue(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: Table,
    ) -> Result<Ticket, Error> {
        self.core.check_open()?;
        let _topology = self.core.topology.lock();
        self.unbind(exchange, self.to_queue(queue)?, key, &arguments)
    }

    /// Binds an exchange to an exchange: what `source` routes by this key goes to `destination` as well.
    ///
    /// # Errors
    /// As `bind_queue`.
    pub fn bind_exchange(
        &self,
        destination: &str,
        source: &str,
        key: &str,
        arguments: Table,
    ) -> Result<Ticket, Error> {
        self.core.check_open()?;
        let _topology = self.core.topology.lock();
        self.source(source)?; // of two that are missing RabbitMQ names the source
        self.bind(source, self.to_exchange(destination)?, key, &arguments)
    }

    /// Removes a binding between exchanges.
    ///
    /// # Errors
    /// As `bind_queue`.
    pub fn unbind_exchange(
        &self,
        destination: &str,
        source: &str,
        key: &str,
        arguments: Table,
    ) -> Result<Ticket, Error> {
        self.core.check_open()?;
        let _topology = self.core.topology.lock();
        self.unbind(source, self.to_exchange(destination)?, key, &arguments)
    }
}
