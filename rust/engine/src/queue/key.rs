//! What a message names by a header or a property: its group, its id.

use crate::message::Parts;
use crate::properties::PropertiesView;
use crate::table::ValueView;

/// Kinds of values, so that a text and a number are never the same key.
const TEXT: u8 = 0;
const NUMBER: u8 = 1;
const OTHER: u8 = 2;

/// Calls `f` with the kind and the bytes of the header's or property's value; none if there is no such value.
pub(crate) fn with_key<R>(
    name: &str,
    parts: &Parts<'_>,
    f: impl FnOnce(u8, &[u8]) -> R,
) -> Option<R> {
    if parts.properties.is_empty() {
        return None;
    }
    let view = PropertiesView::new(parts.properties);
    if let Some(value) = view.headers().and_then(|headers| headers.get(name)) {
        return match value {
            ValueView::Void => None,
            ValueView::Str(text) => Some(f(TEXT, text)),
            // A number is the same key however wide it was sent.
            value => match value.as_integer() {
                Some(n) => Some(f(NUMBER, &n.to_le_bytes())),
                None => Some(f(OTHER, format!("{value:?}").as_bytes())),
            },
        };
    }
    let property = match name {
        "message-id" => view.message_id(),
        "correlation-id" => view.correlation_id(),
        "type" => view.type_(),
        "app-id" => view.app_id(),
        "user-id" => view.user_id(),
        "reply-to" => view.reply_to(),
        _ => None,
    };
    property.map(|text| f(TEXT, text))
}
