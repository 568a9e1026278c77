//! How channels and connections end: by an error, by the server, by the loss of the socket.

use wherry_session::{End, Failure, Pause};

use super::connection::Phase;
use super::content::Expect;
use super::failing::{reply_code, reply_text};
use super::output::short;
use super::state::{Channels, State};
use crate::codec::{Method, ReplyCode};

impl State {
    pub(super) fn end_channel(&mut self, number: u16, end: End) {
        self.write_last_confirms(number);
        if let Some(ch) = self.channels.get_mut(number) {
            let was_open = !ch.closing;
            self.writer.withdraw(ch, None);
            ch.end(end);
            if was_open {
                self.cn.front.counters().channels_closed.add(1);
            }
        }
    }

    /// A refusal on a channel: the channel is closed, or the connection, as its kind says.
    pub(super) fn fail_channel(&mut self, number: u16, failure: Failure, ids: (u16, u16)) {
        if failure.kind.ends_connection() {
            return self.fail(failure, ids);
        }
        self.end_channel(number, End::Lost);
        if let Some(ch) = self.channels.get_mut(number) {
            ch.closing = true;
            ch.expect = Expect::Method;
        }
        self.cn.output.send(
            number,
            &Method::ChannelClose {
                reply_code: reply_code(failure.kind).code(),
                reply_text: &reply_text(&failure),
                class_id: ids.0,
                method_id: ids.1,
            },
        );
    }

    /// Closes the connection for an error.
    pub(super) fn fail(&mut self, failure: Failure, ids: (u16, u16)) {
        self.close(reply_code(failure.kind), &reply_text(&failure), ids);
    }

    pub(super) fn close(&mut self, code: ReplyCode, text: &str, (class_id, method_id): (u16, u16)) {
        if self.cn.phase.is_over() {
            return;
        }
        let known = matches!(self.cn.phase, Phase::Opening | Phase::Running);
        let spoken_to = self.cn.phase != Phase::Header;
        self.end(End::Lost);
        if spoken_to {
            self.cn.output.send(
                0,
                &Method::ConnectionClose {
                    reply_code: code.code(),
                    reply_text: &short(text),
                    class_id,
                    method_id,
                },
            );
        }
        // Who was not let in gets the reason and no time.
        self.cn.phase = if known { Phase::Closing } else { Phase::Closed };
    }

    pub(super) fn shut_down(&mut self, code: ReplyCode, text: &str) {
        if self.cn.phase == Phase::Left {
            self.cn.phase = Phase::Closed; // all is said
        }
        self.close(code, &format!("{} - {text}", code.name()), (0, 0));
    }

    /// Everything that the connection has is given back. Idempotent.
    pub(super) fn end(&mut self, end: End) {
        for number in self.channels.numbers() {
            self.end_channel(number, end);
        }
        self.channels = Channels::default();
        self.cn.output.drop_held();
        self.cn.stuck = None;
        self.cn.credentials = None;
        self.cn.pause = Pause::default();
        self.cn.ready.clear();
        self.cn.confirming.clear();
        self.input.clear();
        if let Some(open) = self.cn.open.take() {
            self.cn.exclusive.delete_all(&open.host);
            self.cn.front.counters().connections_closed.add(1);
        }
        self.count();
    }

    pub(super) fn lost(&mut self) {
        self.end(End::Lost);
        self.cn.phase = Phase::Closed;
    }
}
