//! The journal as its users see it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::address::{Address, SegmentNumber, Ticket, address, offset_of, segment_of};
use crate::committer::{Committer, first_address};
use crate::disk::Disk;
use crate::errors::{AppendError, OpenError, Poisoned, ReadError};
use crate::format::{
    KIND_RETIRE, RECORD_HEADER_BYTES, RECORDS_OFFSET, RecordHeader, SegmentHeader, record_room,
};
use crate::obstacle::Obstacle;
use crate::opening::{Opening, prepare_open};
use crate::options::{Class, OnCorruption, Options};
use crate::recovery::{self, Report, io};
use crate::reservation::Reservation;
use crate::shared::{CLOSED, CLOSING, POISONED, Shared};
use crate::stage::{Claim, Refusal, Room, Stage};
use crate::sync::Ordering;
use crate::testing_hooks::Sabotage;
use crate::view::View;
use crate::{Observer, Replay, Statistics};

/// An open journal: append, wait, read, retire. All methods may be called from any thread; none waits for the disk but those
/// called `wait_*`, `scan` and `close`, and `read` when the page is not in memory.
pub struct Journal {
    shared: Arc<Shared>,
    report: Report,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// The directory's lock; taken when the journal is closed.
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
    /// Orders `retire` calls: the segment that is next.
    retired: Mutex<SegmentNumber>,
}

