//! Snapshots in a folder.

use crate::disk::{Disk, LockGuard, RealDisk};
use crate::snapshot::target::SnapshotTarget;
use crate::sync::Arc;
use std::io;
use std::path::{Path, PathBuf};

/// Name of an object while it is written. One is enough: the lock admits one writer at a time.
const INCOMING: &str = "incoming";
const LOCK: &str = "LOCK";

/// A [`SnapshotTarget`] in a folder, which is created when it is first written to.
///
/// Every object is a file of its own. A file and its name are on disk before the object counts as stored. Writers of one
/// folder exclude each other by a lock on its file `LOCK`; whoever meets another gets an error.
///
/// ```
/// use firstseen::Store;
/// use firstseen::snapshot::FolderTarget;
/// # let dir = tempfile::tempdir()?;
/// # let (path, copies) = (dir.path().join("seen.db"), dir.path().join("copies"));
/// let store = Store::open(path)?;
/// assert!(store.claim("evt-1")?.is_first_seen());
/// let target = FolderTarget::new(copies);
/// store.snapshot(&target)?;
///
/// let other = dir.path().join("other.db");
/// Store::restore(&target, &other)?;
/// assert!(Store::open(other)?.claim("evt-1")?.is_duplicate());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FolderTarget {
    root: PathBuf,
    disk: Arc<dyn Disk>,
}

impl FolderTarget {
    /// Returns the target in this folder. Nothing is read or written yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { root: path.as_ref().to_owned(), disk: Arc::new(RealDisk::default()) }
    }

    /// Returns the target in a folder of another disk, such as the simulated one of the feature `testing`.
    pub fn on(disk: impl Disk + 'static, path: impl AsRef<Path>) -> Self {
        Self { root: path.as_ref().to_owned(), disk: Arc::new(disk) }
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let is_plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match name.split_once('/') {
            Some((folder, file)) if is_plain(folder) && is_plain(file) && file != INCOMING => {
                Ok(self.root.join(folder).join(file))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("bad name: {name:?}"))),
        }
    }

    fn lock(&self) -> io::Result<Box<dyn LockGuard>> {
        self.disk.lock(&self.root.join(LOCK)).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => {
                let what = "another process writes snapshots there; one at a time may";
                io::Error::new(io::ErrorKind::WouldBlock, what)
            }
            _ => e,
        })
    }

    fn is_there(&self, path: &Path) -> io::Result<bool> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(false);
        };
        Ok(self.disk.list(folder)?.iter().any(|own| own.as_os_str() == name))
    }

    /// Creates the folder of an object, and makes its name and those above it durable.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if self.disk.list(folder).is_ok() {
            // Its maker may have been killed before it could sync the name.
            return self.disk.sync_dir(&self.root);
        }
        self.disk.create_dir_all(folder)?;
        for above in folder.ancestors().skip(1) {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            match self.disk.sync_dir(above) {
                // What is not ours above the folder may not be readable, or be of a kind that cannot be synced.
                Err(e) if above == self.root || !is_refusal(&e) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
}

impl SnapshotTarget for FolderTarget {
    fn put_new(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let path = self.path(name)?;
        let folder = path.parent().unwrap_or(&self.root);
        self.make_folder(folder)?;
        let _lock = self.lock()?;
        if self.is_there(&path)? {
            // It may have been named by a process that was killed before it could sync the name.
            self.disk.sync_dir(folder)?;
            return Ok(false);
        }
        let incoming = folder.join(INCOMING);
        match self.disk.remove(&incoming) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = self.disk.create_new(&incoming)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        self.disk.rename(&incoming, &path)?;
        self.disk.sync_dir(folder)?;
        Ok(true)
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match self.disk.read(&self.path(name)?) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let names = match self.disk.list(&self.root.join(folder)) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let names = names.into_iter().filter_map(|name| name.to_str().map(str::to_owned));
        Ok(names.filter(|name| name != INCOMING).collect())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.path(name)?;
        let _lock = self.lock()?;
        match self.disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        match path.parent() {
            Some(folder) => self.disk.sync_dir(folder),
            None => Ok(()),
        }
    }
}
