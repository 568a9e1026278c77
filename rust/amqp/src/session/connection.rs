//! What a session knows of its connection, and the methods of class connection: handshake, limits, close.
//!
//! ```text
//! Header --header--> Starting --start-ok--> Authenticating --authenticated--> Tuning --tune-ok--> Opening --open--> Running
//!    |                  |                        |                              |                    |                 |
//!    +--other header----+-------error------------+--refused---------------------+--------------------+--> Closed       |
//!                                                        Closed <--close-ok, or none in time-- Closing <--error, shut_down
//!                                                        Closed <--the client's socket, or time-- Left <--close-----+
//! ```
//!
//! Before authentication an error ends the connection at once: a peer that nobody knows is given a reason, and no time.
//! Rules and words are RabbitMQ 3.10's, which was asked for them.

use std::collections::VecDeque;
use std::sync::Arc;

use wherry_engine::table::{Table, TableView, Value};
use wherry_engine::{Notify, OwnerId, Ticket, VirtualHost};
use wherry_session::{
    Access, Admission, Credentials, ExclusiveQueues, Failure, FrontEnd, Limits, Pause, Peer,
    Secret, Stint, Traffic, Wakeups,
};

use super::failing::{channel_error, command_invalid, not_allowed};
use super::output::Output;
use super::stuck::Stuck;
use crate::codec::{FRAME_MIN_SIZE, Method, PROTOCOL_HEADER, ReplyCode};

/// Bytes of a frame before a size is negotiated. The specification asks for 4096, RabbitMQ allows twice that, since
/// clients put long tokens into their first frame.
const HANDSHAKE_FRAME_BYTES_MAX: u32 = 2 * FRAME_MIN_SIZE;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The protocol header must come.
    Header,
    /// `connection.start` was sent.
    Starting,
    /// The server is asked about the credentials.
    Authenticating,
    /// `connection.tune` was sent.
    Tuning,
    /// `connection.open` must come.
    Opening,
    /// Channels may be opened.
    Running,
    /// `connection.close` was sent; nothing counts any more but its answer.
    Closing,
    /// The client closed and was answered. The socket is its to close first, as with RabbitMQ: clients that read the end of
    /// the stream together with the answer take it for a lost connection.
    Left,
    /// Flush and close.
    Closed,
}

impl Phase {
    /// RabbitMQ's word, for its error texts.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Phase::Header | Phase::Starting => "starting",
            Phase::Authenticating => "securing",
            Phase::Tuning => "tuning",
            Phase::Opening => "opening",
            Phase::Running => "running",
            Phase::Closing => "closing",
            Phase::Left | Phase::Closed => "closed",
        }
    }

    pub(super) fn is_over(self) -> bool {
        matches!(self, Phase::Closing | Phase::Left | Phase::Closed)
    }

    /// Whether nothing that still comes is looked at.
    pub(super) fn is_deaf(self) -> bool {
        matches!(self, Phase::Left | Phase::Closed)
    }

    /// Whether the peer has not opened the connection yet.
    pub(super) fn is_handshake(self) -> bool {
        self != Phase::Running && !self.is_over()
    }
}

/// What the client said of itself in `start-ok`.
#[derive(Default)]
pub(super) struct Client {
    pub(super) properties: Table,
    /// Wants `connection.close` when its login is refused, rather than a closed socket.
    pub(super) hears_of_refusal: bool,
    /// Wants `basic.cancel` from the server.
    pub(super) hears_of_cancel: bool,
    /// Wants `connection.blocked`.
    pub(super) hears_of_blocked: bool,
}

impl Client {
    fn new(properties: TableView<'_>) -> Client {
        let capability = |name: &str| {
            use wherry_engine::table::ValueView;
            match properties.get("capabilities") {
                Some(ValueView::Table(table)) => table.get(name) == Some(ValueView::Bool(true)),
                _ => false,
            }
        };
        Client {
            hears_of_refusal: capability("authentication_failure_close"),
            hears_of_cancel: capability("consumer_cancel_notify"),
            hears_of_blocked: capability("connection.blocked"),
            // Only for listings: what is too large to own is left out.
            properties: properties.to_table().unwrap_or_default(),
        }
    }
}

/// What `connection.open` gave.
pub(super) struct Open {
    pub(super) host: Arc<VirtualHost>,
    pub(super) access: Access,
    /// Of the permissions under which the user was known last.
    pub(super) access_version: u64,
    /// Counts the connection towards the limits until it is dropped.
    pub(super) admission: Admission,
}

