//! The real disk: a directory for its owner only, positional reads and writes, `fdatasync`.
//!
//! On Unix files are opened relative to the directory's descriptor and never through symbolic links, and room is taken with
//! `fallocate` (Linux) or by writing zeros. Elsewhere plain std calls do the same with weaker guarantees against a directory
//! that is swapped under us.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::{Disk, DiskFile, Mapping};

const LOCK_NAME: &str = "LOCK";

/// A directory of the file system.
pub struct RealDisk {
    path: PathBuf,
    /// The open directory, set by `lock`.
    directory: OnceLock<File>,
}

impl RealDisk {
    /// The directory at `path`; nothing is touched yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            directory: OnceLock::new(),
        }
    }

    fn directory(&self) -> io::Result<&File> {
        match self.directory.get() {
            Some(directory) => Ok(directory),
            None => {
                make_directory(&self.path)?;
                let directory = open_directory(&self.path)?;
                Ok(self.directory.get_or_init(|| directory))
            }
        }
    }
}

impl Disk for RealDisk {
    fn lock(&self) -> io::Result<Result<Box<dyn Send + Sync>, Option<u32>>> {
        let mut file = self.open_file(LOCK_NAME, Opening::Lock)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                return Ok(Err(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The number only serves the other process's error message.
        file.set_len(0)?;
        file.write_all(std::process::id().to_string().as_bytes())?;
        Ok(Ok(Box::new(file)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.directory()?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // Names that are not Unicode are not ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open_file(name, Opening::New).map_err(named)?;
        // A failed allocation may leave the file grown: it must go.
        if let Err(error) = allocate(&file, bytes) {
            drop(file);
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(Arc::new(RealFile::new(file)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open_file(name, Opening::Existing).map_err(named)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(Arc::new(RealFile::new(file)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        #[cfg(unix)]
        let renamed = rustix::fs::renameat(self.directory()?, from, self.directory()?, to)
            .map_err(io::Error::from);
        #[cfg(not(unix))]
        let renamed = std::fs::rename(self.path.join(from), self.path.join(to));
        renamed.map_err(named)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        #[cfg(unix)]
        return Ok(rustix::fs::unlinkat(
            self.directory()?,
            name,
            rustix::fs::AtFlags::empty(),
        )?);
        #[cfg(not(unix))]
        return std::fs::remove_file(self.path.join(name));
    }

    fn sync_directory(&self) -> io::Result<()> {
        // Elsewhere the file system keeps names by itself or not at all.
        #[cfg(unix)]
        self.directory()?.sync_all()?;
        Ok(())
    }
}

/// What a file, or its directory, that was deleted under us is called, whichever call meets it first.
fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        "the file was deleted while it was in use",
    )
}

/// The error of a call that names a file: of ours none is missing unless it, or the directory, was deleted.
fn named(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => gone(),
        _ => error,
    }
}

enum Opening {
    Lock,
    New,
    Existing,
}

impl RealDisk {
    #[cfg(unix)]
    fn open_file(&self, name: &str, how: Opening) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let flags = match how {
            Opening::Lock => flags | OFlags::CREATE,
            Opening::New => flags | OFlags::CREATE | OFlags::EXCL,
            Opening::Existing => flags,
        };
        Ok(File::from(rustix::fs::openat(
            self.directory()?,
            name,
            flags,
            Mode::RUSR | Mode::WUSR,
        )?))
    }

    #[cfg(not(unix))]
    fn open_file(&self, name: &str, how: Opening) -> io::Result<File> {
        self.directory()?;
        let path = self.path.join(name);
        if !matches!(how, Opening::New) && path.is_symlink() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a symbolic link",
            ));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match how {
            Opening::Lock => options.create(true).truncate(false),
            Opening::New => options.create_new(true),
            Opening::Existing => &mut options,
        };
        options.open(path)
    }
}

/// Makes the directory and its parents, each for the owner only, and makes their names stable.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    make_directory(parent)?;
    #[cfg(unix)]
    let created =
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(path);
    #[cfg(not(unix))]
    let created = std::fs::create_dir(path);
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    #[cfg(unix)]
    open_directory(parent)?.sync_all()?;
    Ok(())
}

fn open_directory(path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    return OpenOptions::new().read(true).open(path);
    // A directory is no file elsewhere: hold the lock file's place instead.
    #[cfg(not(unix))]
    return OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join(LOCK_NAME));
}

/// Takes room for a new file, so that writing to it cannot meet a full disk.
#[cfg(target_os = "linux")]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => write_zeros(file, bytes),
        other => Ok(other?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    write_zeros(file, bytes)
}

fn write_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(zeros.len() as u64);
        file.write_all(&zeros[..now as usize])?;
        left -= now;
    }
    Ok(())
}

struct RealFile {
    file: File,
    /// Whether the file system counts a file's names. Some that are programs of their own say 0 for all.
    #[cfg(unix)]
    names_count: bool,
}

impl RealFile {
    fn new(file: File) -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            names_count: names(&file)? != 0,
            file,
        })
    }
}

/// How many names a file has. std would ask for more than that, with a call that takes longer.
#[cfg(unix)]
fn names(file: &File) -> io::Result<u64> {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the type is another on other systems"
    )]
    Ok(rustix::fs::fstat(file)?.st_nlink as u64)
}

impl DiskFile for RealFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset);
        #[cfg(windows)]
        {
            let (mut buffer, mut offset) = (buffer, offset);
            while !buffer.is_empty() {
                let read = std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Ok(())
        }
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::write_all_at(&self.file, data, offset);
        #[cfg(windows)]
        {
            let (mut data, mut offset) = (data, offset);
            while !data.is_empty() {
                let written = std::os::windows::fs::FileExt::seek_write(&self.file, data, offset)?;
                data = &data[written..];
                offset += written as u64;
            }
            Ok(())
        }
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync; the length counts as data. On macOS std asks for a full flush of the drive's cache.
        self.file.sync_data()?;
        // A file without a name takes everything and keeps nothing: it, or its directory, was deleted under us.
        #[cfg(unix)]
        if self.names_count && names(&self.file)? == 0 {
            return Err(gone());
        }
        Ok(())
    }

    fn map(&self) -> io::Result<Arc<dyn Mapping>> {
        // SAFETY: the journal holds the directory's lock and never shortens a segment; bytes below the written mark are not
        // changed while a mapping lives. Against another program that damages the file no mapping is safe.
        let map = unsafe { memmap2::Mmap::map(&self.file)? };
        Ok(Arc::new(RealMapping { map }))
    }

    fn will_need(&self) {
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::WillNeed);
    }
}

struct RealMapping {
    map: memmap2::Mmap,
}

impl Mapping for RealMapping {
    fn bytes(&self) -> &[u8] {
        &self.map
    }
}
