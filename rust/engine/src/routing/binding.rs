//! What the tables hold: bindings, the keys they share, the destinations of one key, and every destination's own bindings.
//!
//! A binding is one allocation, owned twice: by the routing structure (where readers meet it) and by [`Owners`] (where a destination's
//! bindings are found when it is deleted). Its key is owned by it and, in direct and topic tables, by the structure that leads to it:
//! there key and binding refer to each other, and the table breaks these cycles when it is dropped.

use std::hash::{BuildHasher, Hash};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_epoch::Guard;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use triomphe::{Arc, ThinArc};

use super::slots::{Link, Owned, Slots, Writer, tag_of};
use crate::table::{Table, TableError, TableView};

/// Everything that can be bound: a small handle of a queue or an exchange.
pub trait Destination: Clone + Eq + Hash + Send + Sync + 'static {}

impl<D: Clone + Eq + Hash + Send + Sync + 'static> Destination for D {}

/// A key with the destinations bound by it. One allocation: header and text.
pub(super) type Key<D> = ThinArc<KeyHeader<D>, u8>;

pub(super) struct KeyHeader<D: Destination> {
    /// Not used in fanout and headers tables, where destinations do not hang on keys.
    destinations: Destinations<D>,
}

pub(super) fn new_key<D: Destination>(text: &str) -> Key<D> {
    let destinations = Destinations::new();
    Key::from_header_and_slice(KeyHeader { destinations }, text.as_bytes())
}

/// A key as readers meet it.
pub(super) struct KeyRef<'a, D: Destination> {
    target: &'a <Key<D> as Deref>::Target,
    /// The same as `target`, as `Key::into_raw` gave it.
    raw: *mut (),
}

impl<D: Destination> Clone for KeyRef<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Destination> Copy for KeyRef<'_, D> {}

impl<'a, D: Destination> KeyRef<'a, D> {
    pub(super) fn text(self) -> &'a [u8] {
        &self.target.slice
    }

    pub(super) fn destinations(self) -> &'a Destinations<D> {
        &self.target.header.header.destinations
    }

    /// The address, to recognise the key by during one match.
    pub(super) fn address(self) -> usize {
        self.raw.addr()
    }

    /// One more owner.
    pub(super) fn share(self) -> Key<D> {
        // SAFETY: `raw` comes from `Key::into_raw` and its target lives for 'a; ManuallyDrop leaves the borrowed count alone.
        unsafe { Key::clone(&ManuallyDrop::new(Key::from_raw(self.raw.cast()))) }
    }
}

// SAFETY: the pointer is that of ThinArc, valid while the count that `into_raw` kept is held.
unsafe impl<D: Destination> Owned for Key<D> {
    type Ref<'a> = KeyRef<'a, D>;

    fn into_raw(self) -> *mut () {
        ThinArc::into_raw(self).cast::<()>().cast_mut()
    }

    unsafe fn from_raw(raw: *mut ()) -> Self {
        // SAFETY: the caller hands over the count that `into_raw` kept.
        unsafe { ThinArc::from_raw(raw.cast()) }
    }

    unsafe fn borrow<'a>(raw: *mut ()) -> KeyRef<'a, D> {
        // SAFETY: ManuallyDrop leaves the count alone; the caller says that the target lives for 'a, and it does not move.
        let target = unsafe {
            let key = ManuallyDrop::new(Key::from_raw(raw.cast()));
            let target: *const <Key<D> as Deref>::Target = &**key;
            &*target
        };
        KeyRef { target, raw }
    }
}

/// Binding arguments in their only form here: encoded, sorted by name; `None` if there are none. Equal arguments have equal bytes.
pub(super) type Arguments = Option<ThinArc<(), u8>>;

pub(super) fn canonical(arguments: &Table) -> Result<Arguments, TableError> {
    if arguments.is_empty() {
        return Ok(None);
    }
    let mut sorted = arguments.clone();
    sorted.sort();
    let bytes = sorted.encode()?;
    // Also refuses what could be encoded but not given back by `list`.
    TableView::new(&bytes).to_table()?;
    Ok(Some(ThinArc::from_header_and_slice((), &bytes)))
}

