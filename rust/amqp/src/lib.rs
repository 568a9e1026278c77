//! AMQP 0-9-1 for Wherry, with the extensions RabbitMQ made to it. No sockets and no clock: bytes come in, bytes go out.
//!
//! [`codec`] knows the encoding and nothing else: frames, methods, content headers, reply codes. [`session`] is one
//! connection: it answers a client's bytes with a server's, over the engine.

#![forbid(unsafe_code)]

pub mod codec;
pub mod session;
