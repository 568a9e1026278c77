//! The one structure below all binding tables: a hash table of owning pointers with one writer and any number of readers.
//!
//! Algorithm: open addressing with linear probing over slots of (tag, pointer), in the manner of read-copy-update tables. The writer
//! changes single slots in place; when the table must grow, shrink or lose its tombstones it builds a new block and swaps the pointer
//! to it. What was unlinked is freed by epoch-based reclamation (crossbeam-epoch) after the last reader that could see it has gone.
//!
//! Who may call: `find` and `each` from any thread under an epoch guard; everything that takes a [`Writer`] only by the holder of the
//! lock of the whole binding table. Progress: readers are wait-free (a bounded number of steps, no retry); writers are amortised O(1)
//! and never wait for readers.
//!
//! Invariants readers rely on:
//! - Inside one block an element never moves, and a slot that was ever used before a still reachable element never becomes `EMPTY`, so
//!   an element that is in the table for the whole of a `find` or `each` is met by it.
//! - A slot's pointer is stored before its tag. A slot may be reused: a reader can see the tag of the old element with the pointer of
//!   the new one. So **a tag is a hint: whoever finds by tag checks the element itself.**
//!
//! A tag may leave its lowest bits to a *note*: what the owner wants to know of an element before it touches the element's memory.
//!
//! Not promised: that `find` or `each` meets what is inserted or removed while it runs; that elements are dropped soon after their removal.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crossbeam_epoch::Guard;
use triomphe::{Arc, ThinArc};

/// A slot without element, which ends every search.
const EMPTY: u64 = 0;
/// A slot whose element was removed, and behind which others may stand.
const TOMBSTONE: u64 = 1;
/// The smallest word of an element; [`tag_of`] keeps hashes above.
const WORD_MIN: u64 = 2;

/// Blocks up to this capacity are filled wholly: a search through all of it costs two cache lines.
const CAPACITY_SMALL: usize = 8;

/// Garbage of this size is handed to the collector at once instead of waiting for the thread's bag to fill.
const FLUSH_BYTES: usize = 1 << 16;

/// The tag for a hash, with the lowest `NOTE_BITS` bits free.
pub(super) fn tag_of<const NOTE_BITS: u32>(hash: u64) -> u64 {
    (hash >> NOTE_BITS).max(WORD_MIN) << NOTE_BITS
}

/// An owning pointer that fits into one word and whose target several threads may read.
///
/// # Safety
/// `into_raw` returns a non-null pointer for which `borrow` is sound until `from_raw` was called with it and its result dropped.
pub(super) unsafe trait Owned: Send + Sync + 'static {
    /// What a reader gets.
    type Ref<'a>: Copy;

    fn into_raw(self) -> *mut ();

    /// # Safety
    /// `raw` comes from `into_raw`; only one call for each.
    unsafe fn from_raw(raw: *mut ()) -> Self;

    /// # Safety
    /// `raw` comes from `into_raw`, and the target outlives `'a`.
    unsafe fn borrow<'a>(raw: *mut ()) -> Self::Ref<'a>;
}

// SAFETY: the pointer is the one to the value inside the Arc, valid while the count that `into_raw` kept is held.
unsafe impl<T: Send + Sync + 'static> Owned for Arc<T> {
    type Ref<'a> = &'a T;

    fn into_raw(self) -> *mut () {
        Arc::into_raw(self).cast::<()>().cast_mut()
    }

    unsafe fn from_raw(raw: *mut ()) -> Self {
        // SAFETY: the caller hands over the count that `into_raw` kept.
        unsafe { Arc::from_raw(raw.cast::<T>()) }
    }

    unsafe fn borrow<'a>(raw: *mut ()) -> &'a T {
        // SAFETY: the caller says that the value lives for 'a.
        unsafe { &*raw.cast::<T>() }
    }
}

/// Proof that the caller holds the lock of the binding table, and the epoch guard under which it unlinks.
#[derive(Clone, Copy)]
pub(super) struct Writer<'g> {
    pub(super) guard: &'g Guard,
}

