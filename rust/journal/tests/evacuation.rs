//! Freeing space: segments whose records count no more are retired and their files used again, under readers and writers.

mod common;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use common::{Collect, Record, open_journal, recovered, tiny};
use wherry_journal::testing::{MemoryDisk, Sabotage};
use wherry_journal::{
    AppendError, Class, Journal, Observer, Options, ReadError, Replay, segment_of,
};

const PATIENCE: Duration = Duration::from_secs(10);

fn append(journal: &Journal, payload: &[u8]) -> (u64, u64) {
    loop {
        match journal.append(1, payload, Class::Publish) {
            Ok(done) => return done,
            Err(AppendError::Busy) => assert!(journal.wait_space(Some(PATIENCE))),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A queue over a journal as an engine would keep it: what is live, by number, in order.
struct Queue {
    journal: Arc<Journal>,
    live: VecDeque<(u64, u64, usize)>,
    next: u64,
    moved: u64,
}

impl Queue {
    fn payload(number: u64) -> Vec<u8> {
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(8 + number as usize % 90, number as u8);
        payload
    }

    fn push(&mut self) -> u64 {
        let payload = Self::payload(self.next);
        let (at, ticket) = append(&self.journal, &payload);
        self.journal.retain(at, payload.len() as u32);
        self.live.push_back((self.next, at, payload.len()));
        self.next += 1;
        ticket
    }

    /// Takes the oldest one, but leaves stragglers alone while there are few.
    fn pop(&mut self) {
        let many = self.live.len() > 100;
        let place = self
            .live
            .iter()
            .position(|(number, ..)| many || !number.is_multiple_of(50));
        let Some((number, at, bytes)) = place.and_then(|place| self.live.remove(place)) else {
            return;
        };
        assert_eq!(
            &self.journal.read(at).unwrap()[..bytes],
            Self::payload(number)
        );
        self.journal.release(at, bytes as u32);
    }

    /// Appends again what is live in the segment that the journal wants to be rid of, and retires it.
    fn evacuate(&mut self) -> bool {
        let Some(segment) = self.journal.evacuation() else {
            return false;
        };
        let mut found = Collect::default();
        self.journal.scan(segment, &mut found).unwrap();
        for Record { at, payload, .. } in found.0 {
            let Some(entry) = self.live.iter_mut().find(|entry| entry.1 == at) else {
                continue;
            };
            let (copy, _) = append(&self.journal, &payload);
            self.journal.retain(copy, payload.len() as u32);
            self.journal.release(at, payload.len() as u32);
            entry.1 = copy;
            self.moved += 1;
        }
        match self.journal.retire(segment) {
            Ok(()) => true,
            Err(AppendError::Busy) => {
                assert!(self.journal.wait_space(Some(PATIENCE)));
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn check_replay(&self, replayed: &[Record]) {
        // The last copy of each number counts.
        for (number, at, _) in &self.live {
            let last = replayed
                .iter()
                .rfind(|record| record.payload[..8] == number.to_le_bytes())
                .unwrap();
            assert_eq!((last.at, &last.payload), (*at, &Self::payload(*number)));
        }
    }
}

/// Hears what the journal asks for.
struct Asked(parking_lot::Mutex<Sender<()>>);

impl Observer for Asked {
    fn wants_evacuation(&self) {
        self.0.lock().send(()).unwrap();
    }
}

#[test]
fn what_is_dead_is_noticed_without_a_new_segment() {
    // With what the segments leave empty: as long as all of it lives there is nothing to be done.
    const LIVE_BYTES: u32 = 300;
    let disk = MemoryDisk::new();
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let (sender, asked) = channel();
    journal.set_observer(Arc::new(Asked(parking_lot::Mutex::new(sender))));
    let mut live = Vec::new();
    for _ in 0..600 {
        let (at, ticket) = append(&journal, &[7; 100]);
        journal.retain(at, LIVE_BYTES);
        live.push(at);
        assert!(journal.wait_durable(ticket, Some(PATIENCE)).unwrap());
    }
    let newest = segment_of(*live.last().unwrap());
    // The oldest segment keeps the one that it begins with, so it never becomes empty.
    for at in &live[1..] {
        journal.release(*at, LIVE_BYTES);
    }
    let (at, ticket) = append(&journal, b"the only one that is written after it");
    assert!(journal.wait_durable(ticket, Some(PATIENCE)).unwrap());
    assert_eq!(segment_of(at), newest);
    asked.recv_timeout(PATIENCE).unwrap();
    assert_eq!(journal.evacuation(), Some(segment_of(live[0])));
}

#[test]
fn a_queue_that_turns_over_lives_in_a_few_files() {
    let disk = MemoryDisk::new();
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let mut queue = Queue {
        journal,
        live: VecDeque::new(),
        next: 0,
        moved: 0,
    };
    let mut files_max = 0;
    for step in 0..6_000 {
        let ticket = queue.push();
        if queue.live.len() > 20 {
            queue.pop();
        }
        if step % 20 == 0 {
            queue.journal.wait_durable(ticket, None).unwrap();
            queue.evacuate();
        }
        files_max = files_max.max(disk.names().len());
    }
    let journal = Arc::clone(&queue.journal);
    assert!(segment_of(queue.live.back().unwrap().1) > 100);
    // Twice the live bytes and four segments, the spare, the pool and what is on its way out.
    assert!(files_max < 25, "{files_max}");
    assert!(queue.moved > 50, "{}", queue.moved);
    assert!(journal.statistics().segments < 15);
    journal.close().unwrap();
    let (replayed, report) = recovered(&disk, Sabotage::default()).unwrap();
    assert!(report.closed);
    queue.check_replay(&replayed);
}

#[test]
fn only_the_oldest_sealed_segment_can_go() {
    let disk = MemoryDisk::new();
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    assert_eq!(journal.evacuation(), None);
    assert_eq!(journal.retire(1), Err(AppendError::NotRetirable(1)));
    let mut last = 0;
    while segment_of(last) < 4 {
        last = append(&journal, &[1; 500]).1;
    }
    assert!(journal.wait_durable(last, None).unwrap());
    assert_eq!(journal.retire(2), Err(AppendError::NotRetirable(2)));
    let before = journal.read(2 << 32 | 4112).unwrap();
    journal.retire(1).unwrap();
    assert_eq!(journal.retire(1), Err(AppendError::NotRetirable(1)));
    journal.retire(2).unwrap();
    let ticket = append(&journal, b"after").1;
    assert!(journal.wait_durable(ticket, None).unwrap());
    journal.close().unwrap();
    assert!(matches!(
        journal.read(1 << 32 | 4112),
        Err(ReadError::NotThere(_))
    ));
    assert!(matches!(
        journal.scan(1, &mut Collect::default()),
        Err(ReadError::NotThere(_))
    ));
    // A view of a retired segment stays what it was.
    assert_eq!(&before[..500], &[1; 500]);
    let (replayed, _) = recovered(&disk, Sabotage::default()).unwrap();
    assert_eq!(segment_of(replayed[0].at), 3);
}

#[test]
fn a_scan_gives_what_was_appended() {
    let disk = MemoryDisk::new();
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let mut expected = Vec::new();
    let mut last = 0;
    for index in 0..100u32 {
        let payload = vec![index as u8; (index * 7 % 300) as usize];
        let (at, ticket) = append(&journal, &payload);
        expected.push(Record {
            at,
            kind: 1,
            payload,
        });
        last = ticket;
    }
    journal.wait_durable(last, None).unwrap();
    let mut scanned = Collect::default();
    journal.scan(1, &mut scanned).unwrap();
    journal.scan(2, &mut scanned).unwrap();
    expected.retain(|record| segment_of(record.at) <= 2);
    assert_eq!(scanned.0, expected);
    struct Refuse;
    impl Replay for Refuse {
        fn record(&mut self, _: u64, _: u8, _: &[u8]) -> Result<(), String> {
            Err("no".into())
        }
    }
    assert!(matches!(
        journal.scan(1, &mut Refuse),
        Err(ReadError::Replay { .. })
    ));
    assert!(
        matches!(
            journal.scan(segment_of(last), &mut scanned),
            Err(ReadError::NotThere(_))
        ),
        "not sealed"
    );
}

#[test]
fn an_unfinished_reservation_leaves_nothing_and_stops_nobody() {
    let disk = MemoryDisk::new();
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let sizes = [10, 20, 30];
    let mut reservation = journal.reserve(&sizes, Class::Publish).unwrap();
    let (first, buffer) = reservation.next(1);
    buffer.copy_from_slice(b"0123456789");
    reservation.next(2).1.fill(7);
    drop(reservation);
    let (last, ticket) = append(&journal, b"after");
    assert!(journal.wait_durable(ticket, Some(PATIENCE)).unwrap());
    drop(journal.reserve(&sizes, Class::Publish).unwrap());
    journal.close().unwrap();
    let (replayed, _) = recovered(&disk, Sabotage::default()).unwrap();
    // The first was complete when the second was asked for.
    let expected = [
        Record {
            at: first,
            kind: 1,
            payload: b"0123456789".to_vec(),
        },
        Record {
            at: last,
            kind: 1,
            payload: b"after".to_vec(),
        },
    ];
    assert_eq!(replayed, expected);
}

#[test]
fn closing_waits_for_open_reservations() {
    let disk = MemoryDisk::new();
    let (journal, _) = open_journal(&disk, tiny(), Sabotage::default()).unwrap();
    let sizes = [5];
    let mut reservation = journal.reserve(&sizes, Class::Publish).unwrap();
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| journal.close());
        while journal.append(1, b"late", Class::Settle) != Err(AppendError::Closed) {
            std::thread::yield_now();
        }
        reservation.next(3).1.copy_from_slice(b"heard");
        reservation.finish();
        closing.join().unwrap().unwrap();
    });
    let (replayed, report) = recovered(&disk, Sabotage::default()).unwrap();
    assert!(report.closed);
    assert_eq!(
        (replayed[0].kind, &replayed[0].payload[..]),
        (3, &b"heard"[..])
    );
}

/// On real files, so that mappings are real: readers follow a writer that frees everything more than a few segments back.
#[test]
fn readers_never_see_a_file_used_again() {
    let path = std::env::temp_dir().join(format!("wherry-evacuation-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let options = Options {
        segment_bytes: 16 * 1024,
        staging_bytes_max: 128 * 1024,
        ..Options::default()
    };
    let disk = <dyn wherry_journal::Disk>::real(&path);
    let journal =
        Journal::open(Arc::clone(&disk), options.clone(), &mut Collect::default()).unwrap();
    let (newest, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let read = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut kept = VecDeque::new();
                while !stop.load(Ordering::Acquire) {
                    let at = newest.load(Ordering::Acquire);
                    if at == 0 {
                        std::thread::yield_now();
                        continue;
                    }
                    // Retired already, perhaps; else each payload holds its own number all over.
                    if let Ok(view) = journal.read(at) {
                        kept.push_back(view);
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                    if kept.len() > 100 {
                        let view = kept.pop_front().unwrap();
                        let number = &view[..8];
                        assert!(view[..96].chunks(8).all(|chunk| chunk == number));
                    }
                }
            });
        }
        for number in 1..8_000u64 {
            let payload: Vec<u8> = number.to_le_bytes().repeat(12);
            let (at, _) = append(&journal, &payload);
            newest.store(at, Ordering::Release);
            if number.is_multiple_of(100)
                && let Some(oldest) = journal.evacuation()
                && oldest + 3 < segment_of(at)
            {
                match journal.retire(oldest) {
                    Ok(()) | Err(AppendError::Busy) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        stop.store(true, Ordering::Release);
    });
    assert!(read.load(Ordering::Relaxed) > 0);
    let statistics = journal.statistics();
    assert!(
        statistics.segments_bytes < 200 * 16 * 1024,
        "{statistics:?}"
    );
    journal.close().unwrap();
    drop(journal);
    let mut replayed = Collect::default();
    drop(Journal::open(disk, options, &mut replayed).unwrap());
    let last = replayed.0.last().unwrap();
    assert_eq!(last.payload[..8], 7_999u64.to_le_bytes());
    let _ = std::fs::remove_dir_all(&path);
}
