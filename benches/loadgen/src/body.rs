//! The body of a message: a stamp that says which message it is, perhaps when it was sent, and bytes that tell their place.

/// Bytes of a body that the stamp needs; a body that also carries its times needs [`STAMP_TIMES_BYTES`].
pub(crate) const STAMP_BYTES: usize = 16;
/// A stamp, when the message was due and when it was written: nanoseconds after the start, 8 bytes each.
pub(crate) const STAMP_TIMES_BYTES: usize = STAMP_BYTES + 16;

/// The beginning of each body: run (4 bytes), producer (4), sequence (8); big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u32,
    pub(crate) producer: u32,
    pub(crate) sequence: u64,
}

impl Stamp {
    pub(crate) fn write(self, body: &mut [u8]) {
        body[..4].copy_from_slice(&self.run.to_be_bytes());
        body[4..8].copy_from_slice(&self.producer.to_be_bytes());
        body[8..16].copy_from_slice(&self.sequence.to_be_bytes());
    }

    #[inline]
    pub(crate) fn read(body: &[u8]) -> Option<Stamp> {
        let (head, _) = body.split_first_chunk::<STAMP_BYTES>()?;
        let [a, b, c, d, e, f, g, h, sequence @ ..] = *head;
        Some(Stamp {
            run: u32::from_be_bytes([a, b, c, d]),
            producer: u32::from_be_bytes([e, f, g, h]),
            sequence: u64::from_be_bytes(sequence),
        })
    }
}

/// The content of a body behind its stamp: each byte tells its place.
pub(crate) fn filler(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_as_written() {
        let mut body = [0; STAMP_BYTES];
        let written = Stamp {
            run: 7,
            producer: 3,
            sequence: 1 << 40,
        };
        written.write(&mut body);
        assert_eq!(Stamp::read(&body), Some(written));
        assert_eq!(Stamp::read(&body[1..]), None);
    }
}
