//! One segment's image in anonymous memory: what publishers copy into and the committer writes from.
//!
//! A byte at offset `o` of the buffer is the byte at offset `o` of the segment's file. The buffer is zero where nothing was
//! put since it was made or cleared, so a record's first word is zero until the record is complete: storing that word is what
//! completes it. Who may touch which bytes is [`crate::stage`]'s business; this file only offers the memory.

use crate::sync::AtomicU32;

/// A zeroed buffer shared by many writers, each in its own part.
#[cfg(not(wherry_loom))]
pub(crate) struct Staging {
    /// Owns the pages. All access goes through `start`.
    _memory: memmap2::MmapMut,
    start: *mut u8,
    bytes: u32,
}

// SAFETY: the memory belongs to this value and every access to it is either atomic or goes through an unsafe method whose
// caller promises that nobody else touches the range.
#[cfg(not(wherry_loom))]
unsafe impl Send for Staging {}
// SAFETY: as above.
#[cfg(not(wherry_loom))]
unsafe impl Sync for Staging {}

#[cfg(not(wherry_loom))]
impl Staging {
    /// Pages are taken from the system at their first touch, so an idle journal's buffer costs nothing.
    pub(crate) fn new(bytes: u32) -> std::io::Result<Self> {
        let mut memory = memmap2::MmapMut::map_anon(bytes as usize)?;
        let start = memory.as_mut_ptr();
        Ok(Self {
            _memory: memory,
            start,
            bytes,
        })
    }

    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// The first word of the record at `offset`: its length once the record is complete, zero before. Encoded little-endian.
    pub(crate) fn length_word(&self, offset: u32) -> &AtomicU32 {
        assert!(offset.is_multiple_of(8) && offset as usize + 4 <= self.bytes as usize);
        // SAFETY: in bounds and aligned (the mapping starts at a page); record starts are only ever accessed as atomics
        // while they are shared, plain accesses leave out the first word (see `put` and `range_mut`).
        unsafe { AtomicU32::from_ptr(self.start.add(offset as usize).cast()) }
    }

    /// Copies `data` to `offset`.
    ///
    /// # Safety
    /// The caller has the range to itself, and it does not include the first word of a record that others may look at.
    pub(crate) unsafe fn put(&self, offset: u32, data: &[u8]) {
        // SAFETY: passed on to the caller.
        unsafe { self.range_mut(offset, data.len() as u32) }.copy_from_slice(data);
    }

    /// The bytes of a range, to write.
    ///
    /// # Safety
    /// As for [`put`](Self::put), for as long as the slice lives.
    #[expect(
        clippy::mut_from_ref,
        reason = "ranges are handed out by claims, which never overlap"
    )]
    pub(crate) unsafe fn range_mut(&self, offset: u32, bytes: u32) -> &mut [u8] {
        assert!(offset as usize + bytes as usize <= self.bytes as usize);
        // SAFETY: in bounds; exclusive by the caller's promise; always initialised, since anonymous memory starts as zeros.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(offset as usize), bytes as usize) }
    }

    /// The bytes of a range, to read.
    ///
    /// # Safety
    /// The range holds complete records only (their length words were loaded with Acquire), and the buffer is not cleared
    /// while the slice lives.
    pub(crate) unsafe fn range(&self, offset: u32, bytes: u32) -> &[u8] {
        assert!(offset as usize + bytes as usize <= self.bytes as usize);
        // SAFETY: in bounds; nobody writes to complete records.
        unsafe { std::slice::from_raw_parts(self.start.add(offset as usize), bytes as usize) }
    }

    /// Makes the first `bytes` zero again.
    pub(crate) fn clear(&mut self, bytes: u32) {
        assert!(bytes <= self.bytes);
        // SAFETY: in bounds, and `&mut self` says that nobody else is here.
        unsafe { std::ptr::write_bytes(self.start, 0, bytes as usize) }
    }
}

/// The same for the model checker: one atomic and one tracked cell for each eight bytes.
#[cfg(wherry_loom)]
pub(crate) struct Staging {
    words: Vec<AtomicU32>,
    cells: Vec<loom::cell::UnsafeCell<u64>>,
}

// SAFETY: loom reports every access that is not ordered.
#[cfg(wherry_loom)]
unsafe impl Send for Staging {}
// SAFETY: as above.
#[cfg(wherry_loom)]
unsafe impl Sync for Staging {}

#[cfg(wherry_loom)]
impl Staging {
    pub(crate) fn new(bytes: u32) -> Self {
        let units = bytes.div_ceil(8);
        Self {
            words: (0..units).map(|_| AtomicU32::new(0)).collect(),
            cells: (0..units).map(|_| loom::cell::UnsafeCell::new(0)).collect(),
        }
    }

    pub(crate) fn length_word(&self, offset: u32) -> &AtomicU32 {
        &self.words[offset as usize / 8]
    }

    /// # Safety
    /// As the real one; loom checks it.
    pub(crate) unsafe fn put(&self, offset: u32, data: &[u8]) {
        for unit in offset / 8..(offset + data.len() as u32).div_ceil(8) {
            // SAFETY: loom checks it.
            self.cells[unit as usize].with_mut(|cell| unsafe { *cell += 1 });
        }
    }

    /// Reads every cell of a range and tells how often they were written together.
    pub(crate) fn touch(&self, offset: u32, bytes: u32) -> u64 {
        // SAFETY: loom checks it.
        (offset / 8..(offset + bytes).div_ceil(8))
            .map(|unit| self.cells[unit as usize].with(|cell| unsafe { *cell }))
            .sum()
    }
}
