//! Every limit that the server puts on its peers, each with the reason for its default.
//!
//! They are set once when the server starts. Limits of one protocol's encoding are with its codec.

use wherry_engine::{MESSAGE_BYTES_MAX, table};

/// The limits of one server. Counts of 0 allow nothing; a limit that is off says so with `u64::MAX` or `u32::MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one AMQP frame that is offered in tune. RabbitMQ's: a message of a few KiB is one frame, and what a
    /// connection can make us hold for one unfinished frame stays small.
    pub frame_max: u32,
    /// Highest channel number that is offered in tune. RabbitMQ's; more channels than that on one connection are a leak
    /// in the client.
    pub channel_max: u16,
    /// Seconds between heartbeats that are offered in tune. RabbitMQ's: short enough for firewalls that forget idle
    /// connections, long enough not to call a slow peer dead.
    pub heartbeat_seconds: u16,
    /// Bytes of one message's body. RabbitMQ's until 4.0, which has 16 MiB; clients' own suites send more than that. It is also
    /// what the engine takes.
    pub message_bytes_max: u64,
    /// Seconds from the connection to the open virtual host. RabbitMQ's: two round trips and a password hash take less
    /// than one; who holds a socket open and says nothing gets no more.
    pub handshake_seconds: u16,
    /// Connections of the server. Each takes a descriptor and some 32 KiB; ten thousand fit a small machine.
    pub connections_max: u64,
    /// Connections of one user, unless the user has a limit of its own. Off: applications commonly share one user.
    pub connections_per_user_max: u64,
    /// Connections to one virtual host, unless it has a limit of its own. Off, as in RabbitMQ.
    pub connections_per_virtual_host_max: u64,
    /// Open channels of one connection, whatever numbers they have; there are never more than `channel_max`.
    pub channels_per_connection_max: u32,
    /// Consumers of one channel. A consumer costs about a kilobyte; programs have a handful.
    pub consumers_per_channel_max: u32,
    /// Deliveries of one channel that are not acknowledged; more are not delivered. RabbitMQ has no such limit and runs
    /// out of memory instead. Sixteen bytes here and a place in the queue each.
    pub unacked_per_channel_max: u32,
    /// Publishes of one channel that are not confirmed; reading pauses above it. Clients that publish in windows use up
    /// to some thousands.
    pub unconfirmed_per_channel_max: u32,
    /// Queues of one virtual host, unless it has a limit of its own. An idle queue costs a few kilobytes.
    pub queues_per_virtual_host_max: u64,
    /// Bytes of replies that wait for one direct reply-to consumer. More are dropped: its promise is at most once, and
    /// who does not read must not fill the memory.
    pub reply_inbox_bytes_max: u64,
    /// Levels of tables in each other. What the engine reads.
    pub table_depth_max: u32,
    /// Bytes of one table or of the properties of a message. A client cannot send more than a frame holds.
    pub header_bytes_max: u32,
    /// Bytes of answers that wait for a peer who does not read; reading from it pauses above. Several of the largest
    /// frames, so that nobody who reads is ever paused.
    pub output_bytes_max: u64,
    /// Bytes that wait behind a pause for one connection. One read of the socket.
    pub input_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            frame_max: 131_072,
            channel_max: 2047,
            heartbeat_seconds: 60,
            message_bytes_max: MESSAGE_BYTES_MAX as u64,
            handshake_seconds: 10,
            connections_max: 65_536,
            connections_per_user_max: u64::MAX,
            connections_per_virtual_host_max: u64::MAX,
            channels_per_connection_max: u32::MAX,
            consumers_per_channel_max: 4096,
            unacked_per_channel_max: 1 << 20,
            unconfirmed_per_channel_max: 1 << 16,
            queues_per_virtual_host_max: u64::MAX,
            reply_inbox_bytes_max: 16 << 20,
            table_depth_max: table::DEPTH_MAX as u32,
            header_bytes_max: 128 << 10,
            output_bytes_max: 1 << 20,
            input_bytes_max: 1 << 20,
        }
    }
}

/// Bytes of an AMQP frame that every peer must be able to send and take.
const FRAME_BYTES_MIN: u32 = 4096;

impl Limits {
    /// Refuses values that cannot work together. The text names the field.
    ///
    /// # Errors
    /// The first limit that is out of range, and its range.
    pub fn validate(&self) -> Result<(), String> {
        if self.frame_max != 0 && self.frame_max < FRAME_BYTES_MIN {
            return Err(format!(
                "frame_max of {}: use 0 for no limit, or at least {FRAME_BYTES_MIN}",
                self.frame_max
            ));
        }
        if self.message_bytes_max > MESSAGE_BYTES_MAX as u64 {
            return Err(format!(
                "message_bytes_max of {}: the engine takes messages up to {MESSAGE_BYTES_MAX} bytes",
                self.message_bytes_max
            ));
        }
        if self.table_depth_max == 0 || self.table_depth_max as usize > table::DEPTH_MAX {
            return Err(format!(
                "table_depth_max of {}: use 1 to {}",
                self.table_depth_max,
                table::DEPTH_MAX
            ));
        }
        if self.handshake_seconds == 0 {
            return Err("handshake_seconds of 0: nobody could connect; use at least 1".into());
        }
        Ok(())
    }
}

/// Messages that a session publishes together at most, if they come in a row. The engine's price for such a run is spread
/// over this many; whoever waits for the first of them waits for the last.
pub const RUN_MAX: usize = 64;

/// Bytes of their bodies, so that a run of large messages is no burden for the journal's buffer.
pub const RUN_BYTES_MAX: usize = 256 << 10;
