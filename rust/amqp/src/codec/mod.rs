//! The encoding of AMQP 0-9-1: pure functions between bytes and what they say.
//!
//! The rules are those of the specification (AMQP 0-9-1, chapter 4) with RabbitMQ's extensions; field tables and basic properties are
//! the engine's ([`wherry_engine::table`], [`wherry_engine::properties`]). A session calls [`parse_protocol_header`] once, then
//! [`parse_frame`] over what it has received, then [`Method::decode`] or [`decode_content_header`] over the payloads; to answer it
//! appends frames to its outbound buffer.
//!
//! Decoding borrows from the input and allocates nothing; whatever the bytes are, it ends in a value or an error, never in a panic.
//! Encoding appends to a `Vec<u8>` and leaves it as it was when it fails: no length is ever cut to what its field can hold.
//!
//! ```
//! use wherry_amqp::codec::{FrameKind, Method, parse_frame};
//!
//! let mut bytes = Vec::new();
//! let ack = Method::BasicAck { delivery_tag: 7, multiple: true };
//! ack.write(1, &mut bytes)?;
//!
//! let (frame, consumed) = parse_frame(&bytes, 131_072)?.expect("a whole frame");
//! assert_eq!((frame.kind, frame.channel, consumed), (FrameKind::Method, 1, bytes.len()));
//! assert_eq!(Method::decode(frame.payload)?, ack);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Not promised: that a sequence of frames makes sense. Which frame may follow which, on which channel, is the session's knowledge.

mod content;
mod errors;
mod frame;
mod method;
mod methods;
mod protocol;
mod reply;
mod wire;

pub use content::{
    ContentError, ContentHeader, decode_content_header, write_content, write_deliver,
};
pub use errors::{EncodeError, MethodError};
pub use frame::{
    FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameError, FrameKind, missing_bytes,
    parse_frame, write_heartbeat,
};
pub use method::method_ids;
pub use methods::Method;
pub use protocol::{PROTOCOL_HEADER, PROTOCOL_HEADER_0_9, ProtocolHeader, parse_protocol_header};
pub use reply::ReplyCode;
