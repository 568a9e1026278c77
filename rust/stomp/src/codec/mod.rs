//! The encoding of STOMP, for all three versions (https://stomp.github.io, the specifications 1.0, 1.1 and 1.2).
//!
//! ```text
//! frame   =  command EOL  header*  EOL  body NUL EOL*
//! header  =  name ':' value EOL                           EOL = LF, or CR LF
//! ```
//!
//! [`Parser`] finds frames in bytes that come in pieces and copies nothing; [`write_head`] and its companions write them.
//! What differs between versions is the escaping of headers only:
//!
//! | version | escapes | line ends |
//! |---|---|---|
//! | 1.0 | none | LF |
//! | 1.1 | `\n` `\c` `\\` | LF |
//! | 1.2 | `\n` `\c` `\\` `\r` | LF or CR LF |
//!
//! CR LF is taken in every version: clients that are typed by hand send it. `CONNECT`, `STOMP` and `CONNECTED` are never
//! escaped, so that peers of any version can read them.

mod errors;
mod escape;
mod frame;
mod limits;
mod name;
mod parser;
mod plain;
mod scan;
mod write;

pub use errors::FrameError;
pub use escape::{Escapes, unescape};
pub use frame::{Frame, Header};
pub use limits::FrameLimits;
pub use name::Name;
pub use parser::{Next, Parser};
pub use plain::{Ahead, Seen};
pub use write::{
    header_fits, write_body, write_end, write_head, write_header, write_number, write_text_header,
    write_value,
};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.0
    V1_0,
    /// 1.1
    V1_1,
    /// 1.2
    V1_2,
}

impl Version {
    /// All, lowest first, as a header lists them.
    pub const ALL: &'static str = "1.0,1.1,1.2";

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V1_0 => "1.0",
            Version::V1_1 => "1.1",
            Version::V1_2 => "1.2",
        }
    }

    /// The highest that a peer who accepts `list` (numbers with commas) shares with us.
    pub fn highest_common(list: &str) -> Option<Version> {
        list.split(',')
            .filter_map(|word| match word.trim() {
                "1.0" => Some(Version::V1_0),
                "1.1" => Some(Version::V1_1),
                "1.2" => Some(Version::V1_2),
                _ => None,
            })
            .max()
    }

    /// How headers are escaped in it.
    pub const fn escapes(self) -> Escapes {
        match self {
            Version::V1_0 => Escapes::None,
            Version::V1_1 => Escapes::V1_1,
            Version::V1_2 => Escapes::V1_2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_chosen() {
        assert_eq!(Version::highest_common("1.0,1.1,2.0"), Some(Version::V1_1));
        assert_eq!(Version::highest_common("1.2, 1.0"), Some(Version::V1_2));
        assert_eq!(Version::highest_common("1.0"), Some(Version::V1_0));
        for none in ["", "2.1", "1", "1.20", ","] {
            assert_eq!(Version::highest_common(none), None, "{none}");
        }
    }
}
