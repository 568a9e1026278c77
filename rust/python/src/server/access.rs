//! Users and permissions, from the plain values of `wherry.server.permissions`.

use std::sync::Arc;

use pyo3::prelude::*;
use wherry_session::{AccessTable, UserLimits, VirtualHostLimits};

use crate::errors::{Error, Result};

fn text(value: &Bound<'_, PyAny>, name: &str) -> Result<String> {
    Ok(value.getattr(name)?.extract()?)
}

fn number(value: &Bound<'_, PyAny>, name: &str) -> Result<Option<u64>> {
    Ok(value.getattr(name)?.extract()?)
}

/// The table of an `AccessTable`, which comes after the one that is in force.
pub(super) fn table(source: &Bound<'_, PyAny>, before: Arc<AccessTable>) -> Result<AccessTable> {
    let mut table = AccessTable::builder_after(before);
    for user in source.getattr("users")?.try_iter()? {
        let user = user?;
        let name = text(&user, "name")?;
        table.user(&name, user.getattr("tags")?.extract::<Vec<String>>()?);
        table.user_limits(
            &name,
            UserLimits {
                connections_max: number(&user, "max_connections")?,
                channels_max: number(&user, "max_channels")?,
            },
        );
        for permission in user.getattr("permissions")?.try_iter()? {
            let permission = permission?;
            table
                .permission(
                    &name,
                    &text(&permission, "vhost")?,
                    &text(&permission, "configure")?,
                    &text(&permission, "write")?,
                    &text(&permission, "read")?,
                )
                .map_err(Error::invalid)?;
        }
        for permission in user.getattr("topic_permissions")?.try_iter()? {
            let permission = permission?;
            table
                .topic_permission(
                    &name,
                    &text(&permission, "vhost")?,
                    &text(&permission, "exchange")?,
                    &text(&permission, "write")?,
                    &text(&permission, "read")?,
                )
                .map_err(Error::invalid)?;
        }
    }
    for limits in source.getattr("vhost_limits")?.try_iter()? {
        let limits = limits?;
        table.virtual_host_limits(
            &text(&limits, "vhost")?,
            VirtualHostLimits {
                connections_max: number(&limits, "max_connections")?,
                queues_max: number(&limits, "max_queues")?,
            },
        );
    }
    Ok(table.build())
}

/// Raises InvalidArgument for a regular expression that permissions cannot use.
#[pyfunction]
pub(crate) fn check_pattern(pattern: &str) -> Result<()> {
    wherry_session::check_pattern(pattern).map_err(|text| refusal(pattern, &text))
}

fn refusal(pattern: &str, text: &str) -> Error {
    // The reason stands at the end of several lines that show where it is.
    let reason = text.rsplit("error: ").next().unwrap_or(text);
    Error::invalid(format!("'{pattern}' is no regular expression: {reason}"))
}
