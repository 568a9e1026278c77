//! The structure under a queue: a FIFO, priority lanes, or message groups. One face over the three, so that the rest
//! of the engine does not care.

use smallvec::SmallVec;
use wherry_queues::groups::{GroupClaim, GroupLease, SharedGroups};
use wherry_queues::{Claim, Fifo, Lease, PriorityFifo};

use crate::message::Stored;

/// The owner's right to one leased message.
pub(crate) enum Token {
    Fifo(Lease<Stored>),
    Priority(Lease<Stored>),
    Group(GroupLease<Stored>),
}

impl Token {
    pub(crate) fn level(&self) -> u8 {
        match self {
            Token::Priority(lease) => lease.level(),
            Token::Fifo(_) | Token::Group(_) => 0,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        match self {
            Token::Fifo(lease) => lease.position(),
            Token::Priority(lease) => lease.position(),
            Token::Group(lease) => lease.position(),
        }
    }

    pub(crate) fn note(&self) -> u32 {
        match self {
            Token::Fifo(lease) => lease.note(),
            Token::Priority(lease) => lease.note(),
            Token::Group(lease) => lease.note(),
        }
    }

    pub(crate) fn stored(&self) -> &Stored {
        match self {
            Token::Fifo(lease) => lease.value(),
            Token::Priority(lease) => lease.value(),
            Token::Group(lease) => lease.value(),
        }
    }
}

/// How many messages of a queue with groups are put in or settled under one hold of its lock.
const LOCKED_MAX: usize = 64;

/// Where taken tokens go before they are looked at; kept by the taker, so that taking allocates nothing.
#[derive(Default)]
pub(crate) struct TakeBuffer {
    fifo: Vec<Lease<Stored>>,
    priority: Vec<Lease<Stored>>,
    group: Vec<GroupLease<Stored>>,
}

/// Places reserved for messages that are about to be written.
pub(crate) enum ReadyClaim<'a> {
    Fifo(Claim<'a, Stored>),
    /// One claim a message, since each has its own level.
    Priority(SmallVec<[(u8, Claim<'a, Stored>); 1]>),
    Group(GroupClaim<'a, Stored>),
}

pub(crate) enum Ready {
    Fifo(Fifo<Stored>),
    Priority(PriorityFifo<Stored>),
    /// Boxed: most queues are plain ones, and as small as a `Fifo`.
    Groups(Box<SharedGroups<Stored>>),
}

const _: () = assert!(size_of::<Ready>() == size_of::<Fifo<Stored>>());

/// What is asked of a message to find its place.
pub(crate) trait Placed {
    fn level(&self) -> u8;
    fn group(&self) -> Option<u64>;
}

impl<'a> ReadyClaim<'a> {
    /// Level and position of the `index`th message.
    pub(crate) fn place(&self, index: usize) -> (u8, u64) {
        match self {
            ReadyClaim::Fifo(claim) => (0, claim.first() + index as u64),
            ReadyClaim::Priority(claims) => (claims[index].0, claims[index].1.first()),
            ReadyClaim::Group(claim) => (0, claim.first() + index as u64),
        }
    }

    /// Makes all of them ready.
    pub(crate) fn fill(self, messages: impl ExactSizeIterator<Item = Stored>) {
        match self {
            ReadyClaim::Fifo(claim) => claim.fill(messages.map(|m| (m, 0))),
            ReadyClaim::Priority(claims) => {
                for ((_, claim), message) in claims.into_iter().zip(messages) {
                    claim.fill(std::iter::once((message, 0)));
                }
            }
            ReadyClaim::Group(claim) => claim.fill(messages.map(|m| (m, 0))),
        }
    }
}

impl Ready {
    pub(crate) fn claim<P: Placed>(
        &self,
        messages: impl ExactSizeIterator<Item = P>,
    ) -> ReadyClaim<'_> {
        match self {
            Ready::Fifo(fifo) => ReadyClaim::Fifo(fifo.claim(messages.len())),
            Ready::Priority(lanes) => ReadyClaim::Priority(
                messages
                    .map(|m| {
                        let level = m.level();
                        (level, lanes.claim(level, 1))
                    })
                    .collect(),
            ),
            Ready::Groups(groups) => ReadyClaim::Group(groups.claim(messages.map(|m| m.group()))),
        }
    }

    /// Puts messages at the ends of their levels, and tells `f` of each where: claims and their filling in one. Later
    /// ones may not be there yet when it is told.
    pub(crate) fn push<P: Placed>(
        &self,
        mut messages: impl ExactSizeIterator<Item = (P, Stored)>,
        mut f: impl FnMut(P, u8, u64),
    ) {
        match self {
            Ready::Fifo(fifo) => {
                for (placed, message) in messages {
                    let position = fifo.push(message, 0);
                    f(placed, 0, position);
                }
            }
            Ready::Priority(lanes) => {
                for (placed, message) in messages {
                    let level = placed.level();
                    let position = lanes.push(level, message, 0);
                    f(placed, level, position);
                }
            }
            Ready::Groups(groups) if messages.len() == 1 => {
                for (placed, message) in messages {
                    let position = groups.push(placed.group(), message, 0);
                    f(placed, 0, position);
                }
            }
            Ready::Groups(groups) => {
                // Hashes and messages are made outside the lock, and it is held for so many only.
                let mut items = Vec::with_capacity(messages.len().min(LOCKED_MAX));
                let mut places: SmallVec<[P; LOCKED_MAX]> = SmallVec::new();
                while messages.len() > 0 {
                    for (placed, message) in messages.by_ref().take(LOCKED_MAX) {
                        items.push((placed.group(), message, 0));
                        places.push(placed);
                    }
                    let first = groups.push_batch(items.drain(..));
                    for (position, placed) in (first..).zip(places.drain(..)) {
                        f(placed, 0, position);
                    }
                }
            }
        }
    }

    pub(crate) fn take(&self, max: usize, buffer: &mut TakeBuffer, mut f: impl FnMut(Token)) {
        match self {
            Ready::Fifo(fifo) => {
                fifo.take_batch(max, &mut buffer.fifo);
                buffer
                    .fifo
                    .drain(..)
                    .for_each(|lease| f(Token::Fifo(lease)));
            }
            Ready::Priority(lanes) => {
                lanes.take_batch(max, &mut buffer.priority);
                buffer
                    .priority
                    .drain(..)
                    .for_each(|lease| f(Token::Priority(lease)));
            }
            Ready::Groups(groups) => {
                groups.take_batch_ahead(max, &mut buffer.group, Stored::prefetch);
                buffer
                    .group
                    .drain(..)
                    .for_each(|lease| f(Token::Group(lease)));
            }
        }
    }

    pub(crate) fn settle(&self, token: Token) -> Stored {
        match (self, token) {
            (Ready::Fifo(fifo), Token::Fifo(lease)) => fifo.settle(lease),
            (Ready::Priority(lanes), Token::Priority(lease)) => lanes.settle(lease),
            (Ready::Groups(groups), Token::Group(lease)) => groups.settle(lease),
            _ => unreachable!("a token goes back to the queue it came from"),
        }
    }

    /// Settles tokens, and tells `f` of each its level, its position and its message.
    pub(crate) fn settle_many(
        &self,
        tokens: impl Iterator<Item = Token>,
        mut f: impl FnMut(u8, u64, Stored),
    ) {
        let Ready::Groups(groups) = self else {
            for token in tokens {
                let (level, position) = (token.level(), token.position());
                f(level, position, self.settle(token));
            }
            return;
        };
        let mut tokens = tokens.peekable();
        let (mut leases, mut positions, mut settled) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(first) = tokens.next() {
            if tokens.peek().is_none() && leases.capacity() == 0 {
                let position = first.position();
                return f(0, position, self.settle(first));
            }
            for token in std::iter::once(first).chain(tokens.by_ref().take(LOCKED_MAX - 1)) {
                positions.push(token.position());
                match token {
                    Token::Group(lease) => leases.push(lease),
                    _ => unreachable!("a token goes back to the queue it came from"),
                }
            }
            groups.settle_batch(&mut leases, &mut settled);
            for (position, stored) in positions.drain(..).zip(settled.drain(..)) {
                f(0, position, stored);
            }
        }
    }

    pub(crate) fn requeue(&self, token: Token, note: u32) {
        match (self, token) {
            (Ready::Fifo(fifo), Token::Fifo(lease)) => fifo.requeue(lease, note),
            (Ready::Priority(lanes), Token::Priority(lease)) => lanes.requeue(lease, note),
            (Ready::Groups(groups), Token::Group(lease)) => groups.requeue(lease, note),
            _ => unreachable!("a token goes back to the queue it came from"),
        }
    }

    /// Takes a message that nobody holds out of the middle.
    pub(crate) fn remove(&self, level: u8, position: u64) -> Option<(Stored, u32)> {
        match self {
            Ready::Fifo(fifo) => fifo.remove(position),
            Ready::Priority(lanes) => lanes.remove(level, position),
            Ready::Groups(groups) => groups.remove(position),
        }
    }

    /// Looks at an unsettled message, ready or leased.
    pub(crate) fn inspect<R>(
        &self,
        level: u8,
        position: u64,
        f: impl FnOnce(u32, &Stored) -> R,
    ) -> Option<R> {
        match self {
            Ready::Fifo(fifo) => fifo.inspect(position, |_, note, stored| f(note, stored)),
            Ready::Priority(lanes) => {
                lanes.inspect(level, position, |_, note, stored| f(note, stored))
            }
            Ready::Groups(groups) => groups.inspect(position, |_, note, stored| f(note, stored)),
        }
    }

    /// Ready messages in the order in which they would be delivered; `f` gets level, position and note.
    pub(crate) fn browse(&self, max: usize, mut f: impl FnMut(u8, u64, u32, &Stored)) {
        match self {
            Ready::Fifo(fifo) => fifo.browse(0, max, |position, note, stored| {
                f(0, position, note, stored)
            }),
            Ready::Priority(lanes) => lanes.browse(u8::MAX, 0, max, &mut f),
            Ready::Groups(groups) => groups.browse(0, max, |position, note, stored| {
                f(0, position, note, stored)
            }),
        };
    }

    pub(crate) fn purge(&self, mut f: impl FnMut(u8, u64, Stored, u32)) {
        match self {
            Ready::Fifo(fifo) => fifo.purge(|position, stored, note| f(0, position, stored, note)),
            Ready::Priority(lanes) => lanes.purge(&mut f),
            Ready::Groups(groups) => {
                groups.purge(|position, stored, note| f(0, position, stored, note))
            }
        };
    }

    /// Messages that wait, those behind others of their group included. Approximate while others work on it.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Ready::Fifo(fifo) => fifo.len() as u64,
            Ready::Priority(lanes) => lanes.len() as u64,
            Ready::Groups(groups) => groups.len() as u64,
        }
    }

    /// Gives the memory of an empty structure back. Message groups do so by themselves.
    pub(crate) fn trim(&self) {
        match self {
            Ready::Fifo(fifo) => fifo.trim(),
            Ready::Priority(lanes) => lanes.trim(),
            Ready::Groups(_) => {}
        }
    }

    /// Takes out the message that a full queue can spare best: the oldest, in a priority queue of the lowest level.
    pub(crate) fn take_least(&self, buffer: &mut TakeBuffer) -> Option<(u8, u64, Stored)> {
        if let Ready::Priority(lanes) = self {
            for level in 0..=u8::MAX {
                if usize::from(level) >= lanes.levels() {
                    return None;
                }
                if lanes.level_len(level) == 0 {
                    continue;
                }
                let mut oldest = None;
                lanes.browse(level, 0, 1, |level, position, _, _| {
                    oldest = Some((level, position))
                });
                if let Some((level, position)) = oldest
                    && let Some((stored, _)) = lanes.remove(level, position)
                {
                    return Some((level, position, stored));
                }
            }
            return None;
        }
        let mut head = None;
        self.take(1, buffer, |token| head = Some(token));
        let token = head?;
        let (level, position) = (token.level(), token.position());
        Some((level, position, self.settle(token)))
    }

    /// Whether a `take` would find something.
    pub(crate) fn has_ready(&self) -> bool {
        match self {
            Ready::Fifo(fifo) => !fifo.is_empty(),
            Ready::Priority(lanes) => !lanes.is_empty(),
            Ready::Groups(groups) => groups.ready() > 0,
        }
    }

    /// The position that the next message of a level gets.
    pub(crate) fn next_position(&self, level: u8) -> u64 {
        match self {
            Ready::Fifo(fifo) => fifo.next_position(),
            Ready::Priority(lanes) => lanes.next_position(level),
            Ready::Groups(groups) => groups.next_position(),
        }
    }

    pub(crate) fn groups(&self) -> u64 {
        match self {
            Ready::Groups(groups) => groups.groups() as u64,
            Ready::Fifo(_) | Ready::Priority(_) => 0,
        }
    }

    pub(crate) fn is_grouped(&self) -> bool {
        matches!(self, Ready::Groups(_))
    }
}
