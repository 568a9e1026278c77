//! How a consumer comes to a queue.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::Consumer;
use crate::core::Notify;
use crate::error::{Error, Refusal};
use crate::ledger::Ledger;
use crate::options::{ConsumerOptions, check_duration, check_name};
use crate::queue::Queue;

impl Queue {
    /// Registers a consumer. `notify` is called as `Consumer::arm` says.
    ///
    /// # Errors
    /// [`Error::AccessRefused`] when it or another consumer is exclusive, [`Error::ResourceLocked`] when the queue is
    /// exclusive to somebody else, [`Error::UnknownQueue`] when it was deleted, [`Error::InvalidArgument`].
    pub fn consume(
        self: &Arc<Self>,
        mut options: ConsumerOptions,
        notify: Option<(Arc<dyn Notify>, u64)>,
    ) -> Result<Arc<Consumer>, Error> {
        self.check_usable()?;
        check_name("consumer tag", &options.tag)?;
        check_duration("lease", options.lease, false)?;
        self.check_owner(options.owner)?;
        if options.exclusive && self.options().single_active_consumer {
            return Err(Error::AccessRefused(Refusal::advised(
                format!(
                    "queue '{}' in vhost '{}' in exclusive use",
                    self.name(),
                    self.virtual_host_name()
                ),
                ": it has a single active consumer, which an exclusive consumer would contradict; leave exclusive out",
            )));
        }
        if options.tag.is_empty() {
            options.tag = self.core.generated_name("amq.ctag-");
        }
        let hidden = options.hidden;
        let consumer = Arc::new(Consumer {
            id: self.core.new_consumer_id(),
            queue: self.clone(),
            prefetch: AtomicU32::new(options.prefetch),
            shared: OnceLock::new(),
            ledger: Mutex::new(Ledger::new()),
            unacked: AtomicUsize::new(0),
            assigned: AtomicUsize::new(0),
            registered: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            wants_room: AtomicBool::new(false),
            waits_since: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            notify,
            options,
        });
        crate::core::interruptible();
        if !hidden && !self.consumers.add(&consumer) {
            consumer.cancelled.store(true, Ordering::Relaxed); // nothing to undo when it is dropped
            return Err(Error::AccessRefused(Refusal::advised(
                format!(
                    "queue '{}' in vhost '{}' in exclusive use",
                    self.name(),
                    self.virtual_host_name()
                ),
                ": another consumer has it, or an exclusive consumer asked for a queue that others consume; cancel the others, or consume without exclusive",
            )));
        }
        self.touch();
        self.core.register_consumer(&consumer);
        // Who deletes the queue cancels those that are in its list by then; who comes to the list later sees it here.
        if let Err(error) = self.check_usable() {
            consumer.cancel();
            return Err(error);
        }
        if !hidden {
            self.tell_consumers();
        }
        Ok(consumer)
    }
}
