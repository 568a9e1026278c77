//! What a listing shows of a session.

use wherry_session::{ChannelInfo, SessionInfo};

use super::connection::Phase;
use super::state::State;
use crate::codec::Version;

impl State {
    pub(super) fn is_blocked(&self) -> bool {
        self.core.cn.stuck.is_some()
    }

    pub(super) fn info(&self) -> SessionInfo {
        let cn = &self.core.cn;
        let running = cn.phase == Phase::Running;
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
            protocol: match cn.version {
                _ if cn.user.is_empty() => "STOMP",
                Version::V1_0 => "STOMP 1.0",
                Version::V1_1 => "STOMP 1.1",
                Version::V1_2 => "STOMP 1.2",
            },
            // The shorter of the two: it is how often somebody has to look at the clock.
            heartbeat_seconds: [cn.beats.0, cn.beats.1]
                .into_iter()
                .filter(|ms| *ms != 0)
                .min()
                .map_or(0, |ms| u16::try_from(ms / 1000).unwrap_or(u16::MAX)),
            channels: usize::from(running),
            unconfirmed: cn.output.held(),
            ..SessionInfo::default()
        };
        cn.traffic.describe(&mut info);
        for one in self.core.subscriptions.iter() {
            info.consumers += usize::from(!one.leaving);
            info.unacked += one.consumer.unacked();
        }
        info
    }

    /// STOMP has no channels: what an open connection does is listed as one.
    pub(super) fn channel_infos(&self) -> Vec<ChannelInfo> {
        if self.core.cn.phase != Phase::Running {
            return Vec::new();
        }
        let running = || self.core.subscriptions.iter().filter(|one| !one.leaving);
        let mut consumers: Vec<_> = running().map(|one| one.consumer.id()).collect();
        consumers.sort_unstable();
        let all = self.core.subscriptions.iter();
        vec![ChannelInfo {
            number: 1,
            consumers,
            unacked: all.map(|one| one.consumer.unacked()).sum(),
            unconfirmed: self.core.cn.output.held(),
            ..ChannelInfo::default()
        }]
    }
}
