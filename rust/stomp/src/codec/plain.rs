//! Frames that are whole and have nothing special in them, found in one pass: nearly all.
//!
//! Special is whatever the parser may have to think about: an escape, a control character, a letter outside ASCII, a limit, an
//! error.
//! Then nothing is found here and the parser looks line by line, so that there is one place that says what is wrong, and
//! the answer does not depend on how the bytes were cut. A frame whose end is not there yet is looked at twice, once here.

use std::ops::Range;

use memchr::memchr;

use super::escape::Escapes;
use super::frame::{Frame, Span};
use super::limits::FrameLimits;
use super::name::Name;
use super::scan::{line_ends, number, plain, plain_name};

/// Where the parts of a frame end.
pub(super) struct Found {
    pub(super) command: usize,
    pub(super) body: usize,
    /// Of the body; the NUL stands there.
    pub(super) end: usize,
}

/// The frame at the beginning of `bytes`, with its headers in `spans`; none, and no headers: look line by line.
#[inline]
pub(super) fn find(bytes: &[u8], limits: &FrameLimits, spans: &mut Vec<Span>) -> Option<Found> {
    let found = look(bytes, limits, spans);
    if found.is_none() {
        spans.clear();
    }
    found
}

#[inline]
fn look(bytes: &[u8], limits: &FrameLimits, spans: &mut Vec<Span>) -> Option<Found> {
    // Nothing is looked at that a limit would keep the parser from.
    let head = &bytes[..bytes.len().min(limits.head_bytes_max)];
    let command = head.iter().position(|byte| !byte.is_ascii_uppercase())?;
    if !(1..=limits.command_bytes_max).contains(&command) || head[command] != b'\n' {
        return None;
    }
    let mut length = None;
    let mut start = command + 1;
    while *head.get(start)? != b'\n' {
        let line = &head[start..];
        let name = plain_name(line);
        let value = name + 1 + plain(line.get(name + 1..)?);
        if name == 0
            || line[name] != b':'
            || *line.get(value)? != b'\n'
            || value > limits.header_bytes_max
            || spans.len() == limits.headers_max
        {
            return None;
        }
        let known = Name::of(&line[..name]);
        if known == Name::ContentLength && length.is_none() {
            length = Some(number(&line[name + 1..value]).ok()?);
        }
        // Heads are far smaller than 4 GiB: their limit is checked.
        spans.push(Span {
            start: start as u32,
            colon: (start + name) as u32,
            end: (start + value) as u32,
            name: known,
        });
        start += value + 1;
    }
    let body = start + 1;
    let end = match length {
        Some(length) if length <= limits.body_bytes_max => body + length,
        Some(_) => return None,
        None => body + memchr(0, &bytes[body..])?,
    };
    if end - body > limits.body_bytes_max || *bytes.get(end)? != 0 {
        return None;
    }
    Some(Found { command, body, end })
}

/// Looks at frames before a parser does, and leaves to it what is not plain.
#[derive(Debug)]
pub struct Ahead {
    limits: FrameLimits,
    spans: Vec<Span>,
}

/// A frame that was looked at.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What it says.
    pub frame: Frame<'a>,
    /// Where its body lies in the bytes.
    pub body: Range<usize>,
    /// The bytes that it takes, line ends before it included.
    pub bytes: usize,
}

impl Ahead {
    /// For frames within these limits.
    pub fn new(limits: FrameLimits) -> Ahead {
        Ahead {
            limits,
            spans: Vec::new(),
        }
    }

    /// The frame at the beginning of `bytes`, if it is whole and there is nothing special in it.
    #[inline]
    pub fn next<'a>(&'a mut self, bytes: &'a [u8]) -> Option<Seen<'a>> {
        let start = line_ends(bytes);
        let rest = &bytes[start..];
        self.spans.clear();
        let found = find(rest, &self.limits, &mut self.spans)?;
        let head = std::str::from_utf8(&rest[..found.body]).ok()?;
        let frame = Frame {
            command: &head[..found.command],
            head,
            spans: &self.spans,
            escapes: Escapes::None,
            body: &rest[found.body..found.end],
        };
        Some(Seen {
            frame,
            body: start + found.body..start + found.end,
            bytes: start + found.end + 1,
        })
    }
}