/// Everything of a connection that its channels share.
pub(super) struct Connection {
    pub(super) front: Arc<FrontEnd>,
    pub(super) wakeups: Arc<Wakeups>,
    pub(super) peer: Peer,
    pub(super) owner: OwnerId,
    pub(super) phase: Phase,
    pub(super) pause: Pause,
    pub(super) stint: Stint,
    pub(super) client: Client,
    pub(super) mechanism: &'static str,
    pub(super) user: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) open: Option<Open>,
    /// Bytes of a frame, in both directions; 0 is no limit.
    pub(super) frame_max: u32,
    pub(super) channel_max: u16,
    pub(super) heartbeat_seconds: u16,
    pub(super) output: Output,
    /// What was durable when we looked last.
    pub(super) durable: Ticket,
    /// A publish or commit for which there was no room.
    pub(super) stuck: Option<Stuck>,
    /// Whether the client was told that it is blocked.
    pub(super) told_blocked: bool,
    /// Consumers (channel, slot) that may have something to deliver, in the order in which they are served.
    pub(super) ready: VecDeque<(u16, u32)>,
    /// Channels with publishes that are not confirmed.
    pub(super) confirming: Vec<u16>,
    /// Whether some of those can be confirmed now.
    pub(super) confirms_due: bool,
    pub(super) exclusive: ExclusiveQueues,
    pub(super) traffic: Traffic,
    /// Something came since the last tick.
    pub(super) heard: bool,
    /// Something was sent since the last tick, heartbeats aside.
    pub(super) spoke: bool,
    /// Bytes of heartbeats in the output.
    pub(super) heartbeat_bytes: usize,
}

