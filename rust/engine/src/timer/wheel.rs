//! The store behind the timer: a hierarchical wheel by the digits of the deadline, with a sorted front.
//!
//! Algorithm: deadlines are 64-bit nanoseconds, read as eleven digits of six bits. `base` is the last nanosecond that the
//! front covers. An entry later than `base` lies in the bucket named by the highest digit in which it differs from
//! `base` and that digit's value (Varghese and Lauck's hierarchical wheels, with the placement rule of a radix heap, so
//! no tick has to pass for empty slots). The first bucket in order holds the earliest entries; when its time comes it is
//! either sorted whole into `run`, if small and short, or its entries are dealt out to lower levels. Whatever is
//! scheduled at or before `base` goes into the heap `late`. So everything in the front is earlier than everything in
//! the buckets, and the next entry is the smaller of two heads.
//!
//! An entry is moved at most once a level between its distance and 2^24 ns: three times for a TTL of a minute. Moving
//! a bucket costs about 10 ns an entry and is done at one go, so a bucket of 10 million makes its first events late by
//! about 0.1 s.
//!
//! Ties are broken by identifier, which is the order of scheduling. Entries mostly come in that order already, and the
//! sort is one that profits from it.
//!
//! Memory: buckets are lists of chunks of 128 entries, never doubled, recycled through a small stock.
//! Cancelling leaves a name in `cancelled`; `sweep` removes the dead when there are more of them than half of all.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 11;
/// Entries in a chunk: 4 KiB of 32-byte entries.
const CHUNK: usize = 128;
/// Chunks kept for reuse: 256 KiB of 32-byte entries.
const SPARE_CHUNKS_MAX: usize = 64;
/// A bucket of at most this many entries ...
const RUN_LEN_MAX: usize = 1024;
/// ... and at most this many bits of nanoseconds (17 ms) is sorted as it is. A longer one must not be: `base` would
/// run ahead of time by its length, and all that is scheduled meanwhile would crowd the heap.
const RUN_BITS_MAX: u32 = 24;
/// Below this many cancelled names a sweep is not worth its walk over the buckets.
const SWEEP_MIN: usize = 512;

/// One pending event.
pub(super) struct Entry<E> {
    pub(super) deadline_ns: u64,
    pub(super) id: u64,
    pub(super) event: E,
}

impl<E> Entry<E> {
    fn order(&self) -> (u64, u64) {
        (self.deadline_ns, self.id)
    }
}

struct Bucket<E> {
    chunks: Vec<Vec<Entry<E>>>,
    len: usize,
    /// The earliest deadline that was put in; a cancelled one may keep it too low.
    earliest_ns: u64,
}

impl<E> Bucket<E> {
    const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
            earliest_ns: u64::MAX,
        }
    }

    fn push(&mut self, entry: Entry<E>, spare: &mut Vec<Vec<Entry<E>>>) {
        self.len += 1;
        self.earliest_ns = self.earliest_ns.min(entry.deadline_ns);
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(entry),
            last => {
                // The first chunk of a bucket grows from nothing, so that a few far timers do not cost 4 KiB each.
                let first = last.is_none();
                let mut chunk = spare
                    .pop()
                    .unwrap_or_else(|| Vec::with_capacity(if first { 0 } else { CHUNK }));
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
    }
}

/// Entries that arrived when the front had already passed their deadline, earliest first.
struct Late<E>(Entry<E>);

impl<E> Ord for Late<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Reversed: `BinaryHeap` gives the greatest.
        other.0.order().cmp(&self.0.order())
    }
}

impl<E> PartialOrd for Late<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Late<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Late<E> {}

/// Identifiers are dense and ours: one multiplication spreads them well enough.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 identifiers are hashed");
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

/// All pending entries in order of (deadline, schedule order).
pub(super) struct Wheel<E> {
    /// The front covers everything up to and including this time.
    base_ns: u64,
    run: VecDeque<Entry<E>>,
    late: BinaryHeap<Late<E>>,
    /// `LEVELS` times `SLOTS` buckets.
    buckets: Vec<Bucket<E>>,
    /// A bit for each bucket that has entries, by level.
    occupied: [u64; LEVELS],
    /// Names of cancelled entries, some of which may have fired long ago.
    cancelled: HashSet<u64, BuildHasherDefault<IdHasher>>,
    spare: Vec<Vec<Entry<E>>>,
    len: usize,
}

