//! Delivery tags of one channel over several consumers.
//!
//! The engine numbers deliveries for each consumer; AMQP numbers them for each channel, from 1, and acknowledges them one
//! by one or all up to a tag. This maps one to the other. Not for several threads at once.
//!
//! Entries stand in order of tags. Tags are dense and mostly settled in order, so an entry is nearly always found where
//! its tag says; when settled ones lie in between, they are marked, and swept out when they are more than the others (and
//! more than `SETTLED_KEPT`), so that one delivery that is never settled does not keep all that came after it. Every
//! operation is constant time on average, `multiple` in what it settles.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

/// Settled entries that may lie between others before they are swept out: a sweep must be rare for small channels.
const SETTLED_KEPT: usize = 256;

/// Consumers in one answer above which they are looked up instead of searched.
const SEARCHED: usize = 16;

/// Deliveries of one consumer that are settled together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which consumer.
    pub consumer: u32,
    /// The consumer's own tag.
    pub tag: u64,
    /// All of this consumer up to the tag.
    pub multiple: bool,
}

/// What a settlement means for the consumers: rarely more than one.
pub type SettledList = SmallVec<[Settled; 4]>;

/// One delivery that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handout {
    /// The channel's tag.
    pub delivery_tag: u64,
    /// To which consumer.
    pub consumer: u32,
    /// The consumer's own tag.
    pub tag: u64,
}

/// The tag was never handed out on this channel, or is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTag(pub u64);

impl std::fmt::Display for UnknownTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unknown delivery tag {}", self.0)
    }
}

impl std::error::Error for UnknownTag {}

impl From<UnknownTag> for crate::Failure {
    fn from(unknown: UnknownTag) -> Self {
        crate::Failure::precondition_failed(unknown.to_string())
    }
}

#[derive(Clone, Copy)]
struct Entry {
    handout: Handout,
    live: bool,
}

/// The deliveries of one channel that are not settled.
pub struct Handouts {
    /// In order of delivery tags; the first one is live.
    entries: VecDeque<Entry>,
    /// Tag of the next delivery.
    next: u64,
    live: usize,
    /// Live ones of each consumer that has any.
    of_consumer: HashMap<u32, usize, RandomState>,
}

impl Default for Handouts {
    fn default() -> Self {
        Handouts {
            entries: VecDeque::new(),
            next: 1,
            live: 0,
            of_consumer: HashMap::default(),
        }
    }
}

/// Collects what is settled, one entry for each consumer with its highest tag.
struct Summary<'a> {
    out: &'a mut SettledList,
    /// Entries before were in it when it was handed in.
    from: usize,
    places: HashMap<u32, usize, RandomState>,
}

impl Summary<'_> {
    fn add(&mut self, handout: Handout) {
        let place = if self.out.len() - self.from <= SEARCHED {
            self.out[self.from..]
                .iter()
                .position(|s| s.consumer == handout.consumer)
                .map(|place| place + self.from)
        } else {
            if self.places.is_empty() {
                for (place, settled) in self.out.iter().enumerate().skip(self.from) {
                    self.places.insert(settled.consumer, place);
                }
            }
            self.places.get(&handout.consumer).copied()
        };
        match place {
            Some(place) => self.out[place].tag = handout.tag, // tags of a consumer grow
            None => {
                if !self.places.is_empty() {
                    self.places.insert(handout.consumer, self.out.len());
                }
                self.out.push(Settled {
                    consumer: handout.consumer,
                    tag: handout.tag,
                    multiple: true,
                });
            }
        }
    }
}

impl Handouts {
    /// None yet.
    pub fn new() -> Handouts {
        Handouts::default()
    }

    /// A delivery goes out: its tag on the channel. A consumer's own tags must grow from one to the next.
    #[inline]
    pub fn push(&mut self, consumer: u32, tag: u64) -> u64 {
        let delivery_tag = self.next;
        self.next += 1;
        self.entries.push_back(Entry {
            handout: Handout {
                delivery_tag,
                consumer,
                tag,
            },
            live: true,
        });
        self.live += 1;
        *self.of_consumer.entry(consumer).or_insert(0) += 1;
        delivery_tag
    }

    /// A delivery goes out that needs no acknowledgement: only a tag is used up.
    #[inline]
    pub fn skip(&mut self) -> u64 {
        let delivery_tag = self.next;
        self.next += 1;
        delivery_tag
    }

    /// Place of the live entry of that tag.
    #[inline]
    fn find(&self, delivery_tag: u64) -> Option<usize> {
        let first = self.entries.front()?.handout.delivery_tag;
        let offset = usize::try_from(delivery_tag.checked_sub(first)?).ok()?;
        // Where it stands if nothing was swept out or skipped since the first; else it can only be before.
        let place = match self.entries.get(offset) {
            Some(entry) if entry.handout.delivery_tag == delivery_tag => offset,
            _ => self
                .entries
                .binary_search_by_key(&delivery_tag, |e| e.handout.delivery_tag)
                .ok()?,
        };
        self.entries[place].live.then_some(place)
    }

