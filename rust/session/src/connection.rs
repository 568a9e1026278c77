//! What a session and the server that runs it tell each other: [`Session`]. The same for every protocol, so that one
//! server can run sessions of all.
//!
//! A server owns the socket, the clock and the passwords; a session owns the protocol and calls the engine itself. The
//! server hands over what it read, asks for output when the socket takes more, and does what the returned [`Status`] says.
//! Nothing in a session waits for anything but its own mutex, so any thread may call.

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

/// One connection of any protocol, without its socket. Dropping it is losing it.
pub trait Session: Send + Sync {
    /// Takes bytes that were read from the socket, however they were cut. Whole frames are worked off before it returns;
    /// nothing of `bytes` is kept but the beginning of a frame, or what stands behind a pause.
    fn receive(&self, bytes: &[u8]) -> Status;

    /// Appends what is to be sent to `out`: answers, then deliveries until it is about `budget` bytes. The last message may
    /// go over it.
    fn write_into(&self, out: &mut Vec<u8>, budget: usize) -> Status;

    /// To be called when an alarm is clear, and when the broker has room again, while the status says
    /// [`Status::WAITS_FOR_ROOM`]: tries again what could not be published, and goes on with what stands behind.
    fn resume(&self) -> Status;

    /// What the client wants to be known by, while the status says [`Status::AUTHENTICATE`]: at the handshake, and again
    /// when the client renews its secret, where the protocol knows that.
    fn credentials(&self) -> Option<Credentials>;

    /// The credentials are right, and this is the user.
    fn authenticated(&self, user: &str) -> Status;

    /// The credentials are wrong, or whoever renews a secret may be here no more: the connection ends.
    fn refused(&self) -> Status;

    /// To be called about once a second with the seconds of a clock that never goes back.
    fn tick(&self, now_seconds: f64) -> Status;

    /// Ends the connection with the server's reason. Where the protocol has the client answer that, `tick` bounds the wait.
    fn shut_down(&self, text: &str) -> Status;

    /// The socket is gone: everything is given back. Deliveries without an answer count as lost. Idempotent.
    fn lost(&self);

    /// What the last call returned, or would return now.
    fn status(&self) -> Status;

    /// State and history, for listings.
    fn info(&self) -> SessionInfo;

    /// Its open channels, by number, for listings. A protocol without channels has one.
    fn channels(&self) -> Vec<ChannelInfo>;

    /// Whether something of this connection waits for memory or disk.
    fn is_blocked(&self) -> bool;
}

/// State and history of one session.
#[derive(Clone, Debug, Default)]
pub struct SessionInfo {
    /// The protocol with its version, as far as it is agreed upon: `AMQP 0-9-1`, `STOMP 1.2`.
    pub protocol: &'static str,
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

/// State of one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its number.
    pub number: u16,
    /// Whether its publishes are confirmed.
    pub confirm: bool,
    /// Whether it is in a transaction.
    pub transactional: bool,
    /// Unsettled deliveries of each consumer that starts now; 0 is no limit.
    pub prefetch: u32,
    /// Unsettled deliveries over all consumers; 0 is no limit.
    pub global_prefetch: u32,
    /// The engine's numbers of its consumers.
    pub consumers: Vec<u32>,
    /// Deliveries that are not settled.
    pub unacked: usize,
    /// Publishes that are not confirmed.
    pub unconfirmed: usize,
}
