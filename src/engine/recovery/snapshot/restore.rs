//! Restoring a snapshot into an empty folder (I15).
//!
//! A file, `RESTORING`, is created before anything else and removed after everything else, each made durable. While it is
//! there the folder is no store: neither opening nor repair accepts it, and only another restore goes on.

use crate::disk::{Disk, LockGuard};
use crate::engine::catalog::layout::{LOCK, LOG_DIR, RESTORING, lock};
use crate::engine::catalog::manifest::{
    FILE as MANIFEST, FILE_NEW as MANIFEST_NEW, Manifest, ManifestBody, Origin,
};
use crate::engine::core::Settings;
use crate::engine::recovery::open::sync_above;
use crate::error::{Error, Result};
use crate::id::Seed;
use crate::limits::{EPOCH_MAX, EPOCH_SEQUENCES};
use crate::snapshot::{
    Index, Part, RestoreOptions, RestoreReport, SnapshotInfo, SnapshotTarget, damaged, index_name,
    numbers, read_index,
};
use crate::sync::Arc;
use crate::wal::{self, Lsn, check_image};
use std::io;
use std::path::{Path, PathBuf};

/// Restores a snapshot as a store of its own.
pub(crate) fn restore(
    dir: &Path,
    settings: &Settings,
    target: &dyn SnapshotTarget,
    options: RestoreOptions,
) -> Result<RestoreReport> {
    if dir.as_os_str().is_empty() {
        return Err(Error::invalid("the path is empty: a store is a folder, and needs a name"));
    }
    // Read and check all that can refuse the call before the folder is touched.
    let number = match options.number {
        Some(number) => number,
        None => *numbers(target)?
            .last()
            .ok_or_else(|| Error::invalid("there is no snapshot in this place"))?,
    };
    let (_, index) = read_index(target, number)?;
    let body = manifest_of(&index, settings)?;
    let body = with_epoch(body, &index, options.epoch)?;
    let epoch = body.origin.map_or(0, |origin| origin.epoch);
    check_is_empty(dir, &*settings.disk)?;
    settings.disk.create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
    let held = settings.disk.hold(dir).map_err(|e| Error::io("open", dir, e))?;
    let _lock = begin(dir, &*held)?;
    write_log(dir, &*held, target, &index)?;
    Manifest::new(Arc::clone(&held), dir, settings.format.manifest, body).write()?;
    sync_above(dir, &*settings.disk)?;
    let marker = dir.join(RESTORING);
    held.remove(&marker).map_err(|e| Error::io("remove", &marker, e))?;
    held.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
    let SnapshotInfo { taken_ms, segments, bytes, .. } = SnapshotInfo::of(&index);
    Ok(RestoreReport { number, taken_ms, epoch, segments, bytes })
}

