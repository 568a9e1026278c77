//! Opening a journal: everything between the directory and the start of the committer.

use std::sync::Arc;

use crate::Replay;
use crate::address::SegmentNumber;
use crate::committer::Active;
use crate::disk::Disk;
use crate::errors::OpenError;
use crate::files::{Files, PrepareError, Prepared};
use crate::format::RECORDS_OFFSET;
use crate::options::Options;
use crate::recovery::{self, Recovered, Report, io};
use crate::segments::Table;
use crate::staging::Staging;
use crate::testing_hooks::Sabotage;

/// An open journal without its thread.
pub(crate) struct Opening {
    pub(crate) lock: Box<dyn Send + Sync>,
    pub(crate) options: Options,
    pub(crate) journal: [u8; 16],
    pub(crate) files: Files,
    pub(crate) table: Table,
    pub(crate) active: Active,
    pub(crate) spare: Option<Prepared>,
    pub(crate) report: Report,
}

/// All of opening but the thread.
pub(crate) fn prepare_open(
    disk: &Arc<dyn Disk>,
    options: Options,
    replay: &mut dyn Replay,
    sabotage: Sabotage,
) -> Result<Opening, OpenError> {
    let options = options.checked()?;
    let lock = take_lock(&**disk)?;
    let listing = recovery::list(&**disk)?;
    if listing.segments.is_empty() && !listing.free.is_empty() {
        return Err(OpenError::Corrupt {
            segment: 1,
            offset: 0,
            reason: "all segments are missing".into(),
        });
    }
    // What is refused is left as it was, so nothing is written before all has been read.
    let remove_temporary = || {
        listing
            .temporary
            .iter()
            .try_for_each(|name| disk.remove(name).map_err(io(format!("removing {name}"))))
    };
    let recovered = if listing.segments.is_empty() {
        remove_temporary()?;
        None
    } else {
        let trusting = sabotage.skip_checksum;
        let read = recovery::read(
            &**disk,
            &listing.segments,
            options.on_corruption,
            trusting,
            replay,
        )?;
        remove_temporary()?;
        read.settle_tails()?;
        // A process that was killed may have left names that are not on stable storage yet.
        disk.sync_directory().map_err(io("syncing the directory"))?;
        Some(read)
    };
    let journal = recovered
        .as_ref()
        .map_or_else(random_id, |recovered| recovered.journal);
    let mut files = Files::new(Arc::clone(disk), journal, listing.free);
    let (table, (prepared, next), spare, report) = match recovered {
        None => {
            let first = prepare_now(&mut files, 1, options.first_segment_bytes())?;
            (
                Table::new(1),
                (first, RECORDS_OFFSET),
                None,
                Report::default(),
            )
        }
        Some(recovered) => adopt(recovered, &mut files, &options)?,
    };
    let number = prepared.header.number;
    table.add(number, prepared.header.capacity, 0);
    table.set_active(number);
    let staging = Staging::new(prepared.header.capacity)
        .map(Arc::new)
        .map_err(io("making a staging buffer"))?;
    let active = Active {
        header: prepared.header,
        file: prepared.file,
        staging,
        offset: next,
    };
    Ok(Opening {
        lock,
        options,
        journal,
        files,
        table,
        active,
        spare,
        report,
    })
}

pub(crate) fn take_lock(disk: &dyn Disk) -> Result<Box<dyn Send + Sync>, OpenError> {
    disk.lock()
        .map_err(io("locking the journal's directory"))?
        .map_err(|by| OpenError::Locked { by })
}

/// Makes a segment at once.
fn prepare_now(
    files: &mut Files,
    number: SegmentNumber,
    capacity: u32,
) -> Result<Prepared, OpenError> {
    loop {
        match files.prepare(number, capacity) {
            Ok(Some(prepared)) => return Ok(prepared),
            Ok(None) => {}
            Err(PrepareError::Obstructed(obstacle)) => return Err(OpenError::Obstructed(obstacle)),
            Err(PrepareError::Fatal(doing, error)) => return Err(io(doing)(error)),
        }
    }
}

type Adopted = (Table, (Prepared, u32), Option<Prepared>, Report);

/// Takes over what recovery found: retires what is to be retired, fills the table.
fn adopt(recovered: Recovered, files: &mut Files, options: &Options) -> Result<Adopted, OpenError> {
    let Recovered {
        segments,
        active,
        next,
        first_live,
        report,
        ..
    } = recovered;
    let last = segments.last().map_or(0, |found| found.header.number);
    // The numbers may have gaps after salvage.
    let kept = segments
        .iter()
        .map(|found| found.header.number)
        .find(|number| *number >= first_live);
    let table = Table::new(kept.unwrap_or(last + 1));
    let spare_number = segments
        .get(active)
        .map_or(0, |found| found.header.number + 1);
    let mut place = None;
    let mut spare = None;
    for (index, found) in segments.into_iter().enumerate() {
        let header = found.header;
        if index < active && header.number < first_live {
            let reusable = header.capacity == options.segment_bytes;
            files
                .retire(header.number, u64::from(header.capacity), reusable)
                .and_then(|done| done)
                .map_err(io("retiring a segment"))?;
        } else if index < active {
            table.add(
                header.number,
                header.capacity,
                found.end.unwrap_or(header.capacity),
            );
        } else if index == active {
            place = Some((
                Prepared {
                    header,
                    file: found.file,
                },
                next,
            ));
        } else if header.number == spare_number {
            spare = Some(Prepared {
                header,
                file: found.file,
            });
        }
    }
    let place = match place {
        Some(place) => place,
        None => (
            prepare_now(files, last + 1, options.segment_bytes)?,
            RECORDS_OFFSET,
        ),
    };
    Ok((table, place, spare, report))
}

/// A number that no other journal has.
fn random_id() -> [u8; 16] {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut id = [0; 16];
    for half in id.chunks_exact_mut(8) {
        // Each `RandomState` has keys from the system's generator.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        half.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    id
}
