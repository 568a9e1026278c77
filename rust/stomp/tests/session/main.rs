//! Sessions, driven by bytes.

mod access;
mod client;
mod connecting;
mod disks;
mod hostile;
mod messages;
mod runs;
mod subscriptions;
mod transactions;
