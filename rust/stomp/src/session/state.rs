//! The inside of a session: from bytes to frames, and from what is ready to bytes.
//!
//! Everything here runs under the session's mutex and never waits. Frames are worked off in order until something pauses the
//! connection (`Pause`); what stands behind is kept, bounded, and worked off when the pause is over.

use std::sync::Arc;

use wherry_engine::{Broker, Notify, Ticket};
use wherry_session::{End, Failure, FailureKind, FrontEnd, Input, Pause, Peer, Status, Turn};

use super::connection::{Connection, HANDSHAKE_BYTES_MAX, Phase, frame_limits, handshake_limits};
use super::deliver::Writer;
use super::refusal::{Refusal, shown};
use super::send::{Sender, Stuck};
use super::subscriptions::{Subscription, Subscriptions};
use super::time::Times;
use super::transactions::{self, Transactions};
use super::{Settings, run, send, settle, subscribe};
use crate::codec::{Ahead, Frame, FrameError, Name, Next, Parser};

/// What follows from a frame that was worked off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Its receipt, when this is durable.
    Receipt(Ticket),
    /// It waits for room, and its receipt with it.
    Later,
    /// It is part of a transaction, and so is its receipt. What was declared on the way is durable by this.
    AtCommit(Ticket),
}

/// What frames work on.
pub(super) struct Core {
    pub(super) cn: Connection,
    pub(super) subscriptions: Subscriptions,
    pub(super) transactions: Transactions,
    pub(super) sender: Sender,
    writer: Writer,
}

pub(super) struct State {
    pub(super) core: Core,
    parser: Parser,
    /// Looks for SENDs in a row.
    ahead: Ahead,
    input: Input,
    pub(super) times: Times,
}

impl Core {
    /// A subscription begins: it is visited at once.
    pub(super) fn add_subscription(&mut self, subscription: Subscription) {
        let slot = self.subscriptions.add(subscription);
        self.list(slot);
    }

    /// Puts a subscription among those to visit.
    pub(super) fn list(&mut self, slot: u32) {
        if let Some(one) = self.subscriptions.get_mut(slot)
            && !one.leaving
            && one.turn != Turn::Listed
        {
            one.turn = Turn::Listed;
            self.cn.ready.push_back(slot);
        }
    }

    /// What was taken for a subscription that ends and was not written.
    pub(super) fn withdraw(&mut self, slot: u32) {
        if let Some(one) = self.subscriptions.get_mut(slot) {
            self.writer.withdraw(slot, one, &mut self.cn);
        }
    }

    /// One frame.
    fn frame(&mut self, frame: &Frame<'_>) {
        match self.work(frame) {
            Ok(Then::Receipt(ticket)) => {
                let receipt = frame.known(Name::Receipt);
                self.done(ticket, receipt.map(|header| header.value()).as_deref());
            }
            Ok(Then::Later) => {}
            Ok(Then::AtCommit(ticket)) => {
                self.cn.latest = self.cn.latest.max(ticket);
                let receipt = frame.header("receipt");
                if let (Some(transaction), Some(receipt)) = (frame.header("transaction"), receipt)
                    && let Err(refusal) = self.transactions.note_receipt(&transaction, &receipt)
                {
                    self.fail(&refusal, Some(&receipt));
                }
            }
            Err(refusal) => self.fail(&refusal, frame.header("receipt").as_deref()),
        }
    }

    pub(super) fn done(&mut self, ticket: Ticket, receipt: Option<&str>) {
        let cn = &mut self.cn;
        cn.latest = cn.latest.max(ticket);
        let (Some(receipt), Phase::Running) = (receipt, cn.phase) else {
            return;
        };
        let escapes = cn.escapes();
        if ticket > cn.durable {
            cn.durable = cn.front.broker().durable().max(cn.durable);
        }
        if cn.output.receipt(receipt, ticket, cn.durable, escapes) {
            cn.front.counters().confirmed.add(1);
        }
        if cn.output.held() >= cn.limits().unconfirmed_per_channel_max as usize {
            cn.pause.set(Pause::UNCONFIRMED);
        }
    }