pub(super) fn bytes_of(arguments: &Arguments) -> &[u8] {
    arguments.as_ref().map_or(&[], |bytes| &bytes.slice)
}

/// A binding's identity, before the binding exists or to look for it.
pub(super) struct Wanted<'a, D> {
    pub(super) key: &'a str,
    pub(super) arguments: Arguments,
    pub(super) destination: &'a D,
}

impl<D: Destination> Wanted<'_, D> {
    /// The tag under which [`Destinations`] keep the binding.
    pub(super) fn tag(&self, hasher: &RandomState) -> u64 {
        tag_of::<0>(hasher.hash_one((self.destination, self.key, bytes_of(&self.arguments))))
    }

    fn is(&self, binding: &Binding<D>) -> bool {
        *self.destination == binding.destination
            && *self.key.as_bytes() == binding.key.slice
            && bytes_of(&self.arguments) == bytes_of(&binding.arguments)
    }
}

pub(super) struct Binding<D: Destination> {
    pub(super) destination: D,
    pub(super) key: Key<D>,
    pub(super) arguments: Arguments,
    /// Its index in the list of its destination in [`Owners`]. Touched under the writers' lock only, hence `Relaxed`.
    position: AtomicU32,
}

impl<D: Destination> Binding<D> {
    pub(super) fn new(wanted: &Wanted<'_, D>, key: Key<D>) -> Arc<Self> {
        Arc::new(Self {
            destination: wanted.destination.clone(),
            key,
            arguments: wanted.arguments.clone(),
            position: AtomicU32::new(0),
        })
    }

    pub(super) fn wanted(&self) -> Wanted<'_, D> {
        Wanted {
            key: self.key_str(),
            arguments: self.arguments.clone(),
            destination: &self.destination,
        }
    }

    /// The destinations of its key, for tables in which destinations hang on keys.
    pub(super) fn siblings(&self) -> &Destinations<D> {
        &self.key.header.header.destinations
    }

    fn key_str(&self) -> &str {
        std::str::from_utf8(&self.key.slice).expect("keys are made from text")
    }

    /// Key and arguments as the user gave them, but for the order of the arguments.
    pub(super) fn describe(&self) -> (String, Table) {
        let arguments = TableView::new(bytes_of(&self.arguments)).to_table();
        (
            self.key_str().to_owned(),
            arguments.expect("arguments were encoded from a table"),
        )
    }
}

/// The bindings that a match leads to. One is kept without a block: most keys have one destination.
pub(super) struct Destinations<D: Destination> {
    one: Link<Arc<Binding<D>>>,
    more: Slots<Arc<Binding<D>>>,
}

impl<D: Destination> Destinations<D> {
    pub(super) const fn new() -> Self {
        Self {
            one: Link::new(),
            more: Slots::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.one.is_empty() && self.more.is_empty()
    }

    pub(super) fn each(&self, guard: &Guard, found: &mut impl FnMut(&D)) {
        if let Some(binding) = self.one.get(guard) {
            found(&binding.destination);
        }
        if !self.more.is_empty() {
            self.more.each(guard, |binding| found(&binding.destination));
        }
    }

    pub(super) fn get<'g>(
        &self,
        tag: u64,
        wanted: &Wanted<'_, D>,
        guard: &'g Guard,
    ) -> Option<&'g Binding<D>> {
        let one = self.one.get(guard).filter(|held| wanted.is(held));
        one.or_else(|| self.more.find(tag, guard, |held| wanted.is(held)))
    }

    /// Adds a binding that is not in it yet.
    pub(super) fn insert(&self, tag: u64, binding: Arc<Binding<D>>, writer: Writer<'_>) {
        if self.one.is_empty() {
            self.one.set(Some(binding), writer);
        } else {
            self.more.insert(tag, binding, writer);
        }
    }

    pub(super) fn remove(&self, tag: u64, wanted: &Wanted<'_, D>, writer: Writer<'_>) -> bool {
        if self
            .one
            .get(writer.guard)
            .is_some_and(|held| wanted.is(held))
        {
            self.one.set(None, writer);
            return true;
        }
        self.more.remove(tag, writer, |held| wanted.is(held))
    }

    pub(super) fn clear(&self, writer: Writer<'_>) {
        self.one.set(None, writer);
        self.more.clear(writer);
    }
}

