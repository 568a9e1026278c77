//! What all sessions of one server share: the broker, the limits, the table of permissions, the alarms, the counts of
//! who is connected, and the inboxes of direct replies.
//!
//! Everything may be called from any thread. Only [`FrontEnd::admit`] and the end of an admission take a lock, and only
//! for a few map operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use wherry_engine::{Broker, OwnerId};

use crate::access::{Access, AccessCell, AccessTable};
use crate::failure::{Failure, FailureKind};
use crate::faults::Faults;
use crate::limits::Limits;
use crate::replies::Replies;

/// The first owner of exclusive queues that is a connection. Below are owners that are part of the process, such as the
/// embedding program.
const FIRST_OWNER: OwnerId = 1 << 16;

/// How the server introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it is.
    pub product: String,
    /// Which one.
    pub version: String,
    /// The name that clients show for the installation.
    pub cluster_name: String,
    /// What it runs on.
    pub platform: String,
    /// Whose it is.
    pub copyright: String,
    /// Where to read on.
    pub information: String,
    /// What clients may authenticate with. `EXTERNAL` is for those with a verified certificate only, and for them the
    /// first choice.
    pub mechanisms: Vec<String>,
}

impl Identity {
    /// What a client may choose from, in the order in which it should prefer them.
    pub fn mechanisms_for(&self, has_certificate: bool) -> impl Iterator<Item = &str> {
        let external = |name: &&String| *name == "EXTERNAL";
        let first = self.mechanisms.iter().filter(external);
        let others = self.mechanisms.iter().filter(move |name| !external(name));
        first
            .filter(move |_| has_certificate)
            .chain(others)
            .map(String::as_str)
    }
}

impl Default for Identity {
    fn default() -> Self {
        Identity {
            product: "Wherry".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            cluster_name: "wherry@localhost".into(),
            platform: "Rust".into(),
            copyright: "The Wherry authors".into(),
            information: "Licensed under the Apache License 2.0".into(),
            mechanisms: ["PLAIN", "AMQPLAIN", "EXTERNAL"].map(String::from).into(),
        }
    }
}

/// What is short. While anything is, sessions that publish are not read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Messages waiting in memory are over the watermark.
    pub memory: bool,
    /// Free space on the disk is under its limit.
    pub disk: bool,
}

impl Alarms {
    /// Whether anything is short.
    pub fn any(self) -> bool {
        self.memory || self.disk
    }
}

/// A count that only grows. Relaxed: it is read for people.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Sessions add up what they did in one call and add it once: the counter's cache line is everybody's.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the sessions of a server did since it started.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each name says what it counts")]
pub struct FrontCounters {
    pub connections_opened: Counter,
    pub connections_closed: Counter,
    pub channels_opened: Counter,
    pub channels_closed: Counter,
    pub logins_refused: Counter,
    pub published: Counter,
    pub confirmed: Counter,
    pub refused: Counter,
    pub returned: Counter,
    pub delivered: Counter,
    pub acknowledged: Counter,
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
}

#[derive(Default)]
struct OfUser {
    connections: u64,
    channels: u64,
}

#[derive(Default)]
struct Admitted {
    connections: u64,
    users: HashMap<Arc<str>, OfUser, RandomState>,
    virtual_hosts: HashMap<Arc<str>, u64, RandomState>,
}

/// One per server.
pub struct FrontEnd {
    broker: Arc<Broker>,
    limits: Limits,
    identity: Identity,
    access: Arc<AccessCell>,
    /// Bit 0 memory, bit 1 disk. Relaxed: whoever sees a change late is told by the server, which resumes sessions.
    alarms: AtomicU8,
    admitted: Mutex<Admitted>,
    next_owner: AtomicU64,
    replies: Replies,
    faults: Faults,
    counters: FrontCounters,
}

impl FrontEnd {
    /// For a broker. Without a table of permissions nobody may do anything: see [`FrontEnd::set_access`].
    pub fn new(broker: Arc<Broker>, limits: Limits, identity: Identity) -> Arc<FrontEnd> {
        Arc::new(FrontEnd {
            broker,
            limits,
            identity,
            access: Arc::new(AccessCell::new()),
            alarms: AtomicU8::new(0),
            admitted: Mutex::default(),
            next_owner: AtomicU64::new(FIRST_OWNER),
            replies: Replies::default(),
            faults: Faults::default(),
            counters: FrontCounters::default(),
        })
    }

    /// The broker behind it.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// The server's limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How the server introduces itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The table in force.
    pub fn access(&self) -> Arc<AccessTable> {
        self.access.load()
    }

    /// Puts another table in force; sessions see it at their next check.
    pub fn set_access(&self, table: AccessTable) {
        self.access.set(table);
    }

    /// What a user may do in a virtual host: for one session, after authentication.
    pub fn access_for(&self, user: &str, virtual_host: &str) -> Access {
        Access::new(self.access.clone(), user, virtual_host)
    }

    /// What is short now.
    #[inline]
    pub fn alarms(&self) -> Alarms {
        let bits = self.alarms.load(Ordering::Relaxed);
        Alarms {
            memory: bits & 1 != 0,
            disk: bits & 2 != 0,
        }
    }

    /// Says what is short. Wakes nobody: the server resumes its sessions after it.
    pub fn set_alarms(&self, alarms: Alarms) {
        let bits = u8::from(alarms.memory) | u8::from(alarms.disk) << 1;
        self.alarms.store(bits, Ordering::Relaxed);
    }

