//! Topic exchanges: a trie of pattern words.
//!
//! Structure. Each node has its children by word in a hash table, two links for the children `*` and `#`, and one for the pattern that
//! ends here. Three things keep it small and fast:
//! - *Lazy expansion.* A subtree with a single pattern is a leaf, whatever the number of words left: nodes exist only where patterns
//!   part. A million patterns of four words make some 260,000 nodes instead of 2,600,000. Removal folds a node with one leaf again.
//! - *Blind edges.* A child is found by the 64-bit hash of its word (seeded for each table); the word itself is nowhere in the trie, and
//!   nothing is interned that would have to be freed. The path is only a filter, and **every leaf compares its whole pattern with the
//!   key** before it counts. Words whose hashes collide share a subtree; patterns that collide in all words go to a list, `strays`.
//!
//! - *Notes.* Beside its hash, an edge by word tells what the words behind it can be: one bit that some pattern ends here or goes on with
//!   `#`, and 23 bits for hashes of next words (all of them if there is `*` or `#`). Most wrong turns end there, without touching
//!   the memory of the child.
//!
//! Matching walks all paths at once, depth first. A node behind `#` is visited at every rest of the key. Such a node is reached again
//! whenever a `#` above it tries a later rest; as rests are tried in order, the first visit has seen all that a later one would, so
//! each is visited once: the work is at most (nodes reached) x (words of the key), whatever number of `#` patterns have. Likewise, a leaf below
//! a `#` is compared once.
//!
//! Changes are published bottom up by single pointer stores, so a reader meets every pattern that exists all the time in the old form or
//! the new. See `slots` for who may call what and how memory is freed.

use std::collections::HashSet;
use std::hash::BuildHasher;

use crossbeam_epoch::Guard;
use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::binding::{Binding, Destination, Key, KeyRef, new_key};
use super::pattern::{Words, matches};
use super::slots::{Link, Owned, Slots, Writer, tag_of};

/// Keys of up to this many words are matched without allocation.
const WORDS_INLINE: usize = 16;

/// Visits of nodes and leaves below `#` that are remembered in a list before a hash set is cheaper.
const SEEN_LIST_MAX: usize = 32;

pub(super) struct Topic<D: Destination> {
    root: Node<D>,
    /// Patterns for which the trie has no place of their own, because all their words collide with those of another.
    strays: Slots<Key<D>, NOTE_BITS>,
    words: WordHash,
}

struct Node<D: Destination> {
    words: Slots<Edge<D>, NOTE_BITS>,
    star: Link<Edge<D>>,
    hash: Link<Edge<D>>,
    /// The pattern without further words.
    end: Link<Key<D>>,
}

/// What stands behind a word of a pattern.
enum Edge<D: Destination> {
    /// The only pattern that begins like this.
    Leaf(Key<D>),
    Node(Box<Node<D>>),
}

