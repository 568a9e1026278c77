//! Time: heart-beats, the limit of the handshake, the limit of leaving. It comes from the server, about once a second, on a
//! clock of its own that never goes back; the first call says where it stands.

use super::connection::Phase;
use super::state::State;

/// Seconds that the receipt of a DISCONNECT may wait for the disk. A disk that lives needs milliseconds.
const LEAVING_SECONDS: f64 = 10.0;

/// What a session remembers of time.
#[derive(Default)]
pub(super) struct Times {
    /// Since when the peer is expected to say something. None before the first tick.
    heard: Option<f64>,
    spoke: f64,
    /// The tick before.
    last: f64,
    opened: f64,
    leaving: Option<f64>,
}

impl State {
    pub(super) fn tick(&mut self, now: f64) {
        let cn = &mut self.core.cn;
        let (heard, spoke) = (std::mem::take(&mut cn.heard), std::mem::take(&mut cn.spoke));
        let paused = cn.pause.any();
        let times = &mut self.times;
        let first = times.heard.is_none();
        if first {
            (times.spoke, times.opened, times.last) = (now, now, now);
        }
        // From a connection that is paused nothing is read, so that its silence means nothing.
        if first || heard || paused {
            times.heard = Some(now);
        }
        if spoke {
            // Some time since the tick before: the peer counts from when it came.
            times.spoke = times.last;
        }
        times.last = now;
        match cn.phase {
            Phase::Closed => {}
            Phase::Leaving => {
                let since = *times.leaving.get_or_insert(now);
                if now - since > LEAVING_SECONDS {
                    self.lost();
                }
            }
            Phase::Waiting | Phase::Authenticating => {
                let most = f64::from(cn.limits().handshake_seconds);
                if now - times.opened > most {
                    self.lost();
                }
            }
            Phase::Running => match cn.evicted() {
                Some(reason) => self.shut_down(&reason),
                None => self.beat(now),
            },
        }
    }

    fn beat(&mut self, now: f64) {
        let (send, expect) = self.core.cn.beats;
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let times = &mut self.times;
        if expect != 0
            && times
                .heard
                .is_some_and(|at| now - at > 2.0 * seconds(expect))
        {
            return self.lost();
        }
        if send != 0 && now - times.spoke >= seconds(send) / 2.0 {
            self.core.cn.output.ready().push(b'\n');
            times.spoke = now;
        }
    }
}
