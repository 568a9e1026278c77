//! What a session knows of its connection, and how it is opened.
//!
//! ```text
//! Waiting --CONNECT--> Authenticating --authenticated--> Running --DISCONNECT--> Leaving --all durable--> Closed
//!    |                        |                             |
//!    +---- error -------------+---- refused ----------------+---- error --> Closed
//! ```
//!
//! Every error is an ERROR frame and the end: STOMP has no other answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use wherry_engine::{Notify, OwnerId, Queue, Ticket, VirtualHost};
use wherry_session::{
    Access, Admission, ChannelAdmission, Credentials, ExclusiveQueues, Failure, FailureKind,
    FrontEnd, Limits, Pause, Peer, Secret, Stint, Traffic, Wakeups, random_name,
};

use super::output::Output;
use super::refusal::{Refusal, shown};
use super::send::Stuck;
use super::{Settings, headers};
use crate::codec::{
    Escapes, Frame, FrameLimits, Version, write_end, write_head, write_header, write_text_header,
};

/// Milliseconds between two of our heart-beats that we can promise: the server looks once a second.
const BEAT_MS_MIN: u64 = 2000;

/// Milliseconds of a heart-beat that a client may ask for: more than a day is none.
const BEAT_MS_MAX: u64 = 86_400_000;

/// Bytes of command and headers before login, and of a body, which no frame of the handshake has. RabbitMQ's.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// Bytes of command and headers. RabbitMQ's for a whole frame.
const HEAD_BYTES_MAX: usize = 4 << 20;

/// Queues that a connection remembers to have declared. Who uses more declares some of them again.
const DECLARED_MAX: usize = 256;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// CONNECT must come.
    Waiting,
    /// The server is asked about the credentials.
    Authenticating,
    Running,
    /// DISCONNECT came; its receipt waits for the disk.
    Leaving,
    /// Flush and close.
    Closed,
}

impl Phase {
    /// RabbitMQ's words, as far as it has them.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Phase::Waiting => "starting",
            Phase::Authenticating => "securing",
            Phase::Running => "running",
            Phase::Leaving => "closing",
            Phase::Closed => "closed",
        }
    }
}

/// What login gave.
pub(super) struct Open {
    pub(super) host: Arc<VirtualHost>,
    pub(super) access: Access,
    /// Of the permissions under which the user was known last.
    access_version: u64,
    /// Count the connection, and the one channel that it is like, until they are dropped.
    _admission: (Admission, ChannelAdmission),
}

/// Everything of a connection but its subscriptions and transactions.
pub(super) struct Connection {
    pub(super) front: Arc<FrontEnd>,
    settings: Arc<Settings>,
    pub(super) wakeups: Arc<Wakeups>,
    pub(super) peer: Peer,
    pub(super) owner: OwnerId,
    pub(super) phase: Phase,
    pub(super) pause: Pause,
    pub(super) stint: Stint,
    pub(super) version: Version,
    /// The virtual host that CONNECT named.
    host: Option<String>,
    pub(super) user: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) open: Option<Open>,
    /// Part of every message-id.
    pub(super) session: String,
    /// Milliseconds between what we send and between what the client sends; 0 is none.
    pub(super) beats: (u64, u64),
    pub(super) output: Output,
    /// What was durable when we looked last.
    pub(super) durable: Ticket,
    /// Of everything that was done here.
    pub(super) latest: Ticket,
    /// A publish or commit for which there was no room.
    pub(super) stuck: Option<Stuck>,
    /// Subscriptions that may have something to deliver, in the order in which they are served.
    pub(super) ready: VecDeque<u32>,
    pub(super) exclusive: ExclusiveQueues,
    /// Queues of `/queue` destinations that were declared here.
    declared: HashMap<Box<str>, Arc<Queue>>,
    pub(super) traffic: Traffic,
    /// Something came since the last tick.
    pub(super) heard: bool,
    /// Something was sent since the last tick.
    pub(super) spoke: bool,
}

