//! Work for which there was no room: kept, and done when there is.
//!
//! While something is stuck the connection works off no frame, so there is one of these at most.

use std::sync::Arc;

use wherry_engine::{Delay, Exchange, NewMessage};

/// A publish that was accepted and could not be made.
pub(super) struct StuckPublish {
    pub(super) channel: u16,
    pub(super) exchange: Arc<Exchange>,
    pub(super) routing_key: Box<str>,
    pub(super) properties: Box<[u8]>,
    pub(super) body: Box<[u8]>,
    pub(super) mandatory: bool,
    pub(super) delay: Delay,
}

impl StuckPublish {
    pub(super) fn new(
        channel: u16,
        exchange: &Arc<Exchange>,
        message: &NewMessage<'_>,
    ) -> StuckPublish {
        StuckPublish {
            channel,
            exchange: exchange.clone(),
            routing_key: message.routing_key.into(),
            properties: message.properties.into(),
            body: message.body.into(),
            mandatory: message.mandatory,
            delay: message.delay,
        }
    }

    pub(super) fn message(&self) -> NewMessage<'_> {
        NewMessage {
            routing_key: &self.routing_key,
            properties: &self.properties,
            body: &self.body,
            persistent: false,
            mandatory: self.mandatory,
            delay: self.delay,
        }
    }
}

pub(super) enum Stuck {
    Publish(Box<StuckPublish>),
    /// The transaction of this channel is to be committed.
    Commit(u16),
}
