//! What a protocol adds to the load: how its frames look, and nothing of what is measured or checked.
//!
//! The frames are written and scanned here by hand, on purpose: a load that shares its codec with the server under test could
//! share a mistake with it, and it speaks to any server. The modes, the producer and the consumer are the same for all
//! protocols and are compiled for each, so that a message costs the generator no indirect call.

pub(crate) mod amqp;
pub(crate) mod stomp;

use std::time::Instant;

use crate::counter::Counter;
use crate::entities::ENTITY_DIGITS;
use crate::link::{Failure, Link, Target};
use crate::options::{Options, Value};

/// Where a run's messages go.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    /// Of a fan-out, where every queue gets what is published to it, or before the queues that share the entities.
    pub(crate) exchange: Option<Exchange>,
    pub(crate) queues: Vec<String>,
}

/// An exchange to which all queues are bound with one key.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) binding_key: &'static str,
}

/// One message to write, with its body.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) destination: &'a Destination,
    pub(crate) persistent: bool,
    pub(crate) confirmed: bool,
    pub(crate) body: &'a [u8],
}

/// Where one message goes: to a queue, to all queues of a fan-out, or to the one that its entity's routing key leads to; and
/// what its declaration needs, where publishing declares.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    Queue(String, Vec<(String, Value)>),
    Fanout(String),
    Entities(String),
}

/// The server's word on publishes: the tag of a producer's first message is 1, as sequence number 0 is its first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confirm {
    pub(crate) tag: u64,
    /// All up to this tag; with tag 0, all that were sent.
    pub(crate) multiple: bool,
    pub(crate) refused: bool,
}

/// What a consumer asks for.
#[derive(Debug)]
pub(crate) struct Subscription<'a> {
    /// Of a fan-out.
    pub(crate) exchange: Option<&'a str>,
    /// Index and name of each queue to consume from.
    pub(crate) queues: &'a [(u32, String)],
    pub(crate) arguments: &'a [(String, Value)],
    pub(crate) prefetch: u16,
    /// 0: automatic acknowledgement; else one acknowledgement for so many.
    pub(crate) ack_every: u64,
    /// No acknowledgement stands for those before it.
    pub(crate) individual: bool,
}

/// A connection that speaks the protocol, logged in. One thread uses it, for one purpose: to declare, to publish or to
/// consume.
pub(crate) trait Wire: Sized + Send + 'static {
    /// Connects and logs in, ready to be used.
    fn open(target: &Target, inbox_bytes: usize) -> Result<Self, Failure>;

    fn link(&mut self) -> &mut Link;

    /// Closes in order: when it returns, the server has handled everything sent before.
    fn close(self) -> Result<(), Failure>;

    /// Makes the queues and, for a fan-out, what copies to them.
    fn declare(&mut self, topology: &Topology, options: &Options) -> Result<(), Failure>;

    /// How many messages wait in the queues, by the server's word; None if the protocol has no way to ask.
    fn waiting(&mut self, queues: &[String]) -> Result<Option<u64>, Failure>;

    /// Deletes what [`declare`](Wire::declare) made. False: the protocol cannot, and the empty queues stay.
    fn delete(&mut self, topology: &Topology) -> Result<bool, Failure>;

    /// Asks for confirms of all that is published here from now on.
    fn expect_confirms(&mut self) -> Result<(), Failure>;

    /// Appends the frames of one message. The same arguments but for the body's content give the same length.
    fn publish(out: &mut Vec<u8>, message: &Outgoing<'_>);

    /// Where the body of `body_bytes` begins in the `frame_bytes` that [`publish`](Wire::publish) appended.
    fn body_at(frame_bytes: usize, body_bytes: usize) -> usize;

    /// Writes into the frames of a message published to [`Destination::Entities`] which entity it is of.
    fn entity(frames: &mut [u8], exchange: &str, digits: [u8; ENTITY_DIGITS]);

    /// Writes into published frames which number the message has, where the protocol wants it for a confirm.
    fn number(frames: &mut [u8], body_at: usize, sequence: u64);

    /// Handles what was received on a publishing connection; fails if the server refuses or closes.
    fn confirms(&mut self, each: impl FnMut(Confirm) -> Result<(), Failure>)
    -> Result<(), Failure>;

    /// Begins to consume.
    fn consume(&mut self, wanted: &Subscription<'_>) -> Result<(), Failure>;

    /// Counts what was received on a consuming connection, and prepares acknowledgements.
    fn deliveries(&mut self, counter: &mut Counter) -> Result<(), Failure>;

    /// Writes the acknowledgements that are due, or those of everything that was delivered.
    fn acknowledge(&mut self, everything: bool, deadline: Instant) -> Result<(), Failure>;
}

/// A server that closes says why; when a write to it fails, that may still lie unread. `told` looks for it in what was
/// received and fails with it.
pub(crate) fn why_closed<W: Wire>(wire: &mut W, failure: Failure) -> Failure {
    while matches!(wire.link().receive(), Ok(true)) {
        if let Err(told) = wire.confirms(|_| Ok(())) {
            return told;
        }
    }
    failure
}

/// The number in digits that this program wrote itself; of anything else, some number.
#[inline]
fn decimal(digits: &[u8]) -> u32 {
    digits.iter().fold(0u32, |number, digit| {
        number
            .wrapping_mul(10)
            .wrapping_add(u32::from(digit.wrapping_sub(b'0') % 10))
    })
}
