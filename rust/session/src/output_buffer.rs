//! Bytes that are ready for the peer, until its socket takes some: [`OutputBuffer`].

/// Room that an idle connection keeps.
const KEPT_BYTES: usize = 4096;

/// What a session has to say and its server has not asked for yet.
#[derive(Debug, Default)]
pub struct OutputBuffer(Vec<u8>);

impl OutputBuffer {
    /// Bytes that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none wait.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where whole frames are appended.
    #[inline]
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Moves all to the end of `out`.
    pub fn move_into(&mut self, out: &mut Vec<u8>) {
        if out.is_empty() && out.capacity() <= self.0.capacity() {
            std::mem::swap(out, &mut self.0);
        } else {
            out.append(&mut self.0);
        }
        // An idle connection keeps no large buffer.
        if self.0.capacity() > KEPT_BYTES {
            self.0 = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_goes_behind_what_is_there() {
        let mut buffer = OutputBuffer::default();
        let mut out = Vec::new();
        for (said, all) in [("ab", "ab"), ("", "ab"), ("cd", "abcd")] {
            buffer.bytes().extend_from_slice(said.as_bytes());
            assert_eq!(
                (buffer.len(), buffer.is_empty()),
                (said.len(), said.is_empty())
            );
            buffer.move_into(&mut out);
            assert_eq!(out, all.as_bytes());
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn an_idle_connection_keeps_little() {
        let mut buffer = OutputBuffer::default();
        for out in [Vec::new(), Vec::with_capacity(KEPT_BYTES * 4), vec![b'x']] {
            let mut out = out;
            buffer.bytes().resize(KEPT_BYTES * 2, 0);
            buffer.move_into(&mut out);
            assert!(out.len() >= KEPT_BYTES * 2);
            assert!(buffer.0.capacity() <= KEPT_BYTES);
        }
    }
}
