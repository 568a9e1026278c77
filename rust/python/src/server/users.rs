//! The user file's form, from bytes and to bytes: `wherry.server.users_file` has the file.
//!
//! It is read here, and not by the library that reads the configuration, since each server that starts has to read it:
//! loading that library takes longer than all else that starting takes.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::errors::{Error, Result};

#[derive(Deserialize, Serialize, FromPyObject)]
#[serde(deny_unknown_fields)]
pub(crate) struct Permission {
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

#[derive(Deserialize, Serialize, FromPyObject)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopicPermission {
    vhost: String,
    exchange: String,
    write: String,
    read: String,
}

#[derive(Deserialize, Serialize, FromPyObject)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    name: String,
    hashing_algorithm: String,
    password_hash: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    permissions: Vec<Permission>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    topic_permissions: Vec<TopicPermission>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_connections: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_channels: Option<u64>,
}

#[derive(Deserialize, Serialize, FromPyObject)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostLimits {
    vhost: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_connections: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_queues: Option<u64>,
}

#[derive(Deserialize, Serialize, FromPyObject)]
#[serde(deny_unknown_fields)]
pub(crate) struct Users {
    version: u64,
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    vhost_limits: Vec<HostLimits>,
}

/// All that a file of an unknown version is asked for.
#[derive(Deserialize)]
struct Version {
    version: Option<u64>,
}

type Four = (String, String, String, String);
type UserFields = (
    String,
    String,
    String,
    Vec<String>,
    Vec<Four>,
    Vec<Four>,
    Option<u64>,
    Option<u64>,
);
type HostFields = (String, Option<u64>, Option<u64>);

fn fields(user: User) -> UserFields {
    let permissions = user.permissions.into_iter();
    let topics = user.topic_permissions.into_iter();
    (
        user.name,
        user.hashing_algorithm,
        user.password_hash,
        user.tags,
        permissions
            .map(|one| (one.vhost, one.configure, one.write, one.read))
            .collect(),
        topics
            .map(|one| (one.vhost, one.exchange, one.write, one.read))
            .collect(),
        user.max_connections,
        user.max_channels,
    )
}

/// The version in a user file.
///
/// Raises InvalidArgument when it is not JSON, or has none that is a number.
#[pyfunction]
pub(crate) fn user_file_version(data: &[u8]) -> Result<Option<u64>> {
    let read: Version = serde_json::from_slice(data).map_err(|error| damage(&error))?;
    Ok(read.version)
}

/// The fields of each user, and of each virtual host with limits, in the order of the classes' fields.
///
/// Raises InvalidArgument, whose text repeats nothing of the file: there are hashes of passwords in it.
#[pyfunction]
pub(crate) fn decode_users(data: &[u8]) -> Result<(Vec<UserFields>, Vec<HostFields>)> {
    let read: Users = serde_json::from_slice(data).map_err(|error| damage(&error))?;
    let limits = read.vhost_limits.into_iter();
    Ok((
        read.users.into_iter().map(fields).collect(),
        limits
            .map(|one| (one.vhost, one.max_connections, one.max_queues))
            .collect(),
    ))
}

/// The content of a user file.
#[pyfunction]
pub(crate) fn encode_users<'py>(py: Python<'py>, users: Users) -> Result<Bound<'py, PyBytes>> {
    let mut data = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut data, PrettyFormatter::with_indent(b" "));
    users
        .serialize(&mut serializer)
        .map_err(|error| Error::invalid(error.to_string()))?;
    Ok(PyBytes::new(py, &data))
}

fn damage(error: &serde_json::Error) -> Error {
    let what = match error.classify() {
        Category::Data => "this is no user",
        Category::Eof => "it ends here",
        Category::Syntax | Category::Io => "this is not JSON",
    };
    Error::invalid(format!(
        "line {}, column {}: {what}",
        error.line(),
        error.column()
    ))
}
