//! Sessions by their bytes: each test is a client that says something and looks at what comes back. No sockets, no
//! clocks, no threads unless the test is about them.

#[allow(dead_code, reason = "tests of later parts use the rest")]
mod client;

mod confirms;
mod consuming;
mod failing_disks;
mod handshake;
mod held;
mod publishing;
mod random;
mod script;
mod settling;
mod topology;
mod transactions;
