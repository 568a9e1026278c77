//! Bytes that came and could not be worked off yet: the beginning of a frame whose end is still under way, or whole frames
//! that stand behind a pause.
//!
//! Bytes that can be worked off at once never come here: they are parsed where the socket's reader put them.

/// Room that an idle connection keeps. Below it a buffer costs less than making another for every frame that is cut.
const KEPT_BYTES: usize = 4096;

/// What a session has received and not worked off.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    /// Bytes at the front that are worked off. They are cut off when they are the most of it, so that many short steps
    /// over a long rest do not move it each time.
    used: usize,
}

impl Input {
    /// Whether nothing is kept.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// Bytes that are kept.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// The bytes that are kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// Keeps bytes, behind those that are kept already.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.used > self.bytes.len() / 2 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes, taken out so that the session can be changed while it reads them, and how many at the front are worked
    /// off; [`Input::put_back`] follows.
    pub fn take(&mut self) -> (Vec<u8>, usize) {
        (
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.used),
        )
    }

    /// Puts back what `take` gave, of which `used` bytes are worked off now.
    pub fn put_back(&mut self, mut bytes: Vec<u8>, used: usize) {
        debug_assert!(self.bytes.is_empty(), "nothing is received meanwhile");
        if used == bytes.len() {
            // An idle connection keeps no buffer of the largest frame it ever saw.
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

    /// Forgets all of it, and gives its memory back.
    pub fn clear(&mut self) {
        *self = Input::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_worked_off_stays_in_order() {
        let mut input = Input::default();
        assert!(input.is_empty());
        input.push(b"abcdef");
        let (bytes, start) = input.take();
        assert_eq!((&bytes[start..], input.len()), (&b"abcdef"[..], 0));
        input.put_back(bytes, start + 2);
        assert_eq!(input.bytes(), b"cdef");
        input.push(b"gh"); // less than half is worked off: nothing moves
        assert_eq!((input.bytes(), input.used), (&b"cdefgh"[..], 2));
        let (bytes, start) = input.take();
        input.put_back(bytes, start + 5);
        input.push(b"ij");
        assert_eq!((input.bytes(), input.used), (&b"hij"[..], 0));
        let (bytes, start) = input.take();
        input.put_back(bytes, start + 3);
        assert!(input.is_empty());
    }

    #[test]
    fn an_idle_connection_keeps_little() {
        let mut input = Input::default();
        for (bytes, kept) in [(100, true), (KEPT_BYTES * 4, false)] {
            input.push(&vec![0; bytes]);
            let (buffer, start) = input.take();
            input.put_back(buffer, start + bytes);
            assert_eq!(input.bytes.capacity() > 0, kept, "{bytes}");
        }
        input.push(b"x");
        input.clear();
        assert_eq!((input.len(), input.bytes.capacity()), (0, 0));
    }
}
