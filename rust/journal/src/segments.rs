//! The table of segments: what each holds, how much of it still counts, its mapping for readers.
//!
//! Entries are found by number without a lock: buckets of doubling size that are made once and stay until the journal is
//! dropped (some 40 bytes for each segment ever, against the 16 MiB that it stood for). Live counters are plain atomic adds;
//! they guide the evacuation policy and nothing else, so they may lag. Mappings are made at the first read and shared by
//! reference count under a lock of their segment's own.

use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use crate::address::{Address, SegmentNumber, segment_of};
use crate::disk::{Disk, Mapping};
use crate::files::segment_name;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// First bucket's length; bucket k is this shifted left by k.
const BUCKET_BASE: u64 = 64;
const BUCKETS: usize = 27;
/// Mappings kept for sealed segments. Linux allows a process 65,530; we are a guest in somebody's process.
const MAPPINGS_MAX: u32 = 4096;
/// Segments beyond twice the live bytes that are tolerated before the oldest is evacuated.
const SLACK_SEGMENTS: u64 = 4;

#[derive(Default)]
struct Entry {
    /// Units retained less units released, two's complement: either may come first.
    live: AtomicU64,
    /// Units ever retained, and the bytes that they stood for.
    retained: AtomicU64,
    retained_bytes: AtomicU64,
    /// Bytes kept less bytes let go, two's complement: counted exactly, beside the units.
    kept: AtomicU64,
    /// Length of the file; 0 while the number is not in use.
    capacity: AtomicU32,
    /// Offset after the seal; 0 while not sealed.
    end: AtomicU32,
    map: RwLock<Option<Arc<dyn Mapping>>>,
}

impl Entry {
    fn live(&self) -> u64 {
        (self.live.load(Ordering::Relaxed) as i64).max(0) as u64
    }

    fn kept_bytes(&self) -> u64 {
        (self.kept.load(Ordering::Relaxed) as i64).max(0) as u64
    }

    /// Bytes that still count, if all units are alike.
    fn live_bytes(&self) -> u64 {
        let retained = self.retained.load(Ordering::Relaxed).max(1);
        let bytes = self.retained_bytes.load(Ordering::Relaxed);
        let units = (u128::from(bytes) * u128::from(self.live()) / u128::from(retained)) as u64;
        units + self.kept_bytes()
    }
}

pub(crate) struct Table {
    /// The number that the first entry stands for.
    base: SegmentNumber,
    buckets: [OnceLock<Box<[Entry]>>; BUCKETS],
    /// Oldest segment that is not retired. Moved by the committer.
    oldest: AtomicU32,
    /// The segment being appended to. Moved by the committer.
    active: AtomicU32,
    /// Bytes of all files in use.
    bytes: AtomicU64,
    mapped: AtomicU32,
}

impl Table {
    pub(crate) fn new(oldest: SegmentNumber) -> Self {
        Self {
            base: oldest,
            buckets: [const { OnceLock::new() }; BUCKETS],
            oldest: AtomicU32::new(oldest),
            active: AtomicU32::new(oldest),
            bytes: AtomicU64::new(0),
            mapped: AtomicU32::new(0),
        }
    }

    /// The entry of a number that was added before.
    fn entry(&self, number: SegmentNumber) -> Option<&Entry> {
        let (bucket, place) = Self::place(u64::from(number.checked_sub(self.base)?));
        self.buckets[bucket].get().map(|entries| &entries[place])
    }

    fn place(index: u64) -> (usize, usize) {
        let shifted = index / BUCKET_BASE + 1;
        let bucket = shifted.ilog2() as usize;
        (
            bucket,
            (index - ((1u64 << bucket) - 1) * BUCKET_BASE) as usize,
        )
    }

    /// Adds a segment; `end` is 0 if it is not sealed.
    pub(crate) fn add(&self, number: SegmentNumber, capacity: u32, end: u32) {
        let (bucket, place) = Self::place(u64::from(number - self.base));
        let entries = self.buckets[bucket].get_or_init(|| {
            (0..BUCKET_BASE << bucket)
                .map(|_| Entry::default())
                .collect::<Vec<_>>()
                .into_boxed_slice()
        });
        entries[place].end.store(end, Ordering::Relaxed);
        // Release: pairs with the Acquire in `end_of`.
        entries[place].capacity.store(capacity, Ordering::Release);
        self.bytes.fetch_add(u64::from(capacity), Ordering::Relaxed);
    }

