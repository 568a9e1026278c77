//! What a listing shows of a session.

use wherry_session::{ChannelInfo, SessionInfo};

use super::channel::Channel;
use super::state::State;

impl State {
    pub(super) fn info(&self) -> SessionInfo {
        let cn = &self.cn;
        let mut info = SessionInfo {
            protocol: "AMQP 0-9-1",
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
            ..SessionInfo::default()
        };
        cn.traffic.describe(&mut info);
        for ch in self.channels.iter() {
            info.consumers += ch.consumers.len() + usize::from(ch.reply.is_some());
            info.unacked += ch.handouts.live();
            info.unconfirmed += ch.confirms.unconfirmed();
        }
        info
    }

    pub(super) fn channel_infos(&self) -> Vec<ChannelInfo> {
        let open = self.channels.iter().filter(|ch| !ch.closing);
        let mut infos: Vec<_> = open.map(channel_info).collect();
        infos.sort_by_key(|info| info.number);
        infos
    }

    /// Whether something waits for memory or disk.
    pub(super) fn is_blocked(&self) -> bool {
        self.cn.stuck.is_some()
    }
}

fn channel_info(ch: &Channel) -> ChannelInfo {
    let holders = ch.consumers.values();
    let holders = holders.filter_map(|slot| ch.holders.get(*slot));
    let mut consumers: Vec<_> = holders.map(|holder| holder.consumer.id()).collect();
    consumers.sort_unstable();
    ChannelInfo {
        number: ch.number,
        confirm: ch.confirms.is_selected(),
        transactional: ch.tx.is_some(),
        prefetch: ch.prefetch,
        global_prefetch: ch.prefetch_global.as_ref().map_or(0, |one| one.limit()),
        consumers,
        unacked: ch.handouts.live(),
        unconfirmed: ch.confirms.unconfirmed(),
    }
}
