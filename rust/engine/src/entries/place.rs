//! Where messages stand, as entries name it.

use smallvec::SmallVec;

/// A message's place in one queue: the level is its priority in a priority queue, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) queue: u32,
    pub(crate) level: u8,
    pub(crate) position: u64,
}

/// Positions end here: the queues count to 2^52, which is a million messages a second for 140 years.
pub(super) const POSITIONS: u64 = 1 << 51;

impl Place {
    /// Whether a queue could have given it out; what is read from a disk may say anything.
    pub(crate) fn is_sound(self) -> bool {
        self.position < POSITIONS && self.queue < crate::topology::IDS
    }
}

/// One queue that a message entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) place: Place,
    /// The slot's note; 0 for a new message.
    pub(crate) note: u32,
}

/// Consecutive positions of one level of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Place,
    pub(crate) count: u32,
}

/// A single acknowledgement, and a batch in order, are one run and need no allocation.
pub(crate) type Runs = SmallVec<[Run; 2]>;

/// Joins neighbours, so that the acks of a batch are one run.
pub(crate) fn push_run(runs: &mut Runs, place: Place) {
    if let Some(last) = runs.last_mut()
        && last.first.queue == place.queue
        && last.first.level == place.level
        && last.count < u32::MAX
    {
        if last.first.position + u64::from(last.count) == place.position {
            last.count += 1;
            return;
        }
        if place.position + 1 == last.first.position {
            last.first.position = place.position;
            last.count += 1;
            return;
        }
    }
    runs.push(Run {
        first: place,
        count: 1,
    });
}
