//! Why bytes are no frame.

use std::fmt;

/// Where the next frame begins is unknown after any of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The command is too long to be one.
    CommandTooLong(usize),
    /// The command is not a word of capital letters.
    BadCommand,
    /// A header line is too long.
    HeaderTooLong(usize),
    /// Too many headers.
    TooManyHeaders(usize),
    /// Command and headers are too long.
    HeadTooLong(usize),
    /// A header line without a colon, without a name, or with NUL or a lone carriage return in it.
    BadHeader,
    /// Something in a header is escaped in a way that the version does not know.
    UndefinedEscape,
    /// The headers are not UTF-8.
    NotUtf8,
    /// `content-length` is not a number.
    BadContentLength,
    /// The body is too long.
    BodyTooLong(usize),
    /// There is no NUL where `content-length` says that the body ends.
    BodyNotEnded,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::CommandTooLong(max) => write!(f, "command of more than {max} bytes"),
            Self::BadCommand => f.write_str("a frame must begin with a command"),
            Self::HeaderTooLong(max) => write!(f, "header of more than {max} bytes"),
            Self::TooManyHeaders(max) => write!(f, "more than {max} headers"),
            Self::HeadTooLong(max) => write!(f, "command and headers of more than {max} bytes"),
            Self::BadHeader => f.write_str("a header must be a name, a colon and a value"),
            Self::UndefinedEscape => f.write_str("undefined escape sequence in a header"),
            Self::NotUtf8 => f.write_str("headers must be UTF-8"),
            Self::BadContentLength => f.write_str("content-length must be a number"),
            Self::BodyTooLong(max) => write!(f, "body of more than {max} bytes"),
            Self::BodyNotEnded => f.write_str("no NUL where content-length says the body ends"),
        }
    }
}

impl std::error::Error for FrameError {}
