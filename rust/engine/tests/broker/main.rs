//! What a user of the engine sees, in memory and with virtual time.

mod consumers;
mod dedup;
mod delivery;
mod in_turn;
mod limits;
mod memory;
mod policies;
mod policies_model;
mod routing;
mod sessions;
mod time;
mod transactions;
mod watch;
mod world;
