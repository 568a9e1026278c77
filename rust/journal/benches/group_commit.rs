//! Confirmed records a second, device bytes a record, and recovery speed, beside raw floors on the same disk in the same run.
//!
//! `cargo bench -p wherry-journal --bench group_commit` (add `-- --seconds 3 --rounds 5 --directory /path` to change the defaults). Words:
//! *outstanding N* = one thread appends and never has more than N unconfirmed records (a publisher with a confirm window);
//! *blocked N* = N threads, each appends one record and waits for it. A record is 128 bytes of payload. Floors:
//! *batch floor* = one thread, no hand-over: encode N records, `pwrite`, `fdatasync`, again; *raw group commit* = a mutexed
//! buffer that one thread swaps, writes and syncs, with the same publishers as the journal. The variants of a row run one
//! after another in each round, and the median round is shown with its range.
//!
//! `--sync-us 100` puts a sleep of that length in the place of each sync, floors included: with `--directory /dev/shm` it
//! compares the journal with the floors on a machine whose disk is busy with other things.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use wherry_journal::{
    AppendError, Class, Disk, DiskFile, Durability, Journal, Mapping, Options, Replay,
};

const PAYLOAD_BYTES: usize = 128;
const RECORD_BYTES: usize = 144;

struct Settings {
    seconds: f64,
    rounds: usize,
    directory: PathBuf,
}

/// Length of a pretended sync; 0 = sync.
static SYNC_US: AtomicU64 = AtomicU64::new(0);

fn sync(file: &File) {
    match SYNC_US.load(Ordering::Relaxed) {
        0 => file.sync_data().expect("a healthy disk"),
        time => std::thread::sleep(Duration::from_micros(time)),
    }
}

/// The real disk with a pretended sync.
struct Pretending(Arc<dyn Disk>);

impl Disk for Pretending {
    fn lock(&self) -> io::Result<Result<Box<dyn Send + Sync>, Option<u32>>> {
        self.0.lock()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(PretendingFile(self.0.create(name, bytes)?)))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(PretendingFile(self.0.open(name)?)))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.0.sync_directory()
    }
}

struct PretendingFile(Arc<dyn DiskFile>);

impl DiskFile for PretendingFile {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read(buffer, offset)
    }
    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write(data, offset)
    }
    fn sync(&self) -> io::Result<()> {
        std::thread::sleep(Duration::from_micros(SYNC_US.load(Ordering::Relaxed)));
        Ok(())
    }
    fn map(&self) -> io::Result<Arc<dyn Mapping>> {
        self.0.map()
    }
}

fn disk(path: PathBuf) -> Arc<dyn Disk> {
    let real = <dyn Disk>::real(path);
    if SYNC_US.load(Ordering::Relaxed) == 0 {
        real
    } else {
        Arc::new(Pretending(real))
    }
}

struct Nothing;

