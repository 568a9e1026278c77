//! Binding tables: which destinations a message goes to.
//!
//! One [`Bindings`] holds the bindings of one exchange. Routing takes no lock and, but for keys of more than 16 words and messages of
//! more than 16 headers, allocates nothing; binding and unbinding take the table's lock and cost what the binding is, not what the
//! table is. A destination's own bindings are found without a search, so that deleting a queue is cheap in a table of millions.
//!
//! ```text
//! slots     the hash table below everything: one writer, wait-free readers, epoch-based reclamation
//! binding   binding, key, the destinations of one key, the bindings of one destination
//! direct    key -> destinations           topic     trie of words with * and #
//! fanout    destinations                  headers   index over (name, value)
//! answers   what routing through several tables found, by key
//! ```
//!
//! What a reader sees: a binding that exists for the whole of a [`Bindings::route`] is found by it; one that was removed before the call
//! began is not; one that comes or goes meanwhile may be found or not. A destination that is unbound is dropped when the last reader that
//! could see it has left, **some time later and on whichever thread then routes or binds** in any table of the process: its destructor
//! must not take locks that such a thread may hold.

mod answers;
mod binding;
mod comparable;
mod direct;
mod headers;
mod pattern;
mod slots;
#[cfg(test)]
mod tests;
mod topic;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_epoch::{Guard, pin, unprotected};
use foldhash::fast::RandomState;
use parking_lot::Mutex;

pub(crate) use answers::Answers;
pub use binding::Destination;

use crate::table::{Table, TableError, TableView};
use binding::{Arguments, Binding, Destinations, Owners, Wanted, canonical, new_key};
use direct::Direct;
use headers::Headers;
use slots::Writer;
use topic::Topic;

/// Bytes of a routing key and of a binding key: what a short string of AMQP holds. [`Bindings::route`] does not check it, but the
/// bounds on the cost of a topic match hold only up to this length.
pub const KEY_BYTES_MAX: usize = 255;

/// Removals after which garbage is handed on and collected. A removal leaves up to five pieces, and the collector frees up to 512 each time
/// it is asked: so it keeps ahead of one writer, also when nobody routes.
const FLUSH_CHANGES: usize = 64;

/// How an exchange chooses destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// The routing key equals the binding key.
    Direct,
    /// The routing key matches the binding key's words with `*` and `#`.
    Topic,
    /// The message's headers match the binding's arguments.
    Headers,
    /// Every destination.
    Fanout,
}

