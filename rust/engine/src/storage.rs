//! The engine's side of the journal: one durable change is one record, whatever it is made of.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use wherry_journal::{AppendError, Class, Journal, Reservation};

use crate::compaction::Evacuation;
use crate::entries::{self, Place, RECORD_COMMIT, Run};
use crate::error::Error;
use crate::in_flight::InFlight;

/// How long closing waits for the disk to take what is in its way.
const ROOM_TIME: Duration = Duration::from_secs(2);

/// When something appended is on stable storage: `broker.durable() >= ticket`. Zero has nothing to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Nothing to wait for.
    pub const NONE: Ticket = Ticket(0);
}

#[derive(Default)]
struct Deferred {
    /// Joined, so that acknowledgements in order are one.
    settled: Vec<Run>,
    /// Note and due time; the latest one of a place counts.
    requeued: HashMap<Place, (u32, u64)>,
}

pub(crate) struct Storage {
    journal: Arc<Journal>,
    id: [u8; 16],
    /// What happened in memory while the journal had no room for it. Written as soon as there is room; `barrier`
    /// refuses to promise anything before. Bounded by the messages in the journal.
    deferred: Mutex<Deferred>,
    /// Whether `deferred` has any, so that the common path does not lock. Relaxed: written under the lock; a reader
    /// that is late finds them at the next call.
    has_deferred: AtomicBool,
    /// Read: a change is being appended whose slots change only afterwards. Write: compaction compares slots with
    /// the journal. Without it compaction could copy a message forward behind the entry that settles it.
    pub(crate) compaction: RwLock<()>,
    /// Publishers whose record is written and whose slots are not filled.
    pub(crate) in_flight: InFlight,
    pub(crate) evacuation: Mutex<Evacuation>,
}

pub(crate) fn journal_error(error: AppendError) -> Error {
    match error {
        AppendError::Busy => Error::Busy,
        AppendError::Obstructed(obstacle) => obstacle.into(),
        AppendError::Poisoned(poisoned) => (&poisoned).into(),
        AppendError::TooLarge { bytes, bytes_max } => Error::MessageTooLarge { bytes, bytes_max },
        AppendError::Closed => Error::Closed,
        AppendError::NotRetirable(_) => Error::Io(error.to_string()),
    }
}

impl Storage {
    pub(crate) fn new(journal: Arc<Journal>) -> Storage {
        Storage {
            id: journal.id(),
            journal,
            deferred: Mutex::default(),
            has_deferred: AtomicBool::new(false),
            compaction: RwLock::new(()),
            in_flight: InFlight::default(),
            evacuation: Mutex::default(),
        }
    }

    /// Whether something waits for room or for a sync.
    pub(crate) fn wants_housekeeping(&self) -> bool {
        self.has_deferred.load(Ordering::Relaxed)
            || self.evacuation.try_lock().is_none_or(|e| e.is_waiting())
    }

    /// The journal's id.
    pub(crate) fn id(&self) -> &[u8; 16] {
        &self.id
    }

