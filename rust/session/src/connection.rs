//! What a session tells the server that runs it, and what the server tells a session about its peer. The same for every
//! protocol, so that one server can run sessions of all.

use std::ops::{BitOr, BitOrAssign};

use wherry_engine::table::Table;

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
    /// A copy of the bytes, which are shown to nobody but by `expose`.
    pub fn new(bytes: &[u8]) -> Secret {
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

/// State and history of one session.
#[derive(Clone, Debug, Default)]
pub struct SessionInfo {
    /// Who is at the other end.
    pub peer: Peer,
    /// `starting`, `tuning`, `opening`, `running`, `blocked`, `closing`, `closed` and the like: RabbitMQ's words.
    pub state: &'static str,
    /// The authenticated user; empty before.
    pub user: String,
    /// The open virtual host; empty before.
    pub virtual_host: String,
    /// What the client says of itself.
    pub client_properties: Table,
    /// Bytes of a frame; 0 is no limit.
    pub frame_max: u32,
    /// Seconds; 0 is none.
    pub heartbeat_seconds: u16,
    /// Open channels.
    pub channels: usize,
    /// Consumers on all channels.
    pub consumers: usize,
    /// Deliveries that are not settled.
    pub unacked: usize,
    /// Publishes that are not confirmed.
    pub unconfirmed: usize,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes written for the peer.
    pub bytes_out: u64,
    /// Messages published.
    pub messages_in: u64,
    /// Messages delivered.
    pub messages_out: u64,
}
