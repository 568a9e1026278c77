//! STOMP 1.0, 1.1 and 1.2 for Wherry. No sockets and no clock: bytes come in, bytes go out.
//!
//! [`codec`] knows the encoding and nothing else: frames, headers, escapes. [`session`] is one connection: it answers a
//! client's bytes with a server's, over the engine.

#![forbid(unsafe_code)]

pub mod codec;
pub mod session;

pub use session::{Credentials, Peer, Secret, Session, SessionInfo, Settings, Status};
