//! The slots behind message groups: segments of 256 consecutive positions, found by position or by handle.
//!
//! A handle is a segment's index in a table and the slot's offset in it, 32 bits together: links between slots cost 4 bytes
//! and following one costs no search. A handle is valid as long as its slot is not settled.
//! A segment is freed when its last slot is settled, wherever it stands, and its memory goes to the next one.
//! The last segment grows slot by slot, so a short queue is small; an empty store keeps at most 16 slots.
//!
//! What is not promised: a single straggler keeps its segment of 8 KiB, and with it the table of segments as large as it ever
//! was (88 bytes for 256 slots); both go when the store is empty.

use std::collections::BTreeMap;

use crate::position_bitmap::{SlotBits, SparseBits};

/// Slots in a segment. Large enough that the table and the map over segments cost less than a byte a slot.
pub(super) const SEGMENT_SLOTS: u64 = 256;
/// Slots that an empty store keeps: 512 bytes.
const IDLE_SLOTS_MAX: usize = 16;
/// Freed slot arrays kept for the next segment while the store is in use.
const SPARE_MAX: usize = 2;

/// The place of a slot that is not settled: index of the segment * 256 + offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Handle(u32);

impl Handle {
    /// No slot; also the reason why the highest index is not used.
    pub(super) const NONE: Self = Self(u32::MAX);

    fn new(index: usize, offset: u8) -> Self {
        Self((index as u32) << 8 | u32::from(offset))
    }

    fn index(self) -> usize {
        (self.0 >> 8) as usize
    }

    fn offset(self) -> u8 {
        self.0 as u8
    }

    /// The next slot of the same segment, if it has one more.
    pub(super) fn following(self) -> Option<Self> {
        (self.offset() != u8::MAX).then(|| Self(self.0 + 1))
    }

    pub(super) fn is_some(self) -> bool {
        self != Self::NONE
    }
}

/// Where a slot stands; every change is made by a named method of `Groups`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Position given out, message not there yet.
    Claimed,
    /// Behind another message of its group.
    Waiting,
    /// First of its group, or of no group: the next `take` may have it.
    Ready,
    /// Handed out.
    Leased,
    /// Gone, or never was.
    Settled,
}

pub(super) struct Slot<T> {
    /// There if and only if the state is waiting, ready or leased.
    pub(super) value: Option<T>,
    /// Of no meaning unless `grouped`.
    pub(super) key: u64,
    /// Neighbours in the group.
    pub(super) next: Handle,
    pub(super) prev: Handle,
    pub(super) note: u32,
    pub(super) state: State,
    pub(super) grouped: bool,
}

const _: () = assert!(size_of::<Slot<std::sync::Arc<()>>>() == 32 || size_of::<usize>() != 8);

impl<T> Slot<T> {
    fn hole() -> Self {
        Self {
            value: None,
            key: 0,
            next: Handle::NONE,
            prev: Handle::NONE,
            note: 0,
            state: State::Settled,
            grouped: false,
        }
    }
}

struct Segment<T> {
    /// Position / 256.
    number: u64,
    /// Offset of the first element of `slots`: a segment may begin in the middle.
    first: u8,
    unsettled: u32,
    ready: SlotBits,
    slots: Vec<Slot<T>>,
}

/// All slots that are not settled.
pub(super) struct Store<T> {
    segments: Vec<Segment<T>>,
    /// Indexes in `segments` that are not in use.
    vacant: Vec<u32>,
    /// From a segment's number to its index.
    directory: BTreeMap<u64, u32>,
    /// Numbers of the segments with ready slots.
    ready: SparseBits,
    /// Index of the segment that holds, or will hold, the slot before `next_position`; None until the first.
    last: Option<u32>,
    next_position: u64,
    unsettled: u64,
    spare: Vec<Vec<Slot<T>>>,
}

impl<T> Store<T> {
    pub(super) fn starting_at(first: u64) -> Self {
        Self {
            segments: Vec::new(),
            vacant: Vec::new(),
            directory: BTreeMap::new(),
            ready: SparseBits::default(),
            last: None,
            next_position: first,
            unsettled: 0,
            spare: Vec::new(),
        }
    }

