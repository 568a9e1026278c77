//! A consumer's side of being served in turn (queue/dispatch.rs).

use std::sync::atomic::Ordering;

use super::{Consumer, Reserved};
use crate::ledger::Ledger;
use crate::message::Message;
use crate::queue::candidates::Absent;
use crate::queue::ready::Token;

/// Deliveries that may lie assigned at a consumer before it takes them. What a consumer whose socket does not drain
/// keeps from the others, beside what it holds unsettled; large enough that a consumer is not asked for each message.
pub const IN_TURN_AHEAD_MAX: usize = 64;

/// The same where the messages would be dropped or refused otherwise, because the queue is at its limit of length: what
/// a client that reads nothing may make the broker keep for it although the queue is limited.
pub const OVERFLOW_AHEAD_MAX: usize = 65_536;

/// Why messages are dealt out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// A consumer takes.
    Turn,
    /// A publisher found the queue at its limit; it waits for nobody.
    Overflow,
}

impl Ahead {
    fn max(self) -> usize {
        match self {
            Ahead::Turn => IN_TURN_AHEAD_MAX,
            Ahead::Overflow => OVERFLOW_AHEAD_MAX,
        }
    }
}

/// The limit that a consumer shares with others is reached.
pub(crate) struct Full;

impl Consumer {
    /// How many more it may be given. A guess: `assign` looks again under the lock.
    pub(crate) fn turn_room(&self, why: Ahead) -> usize {
        if self.is_cancelled() {
            return 0;
        }
        let ahead = why
            .max()
            .saturating_sub(self.assigned.load(Ordering::Relaxed));
        ahead.min(self.room(self.unacked.load(Ordering::Relaxed)))
    }

    /// Whoever deals out found no room here: it is not asked again until there may be some. Waits for nobody: if somebody
    /// is at the ledger it is just asked again.
    pub(crate) fn step_aside(&self, absent: Absent) {
        let Some(mut ledger) = self.ledger.try_lock() else {
            return;
        };
        if self.own_room() == 0 {
            absent.leave();
            ledger.absent = Some(Box::new(absent));
            return;
        }
        drop(ledger);
        if let Some(shared) = self.shared.get() {
            shared.step_aside(self.id, absent);
        }
    }

    /// Under the ledger's lock, whenever there may be room again.
    pub(super) fn come_back(&self, ledger: &mut Ledger) {
        if ledger.absent.is_some()
            && self.own_room() > 0
            && let Some(absent) = ledger.absent.take()
        {
            absent.come_back();
        }
    }

    /// A place of the limit that it shares with others. None when there is none left, and when it shares no limit, which
    /// `Ok` tells from it.
    pub(crate) fn reserve_turn(&self) -> Result<Option<Reserved>, Full> {
        match self.shared.get() {
            None => Ok(None),
            Some(shared) if self.options.no_ack => (shared.room() > 0).then_some(None).ok_or(Full),
            Some(shared) => shared.reserve(1).map(Some).ok_or(Full),
        }
    }

    /// Gives it messages in its turn; of a limit that it shares it has the places `reserved`. Returns those that it had no
    /// room for, and whether it now has something after having had nothing: then it wants to hear of it. Who may not wait
    /// is refused while somebody is at its ledger.
    pub(crate) fn assign(
        &self,
        given: Vec<(Token, Message)>,
        reserved: Option<Reserved>,
        why: Ahead,
    ) -> (Vec<(Token, Message)>, bool) {
        let mut ledger = match why {
            Ahead::Turn => self.ledger.lock(),
            Ahead::Overflow => match self.ledger.try_lock() {
                Some(ledger) => ledger,
                None => return (given, false),
            },
        };
        let mut given = given.into_iter();
        if self.is_cancelled() {
            return (given.collect(), false);
        }
        let had_none = ledger.assigned.is_empty();
        let ahead = why.max().saturating_sub(ledger.assigned.len());
        let room = ahead.min(self.room(ledger.held()));
        if reserved.is_some() && room > 0 {
            self.waits_since.store(0, Ordering::Relaxed);
        }
        ledger.assigned.extend(given.by_ref().take(room));
        self.note_reserved(&mut ledger, reserved.map_or(0, Reserved::into_places));
        (given.collect(), had_none && !ledger.assigned.is_empty())
    }
}