    pub(crate) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Room for one record of `bytes`; never waits.
    pub(crate) fn reserve<'a>(
        &'a self,
        bytes: &'a [usize; 1],
        class: Class,
    ) -> Result<Reservation<'a>, Error> {
        self.journal.reserve(bytes, class).map_err(journal_error)
    }

    /// One record with one entry that `write` encodes.
    pub(crate) fn append(
        &self,
        bytes: usize,
        class: Class,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<Ticket, Error> {
        let sizes = [bytes];
        let mut reservation = self.reserve(&sizes, class)?;
        let (_, out) = reservation.next(RECORD_COMMIT);
        write(out);
        Ok(Ticket(reservation.finish()))
    }

    /// Records that messages are settled. What finds no room now is kept and written later.
    pub(crate) fn settle(&self, runs: &[Run]) -> Result<Ticket, Error> {
        if runs.is_empty() {
            return Ok(Ticket::NONE);
        }
        // Quietly: a publisher waits for its record, hardly anybody for this one; and who does says so (`Broker::hurry`).
        let sizes = [entries::settle_bytes(runs.len())];
        let written = self.reserve(&sizes, Class::Settle).map(|mut reservation| {
            let (_, out) = reservation.next(RECORD_COMMIT);
            entries::write_settle(out, runs);
            Ticket(reservation.finish_quietly())
        });
        match written {
            Err(error) if error.is_passing() => {
                let mut deferred = self.deferred.lock();
                deferred.settled.extend_from_slice(runs);
                self.has_deferred.store(true, Ordering::Relaxed);
                Ok(Ticket::NONE)
            }
            other => other,
        }
    }

    /// Records that a message came back, and when it is due again. What finds no room now is kept and written later,
    /// and nothing that is newer is written before it.
    pub(crate) fn requeue(&self, place: Place, note: u32, due_ns: u64) -> Result<Ticket, Error> {
        let write = || {
            self.append(entries::REQUEUE_BYTES, Class::Settle, |out| {
                entries::write_requeue(out, place, note, due_ns);
            })
        };
        let written = if self.flush_deferred() {
            write()
        } else {
            Err(Error::Busy)
        };
        match written {
            Err(error) if error.is_passing() => {
                let mut deferred = self.deferred.lock();
                deferred.requeued.insert(place, (note, due_ns));
                self.has_deferred.store(true, Ordering::Relaxed);
                Ok(Ticket::NONE)
            }
            other => other,
        }
    }

    /// Tries to write what was deferred; true when nothing is left.
    pub(crate) fn flush_deferred(&self) -> bool {
        if !self.has_deferred.load(Ordering::Relaxed) {
            return true;
        }
        let mut deferred = self.deferred.lock();
        // In pieces, so that a long list does not ask for more room than there ever is.
        const RUNS_AT_ONCE: usize = 4096;
        while let Some((&place, &(note, due_ns))) = deferred.requeued.iter().next() {
            let written = self.append(entries::REQUEUE_BYTES, Class::Settle, |out| {
                entries::write_requeue(out, place, note, due_ns);
            });
            if written.is_err() {
                return false;
            }
            deferred.requeued.remove(&place);
        }
        let settled = &mut deferred.settled;
        while !settled.is_empty() {
            let n = settled.len().min(RUNS_AT_ONCE);
            let from = settled.len() - n;
            let piece = &settled[from..];
            let written = self.append(entries::settle_bytes(n), Class::Settle, |out| {
                entries::write_settle(out, piece);
            });
            if written.is_err() {
                return false;
            }
            settled.truncate(from);
        }
        *deferred = Deferred::default();
        self.has_deferred.store(false, Ordering::Relaxed);
        true
    }

    /// The last words of a journal that is closed in order: what came back from consumers (after a crash, everything
    /// that may have been handed out counts as handed out), and that this is all. Waits for room. False: not written,
    /// which makes the journal one that crashed.
    pub(crate) fn write_closed(&self, returned: &[Run]) -> bool {
        const RUNS_AT_ONCE: usize = 4096;
        let patiently = |write: &mut dyn FnMut() -> bool| {
            write() || (self.journal.wait_space(Some(ROOM_TIME)) && write())
        };
        patiently(&mut || self.flush_deferred())
            && returned.chunks(RUNS_AT_ONCE).all(|piece| {
                patiently(&mut || {
                    self.append(entries::settle_bytes(piece.len()), Class::Settle, |out| {
                        entries::write_runs(out, entries::RETURNED, piece);
                    })
                    .is_ok()
                })
            })
            && patiently(&mut || {
                self.append(entries::named_bytes(0), Class::Settle, |out| {
                    entries::write_named(out, entries::CLOSED, &[]);
                })
                .is_ok()
            })
    }

    /// The end of what was appended so far.
    pub(crate) fn appended(&self) -> Ticket {
        Ticket(self.journal.appended())
    }

    /// A ticket for everything appended so far.
    pub(crate) fn barrier(&self) -> Result<Ticket, Error> {
        if !self.flush_deferred() {
            return match self.journal.statistics().poisoned {
                Some(poisoned) => Err((&poisoned).into()),
                None => Err(Error::Busy),
            };
        }
        Ok(self.appended())
    }
}
