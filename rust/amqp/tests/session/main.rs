//! Sessions by their bytes: each test is a client that says something and looks at what comes back. No sockets, no
//! clocks, no threads unless the test is about them.

#[allow(dead_code, reason = "tests of later parts use the rest")]
mod client;
mod methods;

mod blocking;
mod channels;
mod confirms;
mod consuming;
mod content;
mod direct_reply;
mod exchanges;
mod failing_disks;
mod getting;
mod handshake;
mod held;
mod limits;
mod login;
mod permissions;
mod prefetch;
mod publishing;
mod queues;
mod random;
mod script;
mod settling;
mod transactions;
