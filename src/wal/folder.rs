//! The folder of segments: which there are, of which store, and how far they are known to have been on disk.

use crate::codec::envelope;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::id::Seed;
use crate::wal::Lsn;
use crate::wal::segment::{Header, Segment};
use crate::wal::version::OLDEST;
use crate::wal::writer::LogConfig;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Lists the folder. A missing one is empty: repair finds out what should be there.
fn list_or_none(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>> {
    match disk.list(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        list => list.map_err(|e| Error::io("list", dir, e)),
    }
}

/// Returns the numbers of the segment files in the folder, in order.
pub(super) fn segment_numbers(config: &LogConfig) -> Result<Vec<u32>> {
    let list = list_or_none(&*config.disk, &config.dir)?;
    let mut numbers: Vec<u32> = list.iter().filter_map(|p| Segment::number_of(p)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Checks the header of every segment before anything is changed on the strength of the manifest: refuses a segment of
/// another version and, given the seed of the store, one of another store. Returns the version of each.
///
/// Damaged headers are left to the later steps that need them.
pub(crate) fn check_headers(
    disk: &dyn Disk,
    dir: &Path,
    newest: u16,
    seed: Option<Seed>,
) -> Result<HashMap<u32, u16>> {
    let list = list_or_none(disk, dir)?;
    let mut versions = HashMap::new();
    for path in list.iter().filter(|p| Segment::number_of(p).is_some()).map(|p| dir.join(p)) {
        let header = Header::decode(&path, &read_head(disk, &path)?);
        let version = match &header {
            Ok(header) => header.version,
            Err(Error::FromTheFuture { found, .. } | Error::FromThePast { found, .. }) => *found,
            Err(_) => continue,
        };
        envelope::check_version(&path, version, OLDEST..=newest)?;
        if seed.is_some_and(|seed| header.is_ok_and(|header| header.seed != seed)) {
            return Err(Segment::foreign(&path));
        }
        versions.extend(Segment::number_of(&path).map(|number| (number, version)));
    }
    Ok(versions)
}

/// Reads the head of a segment; what there is of it.
fn read_head(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, UnexpectedEof};
    let mut head = vec![0; Header::BYTES];
    match disk.open(path) {
        Ok(file) => match file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(head),
            Err(e) if e.kind() == UnexpectedEof => Ok(Vec::new()),
            Err(e) => Err(Error::io("read", path, e)),
        },
        // A folder that cannot be written to can be read as a whole.
        Err(e) if matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem) => {
            disk.read(path).map_err(|e| Error::io("read", path, e))
        }
        Err(e) => Err(Error::io("open", path, e)),
    }
}

/// Returns the highest location that any watermark or the plan knows to have been on disk.
pub(super) fn noted_durable(config: &LogConfig, numbers: &[u32], known: Lsn) -> Lsn {
    let noted = numbers.iter().filter_map(|number| {
        let path = Segment::path(&config.dir, *number);
        Segment::open(&*config.disk, &path).ok().map(|segment| segment.durable_noted())
    });
    noted.fold(known, Lsn::max)
}

/// Returns whether a file with this name is a segment.
pub(crate) fn is_segment(name: &Path) -> bool {
    Segment::number_of(name).is_some()
}

/// Returns the path of a segment in a folder.
pub(crate) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    Segment::path(dir, number)
}

/// Removes the segments in a folder, and nothing else.
pub(crate) fn remove_segments(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let names = match disk.list(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|e| Error::io("list", dir, e))?,
    };
    for name in names.iter().filter(|name| Segment::number_of(name).is_some()) {
        let path = dir.join(name);
        disk.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
    }
    Ok(())
}

/// Returns the seeds in all readable segment headers.
pub(crate) fn seeds(disk: &dyn Disk, dir: &Path) -> Result<Vec<Seed>> {
    let list = list_or_none(disk, dir)?;
    let mut seeds = Vec::new();
    for path in list.iter().filter(|p| Segment::number_of(p).is_some()).map(|p| dir.join(p)) {
        let raw = disk.read(&path).map_err(|e| Error::io("read", &path, e))?;
        seeds.extend(Header::decode(&path, &raw).ok().map(|header| header.seed));
    }
    Ok(seeds)
}

/// Returns the most frequent seed, for a store without its manifest.
pub(crate) fn find_seed(disk: &dyn Disk, dir: &Path) -> Result<Option<Seed>> {
    let seeds = seeds(disk, dir)?;
    let count = |seed: &&Seed| seeds.iter().filter(|other| other == seed).count();
    Ok(seeds.iter().rev().max_by_key(count).copied())
}
