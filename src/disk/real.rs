//! Operating system files.

mod file;
mod folder;

use self::file::{RealFiles, boot_id};
use self::folder::HeldFolder;
use super::{BootId, Disk, DiskFile, LockGuard};
use crate::sync::Arc;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The operating system's files, private to their user.
#[derive(Debug, Default, Clone)]
pub struct RealDisk {
    files: RealFiles,
}

impl RealDisk {
    /// Returns `false` from every `map`, as on a file system without safe mappings.
    pub fn without_mapping() -> Self {
        Self { files: RealFiles { no_mapping: true } }
    }
}

/// Replaces an empty path, which is the parent of a one-component relative path and which the system does not accept.
fn or_current(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

impl Disk for RealDisk {
    fn boot_id(&self) -> BootId {
        boot_id()
    }

    fn hold(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(HeldFolder::open(or_current(path), self.files)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        private().create_new(true).open(path).map(|file| self.files.handle(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        private().open(path).map(|file| self.files.handle(file))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = std::fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| PathBuf::from(entry.file_name())))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        let leads_nowhere = || dir.is_symlink() && !dir.exists();
        match created {
            // "File exists" would be true of the link, but no help.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && leads_nowhere() => {
                let what = "it is a symbolic link that leads nowhere";
                Err(io::Error::new(io::ErrorKind::NotFound, what))
            }
            other => other,
        }
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(or_current(dir))?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let folder = or_current(path.parent().unwrap_or(Path::new("")));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        HeldFolder::open(folder, self.files)?.lock(&folder.join(name))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let folder = or_current(path.parent().unwrap_or(Path::new("")));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        HeldFolder::open(folder, self.files)?.lock_shared(&folder.join(name))
    }

    fn real_path(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        Ok(Some(path.to_owned()))
    }

    fn free_bytes(&self, dir: &Path) -> Option<u64> {
        let stat = rustix::fs::statvfs(dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests;
