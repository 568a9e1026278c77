//! Frames: the unit of everything behind the protocol header (specification, section 4.2.3).
//!
//! ```text
//! offset  0     1          3               7              7 + size
//!         kind  channel    size            payload        end
//!         u8    u16        u32             size bytes     0xCE          (numbers big-endian)
//! ```
//!
//! [`parse_frame`] runs once for each frame of every connection. It judges the kind when one byte is there and the size when seven are,
//! so a peer that announces 4 GiB is refused before a byte of it is waited for, and the caller's buffer never has to grow past
//! `frame_max + FRAME_OVERHEAD`.

use std::fmt;

/// The octet behind every payload.
pub const FRAME_END: u8 = 0xCE;

/// Bytes of a frame that are not payload: seven before it, one behind it.
pub const FRAME_OVERHEAD: usize = 8;

/// The frame size every peer must take, in bytes with the overhead (`frame-min-size`). Nothing smaller may be negotiated.
pub const FRAME_MIN_SIZE: u32 = 4096;

const HEAD_BYTES: usize = FRAME_OVERHEAD - 1;

/// What a frame carries; the number is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A method: see [`Method::decode`](crate::codec::Method::decode).
    Method = 1,
    /// A content header: see [`decode_content_header`](crate::codec::decode_content_header).
    Header = 2,
    /// A piece of a body.
    Body = 3,
    /// A sign of life. Its payload must be empty and its channel 0; the session judges that, for its answers differ (501 and 505).
    Heartbeat = 8,
}

/// One frame, its payload still in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// The bytes between the seven of the head and the end octet.
    pub payload: &'a [u8],
}

/// Why bytes are not a frame. After any of these the place of the next frame is unknown: the connection is closed with
/// [`ReplyCode::FrameError`](crate::codec::ReplyCode::FrameError) and the text that `Display` gives. The texts are RabbitMQ's, except
/// that it goes on to print the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// No frame begins with this octet.
    UnknownKind(u8),
    /// The frame is larger than was negotiated.
    TooLarge {
        /// What it would carry.
        kind: FrameKind,
        /// Its bytes, with the overhead.
        bytes: u64,
        /// What was negotiated.
        bytes_max: u32,
    },
    /// Another octet stands where [`FRAME_END`] should.
    BadEnd {
        /// What the frame would carry.
        kind: FrameKind,
        /// The octet.
        end: u8,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match *self {
            Self::UnknownKind(octet) => octet,
            Self::TooLarge { kind, .. } | Self::BadEnd { kind, .. } => kind as u8,
        };
        write!(f, "type {kind}, all octets = <<>>: ")?;
        match *self {
            Self::UnknownKind(_) => f.write_str("unknown_frame"),
            Self::TooLarge {
                bytes, bytes_max, ..
            } => {
                let payload = bytes.saturating_sub(FRAME_OVERHEAD as u64);
                let payload_max = u64::from(bytes_max).saturating_sub(FRAME_OVERHEAD as u64);
                write!(f, "{{frame_too_large,{payload},{payload_max}}}")
            }
            Self::BadEnd { end, .. } => write!(f, "{{invalid_frame_end_marker,{end}}}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Bytes that `held`, the beginning of a frame, lacks until something can be said about it: of its head, or of all of it; at
/// least one. The protocol header is shorter than the smallest frame and comes alone, so that it is served by the same count.
pub fn missing_bytes(held: &[u8]) -> usize {
    match held.first_chunk::<HEAD_BYTES>() {
        None => HEAD_BYTES - held.len(),
        Some(&[_, _, _, s3, s2, s1, s0]) => {
            let size = u32::from_be_bytes([s3, s2, s1, s0]) as usize;
            (size.saturating_add(FRAME_OVERHEAD))
                .saturating_sub(held.len())
                .max(1)
        }
    }
}

/// Reads the frame at the beginning of `bytes`. Returns the frame and the bytes it takes, or `None` if more bytes are needed.
///
/// The *payload* may have `frame_max` bytes (0: no limit, then the caller has to bound its buffer by other means). With the overhead
/// that is 8 bytes more than was negotiated; RabbitMQ grants them too, for clients that forget to count the overhead.
///
/// The answer does not depend on how the bytes were cut: a prefix of a good frame says `None`, a prefix of a bad one `None` or the error
/// that the whole would give.
#[inline]
pub fn parse_frame(bytes: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let kind = match bytes.first() {
        Some(1) => FrameKind::Method,
        Some(2) => FrameKind::Header,
        Some(3) => FrameKind::Body,
        Some(8) => FrameKind::Heartbeat,
        Some(&unknown) => return Err(FrameError::UnknownKind(unknown)),
        None => return Ok(None),
    };
    let Some((&[_, c1, c0, s3, s2, s1, s0], rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([s3, s2, s1, s0]);
    if frame_max != 0 && size > frame_max {
        return Err(FrameError::TooLarge {
            kind,
            bytes: u64::from(size) + FRAME_OVERHEAD as u64,
            bytes_max: frame_max,
        });
    }
    let Some((payload, &[end, ..])) = rest.split_at_checked(size as usize) else {
        return Ok(None);
    };
    if end != FRAME_END {
        return Err(FrameError::BadEnd { kind, end });
    }
    let channel = u16::from_be_bytes([c1, c0]);
    let frame = Frame {
        kind,
        channel,
        payload,
    };
    Ok(Some((frame, payload.len() + FRAME_OVERHEAD)))
}

/// The seven bytes before a payload.
#[inline]
pub(super) fn frame_head(kind: FrameKind, channel: u16, size: u32) -> [u8; HEAD_BYTES] {
    let [c1, c0] = channel.to_be_bytes();
    let [s3, s2, s1, s0] = size.to_be_bytes();
    [kind as u8, c1, c0, s3, s2, s1, s0]
}

/// Appends a heartbeat frame.
pub fn write_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&frame_head(FrameKind::Heartbeat, 0, 0));
    out.push(FRAME_END);
}