    fn work(&mut self, frame: &Frame<'_>) -> Result<Then, Refusal> {
        let command = frame.command();
        match self.cn.phase {
            Phase::Waiting => {
                if !matches!(command, "CONNECT" | "STOMP") {
                    return Err(Refusal::new(
                        "Illegal command",
                        "You must log in using CONNECT first",
                    ));
                }
                self.cn.connect(frame)?;
                return Ok(Then::Later);
            }
            Phase::Running => {}
            _ => return Ok(Then::Later),
        }
        if matches!(command, "SUBSCRIBE" | "UNSUBSCRIBE" | "COMMIT") {
            self.cn.stint.slow(&mut self.cn.pause);
        }
        match command {
            "SEND" => return send::send(self, frame),
            "SUBSCRIBE" => return subscribe::subscribe(self, frame),
            "UNSUBSCRIBE" => return subscribe::unsubscribe(self, frame),
            "ACK" => return settle::settle(self, frame, false),
            "NACK" => return settle::settle(self, frame, true),
            "BEGIN" => transactions::begin(self, frame)?,
            "COMMIT" => return self.commit(frame),
            "ABORT" => transactions::abort(self, frame)?,
            "DISCONNECT" => {
                self.disconnect(frame.header("receipt").as_deref());
                return Ok(Then::Later);
            }
            "CONNECT" | "STOMP" => {
                return Err(Refusal::new("Bad command", "Already connected\n"));
            }
            other => {
                return Err(Refusal::new(
                    "Bad command",
                    format!("Could not interpret command \"{}\"\n", shown(other)),
                ));
            }
        }
        Ok(Then::Receipt(Ticket::NONE))
    }

    fn commit(&mut self, frame: &Frame<'_>) -> Result<Then, Refusal> {
        let transaction = transactions::name_of(frame)?;
        if let Some(ticket) = transactions::try_commit(self, &transaction)? {
            return Ok(Then::Receipt(ticket));
        }
        self.cn.stuck = Some(Stuck::Commit {
            transaction,
            receipt: frame.header("receipt").map(|text| (*text).into()),
        });
        self.cn.pause.set(Pause::ROOM);
        Ok(Then::Later)
    }

    /// Tries again what there was no room for.
    fn retry(&mut self, stuck: Stuck) {
        let outcome = match &stuck {
            Stuck::Send(send) => send.retry(&self.cn),
            Stuck::Commit { transaction, .. } => transactions::try_commit(self, transaction),
        };
        let receipt = match &stuck {
            Stuck::Send(send) => send.receipt.as_deref(),
            Stuck::Commit { receipt, .. } => receipt.as_deref(),
        };
        match outcome {
            Ok(Some(ticket)) => self.done(ticket, receipt),
            Ok(None) => self.cn.stuck = Some(stuck),
            Err(refusal) => self.fail(&refusal, receipt),
        }
    }

    /// DISCONNECT: everything goes back at once; the receipt comes when all that was sent is durable.
    fn disconnect(&mut self, receipt: Option<&str>) {
        let latest = self.cn.latest;
        let session_over = receipt.is_none();
        if receipt.is_some() {
            self.done(latest, receipt);
        }
        self.give_back(End::Clean);
        if session_over || self.cn.output.held() == 0 {
            self.cn.output.drop_held();
            self.cn.phase = Phase::Closed;
        } else {
            self.cn.phase = Phase::Leaving;
        }
    }

    /// An ERROR frame, and the end.
    pub(super) fn fail(&mut self, refusal: &Refusal, receipt: Option<&str>) {
        if self.cn.phase == Phase::Closed {
            return;
        }
        self.give_back(End::Lost);
        let escapes = self.cn.escapes();
        self.cn.output.drop_held();
        self.cn.output.error(refusal, receipt, escapes);
        self.cn.phase = Phase::Closed;
    }

    /// Everything that the connection has is given back. Idempotent.
    fn give_back(&mut self, end: End) {
        self.transactions.clear();
        self.writer.clear(&mut self.subscriptions);
        for one in self.subscriptions.drain() {
            end.cancel(&one.consumer);
        }
        self.sender.clear();
        let cn = &mut self.cn;
        cn.stuck = None;
        cn.credentials = None;
        cn.pause = Pause::default();
        cn.ready.clear();
        cn.leave_host();
        self.count();
    }

    fn count(&mut self) {
        self.cn.traffic.count_published(self.cn.front.counters());
    }

    fn is_paused(&self) -> bool {
        self.cn.pause.any() || matches!(self.cn.phase, Phase::Leaving | Phase::Closed)
    }

    fn broker(&self) -> &Arc<Broker> {
        self.cn.front.broker()
    }

    /// Lets go what is durable by now. If the journal failed, nothing ever will be.
    fn look_at_disk(&mut self) {
        if self.cn.output.held() == 0 {
            return;
        }
        self.release();
        if self.cn.output.held() != 0
            && let Some(error) = self.broker().failed()
        {
            self.release(); // for the last time: what is durable now stays
            if self.cn.output.held() != 0 {
                return self.fail(&error.into(), None);
            }
        }
        if self.cn.phase == Phase::Leaving && self.cn.output.held() == 0 {
            self.cn.phase = Phase::Closed;
        }
        let most = self.cn.limits().unconfirmed_per_channel_max as usize;
        if self.cn.output.held() < most {
            self.cn.pause.clear(Pause::UNCONFIRMED);
        }
    }

