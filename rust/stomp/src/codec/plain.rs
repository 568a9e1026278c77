//! Frames that are whole and have nothing special in them, found in one pass: nearly all.
//!
//! Special is whatever the parser may have to think about: an escape, a control character, a letter outside ASCII, a limit, an
//! error.
//! Then nothing is found here and the parser looks line by line, so that there is one place that says what is wrong, and
//! the answer does not depend on how the bytes were cut. A frame whose end is not there yet is looked at twice, once here.

use memchr::memchr;

use super::frame::Span;
use super::name::Name;
use super::parser::{FrameLimits, number};
use super::scan::{plain, plain_name};

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
