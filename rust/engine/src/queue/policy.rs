//! What a queue does when the settings that are in force for it change.

use std::sync::Arc;

use super::Queue;
use crate::core::Event;
use crate::options::QueueOptions;
use crate::policy::{InForce, Policy};
use crate::table::Table;

impl Queue {
    /// The settings in force: as declared, and as policies have it.
    pub fn in_force(&self) -> Arc<QueueOptions> {
        let in_force = self.settings.in_force();
        in_force.map_or_else(|| self.options.clone(), |one| one.options.clone())
    }

    /// The policy and the operator policy that act on it.
    pub fn policies(&self) -> (Option<Arc<Policy>>, Option<Arc<Policy>>) {
        let in_force = self.settings.in_force();
        in_force.map_or((None, None), |one| {
            (one.policy.clone(), one.operator_policy.clone())
        })
    }

    /// The settings that policies have for it; empty without any.
    pub fn policy_definition(&self) -> Table {
        let in_force = self.settings.in_force();
        in_force.map_or_else(Table::default, |one| one.definition())
    }

    pub(crate) fn declared(&self) -> &Arc<QueueOptions> {
        &self.options
    }

    /// Under the topology lock. Whether anything is otherwise than before.
    pub(crate) fn put_in_force(&self, in_force: Option<Arc<InForce>>) -> bool {
        let now = in_force
            .as_ref()
            .map_or_else(|| self.options.clone(), |one| one.options.clone());
        let before = self.settings.change(&self.options, in_force);
        let before = before.map_or_else(|| self.options.clone(), |one| one.options.clone());
        if before == now {
            return false;
        }
        if before.expires != now.expires {
            self.touch(); // its time starts with the policy
        }
        true
    }

    /// Has the messages that are there know of new settings. Without the topology lock.
    ///
    /// Those above a new limit go now. For a new time to live each message gets its deadline, counted from when it came, as
    /// if the limit had always been there; a message that is on its way into the queue at this moment may be left out, and
    /// is looked at when it comes to the head. For a longer one, or none, nothing is done: deadlines that come too early
    /// are set anew when they come (`Queue::expire`).
    pub(crate) fn after_change(&self) {
        if self.is_deleted() {
            return;
        }
        let options = self.in_force();
        if let Some(time) = options.expires {
            self.schedule_expiry(self.core.clock.now_ns() + time.as_nanos() as u64);
        }
        if options.message_ttl.is_some() {
            self.watch_waiting();
        }
        self.after_entry(0);
    }

    fn watch_waiting(&self) {
        let now = self.core.clock.now_ns();
        let mut over = Vec::new();
        self.ready.browse(usize::MAX, |level, position, _, stored| {
            let Ok(message) = self.message(stored) else {
                return;
            };
            let deadline_ns = self.deadline(&message.facts());
            if deadline_ns == 0 {
                return;
            }
            if deadline_ns <= now {
                over.push((level, position));
                return;
            }
            let event = Event::Expire {
                queue: self.id(),
                level,
                position,
            };
            self.core.timer.schedule(deadline_ns, event);
        });
        for (level, position) in over {
            self.expire(level, position);
        }
    }
}
