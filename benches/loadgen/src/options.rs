//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::body::{STAMP_BYTES, STAMP_TIMES_BYTES};
use crate::entities::ENTITY_DIGITS;
use crate::link::{Failure, Target};

pub(crate) const HELP: &str = "\
Load for a server of AMQP 0-9-1 or STOMP. Prints one line of JSON; the exit status is 1 if a message was lost, invented, doubled
without mark, out of order, misrouted or damaged.

wherry-loadgen MODE [OPTIONS]

throughput    producers as fast as the server takes, consumers at the same time
latency       at a fixed rate (--rate), time from the intended and from the real send to the receipt
backlog       publish --count messages, then drain them
connections   open --count connections, hold them idle, close them
queues        declare --count queues, delete them (STOMP cannot: they stay)
churn         connect, log in, close, again and again for --seconds
relay         no load, but a server of AMQP that only passes frames on, until it is ended; prints its port (--port 0: any free one)

  --protocol amqp|stomp          amqp (0-9-1, one channel a connection) or stomp (1.1)
  --host HOST --port PORT        127.0.0.1; 5672 or 61613
  --user --password --vhost      guest, guest, /
  --producers N --consumers N    1, 1 (one connection each)
  --queues N                     1; a producer's messages go to them in turn
  --fanout                       every queue gets every message, through a fanout exchange or a topic
  --entities N                   0; messages are updates of N entities, drawn at random, each one's in order: the entity is the
                                 routing key. AMQP only
  --spread TYPE                  fanout; type of the exchange that all of them go through: queues are bound with the key 1
  --bytes N                      body size, at least 16 (latency: 32); 16
  --seconds S                    how long to publish; 5 (backlog: 120)
  --warmup S                     not counted at the beginning; 0.5
  --drain S                      how long to wait for the rest without progress; 20
  --count N                      at most this many messages by producer; connections, queues
  --rate N                       messages a second of all producers together (latency)
  --confirms N                   at most N publishes by producer without confirm or receipt; 0: none asked for
  --prefetch N                   0: no limit
  --ack-every N                  one multiple acknowledgement every N deliveries; 0: automatic acknowledgement
  --individual                   STOMP, with --ack-every 1: mode client-individual instead of client
  --persistent                   messages that a restart does not lose
  --durable                      durable queues and exchanges (STOMP's queues always are)
  --argument NAME=VALUE          a queue argument, again and again: x-queue-type=quorum, x-max-length=10, x-b=true
  --pid PID                      the server's process: its memory and processor time are reported
  --settle S                     wait before memory is read; 1
  --churn-publish                each connection of the churn publishes one message with a confirm
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Amqp,
    Stomp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Throughput,
    Latency,
    Backlog,
    Connections,
    Queues,
    Churn,
    Relay,
}

/// Longest run: every load ends by itself.
pub(crate) const SECONDS_MAX: f64 = 600.0;
/// Most messages by producer: a bit each is remembered by every consumer (25 MB).
pub(crate) const COUNT_MAX: u64 = 200_000_000;
/// Most samples kept in a latency run, 8 bytes each.
pub(crate) const SAMPLES_MAX: f64 = 20e6;
/// Names of queues are padded to this many digits, so that all publish frames have one length.
pub(crate) const QUEUES_MAX: u32 = 100_000;
/// As many as their digits can tell apart; 16 bytes each are remembered.
pub(crate) const ENTITIES_MAX: u32 = 10u32.pow(ENTITY_DIGITS as u32);
/// Files that a process may usually open, less some.
pub(crate) const CONNECTIONS_MAX: u64 = 20_000;
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A value of a queue argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i64),
    Text(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) protocol: Protocol,
    pub(crate) target: Target,
    pub(crate) producers: u32,
    pub(crate) consumers: u32,
    pub(crate) queues: u32,
    pub(crate) fanout: bool,
    /// 0: messages have no entity.
    pub(crate) entities: u32,
    pub(crate) spread: String,
    pub(crate) body_bytes: usize,
    pub(crate) publish_time: Duration,
    pub(crate) warmup: Duration,
    pub(crate) drain: Duration,
    pub(crate) count: Option<u64>,
    pub(crate) rate: f64,
    pub(crate) confirm_window: u64,
    pub(crate) prefetch: u16,
    pub(crate) ack_every: u64,
    pub(crate) individual: bool,
    pub(crate) persistent: bool,
    pub(crate) durable: bool,
    pub(crate) arguments: Vec<(String, Value)>,
    pub(crate) pid: Option<u32>,
    pub(crate) settle: Duration,
    pub(crate) churn_publish: bool,
}

