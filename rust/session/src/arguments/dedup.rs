//! Deduplication, for queues and exchanges: `x-dedup-*`, and the names of RabbitMQ's community plugin.
//!
//! The plugin's queue argument `x-message-deduplication` alone means "not twice in the queue at the same time", which
//! ends when the message is acknowledged. The engine's window does not end then, so that the plugin's rule cannot be kept:
//! it would lose what the plugin takes. Therefore the argument is refused without `x-cache-size` or `x-cache-ttl`, which
//! ask for a window. Its per-message header `x-cache-ttl` is not read.

use wherry_engine::{DEDUP_ENTRIES_MAX, Dedup, DedupKey};

use super::Reader;
use crate::failure::Failure;

/// The header that the plugin reads.
const PLUGIN_HEADER: &str = "x-deduplication-header";

/// The window that the own arguments or, where `plugin` says that they count, the plugin's ask for.
pub(super) fn dedup(reader: &Reader<'_>, plugin: bool) -> Result<Option<Dedup>, Failure> {
    let own = own(reader)?;
    if !plugin {
        return Ok(own);
    }
    if own.is_some() {
        return Err(reader.invalid("x-dedup-window", "\"not together with x-cache-size\""));
    }
    if let Some(word) = reader.text("x-cache-persistence")?
        && !["disk", "memory"].contains(&word)
    {
        return Err(reader.invalid(
            "x-cache-persistence",
            format_args!("\"unsupported persistence '{word}'\""),
        ));
    }
    Ok(Some(Dedup {
        by: DedupKey::Named(PLUGIN_HEADER.into()),
        window: reader.positive_duration("x-cache-ttl")?,
        size: entries(reader, "x-cache-size")?,
    }))
}

fn own(reader: &Reader<'_>) -> Result<Option<Dedup>, Failure> {
    let header = reader.name("x-dedup-header")?;
    let window = reader.positive_duration("x-dedup-window")?;
    let size = entries(reader, "x-dedup-size")?;
    if header == Some("") {
        return Err(reader.invalid("x-dedup-header", "\"name a header or a property\""));
    }
    if window.is_none() && size.is_none() {
        return match header {
            None => Ok(None),
            Some(_) => {
                Err(reader.invalid("x-dedup-header", "\"needs x-dedup-window or x-dedup-size\""))
            }
        };
    }
    Ok(Some(Dedup {
        by: header.map_or(DedupKey::Default, |name| DedupKey::Named(name.into())),
        window,
        size,
    }))
}

fn entries(reader: &Reader<'_>, key: &str) -> Result<Option<u64>, Failure> {
    match reader.positive(key)? {
        Some(n) if n > DEDUP_ENTRIES_MAX => {
            Err(reader.invalid(key, format_args!("{{value_too_large,{n}}}")))
        }
        other => Ok(other),
    }
}