impl Connection {
    pub(super) fn new(
        front: Arc<FrontEnd>,
        peer: Peer,
        notify: Arc<dyn Notify>,
        token: u64,
    ) -> Connection {
        let owner = front.next_owner();
        Connection {
            wakeups: Arc::new(Wakeups::new(notify, token)),
            owner,
            front,
            peer,
            phase: Phase::Header,
            pause: Pause::default(),
            stint: Stint::default(),
            client: Client::default(),
            mechanism: "",
            user: String::new(),
            credentials: None,
            open: None,
            frame_max: HANDSHAKE_FRAME_BYTES_MAX,
            channel_max: 0,
            heartbeat_seconds: 0,
            output: Output::default(),
            durable: Ticket::NONE,
            stuck: None,
            told_blocked: false,
            ready: VecDeque::new(),
            confirming: Vec::new(),
            confirms_due: false,
            exclusive: ExclusiveQueues::new(owner),
            traffic: Traffic::default(),
            heard: false,
            spoke: false,
            heartbeat_bytes: 0,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        self.front.limits()
    }

    /// Only channels ask, and there are none before the connection is open.
    pub(super) fn open(&self) -> Result<&Open, Failure> {
        self.open
            .as_ref()
            .ok_or_else(|| channel_error("connection.open must come first"))
    }

    pub(super) fn host(&self) -> Result<Arc<VirtualHost>, Failure> {
        Ok(self.open()?.host.clone())
    }

    /// The right header came: the server begins.
    pub(super) fn start(&mut self) {
        self.phase = Phase::Starting;
        let properties = server_properties(self.front.identity());
        let bytes = properties.encode().unwrap_or_default();
        let mechanisms: Vec<&str> = self.mechanisms().collect();
        let mechanisms = mechanisms.join(" ");
        self.output.send(
            0,
            &Method::ConnectionStart {
                version_major: 0,
                version_minor: 9,
                server_properties: TableView::new(&bytes),
                mechanisms: mechanisms.as_bytes(),
                locales: b"en_US",
            },
        );
    }

    /// What this client may authenticate with.
    fn mechanisms(&self) -> impl Iterator<Item = &str> {
        let has_certificate = self.peer.certificate_name.is_some();
        self.front.identity().mechanisms_for(has_certificate)
    }

    /// Some other header came: the peer learns what is spoken here.
    pub(super) fn refuse_protocol(&mut self) {
        self.output.raw().extend_from_slice(&PROTOCOL_HEADER);
        self.phase = Phase::Closed;
    }

    /// A method on channel 0 in the states before and behind `Running`, or in it. Closing is the caller's.
    pub(super) fn method(&mut self, method: &Method<'_>) -> Result<(), Failure> {
        match (self.phase, method) {
            (
                Phase::Starting,
                Method::ConnectionStartOk {
                    client_properties,
                    mechanism,
                    response,
                    ..
                },
            ) => self.start_ok(*client_properties, mechanism, response),
            (
                Phase::Tuning,
                &Method::ConnectionTuneOk {
                    channel_max,
                    frame_max,
                    heartbeat,
                },
            ) => self.tune_ok(channel_max, frame_max, heartbeat),
            (Phase::Opening, Method::ConnectionOpen { virtual_host }) => {
                self.open_host(virtual_host)
            }
            (Phase::Running, Method::ConnectionUpdateSecret { new_secret, .. }) => {
                self.credentials = Some(Credentials {
                    mechanism: self.mechanism,
                    user: self.user.clone(),
                    password: Secret::new(new_secret),
                });
                self.pause.set(Pause::CREDENTIALS);
                Ok(())
            }
            _ => Err(channel_error(format!(
                "unexpected method in connection state {}",
                self.phase.as_str()
            ))),
        }
    }

    fn start_ok(
        &mut self,
        properties: TableView<'_>,
        mechanism: &str,
        response: &[u8],
    ) -> Result<(), Failure> {
        self.client = Client::new(properties);
        if !self.mechanisms().any(|offered| offered == mechanism) {
            return Err(command_invalid(format!(
                "unknown authentication mechanism '{mechanism}'"
            )));
        }
        let (mechanism, user, password) = match mechanism {
            "PLAIN" => plain(response).map(|(user, password)| ("PLAIN", user, password)),
            "AMQPLAIN" => amqplain(response).map(|(user, password)| ("AMQPLAIN", user, password)),
            "EXTERNAL" if self.peer.certificate_name.is_some() => {
                let name = self.peer.certificate_name.as_deref().unwrap_or_default();
                Some(("EXTERNAL", name, &b""[..]))
            }
            other => {
                return Err(command_invalid(format!(
                    "unknown authentication mechanism '{other}'"
                )));
            }
        }
        .ok_or_else(|| {
            super::failing::access_refused(format!("response to mechanism {mechanism} is invalid"))
        })?;
        self.mechanism = mechanism;
        self.credentials = Some(Credentials {
            mechanism,
            user: user.to_string(),
            password: Secret::new(password),
        });
        self.phase = Phase::Authenticating;
        self.pause.set(Pause::CREDENTIALS);
        Ok(())
    }

    /// The server knows the user.
    pub(super) fn authenticated(&mut self, user: &str) {
        self.pause.clear(Pause::CREDENTIALS);
        if self.credentials.take().is_none() {
            return;
        }
        match self.phase {
            Phase::Authenticating => {
                self.user = user.to_string();
                self.phase = Phase::Tuning;
                let limits = self.front.limits();
                self.output.send(
                    0,
                    &Method::ConnectionTune {
                        channel_max: limits.channel_max,
                        frame_max: limits.frame_max,
                        heartbeat: limits.heartbeat_seconds,
                    },
                );
            }
            Phase::Running => self.output.send(0, &Method::ConnectionUpdateSecretOk {}),
            _ => {}
        }
    }

    /// The server does not, or lets a user in no more who is in already. An error is one that the open connection ends with.
    pub(super) fn refused(&mut self) -> Result<(), Failure> {
        self.pause.clear(Pause::CREDENTIALS);
        if self.credentials.take().is_none() {
            return Ok(());
        }
        if self.phase == Phase::Running {
            return Err(not_allowed("New secret was refused by one of the backends"));
        }
        if self.client.hears_of_refusal {
            let text = format!(
                "ACCESS_REFUSED - Login was refused using authentication mechanism {}. For details see the broker logfile.",
                self.mechanism
            );
            self.output.send(
                0,
                &Method::ConnectionClose {
                    reply_code: ReplyCode::AccessRefused.code(),
                    reply_text: &text,
                    class_id: 0,
                    method_id: 0,
                },
            );
            // Its answer must find an open socket: a reset could overtake the reason on the way to the program.
            self.phase = Phase::Closing;
        } else {
            self.phase = Phase::Closed;
        }
        Ok(())
    }

    fn tune_ok(&mut self, channel_max: u16, frame_max: u32, heartbeat: u16) -> Result<(), Failure> {
        let limits = self.front.limits();
        let channel_max = negotiated(
            "channel_max",
            channel_max.into(),
            1,
            limits.channel_max.into(),
        )?;
        self.frame_max = negotiated("frame_max", frame_max, FRAME_MIN_SIZE, limits.frame_max)?;
        self.channel_max = if channel_max == 0 {
            u16::MAX
        } else {
            channel_max as u16
        };
        self.heartbeat_seconds = heartbeat;
        self.phase = Phase::Opening;
        Ok(())
    }

    fn open_host(&mut self, name: &str) -> Result<(), Failure> {
        let host = self
            .front
            .broker()
            .virtual_host(name)
            .map_err(|_| not_allowed(format!("vhost {name} not found")))?;
        if !self.front.access().may_enter(&self.user, name) {
            return Err(not_allowed(format!(
                "access to vhost '{name}' refused for user '{}'",
                self.user
            )));
        }
        let admission = self.front.admit(&self.user, name)?;
        let access = self.front.access_for(&self.user, name);
        self.front.counters().connections_opened.add(1);
        self.open = Some(Open {
            host,
            access_version: access.version(),
            access,
            admission,
        });
        self.phase = Phase::Running;
        self.output.send(0, &Method::ConnectionOpenOk {});
        Ok(())
    }
}

/// What a client may answer to an offered limit: nothing above it, and nothing useless. 0 is "no limit".
fn negotiated(what: &str, answer: u32, min: u32, offered: u32) -> Result<u32, Failure> {
    if answer != 0 && answer < min {
        return Err(not_allowed(format!(
            "negotiated {what} = {answer} is lower than the minimum allowed value ({min})"
        )));
    }
    if offered != 0 && (answer == 0 || answer > offered) {
        return Err(not_allowed(format!(
            "negotiated {what} = {answer} is higher than the maximum allowed value ({offered})"
        )));
    }
    Ok(answer)
}

/// User and password of a PLAIN response: an authorisation identity that is ignored, NUL, user, NUL, password.
fn plain(response: &[u8]) -> Option<(&str, &[u8])> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((std::str::from_utf8(user).ok()?, password))
}

