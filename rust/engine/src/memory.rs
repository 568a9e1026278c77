//! How much memory waiting messages take, and when that is too much.
//!
//! Only messages that live on the heap alone count: those of queues without a journal, and transient ones of durable
//! queues, ready or in a schedule. Durable backlogs stay in the journal (`QUEUE_HEAP_BYTES`). While the sum is over the limit publishers are refused with [`Error::Busy`](crate::Error),
//! consumers go on, and publishing resumes by itself when it has fallen to [`RESUME_PERCENT`] of the limit.
//!
//! Every publisher and every taker adds here, so the sum is spread over cache lines by thread, and added up only when
//! a line's part has moved by [`STEP_BYTES`]. It is therefore late by at most `SHARDS * STEP_BYTES`, which is why
//! limits below [`LIMIT_BYTES_MIN`] are refused.
//!
//! The limit can be changed at any time. A limit of nothing makes publishers wait whatever there is: an operator's way to
//! stop them.
//!
//! All counting is Relaxed: the numbers stand for themselves. `over` is a flag that publishers poll; who sees it late
//! publishes one message more. It is written under `judging`, so that of two looks at sum and limit the later one counts.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::Error;

const SHARDS: usize = 8;
const STEP_BYTES: i64 = 64 << 10;

/// The smallest limit that can be kept with some precision.
pub const LIMIT_BYTES_MIN: u64 = 4 << 20;

/// Publishing resumes when memory has fallen to this part of the limit, so that publishers are not stopped and let go
/// for every message.
const RESUME_PERCENT: i64 = 90;

/// The part of the machine's (or control group's) memory that waiting messages may take if nothing else is said:
/// RabbitMQ's default watermark.
const DEFAULT_PERCENT: u64 = 60;

const NO_LIMIT: i64 = i64::MAX;

#[repr(align(64))]
#[derive(Default)]
struct Shard(AtomicI64);

pub(crate) struct Meter {
    shards: [Shard; SHARDS],
    /// [`NO_LIMIT`] for none.
    limit_bytes: AtomicI64,
    over: AtomicBool,
    /// Held by who decides about `over`, and by who waits for it.
    judging: Mutex<()>,
    resumed: Condvar,
}

/// Spreads threads over shards; which one a thread gets has no meaning.
pub(crate) fn shard_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: usize = NEXT.fetch_add(1, Relaxed) % SHARDS);
    MINE.with(|mine| *mine)
}

fn checked(limit_bytes: u64) -> Result<i64, Error> {
    if limit_bytes != 0 && limit_bytes < LIMIT_BYTES_MIN {
        return Err(Error::InvalidArgument(format!(
            "memory limit below {LIMIT_BYTES_MIN} bytes cannot be kept with any precision: give more, or 0 to make publishers wait"
        )));
    }
    Ok(i64::try_from(limit_bytes).unwrap_or(NO_LIMIT))
}

impl Meter {
    /// `limit_bytes` is none for no limit.
    pub(crate) fn new(limit_bytes: Option<u64>) -> Result<Meter, Error> {
        let limit_bytes = limit_bytes.map_or(Ok(NO_LIMIT), checked)?;
        Ok(Meter {
            shards: Default::default(),
            limit_bytes: AtomicI64::new(limit_bytes),
            over: AtomicBool::new(limit_bytes == 0),
            judging: Mutex::new(()),
            resumed: Condvar::new(),
        })
    }

    /// Changes the limit. True when memory is under it now and was over the one before.
    pub(crate) fn set_limit(&self, limit_bytes: u64) -> Result<bool, Error> {
        let limit_bytes = checked(limit_bytes)?;
        let _judging = self.judging.lock();
        self.limit_bytes.store(limit_bytes, Relaxed);
        let over = limit_bytes == 0 || self.sum() > limit_bytes;
        let was_over = self.over.swap(over, Relaxed);
        if !over {
            self.resumed.notify_all();
        }
        Ok(was_over && !over)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    pub(crate) fn limit_bytes(&self) -> Option<u64> {
        match self.limit_bytes.load(Relaxed) {
            NO_LIMIT => None,
            limit => Some(limit as u64),
        }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.sum().max(0) as u64
    }

    fn sum(&self) -> i64 {
        self.shards.iter().map(|shard| shard.0.load(Relaxed)).sum()
    }

    /// True when this brought memory back under the limit: whoever waits wants to hear of it.
    #[must_use]
    pub(crate) fn add(&self, bytes: i64) -> bool {
        let old = self.shards[shard_index()].0.fetch_add(bytes, Relaxed);
        if old / STEP_BYTES == (old + bytes) / STEP_BYTES && !(bytes < 0 && self.is_over()) {
            return false;
        }
        self.judge()
    }

    /// Compares sum and limit. True when that let publishers go on.
    fn judge(&self) -> bool {
        if self.should_be_over() == self.is_over() {
            return false;
        }
        let _judging = self.judging.lock();
        let over = self.should_be_over();
        let was_over = self.over.swap(over, Relaxed);
        if !over {
            self.resumed.notify_all();
        }
        was_over && !over
    }

    fn should_be_over(&self) -> bool {
        let limit = self.limit_bytes.load(Relaxed);
        let most = if self.is_over() {
            limit / 100 * RESUME_PERCENT
        } else {
            limit
        };
        limit == 0 || self.sum() > most
    }

    /// False when the time is over.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut judging = self.judging.lock();
        match timeout {
            None => {
                self.resumed.wait_while(&mut judging, |()| self.is_over());
                true
            }
            Some(timeout) => !self
                .resumed
                .wait_while_for(&mut judging, |()| self.is_over(), timeout)
                .timed_out(),
        }
    }

