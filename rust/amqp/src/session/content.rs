//! Putting a publish together: the method, its content header, its body.
//!
//! A message whose three frames lie whole in what was received is published from there and never comes here. Others are
//! collected in a draft that the channel keeps: what a draft holds grows with the bytes that came, not with the bytes
//! that were announced.

use wherry_session::{Failure, Limits};

use super::failing::{frame_error, precondition_failed, unexpected_frame};
use crate::codec::{ContentError, ContentHeader, Frame, FrameKind, decode_content_header};

/// The class that publishes belong to.
const BASIC: u16 = 60;

/// A draft has room for at most so many times what came: memory that nobody wrote to costs little, but who only announces
/// a body is not to take the address space either.
const ROOM_FACTOR: usize = 8;

/// Bytes that a draft keeps room for between two messages.
const KEPT_BYTES: usize = 64 << 10;

/// Which frame must come next on a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expect {
    #[default]
    Method,
    Header,
    /// So many bytes of body are missing.
    Body {
        missing: u64,
    },
}

/// A publish that is not complete.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) routing_key: String,
    pub(super) mandatory: bool,
    pub(super) properties: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Draft {
    /// The next part of the body, behind which so many bytes are missing.
    pub(super) fn append(&mut self, part: &[u8], missing: u64) {
        let came = self.body.len() + part.len();
        if came > self.body.capacity() {
            // Room for all of it or for much, so that a long body is not copied again each time its room has doubled.
            let more =
                (came * (ROOM_FACTOR - 1)).min(usize::try_from(missing).unwrap_or(usize::MAX));
            self.body.reserve_exact(part.len() + more);
        }
        self.body.extend_from_slice(part);
    }

    /// After its publish: keeps the room for the next, unless it is large.
    pub(super) fn clear(&mut self) {
        self.properties.clear();
        self.body.clear();
        if self.body.capacity() > KEPT_BYTES {
            self.body = Vec::new();
        }
    }
}

/// The content header that must follow a publish. The method at fault is the publish.
#[inline]
pub(super) fn header<'a>(frame: &Frame<'a>, limits: &Limits) -> Result<ContentHeader<'a>, Failure> {
    let other = || {
        unexpected_frame(format!(
            "expected content header for class {BASIC}, got non content header frame instead"
        ))
    };
    if frame.kind != FrameKind::Header {
        return Err(other());
    }
    // No properties at all: nothing to check.
    if let &[0, 60, 0, 0, s7, s6, s5, s4, s3, s2, s1, s0, 0, 0] = frame.payload {
        let body_size = u64::from_be_bytes([s7, s6, s5, s4, s3, s2, s1, s0]);
        return fitting(
            ContentHeader {
                class_id: BASIC,
                body_size,
                properties: &frame.payload[12..],
            },
            limits,
        );
    }
    let header = decode_content_header(frame.payload).map_err(|error| match error {
        ContentError::Weight(_) => other(),
        error => frame_error(error.to_string()),
    })?;
    if header.class_id != BASIC {
        return Err(unexpected_frame(format!(
            "expected content header for class {BASIC}, got one for class {} instead",
            header.class_id
        )));
    }
    if header.properties.len() > limits.header_bytes_max as usize {
        return Err(precondition_failed(format!(
            "properties of {} bytes are over the limit of {}",
            header.properties.len(),
            limits.header_bytes_max
        )));
    }
    fitting(header, limits)
}

#[inline]
fn fitting<'a>(header: ContentHeader<'a>, limits: &Limits) -> Result<ContentHeader<'a>, Failure> {
    let bytes_max = limits.message_bytes_max;
    if header.body_size > bytes_max {
        return Err(precondition_failed(format!(
            "message size {} is larger than configured max size {bytes_max}",
            header.body_size
        )));
    }
    Ok(header)
}

/// A body frame, of which so many bytes may come; how many are missing then.
pub(super) fn body(frame: &Frame<'_>, missing: u64) -> Result<u64, Failure> {
    if frame.kind == FrameKind::Body
        && let Some(left) = missing.checked_sub(frame.payload.len() as u64)
    {
        return Ok(left);
    }
    Err(unexpected_frame(
        "expected content body, got non content body frame instead",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_has_room_by_what_came() {
        const PART: usize = 1000;
        for announced in [3 * PART, 50 * PART, 1000 * PART] {
            let mut draft = Draft::default();
            let mut moved = 0;
            for came in (PART..=announced).step_by(PART) {
                let before = draft.body.capacity();
                draft.append(&[7; PART], (announced - came) as u64);
                moved += usize::from(draft.body.capacity() != before);
                assert_eq!(draft.body.len(), came);
                let room = draft.body.capacity();
                assert!(
                    room <= (came * ROOM_FACTOR).min(announced),
                    "{came}: {room}"
                );
            }
            assert!(moved <= 4, "{announced}: {moved}");
        }
    }
}
