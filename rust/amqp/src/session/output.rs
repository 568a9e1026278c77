//! Answers on their way to the peer.
//!
//! Most answers are ready when they are made. One about something durable is held back until that is on stable
//! storage; whatever else its channel says stands behind it, so that the order within a channel is that of its methods.
//! While a channel has something held back it is given no deliveries and no confirms either.
//!
//! Tickets of one session grow, since its methods are worked off in order; so held answers become free in order, too.

use std::collections::{HashMap, VecDeque};

use wherry_engine::Ticket;
use wherry_session::OutputBuffer;

use crate::codec::{Method, write_content};

struct Held {
    channel: u16,
    until: Ticket,
    bytes: Box<[u8]>,
}

#[derive(Default)]
pub(super) struct Output {
    ready: OutputBuffer,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Held answers by channel; no entry for none.
    held_on: HashMap<u16, usize>,
    /// A buffer for answers that are going to be held.
    scratch: Vec<u8>,
}

impl Output {
    /// Bytes that wait here, whether for the disk or for the peer.
    pub(super) fn bytes(&self) -> usize {
        self.ready.len() + self.held_bytes
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the channel has answers that wait for the disk.
    #[inline]
    pub(super) fn is_holding(&self, channel: u16) -> bool {
        !self.held.is_empty() && self.held_on.contains_key(&channel)
    }

    /// Something for a channel, behind everything that the channel was told before.
    pub(super) fn send(&mut self, channel: u16, method: &Method<'_>) {
        self.send_with(channel, |out| {
            // Every text in an answer came out of a short string, or was cut to one.
            let written = method.write(channel, out);
            debug_assert!(written.is_ok(), "{method:?}");
        });
    }

    /// As `send`, for a method with content.
    pub(super) fn send_content(
        &mut self,
        channel: u16,
        method: &Method<'_>,
        properties: &[u8],
        body: &[u8],
        frame_max: u32,
    ) {
        self.send_with(channel, |out| {
            let start = out.len();
            let written = method
                .write(channel, out)
                .and_then(|()| write_content(channel, 60, properties, body, frame_max, out));
            if written.is_err() {
                out.truncate(start);
            }
        });
    }

    fn send_with(&mut self, channel: u16, write: impl FnOnce(&mut Vec<u8>)) {
        if self.is_holding(channel) {
            self.hold(channel, Ticket::NONE, write);
        } else {
            write(self.ready.bytes());
        }
    }

    /// An answer that may be given when `until` is durable.
    pub(super) fn send_when_durable(
        &mut self,
        channel: u16,
        method: &Method<'_>,
        until: Ticket,
        durable: Ticket,
    ) {
        if until <= durable {
            return self.send(channel, method);
        }
        self.hold(channel, until, |out| {
            let written = method.write(channel, out);
            debug_assert!(written.is_ok(), "{method:?}");
        });
    }

    fn hold(&mut self, channel: u16, until: Ticket, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.scratch);
        let bytes: Box<[u8]> = self.scratch.as_slice().into();
        self.scratch.clear();
        self.held_bytes += bytes.len();
        *self.held_on.entry(channel).or_default() += 1;
        self.held.push_back(Held {
            channel,
            until,
            bytes,
        });
    }

    /// Lets go what is durable by now; calls `freed` with each channel that has nothing held back any more.
    pub(super) fn release(&mut self, durable: Ticket, mut freed: impl FnMut(u16)) {
        while self.held.front().is_some_and(|held| held.until <= durable)
            && let Some(held) = self.held.pop_front()
        {
            self.held_bytes -= held.bytes.len();
            self.ready.bytes().extend_from_slice(&held.bytes);
            if let Some(count) = self.held_on.get_mut(&held.channel) {
                *count -= 1;
                if *count == 0 {
                    self.held_on.remove(&held.channel);
                    freed(held.channel);
                }
            }
        }
    }

    /// Bytes that belong to no channel's order: the handshake, heartbeats.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        self.ready.bytes()
    }

    /// Moves what is ready to the end of `out`.
    pub(super) fn move_into(&mut self, out: &mut Vec<u8>) {
        self.ready.move_into(out);
    }

    /// What was held back is not true any more, or is not wanted: the connection ends.
    pub(super) fn drop_held(&mut self) {
        self.held.clear();
        self.held_on.clear();
        self.held_bytes = 0;
    }
}

/// The text as a short string. As in RabbitMQ a longer one ends in "..." to show that it was cut.
pub(super) fn short(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= 255 {
        return text.into();
    }
    let mut end = 252;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(output: &mut Output) -> usize {
        let mut out = Vec::new();
        output.move_into(&mut out);
        out.len()
    }

    #[test]
    fn a_channel_speaks_in_order_and_others_are_not_held_up() {
        let mut output = Output::default();
        let none = Ticket::NONE;
        output.send_when_durable(1, &Method::QueueBindOk {}, Ticket(5), none);
        output.send(1, &Method::TxSelectOk {});
        output.send(2, &Method::TxSelectOk {});
        assert!(output.is_holding(1) && !output.is_holding(2));
        assert_eq!(texts(&mut output), 12, "one method frame: channel 2's");
        output.release(Ticket(4), |_| panic!("nothing is durable"));
        assert_eq!(texts(&mut output), 0);
        let mut freed = Vec::new();
        output.release(Ticket(5), |channel| freed.push(channel));
        assert_eq!(freed, [1]);
        assert_eq!(texts(&mut output), 24);
        assert_eq!(output.bytes(), 0);
        assert!(!output.has_held());
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = format!("a{}", "ä".repeat(200));
        assert_eq!(short(&text).len(), 254);
        assert!(short(&text).ends_with("ä..."));
        assert_eq!(short(&"x".repeat(255)), "x".repeat(255));
    }
}