enum EdgeRef<'a, D: Destination> {
    Leaf(KeyRef<'a, D>),
    Node(&'a Node<D>),
}

impl<D: Destination> Clone for EdgeRef<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Destination> Copy for EdgeRef<'_, D> {}

/// The lowest bit of an edge's pointer says that it is a node. Both targets are aligned to 8.
const IS_NODE: usize = 1;

// SAFETY: the pointer is that of Key or Box, but for the lowest bit, which says which one. Both live until `from_raw`.
unsafe impl<D: Destination> Owned for Edge<D> {
    type Ref<'a> = EdgeRef<'a, D>;

    fn into_raw(self) -> *mut () {
        match self {
            Self::Leaf(key) => Owned::into_raw(key),
            Self::Node(node) => Box::into_raw(node)
                .cast::<()>()
                .map_addr(|address| address | IS_NODE),
        }
    }

    unsafe fn from_raw(raw: *mut ()) -> Self {
        // SAFETY: the bit tells what `into_raw` was called with; the caller calls once.
        unsafe {
            match node_pointer(raw) {
                Some(node) => Self::Node(Box::from_raw(node)),
                None => Self::Leaf(<Key<D> as Owned>::from_raw(raw)),
            }
        }
    }

    unsafe fn borrow<'a>(raw: *mut ()) -> EdgeRef<'a, D> {
        // SAFETY: the bit tells what `into_raw` was called with; the caller says that the target lives for 'a.
        unsafe {
            match node_pointer(raw) {
                Some(node) => EdgeRef::Node(&*node),
                None => EdgeRef::Leaf(<Key<D> as Owned>::borrow(raw)),
            }
        }
    }
}

fn node_pointer<D: Destination>(raw: *mut ()) -> Option<*mut Node<D>> {
    (raw.addr() & IS_NODE != 0).then(|| raw.map_addr(|address| address & !IS_NODE).cast())
}

/// One step of a pattern.
#[derive(Clone, Copy)]
enum Step {
    Star,
    Hash,
    /// The tag of an ordinary word.
    Word(u64),
    /// Behind the last word.
    End,
}

/// The words of a pattern, and the end.
type Steps = SmallVec<[Step; WORDS_INLINE]>;

/// Bits of an edge's note. The other 40 bits of its word are the hash of the word.
const NOTE_BITS: u32 = 24;

/// The note that a key can end here.
const NOTE_END: u64 = 1;

/// The notes of all words that a key can go on with.
const NOTE_WORDS: u64 = (1 << NOTE_BITS) - 2;

/// The note for a key that goes on with a word of this tag.
fn note_of_word(tag: u64) -> u64 {
    NOTE_END << (1 + (tag >> 32) % u64::from(NOTE_BITS - 1))
}

impl Step {
    /// What an edge must note if this step follows it.
    fn note(self) -> u64 {
        match self {
            Self::End => NOTE_END,
            Self::Star => NOTE_WORDS,
            Self::Hash => NOTE_WORDS | NOTE_END,
            Self::Word(tag) => note_of_word(tag),
        }
    }
}

struct WordHash {
    state: RandomState,
    /// All ones, but in tests that want collisions.
    mask: u64,
}

impl WordHash {
    fn tag(&self, word: &[u8]) -> u64 {
        tag_of::<NOTE_BITS>(self.state.hash_one(word) & self.mask)
    }

    fn step(&self, word: &[u8]) -> Step {
        match word {
            b"*" => Step::Star,
            b"#" => Step::Hash,
            _ => Step::Word(self.tag(word)),
        }
    }

    fn steps(&self, pattern: &[u8]) -> Steps {
        let words = Words::new(pattern).map(|word| self.step(word));
        words.chain([Step::End]).collect()
    }
}

impl<D: Destination> Node<D> {
    const fn new() -> Self {
        Self {
            words: Slots::new(),
            star: Link::new(),
            hash: Link::new(),
            end: Link::new(),
        }
    }

    fn child<'g>(&self, step: Step, guard: &'g Guard) -> Option<EdgeRef<'g, D>> {
        match step {
            Step::Star => self.star.get(guard),
            Step::Hash => self.hash.get(guard),
            Step::Word(tag) => self.words.find(tag, guard, |_| true),
            Step::End => self.end.get(guard).map(EdgeRef::Leaf),
        }
    }

    /// Adds a leaf behind `step`, where nothing is. `next`: the pattern's step behind that.
    fn add_leaf(&self, step: Step, next: Option<Step>, leaf: Key<D>, writer: Writer<'_>) {
        match step {
            Step::Star => self.star.set(Some(Edge::Leaf(leaf)), writer),
            Step::Hash => self.hash.set(Some(Edge::Leaf(leaf)), writer),
            Step::Word(tag) => {
                let note = next.map_or(0, Step::note);
                self.words.insert(tag | note, Edge::Leaf(leaf), writer);
            }
            Step::End => self.end.set(Some(leaf), writer),
        }
    }

    /// Replaces the child behind `step` by one for the same patterns.
    fn replace(&self, step: Step, edge: Edge<D>, writer: Writer<'_>) {
        match step {
            Step::Star => self.star.set(Some(edge), writer),
            Step::Hash => self.hash.set(Some(edge), writer),
            Step::Word(tag) => {
                let replaced = self.words.replace(tag, edge, writer, |_| true);
                debug_assert!(replaced.is_ok(), "the child exists");
            }
            Step::End => unreachable!("only leaves stand at the end"),
        }
    }

    /// Takes the child behind `step` away.
    fn remove(&self, step: Step, writer: Writer<'_>) {
        match step {
            Step::Star => self.star.set(None, writer),
            Step::Hash => self.hash.set(None, writer),
            Step::Word(tag) => {
                self.words.remove(tag, writer, |_| true);
            }
            Step::End => self.end.set(None, writer),
        }
    }

    /// Adds to what the edge behind `step` notes.
    fn add_note(&self, step: Step, note: u64, writer: Writer<'_>) {
        if let Step::Word(tag) = step {
            self.words.set_note(tag, writer, |old| old | note);
        }
    }

    fn set_note(&self, step: Step, note: u64, writer: Writer<'_>) {
        if let Step::Word(tag) = step {
            self.words.set_note(tag, writer, |_| note);
        }
    }

    /// Makes the edge behind `step` note what `child` has now, after something was taken out of it. Large nodes have most notes anyway.
    fn refresh_note(&self, step: Step, child: &Self, writer: Writer<'_>) {
        if child.words.len(writer.guard) >= NOTE_BITS as usize {
            return;
        }
        let mut note = 0;
        child
            .words
            .each_tag(writer, |tag| note |= note_of_word(tag));
        for (there, step) in [
            (!child.star.is_empty(), Step::Star),
            (!child.hash.is_empty(), Step::Hash),
            (!child.end.is_empty(), Step::End),
        ] {
            if there {
                note |= step.note();
            }
        }
        self.set_note(step, note, writer);
    }

    /// What the node can be replaced by once something was taken out of it.
    fn folded(&self, guard: &Guard) -> Folded<D> {
        let mut only = None;
        let mut count = self.words.len(guard);
        if count == 1 {
            self.words.each(guard, |edge| only = Some(edge));
        }
        for edge in [self.star.get(guard), self.hash.get(guard)] {
            count += usize::from(edge.is_some());
            only = edge.or(only);
        }
        if let Some(end) = self.end.get(guard) {
            count += 1;
            only = Some(EdgeRef::Leaf(end));
        }
        match (count, only) {
            (0, _) => Folded::Nothing,
            (1, Some(EdgeRef::Leaf(key))) => Folded::Leaf(key.share()),
            _ => Folded::Stays,
        }
    }
}