    fn discount(&mut self, consumer: u32) {
        self.live -= 1;
        if let hashbrown::hash_map::Entry::Occupied(mut count) = self.of_consumer.entry(consumer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn take_one(&mut self, place: usize) -> Handout {
        self.entries[place].live = false;
        let handout = self.entries[place].handout;
        self.discount(handout.consumer);
        self.tidy();
        handout
    }

    /// Takes all up to a tag, in order.
    fn take_up_to(&mut self, delivery_tag: u64, mut taken: impl FnMut(Handout)) -> usize {
        let mut count = 0;
        while let Some(entry) = self.entries.front() {
            if entry.handout.delivery_tag > delivery_tag {
                break;
            }
            let Entry { handout, live } = *entry;
            self.entries.pop_front();
            if live {
                self.discount(handout.consumer);
                taken(handout);
                count += 1;
            }
        }
        self.tidy();
        count
    }

    /// Keeps the first entry live, and settled ones few.
    fn tidy(&mut self) {
        while self.entries.front().is_some_and(|entry| !entry.live) {
            self.entries.pop_front();
        }
        if self.entries.len() - self.live > self.live + SETTLED_KEPT {
            self.entries.retain(|entry| entry.live);
        }
        // Memory of a burst is given back when three quarters of it are unused, so that it is moved rarely.
        let (len, capacity) = (self.entries.len(), self.entries.capacity());
        if capacity > 4 * (len + SETTLED_KEPT) {
            self.entries.shrink_to(2 * len);
        }
    }

    /// The last tag that a settlement with `multiple` covers.
    fn last_of_multiple(&self, delivery_tag: u64) -> Result<u64, UnknownTag> {
        if delivery_tag == 0 {
            return Ok(u64::MAX);
        }
        // As RabbitMQ: the tag itself must be outstanding.
        self.find(delivery_tag)
            .map(|_| delivery_tag)
            .ok_or(UnknownTag(delivery_tag))
    }

    /// Settles a delivery, or with `multiple` all up to it; tag 0 with `multiple` means all there are, which may be
    /// none. What it means for each consumer is appended to `out`: one entry a consumer, with its highest tag. Returns
    /// how many deliveries it was.
    ///
    /// # Errors
    /// [`UnknownTag`], with nothing settled. As in RabbitMQ a tag that was settled before is unknown also for `multiple`,
    /// though earlier ones may be outstanding.
    #[inline]
    pub fn settle(
        &mut self,
        delivery_tag: u64,
        multiple: bool,
        out: &mut SettledList,
    ) -> Result<u32, UnknownTag> {
        if !multiple {
            let place = self.find(delivery_tag).ok_or(UnknownTag(delivery_tag))?;
            let handout = self.take_one(place);
            out.push(Settled {
                consumer: handout.consumer,
                tag: handout.tag,
                multiple: false,
            });
            return Ok(1);
        }
        let last = self.last_of_multiple(delivery_tag)?;
        let mut summary = Summary {
            from: out.len(),
            out,
            places: HashMap::default(),
        };
        let count = self.take_up_to(last, |handout| summary.add(handout));
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// As [`Handouts::settle`], but lists every delivery: for transactions, which may have to put them back.
    ///
    /// # Errors
    /// [`UnknownTag`], with nothing taken.
    pub fn withdraw(
        &mut self,
        delivery_tag: u64,
        multiple: bool,
        out: &mut Vec<Handout>,
    ) -> Result<usize, UnknownTag> {
        if !multiple {
            let place = self.find(delivery_tag).ok_or(UnknownTag(delivery_tag))?;
            out.push(self.take_one(place));
            return Ok(1);
        }
        let last = self.last_of_multiple(delivery_tag)?;
        Ok(self.take_up_to(last, |handout| out.push(handout)))
    }

    /// Makes withdrawn deliveries outstanding again, under their tags.
    pub fn put_back(&mut self, handouts: &[Handout]) {
        self.entries.retain(|entry| entry.live);
        for &handout in handouts {
            self.entries.push_back(Entry {
                handout,
                live: true,
            });
            self.live += 1;
            *self.of_consumer.entry(handout.consumer).or_insert(0) += 1;
        }
        self.entries
            .make_contiguous()
            .sort_unstable_by_key(|entry| entry.handout.delivery_tag);
    }

    /// Takes everything: for recover and for the channel's end. Appends to `out` as [`Handouts::settle`] does.
    pub fn drain(&mut self, out: &mut SettledList) -> usize {
        let mut summary = Summary {
            from: out.len(),
            out,
            places: HashMap::default(),
        };
        self.take_up_to(u64::MAX, |handout| summary.add(handout))
    }

    /// Outstanding deliveries.
    #[inline]
    pub fn live(&self) -> usize {
        self.live
    }

    /// Outstanding deliveries of one consumer.
    pub fn live_of(&self, consumer: u32) -> usize {
        self.of_consumer.get(&consumer).copied().unwrap_or(0)
    }

    /// Consumers with outstanding deliveries, in no order.
    pub fn consumers(&self) -> impl Iterator<Item = u32> {
        self.of_consumer.keys().copied()
    }

    /// Bytes on the heap, about.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.of_consumer.capacity() * size_of::<(u32, usize)>()
    }
}
