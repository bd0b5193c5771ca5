//! The folder that sled works in, and the mark in it that says that it is ours.
//!
//! What carries no mark was made by somebody else, perhaps by another program that uses sled: it is never emptied, only
//! set aside. And of a folder that is ours only those files are removed that sled or we have made.

use crate::disk::Disk;
use crate::sync::Arc;
use std::io;
use std::path::{Path, PathBuf};

/// sled's name for the file that it keeps everything in.
pub(super) const FILE: &str = "db";
/// The file that is the mark. Its second line names the store.
const MARK: &str = "FIRSTSEEN";

/// Whose a folder is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// There is none, or it is empty.
    Nobody,
    Ours,
    /// Somebody else's, or no folder: this is in it, or it is this.
    Foreign(PathBuf),
}

/// Says whether we may put sled there.
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

/// Removes what sled and we have made; answers without a change if the folder is not ours.
pub(crate) fn empty(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if whose(disk, path)? != Whose::Ours {
        return Ok(());
    }
    // Somebody who never comes back from sled may have it open for ever: its room must not go with it.
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
    // The mark stays: what is cut off half way is still ours.
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

/// Moves away what is in the place of our folder and is not ours.
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

/// Whether a name is one that [`set_aside`] gives.
pub(crate) fn is_aside(name: &Path, folder: &str) -> bool {
    name.to_string_lossy().strip_prefix(folder).is_some_and(|rest| rest.starts_with(".unknown-"))
}

/// Where sled of one store works.
#[derive(Debug)]
pub(crate) struct SledFolder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Names the store.
    tag: u64,
    /// What another store of ours has left here is not looked at.
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

    /// Makes the folder ready for sled; answers by which path sled finds it.
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
                // A whole mark, and not ours.
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
        // Before sled makes anything: without it that would be somebody else's after a power cut.
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
