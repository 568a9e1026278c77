//! Messages: an immutable envelope and a body, stored once and shared by every queue it was routed to.
//!
//! The *content* of a message is one run of bytes, the same on the heap and in the journal:
//!
//! ```text
//! +--------+----------+--------+-------------+-----------+------------+------+
//! | u8 len | exchange | u8 len | routing key | u32le len | properties | body |
//! +--------+----------+--------+-------------+-----------+------------+------+
//! ```
//!
//! Properties stay as the bytes that came in (`properties.rs`); only what routing and queues need is decoded.
//! A message on the heap is one allocation. A message in the journal is a view into a mapped segment, so that a
//! backlog costs no heap.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};

use triomphe::{Arc, HeaderSlice, HeaderWithLength, ThinArc, UniqueArc};
use wherry_journal::{Address, Journal, View};

use crate::error::Error;
use crate::options::{MESSAGE_BYTES_MAX, PROPERTIES_BYTES_MAX, check_name};
use crate::properties::PropertiesView;

/// What is known of a message without looking into its content.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// When it was published, in nanoseconds since the UNIX epoch.
    pub(crate) published_ns: u64,
    /// When it dies of its own `expiration`; 0 = never. Queues may let it die earlier.
    pub(crate) expires_ns: u64,
    /// When it was or will be due, if it was published with a delay; 0 = not delayed.
    pub(crate) due_ns: u64,
    pub(crate) persistent: bool,
}

/// Where the parts of a content lie.
#[derive(Clone, Copy, Debug)]
struct Layout {
    routing_key: u16,
    properties: u16,
    body: u32,
}

struct Head {
    /// Address of the message's journal entry; 0 when it has none. Changed by compaction only, which stores a copy's
    /// address: a reader may see either, both are good while a queue holds the message. Hence Relaxed.
    at: AtomicU64,
    facts: Facts,
    layout: Layout,
}

struct Mapped {
    view: View,
    at: Address,
    content: usize,
    end: usize,
    facts: Facts,
    layout: Layout,
}

#[derive(Clone)]
enum Inner {
    Heap(ThinArc<Head, u8>),
    Mapped(Arc<Mapped>),
}

/// A message: cheap to clone, immutable, usable from any thread.
#[derive(Clone)]
pub struct Message(Inner);

/// The parts of a content, before they are one.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) properties: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// Whether a message may be so long, and its properties are what they must be.
pub(crate) fn check_content(
    routing_key: &str,
    properties: &[u8],
    body: &[u8],
) -> Result<(), Error> {
    check_name("routing key", routing_key)?;
    let bytes = body.len() + properties.len();
    if bytes > MESSAGE_BYTES_MAX {
        return Err(Error::MessageTooLarge {
            bytes: bytes as u64,
            bytes_max: MESSAGE_BYTES_MAX as u64,
        });
    }
    if properties.is_empty() {
        return Ok(());
    }
    if properties.len() > PROPERTIES_BYTES_MAX {
        return Err(Error::InvalidArgument(format!(
            "properties and headers of {} bytes: the limit is {PROPERTIES_BYTES_MAX}; put large data into the body",
            properties.len()
        )));
    }
    PropertiesView::new(properties)
        .validate()
        .map_err(|e| Error::InvalidArgument(e.to_string()))
}

impl Parts<'_> {
    pub(crate) fn content_bytes(&self) -> usize {
        6 + self.exchange.len() + self.routing_key.len() + self.properties.len() + self.body.len()
    }

    fn layout(&self) -> Layout {
        let routing_key = 1 + self.exchange.len();
        let properties = routing_key + 1 + self.routing_key.len();
        Layout {
            // Both names are at most 255 bytes, checked by the caller.
            routing_key: routing_key as u16,
            properties: properties as u16,
            body: (properties + 4 + self.properties.len()) as u32,
        }
    }

    /// Writes the content to `out`, which has exactly `content_bytes()`.
    pub(crate) fn write(&self, out: &mut [u8]) {
        let mut rest = out;
        let mut put = |bytes: &[u8]| {
            if bytes.is_empty() {
                return; // most messages have no properties: not worth a call
            }
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            head.copy_from_slice(bytes);
            rest = tail;
        };
        put(&[self.exchange.len() as u8]);
        put(self.exchange.as_bytes());
        put(&[self.routing_key.len() as u8]);
        put(self.routing_key.as_bytes());
        put(&(self.properties.len() as u32).to_le_bytes());
        put(self.properties);
        put(self.body);
    }
}

