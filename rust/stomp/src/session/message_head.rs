//! What the messages of one subscription begin with: everything up to the number in `message-id`. It is the same from message
//! to message as long as they come from one exchange with one routing key, so it is put together once.

use super::destination;
use crate::codec::{Escapes, write_header};

/// The beginning of messages.
pub(super) struct MessageHead {
    /// The command, the `subscription` header (none without an id) and the name of the next.
    start: Box<[u8]>,
    /// The escaped beginning of the names of deliveries.
    name: Box<[u8]>,
    /// The last one.
    whole: Vec<u8>,
    /// What the last one is for.
    exchange: String,
    routing_key: String,
}

impl MessageHead {
    /// `key` as `Subscription::key`.
    pub(super) fn new(key: &str, id: Option<&str>, session: &str, escapes: Escapes) -> MessageHead {
        let mut start = b"MESSAGE\n".to_vec();
        if let Some(id) = id {
            write_header(b"subscription", id.as_bytes(), escapes, &mut start);
        }
        start.extend_from_slice(b"destination:");
        let mut name = Vec::new();
        escapes.write(key.as_bytes(), &mut name);
        name.extend_from_slice(b"@@");
        name.extend_from_slice(session.as_bytes());
        name.extend_from_slice(b"@@");
        MessageHead {
            start: start.into(),
            name: name.into(),
            whole: Vec::new(),
            exchange: String::new(),
            routing_key: String::new(),
        }
    }

    /// The beginning of the names of deliveries, as they are written.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The beginning of a message that was published to this exchange with this key.
    #[inline]
    pub(super) fn of(&mut self, exchange: &str, routing_key: &str, escapes: Escapes) -> &[u8] {
        if self.whole.is_empty() || self.routing_key != routing_key || self.exchange != exchange {
            self.put_together(exchange, routing_key, escapes);
        }
        &self.whole
    }

    fn put_together(&mut self, exchange: &str, routing_key: &str, escapes: Escapes) {
        for (kept, now) in [
            (&mut self.exchange, exchange),
            (&mut self.routing_key, routing_key),
        ] {
            kept.clear();
            kept.push_str(now);
        }
        self.whole.clear();
        self.whole.extend_from_slice(&self.start);
        destination::write(exchange, routing_key, escapes, &mut self.whole);
        self.whole.extend_from_slice(b"\nmessage-id:");
        self.whole.extend_from_slice(&self.name);
    }
}
