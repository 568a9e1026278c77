//! Reply codes of AMQP 0-9-1 (specification, section 1.1, and RabbitMQ's 311 to 313), each written down once.

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $name:literal $severity:ident;)*) => {
        /// Why a channel or connection is closed, or a message returned.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum ReplyCode {
            $($(#[$doc])* $variant = $code,)*
        }

        impl ReplyCode {
            /// Every code, in rising order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The number on the wire.
            pub const fn code(self) -> u16 {
                self as u16
            }

            /// The name RabbitMQ begins its texts with: `NOT_FOUND - no queue 'q' in vhost '/'`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Whether the error closes the connection. Others close the channel, or (312, 313) only return the message;
            /// [`ReplyCode::Success`] is no error.
            pub const fn is_hard(self) -> bool {
                match self {
                    $(Self::$variant => reply_codes!(@ $severity),)*
                }
            }
        }
    };
    (@ soft) => { false };
    (@ hard) => { true };
}

reply_codes! {
    /// A normal close.
    Success = 200 "SUCCESS" soft;
    /// The message is larger than the server takes.
    ContentTooLarge = 311 "CONTENT_TOO_LARGE" soft;
    /// A mandatory message has no queue to go to.
    NoRoute = 312 "NO_ROUTE" soft;
    /// An immediate message has no consumer to go to.
    NoConsumers = 313 "NO_CONSUMERS" soft;
    /// An operator or a shutdown closes the connection.
    ConnectionForced = 320 "CONNECTION_FORCED" hard;
    /// The virtual host does not exist (RabbitMQ says 530 instead).
    InvalidPath = 402 "INVALID_PATH" hard;
    /// Not permitted to this user. Soft, but a failed login is answered with it on the connection.
    AccessRefused = 403 "ACCESS_REFUSED" soft;
    /// No such exchange, queue or consumer.
    NotFound = 404 "NOT_FOUND" soft;
    /// The queue belongs to another connection.
    ResourceLocked = 405 "RESOURCE_LOCKED" soft;
    /// A declaration differs from what exists, a delivery tag is unknown, or another condition of the method does not hold.
    PreconditionFailed = 406 "PRECONDITION_FAILED" soft;
    /// Bytes that are no frame.
    FrameError = 501 "FRAME_ERROR" hard;
    /// A field with an illegal value.
    SyntaxError = 502 "SYNTAX_ERROR" hard;
    /// A method that does not belong where it came.
    CommandInvalid = 503 "COMMAND_INVALID" hard;
    /// A method on a channel that is not open, or is already.
    ChannelError = 504 "CHANNEL_ERROR" hard;
    /// A frame that was not expected here, for example a body without a header.
    UnexpectedFrame = 505 "UNEXPECTED_FRAME" hard;
    /// The server lacks the means.
    ResourceError = 506 "RESOURCE_ERROR" hard;
    /// The method is legal and forbidden here.
    NotAllowed = 530 "NOT_ALLOWED" hard;
    /// The server does not have this part of the protocol.
    NotImplemented = 540 "NOT_IMPLEMENTED" hard;
    /// A fault of the server.
    InternalError = 541 "INTERNAL_ERROR" hard;
}
