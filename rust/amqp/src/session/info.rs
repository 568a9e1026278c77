//! What a listing shows of a session.

use wherry_engine::table::Table;

use super::state::State;
use super::status::Peer;

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

impl State {
    pub(super) fn info(&self) -> SessionInfo {
        let cn = &self.cn;
        let mut info = SessionInfo {
            peer: cn.peer.clone(),
            state: if self.is_blocked() {
                "blocked"
            } else {
                cn.phase.as_str()
            },
            user: cn.user.clone(),
            virtual_host: cn
                .open
                .as_ref()
                .map(|open| open.host.name().to_string())
                .unwrap_or_default(),
            client_properties: cn.client.properties.clone(),
            frame_max: cn.frame_max,
            heartbeat_seconds: cn.heartbeat_seconds,
            channels: self.channels.open,
            bytes_in: cn.traffic.bytes_in,
            bytes_out: cn.traffic.bytes_out,
            messages_in: cn.traffic.messages_in,
            messages_out: cn.traffic.messages_out,
            ..SessionInfo::default()
        };
        for ch in self.channels.iter() {
            info.consumers += ch.consumers.len() + usize::from(ch.reply.is_some());
            info.unacked += ch.handouts.live();
            info.unconfirmed += ch.confirms.unconfirmed();
        }
        info
    }

    /// Whether something waits for memory or disk.
    pub(super) fn is_blocked(&self) -> bool {
        self.cn.stuck.is_some()
    }
}