impl Replay for Nothing {
    fn record(&mut self, _: u64, _: u8, _: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// Something that takes records and tells when they are safe.
trait Log: Sync {
    fn append(&self, payload: &[u8]) -> u64;
    fn durable(&self) -> u64;
    fn wait(&self, ticket: u64);
}

struct Ours(Arc<Journal>);

impl Log for Ours {
    fn append(&self, payload: &[u8]) -> u64 {
        loop {
            match self.0.append(1, payload, Class::Publish) {
                Ok((_, ticket)) => return ticket,
                Err(AppendError::Busy) => {
                    self.0.wait_space(None);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn durable(&self) -> u64 {
        self.0.durable()
    }

    fn wait(&self, ticket: u64) {
        assert!(self.0.wait_durable(ticket, None).expect("a healthy disk"));
    }
}

/// The raw group commit: as little as can be between publishers and the disk.
struct Raw {
    state: Mutex<RawState>,
    work: Condvar,
    done: Condvar,
    durable: AtomicU64,
}

#[derive(Default)]
struct RawState {
    buffer: Vec<u8>,
    end: u64,
    stop: bool,
}

impl Raw {
    fn run(&self, file: &File) {
        let mut buffer = Vec::new();
        let mut offset = 4096;
        loop {
            let end = {
                let mut state = self.state.lock().expect("no panics");
                while state.buffer.is_empty() && !state.stop {
                    state = self.work.wait(state).expect("no panics");
                }
                if state.buffer.is_empty() {
                    return;
                }
                std::mem::swap(&mut buffer, &mut state.buffer);
                state.end
            };
            file.write_all_at(&buffer, offset).expect("a healthy disk");
            sync(file);
            offset += buffer.len() as u64;
            if offset > FLOOR_FILE_BYTES - (4 << 20) {
                offset = 4096;
            }
            buffer.clear();
            self.durable.store(end, Ordering::Release);
            drop(self.state.lock().expect("no panics"));
            self.done.notify_all();
        }
    }
}

impl Log for Raw {
    fn append(&self, payload: &[u8]) -> u64 {
        let record = encode(payload);
        let mut state = self.state.lock().expect("no panics");
        let idle = state.buffer.is_empty();
        state.buffer.extend_from_slice(&record);
        state.end += 1;
        let end = state.end;
        drop(state);
        if idle {
            self.work.notify_one();
        }
        end
    }

    fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    fn wait(&self, ticket: u64) {
        let mut state = self.state.lock().expect("no panics");
        while self.durable() < ticket {
            state = self.done.wait(state).expect("no panics");
        }
    }
}

/// A record as large as the journal's, with a checksum.
fn encode(payload: &[u8]) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..4].copy_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
    record[16..].copy_from_slice(payload);
    let crc = crc32c::crc32c(&record[16..]);
    record[12..16].copy_from_slice(&crc.to_le_bytes());
    record
}

const FLOOR_FILE_BYTES: u64 = 64 << 20;

/// A file whose bytes were all written once.
fn floor_file(directory: &Path) -> File {
    let path = directory.join("floor");
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .expect("a writable directory");
    if file.metadata().expect("a file").len() < FLOOR_FILE_BYTES {
        for offset in (0..FLOOR_FILE_BYTES).step_by(1 << 20) {
            file.write_all_at(&vec![0; 1 << 20], offset).expect("room");
        }
        file.sync_all().expect("a healthy disk");
    }
    file
}

/// One publisher with a window: records confirmed a second.
fn outstanding(log: &dyn Log, window: usize, seconds: f64) -> f64 {
    let payload = [0x5a; PAYLOAD_BYTES];
    let mut tickets = VecDeque::with_capacity(window);
    let (started, mut confirmed) = (Instant::now(), 0u64);
    while started.elapsed().as_secs_f64() < seconds {
        while tickets.len() < window {
            tickets.push_back(log.append(&payload));
        }
        log.wait(tickets[0]);
        let durable = log.durable();
        while tickets.front().is_some_and(|ticket| *ticket <= durable) {
            tickets.pop_front();
            confirmed += 1;
        }
    }
    let rate = confirmed as f64 / started.elapsed().as_secs_f64();
    log.wait(*tickets.back().unwrap_or(&0));
    rate
}

/// Threads that wait for each record.
fn blocked(log: &dyn Log, threads: usize, seconds: f64) -> f64 {
    let stop = AtomicBool::new(false);
    let confirmed = AtomicU64::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let payload = [0x5a; PAYLOAD_BYTES];
                let mut mine = 0;
                while !stop.load(Ordering::Relaxed) {
                    log.wait(log.append(&payload));
                    mine += 1;
                }
                confirmed.fetch_add(mine, Ordering::Relaxed);
            });
        }
        std::thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Ordering::Relaxed);
    });
    confirmed.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