impl Layout {
    /// Reads the layout of a content that comes from outside memory; none if it does not fit its own lengths or is not UTF-8.
    fn parse(content: &[u8]) -> Option<Layout> {
        let exchange = usize::from(*content.first()?);
        let routing_key = 1 + exchange;
        let key = usize::from(*content.get(routing_key)?);
        let properties = routing_key + 1 + key;
        let length = content.get(properties..properties + 4)?;
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        let body = (properties + 4).checked_add(length)?;
        std::str::from_utf8(&content[1..routing_key]).ok()?;
        std::str::from_utf8(&content[routing_key + 1..properties]).ok()?;
        (body <= content.len()).then_some(Layout {
            routing_key: routing_key as u16,
            properties: properties as u16,
            body: u32::try_from(body).ok()?,
        })
    }
}

impl Message {
    /// One allocation, one copy of each part. Names are at most 255 bytes (checked by the caller).
    pub(crate) fn new(parts: &Parts<'_>, facts: Facts, at: Address) -> Message {
        let bytes = parts.content_bytes();
        let head = Head {
            at: AtomicU64::new(at),
            facts,
            layout: parts.layout(),
        };
        let mut unique: UniqueArc<HeaderSlice<HeaderWithLength<Head>, [MaybeUninit<u8>]>> =
            UniqueArc::from_header_and_uninit_slice(HeaderWithLength::new(head, bytes), bytes);
        let slice = &mut unique.slice;
        // SAFETY: MaybeUninit<u8> has u8's layout; `write` only writes to the slice, and writes every byte of it
        // (it panics in copy_from_slice or split_at_mut if lengths disagree), so that it is initialised afterwards.
        let out =
            unsafe { std::slice::from_raw_parts_mut(slice.as_mut_ptr().cast::<u8>(), slice.len()) };
        parts.write(out);
        // SAFETY: every byte was written just above.
        let shared = unsafe { unique.assume_init_slice_with_header() }.shareable();
        Message(Inner::Heap(Arc::into_thin(shared)))
    }

    /// A message that comes from no queue: a reply that goes straight to whoever waits for it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for names of more than 255 bytes and for malformed or too large properties,
    /// [`Error::MessageTooLarge`].
    pub fn from_parts(
        exchange: &str,
        routing_key: &str,
        properties: &[u8],
        body: &[u8],
    ) -> Result<Message, Error> {
        check_name("exchange name", exchange)?;
        check_content(routing_key, properties, body)?;
        let parts = Parts {
            exchange,
            routing_key,
            properties,
            body,
        };
        Ok(Message::new(&parts, Facts::default(), 0))
    }

    /// A message whose content lies in the journal at `content..end` of `view`.
    pub(crate) fn mapped(
        view: View,
        at: Address,
        content: usize,
        end: usize,
        facts: Facts,
    ) -> Option<Message> {
        let layout = Layout::parse(view.get(content..end)?)?;
        Some(Message(Inner::Mapped(Arc::new(Mapped {
            view,
            at,
            content,
            end,
            facts,
            layout,
        }))))
    }

    pub(crate) fn content(&self) -> &[u8] {
        match &self.0 {
            Inner::Heap(arc) => &arc.slice,
            Inner::Mapped(m) => &m.view[m.content..m.end],
        }
    }

