//! Bytes out: answers, confirms, deliveries; and what the server has to do next.

use std::borrow::Cow;

use wherry_engine::{ObstacleKind, Ticket};
use wherry_session::{Failure, FrontEnd, Pause, Status, Verdict};

use super::channel::Channel;
use super::connection::Phase;
use super::deliver;
use super::output::short;
use super::state::State;
use super::wakeups;
use crate::codec::Method;

impl State {
    pub(super) fn write_into(&mut self, out: &mut Vec<u8>, budget: usize) {
        let start = out.len();
        let end = start.saturating_add(budget);
        self.look_at_disk();
        self.look_at_notices();
        self.tell_blocked();
        self.cn.output.move_into(out);
        self.write_confirms(out);
        self.look_at_failure(out);
        if self.cn.phase == Phase::Running {
            self.writer
                .write(&mut self.channels, &mut self.cn, out, end);
            // Visits may have answered, too: a queue that was deleted.
            self.cn.output.move_into(out);
        }
        if self.cn.pause.has(Pause::OUTPUT)
            && (self.cn.output.bytes() as u64) <= self.cn.limits().output_bytes_max
        {
            self.cn.pause.clear(Pause::OUTPUT);
        }
        if self.cn.pause.has(Pause::UNCONFIRMED) && self.has_room_for_confirms() {
            self.cn.pause.clear(Pause::UNCONFIRMED);
        }
        self.cn.stint.begin(&mut self.cn.pause);
        self.work_off();
        self.count();
        let written = out.len() - start;
        if written != 0 {
            self.cn.spoke |= written > std::mem::take(&mut self.cn.heartbeat_bytes);
            self.cn.traffic.sent(written, self.cn.front.counters());
        }
    }

    fn has_room_for_confirms(&self) -> bool {
        let most = self.cn.limits().unconfirmed_per_channel_max as usize;
        self.channels
            .iter()
            .all(|ch| ch.confirms.unconfirmed() < most)
    }

    fn waits_for_disk(&self) -> bool {
        self.cn.output.has_held()
            || self
                .channels_confirming()
                .any(|ch| ch.confirms.waits_for_disk())
    }

    fn channels_confirming(&self) -> impl Iterator<Item = &Channel> {
        self.cn
            .confirming
            .iter()
            .filter_map(|&number| self.channels.get(number))
    }

    /// Lets go what is durable by now. If the journal failed, nothing ever will be.
    fn look_at_disk(&mut self) {
        if !self.cn.output.has_held() && self.cn.confirming.is_empty() {
            return;
        }
        let durable = self.broker().durable();
        if durable != self.cn.durable {
            self.cn.durable = durable;
            self.cn.confirms_due = true;
            let mut freed: smallvec::SmallVec<[u16; 4]> = smallvec::SmallVec::new();
            self.cn
                .output
                .release(durable, |channel| freed.push(channel));
            for number in freed {
                if let Some(ch) = self.channels.get_mut(number) {
                    ch.unpark(&mut self.cn);
                }
            }
        }
    }

    /// A journal that failed makes nothing durable any more. What it had made durable is confirmed all the same; the rest
    /// is refused: confirms become nacks, held answers the connection's end.
    fn look_at_failure(&mut self, out: &mut Vec<u8>) {
        let waits = self.waits_for_disk();
        let Some(error) = waits.then(|| self.broker().failed()).flatten() else {
            return;
        };
        self.look_at_disk(); // for the last time: what it says now stays
        self.write_confirms(out);
        if self.cn.output.has_held() {
            self.fail(Failure::from(error), (0, 0));
        }
        for &number in &self.cn.confirming {
            if let Some(ch) = self.channels.get_mut(number) {
                ch.confirms.fail_waiting();
                self.cn.confirms_due = true;
            }
        }
        self.write_confirms(out);
        self.cn.output.move_into(out);
    }

    fn look_at_notices(&mut self) {
        if !self.cn.wakeups.any() {
            return;
        }
        self.cn.wakeups.look();
        while let Some(token) = self.cn.wakeups.pop() {
            let (number, slot) = wakeups::place(token);
            if let Some(ch) = self.channels.get_mut(number) {
                deliver::notified(ch, &mut self.cn, slot);
            }
        }
    }

