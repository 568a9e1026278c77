//! Headers of SEND as AMQP properties, and AMQP properties as headers of MESSAGE.
//!
//! | header | property | |
//! |---|---|---|
//! | `content-type` `content-encoding` `correlation-id` `expiration` `type` `user-id` `app-id` `cluster-id` | the same | |
//! | `amqp-message-id` | message-id | `message-id` is the protocol's own |
//! | `persistent` | delivery-mode | `true`: 2 |
//! | `priority` `timestamp` | the same | numbers |
//! | `reply-to` | the same | the bare name of a queue is shown with `/reply-queue/` |
//! | every other | headers | as long strings; from AMQP see `value.rs` |
//!
//! Properties are encoded here directly, in the form in which the engine keeps them: a SEND allocates nothing for them. A
//! header of a message that has one of the protocol's own names is left out: whoever published it could pretend what he
//! likes to a client that takes the last of repeated headers.

use std::borrow::Cow;

use wherry_engine::properties::{PropertiesView, SHORT_BYTES_MAX};
use wherry_engine::table::{NAME_BYTES_MAX, ValueView};

use super::refusal::Refusal;
use super::{arguments, destination, value};
use crate::codec::{Escapes, Frame, Name, write_header, write_number, write_value};

/// What a MESSAGE says about itself.
const OWN_OF_MESSAGE: [&[u8]; 8] = [
    b"subscription",
    b"destination",
    b"message-id",
    b"redelivered",
    b"ack",
    b"content-length",
    b"receipt",
    b"receipt-id",
];

/// What of a SEND's headers the session itself has to know.
#[derive(Debug, Default)]
pub(super) struct Noted<'a> {
    pub(super) user_id: Option<Cow<'a, str>>,
    /// Milliseconds since 1970.
    pub(super) deliver_at_ms: Option<u64>,
    /// A header whose type cannot be right.
    pub(super) carbon_copy: bool,
}

impl Noted<'_> {
    /// Whether there is anything.
    pub(super) fn is_empty(&self) -> bool {
        self.user_id.is_none() && self.deliver_at_ms.is_none() && !self.carbon_copy
    }
}

#[derive(Default)]
struct Fields<'a> {
    content_type: Option<Cow<'a, str>>,
    content_encoding: Option<Cow<'a, str>>,
    persistent: bool,
    priority: Option<u8>,
    correlation_id: Option<Cow<'a, str>>,
    reply_to: Option<Cow<'a, str>>,
    expiration: Option<Cow<'a, str>>,
    message_id: Option<Cow<'a, str>>,
    timestamp: Option<u64>,
    type_: Option<Cow<'a, str>>,
    user_id: Option<Cow<'a, str>>,
    app_id: Option<Cow<'a, str>>,
    cluster_id: Option<Cow<'a, str>>,
}

/// Writes the properties of a SEND to `out` (nothing, if it has none). `reply_to` takes the place of the header if it is
/// given; `table` is room for the headers.
pub(super) fn properties<'a>(
    frame: &Frame<'a>,
    reply_to: Option<&'a str>,
    table: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Noted<'a>, Refusal> {
    table.clear();
    out.clear();
    let mut fields = Fields::default();
    let mut noted = Noted::default();
    let mut any = false;
    for (index, header) in frame.headers().enumerate() {
        // What a SEND says about itself; the rest is the message's.
        if matches!(
            header.known(),
            Name::Destination | Name::ContentLength | Name::Receipt | Name::Transaction
        ) {
            continue;
        }
        if (frame.headers().take(index)).any(|other| other.is_like(&header)) {
            continue; // the first of repeated ones counts
        }
        let text = header.value();
        any = true;
        match header.known() {
            Name::ContentType => fields.content_type = Some(text),
            Name::ContentEncoding => fields.content_encoding = Some(text),
            Name::Persistent => fields.persistent = flag("persistent", &text)?,
            Name::Priority => fields.priority = Some(number("priority", &text)?),
            Name::CorrelationId => fields.correlation_id = Some(text),
            Name::ReplyTo => fields.reply_to = Some(reply_to.map_or(text, Cow::Borrowed)),
            Name::Expiration => fields.expiration = Some(text),
            Name::AmqpMessageId => fields.message_id = Some(text),
            Name::Timestamp => fields.timestamp = Some(number("timestamp", &text)?),
            Name::Type => fields.type_ = Some(text),
            Name::UserId => {
                noted.user_id = Some(text.clone());
                fields.user_id = Some(text);
            }
            Name::AppId => fields.app_id = Some(text),
            Name::ClusterId => fields.cluster_id = Some(text),
            _ => {
                let name = header.name();
                match &*name {
                    other if arguments::is_of_queue(other) => continue,
                    "x-deliver-at" => noted.deliver_at_ms = Some(number("x-deliver-at", &text)?),
                    "CC" | "BCC" => noted.carbon_copy = true,
                    _ => {}
                }
                append_long(&name, &text, table)?;
            }
        }
    }
    if any {
        fields.encode(table, out)?;
    }
    Ok(noted)
}

fn append_long(name: &str, text: &str, table: &mut Vec<u8>) -> Result<(), Refusal> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Refusal::invalid(
            "header name",
            name,
            "at most 255 bytes are possible",
        ));
    }
    table.push(name.len() as u8);
    table.extend_from_slice(name.as_bytes());
    table.push(b'S');
    // A header line is far shorter than 4 GiB.
    table.extend_from_slice(&(text.len() as u32).to_be_bytes());
    table.extend_from_slice(text.as_bytes());
    Ok(())
}

