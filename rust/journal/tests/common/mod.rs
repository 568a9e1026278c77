//! What the tests on the memory disk share: a workload that knows what it appended and what was confirmed when.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::sync::Arc;

use wherry_journal::testing::{MemoryDisk, Sabotage, open_sabotaged, recover};
use wherry_journal::{
    AppendError, Class, Journal, Observer, OnCorruption, OpenError, Options, Replay, Report,
    SegmentNumber, segment_of,
};

/// A record as it was appended or replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub at: u64,
    pub kind: u8,
    pub payload: Vec<u8>,
}

#[derive(Default)]
pub struct Collect(pub Vec<Record>);

impl Replay for Collect {
    fn record(&mut self, at: u64, kind: u8, payload: &[u8]) -> Result<(), String> {
        self.0.push(Record {
            at,
            kind,
            payload: payload.to_vec(),
        });
        Ok(())
    }
}

/// xorshift64*
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound
    }
}

/// The smallest segments there are: one page of records each.
pub fn tiny() -> Options {
    Options {
        segment_bytes: 8192,
        staging_bytes_max: 64 * 1024,
        ..Options::default()
    }
}

/// A mark that says that the caller let a segment go; other marks are confirmed tickets.
pub const RETIRED: u64 = 1 << 63;

/// Notes confirms in the disk's recording, in their place among the operations.
pub struct Marker(pub Arc<MemoryDisk>);

impl Observer for Marker {
    fn durable(&self, ticket: u64) {
        self.0.mark(ticket);
    }
}

pub fn open_journal(
    disk: &Arc<MemoryDisk>,
    options: Options,
    sabotage: Sabotage,
) -> Result<(Arc<Journal>, Vec<Record>), OpenError> {
    let mut replayed = Collect::default();
    let journal = open_sabotaged(Arc::clone(disk) as _, options, &mut replayed, sabotage)?;
    Ok((journal, replayed.0))
}

pub fn recovered(
    disk: &Arc<MemoryDisk>,
    sabotage: Sabotage,
) -> Result<(Vec<Record>, Report), OpenError> {
    let mut replayed = Collect::default();
    let report = recover(Arc::clone(disk) as _, tiny(), &mut replayed, sabotage)?;
    Ok((replayed.0, report))
}

pub fn salvaged(disk: &Arc<MemoryDisk>) -> Result<(Vec<Record>, Report), OpenError> {
    let mut replayed = Collect::default();
    let options = Options {
        on_corruption: OnCorruption::SalvageReport,
        ..tiny()
    };
    let report = recover(
        Arc::clone(disk) as _,
        options,
        &mut replayed,
        Sabotage::default(),
    )?;
    Ok((replayed.0, report))
}

/// A journal in use, and what is known of it.
pub struct Work {
    pub disk: Arc<MemoryDisk>,
    pub journal: Arc<Journal>,
    /// All records ever appended, with their tickets, in order.
    pub appended: Vec<(Record, u64)>,
    pub random: Random,
    next: u32,
}

impl Work {
    /// A fresh journal on a recording disk.
    pub fn new(seed: u64, sabotage: Sabotage) -> Self {
        Self::with(seed, tiny(), sabotage)
    }

    /// The same with options.
    pub fn with(seed: u64, options: Options, sabotage: Sabotage) -> Self {
        let disk = MemoryDisk::new();
        disk.record();
        let (journal, _) = open_journal(&disk, options, sabotage).unwrap();
        journal.set_observer(Arc::new(Marker(Arc::clone(&disk))));
        Self {
            disk,
            journal,
            appended: Vec::new(),
            random: Random::new(seed),
            next: 0,
        }
    }

    /// A payload that is like no other, so that nothing can pass for something else.
    fn payload(&mut self, bytes: usize) -> Vec<u8> {
        let mut payload = vec![0; bytes];
        let mut random = Random::new(u64::from(self.next) + 1);
        payload
            .iter_mut()
            .for_each(|byte| *byte = random.below(256) as u8);
        let head = self.next.to_le_bytes();
        let length = bytes.min(4);
        payload[..length].copy_from_slice(&head[..length]);
        self.next += 1;
        payload
    }

