//! Brokers that are broken on purpose: a crash test that does not notice proves nothing. Feature `testing`.

use std::sync::Arc;

use wherry_journal::testing::{Sabotage, open_sabotaged};

use crate::{Broker, BrokerOptions, Error};

/// Opens a broker over a sabotaged journal.
///
/// # Errors
/// As [`Broker::open`].
pub fn open_broken(options: BrokerOptions, sabotage: Sabotage) -> Result<Arc<Broker>, Error> {
    Broker::open_by(options, |disk, options, replay| {
        open_sabotaged(disk, options, replay, sabotage)
    })
}

/// Lets others run: seldom for long, since a race with a slow partner needs one side to stand still for a while.
pub(crate) fn interrupt() {
    thread_local!(static CALLS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
    let calls = CALLS.get().wrapping_add(1);
    CALLS.set(calls);
    for _ in 0..if calls.is_multiple_of(16) { 50 } else { 1 } {
        std::thread::yield_now();
    }
}
