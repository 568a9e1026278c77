//! Destinations: RabbitMQ's names for what AMQP calls exchanges, routing keys and queues.
//!
//! ```text
//! /queue/N             the durable queue N, which is declared
//! /amq/queue/N         the queue N, which is not declared
//! /topic/K             the exchange amq.topic with the key or pattern K
//! /exchange/X[/K]      the exchange X with the key or pattern K
//! /temp-queue/N        in the reply-to of SEND: a queue of this connection
//! /reply-queue/N       what the receiver of such a request answers to: the queue N by its real name
//! N                    as /queue/N
//! ```
//!
//! Names are percent-encoded UTF-8: `/queue/a%2Fb` is the queue `a/b`. RabbitMQ decodes `%2F` only, and writes more than it
//! reads; here every destination of a MESSAGE can be sent to. A percent sign that begins no such code stands for itself.

use std::borrow::Cow;

use super::refusal::{Refusal, shown};
use crate::codec::Escapes;

/// The exchange of `/topic`.
pub(super) const TOPIC_EXCHANGE: &str = "amq.topic";

/// What destinations that are no plain names begin with.
const PREFIXES: [&str; 6] = [
    "/temp-queue/",
    "/exchange/",
    "/topic/",
    "/queue/",
    "/amq/queue/",
    REPLY_QUEUE,
];

const REPLY_QUEUE: &str = "/reply-queue/";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination<'a> {
    Queue(Cow<'a, str>),
    AmqQueue(Cow<'a, str>),
    Topic(Cow<'a, str>),
    Exchange {
        name: Cow<'a, str>,
        key: Cow<'a, str>,
    },
    TempQueue,
    ReplyQueue(&'a str),
}

impl Destination<'_> {
    /// What it means.
    pub(super) fn parse(text: &str) -> Result<Destination<'_>, Refusal> {
        let Some(path) = text.strip_prefix('/') else {
            let name = decode(text).filter(|name| !name.is_empty());
            return match name {
                Some(name) => Ok(Destination::Queue(name)),
                None => Err(invalid("queue", text)),
            };
        };
        let (kind, rest) = path.split_once('/').unwrap_or((path, ""));
        let one = |rest: &str| !rest.is_empty() && !rest.contains('/');
        let parsed = match kind {
            "queue" if one(rest) => decode(rest).map(Destination::Queue),
            "topic" if one(rest) => decode(rest).map(Destination::Topic),
            "amq" => match rest.strip_prefix("queue/") {
                Some(name) if one(name) => decode(name).map(Destination::AmqQueue),
                Some(rest) => return Err(invalid("amqqueue", &format!("/{rest}"))),
                None => return Err(unknown(text)),
            },
            "exchange" => {
                let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
                if name.is_empty() || key.contains('/') {
                    None
                } else {
                    decode(name)
                        .zip(decode(key))
                        .map(|(name, key)| Destination::Exchange { name, key })
                }
            }
            "temp-queue" if one(rest) => Some(Destination::TempQueue),
            // What stands behind it is a name as it is: the broker made it.
            "reply-queue" if !rest.is_empty() => Some(Destination::ReplyQueue(rest)),
            "queue" | "topic" | "temp-queue" | "reply-queue" => None,
            _ => return Err(unknown(text)),
        };
        // RabbitMQ's words for kinds are its own.
        parsed.ok_or_else(|| invalid(&kind.replace('-', "_"), &path[kind.len()..]))
    }
}

#[cold]
fn unknown(text: &str) -> Refusal {
    Refusal::new(
        "Unknown destination",
        format!(
            "'{}' is not a valid destination.\nValid destination types are: /temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue/.\n",
            shown(text)
        ),
    )
}

#[cold]
fn invalid(kind: &str, rest: &str) -> Refusal {
    Refusal::new(
        "Invalid destination",
        format!("'{}' is not a valid {kind} destination\n", shown(rest)),
    )
}

/// A destination that exists, and not for this.
#[cold]
pub(super) fn not_for(command: &str, text: &str) -> Refusal {
    Refusal::new(
        "Invalid destination",
        format!(
            "'{}' is not a valid destination for '{command}'\n",
            shown(text)
        ),
    )
}

fn hex(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).map(|digit| digit as u8)
}

