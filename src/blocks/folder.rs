//! The folder that sled works in, and the mark in it that makes it ours.
//!
//! A folder without a mark was made by someone else, perhaps another program that uses sled: it is never emptied, only
//! set aside. In a folder of ours, only files that sled or we created are removed.

use crate::disk::Disk;
use crate::sync::Arc;
use std::io;
use std::path::{Path, PathBuf};

/// The file in which sled keeps everything.
pub(super) const FILE: &str = "db";
/// The mark file. Its second line names the store.
const MARK: &str = "FIRSTSEEN";

/// Owner of a folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Missing or empty.
    Nobody,
    Ours,
    /// Foreign, or not a folder: the path of what is in it, or of itself.
    Foreign(PathBuf),
}

/// Returns whether sled may use this folder.
pub(crate) fn whose(disk: &dyn Disk, path: &Path) -> io::Result<Whose> {
    let names = match disk.list(path) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Whose::Nobody),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            return Ok(Whose::Foreign(path.to_owned()));
        }
        Err(e) => return Err(e),
    };
    if names.iter().any(|name| name.as_path() == Path::new(MARK)) {
        return Ok(Whose::Ours);
    }
    Ok(names.first().map_or(Whose::Nobody, |name| Whose::Foreign(path.join(name))))
}

/// Removes what sled and we created; does nothing if the folder is not ours.
pub(crate) fn empty(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if whose(disk, path)? != Whose::Ours {
        return Ok(());
    }
    // A call stuck in sled may keep the file open forever; do not let it keep the space.
    if let Ok(file) = disk.open(&path.join(FILE)) {
        file.set_len(0).ok();
    }
    let blobs = path.join("blobs");
    for blob in disk.list(&blobs).unwrap_or_default() {
        if blob.to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
            remove(disk, &blobs.join(blob))?;
        }
    }
    if disk.list(&blobs).is_ok_and(|left| left.is_empty()) {
        disk.remove_dir_all(&blobs)?;
    }
    let is_of_sled = |name: &PathBuf| {
        let name = name.to_string_lossy();
        name == FILE || name == "conf" || name.starts_with("snap.")
    };
    // Keep the mark: a half-emptied folder is still ours.
    disk.list(path)?
        .iter()
        .filter(|name| is_of_sled(name))
        .try_for_each(|name| remove(disk, &path.join(name)))
}

fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Moves away whatever is at our folder's path and is not ours.
pub(crate) fn set_aside(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if !matches!(whose(disk, path)?, Whose::Foreign(_)) {
        return Ok(());
    }
    let (above, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default());
    let names = disk.list(above)?;
    let aside = (1..10_000).map(|n| format!("{}.unknown-{n:03}", name.to_string_lossy()));
    let free = aside.map(PathBuf::from).find(|aside| !names.contains(aside));
    let aside = above.join(free.ok_or(io::ErrorKind::AlreadyExists)?);
    tracing::warn!(folder = %path.display(), aside = %aside.display(), "set aside what is not ours");
    disk.rename(path, &aside)
}

/// Returns whether [`set_aside`] chose this name.
pub(crate) fn is_aside(name: &Path, folder: &str) -> bool {
    name.to_string_lossy().strip_prefix(folder).is_some_and(|rest| rest.starts_with(".unknown-"))
}

/// The sled folder of one store.
#[derive(Debug)]
pub(crate) struct SledFolder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Names the store.
    tag: u64,
    /// Do not use what another firstseen store left here.
    is_strict: bool,
}

impl SledFolder {
    pub(crate) fn new(disk: &Arc<dyn Disk>, path: PathBuf, tag: u64, is_strict: bool) -> Self {
        Self { disk: Arc::clone(disk), path, tag, is_strict }
    }

    pub(super) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn mark(&self) -> String {
        let tag = self.tag;
        format!("made by firstseen, which removes what it finds here\nstore {tag:016x}\n")
    }

    /// Prepares the folder for sled; returns the path by which sled finds it.
    pub(super) fn prepare(&self) -> io::Result<PathBuf> {
        set_aside(&*self.disk, &self.path)?;
        self.disk.create_dir_all(&self.path)?;
        let (path, own) = (self.path.join(MARK), self.mark());
        match self.disk.read(&path) {
            Ok(mark) if mark == own.as_bytes() => return self.real(),
            Ok(mark) => {
                let is_used = self.disk.list(&self.path)?.contains(&PathBuf::from(FILE));
                if is_used && !self.is_strict {
                    return self.real();
                }
                // A complete mark of another store.
                if mark.len() == own.len() {
                    empty(&*self.disk, &self.path)?;
                }
                remove(&*self.disk, &path)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let file = self.disk.create_new(&path)?;
        file.write_all_at(own.as_bytes(), 0)?;
        // Before sled creates anything: after a power cut, files without the mark would be foreign.
        file.sync_data()?;
        self.disk.sync_dir(&self.path)?;
        self.real()
    }

    fn real(&self) -> io::Result<PathBuf> {
        self.disk.real_path(&self.path)?.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    pub(super) fn wipe(&self) -> io::Result<()> {
        set_aside(&*self.disk, &self.path)?;
        empty(&*self.disk, &self.path)
    }
}
