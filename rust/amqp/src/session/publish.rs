//! Publishing: the hot path in.
//!
//! A message whose frames lie whole in what was received goes from there into the engine, which makes the only copy of
//! it. A channel keeps the exchange it published to last, with the answer to "may it", so that a publish looks nothing up
//! and takes no lock.

use std::sync::Arc;

use wherry_engine::properties::PropertiesView;
use wherry_engine::table::{TableView, ValueView};
use wherry_engine::{Delay, Error, Exchange, ExchangeKind, Message, NewMessage, Ticket};
use wherry_session::arguments::type_word;
use wherry_session::{Access, Action, Failure, Pause, Replies, Resource};

use super::channel::Channel;
use super::connection::Connection;
use super::content::{self, Expect};
use super::failing::{access_refused, internal_error, not_implemented, precondition_failed};
use super::reply;
use super::run;
use super::stuck::{Stuck, StuckPublish};
use crate::codec::{Frame, FrameKind, Method, ReplyCode, parse_frame};

/// Flags of the properties that a publish is inspected for; see `wherry_engine::properties`.
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const REPLY_TO: u16 = 1 << 9;
const USER_ID: u16 = 1 << 4;

/// The exchange that a channel published to last.
pub(super) struct Target {
    pub(super) exchange: Arc<Exchange>,
    /// Of the permissions under which the user may publish to it.
    access_version: u64,
    pub(super) is_topic: bool,
}

/// Properties and body of a message whose frames are all there, and the bytes of those.
pub(super) type Whole<'a> = (&'a [u8], &'a [u8], usize);

/// Whether a publish is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Done,
    NoRoom,
}

/// `basic.publish`. Works off the frames of its content as well, if they are in `following`; returns how many bytes of
/// that it used.
pub(super) fn publish(
    ch: &mut Channel,
    cn: &mut Connection,
    (exchange, routing_key, mandatory, immediate): (&str, &str, bool, bool),
    following: &[u8],
) -> Result<usize, Failure> {
    if immediate {
        return Err(not_implemented("immediate=true"));
    }
    aim(ch, cn, exchange)?;
    let Some((properties, body, used)) = content_of(ch.number, cn, following)? else {
        ch.draft.routing_key.clear();
        ch.draft.routing_key.push_str(routing_key);
        ch.draft.mandatory = mandatory;
        ch.expect = Expect::Header;
        return Ok(0);
    };
    if !mandatory && is_plain(properties) && ch.tx.is_none() && !Replies::is_reserved(routing_key) {
        let first = plain_message(routing_key, properties, body);
        return run::publish(ch, cn, first, following, used);
    }
    make(ch, cn, routing_key, properties, body, mandatory)?;
    Ok(used)
}

/// Whether nothing in the properties concerns the session.
#[inline]
pub(super) fn is_plain(properties: &[u8]) -> bool {
    let Some(&[f1, f0]) = properties.first_chunk() else {
        return true;
    };
    let flags = u16::from_be_bytes([f1, f0]);
    flags & (HEADERS | REPLY_TO | USER_ID) == 0
        && (flags & DELIVERY_MODE == 0
            || matches!(PropertiesView::new(properties).delivery_mode(), Some(1 | 2)))
}

#[inline]
pub(super) fn plain_message<'a>(
    routing_key: &'a str,
    properties: &'a [u8],
    body: &'a [u8],
) -> NewMessage<'a> {
    NewMessage {
        routing_key,
        properties: or_nothing(properties),
        body,
        persistent: false,
        mandatory: false,
        delay: Delay::None,
    }
}

/// Properties of which none is set are none: the engine has nothing to read then.
#[inline]
fn or_nothing(properties: &[u8]) -> &[u8] {
    if properties == [0, 0] {
        &[]
    } else {
        properties
    }
}

/// Header and body of a message, if both are the next frames and the body is one frame at most.
#[inline]
pub(super) fn content_of<'a>(
    channel: u16,
    cn: &Connection,
    bytes: &'a [u8],
) -> Result<Option<Whole<'a>>, Failure> {
    // What is wrong with the bytes is found and reported when they are read in their turn.
    let Ok(Some((frame, header_bytes))) = parse_frame(bytes, cn.frame_max) else {
        return Ok(None);
    };
    if frame.channel != channel {
        return Ok(None);
    }
    let header = content::header(&frame, cn.limits())?;
    if header.body_size == 0 {
        return Ok(Some((header.properties, &[], header_bytes)));
    }
    let Ok(Some((frame, body_bytes))) = parse_frame(&bytes[header_bytes..], cn.frame_max) else {
        return Ok(None);
    };
    let whole = frame.channel == channel
        && frame.kind == FrameKind::Body
        && frame.payload.len() as u64 == header.body_size;
    Ok(whole.then_some((header.properties, frame.payload, header_bytes + body_bytes)))
}