/// A name without its percent signs; none if it is not UTF-8.
fn decode(name: &str) -> Option<Cow<'_, str>> {
    if !name.contains('%') {
        return Some(Cow::Borrowed(name));
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = match behind {
            [high, low, after @ ..] if *first == b'%' => match hex(*high).zip(hex(*low)) {
                Some((high, low)) => {
                    bytes.push(high << 4 | low);
                    after
                }
                None => {
                    bytes.push(b'%');
                    behind
                }
            },
            _ => {
                bytes.push(*first);
                behind
            }
        };
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Appends a name with percent signs, and with the escapes of the version.
#[inline]
fn write_name(name: &str, escapes: Escapes, out: &mut Vec<u8>) {
    // A space can stand in a header: who sent to "/queue/my queue" finds it again.
    let plain = |byte: &u8| matches!(byte, 32..=126) && !matches!(byte, b'%' | b'/' | b':' | b'\\');
    let bytes = name.as_bytes();
    if bytes.iter().all(plain) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match byte {
            b':' | b'\\' => escapes.write(&[*byte], out),
            byte if plain(byte) => out.push(*byte),
            byte => {
                let digit = |n: u8| b"0123456789ABCDEF"[usize::from(n)];
                out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
}

/// Appends the destination of a message that was published to this exchange with this key.
#[inline]
pub(super) fn write(exchange: &str, key: &str, escapes: Escapes, out: &mut Vec<u8>) {
    match exchange {
        "" => out.extend_from_slice(b"/queue/"),
        TOPIC_EXCHANGE => out.extend_from_slice(b"/topic/"),
        _ => {
            out.extend_from_slice(b"/exchange/");
            write_name(exchange, escapes, out);
            if key.is_empty() {
                return;
            }
            out.push(b'/');
        }
    }
    write_name(key, escapes, out);
}

/// What stands before a `reply-to` that is the bare name of a queue, so that it can be sent to.
pub(super) fn reply_prefix(reply_to: &[u8]) -> &'static str {
    if PREFIXES
        .iter()
        .any(|prefix| reply_to.starts_with(prefix.as_bytes()))
    {
        ""
    } else {
        REPLY_QUEUE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Cow<'_, str> {
        Cow::Borrowed(text)
    }

    #[test]
    fn every_kind_is_understood() {
        let exchange = |exchange, key| Destination::Exchange {
            name: name(exchange),
            key: name(key),
        };
        for (text, expected) in [
            ("/queue/a", Destination::Queue(name("a"))),
            ("a", Destination::Queue(name("a"))),
            ("a/b", Destination::Queue(name("a/b"))),
            ("/queue/a%2Fb%25%zz%", Destination::Queue(name("a/b%%zz%"))),
            ("/queue/%C3%A9é", Destination::Queue(name("éé"))),
            ("/amq/queue/a", Destination::AmqQueue(name("a"))),
            ("/topic/a.*.#", Destination::Topic(name("a.*.#"))),
            ("/exchange/x", exchange("x", "")),
            ("/exchange/x/", exchange("x", "")),
            ("/exchange/x/a%2fb", exchange("x", "a/b")),
            ("/temp-queue/a", Destination::TempQueue),
            ("/reply-queue/a/b%2F", Destination::ReplyQueue("a/b%2F")),
        ] {
            assert_eq!(Destination::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_in_rabbitmqs_words() {
        let text = |text| Destination::parse(text).unwrap_err().text;
        assert_eq!(text("/queue/"), "'/' is not a valid queue destination\n");
        assert_eq!(text("/queue"), "'' is not a valid queue destination\n");
        assert_eq!(
            text("/queue/a/b"),
            "'/a/b' is not a valid queue destination\n"
        );
        assert_eq!(
            text("/exchange//k"),
            "'//k' is not a valid exchange destination\n"
        );
        assert_eq!(
            text("/exchange/x/a/b"),
            "'/x/a/b' is not a valid exchange destination\n"
        );
        assert_eq!(
            text("/queue/%ff"),
            "'/%ff' is not a valid queue destination\n"
        );
        for unknown in ["/foo/x", "/", "/amq/x", "/Queue/a"] {
            assert_eq!(
                Destination::parse(unknown).unwrap_err().message,
                "Unknown destination",
                "{unknown}"
            );
        }
        assert_eq!(
            Destination::parse("").unwrap_err().message,
            "Invalid destination"
        );
    }

    #[test]
    fn a_message_names_where_it_can_be_sent_again() {
        let written = |exchange, key, escapes| {
            let mut out = Vec::new();
            write(exchange, key, escapes, &mut out);
            String::from_utf8(out).unwrap()
        };
        let plain = Escapes::None;
        assert_eq!(written("", "q", plain), "/queue/q");
        assert_eq!(written("amq.topic", "a.b/c", plain), "/topic/a.b%2Fc");
        assert_eq!(written("amq.fanout", "", plain), "/exchange/amq.fanout");
        assert_eq!(written("x", "é % \n", plain), "/exchange/x/%C3%A9 %25 %0A");
        assert_eq!(written("", "a:b\\", Escapes::V1_2), "/queue/a\\cb\\\\");
        for key in ["a/b", "%", "%2F", "é ü", "\0\n\r"] {
            let text = written("", key, plain);
            assert_eq!(
                Destination::parse(&text),
                Ok(Destination::Queue(name(key))),
                "{text}"
            );
        }
    }

    #[test]
    fn names_of_queues_become_destinations() {
        assert_eq!(reply_prefix(b"amq.gen-1"), "/reply-queue/");
        assert_eq!(reply_prefix(b"/queue/a"), "");
        assert_eq!(reply_prefix(b"/amq/queue/a"), "");
    }
}
