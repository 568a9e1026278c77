//! The content of a message: its header frame and body frames, as they are passed on.

use crate::link::Malformed;
use crate::wire::amqp::frames::{self, Fields, KIND_BODY, KIND_HEADER};

/// Whole frames, and where each of them begins.
pub(super) struct Content<'a> {
    pub(super) bytes: &'a [u8],
    /// Of the body frames; the header stands at the beginning.
    parts: Vec<usize>,
}

/// The content at the beginning of `bytes`; None while it is not whole.
pub(super) fn find(bytes: &[u8]) -> Result<Option<Content<'_>>, Malformed> {
    let Some((header, mut end)) = frames::cut(bytes)? else {
        return Ok(None);
    };
    if header.kind != KIND_HEADER {
        return Err(Malformed("no content header behind a publish"));
    }
    let mut fields = Fields(header.payload);
    fields.u32()?; // class and weight
    let mut missing = fields.u64()?;
    let mut parts = Vec::new();
    while missing > 0 {
        let Some((body, length)) = frames::cut(&bytes[end..])? else {
            return Ok(None);
        };
        missing = missing
            .checked_sub(body.payload.len() as u64)
            .filter(|_| body.kind == KIND_BODY)
            .ok_or(Malformed("no body behind a content header"))?;
        parts.push(end);
        end += length;
    }
    Ok(Some(Content {
        bytes: &bytes[..end],
        parts,
    }))
}

impl Content<'_> {
    /// Appends it for another channel.
    pub(super) fn append(&self, out: &mut Vec<u8>, channel: u16) {
        let start = out.len();
        out.extend_from_slice(self.bytes);
        for at in std::iter::once(0).chain(self.parts.iter().copied()) {
            let place = start + at + 1; // behind the frame's kind
            out[place..place + 2].copy_from_slice(&channel.to_be_bytes());
        }
    }
}
