//! The committer: the one thread that writes. It takes the completed prefix of the staging buffer, writes it with one call,
//! syncs, moves the watermark, and starts again: while it waits for the disk the next batch gathers (group commit without a
//! timer). Between batches it prepares the next segment, retires old ones and tells the observer about the policy.
//!
//! Order is everything here. A segment is synced before the next one is written to. A record is confirmed after the sync that
//! covers it. A retired segment's file is touched only when the retirement record is on stable storage, the oldest first.
//! The first write or sync that fails ends all this: nothing is confirmed and nothing written any more. A segment that cannot
//! be made does so only where that will not pass (`obstacle.rs`).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::{SegmentNumber, address, segment_of};
use crate::disk::DiskFile;
use crate::errors::Poisoned;
use crate::files::{Files, PrepareError, Prepared};
use crate::format::{KIND_CLOSE, RECORD_HEADER_BYTES, RECORDS_OFFSET, RecordHeader, SegmentHeader};
use crate::obstacle::Obstacle;
use crate::options::Durability;
use crate::shared::{CLOSED, CLOSING, Shared};
use crate::stage::{Prefix, Room, Stage};
use crate::staging::Staging;
use crate::sync::Ordering;

/// First and longest pause between attempts to make a segment when something is in the way.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long a batch may grow before it is written, and how long nothing must come for it to be written at once.
const GATHER_MAX: Duration = Duration::from_micros(20);
const GATHER_SPINS: u32 = 64;
/// How long records that nobody waits for (acknowledgements) are kept for company, at most. A sync takes a tenth of it, and
/// whoever does wait should not find the disk busy with something that nobody asked for. What a crash costs: deliveries whose
/// acknowledgements were that young come back.
pub const QUIET_MAX: Duration = Duration::from_millis(2);
/// Staging buffers kept for the next segments.
const SPARE_BUFFERS_MAX: usize = 1;

/// The segment that is being written.
pub(crate) struct Active {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) staging: Arc<Staging>,
    /// All before this offset is written.
    pub(crate) offset: u32,
}