/// A frame of the content of a publish that was begun.
pub(super) fn content(
    ch: &mut Channel,
    cn: &mut Connection,
    frame: &Frame<'_>,
) -> Result<(), Failure> {
    match ch.expect {
        Expect::Method => return Err(internal_error("content without a publish")),
        Expect::Header => {
            let header = content::header(frame, cn.limits())?;
            ch.draft.properties.extend_from_slice(header.properties);
            ch.expect = Expect::Body {
                missing: header.body_size,
            };
        }
        Expect::Body { missing } => {
            let missing = content::body(frame, missing)?;
            if missing == 0 && ch.draft.body.is_empty() {
                // All of it in one frame, which was not there when the header was read.
                let draft = std::mem::take(&mut ch.draft);
                let made = make(
                    ch,
                    cn,
                    &draft.routing_key,
                    &draft.properties,
                    frame.payload,
                    draft.mandatory,
                );
                return finish(ch, draft, made);
            }
            ch.draft.append(frame.payload, missing);
            ch.expect = Expect::Body { missing };
        }
    }
    if ch.expect == (Expect::Body { missing: 0 }) {
        let draft = std::mem::take(&mut ch.draft);
        let made = make(
            ch,
            cn,
            &draft.routing_key,
            &draft.properties,
            &draft.body,
            draft.mandatory,
        );
        return finish(ch, draft, made);
    }
    Ok(())
}

/// A draft is published: its channel expects a method again.
fn finish(
    ch: &mut Channel,
    mut draft: content::Draft,
    made: Result<(), Failure>,
) -> Result<(), Failure> {
    draft.clear();
    ch.draft = draft;
    ch.expect = Expect::Method;
    made
}

/// Makes the named exchange the channel's target, if the user may publish to it.
#[inline]
fn aim(ch: &mut Channel, cn: &Connection, name: &str) -> Result<(), Failure> {
    let open = cn.open()?;
    if let Some(target) = &ch.target
        && is_same(target.exchange.name().as_bytes(), name.as_bytes())
        && !target.exchange.is_deleted()
        && target.access_version == open.access.version()
    {
        return Ok(());
    }
    ch.target = None;
    let access_version = open.access.version(); // before the check: see `Access::version`
    open.access.check(Action::Write, Resource::Exchange(name))?;
    let exchange = open.host.exchange(name)?;
    if exchange.options().internal {
        return Err(access_refused(format!(
            "cannot publish to internal exchange '{name}' in vhost '{}'",
            open.host.name()
        )));
    }
    ch.target = Some(Target {
        is_topic: exchange.kind() == ExchangeKind::Topic,
        exchange,
        access_version,
    });
    Ok(())
}

/// Whether two names are one. The empty one is found by its length: to compare no bytes at an address that holds none,
/// as an empty `Box<str>` has it, was measured to take 90 ns.
#[inline]
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

/// A complete publish, to the channel's target.
pub(super) fn make(
    ch: &mut Channel,
    cn: &mut Connection,
    routing_key: &str,
    properties: &[u8],
    body: &[u8],
    mandatory: bool,
) -> Result<(), Failure> {
    cn.traffic.messages_in += 1;
    let mut properties = or_nothing(properties);
    let mut delay = Delay::None;
    let mut copies = false;
    let addressed;
    if let Some(&[f1, f0]) = properties.first_chunk() {
        let flags = u16::from_be_bytes([f1, f0]);
        if flags & DELIVERY_MODE != 0
            && let Some(mode) = PropertiesView::new(properties).delivery_mode()
            && !matches!(mode, 1 | 2)
        {
            return Err(precondition_failed(format!(
                "invalid message: {{delivery_mode_unknown,{mode}}}"
            )));
        }
        if flags & REPLY_TO != 0 && reply::is_request(properties) {
            addressed = reply::addressed(properties, ch.reply.as_ref())?;
            properties = &addressed;
        }
        if flags & USER_ID != 0 {
            check_user(cn, properties)?;
        }
        if flags & HEADERS != 0
            && let Some(headers) = PropertiesView::new(properties).headers()
        {
            super::topology::check_depth(cn, headers)?;
            delay = inspect(headers)?;
            copies = headers.get("CC").is_some() || headers.get("BCC").is_some();
        }
    }
    let Some(target) = &ch.target else {
        return Err(internal_error("publish without an exchange"));
    };
    if target.is_topic {
        let access = &cn.open()?.access;
        access.check_topic(Action::Write, target.exchange.name(), routing_key)?;
        if copies {
            check_copies(access, target.exchange.name(), properties)?;
        }
    }
    let message = NewMessage {
        routing_key,
        properties,
        body,
        persistent: false,
        mandatory,
        delay,
    };
    if Replies::is_reserved(routing_key) && target.exchange.name().is_empty() {
        answer_request(cn, &message)?;
        confirm(ch, cn, Ok(Ticket::NONE));
        return Ok(());
    }
    if let Some(tx) = &mut ch.tx {
        return tx.publish(ch.number, &target.exchange, &message);
    }
    let made = if cn.front.alarms().any() {
        Made::NoRoom
    } else {
        let outcome = target.exchange.publish(&message);
        settle_publish(ch, cn, &message, outcome.map(|published| published.ticket))?
    };
    if made == Made::NoRoom
        && let Some(target) = &ch.target
    {
        let kept = StuckPublish::new(ch.number, &target.exchange, &message);
        cn.stuck = Some(Stuck::Publish(Box::new(kept)));
        cn.pause.set(Pause::ROOM);
    }
    Ok(())
}

