//! A queue from what was replayed of it.

use std::collections::HashMap;
use std::sync::Arc;

use wherry_journal::{Address, Journal};

use super::level::Left;
use super::{QueueReplay, Shares};
use crate::core::{Core, Event};
use crate::entries;
use crate::error::Error;
use crate::message::Stored;
use crate::options::QueueOptions;
use crate::queue::note::Note;
use crate::queue::ready::{Ready, TakeBuffer};
use crate::queue::{Queue, new_ready};
use crate::vhost::VirtualHost;

impl QueueReplay {
    pub(super) fn build(
        mut self,
        id: u32,
        core: &Arc<Core>,
        vhost: &Arc<VirtualHost>,
        closed: bool,
        shares: &mut Shares,
    ) -> Result<Arc<Queue>, Error> {
        let (_, name, options) = self.declared.take().expect("the caller looked");
        let storage = core.storage().expect("recovery has a journal");
        let journal = storage.journal().clone();
        self.check_levels(&name, &options)?;
        let options = core.share_options(options);
        let in_force = vhost.policies.lock().for_queue(&name, &options);
        // Deadlines were counted as declared, and groups if the declaration came first, as it nearly always does.
        let effective = in_force
            .as_ref()
            .map_or(&options, |one| &one.options)
            .clone();
        let by_policy = effective.message_ttl != options.message_ttl;
        if by_policy
            || self.undeclared && (options.group_by.is_some() || options.message_ttl.is_some())
        {
            self.read_again(core, &journal, &effective)?;
        }
        self.sweep_deadlines();
        let mut counted = (0u64, 0u64);
        let ceiling = self.ceiling;
        let notes = std::mem::take(&mut self.notes);
        let returned = std::mem::take(&mut self.returned);
        let mut later: Vec<(u64, Note, u8, u64, u64)> = Vec::new();
        let mut restored = |level: u8, left: Left| {
            let Left {
                position,
                at,
                body_bytes,
                ..
            } = left;
            shares.lives(at);
            counted.0 += 1;
            counted.1 += u64::from(body_bytes);
            let mut note = Note::default();
            if let Some((bits, due_ns)) = notes.get(&(level, position)) {
                note = Note(*bits);
                if *due_ns != 0 {
                    later.push((*due_ns, note, level, position, u64::from(body_bytes)));
                }
            }
            // After a crash, whatever may have been handed out says so.
            if !closed && position < ceiling || is_in(&returned, level, position) {
                note = note.returned();
            }
            (Stored::in_journal(at), note.0)
        };
        let mut ready = new_ready(&options);
        match &mut ready {
            Ready::Fifo(fifo) => {
                let (_, level) = self.levels.pop().unwrap_or_default();
                let next = level.next();
                let mut end = None;
                for left in level.into_messages() {
                    let position = left.position;
                    match end {
                        None => *fifo = wherry_queues::Fifo::starting_at(position),
                        Some(end) => fifo.restore_holes(position - end),
                    }
                    let item = restored(0, left);
                    fifo.restore(std::iter::once(Some(item)));
                    end = Some(position + 1);
                }
                match end {
                    None => *fifo = wherry_queues::Fifo::starting_at(next),
                    Some(end) => fifo.restore_holes(next - end),
                }
            }
            Ready::Priority(lanes) => {
                for (number, level) in std::mem::take(&mut self.levels) {
                    let next = level.next();
                    let mut end = None;
                    for left in level.into_messages() {
                        let position = left.position;
                        match end {
                            None => lanes.start_level_at(number, position),
                            Some(end) => lanes.restore_holes(number, position - end),
                        }
                        let item = restored(number, left);
                        lanes.restore(number, std::iter::once(Some(item)));
                        end = Some(position + 1);
                    }
                    match end {
                        None => lanes.start_level_at(number, next),
                        Some(end) => lanes.restore_holes(number, next - end),
                    }
                }
            }
            Ready::Groups(groups) => {
                let (_, level) = self.levels.pop().unwrap_or_default();
                let next = level.next();
                let mut messages = level.into_messages().peekable();
                let first = messages.peek().map_or(next, |first| first.position);
                **groups = wherry_queues::groups::SharedGroups::starting_at(first);
                groups.restore(messages.map(|left| {
                    let (stored, note) = restored(0, left);
                    (left.position, left.group, stored, note)
                }));
                groups.skip_to(next);
            }
        }
        let weak = Arc::downgrade(vhost);
        let queue = Queue::new(id, &name, options, in_force, core, weak, ready);
        queue.enter_recovered(counted.0, counted.1);
        queue
            .ceiling()
            .fetch_max(ceiling, std::sync::atomic::Ordering::Relaxed);
        let mut delayed: Vec<(u64, Address, u64)> = self
            .delayed
            .into_iter()
            .map(|(id, (at, due_ns))| (id, at, due_ns))
            .collect();
        // As they were published: timers and counts like neighbours to come together.
        delayed.sort_unstable();
        queue.restore_delayed(
            delayed
                .into_iter()
                .map(|(id, at, due_ns)| {
                    shares.lives(at);
                    (id, due_ns, Stored::in_journal(at))
                })
                .collect(),
        );
        if self.next_schedule_id > 0 {
            queue.skip_schedule_id(self.next_schedule_id - 1);
        }
        for (deadline_ns, level, position) in self.deadlines {
            core.timer.schedule(
                deadline_ns,
                Event::Expire {
                    queue: id,
                    level,
                    position,
                },
            );
        }
        queue.put_off_again(later);
        vhost.add_queue(&queue);
        Ok(queue)
    }