    /// The active segment ends at `end`; `next` takes over.
    pub(crate) fn seal(&self, number: SegmentNumber, end: u32, next: SegmentNumber) {
        if let Some(entry) = self.entry(number) {
            // Release: pairs with the Acquire in `end_of`.
            entry.end.store(end, Ordering::Release);
        }
        self.active.store(next, Ordering::Release);
    }

    /// Takes back the newest segment, which was added and never used.
    pub(crate) fn withdraw(&self, number: SegmentNumber) {
        if let Some(entry) = self.entry(number) {
            self.bytes.fetch_sub(
                u64::from(entry.capacity.swap(0, Ordering::AcqRel)),
                Ordering::Relaxed,
            );
        }
    }

    pub(crate) fn set_active(&self, number: SegmentNumber) {
        self.active.store(number, Ordering::Release);
    }

    /// Forgets the oldest segment. True if no reader holds its mapping, so that the file may be written again.
    pub(crate) fn remove_oldest(&self) -> bool {
        let number = self.oldest.load(Ordering::Relaxed);
        let Some(entry) = self.entry(number) else {
            return false;
        };
        let mut map = entry.map.write();
        self.bytes.fetch_sub(
            u64::from(entry.capacity.swap(0, Ordering::AcqRel)),
            Ordering::Relaxed,
        );
        let unused = match map.take() {
            Some(map) => {
                self.mapped.fetch_sub(1, Ordering::Relaxed);
                // Nobody can get at the mapping any more but those who hold it already.
                Arc::strong_count(&map) == 1
            }
            None => true,
        };
        // Numbers without an entry in use were skipped by salvage.
        let active = self.active.load(Ordering::Relaxed);
        let next = (number + 1..active)
            .find(|next| self.capacity(*next).is_some())
            .unwrap_or(active);
        self.oldest.store(next, Ordering::Release);
        unused
    }

    pub(crate) fn oldest(&self) -> SegmentNumber {
        self.oldest.load(Ordering::Acquire)
    }