    /// Receipts that may be given now.
    fn release(&mut self) {
        let durable = self.broker().durable();
        if durable == self.cn.durable {
            return;
        }
        self.cn.durable = durable;
        let escapes = self.cn.escapes();
        let released = self.cn.output.release(durable, escapes);
        self.cn.front.counters().confirmed.add(released as u64);
    }

    fn look_at_notices(&mut self) {
        if !self.cn.wakeups.any() {
            return;
        }
        self.cn.wakeups.look();
        while let Some(slot) = self.cn.wakeups.pop() {
            self.list(slot as u32);
        }
    }

    fn deliver(&mut self, out: &mut Vec<u8>, end: usize) {
        if self.cn.phase != Phase::Running {
            return;
        }
        let outcome = self
            .writer
            .write(&mut self.subscriptions, &mut self.cn, out, end);
        if let Err(refusal) = outcome {
            self.fail(&refusal, None);
        }
    }
}

impl State {
    pub(super) fn new(
        front: Arc<FrontEnd>,
        settings: Arc<Settings>,
        peer: Peer,
        notify: Arc<dyn Notify>,
        token: u64,
    ) -> State {
        let limits = handshake_limits(front.limits());
        State {
            core: Core {
                cn: Connection::new(front, settings, peer, notify, token),
                subscriptions: Subscriptions::default(),
                transactions: Transactions::default(),
                sender: Sender::default(),
                writer: Writer::default(),
            },
            parser: Parser::new(limits),
            ahead: Ahead::new(limits),
            input: Input::default(),
            times: Times::default(),
        }
    }