/// None: help was asked for.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = String>,
) -> Result<Option<Options>, Failure> {
    use lexopt::prelude::*;

    let mut host = "127.0.0.1".to_owned();
    let mut port = None;
    let mut mode = None;
    let mut publish_time = None;
    let mut options = Options {
        mode: Mode::Throughput,
        protocol: Protocol::Amqp,
        target: Target {
            address: SocketAddr::from(([127, 0, 0, 1], 5672)),
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            vhost: "/".to_owned(),
        },
        producers: 1,
        consumers: 1,
        queues: 1,
        fanout: false,
        entities: 0,
        spread: "fanout".to_owned(),
        body_bytes: STAMP_BYTES,
        publish_time: Duration::ZERO,
        warmup: Duration::from_millis(500),
        drain: Duration::from_secs(20),
        count: None,
        rate: 0.0,
        confirm_window: 0,
        prefetch: 0,
        ack_every: 0,
        individual: false,
        persistent: false,
        durable: false,
        arguments: Vec::new(),
        pid: None,
        settle: Duration::from_secs(1),
        churn_publish: false,
    };
    let mut parser = lexopt::Parser::from_iter(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Value(name) if mode.is_none() => {
                mode = Some(match name.string()?.as_str() {
                    "throughput" => Mode::Throughput,
                    "latency" => Mode::Latency,
                    "backlog" => Mode::Backlog,
                    "connections" => Mode::Connections,
                    "queues" => Mode::Queues,
                    "churn" => Mode::Churn,
                    "relay" => Mode::Relay,
                    other => return Err(format!("no mode {other:?}: see --help").into()),
                });
            }
            Long("host") => host = parser.value()?.string()?,
            Long("port") => port = Some(parser.value()?.parse()?),
            Long("protocol") => {
                options.protocol = match parser.value()?.string()?.as_str() {
                    "amqp" => Protocol::Amqp,
                    "stomp" => Protocol::Stomp,
                    other => return Err(format!("no protocol {other:?}: see --help").into()),
                };
            }
            Long("user") => options.target.user = parser.value()?.string()?,
            Long("password") => options.target.password = parser.value()?.string()?,
            Long("vhost") => options.target.vhost = parser.value()?.string()?,
            Long("producers") => options.producers = parser.value()?.parse()?,
            Long("consumers") => options.consumers = parser.value()?.parse()?,
            Long("queues") => options.queues = parser.value()?.parse()?,
            Long("fanout") => options.fanout = true,
            Long("entities") => options.entities = parser.value()?.parse()?,
            Long("spread") => options.spread = parser.value()?.string()?,
            Long("bytes") => options.body_bytes = parser.value()?.parse()?,
            Long("seconds") => publish_time = Some(seconds(&mut parser)?),
            Long("warmup") => options.warmup = seconds(&mut parser)?,
            Long("drain") => options.drain = seconds(&mut parser)?,
            Long("count") => options.count = Some(parser.value()?.parse()?),
            Long("rate") => options.rate = parser.value()?.parse()?,
            Long("confirms") => options.confirm_window = parser.value()?.parse()?,
            Long("prefetch") => options.prefetch = parser.value()?.parse()?,
            Long("ack-every") => options.ack_every = parser.value()?.parse()?,
            Long("individual") => options.individual = true,
            Long("persistent") => options.persistent = true,
            Long("durable") => options.durable = true,
            Long("argument") => {
                let text = parser.value()?.string()?;
                options.arguments.push(queue_argument(&text)?);
            }
            Long("pid") => options.pid = Some(parser.value()?.parse()?),
            Long("settle") => options.settle = seconds(&mut parser)?,
            Long("churn-publish") => options.churn_publish = true,
            other => return Err(other.unexpected().into()),
        }
    }
    options.mode = mode.ok_or("which mode? see --help")?;
    options.publish_time = publish_time.unwrap_or(Duration::from_secs(match options.mode {
        Mode::Backlog => 120,
        _ => 5,
    }));
    let port = port.unwrap_or(match options.protocol {
        Protocol::Amqp => 5672,
        Protocol::Stomp => 61613,
    });
    options.target.address = (host.as_str(), port)
        .to_socket_addrs()?
        .next()
        .ok_or("the host has no address")?;
    check(&options)?;
    Ok(Some(options))
}

fn seconds(parser: &mut lexopt::Parser) -> Result<Duration, Failure> {
    use lexopt::ValueExt;
    let seconds: f64 = parser.value()?.parse()?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(format!("{seconds} seconds: from 0 to {SECONDS_MAX}").into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn queue_argument(text: &str) -> Result<(String, Value), Failure> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?}: a queue argument is NAME=VALUE"))?;
    let value = match value {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match value.parse() {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Text(value.to_owned()),
        },
    };
    Ok((name.to_owned(), value))
}