enum Folded<D: Destination> {
    Nothing,
    Leaf(Key<D>),
    Stays,
}

impl<D: Destination> Topic<D> {
    pub(super) fn new(state: RandomState) -> Self {
        Self {
            root: Node::new(),
            strays: Slots::new(),
            words: WordHash {
                state,
                mask: u64::MAX,
            },
        }
    }

    /// Few different hashes, so that words share edges and patterns become strays.
    #[cfg(test)]
    pub(super) fn with_collisions(state: RandomState) -> Self {
        let mut topic = Self::new(state);
        topic.words.mask = (1 << 24) | (1 << 40);
        topic
    }

    pub(super) fn route(&self, key: &str, guard: &Guard, found: &mut impl FnMut(&D)) {
        let key = key.as_bytes();
        let tags = Words::new(key).map(|word| self.words.tag(word)).collect();
        let mut walk = Walk {
            key,
            tags,
            guard,
            seen: Seen::default(),
            found,
        };
        walk.visit(&self.root, 0, false);
        if !self.strays.is_empty() {
            self.strays.each(guard, |stray| walk.leaf(stray, false));
        }
    }

    pub(super) fn find<'g>(&'g self, pattern: &str, guard: &'g Guard) -> Option<KeyRef<'g, D>> {
        let pattern = pattern.as_bytes();
        let mut node = &self.root;
        for step in self.words.steps(pattern) {
            match node.child(step, guard) {
                Some(EdgeRef::Node(next)) => node = next,
                Some(EdgeRef::Leaf(leaf)) if leaf.text() == pattern => return Some(leaf),
                _ => break,
            }
        }
        self.stray(pattern, guard)
    }

    fn stray<'g>(&self, pattern: &[u8], guard: &'g Guard) -> Option<KeyRef<'g, D>> {
        if self.strays.is_empty() {
            return None;
        }
        let tag = self.words.tag(pattern);
        self.strays.find(tag, guard, |held| held.text() == pattern)
    }

    /// The key of a new binding; made and put into the trie if it does not exist.
    pub(super) fn key(&self, text: &str, writer: Writer<'_>) -> Key<D> {
        if let Some(held) = self.find(text, writer.guard) {
            return held.share();
        }
        let key: Key<D> = new_key(text);
        let steps = self.words.steps(text.as_bytes());
        let mut node = &self.root;
        for (index, step) in steps.iter().enumerate() {
            let next = steps.get(index + 1).copied();
            let child = match node.child(*step, writer.guard) {
                None => {
                    node.add_leaf(*step, next, key.clone(), writer);
                    return key;
                }
                Some(EdgeRef::Leaf(leaf)) if next.is_some() => {
                    node.replace(*step, self.expand(leaf, index + 1, writer), writer);
                    node.child(*step, writer.guard)
                }
                child => child,
            };
            let Some(EdgeRef::Node(child)) = child else {
                break;
            };
            // Before anything is added to the child.
            node.add_note(*step, next.map_or(0, Step::note), writer);
            node = child;
        }
        // Another pattern ends where this one does.
        let tag = self.words.tag(text.as_bytes());
        self.strays.insert(tag | NOTE_END, key.clone(), writer);
        key
    }

    /// A node that holds a leaf, for a leaf whose first `depth` words lead to the node.
    fn expand(&self, leaf: KeyRef<'_, D>, depth: usize, writer: Writer<'_>) -> Edge<D> {
        let node = Box::new(Node::new());
        let steps = self.words.steps(leaf.text());
        let next = steps.get(depth + 1).copied();
        node.add_leaf(steps[depth], next, leaf.share(), writer);
        Edge::Node(node)
    }

    /// Takes the key of a binding out that was the last one of its key, and folds the nodes above it.
    pub(super) fn remove_key(&self, binding: &Binding<D>, writer: Writer<'_>) {
        let text = &binding.key.slice;
        let tag = self.words.tag(text);
        let is_this = |held: KeyRef<'_, D>| held.text() == text;
        if self.strays.remove(tag, writer, is_this) {
            return;
        }
        // The nodes from the root on, each with the step that leads on from it.
        let mut path: SmallVec<[(&Node<D>, Step); WORDS_INLINE]> = SmallVec::new();
        let mut node = &self.root;
        for step in self.words.steps(text) {
            match node.child(step, writer.guard) {
                Some(EdgeRef::Node(next)) => {
                    path.push((node, step));
                    node = next;
                }
                Some(EdgeRef::Leaf(_)) => {
                    node.remove(step, writer);
                    break;
                }
                None => unreachable!("the key of a binding is in the trie"),
            }
        }
        while let Some((parent, step)) = path.pop() {
            match node.folded(writer.guard) {
                Folded::Nothing => parent.remove(step, writer),
                Folded::Leaf(key) => {
                    let next = self.words.steps(&key.slice).get(path.len() + 1).copied();
                    parent.replace(step, Edge::Leaf(key), writer);
                    parent.set_note(step, next.map_or(0, Step::note), writer);
                }
                Folded::Stays => {
                    parent.refresh_note(step, node, writer);
                    break;
                }
            }
            node = parent;
        }
    }
}

