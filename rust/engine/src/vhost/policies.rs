//! Setting and clearing policies, and what that does to the queues that are there.

use std::sync::Arc;

use super::VirtualHost;
use crate::entries;
use crate::error::Error;
use crate::policy::{NewPolicy, POLICIES_MAX, Policy};
use crate::queue::Queue;
use crate::storage::Ticket;
use crate::topology;

impl VirtualHost {
    /// Sets a policy, in place of the one of its name. It acts on what is there before this returns.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name, pattern or definition that cannot be, or one policy too many; journal errors.
    pub fn set_policy(&self, new: NewPolicy) -> Result<(Arc<Policy>, Ticket), Error> {
        self.core().check_open()?;
        let topology = self.core().topology.lock();
        self.check_usable()?;
        {
            let policies = self.policies.lock();
            let known = policies.get(new.operator, &new.name);
            if let Some(same) = known.filter(|policy| *policy.as_set() == new) {
                return Ok((same.clone(), self.so_far(true)));
            }
            if known.is_none() && policies.list().len() >= POLICIES_MAX {
                return Err(Error::InvalidArgument(format!(
                    "a virtual host has {POLICIES_MAX} policies at most: put several into one pattern"
                )));
            }
        }
        let policy = Arc::new(Policy::new(self.core().new_id(), new)?);
        let payload = topology::declared(policy.id, self.id(), policy.name(), &policy.to_table())
            .map_err(Error::InvalidArgument)?;
        let ticket = self.append(true, entries::SET_POLICY, &payload)?;
        self.policies.lock().set(policy.clone());
        let changed = self.apply_policies();
        drop(topology);
        act(changed);
        Ok((policy, ticket))
    }

    /// Clears a policy: what it acted on is as declared again, or as the next policy has it. False: there is none.
    ///
    /// # Errors
    /// Journal errors.
    pub fn clear_policy(&self, name: &str, operator: bool) -> Result<(bool, Ticket), Error> {
        self.core().check_open()?;
        let topology = self.core().topology.lock();
        self.check_usable()?;
        let Some(policy) = self.policies.lock().get(operator, name).cloned() else {
            return Ok((false, self.so_far(true)));
        };
        let payload = topology::deleted(policy.id);
        let ticket = self.append(true, entries::CLEAR_POLICY, &payload)?;
        self.policies.lock().remove(operator, name);
        let changed = self.apply_policies();
        drop(topology);
        act(changed);
        Ok((true, ticket))
    }

    /// All policies and operator policies; of those that match a queue the first one of its kind acts.
    pub fn policies(&self) -> Vec<Arc<Policy>> {
        self.policies.lock().list().to_vec()
    }

    /// A policy that recovery found, before anything that it could match is there.
    pub(crate) fn restore_policy(&self, policy: Policy) {
        self.policies.lock().set(Arc::new(policy));
    }

    /// Under the topology lock, so that no declaration comes in between. The queues that are otherwise than before.
    fn apply_policies(&self) -> Vec<Arc<Queue>> {
        let mut policies = self.policies.lock();
        for exchange in self.exchanges() {
            let in_force = policies.for_exchange(exchange.name(), exchange.options());
            exchange.set_alternate_exchange(in_force);
        }
        self.routes.bump(); // cached routes may have gone by an alternate exchange
        let queues = self.queues().into_iter();
        queues
            .filter(|queue| {
                let in_force = policies.for_queue(queue.name(), queue.declared());
                queue.put_in_force(in_force)
            })
            .collect()
    }
}

/// Without the topology lock: messages may be dead-lettered now, and queues deleted.
fn act(changed: Vec<Arc<Queue>>) {
    for queue in changed {
        queue.after_change();
    }
}
