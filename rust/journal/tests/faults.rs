//! A disk that refuses: every call that changes something fails once, or from then on. Nothing is confirmed that is not on
//! the disk, everything else goes on as far as it can, and opening again gives what was confirmed.

mod common;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use common::{RETIRED, Work, check, open_journal, recovered, tiny};
use parking_lot::{Condvar, Mutex};
use wherry_journal::testing::{Fault, MemoryDisk, Sabotage, Survivors};
use wherry_journal::{
    AppendError, Class, Durability, Journal, Observer, Obstacle, ObstacleKind, Options, Poisoned,
    ReadError,
};

/// Long enough for any machine, short enough to end a hung test.
const PATIENCE: Duration = Duration::from_secs(10);

/// Remembers what the journal said.
#[derive(Default)]
struct Heard {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    durable: u64,
    obstacle: Option<Obstacle>,
    failed: Option<Poisoned>,
    wants_evacuation: u64,
    space: u64,
}

impl Heard {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    fn wait(&self, what: &str, until: impl Fn(&State) -> bool) {
        let mut state = self.state.lock();
        let late = self
            .changed
            .wait_while_for(&mut state, |state| !until(state), PATIENCE)
            .timed_out();
        assert!(!late, "never heard: {what}");
    }
}

impl Observer for Heard {
    fn durable(&self, ticket: u64) {
        self.change(|state| state.durable = ticket);
    }
    fn failed(&self, poisoned: &Poisoned) {
        self.change(|state| state.failed = Some(poisoned.clone()));
    }
    fn space(&self) {
        self.change(|state| state.space += 1);
    }
    fn obstructed(&self, by: Option<&Obstacle>) {
        self.change(|state| state.obstacle = by.cloned());
    }
    fn wants_evacuation(&self) {
        self.change(|state| state.wants_evacuation += 1);
    }
}

/// Uses a journal until it fails or the work is done.
fn use_up(work: &mut Work, evacuate: bool) -> Result<(), String> {
    for step in 0..20 {
        let sizes = [50 + step * 10, 300, 0, 90];
        let ticket = work.burst(&sizes).map_err(|error| error.to_string())?;
        if step % 3 == 0 {
            work.journal
                .wait_durable(ticket, Some(PATIENCE))
                .map_err(|error| error.to_string())?;
        }
        if evacuate && let Some(segment) = work.journal.evacuation() {
            work.evacuate(segment).map_err(|error| error.to_string())?;
        }
    }
    work.journal.close().map_err(|error| error.to_string())
}

