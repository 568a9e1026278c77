//! Messages as handed in, and the checks that they pass before anything else happens.

use std::borrow::Cow;
use std::time::Duration;

use crate::error::Error;
use crate::exchange::Exchange;
use crate::message::{Facts, Parts, check_content};
use crate::options::DURATION_MAX;
use crate::properties::PropertiesView;
use crate::publish::without_bcc;
use crate::table::ValueView;

/// When a message becomes deliverable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delay {
    /// At once, unless an `x-delay` header (milliseconds) says otherwise.
    #[default]
    None,
    /// After this time.
    For(Duration),
    /// At this time, in nanoseconds since the UNIX epoch; a past time means at once.
    At(u64),
}

/// A message as handed in.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// At most 255 bytes.
    pub routing_key: &'a str,
    /// Encoded basic properties (`properties.rs`); empty for none.
    pub properties: &'a [u8],
    /// Anything.
    pub body: &'a [u8],
    /// Survives a restart in durable queues. A delivery mode in the properties counts instead, if there is one.
    pub persistent: bool,
    /// An error when no queue takes it.
    pub mandatory: bool,
    /// When it becomes deliverable.
    pub delay: Delay,
}

impl<'a> NewMessage<'a> {
    /// A persistent message without properties.
    pub fn new(routing_key: &'a str, body: &'a [u8]) -> Self {
        NewMessage {
            routing_key,
            properties: &[],
            body,
            persistent: true,
            mandatory: false,
            delay: Delay::None,
        }
    }

    /// The properties as anybody but the broker may see them: without the BCC header.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: they cannot be taken apart.
    pub fn visible_properties(&self) -> Result<Cow<'a, [u8]>, Error> {
        Ok(match without_bcc(self.properties)? {
            Some(stripped) => Cow::Owned(stripped),
            None => Cow::Borrowed(self.properties),
        })
    }
}

/// A checked message on its way into queues.
#[derive(Clone, Copy)]
pub(crate) struct Draft<'a> {
    pub(crate) parts: Parts<'a>,
    pub(crate) facts: Facts,
    pub(crate) priority: u8,
}

fn parse_expiration(text: &[u8]) -> Result<u64, Error> {
    let invalid = || {
        Error::InvalidArgument(format!(
            "invalid expiration '{}': give whole milliseconds as decimal text, from 0 to ten years",
            String::from_utf8_lossy(text)
        ))
    };
    let digits = std::str::from_utf8(text).map_err(|_| invalid())?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let millis: u64 = digits.parse().map_err(|_| invalid())?;
    if u128::from(millis) > DURATION_MAX.as_millis() {
        return Err(invalid());
    }
    Ok(millis * 1_000_000)
}

/// `x-delay` as the delayed-message plugin reads it: a number of milliseconds.
fn header_delay(headers: crate::table::TableView<'_>) -> Result<u64, Error> {
    match headers.get("x-delay") {
        None => Ok(0),
        Some(value) => {
            let millis = value.as_integer().or_else(|| match value {
                ValueView::Str(text) => std::str::from_utf8(text).ok()?.parse().ok(),
                _ => None,
            });
            match millis {
                Some(n) if n <= 0 => Ok(0), // the plugin delivers at once
                Some(n) if u128::from(n.unsigned_abs()) <= DURATION_MAX.as_millis() => {
                    Ok(n.unsigned_abs() * 1_000_000)
                }
                _ => Err(Error::InvalidArgument(
                    "invalid x-delay: give milliseconds, up to ten years".into(),
                )),
            }
        }
    }
}

impl<'a> Draft<'a> {
    /// Checks a message and works out what queues need to know of it.
    pub(crate) fn new(
        exchange: &'a Exchange,
        message: &NewMessage<'a>,
        now: u64,
    ) -> Result<Draft<'a>, Error> {
        check_content(message.routing_key, message.properties, message.body)?;
        let mut facts = Facts {
            published_ns: now,
            expires_ns: 0,
            due_ns: 0,
            persistent: message.persistent,
        };
        let mut priority = 0;
        let mut delay_ns = 0;
        if !message.properties.is_empty() {
            let view = PropertiesView::new(message.properties);
            priority = view.priority().unwrap_or(0);
            if let Some(mode) = view.delivery_mode() {
                facts.persistent = mode == 2;
            }
            if let Some(text) = view.expiration() {
                // Zero is kept apart from "never": such a message is due to die as soon as it was published.
                facts.expires_ns = (now + parse_expiration(text)?).max(1);
            }
            if let Some(headers) = view.headers() {
                delay_ns = header_delay(headers)?;
            }
        }
        match message.delay {
            Delay::None => {}
            Delay::For(time) if time > DURATION_MAX => {
                return Err(Error::InvalidArgument(
                    "delay: the limit is ten years".into(),
                ));
            }
            Delay::For(time) => delay_ns = time.as_nanos() as u64,
            Delay::At(ns) => {
                delay_ns = ns.saturating_sub(now);
                if delay_ns > DURATION_MAX.as_nanos() as u64 {
                    return Err(Error::InvalidArgument(
                        "delivery time: the limit is ten years ahead".into(),
                    ));
                }
            }
        }
        if delay_ns > 0 {
            facts.due_ns = now + delay_ns;
            if facts.expires_ns != 0 {
                facts.expires_ns += delay_ns; // its time to live begins when it becomes deliverable
            }
        }
        let parts = Parts {
            exchange: exchange.name(),
            routing_key: message.routing_key,
            properties: message.properties,
            body: message.body,
        };
        Ok(Draft {
            parts,
            facts,
            priority,
        })
    }

    pub(crate) fn headers(&self) -> Option<crate::table::TableView<'a>> {
        if self.parts.properties.is_empty() {
            return None;
        }
        PropertiesView::new(self.parts.properties).headers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiration_is_whole_milliseconds() {
        assert_eq!(parse_expiration(b"0").unwrap(), 0);
        assert_eq!(parse_expiration(b"1500").unwrap(), 1_500_000_000);
        for bad in [
            &b""[..],
            b"-1",
            b"1.5",
            b"+3",
            b" 7",
            b"99999999999999999999",
            b"\xff",
            b"315360000001",
        ] {
            assert!(parse_expiration(bad).is_err(), "{bad:?}");
        }
    }
}
