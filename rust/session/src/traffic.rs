//! What went through a session: for its own listing, and for the counters of its server.

use crate::connection::SessionInfo;
use crate::front::FrontCounters;

/// Work that one session has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes written for the peer.
    pub bytes_out: u64,
    /// Messages published.
    pub messages_in: u64,
    /// Messages delivered.
    pub messages_out: u64,
    /// Of `messages_in`, those that the server's counters have.
    counted_in: u64,
}

impl Traffic {
    /// Bytes came.
    #[inline]
    pub fn received(&mut self, bytes: usize, counters: &FrontCounters) {
        self.bytes_in += bytes as u64;
        counters.bytes_received.add(bytes as u64);
    }

    /// Bytes were written for the peer.
    #[inline]
    pub fn sent(&mut self, bytes: usize, counters: &FrontCounters) {
        self.bytes_out += bytes as u64;
        counters.bytes_sent.add(bytes as u64);
    }

    /// Has the server's counters know of what was published since the last time: once for many messages, since sessions of
    /// all threads count there.
    #[inline]
    pub fn count_published(&mut self, counters: &FrontCounters) {
        let new = self.messages_in - self.counted_in;
        if new != 0 {
            counters.published.add(new);
            self.counted_in = self.messages_in;
        }
    }

    /// Its numbers as a listing has them.
    pub fn describe(&self, info: &mut SessionInfo) {
        info.bytes_in = self.bytes_in;
        info.bytes_out = self.bytes_out;
        info.messages_in = self.messages_in;
        info.messages_out = self.messages_out;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_publish_is_counted_once() {
        let counters = FrontCounters::default();
        let mut traffic = Traffic::default();
        for (new, all) in [(3, 3), (0, 3), (2, 5)] {
            traffic.messages_in += new;
            traffic.count_published(&counters);
            assert_eq!(counters.published.get(), all);
        }
    }

    #[test]
    fn a_listing_has_what_the_counters_have() {
        let counters = FrontCounters::default();
        let mut traffic = Traffic::default();
        traffic.received(7, &counters);
        traffic.sent(2, &counters);
        traffic.sent(3, &counters);
        traffic.messages_in = 4;
        traffic.messages_out = 1;
        let mut info = SessionInfo::default();
        traffic.describe(&mut info);
        assert_eq!((info.bytes_in, info.bytes_out), (7, 5));
        assert_eq!((info.messages_in, info.messages_out), (4, 1));
        let counted = (counters.bytes_received.get(), counters.bytes_sent.get());
        assert_eq!(counted, (7, 5));
    }
}
