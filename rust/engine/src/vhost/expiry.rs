//! Queues that nobody uses.

use super::*;

impl Queue {
    /// The timer's call: deletes the queue if nobody used it for the time asked for.
    pub(crate) fn expire_unused(&self, deadline_ns: u64) {
        let Some(time) = self
            .in_force()
            .expires
            .filter(|_| self.is_expiry(deadline_ns))
        else {
            return;
        };
        let now_ns = self.core.clock.now_ns().max(deadline_ns);
        let time_ns = time.as_nanos() as u64;
        let next = if self.consumers.count() > 0 {
            now_ns + time_ns
        } else {
            self.last_used_ns() + time_ns
        };
        if next > now_ns {
            self.schedule_expiry(next);
        } else if let Ok(vhost) = self.vhost()
            && vhost.delete_queue(self.name(), true, false).is_err()
            && !self.is_deleted()
        {
            self.schedule_expiry(now_ns + time_ns);
        }
    }
}