    /// The broker closes: nobody waits for memory any more.
    pub(crate) fn release(&self) {
        let _judging = self.judging.lock();
        self.limit_bytes.store(NO_LIMIT, Relaxed);
        self.over.store(false, Relaxed);
        self.resumed.notify_all();
    }
}

/// The default limit: a part of what the machine, or this process's control group, has. None where that is not known.
pub(crate) fn default_limit_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_whitespace()
                .nth(1)?
                .parse::<u64>()
                .ok()?
                .checked_mul(1024)
        });
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let bytes = machine.into_iter().chain(group).min()?;
    Some((bytes / 100 * DEFAULT_PERCENT).max(LIMIT_BYTES_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_at_the_limit_and_back_below_it() {
        let meter = Meter::new(Some(LIMIT_BYTES_MIN)).unwrap();
        let step = 100_000;
        let mut used = 0;
        while !meter.is_over() {
            assert!(!meter.add(step));
            used += step;
            assert!(used <= LIMIT_BYTES_MIN as i64 + STEP_BYTES + step);
        }
        assert!(used > LIMIT_BYTES_MIN as i64);
        let mut resumed = 0;
        while used > 0 {
            resumed += usize::from(meter.add(-step));
            used -= step;
        }
        assert_eq!(
            (resumed, meter.is_over(), meter.used_bytes()),
            (1, false, 0)
        );
    }

    #[test]
    fn without_a_limit_it_is_never_over() {
        let meter = Meter::new(None).unwrap();
        assert!(!meter.add(1 << 60));
        assert!(!meter.is_over());
        assert_eq!((meter.used_bytes(), meter.limit_bytes()), (1 << 60, None));
    }

    #[test]
    fn a_new_limit_counts_at_once() {
        let meter = Meter::new(Some(10 * LIMIT_BYTES_MIN)).unwrap();
        let used = 2 * LIMIT_BYTES_MIN as i64;
        let _ = meter.add(used);
        assert!(!meter.set_limit(LIMIT_BYTES_MIN).unwrap());
        assert!(meter.is_over());
        // Once it is under the new one it is under, however near.
        assert!(meter.set_limit(used as u64).unwrap());
        assert!(!meter.is_over());
        assert!(!meter.set_limit(LIMIT_BYTES_MIN).unwrap());
        assert!(meter.set_limit(10 * LIMIT_BYTES_MIN).unwrap());
        assert!(!meter.set_limit(20 * LIMIT_BYTES_MIN).unwrap()); // it was not over
        assert_eq!(meter.limit_bytes(), Some(20 * LIMIT_BYTES_MIN));
    }

    #[test]
    fn a_limit_of_nothing_is_always_over() {
        let meter = Meter::new(None).unwrap();
        assert!(!meter.set_limit(0).unwrap());
        assert!(meter.is_over());
        let _ = meter.add(STEP_BYTES);
        assert!(!meter.add(-STEP_BYTES));
        assert!(meter.is_over());
        assert!(meter.set_limit(LIMIT_BYTES_MIN).unwrap());
        assert!(!meter.is_over());
        assert!(Meter::new(Some(0)).unwrap().is_over());
    }

    #[test]
    fn a_new_limit_lets_go_who_waits() {
        let meter = Meter::new(Some(0)).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| meter.wait(None));
            assert!(meter.set_limit(LIMIT_BYTES_MIN).unwrap());
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn who_waits_is_let_go() {
        let meter = Meter::new(Some(LIMIT_BYTES_MIN)).unwrap();
        let _ = meter.add(2 * LIMIT_BYTES_MIN as i64);
        assert!(!meter.wait(Some(Duration::ZERO)));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| meter.wait(None));
            assert!(meter.add(-2 * LIMIT_BYTES_MIN as i64) || meter.is_over());
            if meter.is_over() {
                meter.release(); // the two adds went to different shards and cancelled out later
            }
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn a_limit_too_small_to_keep_is_refused() {
        assert!(Meter::new(Some(1)).is_err());
        assert!(Meter::new(None).unwrap().set_limit(1).is_err());
    }
}
