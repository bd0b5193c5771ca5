//! Opening: identify the folder, take the lock, read the manifest, then the unflushed tail of the log. If the block
//! store is not the one that the manifest describes, or a filter can be neither read nor rebuilt, everything flushed is
//! rebuilt from the log (I10): only time is lost.

use crate::disk::Disk;
use crate::engine::catalog::filters;
use crate::engine::catalog::layout::{
    Folder, LOCATORS_DIR, LOG_DIR, identify, lock, nothing_there,
};
use crate::engine::core::{Core, Settings};
use crate::engine::recovery::opening::{Failed, Opening};
use crate::error::{Error, Result};
use crate::sync::Arc;
use std::io;
use std::path::Path;

/// Opens a store, or creates a new one.
pub(in crate::engine) fn open(dir: &Path, settings: Settings) -> Result<Core> {
    settings.check()?;
    if dir.as_os_str().is_empty() {
        return Err(Error::invalid("the path is empty: a store is a folder, and needs a name"));
    }
    // From here on, use the folder, not its path: another folder may take that name, or the path may come to mean
    // another place.
    let above = Arc::clone(&settings.disk);
    let mut settings = Settings { disk: hold(dir, &settings)?, ..settings };
    let folder = identify(dir, &*settings.disk)?;
    if folder == Folder::New && !settings.create {
        return Err(nothing_there(dir));
    }
    if folder == Folder::New {
        for dir in [LOG_DIR, filters::DIR, LOCATORS_DIR].map(|name| dir.join(name)) {
            settings.disk.create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
        }
    }
    let lock = lock(dir, &*settings.disk)?;
    settings.fit_segments(settings.disk.free_bytes(dir));
    // Somebody may have created or removed a store before we got the lock.
    let mut lock = Some(lock);
    if identify(dir, &*settings.disk)? == Folder::New {
        sync_above(dir, &*above)?;
        return Ok(Opening::create(dir, settings)?.finish(&mut lock)?);
    }
    let opened = Opening::load(dir, settings.clone(), false)?.finish(&mut lock);
    match opened {
        // Healing needs an open store.
        Err(Failed::Block(_)) => Ok(Opening::load(dir, settings, true)?.finish(&mut lock)?),
        other => Ok(other?),
    }
}

/// Holds the folder of the store, creating it if missing and allowed.
fn hold(dir: &Path, settings: &Settings) -> Result<Arc<dyn Disk>> {
    let held = match settings.disk.hold(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if !settings.create {
                return Err(nothing_there(dir));
            }
            settings.disk.create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
            settings.disk.hold(dir)
        }
        other => other,
    };
    held.map_err(|e| match e.kind() {
        io::ErrorKind::NotADirectory => {
            Error::NotAStore { path: dir.to_owned(), why: "it is a file".to_owned() }
        }
        _ => Error::io("open", dir, e),
    })
}

/// Syncs the parents of the folder, which must survive a power cut too: all of them, because existing ones may come
/// from a process that was killed before it could sync them.
pub(super) fn sync_above(dir: &Path, disk: &dyn Disk) -> Result<()> {
    for parent in dir.ancestors().skip(1) {
        // The last ancestor of a relative path is empty: the current folder.
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match disk.sync_dir(parent) {
            // A file system that cannot sync folders returns `InvalidInput`.
            Err(e)
                if !matches!(
                    e.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
                ) =>
            {
                return Err(Error::io("sync", parent, e));
            }
            _ => {}
        }
    }
    Ok(())
}