    fn layout(&self) -> Layout {
        match &self.0 {
            Inner::Heap(arc) => arc.header.header.layout,
            Inner::Mapped(m) => m.layout,
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        match &self.0 {
            Inner::Heap(arc) => arc.header.header.facts,
            Inner::Mapped(m) => m.facts,
        }
    }

    fn text(&self, from: usize, to: usize) -> &str {
        // SAFETY: built from `&str` parts in `new`, checked by `Layout::parse` in `mapped`; content never changes.
        unsafe { std::str::from_utf8_unchecked(&self.content()[from..to]) }
    }

    /// The exchange it was published to; empty for the default exchange.
    pub fn exchange(&self) -> &str {
        self.text(1, usize::from(self.layout().routing_key))
    }

    /// The routing key it was published with.
    pub fn routing_key(&self) -> &str {
        let layout = self.layout();
        self.text(
            usize::from(layout.routing_key) + 1,
            usize::from(layout.properties),
        )
    }

    /// Its properties as they came in.
    pub fn properties_bytes(&self) -> &[u8] {
        let layout = self.layout();
        &self.content()[usize::from(layout.properties) + 4..layout.body as usize]
    }

    /// Its properties, decoded lazily.
    pub fn properties(&self) -> PropertiesView<'_> {
        match self.properties_bytes() {
            [] => PropertiesView::new(&[0, 0]), // no properties at all: none of them is there
            bytes => PropertiesView::new(bytes),
        }
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.content()[self.layout().body as usize..]
    }

    /// When it was published, in nanoseconds since the UNIX epoch.
    pub fn published_ns(&self) -> u64 {
        self.facts().published_ns
    }

    /// Whether it was published to survive a restart.
    pub fn persistent(&self) -> bool {
        self.facts().persistent
    }

    /// Bytes that count towards a queue's limits: the body, as RabbitMQ counts.
    pub(crate) fn body_bytes(&self) -> u64 {
        (self.content().len() - self.layout().body as usize) as u64
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            exchange: self.exchange(),
            routing_key: self.routing_key(),
            properties: self.properties_bytes(),
            body: self.body(),
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &self.exchange())
            .field("routing_key", &self.routing_key())
            .field("body_bytes", &self.body().len())
            .finish_non_exhaustive()
    }
}

/// What a queue's slot holds: one word, either a counted pointer to a message on the heap or the address of its
/// journal entry (shifted left by one, lowest bit set).
pub(crate) struct Stored(AtomicU64);

impl Stored {
    pub(crate) fn heap(message: &Message) -> Stored {
        match &message.0 {
            Inner::Heap(arc) => {
                let raw = ThinArc::into_raw(arc.clone()) as u64;
                debug_assert_eq!(raw & 1, 0);
                Stored(AtomicU64::new(raw))
            }
            Inner::Mapped(m) => Stored::in_journal(m.at),
        }
    }

    /// Takes over the caller's reference instead of counting another.
    pub(crate) fn from_message(message: Message) -> Stored {
        match message.0 {
            Inner::Heap(arc) => Stored(AtomicU64::new(ThinArc::into_raw(arc) as u64)),
            Inner::Mapped(m) => Stored::in_journal(m.at),
        }
    }

    pub(crate) fn in_journal(at: Address) -> Stored {
        debug_assert!(at < 1 << 63, "segment numbers end at 2^31");
        Stored(AtomicU64::new(at << 1 | 1))
    }

    /// Has the message's memory fetched; an address of the journal does no harm.
    pub(crate) fn prefetch(&self) {
        wherry_queues::prefetch(self.word() as *const u8);
    }

