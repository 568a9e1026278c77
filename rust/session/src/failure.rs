//! A refusal as a session reports it: what kind, and the text that the peer gets.
//!
//! Kinds are AMQP's reply codes by name; a session maps them to its protocol's numbers. Texts are RabbitMQ's, without the
//! `NOT_FOUND - ` prefix, which the session adds. What the engine advises people who call it from a program is left out.

use std::fmt;

use wherry_engine::Error;

/// What kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No such queue, exchange.
    NotFound,
    /// Not permitted for this user, or a reserved name.
    AccessRefused,
    /// Somebody else's exclusive queue.
    ResourceLocked,
    /// It exists with other properties, is in use or not empty, or an argument is wrong.
    PreconditionFailed,
    /// A body over the limit of the protocol.
    ContentTooLarge,
    /// Not allowed on this connection, such as a virtual host or more channels.
    NotAllowed,
    /// The protocol has it, this server does not.
    NotImplemented,
    /// The server has no room for it.
    ResourceError,
    /// A frame that cannot be read.
    SyntaxError,
    /// A method that makes no sense here.
    CommandInvalid,
    /// A channel that is not open, or is open already.
    ChannelError,
    /// A frame of another kind than must come now.
    UnexpectedFrame,
    /// A frame that is none.
    FrameError,
    /// No such virtual host.
    InvalidPath,
    /// The server ends the connection.
    ConnectionForced,
    /// The broker's own fault.
    InternalError,
}

impl FailureKind {
    /// Whether AMQP ends the whole connection for it and not only the channel.
    pub const fn ends_connection(self) -> bool {
        !matches!(
            self,
            FailureKind::NotFound
                | FailureKind::AccessRefused
                | FailureKind::ResourceLocked
                | FailureKind::PreconditionFailed
                | FailureKind::ContentTooLarge
        )
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// What to tell the peer, without a prefix.
    pub text: String,
}

impl Failure {
    /// A refusal with its text.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Failure {
        Failure {
            kind,
            text: text.into(),
        }
    }

    /// The most frequent kind.
    pub fn precondition_failed(text: impl Into<String>) -> Failure {
        Failure::new(FailureKind::PreconditionFailed, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

fn kind_of(error: &Error) -> FailureKind {
    match error {
        Error::UnknownExchange { .. } | Error::UnknownQueue { .. } => FailureKind::NotFound,
        Error::UnknownVirtualHost { .. } => FailureKind::NotAllowed,
        Error::UnknownDelivery { .. }
        | Error::PreconditionFailed(_)
        | Error::InvalidArgument(_)
        | Error::MessageTooLarge { .. }
        // These two have answers of their own in every protocol (a return, a nack); whoever gives none reports this.
        | Error::Unroutable { .. }
        | Error::PublishRejected { .. } => FailureKind::PreconditionFailed,
        Error::AccessRefused(_) => FailureKind::AccessRefused,
        Error::ResourceLocked(_) => FailureKind::ResourceLocked,
        // Sessions wait on these instead of reporting them.
        Error::Busy | Error::DiskFull(_) | Error::NoSegment(_) => FailureKind::ResourceError,
        Error::Closed => FailureKind::ConnectionForced,
        _ => FailureKind::InternalError,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let text = match &error {
            Error::Closed => "broker forced connection closure with reason 'shutdown'".into(),
            other => other.wire_text(),
        };
        Failure::new(kind_of(&error), text)
    }
}
