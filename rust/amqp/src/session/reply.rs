//! Direct reply-to: requests name `amq.rabbitmq.reply-to`, replies come back to the channel without a queue.
//!
//! The channel's consumer of that name has an inbox with a name that nobody can guess; what the channel publishes with
//! `reply-to` set to the short name leaves with the inbox's. At most once: no acknowledgement, and gone with the channel.

use wherry_engine::properties::{Properties, PropertiesView};
use wherry_session::{Failure, REPLY_TO, ReplyInbox};

use super::failing::precondition_failed;

pub(super) struct Reply {
    pub(super) inbox: ReplyInbox,
    /// The consumer's tag.
    pub(super) tag: Box<str>,
    /// In the connection's list of those to visit.
    pub(super) listed: bool,
}

/// Whether a message asks for its replies to come to the channel it is published on.
pub(super) fn is_request(properties: &[u8]) -> bool {
    PropertiesView::new(properties).reply_to() == Some(REPLY_TO.as_bytes())
}

/// The properties with the inbox's name in place of the short one.
pub(super) fn addressed(properties: &[u8], reply: Option<&Reply>) -> Result<Vec<u8>, Failure> {
    let Some(reply) = reply else {
        return Err(precondition_failed("fast reply consumer does not exist"));
    };
    let malformed =
        |e: wherry_engine::properties::PropertiesError| precondition_failed(e.to_string());
    let owned = PropertiesView::new(properties)
        .to_properties()
        .map_err(malformed)?;
    Properties {
        reply_to: Some(reply.inbox.name().as_bytes().to_vec()),
        ..owned
    }
    .encode()
    .map_err(malformed)
}
