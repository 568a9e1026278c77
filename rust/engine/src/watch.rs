//! Who consumes, told as it changes: for programs that show who is there.
//!
//! A watch is told the names of queues, not the changes themselves, and the number of consumers is read when somebody
//! takes it. So a watch that is slow holds each queue's name once at most, and what it takes is never out of date for
//! good: a change after the number was read is told again. A queue that went from one consumer to none and back may be
//! told with the number it had before.
//!
//! Who comes and goes pays one look at a list under a shared lock; publishing, taking and settling never come here, nor
//! does `get`, whose consumers do not count.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashSet;
use parking_lot::{Mutex, RwLock};

use crate::core::Notify;
use crate::error::Error;
use crate::vhost::VirtualHost;

#[derive(Default)]
struct Changed {
    /// In the order in which they changed first; each once.
    order: VecDeque<Arc<str>>,
    names: HashSet<Arc<str>, foldhash::fast::RandomState>,
    /// Wants to hear of the next one.
    armed: bool,
}

impl Changed {
    fn add(&mut self, name: &str) {
        if !self.names.contains(name) {
            let name: Arc<str> = name.into();
            self.names.insert(name.clone());
            self.order.push_back(name);
        }
    }
}

/// What the broker holds of a watch.
struct Ear {
    virtual_host: u32,
    changed: Mutex<Changed>,
    notify: Option<(Arc<dyn Notify>, u64)>,
}

impl Ear {
    fn tell(&self, queue: Option<&str>) {
        let mut changed = self.changed.lock();
        if let Some(queue) = queue {
            changed.add(queue);
        }
        let armed = std::mem::take(&mut changed.armed);
        drop(changed);
        if armed && let Some((notify, token)) = &self.notify {
            notify.notify(*token);
        }
    }
}

/// The watches of one broker.
#[derive(Default)]
pub(crate) struct ConsumerWatches {
    ears: RwLock<Vec<Arc<Ear>>>,
}

impl ConsumerWatches {
    /// The number of this queue's consumers has changed just before. Of no queue: the virtual host was deleted.
    ///
    /// Who begins to watch takes the lock before it looks at the queues. So either it is told of this change, or it
    /// sees it when it looks.
    pub(crate) fn tell(&self, virtual_host: u32, queue: Option<&str>) {
        for ear in self.ears.read().iter() {
            if ear.virtual_host == virtual_host {
                ear.tell(queue);
            }
        }
    }
}

/// Hears how many consumers the queues of a virtual host have, whenever that changes. Dropping it ends it.
pub struct ConsumerWatch {
    host: Arc<VirtualHost>,
    ear: Arc<Ear>,
}

impl VirtualHost {
    /// Begins to watch. First the queues that have consumers now are told, then whatever changes. `notify` is called as
    /// [`ConsumerWatch::arm`] says.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::UnknownVirtualHost`] when it was deleted.
    pub fn watch_consumers(
        self: &Arc<Self>,
        notify: Option<(Arc<dyn Notify>, u64)>,
    ) -> Result<ConsumerWatch, Error> {
        self.core().check_open()?;
        let ear = Arc::new(Ear {
            virtual_host: self.id(),
            changed: Mutex::default(),
            notify,
        });
        self.core().consumer_watches.ears.write().push(ear.clone());
        let watch = ConsumerWatch {
            host: self.clone(),
            ear,
        };
        if self.is_deleted() {
            return Err(self.unknown());
        }
        let mut changed = watch.ear.changed.lock();
        for queue in self.queues() {
            if queue.consumers.count() > 0 {
                changed.add(queue.name());
            }
        }
        drop(changed);
        Ok(watch)
    }
}

impl ConsumerWatch {
    /// Takes up to `max` queues whose number of consumers has changed, with what it is now: 0 for one that was deleted.
    /// Never waits; returns how many were appended to `out`.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::UnknownVirtualHost`] when it was deleted and nothing is left to be told.
    pub fn take(&self, max: usize, out: &mut Vec<(Arc<str>, usize)>) -> Result<usize, Error> {
        self.host.core().check_open()?;
        let mut taken = Vec::new();
        let mut changed = self.ear.changed.lock();
        while taken.len() < max
            && let Some(name) = changed.order.pop_front()
        {
            changed.names.remove(&name);
            taken.push(name);
        }
        if changed.order.is_empty() && changed.names.capacity() > SPARE_NAMES_MAX {
            *changed = Changed::default();
        }
        drop(changed);
        if taken.is_empty() && max > 0 && self.host.is_deleted() {
            return Err(self.host.unknown());
        }
        let count = taken.len();
        // Only now that it would be told again.
        out.extend(taken.into_iter().map(|name| {
            let consumers = self
                .host
                .queue(&name)
                .map_or(0, |queue| queue.consumers.count());
            (name, consumers)
        }));
        Ok(count)
    }

    /// Asks for one notice when there is something to take. True: there is now, no notice will come for this call.
    pub fn arm(&self) -> bool {
        let mut changed = self.ear.changed.lock();
        let nothing = changed.order.is_empty();
        changed.armed = nothing && !self.host.is_deleted() && !self.host.core().is_closed();
        !changed.armed
    }

    /// No longer waits.
    pub fn disarm(&self) {
        self.ear.changed.lock().armed = false;
    }
}

impl Drop for ConsumerWatch {
    fn drop(&mut self) {
        self.host
            .core()
            .consumer_watches
            .ears
            .write()
            .retain(|ear| !Arc::ptr_eq(ear, &self.ear));
    }
}

/// A watch that once had to tell of more queues gives their memory back. A kilobyte or two are not worth it.
const SPARE_NAMES_MAX: usize = 64;
