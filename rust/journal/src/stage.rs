//! The staging protocol: who gets which bytes of the journal, and what is complete.
//!
//! **Algorithm.** The journal's end is one atomic word, an [`Address`]. A publisher *claims* room by moving it forward
//! (compare and swap), copies its records into the segment's staging buffer beside the other publishers, and *completes* each
//! record by storing its length word last. The committer walks from the last written address over length words that are not
//! zero: that completed prefix is what it writes to the file. The idea is that of log buffers with a commit word in each
//! record (Aeron, Chronicle Queue). Segments alternate between two slots; segment n+1 is *installed* by the committer ahead of
//! need, and a publisher that finds no room in n *rotates*: it moves the end to n+1 and writes the seal of n.
//!
//! **Who may call.** `claim`, `complete`: any thread. `install`, `withdraw`, `remove`, `prefix`, `advance_*`: the committer.
//!
//! **Progress.** Claiming is lock-free but for rotation, which takes a short lock once in a segment and does no input or
//! output under it. Nobody waits for the disk: no room is an answer. The committer waits for a publisher that stalls between
//! claim and completion: what was claimed after it is not written before it.
//!
//! **Not promised.** `in_flight_bytes` counts the unused end of a rotated segment until the committer has passed it.

use std::sync::Arc;

use crate::address::{Address, SegmentNumber, address, offset_of, segment_of};
use crate::format::{FILE_ALIGN, KIND_SEAL, RECORD_HEADER_BYTES, RECORDS_OFFSET, RecordHeader};
use crate::staging::Staging;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Mutex, Ordering, fence};

/// Who appends: what may use the room that is kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// New work: leaves a quarter of the staging room to the others.
    Publish,
    /// Settling work frees space later: all of the staging room.
    Settle,
    /// The journal's own records: also the last bytes of a segment.
    Internal,
}

/// Bytes at the end of a segment that only internal records may use; the seal needs the last 16 of them.
#[cfg(not(wherry_loom))]
pub(crate) const SEGMENT_RESERVE_BYTES: u32 = 512;
#[cfg(wherry_loom)]
pub(crate) const SEGMENT_RESERVE_BYTES: u32 = 16;

/// Segment sizes that make sense: a page for the header, room for the reserve and for something useful.
pub(crate) const SEGMENT_BYTES_MIN: u32 = 2 * FILE_ALIGN as u32;

/// Why there is no room just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many bytes as allowed wait for the disk.
    StagingFull,
    /// The segment is full and the next one is not there yet.
    NoSegment,
    /// It does not fit into a segment of the usual size.
    NeedsBigSegment,
}

/// Room in the journal that belongs to the claimer, who must complete all of it.
pub(crate) struct Claim {
    pub(crate) segment: SegmentNumber,
    pub(crate) offset: u32,
    /// Checksum seed of the segment.
    pub(crate) seed: u32,
    /// Offset in this segment up to which all is on stable storage.
    pub(crate) durable: u32,
    staging: *const Staging,
}

impl Claim {
    pub(crate) fn staging(&self) -> &Staging {
        // SAFETY: the stage keeps a segment's buffer until the segment is written, and it cannot be written before this
        // claim is complete; the claimer does not use the claim after it completed it.
        unsafe { &*self.staging }
    }

    /// Makes the record complete. Its payload and the rest of its header must be in place.
    pub(crate) fn complete(&self, offset: u32, length: u32) {
        // Release: pairs with the Acquire in `completed`, which makes the record's bytes visible to the committer.
        self.staging()
            .length_word(offset)
            .store(length.to_le(), Ordering::Release);
    }
}

/// One of the two places for a segment that is not yet wholly written. Written by `install` only.
struct Slot {
    staging: AtomicPtr<Staging>,
    capacity: AtomicU32,
    seed: AtomicU32,
    /// Journal position (bytes since opening, unused ends of segments included) of the segment's offset 0.
    base: AtomicU64,
}

/// A segment's buffer and the segment's number.
type Buffer = (SegmentNumber, Arc<Staging>);

/// What the committer finds to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Offset after the last complete record.
    pub(crate) end: u32,
    pub(crate) records: u64,
    /// The last record is the seal.
    pub(crate) sealed: bool,
}