    // ---- bytes in ----

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let cn = &mut self.core.cn;
        if matches!(cn.phase, Phase::Leaving | Phase::Closed) {
            return;
        }
        cn.heard = true;
        if !cn.pause.any() {
            cn.stint.begin(&mut cn.pause);
        }
        cn.traffic.received(bytes.len(), cn.front.counters());
        let mut rest = bytes;
        // What is kept while nothing pauses is the beginning of a frame: only what it lacks is copied to it.
        while !self.input.is_empty() && !self.core.is_paused() && !rest.is_empty() {
            let (lacking, behind) = rest.split_at(self.lacking(rest));
            self.input.push(lacking);
            rest = behind;
            self.work_off();
        }
        if self.input.is_empty() && !self.core.is_paused() {
            let used = self.process(rest);
            rest = &rest[used..];
        }
        if matches!(self.core.cn.phase, Phase::Leaving | Phase::Closed) {
            self.input.clear();
        } else if !rest.is_empty() {
            self.keep(rest);
        }
        self.core.count();
    }

    /// How much of `rest` belongs to the frame whose beginning is kept, at most: up to where its length says, or its NUL.
    fn lacking(&self, rest: &[u8]) -> usize {
        match self.parser.missing(self.input.len()) {
            1 => memchr::memchr(0, rest).map_or(rest.len(), |at| at + 1),
            known => known.min(rest.len()),
        }
    }

    fn keep(&mut self, rest: &[u8]) {
        let bytes = self.input.len() + rest.len();
        // A frame under way is bounded by the parser: this is about frames behind a pause.
        let most = match self.core.cn.phase {
            Phase::Running => self.core.cn.limits().input_bytes_max,
            _ => HANDSHAKE_BYTES_MAX as u64,
        };
        if self.core.is_paused() && bytes as u64 > most {
            self.input.clear();
            let failure = Failure::new(
                FailureKind::ResourceError,
                format!(
                    "{bytes} bytes were sent while the connection was paused; the limit is {most}"
                ),
            );
            return self.core.fail(&failure.into(), None);
        }
        self.input.push(rest);
    }

    /// Works off what was kept, as far as it goes.
    fn work_off(&mut self) {
        if self.input.is_empty() || self.core.is_paused() {
            return;
        }
        let (bytes, start) = self.input.take();
        let used = self.process(&bytes[start..]);
        if matches!(self.core.cn.phase, Phase::Leaving | Phase::Closed) {
            return;
        }
        self.input.put_back(bytes, start + used);
    }

    /// Works off whole frames; returns the bytes that they took.
    fn process(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        let output_max = self.core.cn.limits().output_bytes_max;
        while !self.core.is_paused() {
            if !self.parser.is_inside() {
                used += run::publish(&mut self.core, &mut self.ahead, &bytes[used..]);
                if self.core.is_paused() {
                    break;
                }
            }
            match self.parser.next(&bytes[used..]) {
                Ok(Next::More) => break,
                Ok(Next::LineEnds(count)) => used += count,
                Ok(Next::Frame(frame, frame_bytes)) => {
                    self.core.frame(&frame);
                    used += frame_bytes;
                    if self.core.cn.output.bytes() as u64 > output_max {
                        self.core.cn.pause.set(Pause::OUTPUT);
                    }
                }
                Err(error) => {
                    self.core.fail(&malformed(error), None);
                    return bytes.len();
                }
            }
        }
        used
    }

    // ---- the server's answers ----

    pub(super) fn authenticated(&mut self, user: &str) {
        if self.core.cn.phase != Phase::Authenticating {
            return;
        }
        self.core.cn.pause.clear(Pause::CREDENTIALS);
        match self.core.cn.authenticated(user) {
            Ok(()) => {
                let cn = &mut self.core.cn;
                cn.credentials = None;
                let limits = frame_limits(cn.limits());
                self.parser.agree(cn.version, limits);
                self.ahead = Ahead::new(limits);
                self.work_off();
            }
            Err(refusal) => self.core.fail(&refusal, None),
        }
    }

    pub(super) fn refused(&mut self) {
        if self.core.cn.phase != Phase::Authenticating {
            return;
        }
        self.core.cn.front.counters().logins_refused.add(1);
        let refusal = self.core.cn.refusal_of_login();
        self.core.fail(&refusal, None);
    }

    /// Tries again what there was no room for, and goes on.
    pub(super) fn resume(&mut self) {
        if let Some(stuck) = self.core.cn.stuck.take() {
            self.core.retry(stuck);
        }
        if self.core.cn.stuck.is_none() {
            self.core.cn.pause.clear(Pause::ROOM);
        }
        self.work_off();
        self.core.count();
    }

    pub(super) fn shut_down(&mut self, text: &str) {
        let failure = Failure::new(FailureKind::ConnectionForced, text);
        self.core.fail(&failure.into(), None);
    }

    pub(super) fn lost(&mut self) {
        self.core.give_back(End::Lost);
        self.core.cn.output.drop_held();
        self.input.clear();
        self.core.cn.phase = Phase::Closed;
    }

    // ---- bytes out ----

    pub(super) fn write_into(&mut self, out: &mut Vec<u8>, budget: usize) {
        let start = out.len();
        let end = start.saturating_add(budget);
        let core = &mut self.core;
        core.look_at_disk();
        core.look_at_notices();
        core.cn.output.move_into(out);
        core.deliver(out, end);
        // A subscription that the server ended is an error.
        core.cn.output.move_into(out);
        if core.cn.pause.has(Pause::OUTPUT)
            && (core.cn.output.bytes() as u64) <= core.cn.limits().output_bytes_max
        {
            core.cn.pause.clear(Pause::OUTPUT);
        }
        core.cn.stint.begin(&mut core.cn.pause);
        self.work_off();
        self.core.count();
        let written = out.len() - start;
        if written != 0 {
            let cn = &mut self.core.cn;
            cn.spoke = true;
            cn.traffic.sent(written, cn.front.counters());
        }
    }

    pub(super) fn status(&self) -> Status {
        let core = &self.core;
        let cn = &core.cn;
        let mut status = Status::IDLE;
        if cn.output.has_ready() {
            status |= Status::OUTPUT;
        }
        if cn.phase == Phase::Closed {
            return status | Status::CLOSE;
        }
        if cn.phase == Phase::Running
            && (!cn.ready.is_empty() || core.writer.has_pending() || cn.wakeups.any())
        {
            status |= Status::OUTPUT;
        }
        if cn.output.held() != 0 {
            status |= Status::WAITS_FOR_DISK;
            if core.broker().durable() != cn.durable {
                status |= Status::OUTPUT;
            }
        }
        if cn.pause.any() {
            status |= Status::PAUSE_READING;
        }
        if cn.pause.has(Pause::TURN) {
            status |= Status::OUTPUT; // or the answers of what is still to be done
        }
        if cn.stuck.is_some() {
            status |= Status::WAITS_FOR_ROOM;
        }
        if cn.credentials.is_some() {
            status |= Status::AUTHENTICATE;
        }
        status
    }
}

fn malformed(error: FrameError) -> Refusal {
    Refusal::new("Malformed frame", format!("{error}\n"))
}
