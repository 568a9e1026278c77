//! Content: the header frame and body frames behind a method that carries a message (specification, section 4.2.6).
//!
//! ```text
//! header payload   class u16, weight u16 = 0, body size u64, property flags u16, properties     (numbers big-endian)
//! body payload     the next bytes of the body; as many frames as it takes, none if the body is empty
//! ```
//!
//! Property flags and properties are one slice here: the form in which the engine keeps them, so they go through unchanged.
//! [`write_deliver`] is the hot path of a broker: one call, one reservation, no table of methods.

use std::fmt;

use wherry_engine::properties::{PropertiesError, PropertiesView};

use super::errors::EncodeError;
use super::frame::{FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, FrameKind, frame_head};
use super::wire::short_length;

/// The class all content belongs to.
const BASIC: u16 = 60;
const BASIC_DELIVER: u16 = 60;

/// Bytes of a header payload before the properties.
const FIXED_BYTES: usize = 12;

/// The flags of properties none of which is set.
const NO_PROPERTIES: &[u8] = &[0, 0];

/// What a header frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class of the method before it, if the peer is sane.
    pub class_id: u16,
    /// Bytes that follow in body frames, as the peer announces them: any number. The session compares it with its limit.
    pub body_size: u64,
    /// Flags and fields, checked; to be read with [`PropertiesView`].
    pub properties: &'a [u8],
}

/// Why a payload is not a content header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentError {
    /// The payload ends before the properties.
    Truncated,
    /// The weight, which was never given a use and must be 0. RabbitMQ takes the frame for something else then and answers with 505
    /// UNEXPECTED_FRAME.
    Weight(u16),
    /// The properties are not well-formed.
    Properties(PropertiesError),
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("content header ends before its properties"),
            Self::Weight(weight) => write!(f, "content header with weight {weight} instead of 0"),
            Self::Properties(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ContentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Properties(error) => Some(error),
            _ => None,
        }
    }
}

impl From<PropertiesError> for ContentError {
    fn from(error: PropertiesError) -> Self {
        Self::Properties(error)
    }
}

/// Reads the payload of a header frame and checks its properties. Nothing is allocated.
#[inline]
pub fn decode_content_header(payload: &[u8]) -> Result<ContentHeader<'_>, ContentError> {
    let Some((&[c1, c0, w1, w0, size @ ..], properties)) =
        payload.split_first_chunk::<FIXED_BYTES>()
    else {
        return Err(ContentError::Truncated);
    };
    let weight = u16::from_be_bytes([w1, w0]);
    if weight != 0 {
        return Err(ContentError::Weight(weight));
    }
    PropertiesView::new(properties).validate()?;
    Ok(ContentHeader {
        class_id: u16::from_be_bytes([c1, c0]),
        body_size: u64::from_be_bytes(size),
        properties,
    })
}

/// Appends a header frame and the body frames.
///
/// No body frame is larger than `frame_max` bytes with its overhead; 0 is no limit, and any other number below [`FRAME_MIN_SIZE`] counts
/// as that, which every peer takes. The header frame cannot be divided: it is as large as `properties` (flags and fields; empty for
/// none) make it. An empty body has no frame. Properties over 4 GiB are an error, and nothing is appended.
pub fn write_content(
    channel: u16,
    class_id: u16,
    properties: &[u8],
    body: &[u8],
    frame_max: u32,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let properties = or_none(properties);
    let head = content_head(channel, class_id, properties, body)?;
    out.reserve(content_bytes(properties, body, frame_max));
    out.extend_from_slice(&head);
    append_content(channel, properties, body, frame_max, out);
    Ok(())
}

