//! The methods that a client calls, and what it is told.

use std::sync::Arc;

use super::routes::Consumer;
use super::{Confirming, Conversation, Peer};
use crate::link::{Failure, Malformed};
use crate::wire::amqp::frames::{self, Fields, MethodId};

/// Methods that only other clients than this program call.
const QUEUE_PURGE: MethodId = (50, 30);
const BASIC_REJECT: MethodId = (60, 90);

/// The greeting: no properties, one way to log in, whoever it is.
pub(super) fn start(peer: &Peer) {
    peer.say(|out| {
        frames::method(out, 0, frames::CONNECTION_START, |out| {
            out.extend_from_slice(&[0, 9]);
            frames::table(out, &[]);
            frames::long(out, b"PLAIN");
            frames::long(out, b"en_US");
        });
    });
}

impl Conversation<'_> {
    /// Answers a method other than basic.publish, whose arguments are left in `fields`.
    pub(super) fn answer(
        &mut self,
        channel: u16,
        id: MethodId,
        mut fields: Fields<'_>,
    ) -> Result<(), Failure> {
        let answer_id = (id.0, id.1 + 1);
        let mut arguments = Vec::new();
        match id {
            frames::CONNECTION_START_OK => return self.tune(),
            frames::CONNECTION_TUNE_OK
            | frames::CHANNEL_CLOSE_OK
            | frames::BASIC_ACK
            | frames::BASIC_NACK
            | BASIC_REJECT => return Ok(()),
            frames::CONNECTION_CLOSE => self.over = true,
            frames::CONNECTION_OPEN => arguments.push(0),
            frames::CHANNEL_OPEN => frames::long(&mut arguments, b""),
            frames::CHANNEL_CLOSE => {
                if let Some(confirming) = self.channels.get_mut(usize::from(channel)) {
                    *confirming = None;
                }
            }
            frames::EXCHANGE_DECLARE => {
                fields.u16()?;
                self.routes.exchange(fields.short()?, fields.short()?);
            }
            frames::EXCHANGE_DELETE | frames::BASIC_QOS => {}
            frames::QUEUE_DECLARE => {
                fields.u16()?;
                self.last_queue = match text(fields.short()?)? {
                    "" => self.routes.name(),
                    name => name.to_owned(),
                };
                frames::short(&mut arguments, &self.last_queue);
                arguments.extend_from_slice(&[0; 8]); // no messages, no consumers
            }
            frames::QUEUE_BIND => {
                let queue = self.queue(&mut fields)?;
                let (exchange, key) = (fields.short()?, fields.short()?);
                self.routes.bind(queue.as_bytes(), exchange, key);
            }
            frames::QUEUE_DELETE | QUEUE_PURGE => arguments.extend_from_slice(&[0; 4]),
            frames::BASIC_CONSUME => {
                let queue = self.queue(&mut fields)?;
                let tag = match text(fields.short()?)? {
                    "" => self.routes.name(),
                    tag => tag.to_owned(),
                };
                frames::short(&mut arguments, &tag);
                let consumer = Consumer {
                    peer: Arc::clone(self.peer),
                    channel,
                    tag: tag.into(),
                };
                self.routes.consume(queue.as_bytes(), consumer);
            }
            frames::BASIC_CANCEL => {
                let tag = text(fields.short()?)?;
                self.routes.cancel(self.peer, tag.as_bytes());
                frames::short(&mut arguments, tag);
            }
            frames::CONFIRM_SELECT => {
                let index = usize::from(channel);
                if self.channels.len() <= index {
                    self.channels.resize(index + 1, None);
                }
                self.channels[index] = Some(Confirming::default());
            }
            (class, method) => {
                return Err(format!("a relay has no method {method} of class {class}").into());
            }
        }
        self.peer.say(|out| {
            frames::method(out, channel, answer_id, |out| {
                out.extend_from_slice(&arguments);
            });
        });
        Ok(())
    }

    fn tune(&mut self) -> Result<(), Failure> {
        self.peer.say(|out| {
            frames::method(out, 0, frames::CONNECTION_TUNE, |out| {
                out.extend_from_slice(&2047u16.to_be_bytes());
                out.extend_from_slice(&frames::FRAME_BYTES_MAX.to_be_bytes());
                out.extend_from_slice(&0u16.to_be_bytes()); // no heartbeats wanted
            });
        });
        Ok(())
    }

    /// The queue that a method names behind its reserved number: an empty name is the last one declared.
    fn queue(&self, fields: &mut Fields<'_>) -> Result<String, Malformed> {
        fields.u16()?;
        let name = text(fields.short()?)?;
        Ok(if name.is_empty() {
            self.last_queue.clone()
        } else {
            name.to_owned()
        })
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("a name that is not UTF-8"))
}
