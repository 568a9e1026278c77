//! Headers exchanges: an index over the names and values of headers.
//!
//! The conditions of a binding are its arguments but `x-match` and, unless `x-match` ends in `-with-x`, all others that begin with `x-`.
//! A condition with a void value asks for the header's presence, any other for an equal value (see `comparable`). Of headers with one
//! name the first counts. Without conditions, `all` matches every message and `any` none. All as in RabbitMQ.
//!
//! Bindings with equal conditions share a *matcher*.
//! - `all`: matchers whose conditions have the same names share a *shape*: a hash table from all wanted values together to the matcher. A
//!   shape stands under one of its names, its *anchor*: the one under which fewest shapes stood when it came. So a match looks up every
//!   header's name, and for each shape found there the message's values for the shape's names, at once. It costs the headers of the message plus
//!   the shapes that share their rarest name with it, whatever the number of bindings and however common single values are.
//! - `any`: the matcher stands under each of its conditions; whatever is found there does match.
//!
//! As in the trie of topics, the index knows hashes only, and what it finds is compared. See `slots` for who may call what.

use std::hash::{BuildHasher, Hash, Hasher};

use crossbeam_epoch::Guard;
use foldhash::fast::RandomState;
use smallvec::SmallVec;
use triomphe::Arc;

use super::BindError;
use super::binding::{Arguments, Destination, Destinations, bytes_of, canonical};
use super::comparable::Comparable;
use super::slots::{Link, Slots, Writer, tag_of};
use crate::table::{Table, TableView, ValueView};

/// Messages of up to this many headers are matched without allocation; up to here headers are searched one by one.
const HEADERS_INLINE: usize = 16;

pub(super) struct Headers<D: Destination> {
    /// Every matcher, by its conditions.
    matchers: Slots<Arc<Matcher<D>>>,
    /// What matches every message: `all` without conditions.
    always: Link<Arc<Matcher<D>>>,
    /// Every shape, by its names.
    shapes: Slots<Arc<Shape<D>>>,
    /// By the name of a shape's anchor.
    anchors: Slots<Arc<Anchor<D>>>,
    /// `any`, by conditions that ask for a value.
    values: Slots<Arc<Cell<D>>>,
    /// `any`, by conditions that ask for presence.
    presences: Slots<Arc<Cell<D>>>,
    hasher: RandomState,
}

/// All bindings with the same conditions.
pub(super) struct Matcher<D: Destination> {
    pub(super) destinations: Destinations<D>,
    conditions: Conditions,
}

/// What a binding's arguments come to.
struct Conditions {
    any: bool,
    /// Sorted by name, no name twice.
    fields: Arguments,
}

/// All `all` matchers whose conditions have the same names.
struct Shape<D: Destination> {
    names: Vec<Name>,
    /// By the tags of all wanted values.
    matchers: Slots<Arc<Matcher<D>>>,
    /// The tag of the name under which it stands.
    anchor: u64,
}

#[derive(PartialEq, Hash)]
struct Name {
    name: Box<[u8]>,
    /// Whether presence is enough.
    presence: bool,
}

/// The shapes under one name.
struct Anchor<D: Destination> {
    shapes: Slots<Arc<Shape<D>>>,
}

/// The `any` matchers under one condition.
struct Cell<D: Destination> {
    matchers: Slots<Arc<Matcher<D>>>,
}

/// A place in the index of `any` matchers.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Value(u64),
    Presence(u64),
}

