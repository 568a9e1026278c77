//! From a key to the last message of its group.
//!
//! A hash table (hashbrown's `HashTable`, a SwissTable) of 12-byte entries. Keys are hashes already, made with a secret
//! seed by the caller; one multiplication spreads them over all bits, for callers whose hash is weaker than it should be.
//!
//! A table that grows moves all its entries at once: some 20 ms for a million, under the lock of the structure. So past
//! `SINGLE_MAX` groups the table is split into 256 that grow each by itself and for some 0.1 ms. Tables shrink as they empty.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::store::Handle;

/// With more groups than this the table is split.
const SINGLE_MAX: usize = 8192;
const SHARDS: usize = 256;
/// Tables of less capacity are not worth shrinking.
const SHRINK_MIN: usize = 8;

/// The key is in two halves so that an entry is 12 bytes instead of 16.
struct Tail {
    key: [u32; 2],
    last: Handle,
}

const _: () = assert!(size_of::<Tail>() == 12);

fn halves(key: u64) -> [u32; 2] {
    [key as u32, (key >> 32) as u32]
}

fn whole(key: [u32; 2]) -> u64 {
    u64::from(key[0]) | u64::from(key[1]) << 32
}

/// A folded multiplication: each bit of the key reaches each bit of the result.
fn spread(key: u64) -> u64 {
    let product = u128::from(key ^ 0x2545_F491_4F6C_DD1D) * 0x9E37_79B9_7F4A_7C15;
    product as u64 ^ (product >> 64) as u64
}

fn spread_tail(tail: &Tail) -> u64 {
    spread(whole(tail.key))
}

/// The last message of each group that has any.
pub(super) struct Tails {
    /// One or `SHARDS` of them.
    shards: Vec<HashTable<Tail>>,
    len: usize,
}

impl Tails {
    pub(super) fn new() -> Self {
        Self {
            shards: vec![HashTable::new()],
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// hashbrown uses the lowest bits and the highest seven; these are neither.
    fn shard_index(&self, hash: u64) -> usize {
        (hash >> 40) as usize & (self.shards.len() - 1)
    }

    fn shard(&mut self, hash: u64) -> &mut HashTable<Tail> {
        let index = self.shard_index(hash);
        &mut self.shards[index]
    }

    /// Makes `last` the last message of the group and returns the one before it.
    pub(super) fn replace(&mut self, key: u64, last: Handle) -> Option<Handle> {
        if self.len == SINGLE_MAX && self.shards.len() == 1 {
            self.split();
        }
        let hash = spread(key);
        let halves = halves(key);
        match self
            .shard(hash)
            .entry(hash, |tail| tail.key == halves, spread_tail)
        {
            Entry::Occupied(mut entry) => Some(std::mem::replace(&mut entry.get_mut().last, last)),
            Entry::Vacant(entry) => {
                entry.insert(Tail { key: halves, last });
                self.len += 1;
                None
            }
        }
    }

    /// The last message of a group. Reads what `replace` and `remove` will.
    pub(super) fn find(&self, key: u64) -> Option<Handle> {
        let hash = spread(key);
        let halves = halves(key);
        let shard = &self.shards[self.shard_index(hash)];
        shard
            .find(hash, |tail| tail.key == halves)
            .map(|tail| tail.last)
    }

    /// Forgets a group.
    pub(super) fn remove(&mut self, key: u64) {
        let hash = spread(key);
        let halves = halves(key);
        let shard = self.shard(hash);
        let found = shard.find_entry(hash, |tail| tail.key == halves);
        let removed = found.map(|entry| entry.remove()).is_ok();
        debug_assert!(removed, "a group that has messages is in the table");
        if shard.len() < shard.capacity() / 4 && shard.capacity() > SHRINK_MIN {
            // Half full again: as many must come or go before the next move.
            let capacity = shard.len() * 2;
            shard.shrink_to(capacity, spread_tail);
        }
        self.len -= usize::from(removed);
        if self.len == 0 && self.shards.len() > 1 {
            self.shards = vec![HashTable::new()];
        }
    }

    fn split(&mut self) {
        let single = self.shards.pop().unwrap_or_default();
        self.shards
            .resize_with(SHARDS, || HashTable::with_capacity(SINGLE_MAX / SHARDS * 2));
        for tail in single {
            let hash = spread_tail(&tail);
            self.shard(hash).insert_unique(hash, tail, spread_tail);
        }
    }
}
