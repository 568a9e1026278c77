//! Headers exchanges: an index over (name, value).
//!
//! The conditions of a binding are its arguments but `x-match` and, unless `x-match` ends in `-with-x`, all others that begin with `x-`.
//! A condition with a void value asks for the header's presence, any other for an equal value. Values are equal as RabbitMQ has it: numbers by
//! their number whatever their types (a timestamp is one), texts and bytes by their bytes. Of headers with one name the first counts.
//!
//! Bindings with equal arguments share a *matcher*. A matcher with `all` stands in the index under one of its conditions: the one under
//! which fewest matchers stood when it came. A matcher with `any` stands under all of its conditions. A message is looked up once for
//! each of its headers, and the matchers found there are compared in full. So a match costs the headers of the message plus the
//! matchers that share their rarest condition with it, not the number of bindings. Without conditions, `all` matches every message and
//! `any` none.
//!
//! As in the trie of topics, the index knows hashes only, and what it finds is compared. See `slots` for who may call what.

use std::hash::{BuildHasher, Hash, Hasher};

use crossbeam_epoch::Guard;
use foldhash::fast::RandomState;
use smallvec::SmallVec;
use triomphe::Arc;

use super::BindError;
use super::binding::{Arguments, Destination, Destinations, bytes_of};
use super::slots::{Slots, Writer, tag_of};
use crate::table::{TableView, ValueView};

/// Messages of up to this many headers are matched without allocation; up to here headers are searched one by one.
const HEADERS_INLINE: usize = 16;

pub(super) struct Headers<D: Destination> {
    /// Every matcher, by its arguments.
    matchers: Slots<Arc<Matcher<D>>>,
    /// By conditions that ask for a value.
    values: Slots<Arc<Cell<D>>>,
    /// By conditions that ask for presence.
    presences: Slots<Arc<Cell<D>>>,
    /// What matches every message.
    always: Slots<Arc<Matcher<D>>>,
    hasher: RandomState,
}

/// All bindings with the same arguments.
pub(super) struct Matcher<D: Destination> {
    pub(super) destinations: Destinations<D>,
    arguments: Arguments,
    mode: Mode,
    /// For `all`: the condition under which it stands.
    anchor: Option<Place>,
}

/// The matchers under one condition.
struct Cell<D: Destination> {
    matchers: Slots<Arc<Matcher<D>>>,
}

/// A place in the index.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Value(u64),
    Presence(u64),
}

#[derive(Clone, Copy, PartialEq)]
struct Mode {
    any: bool,
    /// Whether names that begin with `x-` count.
    with_x: bool,
}

