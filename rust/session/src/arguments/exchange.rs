//! `exchange.declare`.

use wherry_engine::table::TableView;
use wherry_engine::{ExchangeKind, ExchangeOptions};

use super::{Reader, dedup::dedup};
use crate::failure::{Failure, FailureKind};

/// The delayed message plugin's type: routes as the type in `x-delayed-type`. Delays work on every exchange here.
const DELAYED: &str = "x-delayed-message";

/// The deduplication plugin's type: a fanout that remembers `x-cache-size` ids.
const DEDUPLICATING: &str = "x-message-deduplication";

/// What RabbitMQ's federation asks of an upstream that has the plugin, too. A link takes one answer alone for that of a
/// server without it, and then declares a fanout: the connection's end, as RabbitMQ answered to every unknown type.
const FEDERATION: &str = "x-federation-upstream";

/// How an exchange is declared, from a client's arguments. `exchange` and `virtual_host` are for error texts.
///
/// # Errors
/// [`FailureKind::PreconditionFailed`] in RabbitMQ's words for an unknown type
/// and for an argument of wrong type; [`FailureKind::CommandInvalid`] for the type that
/// federation asks for.
pub fn exchange_options(
    virtual_host: &str,
    exchange: &str,
    kind: &str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: TableView<'_>,
) -> Result<ExchangeOptions, Failure> {
    let reader = Reader {
        arguments,
        thing: "exchange",
        name: exchange,
        virtual_host,
    };
    let routing = if kind == DELAYED {
        // The plugin's text.
        let inner = reader.get("x-delayed-type").and_then(|v| v.as_str());
        inner.and_then(|k| k.parse().ok()).ok_or_else(|| {
            Failure::precondition_failed(
                "Invalid argument, 'x-delayed-type' must be an existing exchange type",
            )
        })?
    } else if kind == DEDUPLICATING {
        if !reader.has("x-cache-size") {
            return Err(Failure::precondition_failed(
                "Missing argument, 'x-cache-size' must be given to an exchange of type 'x-message-deduplication'",
            ));
        }
        ExchangeKind::Fanout
    } else {
        known_kind(kind)?
    };
    Ok(ExchangeOptions {
        kind: routing,
        type_name: [DELAYED, DEDUPLICATING]
            .contains(&kind)
            .then(|| kind.to_owned()),
        dedup: dedup(&reader, kind == DEDUPLICATING)?,
        durable,
        auto_delete,
        internal,
        alternate_exchange: reader
            .exchange_name("alternate-exchange")?
            .map(str::to_owned),
        arguments: reader.table()?,
    })
}

fn known_kind(kind: &str) -> Result<ExchangeKind, Failure> {
    kind.parse().map_err(|_| {
        let word = if kind.is_empty() {
            "invalid"
        } else {
            "unknown"
        };
        let text = format!("{word} exchange type '{kind}'");
        let failure = if kind == FEDERATION {
            FailureKind::CommandInvalid
        } else {
            FailureKind::PreconditionFailed
        };
        Failure::new(failure, text)
    })
}
