//! Direct exchanges: a hash table from key to destinations.

use std::hash::BuildHasher;

use crossbeam_epoch::Guard;
use foldhash::fast::RandomState;

use super::binding::{Binding, Destination, Key, KeyRef, new_key};
use super::slots::{Slots, Writer, tag_of};

pub(super) struct Direct<D: Destination> {
    keys: Slots<Key<D>>,
    hasher: RandomState,
}

impl<D: Destination> Direct<D> {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            keys: Slots::new(),
            hasher,
        }
    }

    fn tag(&self, key: &[u8]) -> u64 {
        tag_of::<0>(self.hasher.hash_one(key))
    }

    pub(super) fn find<'g>(&self, key: &str, guard: &'g Guard) -> Option<KeyRef<'g, D>> {
        let key = key.as_bytes();
        self.keys
            .find(self.tag(key), guard, |held| held.text() == key)
    }

    pub(super) fn route(&self, key: &str, guard: &Guard, found: &mut impl FnMut(&D)) {
        if let Some(held) = self.find(key, guard) {
            held.destinations().each(guard, found);
        }
    }

    /// The key of a new binding; made if it does not exist.
    pub(super) fn key(&self, text: &str, writer: Writer<'_>) -> Key<D> {
        if let Some(held) = self.find(text, writer.guard) {
            return held.share();
        }
        let key = new_key(text);
        self.keys
            .insert(self.tag(text.as_bytes()), key.clone(), writer);
        key
    }

    /// Forgets the key of a binding that was the last one of its key.
    pub(super) fn remove_key(&self, binding: &Binding<D>, writer: Writer<'_>) {
        let text = &binding.key.slice;
        self.keys
            .remove(self.tag(text), writer, |held| held.text() == text);
    }
}