/// The limits of frames before login.
pub(super) fn handshake_limits(limits: &Limits) -> FrameLimits {
    FrameLimits {
        head_bytes_max: HANDSHAKE_BYTES_MAX,
        body_bytes_max: HANDSHAKE_BYTES_MAX,
        ..frame_limits(limits)
    }
}

/// The limits of frames after login.
pub(super) fn frame_limits(limits: &Limits) -> FrameLimits {
    FrameLimits {
        command_bytes_max: 32,
        headers_max: 100,
        header_bytes_max: 100 << 10,
        head_bytes_max: HEAD_BYTES_MAX,
        body_bytes_max: usize::try_from(limits.message_bytes_max).unwrap_or(usize::MAX >> 1),
    }
}

impl Connection {
    pub(super) fn new(
        front: Arc<FrontEnd>,
        settings: Arc<Settings>,
        peer: Peer,
        notify: Arc<dyn Notify>,
        token: u64,
    ) -> Connection {
        let owner = front.next_owner();
        Connection {
            wakeups: Arc::new(Wakeups::new(notify, token)),
            owner,
            front,
            settings,
            peer,
            phase: Phase::Waiting,
            pause: Pause::default(),
            stint: Stint::default(),
            version: Version::V1_0,
            host: None,
            user: String::new(),
            credentials: None,
            open: None,
            session: String::new(),
            beats: (0, 0),
            output: Output::default(),
            durable: Ticket::NONE,
            latest: Ticket::NONE,
            stuck: None,
            ready: VecDeque::new(),
            exclusive: ExclusiveQueues::new(owner),
            declared: HashMap::new(),
            traffic: Traffic::default(),
            heard: false,
            spoke: false,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        self.front.limits()
    }

    pub(super) fn escapes(&self) -> Escapes {
        self.version.escapes()
    }

    /// Only frames behind CONNECT ask.
    pub(super) fn open(&self) -> Result<&Open, Failure> {
        self.open
            .as_ref()
            .ok_or_else(|| Failure::new(FailureKind::ChannelError, "not connected"))
    }

    /// CONNECT or STOMP.
    pub(super) fn connect(&mut self, frame: &Frame<'_>) -> Result<(), Refusal> {
        self.version = match frame.header("accept-version") {
            None => Version::V1_0,
            Some(list) => Version::highest_common(&list).ok_or_else(|| {
                Refusal::new(
                    "Version mismatch",
                    format!("Supported versions are {}\n", Version::ALL),
                )
            })?,
        };
        if let Some(pair) = frame.header("heart-beat") {
            let (send, expect) = heart_beat(&pair)?;
            let agreed = |ms: u64| if ms == 0 { 0 } else { ms.max(BEAT_MS_MIN) };
            self.beats = (agreed(expect), agreed(send));
        }
        self.host = frame.header("host").map(|host| host.into_owned());
        let login = frame.header("login");
        let passcode = frame.header("passcode");
        self.credentials = Some(match (login, passcode, &self.peer.certificate_name) {
            (None, None, Some(name)) => Credentials {
                mechanism: "EXTERNAL",
                user: name.clone(),
                password: Secret::default(),
            },
            (Some(login), Some(passcode), _) => Credentials {
                mechanism: "PLAIN",
                user: login.into_owned(),
                password: Secret::new(passcode.as_bytes()),
            },
            _ => {
                return Err(Refusal::new(
                    "Bad CONNECT",
                    "Missing login or passcode header(s)\n",
                ));
            }
        });
        self.phase = Phase::Authenticating;
        self.pause.set(Pause::CREDENTIALS);
        Ok(())
    }

    /// The virtual host that the client means. One of the name in its `host` header comes first, even if it is called like
    /// an address.
    fn virtual_host_name(&mut self) -> String {
        match self.host.take() {
            Some(host)
                if !self.settings.is_this_machine(&host)
                    || self.front.broker().virtual_host(&host).is_ok() =>
            {
                host
            }
            _ => self.settings.virtual_host.clone(),
        }
    }

    /// The server knows the user.
    pub(super) fn authenticated(&mut self, user: &str) -> Result<(), Refusal> {
        let name = self.virtual_host_name();
        let denied = || {
            Refusal::new(
                "Bad CONNECT",
                format!("Virtual host '{}' access denied", shown(&name)),
            )
        };
        let host = self
            .front
            .broker()
            .virtual_host(&name)
            .map_err(|_| denied())?;
        if !self.front.access().may_enter(user, &name) {
            return Err(denied());
        }
        let bad = |failure: Failure| Refusal::new("Bad CONNECT", shown(&failure.text));
        let admission = self.front.admit(user, &name).map_err(bad)?;
        let channel = admission.open_channel().map_err(bad)?;
        // Short, since it is in each message twice.
        self.session = format!("session-{}", random_name()?);
        self.user = user.to_string();
        let access = self.front.access_for(user, &name);
        self.open = Some(Open {
            host,
            access_version: access.version(),
            access,
            _admission: (admission, channel),
        });
        self.front.counters().connections_opened.add(1);
        self.phase = Phase::Running;
        self.write_connected();
        Ok(())
    }

    fn write_connected(&mut self) {
        let identity = self.front.identity();
        let server = format!("{}/{}", identity.product, identity.version);
        let out = self.output.ready();
        write_head("CONNECTED", out);
        write_header(b"server", server.as_bytes(), Escapes::None, out);
        write_text_header("session", &self.session, out);
        Output::write_pair("heart-beat", self.beats, out);
        write_text_header("version", self.version.as_str(), out);
        write_end(out);
    }

    /// The server does not.
    pub(super) fn refusal_of_login(&self) -> Refusal {
        let user = self.credentials.as_ref().map_or("", |c| c.user.as_str());
        Refusal::new(
            "Bad CONNECT",
            format!("Access refused for user '{}'", shown(user)),
        )
    }

    /// Why the client may not stay: its virtual host or its user is gone.
    pub(super) fn evicted(&mut self) -> Option<String> {
        let open = self.open.as_mut()?;
        if open.host.is_deleted() {
            return Some(format!("vhost '{}' is deleted", open.host.name()));
        }
        let version = open.access.version();
        if open.access_version != version {
            open.access_version = version;
            if !self.front.access().knows(&self.user) {
                return Some(format!("user '{}' is deleted", self.user));
            }
        }
        None
    }

    /// A queue of that name that this connection has declared, and that is there still.
    pub(super) fn declared(&self, name: &str) -> Option<Arc<Queue>> {
        let queue = self.declared.get(name)?;
        (!queue.is_deleted()).then(|| queue.clone())
    }

    pub(super) fn remember_declared(&mut self, queue: &Arc<Queue>) {
        if self.declared.len() >= DECLARED_MAX && !self.declared.contains_key(queue.name()) {
            self.declared.clear();
        }
        self.declared.insert(queue.name().into(), queue.clone());
    }

    /// The queues that live as long as the connection are deleted, and the connection is counted out.
    pub(super) fn leave_host(&mut self) {
        self.declared.clear();
        let Some(open) = self.open.take() else {
            return;
        };
        self.exclusive.delete_all(&open.host);
        self.front.counters().connections_closed.add(1);
    }
}

/// `heart-beat`: what the client sends and what it wants to get, in milliseconds.
fn heart_beat(pair: &str) -> Result<(u64, u64), Refusal> {
    let invalid = || Refusal::invalid("heart-beat", pair, "use two numbers of milliseconds");
    let (send, expect) = pair.split_once(',').ok_or_else(invalid)?;
    let number = |text: &str| {
        headers::number::<u64>("heart-beat", text.trim())
            .ok()
            .filter(|ms| *ms <= BEAT_MS_MAX)
            .ok_or_else(invalid)
    };
    Ok((number(send)?, number(expect)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heart_beats_are_two_numbers() {
        assert_eq!(heart_beat("0,0").unwrap(), (0, 0));
        assert_eq!(heart_beat("500, 4500").unwrap(), (500, 4500));
        for bad in ["", "5", "a,b", "-1,0", "1,2,3", "86400001,0", ",", "+1,1"] {
            assert_eq!(
                heart_beat(bad).unwrap_err().message,
                "Invalid header",
                "{bad}"
            );
        }
    }
}