    pub(super) fn next_position(&self) -> u64 {
        self.next_position
    }

    pub(super) fn unsettled(&self) -> u64 {
        self.unsettled
    }

    pub(super) fn slot(&self, handle: Handle) -> &Slot<T> {
        let segment = &self.segments[handle.index()];
        &segment.slots[usize::from(handle.offset() - segment.first)]
    }

    pub(super) fn slot_mut(&mut self, handle: Handle) -> &mut Slot<T> {
        let segment = &mut self.segments[handle.index()];
        &mut segment.slots[usize::from(handle.offset() - segment.first)]
    }

    pub(super) fn position(&self, handle: Handle) -> u64 {
        self.segments[handle.index()].number * SEGMENT_SLOTS + u64::from(handle.offset())
    }

    /// The slot at a position, unless it is settled or not there yet.
    pub(super) fn locate(&self, position: u64) -> Option<Handle> {
        let index = *self.directory.get(&(position / SEGMENT_SLOTS))? as usize;
        let segment = &self.segments[index];
        let offset = (position % SEGMENT_SLOTS) as u8;
        let slot = segment
            .slots
            .get(usize::from(offset.checked_sub(segment.first)?))?;
        (slot.state != State::Settled).then(|| Handle::new(index, offset))
    }

    /// Adds a claimed slot at the next position.
    pub(super) fn append(&mut self, key: Option<u64>) -> Handle {
        let index = self.last_segment();
        let offset = (self.next_position % SEGMENT_SLOTS) as u8;
        let segment = &mut self.segments[index];
        debug_assert_eq!(
            segment.slots.len() + usize::from(segment.first),
            usize::from(offset)
        );
        segment.slots.push(Slot {
            key: key.unwrap_or(0),
            grouped: key.is_some(),
            state: State::Claimed,
            ..Slot::hole()
        });
        segment.unsettled += 1;
        self.unsettled += 1;
        self.next_position += 1;
        Handle::new(index, offset)
    }

    /// Leaves the positions before `position` out; they count as settled.
    pub(super) fn skip_to(&mut self, position: u64) {
        assert!(position >= self.next_position, "positions only grow");
        if let Some(index) = self.last
            && self.segments[index as usize].number == position / SEGMENT_SLOTS
        {
            let segment = &mut self.segments[index as usize];
            let offset = (position % SEGMENT_SLOTS) as u8;
            if segment.unsettled == 0 {
                segment.slots.clear();
                segment.first = offset;
            }
            // Inside a segment there are no gaps.
            segment
                .slots
                .resize_with(usize::from(offset - segment.first), Slot::hole);
        }
        self.next_position = position;
    }