impl<'g> Writer<'g> {
    /// # Safety
    /// No other writer exists for any structure this one is used with, for as long as this one lives.
    pub(super) unsafe fn new(guard: &'g Guard) -> Self {
        Self { guard }
    }

    /// Drops the owner of `raw` when no reader can see it any more.
    fn retire<P: Owned>(self, raw: *mut ()) {
        // SAFETY: `raw` was unlinked by the only writer, which therefore calls this once for it; `P` is Send and 'static, so the
        // drop may happen later and on another thread.
        unsafe {
            let raw = AtomicPtr::new(raw);
            self.guard
                .defer_unchecked(move || drop(P::from_raw(raw.into_inner())));
        }
    }
}

/// A place for at most one element.
pub(super) struct Link<P: Owned> {
    /// Null, or from `P::into_raw`. Stored by the writer with `Release`, which pairs with the readers' `Acquire` in `get`.
    raw: AtomicPtr<()>,
    owns: PhantomData<P>,
}

impl<P: Owned> Link<P> {
    pub(super) const fn new() -> Self {
        Self {
            raw: AtomicPtr::new(std::ptr::null_mut()),
            owns: PhantomData,
        }
    }

    pub(super) fn get<'g>(&self, _guard: &'g Guard) -> Option<P::Ref<'g>> {
        // Acquire: pairs with the Release in `set`.
        let raw = self.raw.load(Ordering::Acquire);
        // SAFETY: what the link holds is dropped only through `retire`, so it lives as long as the guard.
        (!raw.is_null()).then(|| unsafe { P::borrow(raw) })
    }

    pub(super) fn is_empty(&self) -> bool {
        // Relaxed: the pointer is not followed.
        self.raw.load(Ordering::Relaxed).is_null()
    }

    pub(super) fn set(&self, value: Option<P>, writer: Writer<'_>) {
        let raw = value.map_or(std::ptr::null_mut(), P::into_raw);
        // AcqRel: publishes the new target to `get`; the old one was stored by an earlier holder of the lock.
        let old = self.raw.swap(raw, Ordering::AcqRel);
        if !old.is_null() {
            writer.retire::<P>(old);
        }
    }
}

impl<P: Owned> Drop for Link<P> {
    fn drop(&mut self) {
        let raw = *self.raw.get_mut();
        if !raw.is_null() {
            // SAFETY: nobody else has access any more, and the link owns its target.
            drop(unsafe { P::from_raw(raw) });
        }
    }
}

struct Slot {
    /// `EMPTY`, `TOMBSTONE` or the element's tag with its note. Written by the writer only, with `Release` after `raw`.
    word: AtomicU64,
    /// The element; null where there is none. Written by the writer only, with `Release` before `word`.
    raw: AtomicPtr<()>,
}

/// Counts of a block, read and written under the writers' lock only (hence `Relaxed` everywhere).
struct Counts {
    /// Slots with an element.
    live: AtomicU32,
    /// Slots with an element or a tombstone.
    used: AtomicU32,
}

type Block = ThinArc<Counts, Slot>;
type BlockTarget = <Block as Deref>::Target;

fn new_block(capacity: usize) -> Block {
    let counts = Counts {
        live: AtomicU32::new(0),
        used: AtomicU32::new(0),
    };
    let empty = || Slot {
        word: AtomicU64::new(EMPTY),
        raw: AtomicPtr::new(std::ptr::null_mut()),
    };
    Block::from_header_and_iter(counts, std::iter::repeat_with(empty).take(capacity))
}

/// Slots of a block that may be used before it is rebuilt.
fn used_max(capacity: usize) -> usize {
    if capacity <= CAPACITY_SMALL {
        capacity
    } else {
        capacity / 4 * 3
    }
}

/// The capacity of a new block for `live` elements. From 8 elements on a quarter more fit in, which pays for the copy.
fn capacity_for(live: usize) -> usize {
    let room = if live >= CAPACITY_SMALL { live / 4 } else { 0 };
    let mut capacity = live.next_power_of_two().max(2);
    while used_max(capacity) < live + room {
        capacity *= 2;
    }
    capacity
}