/// User and password of an AMQPLAIN response: a table without its length.
fn amqplain(response: &[u8]) -> Option<(&str, &[u8])> {
    use wherry_engine::table::ValueView;
    let table = TableView::new(response);
    let text = |name: &str| match table.get(name) {
        Some(ValueView::Str(text)) => Some(text),
        _ => None,
    };
    Some((std::str::from_utf8(text("LOGIN")?).ok()?, text("PASSWORD")?))
}

/// What clients are told to speak to: they choose by it how to speak. kombu, for one, takes any other product for a broker
/// with the specification's meaning of `basic.qos`, and then Celery's prefetch limit would be the wrong one. Who we are is in
/// `platform`.
const DIALECT_PRODUCT: &str = "RabbitMQ";
/// The version whose answers these are closest to: texts of the 3.x series, without the removals of 4.
const DIALECT_VERSION: &str = "3.13.7";

fn server_properties(identity: &wherry_session::Identity) -> Table {
    let capabilities: Table = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ]
    .into_iter()
    .map(|name| (name, Value::Bool(true)))
    .collect();
    let mut table = Table::new();
    table.push("capabilities", capabilities);
    table.push("cluster_name", identity.cluster_name.as_str());
    table.push("copyright", identity.copyright.as_str());
    table.push("information", identity.information.as_str());
    table.push(
        "platform",
        format!(
            "{} {}, {}",
            identity.product, identity.version, identity.platform
        )
        .as_str(),
    );
    table.push("product", DIALECT_PRODUCT);
    table.push("version", DIALECT_VERSION);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_response_is_taken_apart() {
        assert_eq!(plain(b"\0guest\0secret"), Some(("guest", &b"secret"[..])));
        assert_eq!(plain(b"other\0guest\0a\0b"), Some(("guest", &b"a\0b"[..])));
        assert_eq!(plain(b"\0guest"), None);
        assert_eq!(plain(b"\0\xff\0x"), None);
    }

    #[test]
    fn an_amqplain_response_is_a_bare_table() {
        let table: Table = [("LOGIN", "guest"), ("PASSWORD", "secret")]
            .into_iter()
            .collect();
        assert_eq!(
            amqplain(&table.encode().unwrap()),
            Some(("guest", &b"secret"[..]))
        );
        let table: Table = [("LOGIN", "guest")].into_iter().collect();
        assert_eq!(amqplain(&table.encode().unwrap()), None);
        assert_eq!(amqplain(b"\x05ab"), None);
    }

    #[test]
    fn limits_are_negotiated_downwards() {
        assert_eq!(negotiated("frame_max", 0, 4096, 0), Ok(0));
        assert_eq!(negotiated("frame_max", 4096, 4096, 131_072), Ok(4096));
        assert_eq!(negotiated("frame_max", 1 << 30, 4096, 0), Ok(1 << 30));
        assert_eq!(
            negotiated("frame_max", 1000, 4096, 131_072)
                .unwrap_err()
                .text,
            "negotiated frame_max = 1000 is lower than the minimum allowed value (4096)"
        );
        assert!(negotiated("frame_max", 0, 4096, 131_072).is_err());
        assert_eq!(
            negotiated("channel_max", 4000, 1, 2047).unwrap_err().text,
            "negotiated channel_max = 4000 is higher than the maximum allowed value (2047)"
        );
    }
}
