//! One slot: an element and its state in one atomic word. Every transition of the state machine lives here.
//!
//! ```text
//!            publish           lease                 settle
//!   EMPTY ─────────────► READY ───────► LEASED ──────────────────► SETTLED
//!     │              hold │ ▲ └────────── ▲ │ ──────── pop ──────────► ▲ ▲
//!     │ discard           ▼ │    requeue  │ ▼ lease_returned           │ │
//!     │                   HELD          RETURNED ──── settle_returned ─┘ │
//!     ▼   remove           │                                             │
//!   REMOVED ◄──────────────┘                                             │
//!     └───────────────────────── acknowledge_removed ────────────────────┘
//! ```
//!
//! `READY` waits ahead of the queue's head, `RETURNED` behind it (it was requeued and is listed in the `returned`
//! table). `REMOVED` is a tombstone: the element is gone but the head has not passed the slot yet; only the consumer
//! that passes it makes it `SETTLED`. Thus each slot is settled by exactly one thread, and that thread's right to
//! touch the segment ends with that transition.
//!
//! | state    | who may leave it                                                              |
//! |----------|-------------------------------------------------------------------------------|
//! | EMPTY    | the publisher whose claim holds the position                                  |
//! | READY    | the consumer that claimed the position; before that, the directory's holder (to HELD) |
//! | HELD     | the directory's holder                                                        |
//! | RETURNED | holders of the lock on `returned`                                             |
//! | LEASED   | the holder of the one lease                                                   |
//! | REMOVED  | the consumer that claimed the position                                        |
//!
//! **Consumer against the directory's holder.** A consumer leaves READY by a plain store, no exchange. It has moved the head past
//! the slot *before* it looks at the word; who wants to hold the slot changes the word *before* it looks at the head. Both
//! are sequentially consistent, so at least one sees the other. If the holder finds the head still at or before the slot, each later
//! consumer sees HELD and waits. If not, the holder has lost: it puts READY back unless the consumer has stored over it.
//!
//! Flags beside the state, kept by every transition but the one to `SETTLED`. READY, EMPTY and HELD have none, since they are
//! left by plain stores:
//! - `PINNED`: an inspector reads the element. Whoever wants to move it out waits.
//! - `INSPECTED`: was pinned once. Settling reads the element's bytes *before* the exchange that gives them away; an
//!   inspector may change bytes of a `T` with interior mutability in between, but then this flag (set for ever)
//!   makes the exchange fail, and the second attempt takes the slower road over `OWNED`.
//! - `OWNED`: the element is being moved out; no more pins.
//! - `BATON`: the sweep of a finished segment stopped here; whoever settles this slot continues it.
//! - `ABANDONED`: the lease was dropped without settle or requeue. `ORPHAN`: the queue was dropped. The second of
//!   the two to arrive drops the element.
//! - `ORPHAN_BATON`: as `BATON`, for the sweep that a dropped queue begins anew.

mod pin;
mod word;

use crate::sync::{
    AtomicU64, Backoff, Ordering, UnsafeCell, crossing_fence, store_beside_exchanges,
};
use std::mem::MaybeUninit;
use std::ptr;

use pin::PinnedIn;
#[cfg(wherry_loom)]
use word::FREED;
use word::{
    ABANDONED, BATON, EMPTY, HELD, INSPECTED, LEASED, NOTE_SHIFT, ORPHAN, ORPHAN_BATON, OWNED,
    PINNED, READY, REMOVED, RETURNED, SETTLED, Word,
};

pub(crate) use pin::Pin;
pub(crate) use word::Duty;

/// What an inspector may learn of an element's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Waiting to be taken, at the head or behind it.
    Ready,
    /// Held by a [`Lease`](crate::Lease).
    Leased,
}

/// What a consumer found in a slot whose position it claimed.
pub(crate) enum Popped<T> {
    Value(T, u32),
    Removed(Duty),
}

/// What the sweep found in a slot.
pub(crate) enum Swept {
    /// Settled: go on.
    Settled,
    /// Not settled: the baton stays here and the segment is not ours any more.
    BatonLeft,
    /// A publisher or consumer is about to store the word blindly, so no baton may be put down here.
    InTransit,
}

