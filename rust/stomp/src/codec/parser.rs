//! Finds frames in bytes that come in pieces.
//!
//! The caller keeps the bytes of an unfinished frame and shows them again with more behind; what was looked at is not looked
//! at again, so that a peer who sends one byte at a time costs no more than its bytes. Nothing is copied. Every limit is
//! checked as soon as bytes show that it is passed, not when the frame is whole.
//!
//! The answer does not depend on how the bytes were cut: tests try every cut.

use memchr::{memchr, memchr2};

use super::Version;
use super::errors::FrameError;
use super::escape::Escapes;
use super::frame::{Frame, Span};
use super::limits::FrameLimits;
use super::name::Name;
use super::plain;
use super::scan::{line_ends, number};

/// What stands at the beginning of the bytes.
#[derive(Debug)]
pub enum Next<'a> {
    /// Line ends and NULs, so many bytes: signs of life, or what follows a frame.
    LineEnds(usize),
    /// A frame, and the bytes that it takes.
    Frame(Frame<'a>, usize),
    /// Not enough. Show the same bytes again, with more behind.
    More,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Command,
    Headers,
    /// The body begins at `start`, and has this length if that was said.
    Body {
        start: usize,
        length: Option<usize>,
    },
}

/// A parser of one peer's frames.
#[derive(Debug)]
pub struct Parser {
    limits: FrameLimits,
    /// None before login: only frames that are never escaped may come.
    version: Option<Version>,
    stage: Stage,
    /// Where the line that is not finished begins.
    line: usize,
    /// Bytes that were looked at.
    seen: usize,
    /// Where the command ends.
    command: usize,
    /// Headers so far. Their place stays for the next frame.
    spans: Vec<Span>,
    escapes: Escapes,
    /// A frame was found; the next call begins the next.
    done: bool,
}

impl Parser {
    /// A parser before login.
    pub fn new(limits: FrameLimits) -> Parser {
        Parser {
            limits,
            version: None,
            stage: Stage::Command,
            line: 0,
            seen: 0,
            command: 0,
            spans: Vec::new(),
            escapes: Escapes::None,
            done: false,
        }
    }

    /// After login: what was agreed on, and what is allowed from now on. To be called between two frames.
    pub fn agree(&mut self, version: Version, limits: FrameLimits) {
        self.version = Some(version);
        self.limits = limits;
    }

    /// How many bytes are missing at least, as far as is known: 1 if nothing is.
    pub fn missing(&self, held: usize) -> usize {
        match self.stage {
            Stage::Body {
                start,
                length: Some(length),
            } if !self.done => (start + length + 1).saturating_sub(held).max(1),
            _ => 1,
        }
    }

    /// Whether a frame was begun.
    pub fn is_inside(&self) -> bool {
        self.seen != 0 && !self.done
    }

