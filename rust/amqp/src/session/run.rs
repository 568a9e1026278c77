//! Publishes in a row: one call of the engine for many of them.
//!
//! A client that publishes fast has dozens of whole messages in one read. Those that go to the same exchange and have
//! nothing for the session to look at are handed over together: routed once, one journal record. What the engine does not
//! take of them is published one by one, so that the outcome of each is what it would have been alone.

use wherry_engine::{Error, NewMessage};
use wherry_session::{Action, Failure, RUN_BYTES_MAX, RUN_MAX, Replies};

use super::channel::Channel;
use super::connection::Connection;
use super::publish::{confirm, content_of, is_plain, is_same, make, plain_message};
use crate::codec::{FrameKind, parse_frame};

/// Publishes a message to the channel's target, and those behind it that can go with it. `following` is what was
/// received behind the first one's method frame, `used` what the first one's content took of it. Returns what all took.
pub(super) fn publish<'a>(
    ch: &mut Channel,
    cn: &mut Connection,
    first: NewMessage<'a>,
    following: &'a [u8],
    used: usize,
) -> Result<usize, Failure> {
    let one = |ch: &mut Channel, cn: &mut Connection, message: &NewMessage<'_>| {
        make(
            ch,
            cn,
            message.routing_key,
            message.properties,
            message.body,
            false,
        )
    };
    let Some(target) = &ch.target else {
        return one(ch, cn, &first).map(|()| used);
    };
    let Some((second, end)) = next(
        ch.number,
        cn,
        target.exchange.name(),
        first.routing_key,
        &following[used..],
    ) else {
        return one(ch, cn, &first).map(|()| used);
    };
    let mut messages = Vec::with_capacity(RUN_MAX);
    let mut ends = Vec::with_capacity(RUN_MAX);
    let mut bytes = first.body.len() + second.body.len();
    messages.extend([first, second]);
    ends.extend([used, used + end]);
    let limit = cn.limits().unconfirmed_per_channel_max as usize;
    let most = RUN_MAX.min(limit.saturating_sub(ch.confirms.unconfirmed()).max(2));
    while messages.len() < most && bytes < RUN_BYTES_MAX {
        let (last, at) = (messages[messages.len() - 1], ends[ends.len() - 1]);
        let name = target.exchange.name();
        let Some((message, end)) = next(ch.number, cn, name, last.routing_key, &following[at..])
        else {
            break;
        };
        bytes += message.body.len();
        messages.push(message);
        ends.push(at + end);
    }
    let mut taken = 0;
    // Who may not, or has to wait, is told for each message.
    if !cn.front.alarms().any()
        && (!target.is_topic || may_publish(cn, target.exchange.name(), &messages))
    {
        match target.exchange.publish_batch(&messages) {
            Ok(published) => {
                taken = published.accepted;
                for _ in 0..taken {
                    confirm(ch, cn, Ok(published.ticket));
                }
            }
            // That was about the first one, which is refused for good.
            Err(Error::PublishRejected { .. }) => {
                taken = 1;
                confirm(ch, cn, Err(()));
            }
            // Nothing was published: the one at fault is found below.
            Err(_) => {}
        }
        cn.traffic.messages_in += taken as u64;
    }
    for (message, &end) in messages.iter().zip(&ends).skip(taken) {
        one(ch, cn, message)?;
        if cn.pause.any() {
            return Ok(end); // the rest stays where it is
        }
    }
    Ok(ends[ends.len() - 1])
}

fn may_publish(cn: &Connection, exchange: &str, messages: &[NewMessage<'_>]) -> bool {
    let Ok(open) = cn.open() else {
        return false;
    };
    messages.iter().all(|message| {
        open.access
            .check_topic(Action::Write, exchange, message.routing_key)
            .is_ok()
    })
}

/// The next message, if all of it is here and it belongs to the run; and its bytes. Anything else is left to be found
/// when its frames are worked off in their turn.
#[inline]
fn next<'a>(
    channel: u16,
    cn: &Connection,
    exchange: &str,
    last_key: &'a str,
    bytes: &'a [u8],
) -> Option<(NewMessage<'a>, usize)> {
    let (frame, method_bytes) = parse_frame(bytes, cn.frame_max).ok()??;
    if frame.channel != channel || frame.kind != FrameKind::Method {
        return None;
    }
    // basic.publish: ticket, exchange, routing key, and no flag.
    let [0, 60, 0, 40, _, _, length, rest @ ..] = frame.payload else {
        return None;
    };
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first()?;
    let (key, rest) = rest.split_at_checked(usize::from(*length))?;
    if rest != [0] || !is_same(name, exchange.as_bytes()) {
        return None;
    }
    let routing_key = if is_same(key, last_key.as_bytes()) {
        last_key
    } else {
        std::str::from_utf8(key).ok()?
    };
    if exchange.is_empty() && Replies::is_reserved(routing_key) {
        return None;
    }
    let (properties, body, content_bytes) =
        content_of(channel, cn, &bytes[method_bytes..]).ok()??;
    if !is_plain(properties) {
        return None;
    }
    Some((
        plain_message(routing_key, properties, body),
        method_bytes + content_bytes,
    ))
}
