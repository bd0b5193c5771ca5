//! Operating system files.

mod folder;

use self::folder::HeldFolder;
use super::mapped::Mapping;
use super::{BootId, COPIED_MAX, Disk, DiskFile, LockGuard};
use crate::sync::{Arc, RwLock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Bytes per write where the file system cannot preallocate.
const ZEROS_LEN: usize = 1 << 20;

/// Bytes per write when filling a segment ahead. Linux caches each write as one piece, finds a larger piece
/// sooner, and writes it out whole when one of its bytes has changed: 4 KiB, 64 KiB and 1 MiB were measured slower.
const AHEAD_LEN: usize = 16 << 10;

/// The operating system's files, private to their user.
#[derive(Debug, Default, Clone)]
pub struct RealDisk {
    no_mapping: bool,
}

impl RealDisk {
    /// Returns `false` from every `map`, as on a file system without safe mappings.
    pub fn without_mapping() -> Self {
        Self { no_mapping: true }
    }

    fn file(&self, file: File) -> Arc<dyn DiskFile> {
        Arc::new(RealFile { file, mapping: RwLock::new(None), no_mapping: self.no_mapping })
    }
}

/// Replaces an empty path, which is the parent of a one-component relative path and which the system does not accept.
fn or_current(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

/// Reads the boot id of Linux, once.
fn boot_id() -> BootId {
    static BOOT: LazyLock<BootId> = LazyLock::new(|| {
        // Miri has no files.
        let path = "/proc/sys/kernel/random/boot_id";
        let text = if cfg!(miri) { None } else { std::fs::read_to_string(path).ok() };
        let hex: String =
            text.unwrap_or_default().chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&hex, 16).unwrap_or(0).to_be_bytes()
    });
    *BOOT
}

impl Disk for RealDisk {
    fn boot_id(&self) -> BootId {
        boot_id()
    }

    fn hold(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(HeldFolder::open(or_current(path), self.clone())?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        private().create_new(true).open(path).map(|file| self.file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        private().open(path).map(|file| self.file(file))
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
        HeldFolder::open(folder, self.clone())?.lock(&folder.join(name))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let folder = or_current(path.parent().unwrap_or(Path::new("")));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        HeldFolder::open(folder, self.clone())?.lock_shared(&folder.join(name))
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

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Read side: a copy into the mapping is running. Write side: the mapping comes or goes.
    mapping: RwLock<Option<Mapping>>,
    no_mapping: bool,
}

impl DiskFile for RealFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if buf.len() <= COPIED_MAX
            && let Some(mapping) = &*self.mapping.read()
            && mapping.write(buf, offset)
        {
            return Ok(());
        }
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // Syncing a removed file succeeds like any other.
        if rustix::fs::fstat(&self.file)?.st_nlink == 0 {
            let what = "the file was removed while it was in use";
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|meta| meta.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // Held across the call: a `map` in between would see the old length.
        let mapping = self.mapping.read();
        if mapping.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the length of a mapped file must not change",
            ));
        }
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 || preallocate(&self.file, len)? {
            return Ok(());
        }
        self.write_zeros(len)
    }

    fn map(&self, len: u64) -> io::Result<bool> {
        if self.no_mapping {
            return Ok(false);
        }
        let mut slot = self.mapping.write();
        let Some(mapping) = Mapping::of(&self.file, len)? else { return Ok(false) };
        *slot = Some(mapping);
        Ok(true)
    }

    fn release_pages(&self, from: u64, to: u64) {
        if let Some(mapping) = &*self.mapping.read() {
            mapping.release_pages(from, to);
        }
    }

    fn fill_ahead(&self, from: u64, to: u64) -> io::Result<bool> {
        // An unmappable file may be copy-on-write, where filling would take the space twice.
        if self.mapping.read().is_none() {
            return Ok(false);
        }
        let mut at = from;
        while at < to {
            let piece = (to - at).min(AHEAD_LEN as u64 - at % AHEAD_LEN as u64);
            self.file.write_all_at(&[0; AHEAD_LEN][..piece as usize], at)?;
            at += piece;
        }
        Ok(true)
    }

    fn unmap(&self) {
        *self.mapping.write() = None;
    }
}

impl RealFile {
    /// Allocates by writing zeros from the current end, so that nothing written is touched.
    fn write_zeros(&self, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_LEN];
        let mut end = self.len()?;
        while end < len {
            let piece = usize::try_from(len - end).map_or(ZEROS_LEN, |left| left.min(ZEROS_LEN));
            self.file.write_all_at(&zeros[..piece], end)?;
            end += piece as u64;
        }
        Ok(())
    }
}

/// Allocates space without writing it. Returns `false` if the file system cannot.
#[cfg(target_os = "linux")]
fn preallocate(file: &File, len: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    match crate::error::retry_interrupted(|| fallocate(file, FallocateFlags::empty(), 0, len)) {
        Ok(()) => Ok(true),
        // NOSYS: a sandbox that does not know the call. INTR: a file system that never gets to finish.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn preallocate(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests;