/// `true` or `false`.
pub(super) fn flag(name: &str, text: &str) -> Result<bool, Refusal> {
    value::truth(text).ok_or_else(|| Refusal::invalid(name, text, "use true or false"))
}

/// A whole number.
pub(super) fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Refusal> {
    // Rust reads "+5" as well.
    Some(text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Refusal::invalid(name, text, "use a whole number in range"))
}

impl Fields<'_> {
    /// The encoding of `wherry_engine::properties`.
    fn encode(&self, table: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut flags = 0u16;
        out.extend_from_slice(&[0; 2]);
        let mut short = |bit: u32, name: &str, text: &Option<Cow<'_, str>>, out: &mut Vec<u8>| {
            if let Some(text) = text {
                if text.len() > SHORT_BYTES_MAX {
                    return Err(Refusal::invalid(
                        name,
                        text,
                        "at most 255 bytes are possible",
                    ));
                }
                flags |= 1 << bit;
                out.push(text.len() as u8);
                out.extend_from_slice(text.as_bytes());
            }
            Ok(())
        };
        short(15, "content-type", &self.content_type, out)?;
        short(14, "content-encoding", &self.content_encoding, out)?;
        if !table.is_empty() {
            out.extend_from_slice(&(table.len() as u32).to_be_bytes());
            out.extend_from_slice(table);
        }
        if self.persistent {
            out.push(2);
        }
        out.extend(self.priority);
        short(10, "correlation-id", &self.correlation_id, out)?;
        short(9, "reply-to", &self.reply_to, out)?;
        short(8, "expiration", &self.expiration, out)?;
        short(7, "amqp-message-id", &self.message_id, out)?;
        if let Some(seconds) = self.timestamp {
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        short(5, "type", &self.type_, out)?;
        short(4, "user-id", &self.user_id, out)?;
        short(3, "app-id", &self.app_id, out)?;
        short(2, "cluster-id", &self.cluster_id, out)?;
        for (bit, present) in [
            (13, !table.is_empty()),
            (12, self.persistent),
            (11, self.priority.is_some()),
            (6, self.timestamp.is_some()),
        ] {
            flags |= u16::from(present) << bit;
        }
        if flags == 0 {
            out.clear();
        } else {
            out[..2].copy_from_slice(&flags.to_be_bytes());
        }
        Ok(())
    }
}

/// Appends what the properties of a message say, as headers. `counts`: `x-delivery-count` is the
/// queue's to say, and what the publisher sent under that name is left out.
#[inline]
pub(super) fn write(properties: &[u8], counts: bool, escapes: Escapes, out: &mut Vec<u8>) {
    if properties.is_empty() {
        return;
    }
    let view = PropertiesView::new(properties);
    let mut text = |name: &str, bytes: Option<&[u8]>| {
        if let Some(bytes) = bytes {
            let text = value::text(ValueView::Str(bytes));
            write_value(name.as_bytes(), &text, escapes, out);
        }
    };
    text("content-type", view.content_type());
    text("content-encoding", view.content_encoding());
    text("correlation-id", view.correlation_id());
    text("expiration", view.expiration());
    text("amqp-message-id", view.message_id());
    text("type", view.type_());
    text("user-id", view.user_id());
    text("app-id", view.app_id());
    text("cluster-id", view.cluster_id());
    if let Some(reply_to) = view.reply_to() {
        let prefix = destination::reply_prefix(reply_to);
        let mut full = prefix.as_bytes().to_vec();
        full.extend_from_slice(&value::text(ValueView::Str(reply_to)));
        write_value(b"reply-to", &full, escapes, out);
    }
    if view.delivery_mode() == Some(2) {
        out.extend_from_slice(b"persistent:true\n");
    }
    if let Some(priority) = view.priority() {
        out.extend_from_slice(b"priority:");
        write_number(priority.into(), out);
        out.push(b'\n');
    }
    if let Some(seconds) = view.timestamp() {
        out.extend_from_slice(b"timestamp:");
        write_number(seconds, out);
        out.push(b'\n');
    }
    for (name, value) in view.headers().into_iter().flatten() {
        if std::str::from_utf8(name).is_ok()
            && !is_taken(name, &view)
            && !(counts && name == b"x-delivery-count")
        {
            write_header(name, &value::text(value), escapes, out);
        }
    }
}

/// Whether the frame has a header of that name already, or may get one.
fn is_taken(name: &[u8], view: &PropertiesView<'_>) -> bool {
    match name {
        b"content-type" => view.content_type().is_some(),
        b"content-encoding" => view.content_encoding().is_some(),
        b"persistent" => view.delivery_mode() == Some(2),
        b"priority" => view.priority().is_some(),
        b"correlation-id" => view.correlation_id().is_some(),
        b"reply-to" => view.reply_to().is_some(),
        b"expiration" => view.expiration().is_some(),
        b"amqp-message-id" => view.message_id().is_some(),
        b"timestamp" => view.timestamp().is_some(),
        b"type" => view.type_().is_some(),
        b"user-id" => view.user_id().is_some(),
        b"app-id" => view.app_id().is_some(),
        b"cluster-id" => view.cluster_id().is_some(),
        other => OWN_OF_MESSAGE.contains(&other),
    }
}
