//! Method frames: class id u16, method id u16, then the fields that [`methods`](super::methods) lists.

use super::errors::{EncodeError, MethodError};
use super::frame::{FRAME_END, FRAME_OVERHEAD, FrameKind, frame_head};
use super::methods::Method;
use super::wire::Reader;

/// The class and method id at the beginning of a method frame's payload, for error replies about a method that could not be decoded.
/// `None` if it is shorter than four bytes.
pub fn method_ids(payload: &[u8]) -> Option<(u16, u16)> {
    let [c1, c0, m1, m0] = *payload.first_chunk()?;
    Some((u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])))
}

impl<'a> Method<'a> {
    /// Reads the payload of a method frame. The result borrows from it; nothing is allocated. Tables are checked whole (within
    /// [`DEPTH_MAX`](wherry_engine::table::DEPTH_MAX) and [`BYTES_MAX`](wherry_engine::table::BYTES_MAX)); reserved fields are read
    /// and dropped.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, MethodError> {
        let (class_id, method_id) = method_ids(payload).ok_or(MethodError::Truncated)?;
        let mut reader = Reader {
            rest: &payload[4..],
        };
        let method = Self::read_fields(class_id, method_id, &mut reader)?;
        if !reader.rest.is_empty() {
            return Err(MethodError::TrailingBytes);
        }
        Ok(method)
    }

    /// Whether a content header and a body follow the method.
    pub const fn has_content(&self) -> bool {
        matches!(
            self,
            Self::BasicPublish { .. }
                | Self::BasicReturn { .. }
                | Self::BasicDeliver { .. }
                | Self::BasicGetOk { .. }
        )
    }

    /// Appends the whole frame. Reserved fields are written as zeros and empty strings. Tables are written as they are, without a
    /// check of their bytes. On an error `out` is as it was. The size is not compared with what was negotiated: only
    /// `connection.start` and replies that echo a client's texts come near it.
    pub fn write(&self, channel: u16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let result = self.append(channel, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn append(&self, channel: u16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let (class_id, method_id) = self.id();
        // The size is not known yet.
        out.extend_from_slice(&frame_head(FrameKind::Method, channel, 0));
        out.extend_from_slice(&class_id.to_be_bytes());
        out.extend_from_slice(&method_id.to_be_bytes());
        self.write_fields(out)?;
        out.push(FRAME_END);
        let size = u32::try_from(out.len() - start - FRAME_OVERHEAD)
            .map_err(|_| EncodeError::FrameTooLarge)?;
        out[start + 3..start + 7].copy_from_slice(&size.to_be_bytes());
        Ok(())
    }
}
