//! Real and virtual time, in nanoseconds since the UNIX epoch.
//!
//! Everything in the engine that asks "what time is it" asks a [`Clock`], so that a test can own the time.
//! A real clock reads the wall clock once, when it is made, and from then on adds what the monotonic clock says has
//! passed: it never goes back, and an administrator who sets the wall clock does not expire a million messages.
//! A virtual clock stands still until it is told to move.
//!
//! Who may call: any thread, any method. Progress: wait-free.
//! Not promised: that a real clock follows corrections of the wall clock after the start, that it counts the time a
//! machine was suspended, or that two real clocks made at different moments agree to the nanosecond.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of time, cheap to clone; clones of a virtual clock move together.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The wall time of the zero point of the monotonic clock.
    Real { epoch_ns: u64 },
    /// Written by `advance` and `set` only, and only upwards.
    Virtual(Arc<AtomicU64>),
}

/// The clock is real: time cannot be moved by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotVirtual;

impl fmt::Display for NotVirtual {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the clock is real: only a virtual clock can be moved")
    }
}

impl std::error::Error for NotVirtual {}

impl Clock {
    /// A clock that starts at the wall time of now and runs by the monotonic clock.
    #[must_use]
    pub fn real() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let epoch_ns = as_ns(wall).saturating_sub(monotonic::now_ns());
        Self {
            source: Source::Real { epoch_ns },
        }
    }

    /// A clock that stands at `start_ns` until it is moved.
    #[must_use]
    pub fn virtual_at(start_ns: u64) -> Self {
        Self {
            source: Source::Virtual(Arc::new(AtomicU64::new(start_ns))),
        }
    }

    /// Whether this clock stands still until it is moved.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        matches!(self.source, Source::Virtual(_))
    }

    /// The time now.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        match &self.source {
            Source::Real { epoch_ns } => epoch_ns + monotonic::now_ns(),
            // Pairs with the Release part of `advance` and `set`.
            Source::Virtual(now) => now.load(Ordering::Acquire),
        }
    }

    /// The time of the operating system's last tick: at most some milliseconds (a tick: 1 to 10 ms) behind
    /// [`now_ns`](Self::now_ns), monotone in itself, and several times cheaper. Good for stamps, not for deadlines.
    /// On a virtual clock, and where the system has no such clock, the same as `now_ns`.
    #[must_use]
    pub fn now_ns_coarse(&self) -> u64 {
        match &self.source {
            Source::Real { epoch_ns } => epoch_ns + monotonic::now_ns_coarse(),
            Source::Virtual(_) => self.now_ns(),
        }
    }

    /// Moves a virtual clock forward and returns its new time. Fires nothing: that is the timer's work
    /// ([`Timer::run_virtual`](crate::timer::Timer::run_virtual)).
    ///
    /// # Errors
    /// [`NotVirtual`] on a real clock.
    pub fn advance(&self, by: Duration) -> Result<u64, NotVirtual> {
        match &self.source {
            Source::Real { .. } => Err(NotVirtual),
            Source::Virtual(now) => {
                let add = |old: u64| Some(old.saturating_add(as_ns(by)));
                // AcqRel pairs with the Acquire load of `now_ns`: who sees the new time sees what was done before it.
                let old = now
                    .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
                    .unwrap_or_else(|old| old);
                Ok(old.saturating_add(as_ns(by)))
            }
        }
    }

    /// Moves a virtual clock forward to `to_ns` and returns its time; a time in the past changes nothing.
    ///
    /// # Errors
    /// [`NotVirtual`] on a real clock.
    pub fn set(&self, to_ns: u64) -> Result<u64, NotVirtual> {
        match &self.source {
            Source::Real { .. } => Err(NotVirtual),
            // AcqRel as in `advance`.
            Source::Virtual(now) => Ok(now.fetch_max(to_ns, Ordering::AcqRel).max(to_ns)),
        }
    }
}

/// `duration` in nanoseconds; the 584 years that fit are the longest there is.
fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(target_os = "linux")]
mod monotonic {
    pub(super) fn now_ns() -> u64 {
        read(libc::CLOCK_MONOTONIC)
    }

    pub(super) fn now_ns_coarse() -> u64 {
        read(libc::CLOCK_MONOTONIC_COARSE)
    }

    fn read(clock: libc::clockid_t) -> u64 {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a valid, exclusively borrowed timespec for the whole call, and nothing else is touched.
        let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
        assert_eq!(failed, 0, "both clocks exist since Linux 2.6.32");
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

#[cfg(not(target_os = "linux"))]
mod monotonic {
    use std::sync::LazyLock;
    use std::time::Instant;

    /// `Instant` has no zero point of its own; any fixed one does, as only differences are used.
    static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn now_ns() -> u64 {
        super::as_ns(ZERO.elapsed())
    }

    pub(super) fn now_ns_coarse() -> u64 {
        now_ns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_is_near_the_wall_clock_and_never_goes_back() {
        let clock = Clock::real();
        let wall_ns = as_ns(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        assert!(clock.now_ns().abs_diff(wall_ns) < 1_000_000_000);
        let mut last_ns = 0;
        let mut last_coarse_ns = 0;
        for _ in 0..10_000 {
            let now_ns = clock.now_ns();
            assert!(now_ns >= last_ns);
            last_ns = now_ns;
            let coarse_ns = clock.now_ns_coarse();
            assert!(coarse_ns >= last_coarse_ns);
            assert!(coarse_ns <= clock.now_ns());
            last_coarse_ns = coarse_ns;
        }
        assert!(!clock.is_virtual());
    }

    #[test]
    fn real_time_cannot_be_moved() {
        assert_eq!(
            Clock::real().advance(Duration::from_secs(1)),
            Err(NotVirtual)
        );
        assert_eq!(Clock::real().set(u64::MAX), Err(NotVirtual));
    }

    #[test]
    fn virtual_time_moves_by_hand_only_forward_and_for_all_clones() {
        let clock = Clock::virtual_at(100);
        let twin = clock.clone();
        assert!(twin.is_virtual());
        assert_eq!(clock.advance(Duration::from_nanos(20)), Ok(120));
        assert_eq!((twin.now_ns(), twin.now_ns_coarse()), (120, 120));
        assert_eq!(twin.set(50), Ok(120));
        assert_eq!(twin.set(150), Ok(150));
        assert_eq!(clock.now_ns(), 150);
        assert_eq!(clock.advance(Duration::MAX), Ok(u64::MAX));
    }
}