    /// Counts a connection in, if every limit allows it. It is counted until the admission is dropped.
    ///
    /// # Errors
    /// [`FailureKind::NotAllowed`] with the limit that is reached.
    pub fn admit(self: &Arc<Self>, user: &str, virtual_host: &str) -> Result<Admission, Failure> {
        let table = self.access.load();
        let of_user = table.limits_of_user(user).connections_max;
        let of_host = table.limits_of_virtual_host(virtual_host).connections_max;
        let user_max = of_user.unwrap_or(self.limits.connections_per_user_max);
        let host_max = of_host.unwrap_or(self.limits.connections_per_virtual_host_max);
        let refused = |text| Err(Failure::new(FailureKind::NotAllowed, text));

        let mut admitted = self.admitted.lock();
        if admitted.connections >= self.limits.connections_max {
            return refused(format!(
                "connection refused: node connection limit ({}) is reached",
                self.limits.connections_max
            ));
        }
        if admitted
            .virtual_hosts
            .get(virtual_host)
            .copied()
            .unwrap_or(0)
            >= host_max
        {
            return refused(format!(
                "access to vhost '{virtual_host}' refused for user '{user}': connection limit ({host_max}) is reached"
            ));
        }
        if admitted.users.get(user).map_or(0, |u| u.connections) >= user_max {
            return refused(format!(
                "connection refused for user '{user}': user connection limit ({user_max}) is reached"
            ));
        }
        admitted.connections += 1;
        let user: Arc<str> = user.into();
        let virtual_host: Arc<str> = virtual_host.into();
        admitted.users.entry(user.clone()).or_default().connections += 1;
        *admitted
            .virtual_hosts
            .entry(virtual_host.clone())
            .or_default() += 1;
        drop(admitted);
        Ok(Admission {
            front: self.clone(),
            user,
            virtual_host,
        })
    }

    /// Whether a virtual host may have one more queue. How many it has is asked only where there is a limit: counting visits
    /// every queue.
    ///
    /// # Errors
    /// [`FailureKind::PreconditionFailed`] with the limit.
    pub fn check_queue_room(
        &self,
        virtual_host: &str,
        queue: &str,
        queues_now: impl FnOnce() -> u64,
    ) -> Result<(), Failure> {
        let own = self.access.load().limits_of_virtual_host(virtual_host);
        let max = own
            .queues_max
            .unwrap_or(self.limits.queues_per_virtual_host_max);
        if max == u64::MAX || queues_now() < max {
            return Ok(());
        }
        Err(Failure::precondition_failed(format!(
            "cannot declare queue '{queue}': queue limit in vhost '{virtual_host}' ({max}) is reached"
        )))
    }

    /// An owner of exclusive queues that nobody was before.
    pub fn next_owner(&self) -> OwnerId {
        self.next_owner.fetch_add(1, Ordering::Relaxed)
    }

    /// The inboxes of direct replies.
    pub fn replies(&self) -> &Replies {
        &self.replies
    }

    /// Faults on purpose.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What the sessions did.
    pub fn counters(&self) -> &FrontCounters {
        &self.counters
    }

    /// Connections that are counted in.
    pub fn connections(&self) -> u64 {
        self.admitted.lock().connections
    }
}

impl std::fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontEnd")
            .field("connections", &self.connections())
            .field("alarms", &self.alarms())
            .finish_non_exhaustive()
    }
}

/// A connection that is counted in.
pub struct Admission {
    front: Arc<FrontEnd>,
    user: Arc<str>,
    virtual_host: Arc<str>,
}

impl Admission {
    /// Counts a channel in, if the user's limit over all connections allows it.
    ///
    /// # Errors
    /// [`FailureKind::NotAllowed`] with the limit.
    pub fn open_channel(&self) -> Result<ChannelAdmission, Failure> {
        let max = self
            .front
            .access
            .load()
            .limits_of_user(&self.user)
            .channels_max;
        let mut admitted = self.front.admitted.lock();
        if let Some(of_user) = admitted.users.get_mut(&self.user) {
            if let Some(max) = max
                && of_user.channels >= max
            {
                return Err(Failure::new(
                    FailureKind::NotAllowed,
                    format!(
                        "number of channels opened for user '{}' has reached the maximum allowed user limit of ({max})",
                        self.user
                    ),
                ));
            }
            of_user.channels += 1;
        }
        drop(admitted);
        Ok(ChannelAdmission {
            front: self.front.clone(),
            user: self.user.clone(),
        })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut admitted = self.front.admitted.lock();
        admitted.connections -= 1;
        if let Some(count) = admitted.virtual_hosts.get_mut(&self.virtual_host) {
            *count -= 1;
            if *count == 0 {
                admitted.virtual_hosts.remove(&self.virtual_host);
            }
        }
        if let Some(of_user) = admitted.users.get_mut(&self.user) {
            of_user.connections -= 1;
        }
        forget_idle(&mut admitted, &self.user);
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admission({} in {})", self.user, self.virtual_host)
    }
}

/// A channel that is counted in. It may outlive its connection's admission.
pub struct ChannelAdmission {
    front: Arc<FrontEnd>,
    user: Arc<str>,
}

impl Drop for ChannelAdmission {
    fn drop(&mut self) {
        let mut admitted = self.front.admitted.lock();
        if let Some(of_user) = admitted.users.get_mut(&self.user) {
            of_user.channels -= 1;
        }
        forget_idle(&mut admitted, &self.user);
    }
}

impl std::fmt::Debug for ChannelAdmission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChannelAdmission({})", self.user)
    }
}

/// Nothing is kept for who is not connected.
fn forget_idle(admitted: &mut Admitted, user: &str) {
    if admitted
        .users
        .get(user)
        .is_some_and(|u| u.connections == 0 && u.channels == 0)
    {
        admitted.users.remove(user);
    }
}
