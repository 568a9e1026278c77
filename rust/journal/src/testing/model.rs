//! What a disk holds and what of it survives a power failure.
//!
//! A file has what readers see and what is stable; they differ in *dirty* sectors of 512 bytes, each of which a crash keeps or
//! loses on its own. Names have what is seen, what is stable, and the changes between, which a crash keeps a prefix of. A file
//! that was never synced may have length 0. A failed sync leaves sectors that are seen, not stable, and no longer dirty:
//! only writing them again and syncing saves them, as on Linux.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) const SECTOR_BYTES: usize = 512;

pub(crate) type Inode = usize;

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Create {
        name: String,
        bytes: u64,
    },
    Write {
        inode: Inode,
        offset: u64,
        data: Vec<u8>,
    },
    Sync {
        inode: Inode,
    },
    FailedSync {
        inode: Inode,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    SyncDirectory,
    /// Something that the test wants to know the place of.
    Mark(u64),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FileState {
    pub(crate) seen: Vec<u8>,
    stable: Vec<u8>,
    dirty: BTreeSet<usize>,
    length_is_stable: bool,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, Inode),
    Clear(String),
    Move(String, String),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) files: Vec<FileState>,
    pub(crate) names: BTreeMap<String, Inode>,
    stable_names: BTreeMap<String, Inode>,
    changes: Vec<NameChange>,
}

/// What of the unsynced survives a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// One dirty sector, by its index among all of them.
    Only(usize),
    /// All but one.
    AllBut(usize),
    /// A random half; the seed says which.
    Random(u64),
}

/// A small generator with good enough bits (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        match self {
            Self::Set(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Clear(name) => {
                names.remove(name);
            }
            Self::Move(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl Model {
    pub(crate) fn apply(&mut self, operation: &Operation) {
        let change = match operation {
            Operation::Create { name, bytes } => {
                self.files.push(FileState {
                    seen: vec![0; *bytes as usize],
                    stable: vec![0; *bytes as usize],
                    ..FileState::default()
                });
                NameChange::Set(name.clone(), self.files.len() - 1)
            }
            Operation::Write {
                inode,
                offset,
                data,
            } => {
                let file = &mut self.files[*inode];
                let (from, to) = (*offset as usize, *offset as usize + data.len());
                file.seen[from..to].copy_from_slice(data);
                file.dirty
                    .extend(from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES));
                return;
            }
            Operation::Sync { inode } => {
                let file = &mut self.files[*inode];
                for sector in std::mem::take(&mut file.dirty) {
                    copy_sector(&mut file.stable, &file.seen, sector);
                }
                file.length_is_stable = true;
                return;
            }
            Operation::FailedSync { inode } => {
                self.files[*inode].dirty.clear();
                return;
            }
            Operation::Rename { from, to } => NameChange::Move(from.clone(), to.clone()),
            Operation::Remove { name } => NameChange::Clear(name.clone()),
            Operation::SyncDirectory => {
                for change in std::mem::take(&mut self.changes) {
                    change.apply(&mut self.stable_names);
                }
                return;
            }
            Operation::Mark(_) => return,
        };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    /// Sectors that a crash may keep or lose.
    pub(crate) fn dirty_sectors(&self) -> usize {
        self.files.iter().map(|file| file.dirty.len()).sum()
    }

    /// Name changes that a crash may keep or lose.
    pub(crate) fn name_changes(&self) -> usize {
        self.changes.len()
    }

    /// The disk after a crash that kept these sectors and this many name changes.
    pub(crate) fn crash(&self, survivors: &Survivors, name_changes: usize) -> Model {
        let mut names = self.stable_names.clone();
        for change in &self.changes[..name_changes] {
            change.apply(&mut names);
        }
        let mut random = Random::new(if let Survivors::Random(seed) = survivors {
            *seed
        } else {
            0
        });
        let mut index = 0;
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for file in &self.files {
            let mut bytes = file.stable.clone();
            for &sector in &file.dirty {
                let keep = match survivors {
                    Survivors::None => false,
                    Survivors::All => true,
                    Survivors::Only(only) => *only == index,
                    Survivors::AllBut(but) => *but != index,
                    Survivors::Random(_) => random.next() >> 63 == 1,
                };
                index += 1;
                if keep {
                    copy_sector(&mut bytes, &file.seen, sector);
                }
            }
            let long = match survivors {
                Survivors::None => false,
                Survivors::Random(_) => random.next() >> 63 == 1,
                _ => true,
            };
            if !file.length_is_stable && !long {
                bytes.clear();
            }
            kept.push(bytes);
        }
        // Files without a name are gone.
        let mut model = Model::default();
        for (name, inode) in names {
            let bytes = kept[inode].clone();
            model.files.push(FileState {
                seen: bytes.clone(),
                stable: bytes,
                dirty: BTreeSet::new(),
                length_is_stable: true,
            });
            model.names.insert(name.clone(), model.files.len() - 1);
            model.stable_names.insert(name, model.files.len() - 1);
        }
        model
    }
}

fn copy_sector(to: &mut [u8], from: &[u8], sector: usize) {
    let end = ((sector + 1) * SECTOR_BYTES).min(from.len());
    to[sector * SECTOR_BYTES..end].copy_from_slice(&from[sector * SECTOR_BYTES..end]);
}
