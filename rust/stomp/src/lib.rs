//! STOMP 1.0, 1.1 and 1.2 for Wherry. No sockets and no clock: bytes come in, bytes go out.
//!
//! [`codec`] knows the encoding and nothing else: frames, headers, escapes.

#![forbid(unsafe_code)]

pub mod codec;
