//! A consumer's side of being served in turn (queue/dispatch.rs).

use std::sync::atomic::Ordering;

use super::{Consumer, Reserved};
use crate::message::Message;
use crate::queue::ready::Token;

/// Deliveries that may lie assigned at a consumer before it takes them. What a consumer whose socket does not drain
/// keeps from the others, beside what it holds unsettled; large enough that a consumer is not asked for each message.
pub const IN_TURN_AHEAD_MAX: usize = 64;

/// The limit that a consumer shares with others is reached.
pub(crate) struct Full;

impl Consumer {
    /// How many more it may be given. A guess: `assign` looks again under the lock.
    pub(crate) fn turn_room(&self) -> usize {
        if self.is_cancelled() {
            return 0;
        }
        let ahead = IN_TURN_AHEAD_MAX.saturating_sub(self.assigned.load(Ordering::Relaxed));
        ahead.min(self.room(self.unacked.load(Ordering::Relaxed)))
    }

    /// A place of the limit that it shares with others. None when there is none left, and when it shares no limit, which
    /// `Ok` tells from it.
    pub(crate) fn reserve_turn(&self) -> Result<Option<Reserved>, Full> {
        match self.shared.get() {
            None => Ok(None),
            Some(shared) => shared.reserve(1).map(Some).ok_or(Full),
        }
    }

    /// Gives it messages in its turn; of a limit that it shares it has the places `reserved`. Returns those that it had no room for, and whether it now has something after
    /// having had nothing: then it wants to hear of it.
    pub(crate) fn assign(
        &self,
        given: Vec<(Token, Message)>,
        reserved: Option<Reserved>,
    ) -> (Vec<(Token, Message)>, bool) {
        let mut given = given.into_iter();
        let mut ledger = self.ledger.lock();
        if self.is_cancelled() {
            return (given.collect(), false);
        }
        let had_none = ledger.assigned.is_empty();
        let ahead = IN_TURN_AHEAD_MAX.saturating_sub(ledger.assigned.len());
        let room = ahead.min(self.room(ledger.held()));
        ledger.assigned.extend(given.by_ref().take(room));
        self.note_reserved(&ledger, reserved.map_or(0, Reserved::into_places));
        (given.collect(), had_none && !ledger.assigned.is_empty())
    }
}