/// Tries again what there was no room for. True when it is through.
pub(super) fn retry(
    ch: &mut Channel,
    cn: &mut Connection,
    stuck: &StuckPublish,
) -> Result<bool, Failure> {
    if cn.front.alarms().any() {
        return Ok(false);
    }
    let message = stuck.message();
    let outcome = stuck.exchange.publish(&message);
    let made = settle_publish_to(
        ch,
        cn,
        stuck.exchange.name(),
        &message,
        outcome.map(|published| published.ticket),
    )?;
    Ok(made == Made::Done)
}

#[inline]
fn settle_publish(
    ch: &mut Channel,
    cn: &mut Connection,
    message: &NewMessage<'_>,
    outcome: Result<Ticket, Error>,
) -> Result<Made, Failure> {
    match outcome {
        Ok(ticket) => {
            confirm(ch, cn, Ok(ticket));
            Ok(Made::Done)
        }
        Err(error) => {
            let exchange = match &ch.target {
                Some(target) => target.exchange.clone(),
                None => return Err(error.into()),
            };
            settle_publish_to(ch, cn, exchange.name(), message, Err(error))
        }
    }
}

/// What the outcome of a publish means for its channel.
fn settle_publish_to(
    ch: &mut Channel,
    cn: &mut Connection,
    exchange: &str,
    message: &NewMessage<'_>,
    outcome: Result<Ticket, Error>,
) -> Result<Made, Failure> {
    match outcome {
        Ok(ticket) => confirm(ch, cn, Ok(ticket)),
        Err(Error::Unroutable { .. }) => {
            give_back(ch.number, cn, exchange, message)?;
            confirm(ch, cn, Ok(Ticket::NONE));
        }
        // Without confirms the publisher has not asked to hear of it: RabbitMQ is silent as well.
        Err(Error::PublishRejected { .. }) => confirm(ch, cn, Err(())),
        Err(error) if error.is_passing() => return Ok(Made::NoRoom),
        Err(Error::JournalFailed(_)) if ch.confirms.is_selected() => confirm(ch, cn, Err(())),
        Err(error) => return Err(refusal(error, message)),
    }
    Ok(Made::Done)
}

/// Gives an answer to the publisher when it is due, if confirms were asked for.
#[inline]
pub(super) fn confirm(ch: &mut Channel, cn: &mut Connection, outcome: Result<Ticket, ()>) {
    if !ch.confirms.is_selected() {
        return;
    }
    let number = ch.confirms.next();
    match outcome {
        Ok(ticket) => {
            ch.confirms.published(number, ticket);
            cn.confirms_due |= ticket <= cn.durable;
        }
        Err(()) => {
            ch.confirms.refused(number);
            cn.confirms_due = true;
        }
    }
    if !ch.listed_confirming {
        ch.listed_confirming = true;
        cn.confirming.push(ch.number);
    }
    if ch.confirms.unconfirmed() >= cn.limits().unconfirmed_per_channel_max as usize {
        cn.pause.set(Pause::UNCONFIRMED);
    }
}

/// `basic.return`: a mandatory message that no queue took.
pub(super) fn give_back(
    channel: u16,
    cn: &mut Connection,
    exchange: &str,
    message: &NewMessage<'_>,
) -> Result<(), Failure> {
    let properties = message.visible_properties()?;
    cn.front.counters().returned.add(1);
    let frame_max = cn.frame_max;
    cn.output.send_content(
        channel,
        &Method::BasicReturn {
            reply_code: ReplyCode::NoRoute.code(),
            reply_text: ReplyCode::NoRoute.name(),
            exchange,
            routing_key: message.routing_key,
        },
        &properties,
        message.body,
        frame_max,
    );
    Ok(())
}