pub(crate) struct Slot<T> {
    /// State, flags and note; see the head of the file for who writes it.
    word: AtomicU64,
    /// Initialised in READY, RETURNED and LEASED.
    value: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Slot<T> {
    #[cfg(wherry_loom)]
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(EMPTY),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    #[cfg(wherry_loom)]
    pub(crate) fn mark_freed(&self) {
        // AcqRel: an exchange, so that no later exchange of a late user misses it.
        self.word.swap(FREED, Ordering::AcqRel);
    }

    /// EMPTY → READY.
    ///
    /// # Safety
    /// The caller's claim holds this slot and has not published or discarded it.
    #[inline]
    pub(crate) unsafe fn publish(&self, value: T, note: u32) {
        // SAFETY: nobody reads the value before the word leaves EMPTY, and only the claim's owner writes it.
        self.value.with_mut(|cell| unsafe { (*cell).write(value) });
        // Release: pairs with the Acquire load of every reader of the word, which then sees the value.
        self.word
            .store(READY | (u64::from(note) << NOTE_SHIFT), Ordering::Release);
    }

    /// EMPTY → REMOVED.
    ///
    /// # Safety
    /// As [`Slot::publish`].
    pub(crate) unsafe fn discard(&self) {
        // Release: pairs with the consumer's Acquire in `filled`, so that the segment's memory is reused after us.
        self.word.store(REMOVED, Ordering::Release);
    }

    /// The word as a consumer finds it, once it is READY or REMOVED: waits for the publisher, and for the directory's holder.
    #[inline]
    fn arrived(&self) -> Word {
        crossing_fence();
        // SeqCst: after the head was moved (SeqCst); pairs with `hold`. Contains the Acquire that pairs with the Release
        // in `publish`, `discard` and `remove`.
        let word = Word(self.word.load(Ordering::SeqCst));
        if matches!(word.state(), EMPTY | HELD) {
            self.arrived_later()
        } else {
            word
        }
    }

    #[cold]
    fn arrived_later(&self) -> Word {
        let mut backoff = Backoff::new();
        loop {
            backoff.snooze();
            // Acquire: as in `arrived`. Weaker, for HELD was seen or nobody can hold the slot any more.
            let word = Word(self.word.load(Ordering::Acquire));
            if !matches!(word.state(), EMPTY | HELD) {
                return word;
            }
        }
    }

    /// READY → LEASED (its note), or REMOVED → SETTLED (the duty). Waits for an unfilled slot and for an inspector.
    ///
    /// # Safety
    /// The caller has claimed the slot's position at the head, and calls this or `pop` once.
    #[inline]
    pub(crate) unsafe fn lease(&self) -> Result<u32, Duty> {
        let word = self.arrived();
        if word.state() != READY {
            return Err(self.acknowledge_removed());
        }
        // Release: pairs with the Acquire in `pin` and `sweep`, which then see what the publisher wrote.
        store_beside_exchanges(&self.word, word.with_state(LEASED));
        Ok(word.note())
    }

    /// READY → SETTLED with the element, or REMOVED → SETTLED. Waits for an unfilled slot and for an inspector.
    ///
    /// # Safety
    /// As [`Slot::lease`].
    #[inline]
    pub(crate) unsafe fn pop(&self) -> Popped<T> {
        let word = self.arrived();
        if word.state() != READY {
            return Popped::Removed(self.acknowledge_removed());
        }
        // SAFETY: published, and ours since the head passed it.
        let value = unsafe { self.copy_value().assume_init() };
        // Release: pairs with the Acquire in `sweep`, so that the segment is freed after our read.
        store_beside_exchanges(&self.word, SETTLED);
        Popped::Value(value, word.note())
    }

    /// REMOVED → SETTLED: the head passes a tombstone.
    #[cold]
    fn acknowledge_removed(&self) -> Duty {
        // AcqRel: Release pairs with the Acquire of the sweep, which frees the segment after us; Acquire takes over what an
        // earlier holder of the baton has seen.
        let word = Word(self.word.swap(SETTLED, Ordering::AcqRel));
        debug_assert_eq!(word.state(), REMOVED);
        word.duty()
    }

    /// A copy of the element's bytes, which becomes the element if the exchange that follows succeeds.
    #[inline]
    fn copy_value(&self) -> MaybeUninit<T> {
        // SAFETY: the cell is initialised or not, `MaybeUninit` holds either. Volatile, because a first inspector of a `T`
        // with interior mutability may write to it at the same time; such a copy is thrown away (see INSPECTED).
        self.value.with(|cell| unsafe { ptr::read_volatile(cell) })
    }

    /// LEASED → SETTLED with the element. Waits for an inspector.
    ///
    /// # Safety
    /// The caller holds the slot's lease, and gives it up.
    #[inline]
    pub(crate) unsafe fn settle(&self) -> (T, Duty) {
        // Relaxed: the lease reached us from the thread that acquired the word.
        let mut word = Word(self.word.load(Ordering::Relaxed));
        loop {
            debug_assert_eq!(word.state(), LEASED);
            if word.has(INSPECTED) {
                // SAFETY: the caller's promise is passed on.
                return unsafe { self.settle_inspected() };
            }
            let value = self.copy_value();
            // AcqRel: as in `acknowledge_removed`. Relaxed on failure: the loop looks at the flags only.
            match self.word.compare_exchange_weak(
                word.0,
                SETTLED,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                // SAFETY: initialised while LEASED; ours by the lease; never pinned.
                Ok(_) => return (unsafe { value.assume_init() }, word.duty()),
                Err(current) => word = Word(current),
            }
        }
    }

    /// The road of `settle` for a slot that was pinned at least once: shuts inspectors out before reading.
    #[cold]
    unsafe fn settle_inspected(&self) -> (T, Duty) {
        let mut backoff = Backoff::new();
        loop {
            // Relaxed: the exchange below acquires.
            let word = Word(self.word.load(Ordering::Relaxed));
            if word.has(PINNED) {
                backoff.snooze();
                continue;
            }
            // Acquire: pairs with the Release of `unpin`; the inspector is done before we read.
            if self
                .word
                .compare_exchange_weak(word.0, word.0 | OWNED, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                break;
            }
        }
        let value = self.copy_value();
        // AcqRel: as in `acknowledge_removed`.
        let word = Word(self.word.swap(SETTLED, Ordering::AcqRel));
        // SAFETY: initialised while LEASED; ours by the lease; OWNED keeps inspectors out.
        (unsafe { value.assume_init() }, word.duty())
    }

    /// LEASED → RETURNED with a new note.
    ///
    /// # Safety
    /// The caller holds the slot's lease and the lock on `returned`, and lists the slot there before unlocking.
    pub(crate) unsafe fn requeue(&self, note: u32) {
        self.exchange_flags_kept(LEASED, |word| word.with_state_and_note(RETURNED, note));
    }

    /// RETURNED → LEASED; gives the note.
    ///
    /// # Safety
    /// The caller holds the lock on `returned` and takes the slot off the list.
    pub(crate) unsafe fn lease_returned(&self) -> u32 {
        self.exchange_flags_kept(RETURNED, |word| word.with_state(LEASED))
            .note()
    }

    fn exchange_flags_kept(&self, from: u64, to: impl Fn(Word) -> u64) -> Word {
        // Relaxed: nobody but the caller leaves this state, so only flags can change; the lock orders the rest.
        let mut word = Word(self.word.load(Ordering::Relaxed));
        loop {
            debug_assert_eq!(word.state(), from);
            // AcqRel: keeps the chain publish → settle → sweep whole, as in `lease`.
            match self.word.compare_exchange_weak(
                word.0,
                to(word),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return word,
                Err(current) => word = Word(current),
            }
        }
    }

    /// READY → HELD, while the head has not passed the slot. `is_ahead` tells whether it has not, by a SeqCst load.
    ///
    /// # Safety
    /// The caller holds the directory lock until it has left HELD.
    unsafe fn hold(&self, is_ahead: impl Fn() -> bool) -> Hold {
        // Acquire: pairs with the Release in `publish`.
        let mut word = Word(self.word.load(Ordering::Acquire));
        while word.state() == READY {
            if !is_ahead() {
                return Hold::InTransit;
            }
            let held = word.with_state(HELD);
            // SeqCst: before the head is read (SeqCst); pairs with `arrived`.
            match self
                .word
                .compare_exchange_weak(word.0, held, Ordering::SeqCst, Ordering::Acquire)
            {
                Ok(_) => {
                    crossing_fence();
                    if is_ahead() {
                        return Hold::Held(word);
                    }
                    // Lost. If this exchange fails, the consumer has looked before HELD and stored over it.
                    // Release: as the store that it restores. Relaxed on failure: nothing follows.
                    let _ = self.word.compare_exchange(
                        held,
                        word.0,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    return Hold::InTransit;
                }
                Err(current) => word = Word(current),
            }
        }
        Hold::NotReady(word)
    }

    /// What `remove` finds: an element that waits at or ahead of the head leaves (READY → HELD → REMOVED).
    ///
    /// # Safety
    /// The caller holds the directory lock, which keeps the segment alive and inspectors out. `is_ahead` as in `hold`.
    pub(crate) unsafe fn remove(&self, is_ahead: impl Fn() -> bool) -> Removal<T> {
        // SAFETY: the caller's promise; HELD is left below.
        match unsafe { self.hold(is_ahead) } {
            Hold::Held(word) => {
                // SAFETY: published, and ours while HELD.
                let value = unsafe { self.copy_value().assume_init() };
                // Release: pairs with the acknowledging consumer, so that our read precedes the segment's end.
                self.word.store(REMOVED, Ordering::Release);
                Removal::Removed(value, word.note())
            }
            Hold::NotReady(word) if word.state() == RETURNED => Removal::IsReturned,
            Hold::NotReady(_) | Hold::InTransit => Removal::NotReady,
        }
    }

    /// RETURNED → SETTLED with the element, if it is (still) RETURNED.
    ///
    /// # Safety
    /// The caller holds the directory lock and the lock on `returned`, and takes the slot off the list.
    pub(crate) unsafe fn settle_returned(&self) -> Option<(T, u32, Duty)> {
        // Acquire: pairs with the Release of the requeue.
        if Word(self.word.load(Ordering::Acquire)).state() != RETURNED {
            return None;
        }
        let value = self.copy_value();
        // AcqRel: as in `acknowledge_removed`.
        let word = Word(self.word.swap(SETTLED, Ordering::AcqRel));
        // SAFETY: initialised while RETURNED, which only holders of the lock leave.
        Some((unsafe { value.assume_init() }, word.note(), word.duty()))
    }

    /// Pins a READY (by holding it), RETURNED or LEASED slot; `None` for any other. One that a consumer is just taking counts as
    /// leased: waits until it is, if that is wanted.
    ///
    /// # Safety
    /// The caller holds the directory lock as long as it keeps the pin. `is_ahead` as in `hold`.
    pub(crate) unsafe fn pin(
        &self,
        is_ahead: impl Fn() -> bool,
        wanted: impl Fn(SlotState) -> bool,
    ) -> Option<Pin<'_, T>> {
        let mut backoff = Backoff::new();
        let mut word = loop {
            // SAFETY: the caller's promise; `Pin` leaves HELD.
            match unsafe { self.hold(&is_ahead) } {
                Hold::Held(word) => {
                    let after = PinnedIn::Held(word);
                    return Some(Pin {
                        slot: self,
                        state: SlotState::Ready,
                        note: word.note(),
                        after,
                    });
                }
                Hold::NotReady(word) => break word,
                Hold::InTransit if !wanted(SlotState::Leased) => return None,
                Hold::InTransit => backoff.snooze(),
            }
        };
        loop {
            let state = match word.state() {
                RETURNED => SlotState::Ready,
                LEASED if !word.has(OWNED) => SlotState::Leased,
                _ => return None,
            };
            if !wanted(state) {
                return None;
            }
            let pinned = word.0 | PINNED | INSPECTED;
            // Acquire, also on failure: pairs with the Release in `lease` and `requeue`.
            match self.word.compare_exchange_weak(
                word.0,
                pinned,
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    return Some(Pin {
                        slot: self,
                        state,
                        note: word.note(),
                        after: PinnedIn::Flag,
                    });
                }
                Err(current) => word = Word(current),
            }
        }
    }