    /// Appends `count` records as one reservation, which the committer cannot write a part of too early.
    pub fn burst(&mut self, sizes: &[usize]) -> Result<u64, AppendError> {
        let payloads: Vec<_> = sizes.iter().map(|bytes| self.payload(*bytes)).collect();
        loop {
            let mut reservation = match self.journal.reserve(sizes, Class::Publish) {
                Ok(reservation) => reservation,
                Err(AppendError::Busy) => {
                    // Bounded, so that a lost wake-up fails the test instead of hanging it.
                    let wait = std::time::Duration::from_secs(10);
                    let room = self.journal.wait_space(Some(wait));
                    assert!(
                        room || self.journal.statistics().poisoned.is_some(),
                        "no space and no word of it"
                    );
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut records = Vec::new();
            for payload in &payloads {
                let kind = 1 + (payload.len() % 5) as u8;
                let (at, buffer) = reservation.next(kind);
                buffer.copy_from_slice(payload);
                records.push(Record {
                    at,
                    kind,
                    payload: payload.clone(),
                });
            }
            let ticket = reservation.finish();
            self.appended
                .extend(records.into_iter().map(|record| (record, ticket)));
            return Ok(ticket);
        }
    }

    /// Frees the oldest segment: what the caller thinks live (every third record) is appended again, then it goes.
    pub fn evacuate(&mut self, segment: SegmentNumber) -> Result<(), AppendError> {
        let mut live = Collect::default();
        self.journal.scan(segment, &mut live).unwrap();
        for record in live.0.iter().step_by(3) {
            self.burst(&[record.payload.len()])?;
        }
        self.disk.mark(RETIRED | u64::from(segment));
        match self.journal.retire(segment) {
            Err(AppendError::Busy) => Ok(()),
            other => other,
        }
    }
}

/// Appends what settles something, waiting for room if need be; returns its address and ticket.
pub fn settle(journal: &Journal, payload: &[u8]) -> (u64, u64) {
    loop {
        match journal.append(9, payload, Class::Settle) {
            Ok(done) => return done,
            Err(AppendError::Busy) => {
                assert!(
                    journal.wait_space(Some(std::time::Duration::from_secs(10))),
                    "no space and no word of it"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether what a crash left is right, given what had been confirmed and let go before. The records must be exactly one
/// unbroken run of those appended, from the oldest segment that was kept to at least the last confirmed one.
pub fn check(appended: &[(Record, u64)], marks: &[u64], replayed: &[Record]) -> Result<(), String> {
    let confirmed = marks
        .iter()
        .filter(|mark| *mark & RETIRED == 0)
        .max()
        .copied()
        .unwrap_or(0);
    let retired = marks
        .iter()
        .filter(|mark| *mark & RETIRED != 0)
        .map(|mark| (*mark & !RETIRED) as u32)
        .max()
        .unwrap_or(0);
    let must: Vec<_> = appended
        .iter()
        .filter(|(record, ticket)| *ticket <= confirmed && segment_of(record.at) > retired)
        .map(|(record, _)| record)
        .collect();
    let Some(first) = replayed.first() else {
        return if must.is_empty() {
            Ok(())
        } else {
            Err(format!("nothing left of {} confirmed records", must.len()))
        };
    };
    let Some(start) = appended
        .iter()
        .position(|(record, _)| record.at == first.at)
    else {
        return Err(format!("the record at {:#x} was never appended", first.at));
    };
    for (index, record) in replayed.iter().enumerate() {
        match appended.get(start + index) {
            Some((expected, _)) if expected == record => {}
            Some((expected, _)) => {
                return Err(format!(
                    "the record at {:#x} is wrong or out of order (expected {:#x})",
                    record.at, expected.at
                ));
            }
            None => return Err(format!("the record at {:#x} comes from nowhere", record.at)),
        }
    }
    if let (Some(oldest), Some(newest)) = (must.first(), must.last()) {
        if first.at > oldest.at {
            return Err(format!(
                "the confirmed record at {:#x} is gone (oldest)",
                oldest.at
            ));
        }
        let last = replayed.last().expect("not empty").at;
        if last < newest.at {
            return Err(format!(
                "the confirmed record at {:#x} is gone (newest is {last:#x})",
                newest.at
            ));
        }
    }
    Ok(())
}