/// One match.
struct Walk<'g, 'k, F> {
    key: &'k [u8],
    /// The tags of the key's words.
    tags: SmallVec<[u64; WORDS_INLINE]>,
    guard: &'g Guard,
    seen: Seen,
    found: &'k mut F,
}

impl<'g, F> Walk<'g, '_, F> {
    /// Matches the key from word `at` on against the patterns of `node`. `below_hash`: whether there is a `#` above, so that nodes
    /// behind `#` and leaves may come again.
    fn visit<D: Destination>(&mut self, node: &'g Node<D>, at: usize, below_hash: bool)
    where
        F: FnMut(&D),
    {
        if let Some(tag) = self.tags.get(at) {
            let note = self
                .tags
                .get(at + 1)
                .map_or(NOTE_END, |tag| note_of_word(*tag));
            if let Some(edge) = node.words.find_noted(*tag, note, self.guard, |_| true) {
                self.follow(edge, at + 1, below_hash);
            }
            if let Some(edge) = node.star.get(self.guard) {
                self.follow(edge, at + 1, below_hash);
            }
        } else if let Some(end) = node.end.get(self.guard) {
            self.leaf(end, below_hash);
        }
        let next = match node.hash.get(self.guard) {
            None => return,
            Some(EdgeRef::Leaf(leaf)) => return self.leaf(leaf, below_hash),
            Some(EdgeRef::Node(next)) => next,
        };
        if !below_hash || self.seen.insert(std::ptr::from_ref(next).addr()) {
            for rest in at..=self.tags.len() {
                self.visit(next, rest, true);
            }
        }
    }

    fn follow<D: Destination>(&mut self, edge: EdgeRef<'g, D>, at: usize, below_hash: bool)
    where
        F: FnMut(&D),
    {
        match edge {
            EdgeRef::Leaf(leaf) => self.leaf(leaf, below_hash),
            EdgeRef::Node(node) => self.visit(node, at, below_hash),
        }
    }

    fn leaf<D: Destination>(&mut self, leaf: KeyRef<'g, D>, below_hash: bool)
    where
        F: FnMut(&D),
    {
        if below_hash && !self.seen.insert(leaf.address()) {
            return;
        }
        if matches(leaf.text(), self.key) {
            leaf.destinations().each(self.guard, self.found);
        }
    }
}

/// Addresses of the nodes and leaves that a match has been at. They cannot be reused meanwhile: the match holds a guard.
#[derive(Default)]
struct Seen {
    list: SmallVec<[usize; SEEN_LIST_MAX]>,
    set: HashSet<usize, RandomState>,
}

impl Seen {
    /// Whether `address` is new.
    fn insert(&mut self, address: usize) -> bool {
        if !self.set.is_empty() {
            return self.set.insert(address);
        }
        if self.list.contains(&address) {
            return false;
        }
        if self.list.len() < SEEN_LIST_MAX {
            self.list.push(address);
        } else {
            self.set.extend(self.list.drain(..));
            self.set.insert(address);
        }
        true
    }
}
