//! The disk in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::crash::History;
use super::model::{Inode, Model, Operation, Survivors};
use crate::disk::{Disk, DiskFile, Mapping};

/// A call that fails.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// How many calls succeed before it.
    pub after_calls: u64,
    /// With what.
    pub error: io::ErrorKind,
    /// Whether all later calls that change something fail too.
    pub for_ever: bool,
}

#[derive(Default)]
struct State {
    model: Model,
    /// The state when recording began, and what was done since.
    recording: Option<(Model, Vec<Operation>)>,
    calls: u64,
    fault: Option<Fault>,
    capacity_bytes: Option<u64>,
    /// What making and naming files fails with.
    refusal: Option<io::ErrorKind>,
}

/// A disk in memory: see the module.
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    locked: Arc<AtomicBool>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Arc<Self> {
        Self::from_model(Model::default())
    }

    pub(crate) fn from_model(model: Model) -> Arc<Self> {
        let state = State {
            model,
            ..State::default()
        };
        Arc::new(Self {
            state: Arc::new(Mutex::new(state)),
            locked: Arc::new(AtomicBool::new(false)),
        })
    }

    /// Starts recording (again).
    pub fn record(&self) {
        let mut state = self.state.lock();
        state.recording = Some((state.model.clone(), Vec::new()));
    }

    /// What was recorded so far.
    pub fn history(&self) -> History {
        let state = self.state.lock();
        let (start, operations) = state.recording.as_ref().expect("`record` was called");
        History::new(start.clone(), operations.clone())
    }

    /// Notes in the recording that something happened now.
    pub fn mark(&self, mark: u64) {
        self.state.lock().log(Operation::Mark(mark));
    }

    /// Makes a coming call fail. Calls that change something (create, write, sync, rename, remove) count.
    pub fn fail(&self, fault: Option<Fault>) {
        let mut state = self.state.lock();
        state.calls = 0;
        state.fault = fault;
    }

    /// Calls since the fault was set, or since the start.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Limits the sum of all files' lengths, for files made from now on.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Has making and naming files fail from now on, and nothing else.
    pub fn refuse_files(&self, error: Option<io::ErrorKind>) {
        self.state.lock().refusal = error;
    }

    /// What a power failure now would leave, on a new disk. This one goes on.
    pub fn crash(&self, survivors: Survivors) -> Arc<MemoryDisk> {
        let state = self.state.lock();
        let changes = if survivors == Survivors::None {
            0
        } else {
            state.model.name_changes()
        };
        Self::from_model(state.model.crash(&survivors, changes))
    }

    /// The same files, as a reader sees them, on a new disk.
    pub fn copy(&self) -> Arc<MemoryDisk> {
        self.crash(Survivors::All)
    }

    /// A file's bytes.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state
            .model
            .names
            .get(name)
            .map(|inode| state.model.files[*inode].seen.clone())
    }

    /// Replaces a file or makes one, stable at once.
    pub fn set_contents(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        state.log(Operation::Create {
            name: name.into(),
            bytes: bytes.len() as u64,
        });
        let inode = state.model.files.len() - 1;
        state.log(Operation::Write {
            inode,
            offset: 0,
            data: bytes,
        });
        state.log(Operation::Sync { inode });
        state.log(Operation::SyncDirectory);
    }

    /// Removes a file, stable at once.
    pub fn remove_file(&self, name: &str) {
        let mut state = self.state.lock();
        state.log(Operation::Remove { name: name.into() });
        state.log(Operation::SyncDirectory);
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<String> {
        self.state.lock().model.names.keys().cloned().collect()
    }
}

impl State {
    fn log(&mut self, operation: Operation) {
        self.model.apply(&operation);
        if let Some((_, operations)) = &mut self.recording {
            operations.push(operation);
        }
    }

    /// Counts a call and fails it if it is its turn.
    fn call(&mut self) -> io::Result<()> {
        let call = self.calls;
        self.calls += 1;
        match self.fault {
            Some(fault)
                if call == fault.after_calls || fault.for_ever && call > fault.after_calls =>
            {
                Err(io::Error::new(fault.error, "injected"))
            }
            _ => Ok(()),
        }
    }

    fn name(&self) -> io::Result<()> {
        match self.refusal {
            Some(error) => Err(io::Error::new(error, "injected")),
            None => Ok(()),
        }
    }

    fn inode(&self, name: &str) -> io::Result<Inode> {
        self.model
            .names
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

struct Unlock(Arc<AtomicBool>);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Disk for MemoryDisk {
    fn lock(&self) -> io::Result<Result<Box<dyn Send + Sync>, Option<u32>>> {
        if self.locked.swap(true, Ordering::AcqRel) {
            return Ok(Err(Some(std::process::id())));
        }
        Ok(Ok(Box::new(Unlock(Arc::clone(&self.locked)))))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.call()?;
        state.name()?;
        let used: u64 = state
            .model
            .names
            .values()
            .map(|inode| state.model.files[*inode].seen.len() as u64)
            .sum();
        if state
            .capacity_bytes
            .is_some_and(|capacity| used + bytes > capacity)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.log(Operation::Create {
            name: name.into(),
            bytes,
        });
        let inode = state.model.files.len() - 1;
        Ok(Arc::new(MemoryFile {
            state: Arc::clone(&self.state),
            inode,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.state.lock().inode(name)?;
        Ok(Arc::new(MemoryFile {
            state: Arc::clone(&self.state),
            inode,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        state.name()?;
        state.inode(from)?;
        state.log(Operation::Rename {
            from: from.into(),
            to: to.into(),
        });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        state.inode(name)?;
        state.log(Operation::Remove { name: name.into() });
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        state.log(Operation::SyncDirectory);
        Ok(())
    }

    fn coherent_maps(&self) -> bool {
        false
    }
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    inode: Inode,
}

impl DiskFile for MemoryFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.state.lock().model.files[self.inode].seen.len() as u64)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state.lock();
        let seen = &state.model.files[self.inode].seen;
        let from = offset as usize;
        let bytes = seen
            .get(from..from + buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let result = state.call();
        // A failing write may have written a part.
        let done = if result.is_ok() {
            data.len()
        } else {
            data.len() / 2
        };
        state.log(Operation::Write {
            inode: self.inode,
            offset,
            data: data[..done].to_vec(),
        });
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = self.inode;
        if let Err(error) = state.call() {
            state.log(Operation::FailedSync { inode });
            return Err(error);
        }
        state.log(Operation::Sync { inode });
        Ok(())
    }

    fn map(&self) -> io::Result<Arc<dyn Mapping>> {
        Ok(Arc::new(Snapshot(
            self.state.lock().model.files[self.inode].seen.clone(),
        )))
    }
}

struct Snapshot(Vec<u8>);

impl Mapping for Snapshot {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}