/// The shared state of publishers and committer.
pub(crate) struct Stage {
    /// Where the next claim starts. Moved by claims and rotations.
    end: AtomicU64,
    /// All before it is in the file (the system has it). Moved by the committer.
    written: AtomicU64,
    /// `written` as a journal position.
    written_position: AtomicU64,
    /// All before it is on stable storage. Moved by the committer.
    synced: AtomicU64,
    /// Number of the newest installed segment: `end`'s segment or the one after it. Moved by the committer; taken back only
    /// under `rotation`.
    installed: AtomicU32,
    slots: [Slot; 2],
    /// The buffers' owners, by slot.
    buffers: Mutex<[Option<Buffer>; 2]>,
    rotation: Mutex<()>,
    /// Somebody was refused since the committer last made room. Set by publishers, cleared by the committer.
    starved: AtomicBool,
    room_bytes: u64,
    publish_room_bytes: u64,
    /// Bytes of the last segment that publishers leave to settling work while there is no next one.
    settle_reserve_bytes: u32,
}

impl Stage {
    /// Starts at `start`, in a segment with the given buffer.
    pub(crate) fn new(
        start: Address,
        seed: u32,
        capacity: u32,
        staging: Arc<Staging>,
        room_bytes: u64,
        settle_reserve_bytes: u32,
    ) -> Self {
        let number = segment_of(start);
        let empty = || Slot {
            staging: AtomicPtr::new(std::ptr::null_mut()),
            capacity: AtomicU32::new(0),
            seed: AtomicU32::new(0),
            base: AtomicU64::new(0),
        };
        let stage = Self {
            end: AtomicU64::new(start),
            written: AtomicU64::new(start),
            written_position: AtomicU64::new(u64::from(offset_of(start))),
            synced: AtomicU64::new(start),
            installed: AtomicU32::new(number - 1),
            slots: [empty(), empty()],
            buffers: Mutex::new([None, None]),
            rotation: Mutex::new(()),
            starved: AtomicBool::new(false),
            room_bytes,
            publish_room_bytes: room_bytes - room_bytes / 4,
            settle_reserve_bytes,
        };
        stage.install(number, seed, capacity, staging);
        stage
    }

    fn slot(&self, number: SegmentNumber) -> &Slot {
        &self.slots[number as usize & 1]
    }

