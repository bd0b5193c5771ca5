//! Reading the log without write access: same records and errors as recovery, but a torn tail is left in place.
//!
//! Holds one segment in memory at a time.

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::id::Seed;
use crate::wal::holes;
use crate::wal::item::Item;
use crate::wal::recover::{ReplayPlan, Stop, ends_early, walk};
use crate::wal::retention::Contents;
use crate::wal::segment::{DATA_START, Header, Segment, SegmentBytes, noted_in};
use crate::wal::{At, Lsn};
use std::io;
use std::path::{Path, PathBuf};

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogRead {
    pub(crate) segments: u64,
    /// Bytes up to the last whole record.
    pub(crate) bytes: u64,
}

/// Calls `visit` for every record of the store with this seed.
///
/// Reads the whole log if the plan says `rescan`, otherwise from the first unflushed segment on.
pub(crate) fn read_only(
    disk: &dyn Disk,
    dir: &Path,
    seed: Seed,
    plan: &ReplayPlan,
    mut visit: impl FnMut(At, Item<'_>) -> Result<()>,
) -> Result<LogRead> {
    let list: Vec<PathBuf> = disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
    let mut fresh: Vec<u32> = list.iter().filter_map(|name| Segment::number_of(name)).collect();
    fresh.retain(|number| *number >= plan.first);
    fresh.sort_unstable();
    let mut read = LogRead::default();
    for meta in &plan.known {
        read.segments += 1;
        read.bytes += meta.bytes();
        if plan.rescan {
            let Loaded { path, bytes, .. } = load(disk, dir, seed, meta.number)?;
            let (at, stop) = walk(&path, &bytes, &mut Contents::default(), &mut visit)?;
            if !matches!(stop, Stop::Continued(_)) {
                let what = "a record does not match its checksum";
                return Err(Error::corrupt(&path, u64::from(at), what));
            }
        }
    }
    let mut durable = plan.durable;
    for number in &fresh {
        if let Ok(Loaded { noted, .. }) = load(disk, dir, seed, *number) {
            durable = durable.max(noted);
        }
    }
    let mut number = match fresh.first() {
        Some(first) if *first == plan.first || plan.durable == Lsn(0) => *first,
        _ if durable >= Lsn::new(plan.first, DATA_START) => return Err(missing(dir, plan.first)),
        _ => return Ok(read),
    };
    loop {
        let Loaded { path, mut bytes, head, .. } = match load(disk, dir, seed, number) {
            // The very first segment with a torn header: nothing was written after it.
            Err(Error::Corrupt { .. }) if durable == Lsn(0) && read.segments == 0 => {
                return Ok(read);
            }
            other => other?,
        };
        holes::close(&mut bytes, &head, durable);
        let (end, stop) = walk(&path, &bytes, &mut Contents::default(), &mut visit)?;
        read.segments += 1;
        read.bytes += u64::from(end);
        match stop {
            Stop::Continued(next) if fresh.contains(&next) => number = next,
            Stop::Continued(next) => return Err(missing(dir, next)),
            Stop::Ended | Stop::Damaged if Lsn::new(number, end) < durable => {
                return Err(ends_early(&path, end, durable));
            }
            Stop::Ended | Stop::Damaged => return Ok(read),
        }
    }
}

/// A segment that was read.
struct Loaded {
    path: PathBuf,
    /// What is before its records.
    head: Vec<u8>,
    bytes: SegmentBytes,
    /// Its watermark.
    noted: Lsn,
}

fn load(disk: &dyn Disk, dir: &Path, seed: Seed, number: u32) -> Result<Loaded> {
    let path = Segment::path(dir, number);
    let raw = disk.read(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => missing(dir, number),
        _ => Error::io("read", &path, e),
    })?;
    let header = Header::decode(&path, &raw)?;
    if header.seed != seed {
        return Err(Segment::foreign(&path));
    }
    if header.number != number {
        return Err(Segment::misnamed(&path, header.number));
    }
    if raw.len() < DATA_START as usize {
        let what = "the segment ends before its records begin";
        return Err(Error::corrupt(&path, raw.len() as u64, what));
    }
    let noted = noted_in(&raw);
    let head = raw[..DATA_START as usize].to_vec();
    Ok(Loaded { path, head, bytes: SegmentBytes::from_file(header, raw), noted })
}

fn missing(dir: &Path, number: u32) -> Error {
    let path = Segment::path(dir, number);
    Error::corrupt(&path, 0, "this segment of the log is missing")
}
