//! Sessions, driven by bytes.

mod client;
mod connecting;
mod messages;
mod subscriptions;
