//! The journal on a real directory: what the test disk cannot show (files, modes, the lock, mappings, threads at speed).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wherry_journal::{AppendError, Class, Disk, Durability, Journal, OpenError, Options, Replay};

/// A directory that goes away with the test.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "wherry-journal-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn disk(&self) -> Arc<dyn Disk> {
        <dyn Disk>::real(&self.0)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Collect(Vec<(u64, u8, Vec<u8>)>);

impl Replay for Collect {
    fn record(&mut self, at: u64, kind: u8, payload: &[u8]) -> Result<(), String> {
        self.0.push((at, kind, payload.to_vec()));
        Ok(())
    }
}

fn small() -> Options {
    Options {
        segment_bytes: 64 * 1024,
        staging_bytes_max: 256 * 1024,
        ..Options::default()
    }
}

fn append(journal: &Journal, kind: u8, payload: &[u8]) -> (u64, u64) {
    loop {
        match journal.append(kind, payload, Class::Publish) {
            Ok(done) => return done,
            Err(AppendError::Busy) => assert!(journal.wait_space(None)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_was_appended_is_read_and_replayed() {
    let directory = Directory::new();
    let journal = Journal::open(directory.disk(), small(), &mut Collect::default()).unwrap();
    let mut expected = Vec::new();
    let mut last = 0;
    for index in 0..5_000u32 {
        let payload = vec![index as u8; (index % 100) as usize];
        let (at, ticket) = append(&journal, (index % 7) as u8, &payload);
        assert_eq!(&journal.read(at).unwrap()[..payload.len()], payload);
        expected.push((at, (index % 7) as u8, payload));
        last = ticket;
    }
    assert!(journal.wait_durable(last, None).unwrap());
    for (at, _, payload) in &expected {
        assert_eq!(&journal.read(*at).unwrap()[..payload.len()], payload);
    }
    assert!(journal.statistics().segments > 4);
    journal.close().unwrap();
    assert_eq!(
        journal.append(1, b"", Class::Settle),
        Err(AppendError::Closed)
    );
    let mut replayed = Collect::default();
    let journal = Journal::open(directory.disk(), small(), &mut replayed).unwrap();
    assert!(journal.report().closed);
    assert_eq!(replayed.0, expected);
}

#[test]
fn a_second_opener_is_told_who_holds_the_directory() {
    let directory = Directory::new();
    let journal = Journal::open(directory.disk(), small(), &mut Collect::default()).unwrap();
    match Journal::open(directory.disk(), small(), &mut Collect::default()) {
        Err(OpenError::Locked { by }) => assert_eq!(by, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(journal);
    Journal::open(directory.disk(), small(), &mut Collect::default()).unwrap();
}

#[test]
fn each_threads_records_stay_in_order() {
    for durability in [Durability::Always, Durability::Never] {
        let directory = Directory::new();
        let options = Options {
            durability,
            ..small()
        };
        let journal =
            Journal::open(directory.disk(), options.clone(), &mut Collect::default()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let journal = &journal;
                scope.spawn(move || {
                    for index in 0..5_000u32 {
                        let mut payload = index.to_le_bytes().to_vec();
                        payload.resize(4 + index as usize % 60, thread);
                        append(journal, thread, &payload);
                    }
                });
            }
        });
        journal.close().unwrap();
        let mut replayed = Collect::default();
        drop(Journal::open(directory.disk(), options, &mut replayed).unwrap());
        let mut next = [0u32; 4];
        for (_, thread, payload) in &replayed.0 {
            let index = u32::from_le_bytes(payload[..4].try_into().unwrap());
            assert_eq!(index, next[*thread as usize]);
            assert!(payload[4..].iter().all(|byte| byte == thread));
            next[*thread as usize] += 1;
        }
        assert_eq!(next, [5_000; 4]);
    }
}

#[test]
fn records_larger_than_a_segment_get_one_of_their_own() {
    let directory = Directory::new();
    let journal = Journal::open(directory.disk(), small(), &mut Collect::default()).unwrap();
    let mut expected = Vec::new();
    for bytes in [10, 1_000_000, 20, 60_000, 60_000, 3_000_000, 0, 5] {
        let payload: Vec<u8> = (0..bytes).map(|index| (index * 7 + bytes) as u8).collect();
        let (at, ticket) = append(&journal, 1, &payload);
        assert!(journal.wait_durable(ticket, None).unwrap());
        assert_eq!(&journal.read(at).unwrap()[..bytes], payload);
        expected.push((at, 1, payload));
    }
    assert!(matches!(
        journal.append(1, &vec![0; 600 << 20], Class::Settle),
        Err(AppendError::TooLarge { .. })
    ));
    journal.close().unwrap();
    let mut replayed = Collect::default();
    drop(Journal::open(directory.disk(), small(), &mut replayed).unwrap());
    assert_eq!(replayed.0, expected);
}

#[cfg(unix)]
#[test]
fn files_are_the_owners_only_and_links_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new();
    drop(Journal::open(directory.disk(), small(), &mut Collect::default()).unwrap());
    assert_eq!(
        std::fs::metadata(&directory.0)
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    for entry in std::fs::read_dir(&directory.0).unwrap() {
        assert_eq!(
            entry.unwrap().metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let segment = directory.0.join("00000001.segment");
    std::fs::rename(&segment, directory.0.join("moved")).unwrap();
    std::os::unix::fs::symlink(directory.0.join("moved"), &segment).unwrap();
    let error = Journal::open(directory.disk(), small(), &mut Collect::default()).unwrap_err();
    assert!(
        matches!(error, OpenError::Corrupt { segment: 1, .. }),
        "{error}"
    );
}

#[test]
#[cfg(unix)]
fn nothing_is_confirmed_into_a_directory_that_was_deleted() {
    // Many times: the committer meets it in another call each time, as it is making the next segment meanwhile.
    for _ in 0..100 {
        let directory = Directory::new();
        let journal = Journal::open(directory.disk(), small(), &mut Collect::default()).unwrap();
        let (_, ticket) = append(&journal, 1, b"kept while it was there");
        assert!(journal.wait_durable(ticket, None).unwrap());
        // A file may be made between the look into the directory and its removal.
        while let Err(error) = std::fs::remove_dir_all(&directory.0) {
            assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty);
        }
        let poisoned = match journal.append(1, b"into nothing", Class::Publish) {
            Ok((_, after)) => {
                let poisoned = journal.wait_durable(after, None).unwrap_err();
                assert!(journal.durable() < after);
                poisoned
            }
            // It was met before.
            Err(AppendError::Poisoned(poisoned)) => poisoned,
            Err(error) => panic!("{error}"),
        };
        let cause = &poisoned.cause;
        assert!(
            cause.ends_with(": the file was deleted while it was in use"),
            "{cause}"
        );
        assert!(poisoned.advice.starts_with("put its directory back"));
    }
}
