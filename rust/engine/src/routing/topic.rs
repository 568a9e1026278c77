//! Topic exchanges: a trie of pattern words.
//!
//! Structure. Each node has its children by word in a hash table, two links for the children `*` and `#`, and one for the pattern that
//! ends here. Two things keep it small:
//! - *Lazy expansion.* A subtree with a single pattern is a leaf, whatever the number of words left: nodes exist only where patterns
//!   part. A million patterns of four words make some 260,000 nodes instead of 2,600,000. Removal folds a node with one leaf again.
//! - *Blind edges.* A child is found by the 64-bit hash of its word (seeded for each table); the word itself is nowhere in the trie, and
//!   nothing is interned that would have to be freed. The path is only a filter, and **every leaf compares its whole pattern with the
//!   key** before it counts. Words whose hashes collide share a subtree; patterns that collide in all words go to a list, `strays`.
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
    strays: Slots<Key<D>>,
    words: WordHash,
}

struct Node<D: Destination> {
    words: Slots<Edge<D>>,
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
}

struct WordHash {
    state: RandomState,
    /// All ones, but in tests that want collisions.
    mask: u64,
}

impl WordHash {
    fn tag(&self, word: &[u8]) -> u64 {
        tag_of(self.state.hash_one(word) & self.mask)
    }

    fn step(&self, word: &[u8]) -> Step {
        match word {
            b"*" => Step::Star,
            b"#" => Step::Hash,
            _ => Step::Word(self.tag(word)),
        }
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
        }
    }

    /// Sets, replaces or takes away the child behind `step`.
    fn set_child(&self, step: Step, edge: Option<Edge<D>>, writer: Writer<'_>) {
        match (step, edge) {
            (Step::Star, edge) => self.star.set(edge, writer),
            (Step::Hash, edge) => self.hash.set(edge, writer),
            (Step::Word(tag), None) => {
                self.words.remove(tag, writer, |_| true);
            }
            (Step::Word(tag), Some(edge)) => {
                if let Err(edge) = self.words.replace(tag, edge, writer, |_| true) {
                    self.words.insert(tag, edge, writer);
                }
            }
        }
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
        let mut words = Words::new(pattern);
        let held = loop {
            let Some(word) = words.next() else {
                break node.end.get(guard);
            };
            match node.child(self.words.step(word), guard) {
                Some(EdgeRef::Node(next)) => node = next,
                Some(EdgeRef::Leaf(leaf)) => break Some(leaf),
                None => break None,
            }
        };
        held.filter(|held| held.text() == pattern)
            .or_else(|| self.stray(pattern, guard))
    }

    fn stray<'g>(&self, pattern: &[u8], guard: &'g Guard) -> Option<KeyRef<'g, D>> {
        let tag = self.words.tag(pattern);
        self.strays.find(tag, guard, |held| held.text() == pattern)
    }

    /// The key of a new binding; made and put into the trie if it does not exist.
    pub(super) fn key(&self, text: &str, writer: Writer<'_>) -> Key<D> {
        if let Some(held) = self.find(text, writer.guard) {
            return held.share();
        }
        let key: Key<D> = new_key(text);
        let mut node = &self.root;
        for (index, word) in Words::new(text.as_bytes()).enumerate() {
            let step = self.words.step(word);
            match node.child(step, writer.guard) {
                None => {
                    node.set_child(step, Some(Edge::Leaf(key.clone())), writer);
                    return key;
                }
                Some(EdgeRef::Node(next)) => node = next,
                Some(EdgeRef::Leaf(leaf)) => {
                    node.set_child(step, Some(self.expand(leaf, index + 1, writer)), writer);
                    match node.child(step, writer.guard) {
                        Some(EdgeRef::Node(next)) => node = next,
                        _ => unreachable!("the leaf was replaced by a node"),
                    }
                }
            }
        }
        if node.end.is_empty() {
            node.end.set(Some(key.clone()), writer);
        } else {
            let tag = self.words.tag(text.as_bytes());
            self.strays.insert(tag, key.clone(), writer);
        }
        key
    }

    /// A node that holds a leaf, for a leaf whose first `depth` words lead to the node.
    fn expand(&self, leaf: KeyRef<'_, D>, depth: usize, writer: Writer<'_>) -> Edge<D> {
        let node = Box::new(Node::new());
        match Words::new(leaf.text()).nth(depth) {
            Some(word) => {
                let edge = Edge::Leaf(leaf.share());
                node.set_child(self.words.step(word), Some(edge), writer);
            }
            None => node.end.set(Some(leaf.share()), writer),
        }
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
        let mut words = Words::new(text);
        loop {
            let Some(word) = words.next() else {
                node.end.set(None, writer);
                break;
            };
            let step = self.words.step(word);
            match node.child(step, writer.guard) {
                Some(EdgeRef::Node(next)) => {
                    path.push((node, step));
                    node = next;
                }
                Some(EdgeRef::Leaf(_)) => {
                    node.set_child(step, None, writer);
                    break;
                }
                None => unreachable!("the key of a binding is in the trie"),
            }
        }
        while let Some((parent, step)) = path.pop() {
            match node.folded(writer.guard) {
                Folded::Nothing => parent.set_child(step, None, writer),
                Folded::Leaf(key) => parent.set_child(step, Some(Edge::Leaf(key)), writer),
                Folded::Stays => break,
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
        match self.tags.get(at) {
            Some(tag) => {
                if let Some(edge) = node.words.find(*tag, self.guard, |_| true) {
                    self.follow(edge, at + 1, below_hash);
                }
                if let Some(edge) = node.star.get(self.guard) {
                    self.follow(edge, at + 1, below_hash);
                }
            }
            None => {
                if let Some(end) = node.end.get(self.guard) {
                    self.leaf(end, below_hash);
                }
            }
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
