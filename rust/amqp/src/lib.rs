//! AMQP 0-9-1 for Wherry, with the extensions RabbitMQ made to it. No sockets and no clock: bytes come in, bytes go out.
//!
//! [`codec`] knows the encoding and nothing else: frames, methods, content headers, reply codes.

#![forbid(unsafe_code)]

pub mod codec;