fn check(options: &Options) -> Result<(), Failure> {
    let target = &options.target;
    if !target.address.ip().is_loopback() {
        return Err("only loopback addresses: this load is for a server beside it".into());
    }
    for text in [&target.user, &target.password, &target.vhost] {
        if text.len() > 255 {
            return Err("user, password and vhost have at most 255 bytes".into());
        }
    }
    if options.mode == Mode::Relay {
        return Ok(());
    }
    if options.protocol == Protocol::Stomp {
        if options.durable {
            return Err("--durable: STOMP has no word for it".into());
        }
        // Of CONNECT nothing is escaped.
        let texts = [&target.user, &target.password, &target.vhost];
        if texts.iter().any(|text| text.contains(['\n', '\r', ':'])) {
            return Err("STOMP's user, password and vhost have no colon and no end of line".into());
        }
    }
    if options.arguments.iter().any(|(name, _)| name.len() > 255) {
        return Err("an argument's name has at most 255 bytes".into());
    }
    let latency = options.mode == Mode::Latency;
    let bytes_min = if latency {
        STAMP_TIMES_BYTES
    } else {
        STAMP_BYTES
    };
    if !(bytes_min..=BODY_BYTES_MAX).contains(&options.body_bytes) {
        return Err(format!("--bytes from {bytes_min} to {BODY_BYTES_MAX}").into());
    }
    if latency {
        let samples = options.rate * options.publish_time.as_secs_f64();
        if !(options.rate >= 1.0 && samples <= SAMPLES_MAX) {
            return Err(format!("--rate from 1, and at most {SAMPLES_MAX} messages in all").into());
        }
    }
    if options.producers == 0 || options.consumers == 0 {
        return Err("at least one producer and one consumer".into());
    }
    if !(1..=QUEUES_MAX).contains(&options.queues) {
        return Err(format!("--queues from 1 to {QUEUES_MAX}").into());
    }
    if options.entities > 0 {
        if options.protocol == Protocol::Stomp || options.fanout {
            return Err("--entities is for --protocol amqp without --fanout".into());
        }
        if !(options.producers..=ENTITIES_MAX).contains(&options.entities) {
            return Err(format!("--entities from one a producer to {ENTITIES_MAX}").into());
        }
        if options.ack_every == 0 {
            return Err("--entities needs --ack-every: who applies an update says so".into());
        }
        if options.spread.len() > 255 {
            return Err("--spread: a type of exchanges has at most 255 bytes".into());
        }
    }
    if options.fanout && options.consumers > options.queues {
        return Err("a fan-out has at most one consumer connection a queue".into());
    }
    if options.prefetch > 0 && options.ack_every > u64::from(options.prefetch) {
        return Err("--ack-every over --prefetch would wait for ever".into());
    }
    if options.individual && (options.ack_every != 1 || options.protocol != Protocol::Stomp) {
        return Err("--individual is for --protocol stomp with --ack-every 1".into());
    }
    let count_max = match options.mode {
        Mode::Connections => CONNECTIONS_MAX,
        Mode::Queues => u64::from(QUEUES_MAX),
        _ => COUNT_MAX,
    };
    if options.count.is_some_and(|count| count > count_max) {
        return Err(format!("--count at most {count_max}").into());
    }
    if matches!(
        options.mode,
        Mode::Backlog | Mode::Connections | Mode::Queues
    ) && options.count.is_none()
    {
        return Err("this mode needs --count".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Options>, String> {
        let words = std::iter::once("loadgen").chain(line.split_whitespace());
        parse(words.map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_of_queues_have_the_type_they_look_like() {
        let options = parsed("throughput --argument a=quorum --argument b=7 --argument c=true")
            .expect("valid")
            .expect("no help");
        let expected = [
            ("a".to_owned(), Value::Text("quorum".to_owned())),
            ("b".to_owned(), Value::Integer(7)),
            ("c".to_owned(), Value::Bool(true)),
        ];
        assert_eq!(options.arguments, expected);
    }

    #[test]
    fn what_could_not_end_or_not_be_checked_is_refused() {
        for (line, told) in [
            ("", "which mode"),
            ("sing", "no mode"),
            ("throughput --bytes 15", "--bytes"),
            ("latency --bytes 31 --rate 10", "--bytes"),
            ("latency --bytes 32", "--rate"),
            ("latency --bytes 32 --rate 1e9 --seconds 600", "--rate"),
            ("throughput --seconds 601", "seconds"),
            ("throughput --queues 0", "--queues"),
            ("throughput --prefetch 10 --ack-every 11", "for ever"),
            ("throughput --count 200000001", "--count"),
            ("throughput --fanout --consumers 2", "fan-out"),
            ("throughput --entities 10 --fanout", "--entities"),
            ("throughput --entities 10 --protocol stomp", "--entities"),
            ("throughput --entities 10 --producers 11", "--entities"),
            ("throughput --entities 100000001", "--entities"),
            ("throughput --entities 10", "--ack-every"),
            ("connections", "--count"),
            ("connections --count 20001", "--count"),
            ("throughput --host 192.0.2.1", "loopback"),
            ("throughput --sing", "--sing"),
            ("throughput --individual --ack-every 1", "--individual"),
            ("throughput --protocol smtp", "no protocol"),
            ("throughput --protocol stomp --durable", "--durable"),
            ("throughput --protocol stomp --password a:b", "colon"),
            ("relay --host 192.0.2.1", "loopback"),
        ] {
            let error = parsed(line).expect_err(line);
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