impl Conditions {
    fn new(arguments: &Arguments) -> Result<Self, BindError> {
        let view = TableView::new(bytes_of(arguments));
        let (any, with_x) = match view.get("x-match") {
            None => (false, false),
            Some(ValueView::Str(b"all")) => (false, false),
            Some(ValueView::Str(b"any")) => (true, false),
            Some(ValueView::Str(b"all-with-x")) => (false, true),
            Some(ValueView::Str(b"any-with-x")) => (true, true),
            Some(ValueView::Str(other)) => {
                let other = String::from_utf8_lossy(other).into_owned();
                return Err(BindError::MatchMode(other));
            }
            Some(_) => return Err(BindError::MatchType),
        };
        // Sorted by name, so repeated ones stand together.
        let mut before = None;
        for (name, _) in view {
            if before.replace(name) == Some(name) {
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(BindError::RepeatedArgument(name));
            }
        }
        let fields: Table = view
            .to_table()?
            .into_iter()
            .filter(|(name, _)| *name != b"x-match" && (with_x || !name.starts_with(b"x-")))
            .collect();
        let fields = canonical(&fields)?;
        Ok(Self { any, fields })
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], ValueView<'_>)> {
        TableView::new(bytes_of(&self.fields)).iter()
    }

    fn is(&self, other: &Self) -> bool {
        self.any == other.any && bytes_of(&self.fields) == bytes_of(&other.fields)
    }

    fn names(&self) -> Vec<Name> {
        let name = |(name, wanted): (&[u8], ValueView<'_>)| Name {
            name: name.into(),
            presence: matches!(wanted, ValueView::Void),
        };
        self.iter().map(name).collect()
    }

    /// Whether a message is for this matcher that was met through its header `name`. With `any`, only the first condition that holds
    /// says yes, so that a matcher that is met several times answers once.
    fn match_message(&self, name: &[u8], message: &Message<'_>) -> bool {
        let holds = |(name, wanted)| match message.get(name) {
            None => false,
            Some(_) if matches!(wanted, ValueView::Void) => true,
            Some(value) => Comparable::from(value) == Comparable::from(wanted),
        };
        if self.any {
            self.iter()
                .find(|condition| holds(*condition))
                .is_some_and(|(first, _)| first == name)
        } else {
            self.iter().all(holds)
        }
    }
}

