//! Bytes that came and could not be worked off yet: the beginning of a frame whose end is still under way, or whole
//! frames that stand behind a pause.
//!
//! Bytes that can be worked off at once never come here: they are parsed where the socket's reader put them.

use crate::codec::FRAME_OVERHEAD;

/// Bytes before the payload of a frame.
const HEAD_BYTES: usize = FRAME_OVERHEAD - 1;

#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// Bytes at the front that are worked off. They are cut off when they are the most of it, so that many short steps
    /// over a long rest do not move it each time.
    used: usize,
}

impl Input {
    pub(super) fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.used
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.used > self.bytes.len() / 2 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes, taken out so that the session can be changed while it reads them; [`Input::put_back`] follows.
    pub(super) fn take(&mut self) -> (Vec<u8>, usize) {
        (
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.used),
        )
    }

    pub(super) fn put_back(&mut self, mut bytes: Vec<u8>, used: usize) {
        debug_assert!(self.bytes.is_empty(), "nothing is received meanwhile");
        if used == bytes.len() {
            // An idle connection keeps no buffer of the largest frame it ever saw.
            if bytes.capacity() > 4096 {
                bytes = Vec::new();
            }
            bytes.clear();
            self.used = 0;
        } else {
            self.used = used;
        }
        self.bytes = bytes;
    }

    pub(super) fn clear(&mut self) {
        *self = Input::default();
    }

    /// Bytes until something can be said about the frame at the front: its head, or all of it. The protocol header is
    /// shorter than the smallest frame and comes alone, so that it is served by the same count.
    pub(super) fn missing(&self) -> usize {
        let held = &self.bytes[self.used..];
        match held.first_chunk::<HEAD_BYTES>() {
            None => HEAD_BYTES - held.len(),
            Some(&[_, _, _, s3, s2, s1, s0]) => {
                let size = u32::from_be_bytes([s3, s2, s1, s0]) as usize;
                (size.saturating_add(FRAME_OVERHEAD))
                    .saturating_sub(held.len())
                    .max(1)
            }
        }
    }
}