/// One run with a fault; a complaint if something that was confirmed is lost.
fn run(fault: Fault, sabotage: Sabotage) -> Result<bool, String> {
    let mut work = Work::new(1, sabotage);
    work.disk.fail(Some(fault));
    // What goes wrong is judged below, by what is left.
    let _ = use_up(&mut work, !sabotage.retry_failed_sync);
    let closed = work.journal.close();
    let poisoned = work.journal.statistics().poisoned;
    assert_eq!(closed.is_err(), poisoned.is_some());
    if let Some(poisoned) = &poisoned {
        let refused = work.journal.append(1, b"more", Class::Settle).map(|_| ());
        assert_eq!(refused, Err(AppendError::Poisoned(poisoned.clone())));
        assert_eq!(
            work.journal.wait_durable(u64::MAX, None),
            Err(poisoned.clone())
        );
    }
    let durable = work.journal.durable();
    // Reads go on, of what had been let in.
    for (record, _) in &work.appended {
        match work.journal.read(record.at) {
            Ok(view) => assert_eq!(&view[..record.payload.len()], record.payload),
            Err(ReadError::NotThere(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let retired = work
        .disk
        .history()
        .marks()
        .into_iter()
        .filter(|mark| mark & RETIRED != 0);
    let marks: Vec<_> = retired.chain([durable]).collect();
    work.disk.fail(None);
    // A power failure now, with nothing or everything of what was not synced.
    for survivors in [Survivors::None, Survivors::All] {
        let crashed = work.disk.crash(survivors.clone());
        let (records, _) =
            recovered(&crashed, Sabotage::default()).map_err(|error| error.to_string())?;
        check(&work.appended, &marks, &records)
            .map_err(|error| format!("{survivors:?}: {error}"))?;
    }
    // Or only the process goes: what the next one reads must be on the disk before it is built on.
    drop(work.journal);
    let (journal, seen) =
        open_journal(&work.disk, tiny(), Sabotage::default()).map_err(|error| error.to_string())?;
    check(&work.appended, &marks, &seen).map_err(|error| format!("reopened: {error}"))?;
    let crashed = work.disk.crash(Survivors::None);
    drop(journal);
    let (stable, _) =
        recovered(&crashed, Sabotage::default()).map_err(|error| error.to_string())?;
    if stable != seen {
        return Err(format!(
            "recovered {} records of which {} were on the disk",
            seen.len(),
            stable.len()
        ));
    }
    Ok(poisoned.is_some())
}

fn calls() -> u64 {
    let mut work = Work::new(1, Sabotage::default());
    work.disk.fail(None);
    use_up(&mut work, true).unwrap();
    work.disk.calls()
}

#[test]
fn every_call_may_fail() {
    let calls = calls();
    assert!(calls > 40, "{calls}");
    let (mut poisoned, mut survived) = (0, 0);
    for after_calls in 0..calls + 2 {
        for error in [
            ErrorKind::Other,
            ErrorKind::StorageFull,
            ErrorKind::PermissionDenied,
            ErrorKind::NotFound,
        ] {
            for for_ever in [false, true] {
                let fault = Fault {
                    after_calls,
                    error,
                    for_ever,
                };
                match run(fault, Sabotage::default()) {
                    Ok(true) => poisoned += 1,
                    Ok(false) => survived += 1,
                    Err(error) => panic!("{fault:?}: {error}"),
                }
            }
        }
    }
    assert!(poisoned > 160 && survived > 20, "{poisoned} {survived}");
}

#[test]
fn syncing_again_after_a_failure_is_noticed() {
    let sabotage = Sabotage {
        retry_failed_sync: true,
        ..Sabotage::default()
    };
    let noticed = (0..calls()).any(|after_calls| {
        run(
            Fault {
                after_calls,
                error: ErrorKind::Other,
                for_ever: false,
            },
            sabotage,
        )
        .is_err()
    });
    assert!(noticed);
}

#[test]
fn opening_may_fail_at_every_call_and_then_succeed() {
    let mut work = Work::new(2, Sabotage::default());
    for _ in 0..6 {
        work.burst(&[100, 400, 30]).unwrap();
    }
    let ticket = work.burst(&[10]).unwrap();
    work.journal.wait_durable(ticket, None).unwrap();
    let crashed = work.disk.crash(Survivors::All);
    let expected = recovered(&crashed.copy(), Sabotage::default()).unwrap().0;
    for after_calls in 0..20 {
        let disk = crashed.copy();
        disk.fail(Some(Fault {
            after_calls,
            error: ErrorKind::Other,
            for_ever: true,
        }));
        let first = recovered(&disk, Sabotage::default());
        disk.fail(None);
        let (records, _) = recovered(&disk, Sabotage::default()).unwrap();
        assert_eq!(records, expected);
        if first.is_ok() {
            assert!(after_calls > 0);
            return;
        }
    }
    panic!("opening makes too many calls");
}

fn fill(journal: &Journal, class: Class) -> (u64, AppendError) {
    let mut appended = 0;
    loop {
        match journal.append(1, &[7; 200], class) {
            Ok(_) => appended += 1,
            Err(AppendError::Busy) => assert!(
                journal.wait_space(Some(PATIENCE)) || journal.statistics().poisoned.is_some()
            ),
            Err(error) => return (appended, error),
        }
    }
}

#[track_caller]
fn assert_full(error: &AppendError) {
    let AppendError::Obstructed(obstacle) = error else {
        panic!("{error:?}");
    };
    assert_eq!(obstacle.kind, ObstacleKind::Space);
}

/// Publishes until that is refused for what is in the way of the next segment, then takes it out of the way.
fn obstructed_by(error: ErrorKind) -> (Obstacle, Arc<MemoryDisk>) {
    let disk = MemoryDisk::new();
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let heard = Arc::new(Heard::default());
    journal.set_observer(Arc::clone(&heard) as _);
    disk.refuse_files(Some(error));
    let (published, refused) = fill(&journal, Class::Publish);
    let AppendError::Obstructed(obstacle) = refused else {
        panic!("{error}: {refused:?}");
    };
    assert_eq!(journal.statistics().obstacle, Some(obstacle.clone()));
    heard.wait("what is in the way", |state| {
        state.obstacle.as_ref() == Some(&obstacle)
    });
    // All that was let in is confirmed, and settling goes on.
    let (_, ticket) = journal.append(2, &[1; 100], Class::Settle).unwrap();
    assert!(journal.wait_durable(ticket, Some(PATIENCE)).unwrap());
    disk.refuse_files(None);
    heard.wait("it is out of the way", |state| state.obstacle.is_none());
    let (_, ticket) = journal.append(1, &[7; 200], Class::Publish).unwrap();
    assert!(journal.wait_durable(ticket, Some(PATIENCE)).unwrap());
    let (seen, _) = recovered(&disk.crash(Survivors::None), Sabotage::default()).unwrap();
    assert_eq!(seen.len() as u64, published + 2);
    journal.close().unwrap();
    (obstacle, disk)
}

#[test]
fn what_may_pass_refuses_publishers_with_its_cause_and_is_tried_again() {
    for (error, kind) in [
        (ErrorKind::StorageFull, ObstacleKind::Space),
        (ErrorKind::QuotaExceeded, ObstacleKind::Space),
        (ErrorKind::FileTooLarge, ObstacleKind::Space),
        (ErrorKind::PermissionDenied, ObstacleKind::Permission),
        (ErrorKind::OutOfMemory, ObstacleKind::Memory),
        (ErrorKind::ResourceBusy, ObstacleKind::Contention),
    ] {
        let (obstacle, _) = obstructed_by(error);
        assert_eq!(obstacle.kind, kind);
        assert_eq!(&*obstacle.cause, "making a journal segment: injected");
    }
}

#[test]
fn what_will_not_pass_ends_the_journal_with_its_cause() {
    for (error, advice) in [
        (ErrorKind::NotFound, "put its directory back"),
        (ErrorKind::StaleNetworkFileHandle, "put its directory back"),
        (ErrorKind::ReadOnlyFilesystem, "check the disk"),
        (ErrorKind::Other, "check the disk"),
    ] {
        let disk = MemoryDisk::new();
        let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
        disk.refuse_files(Some(error));
        let (_, refused) = fill(&journal, Class::Publish);
        let AppendError::Poisoned(poisoned) = refused else {
            panic!("{error}: {refused:?}");
        };
        assert_eq!(&*poisoned.cause, "making a journal segment: injected");
        assert!(poisoned.advice.starts_with(advice), "{poisoned:?}");
        // What failed with it is never confirmed, also when the cause is gone.
        disk.refuse_files(None);
        let appended = journal.appended();
        if journal.durable() < appended {
            assert!(journal.wait_durable(appended, Some(PATIENCE)).is_err());
        }
        assert_eq!(journal.close(), Err(poisoned));
    }
}

#[test]
fn a_recycled_segment_that_cannot_be_named_waits_for_it() {
    let disk = MemoryDisk::new();
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let heard = Arc::new(Heard::default());
    journal.set_observer(Arc::clone(&heard) as _);
    while journal.statistics().free_segments == 0 {
        while let Err(error) = journal.append(1, &[7; 200], Class::Publish) {
            assert_eq!(error, AppendError::Busy);
            assert!(journal.wait_space(Some(PATIENCE)));
        }
        if let Some(segment) = journal.evacuation() {
            journal.retire(segment).unwrap();
        }
    }
    disk.refuse_files(Some(ErrorKind::PermissionDenied));
    let (_, refused) = fill(&journal, Class::Publish);
    let AppendError::Obstructed(obstacle) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(&*obstacle.cause, "naming a journal segment: injected");
    disk.refuse_files(None);
    heard.wait("it is out of the way", |state| state.obstacle.is_none());
    journal.append(1, &[7; 200], Class::Publish).unwrap();
    journal.close().unwrap();
}

#[test]
fn a_full_disk_refuses_publishers_only_and_recovers_by_itself() {
    let disk = MemoryDisk::new();
    disk.set_capacity_bytes(Some(5 * 8192));
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let heard = Arc::new(Heard::default());
    journal.set_observer(Arc::clone(&heard) as _);
    let (published, error) = fill(&journal, Class::Publish);
    assert_full(&error);
    assert!(published > 50, "{published}");
    heard.wait("the disk is full", |state| state.obstacle.is_some());
    assert!(journal.statistics().obstacle.is_some());
    // Settling goes on in the room that is kept, and is durable.
    let (_, ticket) = journal.append(2, &[1; 100], Class::Settle).unwrap();
    assert!(journal.wait_durable(ticket, Some(PATIENCE)).unwrap());
    let (settled, error) = fill(&journal, Class::Settle);
    assert_full(&error);
    assert!(settled > 3, "{settled}");
    // Nothing was retained, so the oldest segment may go even with no room for any record of the caller's.
    heard.wait("evacuation", |state| state.wants_evacuation > 0);
    let segment = journal.evacuation().unwrap();
    journal.retire(segment).unwrap();
    heard.wait("there is room again", |state| state.obstacle.is_none());
    while let Err(error) = journal.append(1, &[7; 200], Class::Publish) {
        assert_eq!(error, AppendError::Busy);
        assert!(journal.wait_space(Some(PATIENCE)));
    }
    // And when the room comes from outside.
    let (_, error) = fill(&journal, Class::Publish);
    assert_full(&error);
    disk.set_capacity_bytes(None);
    heard.wait("there is room again", |state| state.obstacle.is_none());
    journal.close().unwrap();
}

#[test]
fn what_dies_while_the_disk_is_full_is_noticed() {
    let disk = MemoryDisk::new();
    disk.set_capacity_bytes(Some(5 * 8192));
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let heard = Arc::new(Heard::default());
    let mut live = Vec::new();
    let error = loop {
        match journal.append(1, &[7; 200], Class::Publish) {
            Ok((at, _)) => {
                journal.retain(at, 400);
                live.push(at);
            }
            Err(AppendError::Busy) => assert!(journal.wait_space(Some(PATIENCE))),
            Err(error) => break error,
        }
    };
    assert_full(&error);
    journal.set_observer(Arc::clone(&heard) as _);
    assert_eq!(journal.evacuation(), None, "all of it is live");
    // The first two segments die: each is asked for in its turn, though nothing else happens.
    for at in live.iter().filter(|at| **at >> 32 <= 2) {
        journal.release(*at, 400);
    }
    for segment in 1..=2 {
        heard.wait("evacuation", |state| state.wants_evacuation >= segment);
        assert_eq!(journal.evacuation(), Some(segment as u32));
        journal.retire(segment as u32).unwrap();
    }
    journal.close().unwrap();
}

#[test]
fn a_record_too_large_for_the_disk_is_refused_and_others_are_not() {
    let disk = MemoryDisk::new();
    disk.set_capacity_bytes(Some(10 * 8192));
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let large = vec![1; 200_000];
    let error = loop {
        match journal.append(1, &large, Class::Publish) {
            Ok(_) => panic!("there is no room for it"),
            Err(AppendError::Busy) => assert!(journal.wait_space(Some(PATIENCE))),
            Err(error) => break error,
        }
    };
    assert_full(&error);
    for _ in 0..30 {
        while let Err(error) = journal.append(1, &[7; 200], Class::Publish) {
            assert_eq!(error, AppendError::Busy);
            assert!(journal.wait_space(Some(PATIENCE)));
        }
    }
    journal.close().unwrap();
}

#[test]
fn a_failed_sync_is_told_once_and_to_everybody() {
    let disk = MemoryDisk::new();
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let heard = Arc::new(Heard::default());
    journal.set_observer(Arc::clone(&heard) as _);
    let (at, ticket) = journal.append(1, b"safe", Class::Publish).unwrap();
    assert!(journal.wait_durable(ticket, Some(PATIENCE)).unwrap());
    heard.wait("durable", |state| state.durable >= ticket);
    disk.fail(Some(Fault {
        after_calls: 0,
        error: ErrorKind::Other,
        for_ever: true,
    }));
    // The committer may be preparing a segment, and fail there.
    let lost = journal.append(1, b"lost", Class::Publish);
    if let Ok((lost_at, ticket)) = lost {
        assert!(journal.wait_durable(ticket, Some(PATIENCE)).is_err());
        assert_eq!(&journal.read(lost_at).unwrap()[..4], b"lost");
    }
    heard.wait("failure", |state| state.failed.is_some());
    assert_eq!(&journal.read(at).unwrap()[..4], b"safe");
    assert!(!journal.wait_space(None));
    assert!(journal.close().is_err());
    assert!(journal.close().is_err());
}

#[test]
fn the_lazier_modes_confirm_what_the_system_has() {
    for durability in [
        Durability::Interval(Duration::from_millis(1)),
        Durability::Never,
    ] {
        let disk = MemoryDisk::new();
        let options = Options {
            durability,
            ..tiny()
        };
        let (journal, _) = open_journal(&disk, options, Sabotage::default()).unwrap();
        let heard = Arc::new(Heard::default());
        journal.set_observer(Arc::clone(&heard) as _);
        let (_, ticket) = journal.append(1, b"quick", Class::Publish).unwrap();
        assert!(journal.wait_durable(ticket, Some(PATIENCE)).unwrap());
        let (seen, _) = recovered(&disk.crash(Survivors::All), Sabotage::default()).unwrap();
        assert_eq!(seen.len(), 1);
        journal.close().unwrap();
        let (kept, report) = recovered(&disk.crash(Survivors::None), Sabotage::default()).unwrap();
        assert_eq!(
            (kept.len(), report.closed),
            (1, true),
            "closing syncs in every mode"
        );
    }
}