/// All bindings of one destination.
enum Own<D: Destination> {
    One(Arc<Binding<D>>),
    #[expect(
        clippy::box_collection,
        reason = "a million destinations have one binding; 8 bytes less for each"
    )]
    Many(Box<Vec<Arc<Binding<D>>>>),
}

impl<D: Destination> Own<D> {
    fn as_slice(&self) -> &[Arc<Binding<D>>] {
        match self {
            Self::One(binding) => std::slice::from_ref(binding),
            Self::Many(bindings) => bindings,
        }
    }

    fn destination(&self) -> &D {
        &self.as_slice()[0].destination
    }
}

/// Every destination with its bindings: what makes the deletion of a queue cost what the queue has, not what the table has.
/// Used under the writers' lock only.
pub(super) struct Owners<D: Destination> {
    table: HashTable<Own<D>>,
    hasher: RandomState,
}

impl<D: Destination> Owners<D> {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            table: HashTable::new(),
            hasher,
        }
    }

    pub(super) fn insert(&mut self, binding: Arc<Binding<D>>) {
        let hash = self.hasher.hash_one(&binding.destination);
        match self
            .table
            .find_mut(hash, |own| *own.destination() == binding.destination)
        {
            None => {
                binding.position.store(0, Ordering::Relaxed);
                let hasher = &self.hasher;
                self.table.insert_unique(hash, Own::One(binding), |own| {
                    hasher.hash_one(own.destination())
                });
            }
            Some(own) => {
                if let Own::One(first) = own {
                    *own = Own::Many(Box::new(vec![first.clone()]));
                }
                if let Own::Many(bindings) = own {
                    let position =
                        u32::try_from(bindings.len()).expect("bindings of a queue fit in memory");
                    binding.position.store(position, Ordering::Relaxed);
                    bindings.push(binding);
                }
            }
        }
    }

    /// Forgets one binding.
    pub(super) fn remove(&mut self, binding: &Binding<D>) {
        let hash = self.hasher.hash_one(&binding.destination);
        let same = |own: &Own<D>| *own.destination() == binding.destination;
        let Ok(mut entry) = self.table.find_entry(hash, same) else {
            return;
        };
        let last = match entry.get_mut() {
            Own::One(_) => true,
            Own::Many(bindings) => {
                let position = binding.position.load(Ordering::Relaxed) as usize;
                bindings.swap_remove(position);
                if let Some(moved) = bindings.get(position) {
                    moved.position.store(position as u32, Ordering::Relaxed);
                }
                if bindings.len() < bindings.capacity() / 4 {
                    bindings.shrink_to(bindings.len() * 2);
                }
                bindings.is_empty()
            }
        };
        if last {
            entry.remove();
            self.shrink();
        }
    }

    /// Forgets a destination and gives its bindings back.
    pub(super) fn take(&mut self, destination: &D) -> Vec<Arc<Binding<D>>> {
        let hash = self.hasher.hash_one(destination);
        let same = |own: &Own<D>| own.destination() == destination;
        let Ok(entry) = self.table.find_entry(hash, same) else {
            return Vec::new();
        };
        let (own, _) = entry.remove();
        self.shrink();
        match own {
            Own::One(binding) => vec![binding],
            Own::Many(bindings) => *bindings,
        }
    }

    pub(super) fn contains(&self, destination: &D) -> bool {
        let hash = self.hasher.hash_one(destination);
        let same = |own: &Own<D>| own.destination() == destination;
        self.table.find(hash, same).is_some()
    }

    pub(super) fn destinations(&self) -> impl Iterator<Item = &D> {
        self.table.iter().map(Own::destination)
    }

    pub(super) fn each(&self, mut visit: impl FnMut(&Binding<D>)) {
        for own in &self.table {
            own.as_slice().iter().for_each(|binding| visit(binding));
        }
    }

    /// Gives memory back when most of it is unused; amortised by the removals that made it so.
    fn shrink(&mut self) {
        if self.table.len() < self.table.capacity() / 6 {
            let hasher = &self.hasher;
            self.table.shrink_to(self.table.len() * 2, |own| {
                hasher.hash_one(own.destination())
            });
        }
    }
}