/// Finds out how the arguments of a binding are to be read.
fn mode(arguments: TableView<'_>) -> Result<Mode, BindError> {
    let (any, with_x) = match arguments.get("x-match") {
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
    Ok(Mode { any, with_x })
}

/// Whether a binding with these arguments can be made.
pub(super) fn check(arguments: &Arguments) -> Result<(), BindError> {
    let arguments = TableView::new(bytes_of(arguments));
    mode(arguments)?;
    // Sorted by name, so repeated ones stand together.
    let mut before = None;
    for (name, _) in arguments {
        if before.replace(name) == Some(name) {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(BindError::RepeatedArgument(name));
        }
    }
    Ok(())
}

impl<D: Destination> Matcher<D> {
    fn conditions(&self) -> impl Iterator<Item = (&[u8], ValueView<'_>)> {
        let with_x = self.mode.with_x;
        TableView::new(bytes_of(&self.arguments))
            .iter()
            .filter(move |(name, _)| *name != b"x-match" && (with_x || !name.starts_with(b"x-")))
    }

    /// Whether a message met through its header `name` is for this matcher. With `any`, only the first condition that holds says
    /// yes, so that a matcher that is met several times answers once.
    fn matches(&self, name: &[u8], message: &Message<'_>) -> bool {
        let holds = |(name, wanted)| {
            message
                .get(name)
                .is_some_and(|value| satisfies(value, wanted))
        };
        if self.mode.any {
            self.conditions()
                .find(|condition| holds(*condition))
                .is_some_and(|(first, _)| first == name)
        } else {
            self.conditions().all(holds)
        }
    }
}

impl<D: Destination> Headers<D> {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            matchers: Slots::new(),
            values: Slots::new(),
            presences: Slots::new(),
            always: Slots::new(),
            hasher,
        }
    }

    pub(super) fn route(&self, headers: TableView<'_>, guard: &Guard, found: &mut impl FnMut(&D)) {
        self.always
            .each(guard, |matcher| matcher.destinations.each(guard, found));
        if self.values.is_empty() && self.presences.is_empty() {
            return;
        }
        let message = Message::new(headers);
        for (name, value) in message.headers.iter() {
            let mut meet = |matcher: &Matcher<D>| {
                if matcher.matches(name, &message) {
                    matcher.destinations.each(guard, found);
                }
            };
            let places = [
                Place::Value(self.value_tag(name, *value)),
                Place::Presence(self.presence_tag(name)),
            ];
            for place in places {
                if let Some(cell) = self.cell(place, guard) {
                    cell.matchers.each(guard, &mut meet);
                }
            }
        }
    }

    pub(super) fn find<'g>(
        &self,
        arguments: &Arguments,
        guard: &'g Guard,
    ) -> Option<&'g Matcher<D>> {
        let wanted = bytes_of(arguments);
        self.matchers
            .find(self.matcher_tag(arguments), guard, |held| {
                bytes_of(&held.arguments) == wanted
            })
    }

    /// The matcher of a new binding, whose arguments were checked; made and indexed if it does not exist.
    pub(super) fn matcher<'g>(&self, arguments: &Arguments, writer: Writer<'g>) -> &'g Matcher<D> {
        if let Some(held) = self.find(arguments, writer.guard) {
            return held;
        }
        let view = TableView::new(bytes_of(arguments));
        let mut matcher = Matcher {
            destinations: Destinations::new(),
            arguments: arguments.clone(),
            mode: mode(view).expect("bind checked the arguments"),
            anchor: None,
        };
        if !matcher.mode.any {
            matcher.anchor = self.choose_anchor(&matcher, writer.guard);
        }
        let matcher = Arc::new(matcher);
        let tag = self.matcher_tag(arguments);
        self.matchers.insert(tag, matcher.clone(), writer);
        for place in self.places(&matcher) {
            let cell = self.cell(place, writer.guard).unwrap_or_else(|| {
                let cell = Arc::new(Cell {
                    matchers: Slots::new(),
                });
                let (cells, cell_tag) = self.cells(place);
                cells.insert(cell_tag, cell, writer);
                self.cell(place, writer.guard).expect("inserted just now")
            });
            cell.matchers.insert(tag, matcher.clone(), writer);
        }
        if !matcher.mode.any && matcher.anchor.is_none() {
            self.always.insert(tag, matcher, writer);
        }
        self.find(arguments, writer.guard)
            .expect("inserted just now")
    }

    /// Takes a matcher without destinations out.
    pub(super) fn remove_matcher(&self, arguments: &Arguments, writer: Writer<'_>) {
        let Some(matcher) = self.find(arguments, writer.guard) else {
            return;
        };
        let tag = self.matcher_tag(arguments);
        let is_this = |held: &Matcher<D>| std::ptr::eq(held, matcher);
        for place in self.places(matcher) {
            if let Some(cell) = self.cell(place, writer.guard) {
                cell.matchers.remove(tag, writer, is_this);
                if cell.matchers.is_empty() {
                    let (cells, cell_tag) = self.cells(place);
                    cells.remove(cell_tag, writer, |held| std::ptr::eq(held, cell));
                }
            }
        }
        self.always.remove(tag, writer, is_this);
        self.matchers.remove(tag, writer, is_this);
    }

    /// The places where a matcher stands.
    fn places(&self, matcher: &Matcher<D>) -> SmallVec<[Place; 4]> {
        if !matcher.mode.any {
            return matcher.anchor.into_iter().collect();
        }
        // Tags of different conditions may collide, and a matcher stands once in a cell.
        let mut places = SmallVec::new();
        for (name, wanted) in matcher.conditions() {
            let place = self.place(name, wanted);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The condition under which fewest matchers stand, one that asks for a value before one that asks for presence.
    fn choose_anchor(&self, matcher: &Matcher<D>, guard: &Guard) -> Option<Place> {
        let count = |place| {
            self.cell(place, guard)
                .map_or(0, |cell| cell.matchers.len(guard))
        };
        matcher
            .conditions()
            .map(|(name, wanted)| self.place(name, wanted))
            .min_by_key(|place| (count(*place), matches!(place, Place::Presence(_))))
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

    fn place(&self, name: &[u8], wanted: ValueView<'_>) -> Place {
        match wanted {
            ValueView::Void => Place::Presence(self.presence_tag(name)),
            value => Place::Value(self.value_tag(name, value)),
        }
    }

    fn matcher_tag(&self, arguments: &Arguments) -> u64 {
        tag_of(self.hasher.hash_one(bytes_of(arguments)))
    }

    fn presence_tag(&self, name: &[u8]) -> u64 {
        tag_of(self.hasher.hash_one(name))
    }

    fn value_tag(&self, name: &[u8], value: ValueView<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        name.hash(&mut hasher);
        Comparable::from(value).hash(&mut hasher);
        tag_of(hasher.finish())
    }
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

fn satisfies(value: ValueView<'_>, wanted: ValueView<'_>) -> bool {
    match (wanted, value) {
        (ValueView::Void, _) => true,
        // Nested values are compared as they would be written: the wire has several forms of some numbers.
        (ValueView::Table(_) | ValueView::Array(_), ValueView::Table(_) | ValueView::Array(_)) => {
            let encode = |value: ValueView<'_>| {
                let table: crate::table::Table = [(b"".as_slice(), value.to_value().ok()?)]
                    .into_iter()
                    .collect();
                table.encode().ok()
            };
            let wanted = encode(wanted);
            wanted.is_some() && wanted == encode(value)
        }
        _ => Comparable::from(value) == Comparable::from(wanted),
    }
}

/// A value as far as equality goes.
#[derive(PartialEq, Eq, Hash)]
enum Comparable<'a> {
    Bool(bool),
    Integer(i128),
    /// The bits of a number that is no integer.
    Fraction(u64),
    Decimal(u8, u32),
    Text(&'a [u8]),
    /// Compared elsewhere.
    Nested,
    Void,
}

impl<'a> From<ValueView<'a>> for Comparable<'a> {
    fn from(value: ValueView<'a>) -> Self {
        match value {
            ValueView::Bool(flag) => Self::Bool(flag),
            ValueView::F32(n) => Self::float(n.into()),
            ValueView::F64(n) => Self::float(n),
            ValueView::Timestamp(seconds) => Self::Integer(seconds.into()),
            ValueView::Decimal { scale, value } => Self::Decimal(scale, value),
            ValueView::Str(bytes) | ValueView::Bytes(bytes) => Self::Text(bytes),
            ValueView::Array(_) | ValueView::Table(_) => Self::Nested,
            ValueView::Void => Self::Void,
            integer => Self::Integer(integer.as_integer().unwrap_or_default().into()),
        }
    }
}

impl Comparable<'_> {
    fn float(n: f64) -> Self {
        // Every integral float below 2^64 fits an i128 exactly; larger ones equal no integer that a header can hold.
        if n.fract() == 0.0 && n.abs() < 18_446_744_073_709_551_616.0 {
            Self::Integer(n as i128)
        } else {
            Self::Fraction(n.to_bits())
        }
    }
}