    pub(crate) fn active(&self) -> SegmentNumber {
        self.active.load(Ordering::Acquire)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Length of a segment's file, if the segment is in use.
    pub(crate) fn capacity(&self, number: SegmentNumber) -> Option<u32> {
        self.entry(number)
            .map(|entry| entry.capacity.load(Ordering::Acquire))
            .filter(|capacity| *capacity != 0)
    }

    /// Offset after the last record of a sealed segment, or `None` if it is not sealed or not in use.
    pub(crate) fn end_of(&self, number: SegmentNumber) -> Option<u32> {
        let entry = self.entry(number)?;
        let in_use = entry.capacity.load(Ordering::Acquire) != 0;
        Some(entry.end.load(Ordering::Acquire)).filter(|end| in_use && *end != 0)
    }

    /// Counts units of something live at `at`, and the bytes that all of them together stand for.
    pub(crate) fn retain(&self, at: Address, units: u32, bytes: u64) {
        if let Some(entry) = self.entry(segment_of(at)) {
            // Relaxed: a hint for the policy, ordered with nothing.
            entry.live.fetch_add(u64::from(units), Ordering::Relaxed);
            entry
                .retained
                .fetch_add(u64::from(units), Ordering::Relaxed);
            entry.retained_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Takes units back. True if that leaves the oldest segment with nothing live.
    pub(crate) fn release(&self, at: Address, units: u32) -> bool {
        let number = segment_of(at);
        self.entry(number).is_some_and(|entry| {
            let before = entry.live.fetch_sub(u64::from(units), Ordering::Relaxed);
            before == u64::from(units) && number == self.oldest.load(Ordering::Relaxed)
        })
    }

    /// Counts bytes at `at` exactly, for what is so unlike the other units that sharing would mislead.
    pub(crate) fn keep(&self, at: Address, bytes: u64) {
        if let Some(entry) = self.entry(segment_of(at)) {
            entry.kept.fetch_add(bytes, Ordering::Relaxed); // as in `retain`
        }
    }

    /// Takes bytes back. True if that leaves the oldest segment with nothing live.
    pub(crate) fn let_go(&self, at: Address, bytes: u64) -> bool {
        let number = segment_of(at);
        self.entry(number).is_some_and(|entry| {
            let before = entry.kept.fetch_sub(bytes, Ordering::Relaxed);
            before == bytes && entry.live() == 0 && number == self.oldest.load(Ordering::Relaxed)
        })
    }

    /// The oldest segment, if it is sealed and should be freed: it holds nothing live, or the journal has grown past twice
    /// its live bytes and some segments, or the disk is full and most of the segment is dead.
    pub(crate) fn evacuation(&self, segment_bytes: u32, disk_full: bool) -> Option<SegmentNumber> {
        let (oldest, active) = (self.oldest(), self.active());
        if oldest >= active {
            return None;
        }
        let capacity = self.capacity(oldest)?;
        let entry = self.entry(oldest)?;
        let is_empty = entry.live() == 0 && entry.kept_bytes() == 0;
        if is_empty || disk_full && entry.live_bytes() < u64::from(capacity) / 2 {
            return Some(oldest);
        }
        let slack = SLACK_SEGMENTS * u64::from(segment_bytes);
        if self.bytes() <= slack {
            return None;
        }
        let live: u64 = (oldest..=active)
            .filter_map(|number| self.entry(number))
            .map(Entry::live_bytes)
            .sum();
        (self.bytes() > 2 * live + slack).then_some(oldest)
    }

    /// Segments in use.
    pub(crate) fn count(&self) -> u64 {
        (self.oldest()..=self.active())
            .filter(|number| self.capacity(*number).is_some())
            .count() as u64
    }

    /// The mapping of a segment, made if need be.
    pub(crate) fn map(
        &self,
        number: SegmentNumber,
        disk: &dyn Disk,
    ) -> io::Result<Option<Arc<dyn Mapping>>> {
        let Some(entry) = self.entry(number) else {
            return Ok(None);
        };
        if let Some(map) = &*entry.map.read() {
            return Ok(Some(Arc::clone(map)));
        }
        let mut place = entry.map.write();
        // Retired meanwhile, or mapped by somebody else.
        if entry.capacity.load(Ordering::Acquire) == 0 {
            return Ok(None);
        }
        if let Some(map) = &*place {
            return Ok(Some(Arc::clone(map)));
        }
        let map = disk.open(&segment_name(number))?.map()?;
        if disk.coherent_maps() || entry.end.load(Ordering::Acquire) != 0 {
            *place = Some(Arc::clone(&map));
            self.mapped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Some(map))
    }

    /// Drops mappings that nobody holds once there are too many. Called now and then by the committer.
    pub(crate) fn trim_maps(&self) {
        if self.mapped.load(Ordering::Relaxed) <= MAPPINGS_MAX {
            return;
        }
        for entry in (self.oldest()..self.active()).filter_map(|number| self.entry(number)) {
            let mut map = entry.map.write();
            if map.as_ref().is_some_and(|map| Arc::strong_count(map) == 1) {
                *map = None;
                self.mapped.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_place() {
        let mut expected = (0, 0);
        for index in 0..10_000 {
            assert_eq!(Table::place(index), expected);
            expected.1 += 1;
            if expected.1 as u64 == BUCKET_BASE << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        let last = u64::from(u32::MAX);
        assert!(Table::place(last).0 < BUCKETS);
    }

    #[test]
    fn policy_frees_empty_and_overgrown_journals() {
        let table = Table::new(1);
        for number in 1..=7 {
            table.add(number, 1000, if number < 7 { 900 } else { 0 });
        }
        table.set_active(7);
        table.retain(1 << 32, 8, 800);
        assert_eq!(
            table.evacuation(1000, false),
            Some(1),
            "7,000 bytes for 800 live ones"
        );
        table.retain(2 << 32, 11, 1100);
        assert_eq!(table.evacuation(1000, false), None);
        assert!(table.release(1 << 32, 8));
        assert_eq!(table.evacuation(1000, false), Some(1));
        assert!(table.remove_oldest());
        assert_eq!(table.evacuation(1000, false), None);
        assert_eq!(
            table.evacuation(1000, true),
            None,
            "the oldest is mostly live"
        );
    }

    #[test]
    fn kept_bytes_hold_a_segment_for_what_they_are_only() {
        let table = Table::new(1);
        for number in 1..=7 {
            table.add(number, 1000, if number < 7 { 900 } else { 0 });
        }
        table.set_active(7);
        table.keep(1 << 32, 10);
        table.retain(1 << 32, 1, 890);
        table.release(1 << 32, 1);
        table.retain(2 << 32, 15, 1500);
        assert_eq!(table.evacuation(1000, false), None, "1,510 live bytes");
        table.release(2 << 32, 1);
        assert_eq!(table.evacuation(1000, false), Some(1), "too much for 1,410");
        table.retain(2 << 32, 1, 100);
        assert!(table.let_go(1 << 32, 10));
        assert_eq!(table.evacuation(1000, false), Some(1));
    }
}