    /// Takes `bytes` (a multiple of 8) at the journal's end.
    pub(crate) fn claim(&self, bytes: u32, room: Room) -> Result<Claim, Refusal> {
        let reserve = if room == Room::Internal {
            RECORD_HEADER_BYTES
        } else {
            SEGMENT_RESERVE_BYTES
        };
        let limit = if room == Room::Publish {
            self.publish_room_bytes
        } else {
            self.room_bytes
        };
        // Acquire: pairs with the Release of the rotation that moved `end` into this segment, which makes its slot visible.
        let mut end = self.end.load(Ordering::Acquire);
        loop {
            let (number, offset) = (segment_of(end), offset_of(end));
            // The slot may be changing under our feet if `end` has moved on meanwhile: then what we read is nonsense, and the
            // compare and swap below fails, because `end` never returns to an old value. Relaxed is enough for the same
            // reason: with `end` unchanged, the slot was written before `end` reached this segment.
            let slot = self.slot(number);
            let capacity = slot.capacity.load(Ordering::Relaxed);
            if u64::from(offset) + u64::from(bytes) + u64::from(reserve) > u64::from(capacity) {
                self.rotate(end, bytes, reserve)?;
                end = self.end.load(Ordering::Acquire);
                continue;
            }
            let kept = self.settle_reserve_bytes.min(capacity / 4);
            if room == Room::Publish
                && offset + bytes + reserve > capacity - kept
                // Acquire for the sake of a fresh value; nothing is read through it.
                && self.installed.load(Ordering::Acquire) == number
            {
                return Err(Refusal::NoSegment);
            }
            // Acquire: pairs with the Release in `advance_written`; together with `starved` no wake-up is lost.
            let position = slot.base.load(Ordering::Relaxed) + u64::from(offset);
            let in_flight = position.saturating_sub(self.written_position.load(Ordering::Acquire));
            if in_flight + u64::from(bytes) > limit && in_flight > 0 {
                let now = self.end.load(Ordering::Acquire);
                if now == end {
                    return Err(Refusal::StagingFull);
                }
                end = now;
                continue;
            }
            let seed = slot.seed.load(Ordering::Relaxed);
            let staging = slot.staging.load(Ordering::Relaxed);
            // AcqRel: carries on the rotation's release to those who load `end` after us.
            match self.end.compare_exchange_weak(
                end,
                end + u64::from(bytes),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    return Ok(Claim {
                        segment: number,
                        offset,
                        seed,
                        durable: self.synced_in(number),
                        staging,
                    });
                }
                Err(now) => end = now,
            }
        }
    }

    /// Moves the journal's end from segment n to n+1 because a claim does not fit, and seals n.
    fn rotate(&self, seen: Address, bytes: u32, reserve: u32) -> Result<(), Refusal> {
        let number = segment_of(seen);
        let next = number + 1;
        let guard = self.rotation.lock();
        let mut end = self.end.load(Ordering::Acquire);
        if segment_of(end) != number {
            return Ok(());
        }
        // Acquire: pairs with the Release in `install`, which makes the next slot visible.
        if self.installed.load(Ordering::Acquire) != next {
            return Err(Refusal::NoSegment);
        }
        let room = u64::from(RECORDS_OFFSET) + u64::from(bytes) + u64::from(reserve);
        if room > u64::from(self.slot(next).capacity.load(Ordering::Relaxed)) {
            return Err(Refusal::NeedsBigSegment);
        }
        // Smaller claims may still succeed in n while we try. Release: publishes the slot of n+1 to those who see its number.
        while let Err(now) = self.end.compare_exchange_weak(
            end,
            address(next, RECORDS_OFFSET),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            end = now;
        }
        drop(guard);
        // From `end` on, segment n is ours alone; each claim left room for the seal.
        let slot = self.slot(number);
        let claim = Claim {
            segment: number,
            offset: offset_of(end),
            seed: slot.seed.load(Ordering::Relaxed),
            durable: self.synced_in(number),
            staging: slot.staging.load(Ordering::Relaxed),
        };
        let seal = RecordHeader {
            offset: claim.offset,
            length: RECORD_HEADER_BYTES,
            kind: KIND_SEAL,
            durable: claim.durable,
        };
        // SAFETY: the range is ours, and the length word is left out.
        unsafe {
            claim
                .staging()
                .put(claim.offset + 4, &seal.encode(claim.seed, &[])[4..])
        };
        claim.complete(claim.offset, RECORD_HEADER_BYTES);
        Ok(())
    }

    /// Offset up to which segment `number` is on stable storage as far as records written now may say.
    fn synced_in(&self, number: SegmentNumber) -> u32 {
        // Relaxed: the value only has to have been true at some time before the record is written.
        let synced = self.synced.load(Ordering::Relaxed);
        if segment_of(synced) == number {
            offset_of(synced)
        } else {
            0
        }
    }

    /// Makes segment `number`, the one after the newest, available to rotation. Its slot must be free (`remove`).
    pub(crate) fn install(
        &self,
        number: SegmentNumber,
        seed: u32,
        capacity: u32,
        staging: Arc<Staging>,
    ) {
        // Relaxed throughout: only the committer writes here, and `installed` below publishes.
        debug_assert_eq!(number, self.installed.load(Ordering::Relaxed) + 1);
        let previous = self.slot(number - 1);
        let base = previous.base.load(Ordering::Relaxed)
            + u64::from(previous.capacity.load(Ordering::Relaxed));
        let slot = self.slot(number);
        slot.staging
            .store(Arc::as_ptr(&staging).cast_mut(), Ordering::Relaxed);
        slot.capacity.store(capacity, Ordering::Relaxed);
        slot.seed.store(seed, Ordering::Relaxed);
        slot.base.store(base, Ordering::Relaxed);
        let before = self.buffers.lock()[number as usize & 1].replace((number, staging));
        assert!(
            before.is_none(),
            "a slot is installed into while it is in use"
        );
        // Release: pairs with the Acquire in `rotate`.
        self.installed.store(number, Ordering::Release);
    }

    /// Takes back the installed segment that rotation has not reached yet, if it has not.
    pub(crate) fn withdraw(&self) -> Option<Arc<Staging>> {
        let _guard = self.rotation.lock();
        let number = self.installed.load(Ordering::Relaxed);
        if segment_of(self.end.load(Ordering::Acquire)) == number {
            return None;
        }
        self.installed.store(number - 1, Ordering::Relaxed);
        self.remove(number)
    }

    /// Gives up the buffer of a segment that is wholly written.
    pub(crate) fn remove(&self, number: SegmentNumber) -> Option<Arc<Staging>> {
        let mut buffers = self.buffers.lock();
        let slot = &mut buffers[number as usize & 1];
        if slot.as_ref().is_some_and(|(owner, _)| *owner == number) {
            slot.take().map(|(_, staging)| staging)
        } else {
            None
        }
    }

    /// The buffer of a segment that is not yet wholly written.
    pub(crate) fn buffer(&self, number: SegmentNumber) -> Option<Arc<Staging>> {
        let buffers = self.buffers.lock();
        let slot = buffers[number as usize & 1].as_ref();
        slot.filter(|(owner, _)| *owner == number)
            .map(|(_, staging)| Arc::clone(staging))
    }

    /// The length of the record at `offset` of a segment's buffer, if it is complete.
    pub(crate) fn completed(staging: &Staging, offset: u32) -> Option<u32> {
        // Acquire: pairs with the Release in `Claim::complete`.
        let length = u32::from_le(staging.length_word(offset).load(Ordering::Acquire));
        (length != 0).then_some(length)
    }

    pub(crate) fn end(&self) -> Address {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn written(&self) -> Address {
        self.written.load(Ordering::Acquire)
    }

    pub(crate) fn synced(&self) -> Address {
        self.synced.load(Ordering::Acquire)
    }

    /// Bytes that wait to be written.
    pub(crate) fn in_flight_bytes(&self) -> u64 {
        let end = self.end();
        let position =
            self.slot(segment_of(end)).base.load(Ordering::Relaxed) + u64::from(offset_of(end));
        position.saturating_sub(self.written_position.load(Ordering::Relaxed))
    }

    /// All before `at` has been handed to the system. Committer only.
    pub(crate) fn advance_written(&self, at: Address) {
        let position =
            self.slot(segment_of(at)).base.load(Ordering::Relaxed) + u64::from(offset_of(at));
        // Release: readers that see the address may read the bytes from the file; pairs with the Acquire in `written`.
        self.written.store(at, Ordering::Release);
        // Release: pairs with the Acquire in `claim`.
        self.written_position.store(position, Ordering::Release);
    }

    /// All before `at` is on stable storage. Committer only.
    pub(crate) fn advance_synced(&self, at: Address) {
        // Release: pairs with the Acquire in `synced`.
        self.synced.store(at, Ordering::Release);
    }

    /// Ends the journal at `at` if nothing was claimed behind it: no claim succeeds any more. Committer only.
    pub(crate) fn freeze(&self, at: Address) -> bool {
        drop(self.withdraw());
        // No segment is that long, so no claim fits, and there is no next segment to rotate to.
        let beyond = address(segment_of(at), u32::MAX);
        self.end
            .compare_exchange(at, beyond, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Says that the caller is about to give up for want of room; it must try once more after this.
    pub(crate) fn starve(&self) {
        self.starved.store(true, Ordering::Relaxed);
        // Pairs with the fence in `take_starved`: either the second try sees the room or the committer sees the flag.
        fence(Ordering::SeqCst);
    }

    /// Whether anybody was refused since the last call. To be called after making room.
    pub(crate) fn take_starved(&self) -> bool {
        // Pairs with the fence in `starve`.
        fence(Ordering::SeqCst);
        self.starved.load(Ordering::Relaxed) && self.starved.swap(false, Ordering::AcqRel)
    }

    /// Whether somebody still waits to hear of room.
    pub(crate) fn starved(&self) -> bool {
        self.starved.load(Ordering::Acquire)
    }

    /// The complete records from `from` on, in the buffer of `from`'s segment.
    pub(crate) fn prefix(staging: &Staging, capacity: u32, from: u32) -> Prefix {
        let mut prefix = Prefix {
            end: from,
            records: 0,
            sealed: false,
        };
        while prefix.end + RECORD_HEADER_BYTES <= capacity {
            let Some(length) = Self::completed(staging, prefix.end) else {
                break;
            };
            prefix.sealed = Self::kind(staging, prefix.end) == KIND_SEAL;
            prefix.end += crate::format::align(length);
            prefix.records += 1;
            if prefix.sealed {
                break;
            }
        }
        prefix
    }

    #[cfg(not(wherry_loom))]
    fn kind(staging: &Staging, offset: u32) -> u8 {
        // SAFETY: the record at `offset` is complete, the caller saw its length.
        unsafe { staging.range(offset + 4, 1)[0] }
    }

    /// In the model, seals are the records of header length.
    #[cfg(wherry_loom)]
    fn kind(staging: &Staging, offset: u32) -> u8 {
        if Self::completed(staging, offset) == Some(RECORD_HEADER_BYTES) {
            KIND_SEAL
        } else {
            0
        }
    }
}