fn batch_floor(directory: &Path, batch: usize, seconds: f64) -> f64 {
    let file = floor_file(directory);
    let payload = [0x5a; PAYLOAD_BYTES];
    let (mut buffer, mut offset, mut records) = (Vec::new(), 4096, 0);
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < seconds {
        buffer.clear();
        (0..batch).for_each(|_| buffer.extend_from_slice(&encode(&payload)));
        file.write_all_at(&buffer, offset).expect("a healthy disk");
        sync(&file);
        offset += buffer.len() as u64;
        if offset > FLOOR_FILE_BYTES - (4 << 20) {
            offset = 4096;
        }
        records += batch;
    }
    records as f64 / started.elapsed().as_secs_f64()
}

fn with_raw(directory: &Path, run: impl FnOnce(&dyn Log) -> f64) -> f64 {
    let file = floor_file(directory);
    let raw = Raw {
        state: Mutex::default(),
        work: Condvar::new(),
        done: Condvar::new(),
        durable: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| raw.run(&file));
        let rate = run(&raw);
        raw.state.lock().expect("no panics").stop = true;
        raw.work.notify_all();
        rate
    })
}

/// Frees segments as fast as they are sealed: the journal lives on recycled files.
struct FreeAll(Mutex<Option<Arc<AtomicBool>>>);

impl wherry_journal::Observer for FreeAll {
    fn wants_evacuation(&self) {
        if let Some(flag) = &*self.0.lock().expect("no panics") {
            flag.store(true, Ordering::Release);
        }
    }
}

struct Recycling {
    log: Ours,
    wanted: Arc<AtomicBool>,
}

impl Log for Recycling {
    fn append(&self, payload: &[u8]) -> u64 {
        if self.wanted.swap(false, Ordering::AcqRel) {
            while let Some(segment) = self.log.0.evacuation() {
                if self.log.0.retire(segment).is_err() {
                    break;
                }
            }
        }
        self.log.append(payload)
    }

    fn durable(&self) -> u64 {
        self.log.durable()
    }

    fn wait(&self, ticket: u64) {
        self.log.wait(ticket);
    }
}

fn open(directory: &Path) -> Recycling {
    let path = directory.join("journal");
    let journal = Journal::open(disk(path), Options::default(), &mut Nothing).expect("a journal");
    let wanted = Arc::new(AtomicBool::new(true));
    journal.set_observer(Arc::new(FreeAll(Mutex::new(Some(Arc::clone(&wanted))))));
    Recycling {
        log: Ours(journal),
        wanted,
    }
}

fn show(name: &str, mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    let median = rates[rates.len() / 2];
    println!(
        "  {name:<36} {median:>12.0} /s   [{:.0} - {:.0}]",
        rates[0],
        rates[rates.len() - 1]
    );
    median
}

fn confirmed(settings: &Settings) {
    let (seconds, directory) = (settings.seconds, settings.directory.as_path());
    let journal = open(directory);
    // Past the first, small segments and onto recycled files.
    outstanding(&journal, 1000, 1.0);
    for window in [1, 64, 1000] {
        println!("one publisher, {window} outstanding");
        let (mut floors, mut raws, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..settings.rounds {
            floors.push(batch_floor(directory, window, seconds));
            raws.push(with_raw(directory, |log| outstanding(log, window, seconds)));
            ours.push(outstanding(&journal, window, seconds));
        }
        let floor = show("batch floor", floors);
        let raw = show("raw group commit", raws);
        let own = show("journal", ours);
        println!(
            "  {:<36} {:>11.0}% of raw, {:.0}% of the batch floor",
            "",
            own / raw * 100.0,
            own / floor * 100.0
        );
    }
    for threads in [1, 8, 64] {
        println!("{threads} blocked threads");
        let (mut raws, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..settings.rounds {
            raws.push(with_raw(directory, |log| blocked(log, threads, seconds)));
            ours.push(blocked(&journal, threads, seconds));
        }
        let raw = show("raw group commit", raws);
        let own = show("journal", ours);
        println!("  {:<36} {:>11.0}% of raw", "", own / raw * 100.0);
    }
    let statistics = journal.log.0.statistics();
    println!(
        "{} records in {} syncs, {} segments in use, {} free",
        statistics.records, statistics.syncs, statistics.segments, statistics.free_segments
    );
}

/// Bytes that were written to the device that a directory lies on, by whomever.
fn written_to_device(directory: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(directory).ok()?.dev();
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    let text = std::fs::read_to_string("/proc/diskstats").ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ours = fields[0].parse() == Ok(major) && fields[1].parse() == Ok(minor);
        if ours {
            fields[9].parse::<u64>().ok().map(|sectors| sectors * 512)
        } else {
            None
        }
    })
}

