//! Names of headers that the hot path asks for, as numbers: a frame's headers are told apart once, when they are found.

macro_rules! names {
    ($($known:ident $text:literal)*) => {
        /// A header's name, if SEND gives it a meaning.
        ///
        /// A name with an escape is never among them: what escapes stand for is in none of these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Name {
            $(#[doc = concat!("`", stringify!($text), "`")] $known,)*
            /// Any other.
            Other,
        }

        impl Name {
            /// The name that these bytes are, as they came.
            #[inline]
            pub fn of(raw: &[u8]) -> Name {
                // Compiled to a comparison of lengths and one or two of words.
                match raw {
                    $($text => Name::$known,)*
                    _ => Name::Other,
                }
            }
        }
    };
}

names! {
    Destination b"destination"
    ContentLength b"content-length"
    Receipt b"receipt"
    Transaction b"transaction"
    ContentType b"content-type"
    ContentEncoding b"content-encoding"
    Persistent b"persistent"
    Priority b"priority"
    CorrelationId b"correlation-id"
    ReplyTo b"reply-to"
    Expiration b"expiration"
    AmqpMessageId b"amqp-message-id"
    Timestamp b"timestamp"
    Type b"type"
    UserId b"user-id"
    AppId b"app-id"
    ClusterId b"cluster-id"
    MessageId b"message-id"
}
