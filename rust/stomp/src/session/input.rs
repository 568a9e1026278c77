//! Bytes that came and could not be worked off yet: the beginning of a frame whose end is still under way, or whole frames
//! that stand behind a pause.
//!
//! Bytes that can be worked off at once never come here: they are parsed where the socket's reader put them.

/// Room that an idle connection keeps. Below it a buffer costs less than making another for every frame that is cut.
const KEPT_BYTES: usize = 4096;

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
            if bytes.capacity() > KEPT_BYTES {
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
}