/// The hash table. Several elements may have the same tag.
pub(super) struct Slots<P: Owned, const NOTE_BITS: u32 = 0> {
    /// Null (no element), or from `Block::into_raw`. Stored by the writer with `Release`, which pairs with the `Acquire` in `block`.
    block: AtomicPtr<()>,
    owns: PhantomData<P>,
}

impl<P: Owned, const NOTE_BITS: u32> Slots<P, NOTE_BITS> {
    const NOTE: u64 = (1 << NOTE_BITS) - 1;

    pub(super) const fn new() -> Self {
        Self {
            block: AtomicPtr::new(std::ptr::null_mut()),
            owns: PhantomData,
        }
    }

    fn block<'g>(&self, _guard: &'g Guard) -> Option<&'g BlockTarget> {
        // Acquire: pairs with the Release in `publish`.
        let raw = self.block.load(Ordering::Acquire);
        if raw.is_null() {
            return None;
        }
        // SAFETY: `raw` comes from `Block::into_raw`; ManuallyDrop leaves its count alone. The block itself is dropped only through the
        // collector, so it lives as long as the guard, and it does not move.
        unsafe {
            let block = ManuallyDrop::new(Block::from_raw(raw.cast()));
            let target: *const BlockTarget = &**block;
            Some(&*target)
        }
    }

    /// The first element with `tag` that `accept` accepts. Tags repeat and may be stale, so `accept` must look at the element.
    pub(super) fn find<'g>(
        &self,
        tag: u64,
        guard: &'g Guard,
        accept: impl FnMut(P::Ref<'g>) -> bool,
    ) -> Option<P::Ref<'g>> {
        self.find_noted(tag, Self::NOTE, guard, accept)
    }

    /// As `find`, but passes over elements whose note has none of the bits of `note`. Their memory is not touched.
    pub(super) fn find_noted<'g>(
        &self,
        tag: u64,
        note: u64,
        guard: &'g Guard,
        mut accept: impl FnMut(P::Ref<'g>) -> bool,
    ) -> Option<P::Ref<'g>> {
        let slots = &self.block(guard)?.slice;
        let mask = slots.len() - 1;
        let mut index = (tag >> NOTE_BITS) as usize & mask;
        for _ in 0..slots.len() {
            let slot = &slots[index];
            // Acquire: pairs with the Release in `put`, so that the pointer below is the one of this tag or a later one.
            let word = slot.word.load(Ordering::Acquire);
            if word == EMPTY {
                return None;
            }
            if word & !Self::NOTE == tag && (NOTE_BITS == 0 || word & note != 0) {
                // Acquire: pairs with the Release in `put` and `replace`; the slot may have been reused since its tag was read.
                let raw = slot.raw.load(Ordering::Acquire);
                if !raw.is_null() {
                    // SAFETY: an element is dropped only through `retire`, after its slot was cleared; it was in its slot under
                    // this guard, so it lives as long as the guard.
                    let element = unsafe { P::borrow(raw) };
                    if accept(element) {
                        return Some(element);
                    }
                }
            }
            index = (index + 1) & mask;
        }
        None
    }

    /// Calls `visit` for every element.
    pub(super) fn each<'g>(&self, guard: &'g Guard, mut visit: impl FnMut(P::Ref<'g>)) {
        let Some(block) = self.block(guard) else {
            return;
        };
        for slot in &block.slice {
            // Acquire: pairs with the Release in `put` and `replace`.
            let raw = slot.raw.load(Ordering::Acquire);
            if !raw.is_null() {
                // SAFETY: as in `find`.
                visit(unsafe { P::borrow(raw) });
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        // Relaxed: the pointer is not followed. The writer takes the last element's block away.
        self.block.load(Ordering::Relaxed).is_null()
    }

    /// Number of elements; exact for the writer only.
    pub(super) fn len(&self, guard: &Guard) -> usize {
        self.block(guard)
            .map_or(0, |block| load(&block.header.header.live))
    }

    /// Adds an element whose word is `tag` with its note.
    pub(super) fn insert(&self, word: u64, value: P, writer: Writer<'_>) {
        let raw = value.into_raw();
        let full = match self.block(writer.guard) {
            None => true,
            Some(block) => load(&block.header.header.used) >= used_max(block.slice.len()),
        };
        if full {
            self.rebuild(self.len(writer.guard) + 1, writer);
        }
        let block = self.block(writer.guard).expect("rebuild published a block");
        Self::put(block, word, raw);
    }

    /// Calls `visit` with the tag of every element; for the writer.
    pub(super) fn each_tag(&self, writer: Writer<'_>, mut visit: impl FnMut(u64)) {
        let slots = self
            .block(writer.guard)
            .map_or(&[][..], |block| &block.slice);
        for slot in slots {
            // Relaxed: the writer reads its own stores.
            let word = slot.word.load(Ordering::Relaxed);
            if word >= WORD_MIN {
                visit(word & !Self::NOTE);
            }
        }
    }

    /// Changes the note of the first element with `tag`. What readers rely on in a note must be set before it becomes true.
    pub(super) fn set_note(&self, tag: u64, writer: Writer<'_>, note: impl FnOnce(u64) -> u64) {
        if let Some((block, index)) = self.position(tag, writer.guard, |_| true) {
            let word = &block.slice[index].word;
            let old = word.load(Ordering::Relaxed);
            // Release: pairs with the Acquire in `find_noted`, as every store of a word does.
            word.store(tag | note(old & Self::NOTE), Ordering::Release);
        }
    }

    /// Puts `value` in the place of the first element with `tag` that `accept` accepts, or gives it back if there is none.
    pub(super) fn replace(
        &self,
        tag: u64,
        value: P,
        writer: Writer<'_>,
        accept: impl FnMut(P::Ref<'_>) -> bool,
    ) -> Result<(), P> {
        let Some((block, index)) = self.position(tag, writer.guard, accept) else {
            return Err(value);
        };
        // AcqRel: publishes the new element to `find` and `each`.
        let old = block.slice[index]
            .raw
            .swap(value.into_raw(), Ordering::AcqRel);
        writer.retire::<P>(old);
        Ok(())
    }

    /// Takes the first element with `tag` that `accept` accepts out, and says whether there was one.
    pub(super) fn remove(
        &self,
        tag: u64,
        writer: Writer<'_>,
        accept: impl FnMut(P::Ref<'_>) -> bool,
    ) -> bool {
        let Some((block, index)) = self.position(tag, writer.guard, accept) else {
            return false;
        };
        let (slots, counts) = (&block.slice, &block.header.header);
        let mask = slots.len() - 1;
        // Nothing stands behind a slot whose successor is empty, so it need not become a tombstone, nor need tombstones before it
        // stay. Relaxed loads: the writer reads its own stores. The stores are Release only to stay behind each other.
        let mut freed = 0;
        if slots[(index + 1) & mask].word.load(Ordering::Relaxed) == EMPTY {
            let mut last = index;
            loop {
                slots[last].word.store(EMPTY, Ordering::Release);
                freed += 1;
                last = last.wrapping_sub(1) & mask;
                if slots[last].word.load(Ordering::Relaxed) != TOMBSTONE {
                    break;
                }
            }
        } else {
            slots[index].word.store(TOMBSTONE, Ordering::Release);
        }
        let old = slots[index]
            .raw
            .swap(std::ptr::null_mut(), Ordering::AcqRel);
        writer.retire::<P>(old);
        let live = load(&counts.live) - 1;
        counts.live.store(live as u32, Ordering::Relaxed);
        let used = load(&counts.used) - freed;
        counts.used.store(used as u32, Ordering::Relaxed);
        if live == 0 {
            self.publish(None, writer);
        } else if slots.len() > 2 && live * 4 <= slots.len() {
            self.rebuild(live, writer);
        }
        true
    }

    /// Takes all elements out.
    pub(super) fn clear(&self, writer: Writer<'_>) {
        if let Some(block) = self.block(writer.guard) {
            for slot in &block.slice {
                let old = slot.raw.swap(std::ptr::null_mut(), Ordering::AcqRel);
                if !old.is_null() {
                    writer.retire::<P>(old);
                }
            }
            self.publish(None, writer);
        }
    }

    fn position<'g>(
        &self,
        tag: u64,
        guard: &'g Guard,
        mut accept: impl FnMut(P::Ref<'_>) -> bool,
    ) -> Option<(&'g BlockTarget, usize)> {
        let block = self.block(guard)?;
        let mask = block.slice.len() - 1;
        let start = (tag >> NOTE_BITS) as usize & mask;
        for index in (0..block.slice.len()).map(|step| (start + step) & mask) {
            let slot = &block.slice[index];
            // Relaxed: the writer reads what writers stored, ordered by their lock.
            let word = slot.word.load(Ordering::Relaxed);
            if word == EMPTY {
                return None;
            }
            if word & !Self::NOTE != tag {
                continue;
            }
            // SAFETY: the slot has an element (its tag says so, and only writers change that), which this writer does not drop.
            if accept(unsafe { P::borrow(slot.raw.load(Ordering::Relaxed)) }) {
                return Some((block, index));
            }
        }
        None
    }

    /// Moves all elements to a new block with room for `live`.
    fn rebuild(&self, live: usize, writer: Writer<'_>) {
        let block = new_block(capacity_for(live));
        if let Some(old) = self.block(writer.guard) {
            for slot in &old.slice {
                let raw = slot.raw.load(Ordering::Relaxed);
                if !raw.is_null() {
                    Self::put(&block, slot.word.load(Ordering::Relaxed), raw);
                }
            }
        }
        self.publish(Some(block), writer);
    }

    /// Stores an element into the first free slot of its probe sequence. The block must have an empty slot or a tombstone for it.
    fn put(block: &BlockTarget, word: u64, raw: *mut ()) {
        let (slots, counts) = (&block.slice, &block.header.header);
        let mask = slots.len() - 1;
        let start = (word >> NOTE_BITS) as usize & mask;
        for index in (0..slots.len()).map(|step| (start + step) & mask) {
            let slot = &slots[index];
            // Relaxed: the writer reads its own stores.
            let seen = slot.word.load(Ordering::Relaxed);
            if seen >= WORD_MIN {
                continue;
            }
            // Release, twice: pairs with the Acquire loads of the pointer and of the tag in `find`, and of the pointer in `each`.
            slot.raw.store(raw, Ordering::Release);
            slot.word.store(word, Ordering::Release);
            counts.live.fetch_add(1, Ordering::Relaxed);
            if seen == EMPTY {
                counts.used.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        unreachable!("a block is rebuilt before it is full");
    }

    /// Swaps the block. The elements of the old one now belong to the new one, or were retired by the caller.
    fn publish(&self, block: Option<Block>, writer: Writer<'_>) {
        let raw = block.map_or(std::ptr::null_mut(), |block| block.into_raw().cast_mut());
        // AcqRel: Release pairs with the Acquire in `block`.
        let old = self.block.swap(raw.cast(), Ordering::AcqRel);
        if old.is_null() {
            return;
        }
        // SAFETY: the old block was unlinked just now by the only writer. Dropping it does not drop elements: slots have no destructor.
        unsafe {
            let bytes = size_of_val(&ManuallyDrop::new(Block::from_raw(old.cast())).slice);
            let old = AtomicPtr::new(old);
            writer
                .guard
                .defer_unchecked(move || drop(Block::from_raw(old.into_inner().cast())));
            if bytes >= FLUSH_BYTES {
                writer.guard.flush();
            }
        }
    }
}

impl<P: Owned, const NOTE_BITS: u32> Drop for Slots<P, NOTE_BITS> {
    fn drop(&mut self) {
        let raw = *self.block.get_mut();
        if raw.is_null() {
            return;
        }
        // SAFETY: nobody else has access any more; the table owns its block, and that the elements in its slots.
        unsafe {
            let block = Block::from_raw(raw.cast());
            for slot in &block.slice {
                let raw = slot.raw.load(Ordering::Relaxed);
                if !raw.is_null() {
                    drop(P::from_raw(raw));
                }
            }
        }
    }
}

fn load(count: &AtomicU32) -> usize {
    count.load(Ordering::Relaxed) as usize
}
