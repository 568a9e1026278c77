//! A frame that was found, still in the buffer that it came in.

use std::borrow::Cow;

use super::escape::{Escapes, unescape};
use super::name::Name;

/// Where a header lies in the head of its frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) colon: u32,
    pub(super) end: u32,
    pub(super) name: Name,
}

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    known: Name,
    name: &'a str,
    value: &'a str,
    escapes: Escapes,
}

impl<'a> Header<'a> {
    /// Which one it is.
    #[inline]
    pub fn known(&self) -> Name {
        self.known
    }

    /// Whether two headers have one name: a letter has one form only, so that names need not be unescaped for it.
    #[inline]
    pub fn is_like(&self, other: &Header<'_>) -> bool {
        self.known == other.known && (self.known != Name::Other || self.name == other.name)
    }

    /// Its name.
    pub fn name(&self) -> Cow<'a, str> {
        unescape(self.name, self.escapes)
    }

    /// Its value.
    pub fn value(&self) -> Cow<'a, str> {
        unescape(self.value, self.escapes)
    }

    /// Its value as it came, which is enough to compare with what came before.
    pub fn raw_value(&self) -> &'a str {
        self.value
    }
}

/// A frame from a peer. Names of headers may repeat: the first one counts.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub(super) command: &'a str,
    /// Command and headers.
    pub(super) head: &'a str,
    pub(super) spans: &'a [Span],
    pub(super) escapes: Escapes,
    pub(super) body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// What it asks for.
    pub fn command(&self) -> &'a str {
        self.command
    }

    /// What it carries.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Its headers in order, repeated ones included.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> {
        let Frame {
            head,
            spans,
            escapes,
            ..
        } = *self;
        spans
            .iter()
            .map(move |span| header_at(head, *span, escapes))
    }

    /// The first header of that name.
    #[inline]
    pub fn find(&self, name: &str) -> Option<Header<'a>> {
        // Lengths first: most headers differ in it, and slicing text costs more than that.
        let span = self.spans.iter().find(|span| {
            (span.colon - span.start) as usize == name.len()
                && &self.head.as_bytes()[span.start as usize..span.colon as usize]
                    == name.as_bytes()
        })?;
        Some(header_at(self.head, *span, self.escapes))
    }

    /// The first header of a known name.
    #[inline]
    pub fn known(&self, name: Name) -> Option<Header<'a>> {
        debug_assert_ne!(name, Name::Other, "which one?");
        let span = self.spans.iter().find(|span| span.name == name)?;
        Some(header_at(self.head, *span, self.escapes))
    }

    /// Whether there is a header of a known name.
    #[inline]
    pub fn has(&self, name: Name) -> bool {
        self.spans.iter().any(|span| span.name == name)
    }

    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        Some(self.find(name)?.value())
    }
}

#[inline]
fn header_at(head: &str, span: Span, escapes: Escapes) -> Header<'_> {
    let (start, colon, end) = (span.start as usize, span.colon as usize, span.end as usize);
    Header {
        known: span.name,
        name: &head[start..colon],
        value: &head[colon + 1..end],
        escapes,
    }
}
