//! The folder of a store: the names in it, and how its contents identify it.

use crate::blocks::{self, Whose};
use crate::disk::{Disk, LockGuard};
use crate::engine::catalog::filters;
use crate::engine::catalog::manifest::{FILE as MANIFEST, FILE_NEW as MANIFEST_NEW};
use crate::error::{Error, Result};
use crate::run::LocatorFiles;
use crate::wal::is_segment;
use std::io;
use std::path::{Path, PathBuf};

pub(in crate::engine) const LOG_DIR: &str = "log";
pub(in crate::engine) const LOCATORS_DIR: &str = "places";
pub(in crate::engine) const SLED_DIR: &str = "sled";
pub(in crate::engine) const LOCK: &str = "LOCK";
/// There while a snapshot is restored into the folder.
pub(in crate::engine) const RESTORING: &str = "RESTORING";
pub(in crate::engine) const NEW_LOG_DIR: &str = "log.repaired";
pub(in crate::engine) const OLD_LOG_DIR: &str = "log.damaged";
pub(in crate::engine) const OLD_MANIFEST: &str = "MANIFEST.damaged";
/// An unreadable manifest, set aside when a readable one already has been.
pub(in crate::engine) const UNREADABLE_MANIFEST: &str = "MANIFEST.unreadable";

/// What a folder turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Folder {
    /// Nothing, or the leftovers of an interrupted creation.
    New,
    Store,
}

pub(in crate::engine) fn nothing_there(dir: &Path) -> Error {
    let why = "the folder is missing or empty".to_owned();
    Error::NotAStore { path: dir.to_owned(), why }
}

pub(in crate::engine) fn lock(dir: &Path, disk: &dyn Disk) -> Result<Box<dyn LockGuard>> {
    let path = dir.join(LOCK);
    disk.lock(&path).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { path: dir.to_owned() },
        _ => Error::io("lock", &path, e),
    })
}

pub(in crate::engine) fn identify(dir: &Path, disk: &dyn Disk) -> Result<Folder> {
    let not = |why: String| Err(Error::NotAStore { path: dir.to_owned(), why });
    let names = disk.list(dir).map_err(|e| Error::io("open", dir, e))?;
    check_is_restored(dir, &names)?;
    if names.iter().any(|name| name.as_path() == Path::new(MANIFEST)) {
        return Ok(Folder::Store);
    }
    if names.iter().any(|name| is_of_repair(name)) {
        let what = "the manifest is missing, and there are leftovers of a repair: repair again";
        return Err(Error::corrupt(&dir.join(MANIFEST), 0, what));
    }
    let ours = [LOCK, LOG_DIR, SLED_DIR, filters::DIR, LOCATORS_DIR, MANIFEST_NEW];
    let is_ours = |name: &Path| {
        ours.iter().any(|own| name == Path::new(own)) || blocks::is_aside(name, SLED_DIR)
    };
    if let Some(other) = names.iter().find(|name| !is_ours(name)) {
        return not(format!("contains {}, which firstseen did not create", other.display()));
    }
    let inner = |name| files_in(disk, &dir.join(name));
    let log = inner(LOG_DIR)?;
    if log.iter().any(|name| is_segment(name)) {
        // The manifest is written before the log, so it exists by now if another process is creating this store.
        if disk
            .list(dir)
            .is_ok_and(|names| names.iter().any(|n| n.as_path() == Path::new(MANIFEST)))
        {
            return Ok(Folder::Store);
        }
        let what = "the manifest is missing, but there is a log";
        return Err(Error::corrupt(&dir.join(MANIFEST), 0, what));
    }
    // Somebody else's folders may have the same names.
    let foreign = |folder: &str, names: Vec<PathBuf>, is_ours: fn(&Path) -> bool| {
        let name = names.into_iter().find(|name| !is_ours(name))?;
        Some(Path::new(folder).join(name))
    };
    let (filters, locators) = (inner(filters::DIR)?, inner(LOCATORS_DIR)?);
    let other = foreign(LOG_DIR, log, is_segment)
        .or_else(|| foreign(filters::DIR, filters, filters::is_ours))
        .or_else(|| foreign(LOCATORS_DIR, locators, LocatorFiles::is_ours));
    if let Some(other) = other {
        return not(format!("contains {}, which firstseen did not create", other.display()));
    }
    let sled = dir.join(SLED_DIR);
    match blocks::whose(disk, &sled).map_err(|e| Error::io("list", &sled, e))? {
        Whose::Nobody | Whose::Ours => Ok(Folder::New),
        Whose::Foreign(_) => {
            not(format!("its {SLED_DIR} folder was not made by firstseen (no FIRSTSEEN file)"))
        }
    }
}

/// Refuses a folder whose restore has not ended: it may hold half a store.
pub(in crate::engine) fn check_is_restored(dir: &Path, names: &[PathBuf]) -> Result<()> {
    if !names.iter().any(|name| name.as_path() == Path::new(RESTORING)) {
        return Ok(());
    }
    let why = "a restore into it is under way, or was interrupted: restore again into the same folder, or remove it";
    Err(Error::NotAStore { path: dir.to_owned(), why: why.to_owned() })
}

/// Lists a folder inside the store. A missing folder is empty; a file in its place is listed as one empty name.
pub(in crate::engine) fn files_in(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>> {
    match disk.list(dir) {
        Ok(names) => Ok(names),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Ok(vec![PathBuf::new()]),
        Err(e) => Err(Error::io("list", dir, e)),
    }
}

/// Returns whether a name in the store's folder comes from a repair, finished or not.
pub(in crate::engine) fn is_of_repair(name: &Path) -> bool {
    let name = name.to_string_lossy();
    name == NEW_LOG_DIR
        || name == OLD_MANIFEST
        || name == UNREADABLE_MANIFEST
        || name.starts_with(OLD_LOG_DIR)
}