    /// Whether the position is free of an element for good: settled, or a tombstone.
    pub(crate) fn is_finished(&self) -> bool {
        // Relaxed: a look only.
        matches!(
            Word(self.word.load(Ordering::Relaxed)).state(),
            SETTLED | REMOVED
        )
    }

    /// One step of the sweep: puts the baton down unless the slot is settled.
    ///
    /// # Safety
    /// The caller holds the baton of the slot's segment.
    #[inline]
    pub(crate) unsafe fn sweep(&self) -> Swept {
        // Acquire: pairs with the Release of whoever settled the slot; the segment is freed after that.
        match Word(self.word.load(Ordering::Acquire)).state() {
            SETTLED => Swept::Settled,
            EMPTY | READY | HELD => Swept::InTransit,
            _ => {
                // AcqRel: Release hands what we have seen settled to the next holder; Acquire as above.
                let before = Word(self.word.fetch_or(BATON, Ordering::AcqRel));
                if before.state() == SETTLED {
                    Swept::Settled
                } else {
                    Swept::BatonLeft
                }
            }
        }
    }

    /// The lease goes out of scope unsettled. If the queue went first, drops the element and tells the duty.
    ///
    /// # Safety
    /// The caller holds the slot's lease, and gives it up.
    pub(crate) unsafe fn abandon(&self) -> Duty {
        // AcqRel: pairs with the same in `orphan`; the second of the two sees the first.
        let before = Word(self.word.fetch_or(ABANDONED, Ordering::AcqRel));
        if !before.has(ORPHAN) {
            return Duty::None;
        }
        // SAFETY: LEASED, and queue and lease are both gone but for us.
        unsafe { self.drop_value() };
        // AcqRel: as in `acknowledge_removed`.
        Word(self.word.swap(SETTLED, Ordering::AcqRel)).duty()
    }