    /// Levels that the queue's options allow; anything else comes from a damaged journal.
    fn check_levels(&self, name: &str, options: &QueueOptions) -> Result<(), Error> {
        let highest = options.max_priority.unwrap_or(0);
        match self.levels.last() {
            Some((level, _)) if *level > highest => Err(Error::JournalCorrupt(format!(
                "queue '{name}' has messages of priority {level} in the journal, and was declared for up to {highest}"
            ))),
            _ => Ok(()),
        }
    }

    /// Finds groups and deadlines in the messages themselves.
    fn read_again(
        &mut self,
        core: &Core,
        journal: &Journal,
        options: &QueueOptions,
    ) -> Result<(), Error> {
        let deadlines = &mut self.deadlines;
        deadlines.clear();
        let group_by = options.group_by.as_deref();
        for (number, level) in &mut self.levels {
            level.find_groups(|position, at| -> Result<_, Error> {
                let message = entries::read_message(journal, at)?;
                let deadline_ns = crate::queue::deadline(options, &message.facts());
                if deadline_ns != 0 {
                    deadlines.push((deadline_ns, *number, position));
                }
                Ok(group_by.and_then(|name| crate::queue::group_of(core, name, &message.parts())))
            })?;
        }
        Ok(())
    }
}

fn is_in(runs: &std::collections::BTreeMap<(u8, u64), u64>, level: u8, position: u64) -> bool {
    !runs.is_empty()
        && runs
            .range((level, 0)..=(level, position))
            .next_back()
            .is_some_and(|(_, end)| position < *end)
}

impl Queue {
    /// Messages that waited for their next attempt when the journal ended wait on. Nobody else sees the queue yet.
    fn put_off_again(&self, later: Vec<(u64, Note, u8, u64, u64)>) {
        if later.is_empty() {
            return;
        }
        let now = self.core.clock.now_ns();
        let mut wanted: HashMap<(u8, u64), (u64, Note, u64)> = later
            .into_iter()
            .filter(|(due_ns, ..)| *due_ns > now)
            .map(|(due_ns, note, level, position, bytes)| {
                ((level, position), (due_ns, note, bytes))
            })
            .collect();
        // Only the structure gives out leases, and only in order: take everything, keep what must wait.
        let mut buffer = TakeBuffer::default();
        let mut back = Vec::new();
        while !wanted.is_empty() {
            let mut taken = Vec::new();
            self.ready
                .take(1024, &mut buffer, |token| taken.push(token));
            if taken.is_empty() {
                break;
            }
            for token in taken {
                match wanted.remove(&(token.level(), token.position())) {
                    Some((due_ns, note, body_bytes)) => {
                        self.leave(token.stored(), body_bytes);
                        self.put_off(token, note, body_bytes, due_ns);
                    }
                    None => back.push(token),
                }
            }
        }
        for token in back {
            let note = token.note();
            self.ready.requeue(token, note);
        }
    }
}