/// A publish to the name of a reply inbox. It counts as routed whether somebody listens or not: a reply is delivered at
/// most once.
fn answer_request(cn: &Connection, message: &NewMessage<'_>) -> Result<(), Failure> {
    let properties = message.visible_properties()?;
    let reply = Message::from_parts("", message.routing_key, &properties, message.body)?;
    cn.front.replies().send(message.routing_key, reply);
    Ok(())
}

fn check_user(cn: &Connection, properties: &[u8]) -> Result<(), Failure> {
    let Some(claimed) = PropertiesView::new(properties).user_id() else {
        return Ok(());
    };
    if claimed == cn.user.as_bytes() || cn.open()?.access.has_tag("impersonator") {
        return Ok(());
    }
    Err(precondition_failed(format!(
        "user_id property set to '{}' but authenticated user was '{}'",
        String::from_utf8_lossy(claimed),
        cn.user
    )))
}

/// Routing keys that a message brings in its headers need the same topic permission as its own.
fn check_copies(access: &Access, exchange: &str, properties: &[u8]) -> Result<(), Failure> {
    let Some(headers) = PropertiesView::new(properties).headers() else {
        return Ok(());
    };
    for name in ["CC", "BCC"] {
        let Some(ValueView::Array(keys)) = headers.get(name) else {
            continue;
        };
        for key in keys.iter() {
            if let ValueView::Str(key) = key
                && let Ok(key) = std::str::from_utf8(key)
            {
                access.check_topic(Action::Write, exchange, key)?;
            }
        }
    }
    Ok(())
}

/// Looks through the headers once for those that mean something to a publish.
fn inspect(headers: TableView<'_>) -> Result<Delay, Failure> {
    let mut delay = Delay::None;
    for (name, value) in headers.iter() {
        match name {
            b"CC" | b"BCC" if !matches!(value, ValueView::Array(_)) => {
                return Err(precondition_failed(format!(
                    "invalid message: {{unacceptable_type_in_header,\"{}\",{}}}",
                    String::from_utf8_lossy(name),
                    type_word(&value)
                )));
            }
            b"x-deliver-at" => delay = Delay::At(deliver_at_ns(value)?),
            _ => {}
        }
    }
    Ok(delay)
}

/// `x-deliver-at`: milliseconds since 1970, or a timestamp, which has seconds.
fn deliver_at_ns(value: ValueView<'_>) -> Result<u64, Failure> {
    let ns = match value {
        ValueView::Timestamp(seconds) => seconds.checked_mul(1_000_000_000),
        value => value
            .as_integer()
            .and_then(|millis| u64::try_from(millis).ok())
            .and_then(|millis| millis.checked_mul(1_000_000)),
    };
    ns.ok_or_else(|| {
        precondition_failed("invalid x-deliver-at: give milliseconds since 1970, or a timestamp")
    })
}

/// What is wrong with a message, in RabbitMQ's words where it has some.
pub(super) fn refusal(error: Error, message: &NewMessage<'_>) -> Failure {
    if let Error::InvalidArgument(_) = &error
        && let Some(text) = PropertiesView::new(message.properties).expiration()
        && let Some(why) = expiration_fault(text)
    {
        return precondition_failed(format!(
            "invalid expiration '{}': {why}",
            String::from_utf8_lossy(text)
        ));
    }
    error.into()
}

/// Why a text is no expiration.
fn expiration_fault(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Some("no_integer".into());
    }
    let (number, rest) = text.split_at(text.len() - unsigned.len() + digits);
    if !rest.is_empty() {
        return Some(format!("{{leftover_string,\"{rest}\"}}"));
    }
    if number.starts_with('-') {
        return Some(format!("{{value_negative,{number}}}"));
    }
    let most = wherry_engine::DURATION_MAX.as_millis();
    if !number.parse::<u128>().is_ok_and(|number| number <= most) {
        return Some(format!("{{value_too_large,{number}}}"));
    }
    number.starts_with('+').then(|| "no_integer".into()) // RabbitMQ takes it
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_are_refused_in_rabbitmqs_words() {
        let fault = |text: &str| expiration_fault(text.as_bytes()).unwrap_or_default();
        assert_eq!(fault("100"), "");
        assert_eq!(fault("abc"), "no_integer");
        assert_eq!(fault(""), "no_integer");
        assert_eq!(fault("+5"), "no_integer");
        assert_eq!(fault("1.5"), "{leftover_string,\".5\"}");
        assert_eq!(fault("5 "), "{leftover_string,\" \"}");
        assert_eq!(fault("-1"), "{value_negative,-1}");
        assert_eq!(fault("99999999999999"), "{value_too_large,99999999999999}");
        let huge = "9".repeat(60);
        assert_eq!(fault(&huge), format!("{{value_too_large,{huge}}}"));
    }
}
