//! The server's classes: what its sessions share, and one session. Python moves bytes between sockets and sessions;
//! everything that happens per message is in the crates below.

mod access;
mod front;
mod output;
mod session;
mod topology;
mod users;

pub(crate) use access::check_pattern;
pub(crate) use front::FrontEnd;
pub(crate) use session::Session;
pub(crate) use topology::{declare_exchange_from_arguments, declare_queue_from_arguments};
pub(crate) use users::{decode_users, encode_users, user_file_version};
