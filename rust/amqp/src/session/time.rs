//! Time: heartbeats, the limit of the handshake, the limit of closing, how soon a client is told that it may publish
//! again. It comes from the server, about once a second, on a clock of its own that never goes back; the first call says
//! where it stands.

use wherry_session::{Action, End, Resource};

use super::channel::Role;
use super::connection::Phase;
use super::state::State;
use crate::codec::{Method, ReplyCode, write_heartbeat};

/// Seconds that a peer gets to answer `connection.close`. A peer that lives answers in one round trip; RabbitMQ waits 30,
/// which nobody has been seen to need.
pub(super) const CLOSE_SECONDS: f64 = 10.0;

/// Seconds for which a client that was told `connection.blocked` stays so at least: RabbitMQ looks at its memory as often.
/// What it has sent goes on as soon as there is room. But where memory hovers around its limit there is room and no room
/// many times a second, and a client that stops to publish, or writes a line, each time it is told would do nothing else.
pub const BLOCKED_SECONDS_MIN: f64 = 2.5;

/// Class and method that a lost permission to consume is reported with.
const BASIC_CONSUME: (u16, u16) = (60, 20);

/// What a session remembers of time.
#[derive(Default)]
pub(super) struct Times {
    /// Since when the peer is expected to say something. None before the first tick.
    heard: Option<f64>,
    spoke: f64,
    opened: f64,
    closing: Option<f64>,
    /// The last tick; none before the first.
    now: Option<f64>,
    /// Since when the client knows that it is blocked.
    blocked: Option<f64>,
}

impl State {
    pub(super) fn tick(&mut self, now: f64) {
        let (heard, spoke) = (
            std::mem::take(&mut self.cn.heard),
            std::mem::take(&mut self.cn.spoke),
        );
        let paused = self.cn.pause.any();
        let times = &mut self.times;
        times.now = Some(now);
        let first = times.heard.is_none();
        if first {
            (times.spoke, times.opened) = (now, now);
        }
        // From a connection that is paused nothing is read, so that its silence means nothing.
        if first || heard || paused {
            times.heard = Some(now);
        }
        if spoke {
            times.spoke = now;
        }
        match self.cn.phase {
            Phase::Closed => return,
            Phase::Closing | Phase::Left => {
                let since = *times.closing.get_or_insert(now);
                if now - since > CLOSE_SECONDS {
                    self.cn.phase = Phase::Closed;
                }
                return;
            }
            phase if phase.is_handshake() => {
                let most = f64::from(self.cn.limits().handshake_seconds);
                if now - self.times.opened > most {
                    self.end(End::Lost);
                    self.cn.phase = Phase::Closed;
                    return;
                }
            }
            _ => {}
        }
        if let Some(reason) = self.evicted() {
            return self.shut_down(ReplyCode::ConnectionForced, &reason);
        }
        self.recheck();
        self.beat(now);
        self.tell_unblocked();
        for ch in self.channels.iter_mut() {
            ch.apply_prefetch(&mut self.cn);
        }
    }

    /// The client is being told that it is blocked.
    pub(super) fn told_blocked(&mut self) {
        self.cn.told_blocked = true;
        self.times.blocked = self.times.now;
    }

    /// Tells the client that nothing holds it up any more, if that has to be said and is not too soon.
    pub(super) fn tell_unblocked(&mut self) {
        if !self.cn.told_blocked || self.cn.stuck.is_some() || self.cn.front.alarms().any() {
            return;
        }
        let Some(now) = self.times.now else { return };
        let since = *self.times.blocked.get_or_insert(now);
        if now - since < BLOCKED_SECONDS_MIN {
            return; // a later tick does it
        }
        self.cn.told_blocked = false;
        if self.cn.client.hears_of_blocked && self.cn.phase == Phase::Running {
            self.cn.output.send(0, &Method::ConnectionUnblocked {});
        }
    }

    /// Why the client may not stay: its virtual host or its user is gone.
    fn evicted(&mut self) -> Option<String> {
        let open = self.cn.open.as_mut()?;
        if open.host.is_deleted() {
            return Some(format!("vhost '{}' is deleted", open.host.name()));
        }
        if open.access_version != open.access.version()
            && !self.cn.front.access().knows(&self.cn.user)
        {
            return Some(format!("user '{}' is deleted", self.cn.user));
        }
        None
    }

    /// When permissions have changed: closes channels with consumers of queues that the user may not read any more. Publishes
    /// and everything else ask each time.
    fn recheck(&mut self) {
        let Some(open) = self.cn.open.as_mut() else {
            return;
        };
        let version = open.access.version(); // before the checks: see `Access::version`
        if open.access_version == version {
            return;
        }
        open.access_version = version;
        let mut refused = Vec::new();
        for ch in self.channels.iter().filter(|ch| !ch.closing) {
            let consuming = ch
                .holders
                .iter()
                .filter(|holder| holder.role == Role::Consuming);
            for holder in consuming {
                let queue = Resource::Queue(holder.consumer.queue().name());
                if let Err(failure) = open.access.check(Action::Read, queue) {
                    refused.push((ch.number, failure));
                    break;
                }
            }
        }
        for (number, failure) in refused {
            self.fail_channel(number, failure, BASIC_CONSUME);
        }
    }

    fn beat(&mut self, now: f64) {
        let interval = f64::from(self.cn.heartbeat_seconds);
        if interval == 0.0 || !matches!(self.cn.phase, Phase::Opening | Phase::Running) {
            return;
        }
        if self
            .times
            .heard
            .is_some_and(|heard| now - heard > 2.0 * interval)
        {
            self.end(End::Lost);
            self.cn.phase = Phase::Closed;
            return;
        }
        if now - self.times.spoke >= interval / 2.0 {
            let output = self.cn.output.raw();
            let before = output.len();
            write_heartbeat(output);
            self.cn.heartbeat_bytes += output.len() - before;
            self.times.spoke = now;
        }
    }
}