impl<D: Destination> Headers<D> {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            matchers: Slots::new(),
            always: Link::new(),
            shapes: Slots::new(),
            anchors: Slots::new(),
            values: Slots::new(),
            presences: Slots::new(),
            hasher,
        }
    }

    pub(super) fn route(&self, headers: TableView<'_>, guard: &Guard, found: &mut impl FnMut(&D)) {
        if let Some(matcher) = self.always.get(guard) {
            matcher.destinations.each(guard, found);
        }
        let any = !self.values.is_empty() || !self.presences.is_empty();
        if !any && self.anchors.is_empty() {
            return;
        }
        let message = Message::new(headers);
        for (name, value) in &message.headers {
            let mut meet = |matcher: &Matcher<D>| {
                if matcher.conditions.match_message(name, &message) {
                    matcher.destinations.each(guard, found);
                }
            };
            let name_tag = self.name_tag(name);
            if let Some(anchor) = self.anchors.find(name_tag, guard, |_| true) {
                anchor.shapes.each(guard, |shape| {
                    let Some(tag) = self.message_tag(&shape.names, &message) else {
                        return;
                    };
                    // Values that are equal in different types are different matchers with one tag.
                    shape.matchers.find(tag, guard, |matcher| {
                        meet(matcher);
                        false
                    });
                });
            }
            if any {
                let place = Place::Value(self.value_tag(name, *value));
                for place in [place, Place::Presence(name_tag)] {
                    if let Some(cell) = self.cell(place, guard) {
                        cell.matchers.each(guard, &mut meet);
                    }
                }
            }
        }
    }

    /// The matcher for a binding's arguments.
    pub(super) fn find<'g>(
        &self,
        arguments: &Arguments,
        guard: &'g Guard,
    ) -> Option<&'g Matcher<D>> {
        self.find_matcher(&Conditions::new(arguments).ok()?, guard)
    }

    fn find_matcher<'g>(
        &self,
        conditions: &Conditions,
        guard: &'g Guard,
    ) -> Option<&'g Matcher<D>> {
        let tag = self.conditions_tag(conditions);
        let same = |held: &Matcher<D>| held.conditions.is(conditions);
        self.matchers.find(tag, guard, same)
    }

    /// The matcher for the arguments of a new binding; made and indexed if it does not exist.
    pub(super) fn matcher<'g>(
        &self,
        arguments: &Arguments,
        writer: Writer<'g>,
    ) -> Result<&'g Matcher<D>, BindError> {
        let conditions = Conditions::new(arguments)?;
        if let Some(held) = self.find_matcher(&conditions, writer.guard) {
            return Ok(held);
        }
        let tag = self.conditions_tag(&conditions);
        let matcher = Arc::new(Matcher {
            destinations: Destinations::new(),
            conditions,
        });
        self.matchers.insert(tag, matcher.clone(), writer);
        if matcher.conditions.any {
            for place in self.places(&matcher.conditions) {
                let (cells, cell_tag) = self.cells(place);
                let cell = found_or_inserted(
                    cells,
                    cell_tag,
                    |_| true,
                    writer,
                    || Cell {
                        matchers: Slots::new(),
                    },
                );
                cell.matchers.insert(tag, matcher.clone(), writer);
            }
        } else if matcher.conditions.fields.is_none() {
            self.always.set(Some(matcher.clone()), writer);
        } else {
            let shape = self.shape(matcher.conditions.names(), writer);
            let tag = self.wanted_tag(&matcher.conditions);
            shape.matchers.insert(tag, matcher.clone(), writer);
        }
        Ok(self
            .find_matcher(&matcher.conditions, writer.guard)
            .expect("inserted just now"))
    }

    /// The shape with these names; made if it does not exist.
    fn shape<'g>(&self, names: Vec<Name>, writer: Writer<'g>) -> &'g Shape<D> {
        let tag = self.shape_tag(&names);
        let same = |held: &Shape<D>| held.names == names;
        if let Some(held) = self.shapes.find(tag, writer.guard, same) {
            return held;
        }
        let count = |anchor: &u64| {
            self.anchors
                .find(*anchor, writer.guard, |_| true)
                .map_or(0, |anchor| anchor.shapes.len(writer.guard))
        };
        let anchor = names
            .iter()
            .map(|name| self.name_tag(&name.name))
            .min_by_key(count)
            .expect("a shape has a name");
        let shape = Arc::new(Shape {
            names,
            matchers: Slots::new(),
            anchor,
        });
        self.shapes.insert(tag, shape.clone(), writer);
        let under = found_or_inserted(
            &self.anchors,
            anchor,
            |_| true,
            writer,
            || Anchor {
                shapes: Slots::new(),
            },
        );
        under.shapes.insert(tag, shape.clone(), writer);
        let same = |held: &Shape<D>| std::ptr::eq(held, &*shape);
        self.shapes
            .find(tag, writer.guard, same)
            .expect("inserted just now")
    }

    /// Takes the matcher for these arguments out, which has no destinations left.
    pub(super) fn remove_matcher(&self, arguments: &Arguments, writer: Writer<'_>) {
        let Some(matcher) = self.find(arguments, writer.guard) else {
            return;
        };
        let conditions = &matcher.conditions;
        let tag = self.conditions_tag(conditions);
        let this = |held: &Matcher<D>| std::ptr::eq(held, matcher);
        if conditions.any {
            for place in self.places(conditions) {
                let Some(cell) = self.cell(place, writer.guard) else {
                    continue;
                };
                cell.matchers.remove(tag, writer, this);
                if cell.matchers.is_empty() {
                    let (cells, cell_tag) = self.cells(place);
                    cells.remove(cell_tag, writer, |_| true);
                }
            }
        } else if conditions.fields.is_none() {
            self.always.set(None, writer);
        } else {
            self.remove_from_shape(conditions, writer, this);
        }
        self.matchers.remove(tag, writer, this);
    }

    fn remove_from_shape(
        &self,
        conditions: &Conditions,
        writer: Writer<'_>,
        this: impl Fn(&Matcher<D>) -> bool,
    ) {
        let shape = self.shape(conditions.names(), writer);
        let tag = self.wanted_tag(conditions);
        shape.matchers.remove(tag, writer, this);
        if !shape.matchers.is_empty() {
            return;
        }
        let tag = self.shape_tag(&shape.names);
        let this = |held: &Shape<D>| std::ptr::eq(held, shape);
        if let Some(anchor) = self.anchors.find(shape.anchor, writer.guard, |_| true) {
            anchor.shapes.remove(tag, writer, this);
            if anchor.shapes.is_empty() {
                self.anchors.remove(shape.anchor, writer, |_| true);
            }
        }
        self.shapes.remove(tag, writer, this);
    }

    /// The places where an `any` matcher stands. Tags of different conditions may collide, and it stands once in a cell.
    fn places(&self, conditions: &Conditions) -> SmallVec<[Place; 4]> {
        let mut places = SmallVec::new();
        for (name, wanted) in conditions.iter() {
            let place = match wanted {
                ValueView::Void => Place::Presence(self.name_tag(name)),
                value => Place::Value(self.value_tag(name, value)),
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    fn cell<'g>(&self, place: Place, guard: &'g Guard) -> Option<&'g Cell<D>> {
        let (cells, tag) = self.cells(place);
        cells.find(tag, guard, |_| true)
    }

    fn cells(&self, place: Place) -> (&Slots<Arc<Cell<D>>>, u64) {
        match place {
            Place::Value(tag) => (&self.values, tag),
            Place::Presence(tag) => (&self.presences, tag),
        }
    }

    fn conditions_tag(&self, conditions: &Conditions) -> u64 {
        let fields = bytes_of(&conditions.fields);
        tag_of::<0>(self.hasher.hash_one((conditions.any, fields)))
    }

    fn shape_tag(&self, names: &[Name]) -> u64 {
        tag_of::<0>(self.hasher.hash_one(names))
    }

    fn name_tag(&self, name: &[u8]) -> u64 {
        tag_of::<0>(self.hasher.hash_one(name))
    }

    fn value_tag(&self, name: &[u8], value: ValueView<'_>) -> u64 {
        tag_of::<0>(self.hasher.hash_one((name, Comparable::from(value))))
    }

    /// The tag of an `all` matcher in its shape.
    fn wanted_tag(&self, conditions: &Conditions) -> u64 {
        let values = conditions.iter().map(|(_, wanted)| wanted);
        self.values_tag(values.filter(|wanted| !matches!(wanted, ValueView::Void)))
    }

    /// The tag of the matcher that a shape must have to match the message; none if the message lacks a name.
    fn message_tag(&self, names: &[Name], message: &Message<'_>) -> Option<u64> {
        let mut values: SmallVec<[ValueView<'_>; HEADERS_INLINE]> = SmallVec::new();
        for Name { name, presence } in names {
            let value = message.get(name)?;
            if !presence {
                values.push(value);
            }
        }
        Some(self.values_tag(values))
    }

    fn values_tag<'a>(&self, values: impl IntoIterator<Item = ValueView<'a>>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for value in values {
            Comparable::from(value).hash(&mut hasher);
        }
        tag_of::<0>(hasher.finish())
    }
}