impl Journal {
    /// Opens the journal in a directory, or makes one, and replays its records in the order of their addresses.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        replay: &mut dyn Replay,
    ) -> Result<Arc<Journal>, OpenError> {
        Self::open_with(disk, options, replay, Sabotage::default())
    }

    pub(crate) fn open_with(
        disk: Arc<dyn Disk>,
        options: Options,
        replay: &mut dyn Replay,
        sabotage: Sabotage,
    ) -> Result<Arc<Journal>, OpenError> {
        let opening = prepare_open(&disk, options, replay, sabotage)?;
        let Opening {
            lock,
            options,
            journal,
            files,
            table,
            active,
            spare,
            report,
        } = opening;
        let start = first_address(&active);
        let stage = Stage::new(
            start,
            active.header.seed(),
            active.header.capacity,
            Arc::clone(&active.staging),
            options.staging_bytes_max as u64,
            options.settle_reserve_bytes(),
        );
        let oldest = table.oldest();
        let shared = Arc::new(Shared::new(
            stage, table, disk, journal, options, sabotage, start,
        ));
        let mut committer = Committer::new(Arc::clone(&shared), files, active);
        if let Some(spare) = spare {
            committer
                .adopt(spare)
                .map_err(io("making a staging buffer"))?;
        }
        let thread = std::thread::Builder::new()
            .name("wherry-journal".into())
            .spawn(move || committer.run())
            .map_err(io("starting the committer"))?;
        Ok(Arc::new(Journal {
            shared,
            report,
            committer: Mutex::new(Some(thread)),
            lock: Mutex::new(Some(lock)),
            retired: Mutex::new(oldest),
        }))
    }

    /// What opening found.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Takes room for records with these payload sizes, in one piece and in order. Never waits.
    ///
    /// # Panics
    /// If there are no sizes.
    pub fn reserve<'a>(
        &'a self,
        payload_bytes: &'a [usize],
        class: Class,
    ) -> Result<Reservation<'a>, AppendError> {
        assert!(!payload_bytes.is_empty(), "a reservation for no records");
        let bytes_max = u64::from(self.shared.options.record_bytes_max);
        let mut bytes: u64 = 0;
        for &payload in payload_bytes {
            let payload = u64::try_from(payload)
                .unwrap_or(u64::MAX)
                .min(u64::from(u32::MAX));
            bytes += (payload + u64::from(RECORD_HEADER_BYTES)).next_multiple_of(8);
            if bytes > bytes_max {
                return Err(AppendError::TooLarge { bytes, bytes_max });
            }
        }
        let room = match class {
            Class::Publish => Room::Publish,
            Class::Settle => Room::Settle,
        };
        let claim = self.claim(bytes as u32, room)?;
        Ok(Reservation::new(
            &self.shared,
            payload_bytes,
            claim,
            bytes as u32,
        ))
    }

    /// Appends one record: the address of its payload, and when it is durable.
    pub fn append(
        &self,
        kind: u8,
        payload: &[u8],
        class: Class,
    ) -> Result<(Address, Ticket), AppendError> {
        let sizes = [payload.len()];
        let mut reservation = self.reserve(&sizes, class)?;
        let (at, buffer) = reservation.next(kind);
        buffer.copy_from_slice(payload);
        Ok((at, reservation.finish()))
    }

    fn claim(&self, bytes: u32, room: Room) -> Result<Claim, AppendError> {
        let shared = &*self.shared;
        // Relaxed: the flags' meanings are fetched again with Acquire when one is set.
        if shared.flags.load(Ordering::Relaxed) != 0 {
            self.admit(room)?;
        }
        if let Ok(claim) = shared.stage.claim(bytes, room) {
            return Ok(claim);
        }
        // The slow path: say that we starve, then look once more, so that the committer cannot make room unseen.
        shared.stage.starve();
        match shared.stage.claim(bytes, room) {
            Ok(claim) => return Ok(claim),
            Err(Refusal::StagingFull) => shared.bell.ring(),
            Err(Refusal::NoSegment) => {
                self.admit(room)?;
                if let Some(obstacle) = shared.obstacle() {
                    return Err(AppendError::Obstructed(obstacle));
                }
                shared.call_committer();
            }
            Err(Refusal::NeedsBigSegment) => {
                if let Some(obstacle) = shared.wanted_refused.lock().take() {
                    return Err(AppendError::Obstructed(obstacle));
                }
                shared.wanted_bytes.fetch_max(bytes, Ordering::AcqRel);
                shared.call_committer();
            }
        }
        Err(AppendError::Busy)
    }

    /// Turns flags into errors.
    fn admit(&self, room: Room) -> Result<(), AppendError> {
        let shared = &*self.shared;
        if shared.flag(POISONED) {
            return Err(AppendError::Poisoned(
                shared.poisoned().expect("the flag is raised after").clone(),
            ));
        }
        if shared.flag(CLOSING | CLOSED) {
            return Err(AppendError::Closed);
        }
        if room == Room::Publish
            && let Some(obstacle) = shared.obstacle()
        {
            return Err(AppendError::Obstructed(obstacle));
        }
        Ok(())
    }

    /// The watermark: a record is durable (see [`Durability`](crate::Durability)) when this has reached its ticket.
    pub fn durable(&self) -> Ticket {
        self.shared.durable()
    }

    /// Says that somebody waits for a ticket without blocking in [`wait_durable`](Self::wait_durable): records that were
    /// [finished quietly](Reservation::finish_quietly) need not be written at once otherwise.
    pub fn hurry(&self, ticket: Ticket) {
        if self.durable() < ticket {
            self.shared.hurry(ticket);
        }
    }

    /// A ticket for everything appended so far.
    pub fn appended(&self) -> Ticket {
        self.shared.stage.end()
    }

    /// Blocks until a ticket is durable; false if the time is over or the journal closed before.
    pub fn wait_durable(
        &self,
        ticket: Ticket,
        timeout: Option<Duration>,
    ) -> Result<bool, Poisoned> {
        self.shared.wait_durable(ticket, timeout)
    }

    /// Blocks after [`AppendError::Busy`] until it is worth trying again; false if the time is over or the journal takes
    /// nothing any more.
    pub fn wait_space(&self, timeout: Option<Duration>) -> bool {
        self.shared.wait_space(timeout)
    }

    /// Who hears of progress from now on. Replaces the one before.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        *self.shared.observer.write() = Some(observer);
        self.shared.call_committer();
    }

    /// Bytes of the journal from a payload's address (or one inside a payload) on: to the end of the written part of the
    /// segment, or to the end of the record if that is not written yet.
    pub fn read(&self, at: Address) -> Result<View, ReadError> {
        let shared = &*self.shared;
        let (number, offset) = (segment_of(at), offset_of(at));
        if offset < RECORDS_OFFSET {
            return Err(ReadError::NotThere(at));
        }
        loop {
            let written = shared.stage.written();
            // After a failed write or sync the file may show anything: what was not durable then is read from memory.
            let in_file = if shared.flag(POISONED) {
                shared.stage.synced()
            } else {
                written
            };
            // Up to and including the end: there lies the payload of an empty record.
            if at <= in_file {
                let end = match shared.table.end_of(number) {
                    Some(end) => end,
                    None if segment_of(in_file) == number => offset_of(in_file),
                    None => return Err(ReadError::NotThere(at)),
                };
                if offset > end {
                    return Err(ReadError::NotThere(at));
                }
                let map = shared
                    .table
                    .map(number, &*shared.disk)
                    .map_err(ReadError::Io)?;
                let map = map.ok_or(ReadError::NotThere(at))?;
                if map.bytes().len() < end as usize {
                    return Err(ReadError::Io(std::io::ErrorKind::UnexpectedEof.into()));
                }
                return Ok(View::mapped(map, offset as usize, end as usize));
            }
            if at > shared.stage.end() {
                return Err(ReadError::NotThere(at));
            }
            // Not in the file yet. If the buffer is gone, the segment was written just now: look again.
            let Some(staging) = shared.stage.buffer(number) else {
                continue;
            };
            let mut start = if segment_of(in_file) == number {
                offset_of(in_file)
            } else {
                RECORDS_OFFSET
            };
            loop {
                let Some(length) = Stage::completed(&staging, start) else {
                    return Err(ReadError::NotThere(at));
                };
                let end = start + length;
                if offset <= end {
                    if offset < start + RECORD_HEADER_BYTES {
                        return Err(ReadError::NotThere(at));
                    }
                    // SAFETY: the record is complete, and we hold the buffer, so it is not cleared.
                    return Ok(View::copied(unsafe { staging.range(offset, end - offset) }));
                }
                start = crate::format::align(end);
            }
        }
    }

    /// Counts `units` (bytes, best) at `at` that the caller wants kept. A hint for the policy; never waits.
    pub fn retain(&self, at: Address, units: u32) {
        self.retain_shares(at, units, u64::from(units));
    }

    /// As [`retain`](Self::retain), for a caller who will not know at [`release`](Self::release) how many bytes go: `units`
    /// of something that is `bytes` in all. Each unit released takes its share of the bytes of all that the segment holds.
    pub fn retain_shares(&self, at: Address, units: u32, bytes: u64) {
        self.shared.table.retain(at, units, bytes);
    }

    /// Takes back what [`retain`](Self::retain) counted.
    pub fn release(&self, at: Address, units: u32) {
        if self.shared.table.release(at, units) {
            self.shared.call_committer();
        }
    }

    /// Counts exactly `bytes` at `at` that the caller wants kept: for entries that are far smaller than those counted by
    /// [`retain_shares`](Self::retain_shares) in the same segment, which would otherwise seem to stay with them.
    pub fn keep(&self, at: Address, bytes: u64) {
        self.shared.table.keep(at, bytes);
    }

    /// Takes back what [`keep`](Self::keep) counted.
    pub fn let_go(&self, at: Address, bytes: u64) {
        if self.shared.table.let_go(at, bytes) {
            self.shared.call_committer();
        }
    }

    /// The journal's id: random, the same for as long as it exists. Not a secret from who can read the disk.
    pub fn id(&self) -> [u8; 16] {
        self.shared.journal
    }

    /// The segment that the caller should empty now: append again what is live in it, wait until that is durable, then
    /// [`retire`](Self::retire) it.
    pub fn evacuation(&self) -> Option<SegmentNumber> {
        let shared = &*self.shared;
        let next = *self.retired.lock();
        let oldest = shared
            .table
            .evacuation(shared.options.segment_bytes, shared.is_disk_full())?;
        // Retired and on its way out already.
        (oldest >= next).then_some(oldest)
    }

    /// Replays one sealed segment.
    pub fn scan(&self, segment: SegmentNumber, replay: &mut dyn Replay) -> Result<(), ReadError> {
        let shared = &*self.shared;
        let not_there = ReadError::NotThere(address(segment, RECORDS_OFFSET));
        let Some(capacity) = shared.table.capacity(segment) else {
            return Err(not_there);
        };
        let Some(end) = shared.table.end_of(segment) else {
            return Err(not_there);
        };
        let file = shared
            .disk
            .open(&crate::files::segment_name(segment))
            .map_err(ReadError::Io)?;
        let header = SegmentHeader {
            journal: shared.journal,
            number: segment,
            capacity,
        };
        let skip_damage = shared.options.on_corruption == OnCorruption::SalvageReport;
        recovery::scan_sealed(
            &*file,
            &header,
            end,
            shared.sabotage.skip_checksum,
            skip_damage,
            replay,
        )
    }

    /// Lets go of the oldest segment, once all that has been appended so far is on stable storage (the caller's copies of
    /// what was live must be among it). Returns at once; the file goes later. After a crash the segment may be replayed
    /// again, before the copies.
    pub fn retire(&self, segment: SegmentNumber) -> Result<(), AppendError> {
        let shared = &*self.shared;
        let mut next = self.retired.lock();
        if segment != *next || segment >= shared.table.active() {
            return Err(AppendError::NotRetirable(segment));
        }
        let active = shared.table.active();
        let first_live = (segment + 1..active)
            .find(|next| shared.table.capacity(*next).is_some())
            .unwrap_or(active);
        let payload = first_live.to_le_bytes();
        let claim = self.claim(record_room(payload.len() as u32), Room::Internal)?;
        let header = RecordHeader {
            offset: claim.offset,
            length: RECORD_HEADER_BYTES + payload.len() as u32,
            kind: KIND_RETIRE,
            durable: claim.durable,
        };
        let bytes = header.encode(claim.seed, &payload);
        // SAFETY: the range is ours, and the length word is left out.
        unsafe {
            claim.staging().put(claim.offset + 4, &bytes[4..]);
            claim
                .staging()
                .put(claim.offset + RECORD_HEADER_BYTES, &payload);
        }
        let end = address(
            claim.segment,
            claim.offset + record_room(payload.len() as u32),
        );
        claim.complete(claim.offset, header.length);
        shared.retirements.lock().push_back((segment, end));
        *next = first_live;
        shared.hurry(end);
        shared.call_committer();
        Ok(())
    }

    /// What is in the way of the next segment, if anything. While there is something, publishers are refused.
    pub fn obstacle(&self) -> Option<Obstacle> {
        self.shared.obstacle()
    }

    /// Figures of this moment.
    pub fn statistics(&self) -> Statistics {
        self.shared.statistics()
    }

    /// Takes nothing more, writes and syncs what is there, and lets the directory go. Waits for reservations that are open.
    /// May be called again; dropping the journal does it too.
    pub fn close(&self) -> Result<(), Poisoned> {
        self.shared.raise(CLOSING, true);
        self.shared.wake_all();
        self.shared.bell.ring();
        let mut committer = self.committer.lock();
        if let Some(thread) = committer.take() {
            // It catches its own panics.
            let _ = thread.join();
            self.lock.lock().take();
        }
        match self.shared.poisoned() {
            Some(poisoned) => Err(poisoned.clone()),
            None => Ok(()),
        }
    }

    /// For a process that was forked from the one that opened it: takes nothing more, writes nothing, and leaves the
    /// directory and the thread that writes to the parent. Waits for nobody, since a lock may have been held by a thread
    /// that is not here.
    pub fn abandon(&self) {
        self.shared.raise(CLOSING, true);
        // The directory is locked for as long as anybody has this file open: that shall be the parent alone.
        if let Some(mut lock) = self.lock.try_lock() {
            drop(lock.take());
        }
        // Not dropped: that would detach a thread that only the parent has.
        if let Some(mut committer) = self.committer.try_lock() {
            std::mem::forget(committer.take());
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        let _ = self.close();
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Journal({:?})", self.statistics())
    }
}
