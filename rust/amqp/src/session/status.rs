//! What a session tells the server that runs it, and what the server tells a session about its peer.

use std::ops::{BitOr, BitOrAssign};

/// What the server has to do next; a set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(u32);

impl Status {
    /// Nothing to do.
    pub const IDLE: Status = Status(0);
    /// `write_into` has something.
    pub const OUTPUT: Status = Status(1);
    /// Read no more from the socket for now.
    pub const PAUSE_READING: Status = Status(1 << 1);
    /// Close the socket once the output is flushed.
    pub const CLOSE: Status = Status(1 << 2);
    /// `credentials` has something to verify.
    pub const AUTHENTICATE: Status = Status(1 << 3);
    /// Call `write_into` when the journal has advanced or failed.
    pub const WAITS_FOR_DISK: Status = Status(1 << 4);
    /// Call `resume` when an alarm is clear, or when the broker has room again.
    pub const WAITS_FOR_ROOM: Status = Status(1 << 5);

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Status) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags as a number, for callers that cross a language border.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for Status {
    type Output = Status;

    fn bitor(self, other: Status) -> Status {
        Status(self.0 | other.0)
    }
}

impl BitOrAssign for Status {
    fn bitor_assign(&mut self, other: Status) {
        self.0 |= other.0;
    }
}

/// Who is at the other end of the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether the address is this machine's loopback.
    pub loopback: bool,
    /// The name in its verified client certificate: what EXTERNAL authenticates.
    pub certificate_name: Option<String>,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// A password on its way to be verified. Printing it shows nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub(super) fn new(bytes: &[u8]) -> Secret {
        Secret(bytes.to_vec())
    }

    /// The bytes as the client sent them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a client offers to be known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `PLAIN`, `AMQPLAIN`, or `EXTERNAL`: the certificate was verified already, and there is no password.
    pub mechanism: &'static str,
    /// Who it says it is.
    pub user: String,
    /// Its proof; empty for EXTERNAL.
    pub password: Secret,
}