    /// Index of the segment of `next_position`, made if it is not there.
    fn last_segment(&mut self) -> usize {
        let number = self.next_position / SEGMENT_SLOTS;
        if let Some(index) = self.last {
            if self.segments[index as usize].number == number {
                return index as usize;
            }
            self.last = None;
            // It was kept only to be filled.
            if self.segments[index as usize].unsettled == 0 {
                self.free(index as usize);
            }
        }
        let segment = Segment {
            number,
            first: (self.next_position % SEGMENT_SLOTS) as u8,
            unsettled: 0,
            ready: SlotBits::default(),
            slots: self.spare.pop().unwrap_or_default(),
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.segments[index as usize] = segment;
                index
            }
            None => {
                if self.segments.is_empty() {
                    // Most queues never need a second one.
                    self.segments.reserve_exact(1);
                }
                self.segments.push(segment);
                (self.segments.len() - 1) as u32
            }
        };
        assert!(
            index < 0xFF_FFFF,
            "four billion slots are the limit of a handle"
        );
        self.directory.insert(number, index);
        self.last = Some(index);
        index as usize
    }

    fn free(&mut self, index: usize) {
        let segment = &mut self.segments[index];
        debug_assert!(segment.unsettled == 0 && segment.ready.is_empty());
        self.directory.remove(&segment.number);
        let mut slots = std::mem::take(&mut segment.slots);
        slots.clear();
        if self.spare.len() < SPARE_MAX && slots.capacity() as u64 == SEGMENT_SLOTS {
            self.spare.push(slots);
        }
        self.vacant.push(index as u32);
    }

    /// Ends a slot and returns what it held. The slot must not be ready and must not be linked any more.
    pub(super) fn settle(&mut self, handle: Handle) -> Option<T> {
        let slot = self.slot_mut(handle);
        debug_assert!(!matches!(slot.state, State::Ready | State::Settled));
        slot.state = State::Settled;
        let value = slot.value.take();
        let index = handle.index();
        self.segments[index].unsettled -= 1;
        self.unsettled -= 1;
        if self.unsettled == 0 {
            self.reset();
        } else if self.segments[index].unsettled == 0 {
            // The last segment is kept while it can be filled further.
            let next_number = self.next_position / SEGMENT_SLOTS;
            if self.segments[index].number != next_number {
                if self.last == Some(index as u32) {
                    self.last = None;
                }
                self.free(index);
            }
        }
        value
    }

    /// Gives memory back when nothing is left. Cheap when there was little, as after each message of a quiet queue.
    fn reset(&mut self) {
        if self.segments.len() > 1 {
            self.segments.clear();
            self.segments.shrink_to(1);
            self.vacant = Vec::new();
            self.spare = Vec::new();
            self.directory.clear();
            self.last = None;
            return;
        }
        let segment = &mut self.segments[0];
        debug_assert_eq!(self.last, Some(0));
        segment.slots.clear();
        segment.slots.shrink_to(IDLE_SLOTS_MAX);
        let number = self.next_position / SEGMENT_SLOTS;
        if segment.number != number {
            self.directory.remove(&segment.number);
            self.directory.insert(number, 0);
            segment.number = number;
        }
        segment.first = (self.next_position % SEGMENT_SLOTS) as u8;
    }

    /// Marks a slot as ready.
    pub(super) fn set_ready(&mut self, handle: Handle) {
        self.slot_mut(handle).state = State::Ready;
        let segment = &mut self.segments[handle.index()];
        if segment.ready.is_empty() {
            self.ready.set(segment.number);
        }
        segment.ready.set(handle.offset());
    }

    /// Takes the mark away; the slot goes over to `state`.
    pub(super) fn clear_ready(&mut self, handle: Handle, state: State) {
        debug_assert_eq!(self.slot(handle).state, State::Ready);
        self.slot_mut(handle).state = state;
        let segment = &mut self.segments[handle.index()];
        segment.ready.clear(handle.offset());
        if segment.ready.is_empty() {
            self.ready.clear(segment.number);
        }
    }

    /// The ready slot with the lowest position.
    pub(super) fn first_ready(&self) -> Option<Handle> {
        let index = self.directory[&self.ready.first()?] as usize;
        self.segments[index]
            .ready
            .first()
            .map(|offset| Handle::new(index, offset))
    }

    /// Writes the ready slots of the first segment that has any to `handles`, in order of position; says how many.
    pub(super) fn list_ready(&self, handles: &mut [Handle; SEGMENT_SLOTS as usize]) -> usize {
        let Some(number) = self.ready.first() else {
            return 0;
        };
        let index = self.directory[&number] as usize;
        let mut offsets = [0; SEGMENT_SLOTS as usize];
        let count = self.segments[index].ready.list(&mut offsets);
        for (handle, &offset) in handles.iter_mut().zip(&offsets[..count]) {
            *handle = Handle::new(index, offset);
        }
        count
    }

    /// Numbers of the segments from the one with `position` on.
    pub(super) fn segments_from(&self, position: u64) -> impl Iterator<Item = (u64, u32)> {
        self.directory
            .range(position / SEGMENT_SLOTS..)
            .map(|(&number, &index)| (number, index))
    }

    /// The unsettled slots of the segment at `index`, in order of position.
    pub(super) fn unsettled_in(&self, index: u32) -> impl Iterator<Item = (u64, Handle, &Slot<T>)> {
        let segment = &self.segments[index as usize];
        segment
            .slots
            .iter()
            .zip(segment.first..=u8::MAX)
            .filter(|(slot, _)| slot.state != State::Settled)
            .map(move |(slot, offset)| {
                let position = segment.number * SEGMENT_SLOTS + u64::from(offset);
                (position, Handle::new(index as usize, offset), slot)
            })
    }
}