    /// The queue is being dropped: drops the element unless a lease holds it.
    ///
    /// # Safety
    /// No thread uses the queue any more; leases may. Called once.
    pub(crate) unsafe fn orphan(&self) {
        // AcqRel: pairs with the same in `abandon`, and with the Release of every earlier transition.
        let before = Word(self.word.fetch_or(ORPHAN, Ordering::AcqRel));
        let ours = match before.state() {
            READY | RETURNED => true,
            LEASED => before.has(ABANDONED),
            _ => false,
        };
        if ours {
            // Relaxed: nobody else reaches this slot any more.
            self.word.store(SETTLED, Ordering::Relaxed);
            // SAFETY: initialised, and queue and lease are both gone but for us.
            unsafe { self.drop_value() };
        }
    }

    /// One step of the sweep of a dropped queue's segment: `true` if a lease holds this slot and got the baton.
    ///
    /// # Safety
    /// `orphan` ran on all slots, and the caller is the segment's only sweeper.
    pub(crate) unsafe fn sweep_orphan(&self) -> bool {
        // Acquire: pairs with the Release of whoever settled the slot; the segment is freed after that.
        if Word(self.word.load(Ordering::Acquire)).state() != LEASED {
            return false;
        }
        // AcqRel: as in `sweep`.
        Word(self.word.fetch_or(ORPHAN_BATON, Ordering::AcqRel)).state() == LEASED
    }

    unsafe fn drop_value(&self) {
        // SAFETY: initialised, and nobody else can reach it, by the caller's promise.
        self.value
            .with_mut(|cell| unsafe { (*cell).assume_init_drop() });
    }

    /// The element.
    ///
    /// # Safety
    /// The caller holds the slot's lease or a pin for as long as it uses the reference.
    #[inline]
    pub(crate) unsafe fn value(&self) -> &T {
        // SAFETY: initialised in all states that can be leased or pinned; not written while the lease or pin lasts.
        self.value.with(|cell| unsafe { (*cell).assume_init_ref() })
    }
}

/// The outcome of [`Slot::hold`].
enum Hold {
    /// HELD now; the word before.
    Held(Word),
    /// A consumer has claimed the position and is about to take the element.
    InTransit,
    NotReady(Word),
}

/// The outcome of [`Slot::remove`].
pub(crate) enum Removal<T> {
    Removed(T, u32),
    /// Requeued: the caller needs the lock on `returned` as well.
    IsReturned,
    NotReady,
}
