//! Bytes read from the journal, without a copy where they are in a file.

use std::ops::Deref;
use std::sync::Arc;

use crate::disk::Mapping;

/// Bytes of the journal. Keeps the mapping alive: the file is not written again while a view of it exists.
#[derive(Clone)]
pub struct View {
    start: *const u8,
    bytes: usize,
    _owner: Owner,
}

#[derive(Clone)]
enum Owner {
    Mapping(#[expect(dead_code, reason = "keeps the bytes alive")] Arc<dyn Mapping>),
    Copy(#[expect(dead_code, reason = "keeps the bytes alive")] Arc<[u8]>),
}

// SAFETY: the bytes do not change while the owner lives, and the owner may be shared between threads.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    pub(crate) fn mapped(map: Arc<dyn Mapping>, from: usize, to: usize) -> Self {
        let slice = &map.bytes()[from..to];
        Self {
            start: slice.as_ptr(),
            bytes: slice.len(),
            _owner: Owner::Mapping(map),
        }
    }

    pub(crate) fn copied(bytes: &[u8]) -> Self {
        let copy: Arc<[u8]> = bytes.into();
        Self {
            start: copy.as_ptr(),
            bytes: copy.len(),
            _owner: Owner::Copy(copy),
        }
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the owner keeps these bytes in place and unchanged: a mapping below its segment's written mark, or a copy.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({} bytes)", self.bytes)
    }
}