    /// What stands at the beginning of `bytes`. After [`Next::LineEnds`] and [`Next::Frame`] the caller goes on behind them.
    /// After an error the parser is of no more use.
    pub fn next<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Next<'a>, FrameError> {
        if self.done {
            self.start_over();
        }
        if !self.is_inside() {
            match line_ends(bytes) {
                0 => {}
                count => return Ok(Next::LineEnds(count)),
            }
            // A carriage return, and whatever follows it is not there yet.
            if matches!(bytes, [] | [b'\r']) {
                return Ok(Next::More);
            }
        }
        // Most frames are whole and have nothing special in them.
        if self.seen == 0
            && let Some(found) = plain::find(bytes, &self.limits, &mut self.spans)
        {
            self.command = found.command;
            self.escapes = Escapes::None; // nothing in it is escaped
            return self.found(bytes, found.body, found.end);
        }
        loop {
            match self.stage {
                Stage::Command | Stage::Headers => {
                    if !self.line_of(bytes)? {
                        return Ok(Next::More);
                    }
                }
                Stage::Body { start, length } => {
                    let Some(end) = self.body_end(bytes, start, length)? else {
                        return Ok(Next::More);
                    };
                    return self.found(bytes, start, end);
                }
            }
        }
    }

    /// One line of the head, if it is whole.
    fn line_of(&mut self, bytes: &[u8]) -> Result<bool, FrameError> {
        // One search for the line's end and for what must not stand before it: lines are short, and calls cost more than bytes.
        let found = memchr2(b'\n', 0, &bytes[self.seen..]).map(|at| self.seen + at);
        let (at, nul) = match found {
            Some(nul) if bytes[nul] == 0 => {
                let behind = memchr(b'\n', &bytes[nul..]).map(|at| nul + at);
                (behind, Some(nul))
            }
            at => (at, None),
        };
        let end = at.unwrap_or(bytes.len());
        if let Some(fault) = self.fault_before(bytes, end, nul) {
            return Err(fault);
        }
        self.seen = end;
        if at.is_none() {
            return Ok(false);
        }
        let line = &bytes[self.line..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.stage {
            Stage::Command => self.command_line(line)?,
            _ if line.is_empty() => self.head_end(bytes, end + 1)?,
            _ => self.header_line(line)?,
        }
        self.seen = end + 1;
        self.line = self.seen;
        Ok(true)
    }

    /// What is wrong with the unfinished line up to `end`, wherever that is: of several faults the one that comes first, so
    /// that the answer is the same when the bytes come one by one. `nul`: where the first one stands before `end`.
    #[inline]
    fn fault_before(&self, bytes: &[u8], end: usize, nul: Option<usize>) -> Option<FrameError> {
        let limits = &self.limits;
        let in_command = matches!(self.stage, Stage::Command);
        let line_bytes_max = if in_command {
            limits.command_bytes_max
        } else {
            limits.header_bytes_max
        };
        let full = self.line + line_bytes_max;
        if nul.is_none() && end <= full && end <= limits.head_bytes_max {
            return None;
        }
        // A carriage return that belongs to the line's end is not counted.
        let too_long = full + usize::from(bytes.get(full) == Some(&b'\r'));
        let line_fault = if in_command {
            FrameError::CommandTooLong(line_bytes_max)
        } else {
            FrameError::HeaderTooLong(line_bytes_max)
        };
        // The frame is over, and its head is not.
        let nul_fault = if in_command {
            FrameError::BadCommand
        } else {
            FrameError::BadHeader
        };
        let head_fault = FrameError::HeadTooLong(limits.head_bytes_max);
        [
            (too_long, line_fault),
            (limits.head_bytes_max, head_fault),
            (nul.unwrap_or(usize::MAX), nul_fault),
        ]
        .into_iter()
        .filter(|(at, _)| *at < end)
        .min_by_key(|(at, _)| *at)
        .map(|(_, fault)| fault)
    }

    fn command_line(&mut self, line: &[u8]) -> Result<(), FrameError> {
        if line.is_empty() || !line.iter().all(u8::is_ascii_uppercase) {
            return Err(FrameError::BadCommand);
        }
        self.escapes = match (line, self.version) {
            (b"CONNECT" | b"STOMP" | b"CONNECTED", _) | (_, None) => Escapes::None,
            (_, Some(version)) => version.escapes(),
        };
        self.command = line.len();
        self.stage = Stage::Headers;
        Ok(())
    }

    fn header_line(&mut self, line: &[u8]) -> Result<(), FrameError> {
        if self.spans.len() == self.limits.headers_max {
            return Err(FrameError::TooManyHeaders(self.limits.headers_max));
        }
        // Names have a dozen bytes: looking at each is cheaper than a call that looks at many.
        let special = |byte: &u8| matches!(byte, b':' | b'\r' | b'\\');
        let first = line.iter().position(special).unwrap_or(line.len());
        // Nearly always this is the colon, and nothing special stands behind it.
        let (colon, plain) = match line.get(first) {
            Some(b':') => (
                Some(first),
                memchr2(b'\r', b'\\', &line[first + 1..]).is_none(),
            ),
            _ => (memchr(b':', line), false),
        };
        let Some(colon @ 1..) = colon else {
            return Err(FrameError::BadHeader);
        };
        if !plain {
            // 1.2 forbids it, and nobody else means it: one end of the connection might take it for the line's end.
            if memchr(b'\r', line).is_some() {
                return Err(FrameError::BadHeader);
            }
            if !self.escapes.are_defined(line) {
                return Err(FrameError::UndefinedEscape);
            }
        }
        // Heads are far smaller than 4 GiB: their limit is checked.
        self.spans.push(Span {
            start: self.line as u32,
            colon: (self.line + colon) as u32,
            end: (self.line + line.len()) as u32,
            name: Name::of(&line[..colon]),
        });
        Ok(())
    }

    /// The empty line: what is known of the body now.
    fn head_end(&mut self, bytes: &[u8], start: usize) -> Result<(), FrameError> {
        let said = self
            .spans
            .iter()
            .find(|span| span.name == Name::ContentLength);
        let length = match said {
            None => None,
            Some(span) => Some(number(&bytes[span.colon as usize + 1..span.end as usize])?),
        };
        if length.is_some_and(|length| length > self.limits.body_bytes_max) {
            return Err(FrameError::BodyTooLong(self.limits.body_bytes_max));
        }
        self.stage = Stage::Body { start, length };
        Ok(())
    }

    fn body_end(
        &mut self,
        bytes: &[u8],
        start: usize,
        length: Option<usize>,
    ) -> Result<Option<usize>, FrameError> {
        if let Some(length) = length {
            let end = start + length;
            return match bytes.get(end) {
                None => Ok(None),
                Some(0) => Ok(Some(end)),
                Some(_) => Err(FrameError::BodyNotEnded),
            };
        }
        let end = memchr(0, &bytes[self.seen..]).map(|at| self.seen + at);
        self.seen = end.unwrap_or(bytes.len());
        if self.seen - start > self.limits.body_bytes_max {
            return Err(FrameError::BodyTooLong(self.limits.body_bytes_max));
        }
        Ok(end)
    }

    fn found<'a>(
        &'a mut self,
        bytes: &'a [u8],
        start: usize,
        end: usize,
    ) -> Result<Next<'a>, FrameError> {
        self.done = true;
        let head = std::str::from_utf8(&bytes[..start]).map_err(|_| FrameError::NotUtf8)?;
        let frame = Frame {
            command: &head[..self.command],
            head,
            spans: &self.spans,
            escapes: self.escapes,
            body: &bytes[start..end],
        };
        Ok(Next::Frame(frame, end + 1))
    }

    fn start_over(&mut self) {
        self.done = false;
        self.stage = Stage::Command;
        self.line = 0;
        self.seen = 0;
        self.spans.clear();
    }
}
