//! Publisher confirms of one channel.
//!
//! Each publish takes the next sequence number, counted from 1 since confirms were selected, and later gets one answer:
//! an ack when what it waits for is on stable storage, or a nack. Answers that lie together at the front of the window
//! become one with `multiple`; an answer behind one that is still missing goes alone. The order of answers is not
//! promised to clients, but those of persistent messages come in order because the journal's tickets do.
//!
//! Constant time for each publish on average. Not for several threads at once. Answers that were given stay in the window
//! (one byte each) while an earlier one is missing: for as long as the disk takes, which is what bounds the window.

use std::collections::VecDeque;

use wherry_engine::Ticket;

use crate::awaiting_disk::AwaitingDisk;

/// Publishes that room is kept for; a client's usual window.
const KEPT: usize = 1024;

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the broker's now.
    Ack,
    /// It is not.
    Nack,
}

/// An answer to the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// What became of it.
    pub verdict: Verdict,
    /// Sequence number.
    pub tag: u64,
    /// Holds for every earlier number that has no answer yet.
    pub multiple: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Has a number; the engine has not taken it yet.
    Open,
    /// Waits for the disk.
    Waiting,
    /// To be answered.
    Decided(Verdict),
    Answered,
}

/// The confirms of one channel.
#[derive(Default)]
pub struct Confirms {
    selected: bool,
    /// Answers of the numbers from `base` on.
    window: VecDeque<State>,
    /// Numbers given before the window.
    base: u64,
    /// Numbers of those that wait for the disk.
    waiting: AwaitingDisk<u64>,
    /// Decided since the last settlement.
    decided: Vec<u64>,
    unconfirmed: usize,
}

impl Confirms {
    /// Not selected.
    pub fn new() -> Confirms {
        Confirms::default()
    }

    /// Selects confirms. Again is nothing new: numbers go on.
    pub fn select(&mut self) {
        self.selected = true;
    }

    /// Whether confirms are selected.
    #[inline]
    pub fn is_selected(&self) -> bool {
        self.selected
    }

    #[expect(
        clippy::should_implement_trait,
        reason = "it gives numbers, not items; the word is that of the specification"
    )]
    /// The number of the next publish, which must get `published` or `refused` in its time.
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.window.push_back(State::Open);
        self.unconfirmed += 1;
        self.base + self.window.len() as u64
    }

    fn state(&mut self, number: u64) -> Option<&mut State> {
        let place = number.checked_sub(self.base + 1)?;
        self.window.get_mut(usize::try_from(place).ok()?)
    }

    /// The engine took it; it is to be acked when `ticket` is durable. Without effect on a number that has an answer.
    #[inline]
    pub fn published(&mut self, number: u64, ticket: Ticket) {
        match self.state(number) {
            Some(state @ State::Open) => {
                *state = if ticket == Ticket::NONE {
                    State::Decided(Verdict::Ack)
                } else {
                    State::Waiting
                };
            }
            _ => return,
        }
        if ticket == Ticket::NONE {
            self.decided.push(number);
        } else {
            self.waiting.push(ticket, number);
        }
    }

    /// The engine refused it; it is to be nacked. Without effect on a number that was decided before.
    pub fn refused(&mut self, number: u64) {
        if let Some(state @ State::Open) = self.state(number) {
            *state = State::Decided(Verdict::Nack);
            self.decided.push(number);
        }
    }

    /// What waits for the disk never gets there: all of it is to be nacked.
    pub fn fail_waiting(&mut self) {
        while let Some(number) = self.waiting.pop_any() {
            if let Some(state @ State::Waiting) = self.state(number) {
                *state = State::Decided(Verdict::Nack);
                self.decided.push(number);
            }
        }
    }

    /// Gives out all answers that are due when everything up to `durable` is on stable storage. Returns how many
    /// publishes they answer.
    pub fn settle(&mut self, durable: Ticket, emit: &mut impl FnMut(Confirm)) -> usize {
        while let Some(number) = self.waiting.pop(durable) {
            if let Some(state @ State::Waiting) = self.state(number) {
                *state = State::Decided(Verdict::Ack);
                self.decided.push(number);
            }
        }
        if self.decided.is_empty() {
            return 0;
        }
        let before = self.unconfirmed;
        self.settle_front(emit);
        self.settle_rest(emit);
        // Memory of a burst is given back when three quarters of it are unused, so that it is moved rarely.
        if self.window.capacity() > 4 * (self.window.len() + KEPT) {
            self.window.shrink_to(2 * self.window.len());
        }
        self.waiting.shrink(KEPT);
        before - self.unconfirmed
    }

    /// What lies together at the front: one answer for each run of the same verdict.
    fn settle_front(&mut self, emit: &mut impl FnMut(Confirm)) {
        let mut run: Option<Confirm> = None;
        while let Some(&state) = self.window.front() {
            match state {
                State::Open | State::Waiting => break,
                State::Answered => {
                    self.window.pop_front();
                    self.base += 1;
                }
                State::Decided(verdict) => {
                    self.window.pop_front();
                    self.base += 1;
                    self.unconfirmed -= 1;
                    match &mut run {
                        Some(run) if run.verdict == verdict => {
                            run.tag = self.base;
                            run.multiple = true;
                        }
                        other => {
                            let next = Confirm {
                                verdict,
                                tag: self.base,
                                multiple: false,
                            };
                            if let Some(done) = other.replace(next) {
                                emit(done);
                            }
                        }
                    }
                }
            }
        }
        if let Some(done) = run {
            emit(done);
        }
    }

    /// What lies behind one that is missing: one answer each.
    fn settle_rest(&mut self, emit: &mut impl FnMut(Confirm)) {
        let mut decided = std::mem::take(&mut self.decided);
        for &number in &decided {
            if let Some(state) = self.state(number)
                && let State::Decided(verdict) = *state
            {
                *state = State::Answered;
                self.unconfirmed -= 1;
                emit(Confirm {
                    verdict,
                    tag: number,
                    multiple: false,
                });
            }
        }
        decided.clear();
        decided.shrink_to(KEPT);
        self.decided = decided;
    }

    /// Publishes without an answer.
    #[inline]
    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    /// Whether anything waits for the disk: then [`Confirms::settle`] is to be called when the journal advances.
    #[inline]
    pub fn waits_for_disk(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Bytes on the heap, about.
    pub fn heap_bytes(&self) -> usize {
        self.window.capacity() * size_of::<State>()
            + self.waiting.heap_bytes()
            + self.decided.capacity() * size_of::<u64>()
    }
}