/// Appends everything about one delivery: the `basic.deliver` frame, then what [`write_content`] writes.
///
/// A consumer tag, exchange or routing key over 255 bytes is an error, and nothing is appended.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of a delivery, each borrowed from somewhere else"
)]
pub fn write_deliver(
    channel: u16,
    consumer_tag: &str,
    delivery_tag: u64,
    redelivered: bool,
    exchange: &str,
    routing_key: &str,
    properties: &[u8],
    body: &[u8],
    frame_max: u32,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    /// Ids, three lengths of strings, delivery tag and flag.
    const FIXED_FIELDS_BYTES: usize = 4 + 3 + 8 + 1;

    let tag_length = short_length(consumer_tag)?;
    let exchange_length = short_length(exchange)?;
    let key_length = short_length(routing_key)?;
    let properties = or_none(properties);
    let mut end = [FRAME_END; 1 + HEAD_BYTES];
    end[1..].copy_from_slice(&content_head(channel, BASIC, properties, body)?);
    let size = FIXED_FIELDS_BYTES + consumer_tag.len() + exchange.len() + routing_key.len();
    out.reserve(size + FRAME_OVERHEAD + content_bytes(properties, body, frame_max));

    // Pieces of fixed size are put together first: each append costs a look at the capacity.
    let mut head = [0; 12];
    head[..7].copy_from_slice(&frame_head(FrameKind::Method, channel, size as u32));
    head[7..9].copy_from_slice(&BASIC.to_be_bytes());
    head[9..11].copy_from_slice(&BASIC_DELIVER.to_be_bytes());
    head[11] = tag_length;
    out.extend_from_slice(&head);
    out.extend_from_slice(consumer_tag.as_bytes());
    let mut middle = [0; 10];
    middle[..8].copy_from_slice(&delivery_tag.to_be_bytes());
    middle[8] = redelivered.into();
    middle[9] = exchange_length;
    out.extend_from_slice(&middle);
    out.extend_from_slice(exchange.as_bytes());
    out.push(key_length);
    out.extend_from_slice(routing_key.as_bytes());
    out.extend_from_slice(&end);
    append_content(channel, properties, body, frame_max, out);
    Ok(())
}

/// Bytes of a header frame before the properties.
const HEAD_BYTES: usize = FRAME_OVERHEAD - 1 + FIXED_BYTES;

#[inline]
fn or_none(properties: &[u8]) -> &[u8] {
    if properties.is_empty() {
        NO_PROPERTIES
    } else {
        properties
    }
}

/// The header frame up to the properties.
#[inline]
fn content_head(
    channel: u16,
    class_id: u16,
    properties: &[u8],
    body: &[u8],
) -> Result<[u8; HEAD_BYTES], EncodeError> {
    let size =
        u32::try_from(FIXED_BYTES + properties.len()).map_err(|_| EncodeError::FrameTooLarge)?;
    let mut head = [0; HEAD_BYTES];
    head[..7].copy_from_slice(&frame_head(FrameKind::Header, channel, size));
    head[7..9].copy_from_slice(&class_id.to_be_bytes());
    head[11..].copy_from_slice(&(body.len() as u64).to_be_bytes());
    Ok(head)
}

/// The properties, the end of the header frame, and the body frames.
#[inline]
fn append_content(channel: u16, properties: &[u8], body: &[u8], frame_max: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(properties);
    for piece in body.chunks(piece_bytes_max(frame_max)) {
        // The end of the frame before this one comes with the head of this one.
        let mut head = [FRAME_END; FRAME_OVERHEAD];
        head[1..].copy_from_slice(&frame_head(FrameKind::Body, channel, piece.len() as u32));
        out.extend_from_slice(&head);
        out.extend_from_slice(piece);
    }
    out.push(FRAME_END);
}

/// Bytes of a body that go into one frame.
#[inline]
fn piece_bytes_max(frame_max: u32) -> usize {
    let frame_bytes = match frame_max {
        0 => u32::MAX,
        limit => limit.max(FRAME_MIN_SIZE),
    };
    frame_bytes as usize - FRAME_OVERHEAD
}

/// Bytes of the header frame and all body frames.
#[inline]
fn content_bytes(properties: &[u8], body: &[u8], frame_max: u32) -> usize {
    let pieces = if body.len() <= FRAME_MIN_SIZE as usize - FRAME_OVERHEAD {
        // Spares the division for small bodies, which are most; counts a frame that an empty body has not.
        1
    } else {
        body.len().div_ceil(piece_bytes_max(frame_max))
    };
    HEAD_BYTES + properties.len() + 1 + body.len() + pieces * FRAME_OVERHEAD
}