impl<E> Wheel<E> {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            base_ns: now_ns,
            run: VecDeque::new(),
            late: BinaryHeap::new(),
            buckets: (0..LEVELS * SLOTS).map(|_| Bucket::new()).collect(),
            occupied: [0; LEVELS],
            cancelled: HashSet::default(),
            spare: Vec::new(),
            len: 0,
        }
    }

    /// Entries held, the cancelled ones that were not swept yet among them.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, entry: Entry<E>) {
        self.len += 1;
        self.place(entry);
    }

    fn place(&mut self, entry: Entry<E>) {
        if entry.deadline_ns <= self.base_ns {
            self.late.push(Late(entry));
            return;
        }
        let level = (63 - (entry.deadline_ns ^ self.base_ns).leading_zeros()) / DIGIT_BITS;
        let slot = (entry.deadline_ns >> (level * DIGIT_BITS)) as usize % SLOTS;
        self.occupied[level as usize] |= 1 << slot;
        self.buckets[level as usize * SLOTS + slot].push(entry, &mut self.spare);
    }

    pub(super) fn cancel(&mut self, id: u64) {
        self.cancelled.insert(id);
    }

    /// Whether `id` was cancelled; forgets the cancellation.
    pub(super) fn take_cancelled(&mut self, id: u64) -> bool {
        !self.cancelled.is_empty() && self.cancelled.remove(&id)
    }

    /// The deadline of the first entry; if that entry was cancelled and not swept yet, possibly one that is too early.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.front_deadline().or_else(|| {
            let (level, slot) = self.first_bucket()?;
            Some(self.buckets[level * SLOTS + slot].earliest_ns)
        })
    }

    /// The deadline of the first entry of the front.
    fn front_deadline(&self) -> Option<u64> {
        let run = self.run.front().map(|entry| entry.deadline_ns);
        let late = self.late.peek().map(|late| late.0.deadline_ns);
        match (run, late) {
            (Some(run), Some(late)) => Some(run.min(late)),
            (run, late) => run.or(late),
        }
    }

    /// The first entry of the front if its deadline is before `limit_ns`, cancelled or not.
    fn pop_front_before(&mut self, limit_ns: u64) -> Option<Entry<E>> {
        const NEVER: (u64, u64) = (u64::MAX, u64::MAX);
        let run = self.run.front().map_or(NEVER, Entry::order);
        let late = self.late.peek().map_or(NEVER, |late| late.0.order());
        let entry = if run.min(late).0 >= limit_ns {
            None
        } else if run < late {
            self.run.pop_front()
        } else {
            self.late.pop().map(|late| late.0)
        };
        self.len -= usize::from(entry.is_some());
        entry
    }

    /// The first live entry that is due before `limit_ns`, without opening a bucket: enough to find what has become
    /// due before an entry that was itself taken from the front.
    pub(super) fn pop_late_before(&mut self, limit_ns: u64) -> Option<Entry<E>> {
        loop {
            let entry = self.pop_front_before(limit_ns)?;
            if !self.take_cancelled(entry.id) {
                return Some(entry);
            }
        }
    }

    /// The first live entry with a deadline of at most `now_ns`, `u64::MAX` excepted.
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<Entry<E>> {
        loop {
            // u64::MAX as a deadline means never, so the saturation loses nothing.
            if let Some(entry) = self.pop_late_before(now_ns.saturating_add(1)) {
                return Some(entry);
            }
            if self.front_deadline().is_some() {
                return None;
            }
            match self.first_bucket() {
                Some((level, slot)) if self.bucket_start(level, slot) <= now_ns => {
                    self.open(level, slot)
                }
                _ => {
                    // No bucket begins at or before now, so none lies between: every entry keeps its bucket.
                    self.base_ns = self.base_ns.max(now_ns);
                    self.trim();
                    return None;
                }
            }
        }
    }

    /// Puts entries back that were popped but not used; they are due, so they belong to the front.
    pub(super) fn put_back(&mut self, entries: impl Iterator<Item = Entry<E>>) {
        for entry in entries {
            self.len += 1;
            self.late.push(Late(entry));
        }
    }

    /// Level and slot of the bucket with the earliest entries: the lowest level differs from `base` in the lowest digit.
    fn first_bucket(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// The first nanosecond of a bucket: the higher digits are those of `base`, the lower ones zero.
    fn bucket_start(&self, level: usize, slot: usize) -> u64 {
        let bits = level as u32 * DIGIT_BITS;
        let above = bits + DIGIT_BITS;
        let prefix = if above >= u64::BITS {
            0
        } else {
            self.base_ns >> above << above
        };
        prefix | (slot as u64) << bits
    }

    /// Moves the entries of the first bucket into the front or to lower levels. The front must be empty.
    fn open(&mut self, level: usize, slot: usize) {
        debug_assert!(self.run.is_empty() && self.late.is_empty());
        let start_ns = self.bucket_start(level, slot);
        let bits = level as u32 * DIGIT_BITS;
        let bucket = std::mem::replace(&mut self.buckets[level * SLOTS + slot], Bucket::new());
        self.occupied[level] &= !(1 << slot);
        // `base` stays inside the bucket in both cases, so the higher digits of `base` do not change and the entries of
        // all other buckets stay where they belong. Lower levels are empty, or they would have been opened first.
        if level == 0 || (bucket.len <= RUN_LEN_MAX && bits <= RUN_BITS_MAX) {
            self.base_ns = start_ns | ((1 << bits) - 1);
            for mut chunk in bucket.chunks {
                self.run.extend(chunk.drain(..));
                self.recycle(chunk);
            }
            self.run.make_contiguous().sort_by_key(Entry::order);
        } else {
            self.base_ns = start_ns;
            for mut chunk in bucket.chunks {
                for entry in chunk.drain(..) {
                    if !self.cancelled.is_empty() && self.cancelled.remove(&entry.id) {
                        self.len -= 1;
                    } else {
                        self.place(entry);
                    }
                }
                self.recycle(chunk);
            }
        }
    }

    fn recycle(&mut self, chunk: Vec<Entry<E>>) {
        if chunk.capacity() == CHUNK && self.spare.len() < SPARE_CHUNKS_MAX {
            self.spare.push(chunk);
        }
    }

    /// Gives memory back after a crowd has left the front.
    fn trim(&mut self) {
        const KEPT: usize = 2 * RUN_LEN_MAX;
        if self.late.capacity() > KEPT {
            self.late.shrink_to(KEPT);
        }
        if self.run.capacity() > KEPT {
            self.run.shrink_to(KEPT);
        }
        if self.len == 0 {
            self.spare.clear();
        }
    }

    /// Removes the cancelled entries if they are more than half of all. Amortised: a walk over `n` entries is paid for
    /// by the `n / 2` cancellations since the last one. Names of entries that had fired already are forgotten with it.
    pub(super) fn sweep_if_worthwhile(&mut self) {
        if self.cancelled.len() <= SWEEP_MIN.max(self.len / 2) {
            return;
        }
        let cancelled = std::mem::take(&mut self.cancelled);
        let mut len = 0;
        for level in 0..LEVELS {
            let mut slots = self.occupied[level];
            while slots != 0 {
                let slot = slots.trailing_zeros() as usize;
                slots &= slots - 1;
                let old = std::mem::replace(&mut self.buckets[level * SLOTS + slot], Bucket::new());
                for mut chunk in old.chunks {
                    for entry in chunk
                        .drain(..)
                        .filter(|entry| !cancelled.contains(&entry.id))
                    {
                        self.buckets[level * SLOTS + slot].push(entry, &mut self.spare);
                    }
                    self.recycle(chunk);
                }
                let kept = self.buckets[level * SLOTS + slot].len;
                len += kept;
                if kept == 0 {
                    self.occupied[level] &= !(1 << slot);
                }
            }
        }
        self.run.retain(|entry| !cancelled.contains(&entry.id));
        self.late.retain(|late| !cancelled.contains(&late.0.id));
        self.len = len + self.run.len() + self.late.len();
        self.trim();
    }
}