/// Returns the manifest in a snapshot, checked against its index.
fn manifest_of(index: &Index, settings: &Settings) -> Result<ManifestBody> {
    let name = index_name(index.head.number);
    let decoded = ManifestBody::decode(Path::new(&name), settings.format.manifest, &index.manifest);
    let (_, body) = decoded.map_err(|e| match e {
        Error::Corrupt { what, .. } => damaged(&name, &what),
        other => other,
    })?;
    let (segment, offset) = index.head.end;
    let is_there = |number, end| index.part(number).is_some_and(|part| part.bytes == end);
    let rules = [
        (body.seed.0 == index.head.seed, "its manifest is that of another store"),
        (body.durable == Lsn::new(segment, offset), "its manifest is that of another moment"),
        (
            body.full_segments.iter().all(|meta| is_there(meta.number, meta.end)),
            "a segment of its manifest is missing",
        ),
        (index.part(body.first_segment()).is_some(), "the first segment to read is missing"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        None => Ok(body),
        Some((_, what)) => Err(damaged(&name, what)),
    }
}

/// Makes the store another copy: with an epoch of its own, and with sequences that no copy of a lower epoch gives (I8).
fn with_epoch(mut body: ManifestBody, index: &Index, asked: Option<u64>) -> Result<ManifestBody> {
    // Sequences below this one were given before the snapshot.
    let least = (index.head.epoch + 1).max(body.sequence.div_ceil(EPOCH_SEQUENCES));
    let epoch = asked.unwrap_or(least);
    if !(least..=EPOCH_MAX).contains(&epoch) {
        return Err(Error::invalid(format!(
            "the epoch of the restored store is {epoch}, and must be from {least} to {EPOCH_MAX}: greater than that of \
             every copy before it"
        )));
    }
    let mut copy = [0; 16];
    getrandom::fill(&mut copy).map_err(|e| {
        Error::io("get randomness for", Path::new("the restored store"), io::Error::other(e))
    })?;
    body.sequence = epoch * EPOCH_SEQUENCES;
    body.origin = Some(Origin { copy, epoch });
    Ok(body)
}

fn not_empty(dir: &Path, name: &Path) -> Error {
    Error::invalid(format!(
        "{} is not empty (it holds {}): restore into a new folder",
        dir.display(),
        name.display()
    ))
}

/// What an interrupted restore may have left.
const LEFTOVERS: [&str; 5] = [RESTORING, LOCK, LOG_DIR, MANIFEST, MANIFEST_NEW];

/// Checks that the folder is missing, empty, or what an interrupted restore has left.
fn check_is_empty(dir: &Path, disk: &dyn Disk) -> Result<()> {
    let names = match disk.list(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("list", dir, e)),
    };
    let is_restoring = names.iter().any(|name| name.as_path() == Path::new(RESTORING));
    let is_left = |name: &PathBuf| {
        is_restoring && LEFTOVERS.iter().any(|left| name.as_path() == Path::new(left))
    };
    names.iter().find(|name| !is_left(name)).map_or(Ok(()), |name| Err(not_empty(dir, name)))
}

/// Marks the folder as one that is being restored, and empties it of what an interrupted restore has left.
fn begin(dir: &Path, disk: &dyn Disk) -> Result<Box<dyn LockGuard>> {
    let marker = dir.join(RESTORING);
    let made = match disk.create_new(&marker) {
        Ok(file) => {
            file.sync_data().map_err(|e| Error::io("sync", &marker, e))?;
            true
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        Err(e) => return Err(Error::io("create", &marker, e)),
    };
    disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
    let lock = lock(dir, disk).inspect_err(|_| {
        if made {
            // Somebody is making a store here.
            disk.remove(&marker).ok();
        }
    })?;
    // Another restore may have ended before the lock was free.
    let names = disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
    if !names.iter().any(|name| name.as_path() == Path::new(RESTORING)) {
        return Err(not_empty(dir, Path::new(MANIFEST)));
    }
    check_is_empty(dir, disk)?;
    wal::remove_segments(disk, &dir.join(LOG_DIR))?;
    for name in [MANIFEST, MANIFEST_NEW].map(|name| dir.join(name)) {
        match disk.remove(&name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &name, e));
            }
            _ => {}
        }
    }
    Ok(lock)
}

/// Writes the segments, each checked, and syncs them with their names.
fn write_log(
    dir: &Path,
    disk: &dyn Disk,
    target: &dyn SnapshotTarget,
    index: &Index,
) -> Result<()> {
    let log = dir.join(LOG_DIR);
    disk.create_dir_all(&log).map_err(|e| Error::io("create", &log, e))?;
    for part in &index.parts {
        write_part(&log, disk, part.fetch(target)?, part, index)?;
    }
    disk.sync_dir(&log).map_err(|e| Error::io("sync", &log, e))?;
    disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}

fn write_part(
    log: &Path,
    disk: &dyn Disk,
    bytes: Vec<u8>,
    part: &Part,
    index: &Index,
) -> Result<()> {
    let path = wal::segment_path(log, part.segment);
    let file = disk.create_new(&path).map_err(|e| Error::io("create", &path, e))?;
    file.write_all_at(&bytes, 0).map_err(|e| Error::io("write", &path, e))?;
    file.sync_data().map_err(|e| Error::io("sync", &path, e))?;
    let name = part.name();
    let is_full = part.segment != index.head.end.0;
    let checked =
        check_image(Path::new(&name), bytes, part.segment, Seed(index.head.seed), is_full);
    checked.map_err(|e| match e {
        Error::Corrupt { what, .. } => damaged(&name, &what),
        other => other,
    })
}