    fn write_confirms(&mut self, out: &mut Vec<u8>) {
        if !self.cn.confirms_due {
            return;
        }
        self.cn.confirms_due = false;
        let (durable, front) = (self.cn.durable, self.cn.front.clone());
        let (channels, output) = (&mut self.channels, &self.cn.output);
        self.cn.confirming.retain(|&number| {
            let Some(ch) = channels.get_mut(number) else {
                return false;
            };
            if output.is_holding(number) {
                return true; // an answer that was asked for earlier goes first
            }
            settle_confirms(ch, durable, &front, &mut |method| {
                let written = method.write(number, out);
                debug_assert!(written.is_ok(), "numbers only");
            });
            ch.listed_confirming = ch.confirms.unconfirmed() != 0;
            ch.listed_confirming
        });
    }

    /// Confirms what can be confirmed on a channel that is about to end: what its client is told of the end must not
    /// stand in for an answer that is known.
    pub(super) fn write_last_confirms(&mut self, number: u16) {
        if let Some(ch) = self.channels.get_mut(number)
            && ch.listed_confirming
        {
            let (durable, output) = (self.cn.durable, &mut self.cn.output);
            settle_confirms(ch, durable, &self.cn.front, &mut |method| {
                output.send(number, method);
            });
        }
    }

    pub(super) fn status(&self) -> Status {
        let cn = &self.cn;
        let mut status = Status::IDLE;
        if cn.output.has_ready() {
            status |= Status::OUTPUT;
        }
        if cn.phase == Phase::Closed {
            return status | Status::CLOSE;
        }
        if cn.phase == Phase::Running
            && (cn.confirms_due
                || !cn.ready.is_empty()
                || !self.writer.pending.is_empty()
                || cn.wakeups.any())
        {
            status |= Status::OUTPUT;
        }
        if self.waits_for_disk() {
            status |= Status::WAITS_FOR_DISK;
            if self.broker().durable() != cn.durable {
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
            if !cn.told_blocked && cn.client.hears_of_blocked && cn.front.alarms().any() {
                status |= Status::OUTPUT;
            }
        }
        if cn.credentials.is_some() {
            status |= Status::AUTHENTICATE;
        }
        status
    }

    /// Tells the client why nothing is read from it, once.
    fn tell_blocked(&mut self) {
        let alarms = self.cn.front.alarms();
        if self.cn.stuck.is_none() || self.cn.told_blocked || !alarms.any() {
            return;
        }
        self.told_blocked();
        if self.cn.client.hears_of_blocked {
            let obstacle = self.cn.front.broker().obstacle();
            let obstacle = obstacle.filter(|obstacle| obstacle.kind != ObstacleKind::Space);
            let reason: Cow<'_, str> = match (alarms.memory, alarms.disk, obstacle) {
                (true, true, None) => "low on memory & disk".into(),
                (true, false, _) => "low on memory".into(),
                (false, _, None) => "low on disk".into(),
                (true, true, Some(obstacle)) => format!("low on memory & {obstacle}").into(),
                (false, _, Some(obstacle)) => obstacle.to_string().into(),
            };
            self.cn.output.send(
                0,
                &Method::ConnectionBlocked {
                    reason: &short(&reason),
                },
            );
        }
    }
}

/// The answers that are due on a channel.
fn settle_confirms(
    ch: &mut Channel,
    durable: Ticket,
    front: &FrontEnd,
    send: &mut impl FnMut(&Method<'_>),
) {
    let (mut acked, mut nacked) = (0, 0);
    ch.confirms.settle(durable, &mut |confirm| {
        let refused = confirm.verdict == Verdict::Nack || front.faults().take_refused_confirm();
        let (delivery_tag, multiple) = (confirm.tag, confirm.multiple);
        let method = if refused {
            nacked += 1;
            Method::BasicNack {
                delivery_tag,
                multiple,
                requeue: false,
            }
        } else {
            acked += 1;
            Method::BasicAck {
                delivery_tag,
                multiple,
            }
        };
        send(&method);
    });
    front.counters().confirmed.add(acked);
    front.counters().refused.add(nacked);
}
