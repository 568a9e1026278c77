//! Bodies and nothing around them, for the relay that stands in for a broker. It has no queues, no confirms and no
//! acknowledgements: one producer, one consumer.

use std::time::Instant;

use super::{Confirm, Outgoing, Subscription, Topology, Wire};
use crate::counter::Counter;
use crate::entities::ENTITY_DIGITS;
use crate::link::{Failure, Link, ReplyDeadline, Target};
use crate::options::Options;
use crate::relay::CONSUME;

pub(crate) struct Relay {
    link: Link,
}

impl Wire for Relay {
    fn open(target: &Target, inbox_bytes: usize) -> Result<Relay, Failure> {
        Ok(Relay {
            link: Link::connect(target, inbox_bytes)?,
        })
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// The relay passes on what it has read before it sees the end.
    fn close(self) -> Result<(), Failure> {
        Ok(())
    }

    fn declare(&mut self, _: &Topology, _: &Options) -> Result<(), Failure> {
        Ok(())
    }

    fn waiting(&mut self, _: &[String]) -> Result<Option<u64>, Failure> {
        Ok(None)
    }

    fn delete(&mut self, _: &Topology) -> Result<bool, Failure> {
        Ok(true)
    }

    fn expect_confirms(&mut self) -> Result<(), Failure> {
        Err("a relay confirms nothing".into())
    }

    fn publish(out: &mut Vec<u8>, message: &Outgoing<'_>) {
        out.extend_from_slice(message.body);
    }

    fn body_at(_: usize, _: usize) -> usize {
        0
    }

    fn entity(_: &mut [u8], _: &str, _: [u8; ENTITY_DIGITS]) {}

    fn number(_: &mut [u8], _: usize, _: u64) {}

    fn confirms(&mut self, _: impl FnMut(Confirm) -> Result<(), Failure>) -> Result<(), Failure> {
        Ok(())
    }

    /// Waits for the relay's word, or the first messages would go nowhere.
    fn consume(&mut self, _: &Subscription<'_>) -> Result<(), Failure> {
        let deadline = ReplyDeadline::start();
        self.link.send(&CONSUME, deadline.0)?;
        loop {
            let told = self.link.inbox.next(|bytes| {
                Ok(bytes
                    .first_chunk::<{ CONSUME.len() }>()
                    .map(|told| (told, told.len())))
            })?;
            match told {
                Some(&CONSUME) => return Ok(()),
                Some(_) => return Err("this is no relay".into()),
                None => {
                    deadline.check(&"of the relay")?;
                    self.link.receive()?;
                }
            }
        }
    }

    fn deliveries(&mut self, counter: &mut Counter) -> Result<(), Failure> {
        let length = counter.body_bytes();
        while let Some(body) = self
            .link
            .inbox
            .next(|bytes| Ok(bytes.get(..length).map(|body| (body, length))))?
        {
            counter.begin(0, false);
            counter.part(body);
            counter.arrived();
        }
        Ok(())
    }

    fn acknowledge(&mut self, _: bool, _: Instant) -> Result<(), Failure> {
        Ok(())
    }
}