impl ExchangeKind {
    /// The kind's name as clients write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::Fanout => "fanout",
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no [`ExchangeKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownExchangeKind;

impl fmt::Display for UnknownExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown exchange type; expected direct, topic, headers or fanout")
    }
}

impl std::error::Error for UnknownExchangeKind {}

impl FromStr for ExchangeKind {
    type Err = UnknownExchangeKind;

    fn from_str(name: &str) -> Result<Self, UnknownExchangeKind> {
        [Self::Direct, Self::Topic, Self::Headers, Self::Fanout]
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or(UnknownExchangeKind)
    }
}

/// Why a binding cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindError {
    /// The binding key is longer than [`KEY_BYTES_MAX`].
    KeyTooLong,
    /// The arguments cannot be encoded.
    Arguments(TableError),
    /// `x-match` is none of `all`, `any`, `all-with-x` and `any-with-x`. Holds the value.
    MatchMode(String),
    /// `x-match` is not a text.
    MatchType,
    /// An argument of a headers binding stands twice: no message could have both values.
    RepeatedArgument(String),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyTooLong => f.write_str("binding key over 255 bytes"),
            Self::Arguments(error) => write!(f, "in the binding arguments: {error}"),
            Self::MatchMode(mode) => write!(
                f,
                "Invalid x-match field value \"{mode}\"; expected all, any, all-with-x, or any-with-x"
            ),
            Self::MatchType => f.write_str("Invalid x-match field type; expected longstr"),
            Self::RepeatedArgument(name) => write!(f, "binding argument '{name}' stands twice"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Arguments(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TableError> for BindError {
    fn from(error: TableError) -> Self {
        Self::Arguments(error)
    }
}

enum Kind<D: Destination> {
    Direct(Direct<D>),
    Topic(Topic<D>),
    Headers(Headers<D>),
    Fanout(Destinations<D>),
}

/// The bindings of one exchange.
///
/// A binding is identified by key, arguments (in any order) and destination, whatever the kind of the exchange makes of them.
pub struct Bindings<D: Destination> {
    kind: Kind<D>,
    hasher: RandomState,
    /// The lock of all changes, with what only they need.
    owners: Mutex<Owners<D>>,
    /// See [`Bindings::generation`]. Written under the lock.
    generation: AtomicU64,
    /// Number of bindings. Written under the lock.
    count: AtomicUsize,
}

impl<D: Destination> Bindings<D> {
    /// An empty table.
    pub fn new(kind: ExchangeKind) -> Self {
        // Seeded anew for each table, so that nobody can choose keys that collide.
        let hasher = RandomState::default();
        let kind = match kind {
            ExchangeKind::Direct => Kind::Direct(Direct::new(hasher.clone())),
            ExchangeKind::Topic => Kind::Topic(Topic::new(hasher.clone())),
            ExchangeKind::Headers => Kind::Headers(Headers::new(hasher.clone())),
            ExchangeKind::Fanout => Kind::Fanout(Destinations::new()),
        };
        Self {
            kind,
            owners: Mutex::new(Owners::new(hasher.clone())),
            hasher,
            generation: AtomicU64::new(0),
            count: AtomicUsize::new(0),
        }
    }

    /// The kind of the exchange.
    pub fn kind(&self) -> ExchangeKind {
        match self.kind {
            Kind::Direct(_) => ExchangeKind::Direct,
            Kind::Topic(_) => ExchangeKind::Topic,
            Kind::Headers(_) => ExchangeKind::Headers,
            Kind::Fanout(_) => ExchangeKind::Fanout,
        }
    }

    /// Adds a binding; `false` if it existed already.
    pub fn bind(&self, key: &str, arguments: &Table, destination: D) -> Result<bool, BindError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(BindError::KeyTooLong);
        }
        let wanted = Wanted {
            key,
            arguments: canonical(arguments)?,
            destination: &destination,
        };
        let tag = wanted.tag(&self.hasher);
        let mut owners = self.owners.lock();
        let guard = pin();
        // SAFETY: the lock is held until the end of this function.
        let writer = unsafe { Writer::new(&guard) };
        if self
            .destinations_of(key, &wanted.arguments, &guard)
            .is_some_and(|held| held.get(tag, &wanted, &guard).is_some())
        {
            return Ok(false);
        }
        let binding = match &self.kind {
            Kind::Direct(direct) => Binding::new(&wanted, direct.key(key, writer)),
            Kind::Topic(topic) => Binding::new(&wanted, topic.key(key, writer)),
            Kind::Headers(_) | Kind::Fanout(_) => Binding::new(&wanted, new_key(key)),
        };
        match &self.kind {
            Kind::Direct(_) | Kind::Topic(_) => {
                binding.siblings().insert(tag, binding.clone(), writer);
            }
            Kind::Headers(headers) => headers
                .matcher(&wanted.arguments, writer)?
                .destinations
                .insert(tag, binding.clone(), writer),
            Kind::Fanout(destinations) => destinations.insert(tag, binding.clone(), writer),
        }
        owners.insert(binding);
        self.changed(1, 0);
        Ok(true)
    }

    /// Removes a binding and says whether it existed. Once this has returned, no call of [`Bindings::route`] that begins finds it.
    pub fn unbind(&self, key: &str, arguments: &Table, destination: &D) -> bool {
        // Arguments that cannot be encoded were never bound.
        let Ok(arguments) = canonical(arguments) else {
            return false;
        };
        let wanted = Wanted {
            key,
            arguments,
            destination,
        };
        let mut owners = self.owners.lock();
        let guard = pin();
        let tag = wanted.tag(&self.hasher);
        let Some(binding) = self
            .destinations_of(key, &wanted.arguments, &guard)
            .and_then(|held| held.get(tag, &wanted, &guard))
        else {
            return false;
        };
        owners.remove(binding);
        // SAFETY: the lock is held until the end of this function.
        let writer = unsafe { Writer::new(&guard) };
        self.remove(binding, writer);
        let generation = self.changed(0, 1);
        if generation.is_multiple_of(FLUSH_CHANGES as u64) {
            guard.flush();
        }
        true
    }

    /// Whether this binding exists.
    pub fn contains(&self, key: &str, arguments: &Table, destination: &D) -> bool {
        let Ok(arguments) = canonical(arguments) else {
            return false;
        };
        let wanted = Wanted {
            key,
            arguments,
            destination,
        };
        let _owners = self.owners.lock();
        let guard = pin();
        let tag = wanted.tag(&self.hasher);
        self.destinations_of(key, &wanted.arguments, &guard)
            .is_some_and(|held| held.get(tag, &wanted, &guard).is_some())
    }

    /// Removes all bindings of a destination and returns their keys and arguments. Costs what the destination has.
    pub fn unbind_destination(&self, destination: &D) -> Vec<(String, Table)> {
        let mut owners = self.owners.lock();
        let bindings = owners.take(destination);
        for some in bindings.chunks(FLUSH_CHANGES) {
            let guard = pin();
            // SAFETY: the lock is held until the end of this function.
            let writer = unsafe { Writer::new(&guard) };
            for binding in some {
                self.remove(binding, writer);
            }
            self.changed(0, some.len());
            // A queue goes: let go of it soon, not when this thread's garbage happens to be collected.
            guard.flush();
        }
        bindings.iter().map(|binding| binding.describe()).collect()
    }

    /// Calls `found` for the destination of every binding that matches. A destination with several matching bindings may be reported
    /// several times. `headers` matter to headers exchanges only, and should have been validated.
    pub fn route(&self, key: &str, headers: Option<TableView<'_>>, found: &mut impl FnMut(&D)) {
        let guard = pin();
        match &self.kind {
            Kind::Direct(direct) => direct.route(key, &guard, found),
            Kind::Topic(topic) => topic.route(key, &guard, found),
            Kind::Headers(index) => index.route(headers.unwrap_or_default(), &guard, found),
            Kind::Fanout(destinations) => destinations.each(&guard, found),
        }
    }

    /// A number that every change raises before it returns. What was matched after reading the number may be kept for as long as the
    /// number stays the same.
    pub fn generation(&self) -> u64 {
        // Acquire: pairs with the Release in `changed`; a match that follows sees all changes counted in the number.
        self.generation.load(Ordering::Acquire)
    }

    /// Number of bindings.
    pub fn len(&self) -> usize {
        // Relaxed: a number for statistics.
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there is no binding.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a binding leads to this destination.
    pub fn leads_to(&self, destination: &D) -> bool {
        self.owners.lock().contains(destination)
    }

    /// What bindings lead to, each once, in no particular order. Holds up changes meanwhile.
    pub fn destinations(&self) -> Vec<D> {
        self.owners.lock().destinations().cloned().collect()
    }

    /// All bindings, in no particular order. Holds up changes meanwhile.
    pub fn list(&self) -> Vec<(String, Table, D)> {
        let owners = self.owners.lock();
        let mut list = Vec::with_capacity(self.len());
        owners.each(|binding| {
            let (key, arguments) = binding.describe();
            list.push((key, arguments, binding.destination.clone()));
        });
        list
    }

    /// The destinations among which a binding with this key and these arguments is.
    fn destinations_of<'g>(
        &'g self,
        key: &str,
        arguments: &Arguments,
        guard: &'g Guard,
    ) -> Option<&'g Destinations<D>> {
        match &self.kind {
            Kind::Direct(direct) => Some(direct.find(key, guard)?.destinations()),
            Kind::Topic(topic) => Some(topic.find(key, guard)?.destinations()),
            Kind::Headers(headers) => Some(&headers.find(arguments, guard)?.destinations),
            Kind::Fanout(destinations) => Some(destinations),
        }
    }

    /// Takes a binding out of the routing structure, and what only it needed there.
    fn remove(&self, binding: &Binding<D>, writer: Writer<'_>) {
        let wanted = binding.wanted();
        let tag = wanted.tag(&self.hasher);
        let Some(held) = self.destinations_of(wanted.key, &wanted.arguments, writer.guard) else {
            return;
        };
        held.remove(tag, &wanted, writer);
        if !held.is_empty() {
            return;
        }
        match &self.kind {
            Kind::Direct(direct) => direct.remove_key(binding, writer),
            Kind::Topic(topic) => topic.remove_key(binding, writer),
            Kind::Headers(headers) => headers.remove_matcher(&wanted.arguments, writer),
            Kind::Fanout(_) => {}
        }
    }

    /// Counts a change that readers can already see.
    fn changed(&self, added: usize, removed: usize) -> u64 {
        let count = self.count.load(Ordering::Relaxed) + added - removed;
        self.count.store(count, Ordering::Relaxed);
        // Release: pairs with the Acquire in `generation`.
        self.generation.fetch_add(1, Ordering::Release)
    }
}

impl<D: Destination> Drop for Bindings<D> {
    /// Breaks the cycles between keys and bindings.
    fn drop(&mut self) {
        // SAFETY: nobody else has access any more, so nothing need be kept for readers, and this is the only writer.
        let writer = unsafe { Writer::new(unprotected()) };
        self.owners
            .get_mut()
            .each(|binding| binding.siblings().clear(writer));
    }
}

impl<D: Destination> fmt::Debug for Bindings<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bindings")
            .field("kind", &self.kind())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