    /// Relaxed: a pointer never changes while the slot holds it; an address is replaced by compaction with another
    /// good one.
    fn word(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn with_heap<R>(word: u64, f: impl FnOnce(&ThinArc<Head, u8>) -> R) -> R {
        // SAFETY: `word` came from `ThinArc::into_raw` and this slot still owns that reference; ManuallyDrop leaves
        // it owned.
        let arc =
            std::mem::ManuallyDrop::new(unsafe { ThinArc::<Head, u8>::from_raw(word as *const _) });
        f(&arc)
    }

    /// The message itself, read from the journal if it is not on the heap.
    pub(crate) fn message(&self, journal: Option<&Journal>) -> Result<Message, Error> {
        let mut word = self.word();
        loop {
            if word & 1 == 0 {
                return Ok(Message(Inner::Heap(Self::with_heap(word, ThinArc::clone))));
            }
            let journal = journal.expect("only a broker with a journal stores addresses");
            let read = crate::entries::read_message(journal, word >> 1);
            let now = self.word();
            if read.is_ok() || now == word {
                return read;
            }
            word = now; // compaction moved the entry and its old segment went meanwhile
        }
    }

    /// Address of its journal entry; 0 when it has none.
    pub(crate) fn at(&self) -> Address {
        let word = self.word();
        if word & 1 == 1 {
            return word >> 1;
        }
        Self::with_heap(word, |arc| arc.header.header.at.load(Ordering::Relaxed)) // see Head::at
    }

    /// Compaction moved the entry from `old` to `new`. False when this slot holds another one.
    pub(crate) fn relocate(&self, old: Address, new: Address) -> bool {
        let word = self.word();
        if word & 1 == 1 {
            // Relaxed: see `word`.
            return self
                .0
                .compare_exchange(
                    old << 1 | 1,
                    new << 1 | 1,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        }
        Self::with_heap(word, |arc| {
            let at = &arc.header.header.at;
            // Another queue's slot may have moved this shared message already.
            at.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
                || at.load(Ordering::Relaxed) == new
        })
    }
}

impl Clone for Stored {
    fn clone(&self) -> Self {
        let word = self.word();
        if word & 1 == 0 {
            std::mem::forget(Self::with_heap(word, ThinArc::clone)); // the count now belongs to the new slot
        }
        Stored(AtomicU64::new(word))
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        let word = *self.0.get_mut();
        if word & 1 == 0 {
            // SAFETY: `word` came from `ThinArc::into_raw`, and this slot owns that reference, which ends here.
            drop(unsafe { ThinArc::<Head, u8>::from_raw(word as *const _) });
        }
    }
}

const _: () = assert!(size_of::<Stored>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts<'static> {
        Parts {
            exchange: "orders",
            routing_key: "order.eu.placed",
            properties: &[0, 0],
            body: b"seven",
        }
    }

    #[test]
    fn parts_come_back() {
        let message = Message::new(
            &parts(),
            Facts {
                published_ns: 5,
                ..Facts::default()
            },
            0,
        );
        assert_eq!(message.exchange(), "orders");
        assert_eq!(message.routing_key(), "order.eu.placed");
        assert_eq!(message.properties_bytes(), [0, 0]);
        assert_eq!(message.body(), b"seven");
        assert_eq!(message.published_ns(), 5);
        assert_eq!(message.body_bytes(), 5);
    }

    #[test]
    fn empty_parts_are_fine() {
        let parts = Parts {
            exchange: "",
            routing_key: "",
            properties: &[],
            body: &[],
        };
        let message = Message::new(&parts, Facts::default(), 0);
        assert_eq!(
            (
                message.exchange(),
                message.routing_key(),
                message.body().len()
            ),
            ("", "", 0)
        );
    }

    #[test]
    fn a_slot_counts_its_reference() {
        let message = Message::new(&parts(), Facts::default(), 64);
        let slot = Stored::heap(&message);
        let twin = slot.clone();
        drop(message);
        assert_eq!(slot.at(), 64);
        drop(slot);
        assert_eq!(twin.message(None).unwrap().body(), b"seven");
        assert!(twin.relocate(64, 128));
        assert!(!twin.relocate(64, 256));
        assert_eq!(twin.at(), 128);
    }

    #[test]
    fn a_slot_can_hold_an_address() {
        let slot = Stored::in_journal(7 << 32 | 24);
        assert_eq!(slot.at(), 7 << 32 | 24);
        assert!(slot.relocate(7 << 32 | 24, 9 << 32));
        assert_eq!(slot.clone().at(), 9 << 32);
    }

    #[test]
    fn content_from_outside_is_checked() {
        for bad in [
            &b""[..],
            b"\x05ab",
            b"\x01a\x01",
            b"\x00\x00\xff\xff\xff\xff",
            b"\x01\xff\x00\0\0\0\0",
        ] {
            assert!(Layout::parse(bad).is_none(), "{bad:?}");
        }
    }
}
