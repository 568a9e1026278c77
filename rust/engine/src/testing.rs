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
