//! Why bytes are no method, and why a method cannot become bytes.

use std::fmt;

use wherry_engine::table::TableError;

/// Why a payload is not a method. RabbitMQ answers all of these with 501 FRAME_ERROR, except that an unknown method ends its connection
/// without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodError {
    /// The payload ends inside the ids or a field.
    Truncated,
    /// Bytes are left over behind the last field.
    TrailingBytes,
    /// A short string is not UTF-8. RabbitMQ refuses these too, but for the exchange and routing key of basic.publish.
    NotUtf8,
    /// No method has these ids.
    Unknown {
        /// The first two bytes.
        class_id: u16,
        /// The next two bytes.
        method_id: u16,
    },
    /// A table field is not a valid table.
    Table(TableError),
}

impl fmt::Display for MethodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("method frame ends inside a field"),
            Self::TrailingBytes => f.write_str("bytes left over behind the fields of a method"),
            Self::NotUtf8 => f.write_str("Malformed UTF-8 in shortstr"),
            Self::Unknown {
                class_id,
                method_id,
            } => write!(f, "unknown method {method_id} of class {class_id}"),
            Self::Table(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MethodError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Table(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TableError> for MethodError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

/// Why something cannot become a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// A short string over 255 bytes: its length is one octet.
    ShortStringTooLong,
    /// A field or the whole payload over 4 GiB: its length is a u32.
    FrameTooLarge,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShortStringTooLong => "short string over 255 bytes",
            Self::FrameTooLarge => "frame over 4 GiB",
        })
    }
}

impl std::error::Error for EncodeError {}
