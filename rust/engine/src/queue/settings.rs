//! The settings of a queue that policies may change while it is in use.
//!
//! What publishers and consumers ask for with every message is here as numbers that are read one by one, without a lock
//! and without following a pointer; all else is in one description, behind a lock that nobody holds for longer than it
//! takes to copy a pointer. A change stores the numbers one after the other, and who works meanwhile may see some of them
//! changed and others not yet. That is no harm as long as each decision needs one number only; so a limit of length is
//! one number with what happens at it.
//!
//! Relaxed everywhere: no number leads to other memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::RwLock;

use crate::options::{Overflow, QueueOptions};
use crate::policy::InForce;

/// Nothing is above it: what a limit of length is where there is none.
const UNLIMITED: u64 = u64::MAX >> OVERFLOW_BITS;
const OVERFLOW_BITS: u32 = 2;

/// For times of which zero is one.
const NEVER: u64 = u64::MAX;

/// Set in `flags` where a message whose handling failed may be dead or have to wait.
const JUDGES: u8 = 1;
/// Set in `flags` where the queue is deleted when nobody uses it.
const EXPIRES: u8 = 2;

/// A number of messages or bytes, and what happens there.
struct Limit(AtomicU64);

impl Limit {
    fn word(most: Option<u64>, overflow: Overflow) -> u64 {
        most.map_or(UNLIMITED, |n| n.min(UNLIMITED - 1)) << OVERFLOW_BITS | overflow as u64
    }

    /// The limit if what happens there is refusing, or else dropping the oldest.
    #[inline]
    fn get(&self, refusing: bool) -> u64 {
        let word = self.0.load(Relaxed);
        let refuses = word & ((1 << OVERFLOW_BITS) - 1) != Overflow::DropHead as u64;
        if refuses == refusing {
            word >> OVERFLOW_BITS
        } else {
            UNLIMITED
        }
    }
}

pub(crate) struct Settings {
    length: Limit,
    bytes: Limit,
    message_ttl_ns: AtomicU64,
    /// 0: none.
    lease_ns: AtomicU64,
    flags: AtomicU8,
    /// What policies made of the declaration, if any act. Changed under the topology lock.
    in_force: RwLock<Option<Arc<InForce>>>,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER - 1)
}

fn ttl_ns(options: &QueueOptions) -> u64 {
    options.message_ttl.map_or(NEVER, nanos)
}

fn flags(options: &QueueOptions) -> u8 {
    let judges = options.delivery_limit.is_some() || options.retry.is_some();
    let mut flags = if judges { JUDGES } else { 0 };
    if options.expires.is_some() {
        flags |= EXPIRES;
    }
    flags
}

impl Settings {
    pub(crate) fn new(declared: &QueueOptions, in_force: Option<Arc<InForce>>) -> Settings {
        let options = in_force.as_ref().map_or(declared, |one| &one.options);
        let limit = |most| Limit(AtomicU64::new(Limit::word(most, options.overflow)));
        Settings {
            length: limit(options.max_length),
            bytes: limit(options.max_length_bytes),
            message_ttl_ns: AtomicU64::new(ttl_ns(options)),
            lease_ns: AtomicU64::new(options.lease.map_or(0, nanos)),
            flags: AtomicU8::new(flags(options)),
            in_force: RwLock::new(in_force),
        }
    }

    /// Puts others in force; what was before.
    pub(crate) fn change(
        &self,
        declared: &QueueOptions,
        in_force: Option<Arc<InForce>>,
    ) -> Option<Arc<InForce>> {
        let mut place = self.in_force.write();
        let options = in_force.as_ref().map_or(declared, |one| &one.options);
        let limit = |most| Limit::word(most, options.overflow);
        self.length.0.store(limit(options.max_length), Relaxed);
        self.bytes.0.store(limit(options.max_length_bytes), Relaxed);
        self.message_ttl_ns.store(ttl_ns(options), Relaxed);
        let lease_ns = options.lease.map_or(0, nanos);
        self.lease_ns.store(lease_ns, Relaxed);
        self.flags.store(flags(options), Relaxed);
        std::mem::replace(&mut *place, in_force)
    }

    pub(crate) fn in_force(&self) -> Option<Arc<InForce>> {
        self.in_force.read().clone()
    }

    /// Messages and bytes of those that are ready, above which the oldest are dropped.
    #[inline]
    pub(crate) fn drops_above(&self) -> (u64, u64) {
        (self.length.get(false), self.bytes.get(false))
    }

    /// Messages and bytes at which further ones are refused.
    #[inline]
    pub(crate) fn refuses_at(&self) -> (u64, u64) {
        (self.length.get(true), self.bytes.get(true))
    }

    #[inline]
    pub(crate) fn has_limit(limits: (u64, u64)) -> bool {
        limits != (UNLIMITED, UNLIMITED)
    }

    /// When a message that came at this time has waited for too long; 0 = never.
    #[inline]
    pub(crate) fn deadline(&self, facts: &crate::message::Facts) -> u64 {
        match self.message_ttl_ns.load(Relaxed) {
            NEVER => facts.expires_ns,
            ttl_ns => super::earlier(facts, ttl_ns),
        }
    }

    #[inline]
    pub(crate) fn lease(&self) -> Option<Duration> {
        match self.lease_ns.load(Relaxed) {
            0 => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    #[inline]
    pub(crate) fn judges(&self) -> bool {
        self.flags.load(Relaxed) & JUDGES != 0
    }

    #[inline]
    pub(crate) fn expires(&self) -> bool {
        self.flags.load(Relaxed) & EXPIRES != 0
    }
}