fn device_bytes(settings: &Settings) {
    println!(
        "device bytes for each 128-byte record (all that was written to the device: it must have no other user)"
    );
    let journal = open(&settings.directory);
    for window in [1, 64, 1000] {
        let Some(all) = written_to_device(&settings.directory) else {
            return;
        };
        let before = journal.log.0.statistics();
        outstanding(&journal, window, settings.seconds);
        let after = journal.log.0.statistics();
        let records = (after.records - before.records) as f64;
        println!(
            "  {window:>4} outstanding: {:>7.1}   ({:.1} records a sync)",
            (written_to_device(&settings.directory).unwrap_or(0) - all) as f64 / records,
            records / (after.syncs - before.syncs) as f64,
        );
    }
}

struct Count(u64);

impl Replay for Count {
    fn record(&mut self, _: u64, _: u8, payload: &[u8]) -> Result<(), String> {
        self.0 += payload.len() as u64;
        Ok(())
    }
}

fn recovery(settings: &Settings) {
    const RECORDS: u64 = 3_000_000;
    let path = settings.directory.join("recovery");
    let _ = std::fs::remove_dir_all(&path);
    let options = Options {
        durability: Durability::Never,
        ..Options::default()
    };
    let journal =
        Ours(Journal::open(disk(path.clone()), options.clone(), &mut Nothing).expect("a journal"));
    let started = Instant::now();
    (0..RECORDS).for_each(|_| {
        journal.append(&[0x5a; PAYLOAD_BYTES]);
    });
    println!(
        "appending, never synced: {:.2} M records/s",
        RECORDS as f64 / started.elapsed().as_secs_f64() / 1e6
    );
    journal.0.close().expect("a healthy disk");
    drop(journal);
    let mut rates = Vec::new();
    for _ in 0..settings.rounds {
        let mut count = Count(0);
        let started = Instant::now();
        let journal =
            Journal::open(disk(path.clone()), options.clone(), &mut count).expect("a journal");
        rates.push(RECORDS as f64 / started.elapsed().as_secs_f64());
        assert_eq!(count.0, RECORDS * PAYLOAD_BYTES as u64);
        drop(journal);
    }
    println!("recovery of {RECORDS} records");
    show("records, files in the page cache", rates);
    let _ = std::fs::remove_dir_all(&path);
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let value = |name: &str| {
        arguments
            .iter()
            .position(|argument| argument == name)
            .and_then(|at| arguments.get(at + 1))
    };
    // `cargo test --benches` only wants to see it start.
    let quick = !arguments.iter().any(|argument| argument == "--bench");
    let number = |name, default| {
        value(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let directory = value("--directory").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("wherry-journal-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a writable directory");
    let settings = Settings {
        seconds: number("--seconds", if quick { 0.02 } else { 1.0 }),
        rounds: number("--rounds", if quick { 1.0 } else { 5.0 }) as usize,
        directory,
    };
    SYNC_US.store(number("--sync-us", 0.0) as u64, Ordering::Relaxed);
    confirmed(&settings);
    device_bytes(&settings);
    if !quick {
        recovery(&settings);
    }
    let _ = std::fs::remove_dir_all(&settings.directory);
}