pub(crate) struct Committer {
    shared: Arc<Shared>,
    files: Files,
    active: Active,
    /// The installed spare.
    next: Option<Prepared>,
    buffers: Vec<Staging>,
    /// Bytes written since the last sync, and when to sync them at the latest.
    unsynced_bytes: u64,
    sync_at: Option<Instant>,
    /// There are complete records that nobody waits for: when to write them at the latest.
    quiet_at: Option<Instant>,
    retry_at: Option<Instant>,
    retry_pause: Duration,
    /// Segments that are out of the table and whose files are still there.
    leaving: std::collections::VecDeque<(SegmentNumber, u64, bool)>,
    /// The segment that the observer was last asked to evacuate, and the active one at that time.
    asked: (SegmentNumber, SegmentNumber),
    leave_at: Option<Instant>,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, files: Files, active: Active) -> Self {
        Self {
            shared,
            files,
            active,
            next: None,
            buffers: Vec::new(),
            unsynced_bytes: 0,
            sync_at: None,
            quiet_at: None,
            retry_at: None,
            retry_pause: RETRY_MIN,
            leaving: std::collections::VecDeque::new(),
            asked: (0, 0),
            leave_at: None,
        }
    }

    /// Installs the spare that recovery found.
    pub(crate) fn adopt(&mut self, prepared: Prepared) -> io::Result<()> {
        let staging = Arc::new(self.buffer(prepared.header.capacity)?);
        self.install(prepared, staging);
        Ok(())
    }

    /// The thread: until the journal is closed or broken.
    pub(crate) fn run(mut self) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work()));
        let poisoned = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(poisoned)) => Some(poisoned),
            Err(_) => Some(Poisoned::panicked()),
        };
        if let Some(poisoned) = poisoned {
            self.shared.poison(poisoned);
        }
        self.shared.raise(CLOSED, true);
        self.shared.wake_all();
    }

    fn work(&mut self) -> Result<(), Poisoned> {
        loop {
            let wrote = self.commit()?;
            let more = self.keep_house()?;
            if !wrote && !more {
                if self.shared.flag(CLOSING) && self.finish()? {
                    return Ok(());
                }
                self.sleep();
            }
        }
    }

    fn sleep(&self) {
        let due = [self.sync_at, self.quiet_at, self.retry_at, self.leave_at]
            .into_iter()
            .flatten()
            .min();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        if timeout == Some(Duration::ZERO) {
            return;
        }
        self.shared.bell.wait(timeout, || {
            let word = self.active.offset + RECORD_HEADER_BYTES <= self.active.header.capacity
                && Stage::completed(&self.active.staging, self.active.offset).is_some()
                && (self.quiet_at.is_none() || self.is_pressed());
            // Closing waits for those who are still filling a reservation: they ring.
            let close = || {
                self.shared.flag(CLOSING) && self.shared.stage.end() == self.shared.stage.written()
            };
            word || self.shared.attention.load(Ordering::Relaxed) || close()
        });
    }

    /// Whether what is complete must be written now, though it may be such that nobody waits for.
    fn is_pressed(&self) -> bool {
        self.shared.is_wanted() || self.shared.stage.starved() || self.shared.flag(CLOSING)
    }

    /// Whether to leave what is complete for later. The first time it starts the clock.
    fn may_wait(&mut self, prefix: &Prefix) -> bool {
        if prefix.sealed || self.is_pressed() {
            return false;
        }
        let now = Instant::now();
        let at = *self.quiet_at.get_or_insert(now + QUIET_MAX);
        if at <= now {
            return false;
        }
        self.shared.bell.remember();
        true
    }

    /// Writes and syncs what is complete; false if there was nothing.
    fn commit(&mut self) -> Result<bool, Poisoned> {
        let shared = Arc::clone(&self.shared);
        shared.bell.forget();
        let from = self.active.offset;
        let mut prefix = Stage::prefix(&self.active.staging, self.active.header.capacity, from);
        if prefix.end == from || self.may_wait(&prefix) {
            if self.sync_at.is_some_and(|at| at <= Instant::now()) {
                self.sync()?;
            }
            return Ok(false);
        }
        self.quiet_at = None;
        let active = &mut self.active;
        let number = active.header.number;
        gather(&mut prefix, &active.staging, active.header.capacity);
        // SAFETY: complete records only; the buffer is cleared by `recycle` alone, which owns it by then.
        let batch = unsafe { active.staging.range(from, prefix.end - from) };
        active
            .file
            .write(batch, u64::from(from))
            .map_err(|error| Poisoned::new("writing to the journal", &error))?;
        active.offset = prefix.end;
        let bytes = u64::from(prefix.end - from);
        self.unsynced_bytes += bytes;
        shared
            .counters
            .written_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        shared
            .counters
            .records
            .fetch_add(prefix.records, Ordering::Relaxed);
        if !prefix.sealed {
            shared.stage.advance_written(address(number, prefix.end));
        }
        match shared.options.durability {
            Durability::Always => {
                if shared.sabotage.confirm_before_sync {
                    shared.confirm(address(number, prefix.end));
                }
                self.sync()?;
            }
            // The next segment relies on this one.
            _ if prefix.sealed => self.sync()?,
            Durability::Interval(interval) => {
                let at = *self
                    .sync_at
                    .get_or_insert_with(|| Instant::now() + interval);
                if at <= Instant::now() {
                    self.sync()?;
                }
            }
            Durability::Never => {}
        }
        if prefix.sealed {
            self.go_on_in_next()?;
        }
        let end = shared.stage.written();
        if shared.options.durability == Durability::Always && !prefix.sealed {
            debug_assert_eq!(shared.stage.synced(), end);
        }
        shared.confirm(end);
        shared.announce_space();
        Ok(true)
    }

    /// Brings all that is written to stable storage.
    fn sync(&mut self) -> Result<(), Poisoned> {
        let counters = &self.shared.counters;
        let started = Instant::now();
        if let Err(error) = self.active.file.sync() {
            // What a second sync would say is worth nothing: the system may have dropped the data with the first.
            if !self.shared.sabotage.retry_failed_sync {
                return Err(Poisoned::new("syncing the journal", &error));
            }
            self.active
                .file
                .sync()
                .map_err(|error| Poisoned::new("syncing the journal", &error))?;
        }
        counters
            .last_sync_ns
            .store(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        counters.syncs.fetch_add(1, Ordering::Relaxed);
        counters
            .durable_bytes
            .fetch_add(self.unsynced_bytes, Ordering::Relaxed);
        self.unsynced_bytes = 0;
        self.sync_at = None;
        self.shared
            .stage
            .advance_synced(address(self.active.header.number, self.active.offset));
        Ok(())
    }

    /// The active segment is sealed, written and synced: the spare takes over.
    fn go_on_in_next(&mut self) -> Result<(), Poisoned> {
        let next = self
            .next
            .take()
            .expect("rotation needs an installed segment");
        let number = next.header.number;
        let staging = self.shared.stage.buffer(number).expect("installed");
        let active = Active {
            header: next.header,
            file: next.file,
            staging,
            offset: RECORDS_OFFSET,
        };
        let old = std::mem::replace(&mut self.active, active);
        self.shared
            .table
            .seal(old.header.number, old.offset, number);
        self.shared
            .stage
            .advance_written(address(number, RECORDS_OFFSET));
        self.shared
            .stage
            .advance_synced(address(number, RECORDS_OFFSET));
        self.shared.stage.remove(old.header.number);
        self.recycle(old.staging, old.offset);
        self.shared.table.trim_maps();
        Ok(())
    }

    fn buffer(&mut self, bytes: u32) -> io::Result<Staging> {
        match self
            .buffers
            .iter()
            .position(|buffer| buffer.bytes() == bytes)
        {
            Some(index) => Ok(self.buffers.swap_remove(index)),
            None => Staging::new(bytes),
        }
    }

    /// Keeps a buffer of the usual size whose first `used` bytes were written to.
    fn recycle(&mut self, staging: Arc<Staging>, used: u32) {
        let usual = staging.bytes() == self.shared.options.segment_bytes;
        if usual && self.buffers.len() < SPARE_BUFFERS_MAX
            // A reader may be copying from it just now: then it goes when the reader is done.
            && let Some(mut staging) = Arc::into_inner(staging)
        {
            staging.clear(used);
            self.buffers.push(staging);
        }
    }

    fn install(&mut self, prepared: Prepared, staging: Arc<Staging>) {
        let header = prepared.header;
        self.shared.table.add(header.number, header.capacity, 0);
        self.next = Some(prepared);
        self.shared
            .stage
            .install(header.number, header.seed(), header.capacity, staging);
    }

    /// What is due between commits; true if there is more of it.
    fn keep_house(&mut self) -> Result<bool, Poisoned> {
        let mut attention = self.shared.attention.swap(false, Ordering::AcqRel);
        if !self.leaving.is_empty() || !self.shared.retirements.lock().is_empty() {
            // The next one may be due as well.
            attention |= self.retire()?;
        }
        let more = self.prepare()?;
        // As long as nobody was asked, what has come to be dead since the last look may be enough now: the next segment
        // may be long in coming.
        if attention || self.asked.0 == 0 || self.asked.1 != self.active.header.number {
            self.ask_for_evacuation();
        }
        Ok(more)
    }

    /// One step towards a spare segment, if one is needed.
    fn prepare(&mut self) -> Result<bool, Poisoned> {
        let shared = Arc::clone(&self.shared);
        let wanted = shared.wanted_bytes.load(Ordering::Acquire);
        let capacity = match wanted {
            0 => shared.options.segment_bytes,
            bytes => shared.options.own_segment_bytes(bytes),
        };
        if let Some(next) = &self.next {
            if wanted == 0 || next.header.capacity >= capacity {
                shared.wanted_bytes.store(0, Ordering::Release);
                return Ok(false);
            }
            // The spare is too small for what is wanted: put it aside, unless it is in use by now.
            let Some(staging) = shared.stage.withdraw() else {
                return Ok(false);
            };
            self.recycle(staging, 0);
            let next = self.next.take().expect("looked at above");
            shared.table.withdraw(next.header.number);
            self.files
                .retire(next.header.number, u64::from(next.header.capacity), true)
                .and_then(|done| done)
                .map_err(|error| Poisoned::new("putting a segment aside", &error))?;
        }
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return Ok(false);
        }
        let number = self.active.header.number + 1;
        let prepared = match self.files.prepare(number, capacity) {
            Ok(Some(prepared)) => prepared,
            Ok(None) => return Ok(true),
            Err(PrepareError::Obstructed(by)) => return Ok(self.obstructed(by, wanted)),
            Err(PrepareError::Fatal(doing, error)) => return Err(Poisoned::new(doing, &error)),
        };
        shared
            .counters
            .free_files
            .store(self.files.free_files(), Ordering::Relaxed);
        let staging = match self.buffer(capacity) {
            Ok(staging) => staging,
            Err(error) => {
                let doing = "making a buffer for a journal segment";
                return match Obstacle::of(doing, &error) {
                    Some(obstacle) => Ok(self.obstructed(obstacle, wanted)),
                    None => Err(Poisoned::new(doing, &error)),
                };
            }
        };
        self.install(prepared, Arc::new(staging));
        shared.wanted_bytes.store(0, Ordering::Release);
        self.retry_at = None;
        self.retry_pause = RETRY_MIN;
        shared.obstruct(None);
        shared.announce_space();
        Ok(true)
    }

    /// There is no further segment: says why and tries again later. True to try at once (for a smaller one).
    fn obstructed(&mut self, by: Obstacle, wanted: u32) -> bool {
        let shared = &self.shared;
        if wanted != 0 {
            // Perhaps there is room for one of the usual size.
            *shared.wanted_refused.lock() = Some(by);
            shared.wanted_bytes.store(0, Ordering::Release);
            shared.announce_space();
            return true;
        }
        self.retry_at = Some(Instant::now() + self.retry_pause);
        self.retry_pause = (self.retry_pause * 2).min(RETRY_MAX);
        if shared.obstruct(Some(by)) {
            // Those who wait for space must hear that it will not come soon.
            shared.announce_space();
        }
        // Again at each attempt: what is live may have become less.
        self.ask_for_evacuation();
        false
    }

    /// Lets go of retired segments whose retirement is on stable storage, the oldest first; true if there were any.
    fn retire(&mut self) -> Result<bool, Poisoned> {
        let before = self.shared.table.oldest();
        let shared = Arc::clone(&self.shared);
        loop {
            let Some(&(number, ticket)) = shared.retirements.lock().front() else {
                break;
            };
            if ticket > shared.stage.written() {
                break;
            }
            // In the lazier modes the copies may be written and no more.
            if ticket > shared.stage.synced() {
                self.sync()?;
            }
            shared.retirements.lock().pop_front();
            debug_assert_eq!(number, shared.table.oldest());
            let bytes = u64::from(shared.table.capacity(number).unwrap_or(0));
            let reusable =
                shared.table.remove_oldest() && bytes == u64::from(shared.options.segment_bytes);
            self.leaving.push_back((number, bytes, reusable));
        }
        self.leave_at = None;
        while let Some(&(number, bytes, reusable)) = self.leaving.front() {
            match self.files.retire(number, bytes, reusable) {
                Ok(Ok(())) => {
                    self.leaving.pop_front();
                    // There is room now, perhaps.
                    self.retry_at = None;
                }
                Ok(Err(_)) => {
                    // Still there, and the next one must not go before it.
                    self.leave_at = Some(Instant::now() + RETRY_MAX);
                    break;
                }
                Err(error) => return Err(Poisoned::new("syncing the directory", &error)),
            }
        }
        shared
            .counters
            .free_files
            .store(self.files.free_files(), Ordering::Relaxed);
        Ok(shared.table.oldest() != before)
    }

    /// Tells the observer, once for each segment written, that the oldest one should be freed.
    fn ask_for_evacuation(&mut self) {
        let shared = &self.shared;
        let oldest = shared
            .table
            .evacuation(shared.options.segment_bytes, shared.is_disk_full());
        let asked = (oldest.unwrap_or(0), self.active.header.number);
        let told = match shared.observer() {
            Some(observer) if oldest.is_some() => {
                if asked != self.asked {
                    observer.wants_evacuation();
                }
                asked.0
            }
            _ => 0,
        };
        self.asked = (told, asked.1);
    }

    /// Closing: when all claims are complete and written, appends the closing record; true when that is done as well.
    fn finish(&mut self) -> Result<bool, Poisoned> {
        let shared = Arc::clone(&self.shared);
        let written = shared.stage.written();
        if shared.stage.end() != written {
            // Somebody is still filling a reservation and will ring when done.
            return Ok(false);
        }
        if self.unsynced_bytes != 0 {
            self.sync()?;
        }
        if let Ok(claim) = shared.stage.claim(RECORD_HEADER_BYTES, Room::Internal) {
            let header = RecordHeader {
                offset: claim.offset,
                length: RECORD_HEADER_BYTES,
                kind: KIND_CLOSE,
                durable: claim.durable,
            };
            // SAFETY: the range is ours, and the length word is left out.
            unsafe {
                claim
                    .staging()
                    .put(claim.offset + 4, &header.encode(claim.seed, &[])[4..])
            };
            claim.complete(claim.offset, RECORD_HEADER_BYTES);
            // Not held back: we are closing.
            while self.commit()? {}
            if self.unsynced_bytes != 0 {
                self.sync()?;
            }
        }
        self.retire()?;
        // Somebody may have slipped in before they saw the flag.
        Ok(shared.stage.freeze(shared.stage.written()))
    }
}

/// Takes along the records that publishers are completing just now. A burst of 64 takes them some microseconds and a sync a
/// hundred: without this the first few of a burst get a sync for themselves while the rest waits.
fn gather(prefix: &mut Prefix, staging: &Staging, capacity: u32) {
    let started = Instant::now();
    while !prefix.sealed && started.elapsed() < GATHER_MAX {
        // About a microsecond: ten times what a publisher needs for a record.
        (0..GATHER_SPINS).for_each(|_| std::hint::spin_loop());
        let more = Stage::prefix(staging, capacity, prefix.end);
        if more.end == prefix.end {
            return;
        }
        *prefix = Prefix {
            records: prefix.records + more.records,
            ..more
        };
    }
}

/// Where the journal goes on, told to the parts that need it.
pub(crate) fn first_address(active: &Active) -> u64 {
    let at = address(active.header.number, active.offset);
    debug_assert_eq!(segment_of(at), active.header.number);
    at
}