/// The element that `accept` accepts; if there is none, the one that `make` makes.
fn found_or_inserted<'g, T: Send + Sync + 'static>(
    slots: &Slots<Arc<T>>,
    tag: u64,
    accept: impl Fn(&T) -> bool,
    writer: Writer<'g>,
    make: impl FnOnce() -> T,
) -> &'g T {
    if slots.find(tag, writer.guard, &accept).is_none() {
        slots.insert(tag, Arc::new(make()), writer);
    }
    slots
        .find(tag, writer.guard, &accept)
        .expect("inserted if it was not there")
}

/// The headers of a message, the first of each name.
struct Message<'a> {
    /// Sorted by name if more than `HEADERS_INLINE`.
    headers: SmallVec<[(&'a [u8], ValueView<'a>); HEADERS_INLINE]>,
}

impl<'a> Message<'a> {
    fn new(table: TableView<'a>) -> Self {
        let mut headers: SmallVec<[_; HEADERS_INLINE]> = SmallVec::new();
        for (name, value) in table {
            // In a long list repetitions are found by sorting, below.
            let few = headers.len() < HEADERS_INLINE;
            if !few || headers.iter().all(|(held, _)| *held != name) {
                headers.push((name, value));
            }
        }
        if headers.len() > HEADERS_INLINE {
            // Stable, so the first of a name stays the first.
            headers.sort_by_key(|(name, _)| *name);
            headers.dedup_by_key(|(name, _)| *name);
        }
        Self { headers }
    }

    fn get(&self, name: &[u8]) -> Option<ValueView<'a>> {
        let index = if self.headers.len() > HEADERS_INLINE {
            self.headers
                .binary_search_by_key(&name, |(held, _)| held)
                .ok()?
        } else {
            self.headers.iter().position(|(held, _)| *held == name)?
        };
        Some(self.headers[index].1)
    }
}
