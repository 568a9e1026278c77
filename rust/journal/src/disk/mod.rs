//! The one seam to the disk: everything that the journal does to files goes through these two traits.
//!
//! The real disk is a directory ([`Disk::real`](#method.real)); the test disk lives in [`crate::testing`]. Rules that every
//! implementation keeps: a name is a plain file name; writes never change a file's length; nothing is on stable storage
//! before `sync` (contents) or `sync_directory` (names) returned.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

mod real;

pub use real::RealDisk;

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// Takes the directory for this process until the guard is dropped. The inner error is the holder's process id if known.
    fn lock(&self) -> io::Result<Result<Box<dyn Send + Sync>, Option<u32>>>;
    /// The names in the directory, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of `bytes` zeros whose room on the disk is taken. Fails, leaving nothing behind, if there is no room.
    /// The caller writes each byte once before it relies on the time that a sync takes.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing regular file; anything else, a symbolic link too, is refused.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, atomically; replaces none that the journal needs.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Brings the names to stable storage.
    fn sync_directory(&self) -> io::Result<()>;
    /// Whether a mapping shows what is written after it was made.
    fn coherent_maps(&self) -> bool {
        true
    }
}

impl dyn Disk {
    /// The directory at `path`, made (with its parents, for the owner only) when the journal is opened.
    pub fn real(path: impl Into<PathBuf>) -> Arc<dyn Disk> {
        Arc::new(RealDisk::new(path))
    }
}

/// An open file of fixed length.
pub trait DiskFile: Send + Sync + 'static {
    /// The file's length.
    fn bytes(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    fn write(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Brings contents and length to stable storage.
    fn sync(&self) -> io::Result<()>;
    /// Maps the whole file for reading.
    fn map(&self) -> io::Result<Arc<dyn Mapping>>;
    /// Hints that the file's pages are wanted soon.
    fn will_need(&self) {}
}

/// A file mapped for reading.
pub trait Mapping: Send + Sync + 'static {
    /// The file's bytes, at an address that stays the same for as long as the mapping lives. Only bytes that are not written
    /// any more may be looked at.
    fn bytes(&self) -> &[u8];
}
