//! A folder held by a descriptor.
//!
//! Names are looked up in it rather than from the root or working folder, so that whatever is opened, renamed or
//! removed is always in the folder that was opened, whatever happened to its name.

use super::file::{RealFiles, boot_id};
use crate::disk::{BootId, Disk, DiskFile, LockGuard};
use crate::sync::Arc;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW,
};
use rustix::io::Errno;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Retries for a lock file that was replaced before it was locked.
const LOCK_TRIES: usize = 16;

/// A folder and the path it was opened by; paths passed in start with that path.
#[derive(Debug)]
pub(super) struct HeldFolder {
    held: Arc<Held>,
    files: RealFiles,
}

#[derive(Debug)]
struct Held {
    folder: OwnedFd,
    path: PathBuf,
    /// Where the folder was when opened, for callers that need a path.
    absolute: PathBuf,
}

/// The folder in which a name is looked up.
enum Parent<'a> {
    Held(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Held(folder) => *folder,
            Self::Below(folder) => folder.as_fd(),
        }
    }
}

fn is_same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// Explains a refused symbolic link, which the system reports as too many links.
fn explain(error: Errno) -> io::Error {
    if error == Errno::LOOP {
        return io::Error::other("it is a symbolic link, which is not followed here");
    }
    error.into()
}

fn open_folder(parent: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(explain)
}

/// Returns the names in a folder, sorted.
fn names_in(folder: impl AsFd) -> io::Result<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStrExt;

    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
        }
    }
    names.sort();
    Ok(names)
}

fn remove_folder(parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let folder = open_folder(parent, name)?;
    for inner in names_in(&folder)? {
        match rustix::fs::unlinkat(&folder, &inner, AtFlags::empty()) {
            // Unlinking a folder gives the first on Linux, the second on other systems.
            Err(Errno::ISDIR | Errno::PERM) => remove_folder(folder.as_fd(), &inner)?,
            Err(Errno::NOENT) => {}
            other => other?,
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

impl Held {
    fn parent_of<'a>(&self, path: &'a Path) -> io::Result<(Parent<'_>, &'a Path)> {
        let inside = path.strip_prefix(&self.path);
        let inside = inside
            .ok()
            .filter(|inside| inside.components().all(|part| matches!(part, Component::Normal(_))));
        let Some(inside) = inside else {
            let what = format!("{} is not in {}", path.display(), self.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        };
        let mut parent = Parent::Held(self.folder.as_fd());
        let Some(name) = inside.file_name() else { return Ok((parent, Path::new("."))) };
        // One by one: symbolic links can only be refused for the last component of a path.
        for folder in inside.parent().into_iter().flat_map(Path::iter) {
            parent = Parent::Below(open_folder(&parent, Path::new(folder))?);
        }
        Ok((parent, Path::new(name)))
    }

    fn open_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let (parent, name) = self.parent_of(path)?;
        open_folder(parent, name)
    }

    /// Opens a regular file. Never blocks on anything else, such as a pipe waiting for its other end.
    fn open_file(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let (parent, name) = self.parent_of(path)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(explain)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(File::from(file)),
            FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        }
    }

    /// Returns the metadata of what has this name.
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn is_at(&self, path: &Path) -> bool {
        let own = rustix::fs::fstat(&self.folder);
        let there = rustix::fs::stat(path);
        matches!((own, there), (Ok(own), Ok(there)) if is_same(&own, &there))
    }
}

impl HeldFolder {
    pub(super) fn open(path: &Path, files: RealFiles) -> io::Result<Self> {
        // The store itself may be a symbolic link to a folder.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        let absolute = std::path::absolute(path)?;
        Ok(Self { held: Arc::new(Held { folder, path: path.to_owned(), absolute }), files })
    }
}

impl Disk for HeldFolder {
    fn boot_id(&self) -> BootId {
        boot_id()
    }

    fn hold(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        let folder = self.held.open_folder(path)?;
        let inside = path.strip_prefix(&self.held.path).unwrap_or(path);
        let absolute = self.held.absolute.join(inside);
        let held = Arc::new(Held { folder, path: path.to_owned(), absolute });
        Ok(Arc::new(Self { held, files: self.files }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(self.files.handle(self.held.open_file(path, flags)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.files.handle(self.held.open_file(path, OFlags::RDWR)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut self.held.open_file(path, OFlags::RDONLY)?, &mut bytes)?;
        Ok(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_parent, from), (to_parent, to)) =
            (self.held.parent_of(from)?, self.held.parent_of(to)?);
        Ok(rustix::fs::renameat(from_parent, from, to_parent, to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.held.parent_of(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        names_in(self.held.open_folder(dir)?)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let inside = dir.strip_prefix(&self.held.path).unwrap_or(dir);
        let mut path = self.held.path.clone();
        for name in inside {
            path.push(name);
            let (parent, name) = self.held.parent_of(&path)?;
            match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
                Err(Errno::EXIST) => drop(open_folder(parent, name)?),
                other => other?,
            }
        }
        self.held.parent_of(dir).map(drop)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let (parent, name) = self.held.parent_of(dir)?;
        match remove_folder(parent.as_fd(), name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match rustix::fs::fsync(self.held.open_folder(dir)?) {
            // Some user-space file systems do not support syncing folders; what it would have promised is theirs to
            // keep.
            Err(Errno::INVAL) => Ok(()),
            other => Ok(other?),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        for _ in 0..LOCK_TRIES {
            let file = self.held.open_file(path, OFlags::RDWR | OFlags::CREATE)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let lock = RealLock { held: Arc::clone(&self.held), path: path.to_owned(), file };
            // It may have been removed between open and lock; the next process would lock another file.
            if lock.check().is_err() {
                continue;
            }
            // Lock the folder, too: a lock file mistaken for stale and deleted keeps no one out.
            let operation = FlockOperation::NonBlockingLockExclusive;
            return match rustix::fs::flock(&self.held.folder, operation) {
                Err(Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
                // Some file systems cannot lock folders; the file lock has to do.
                _ => Ok(Box::new(lock)),
            };
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let file = match self.held.open_file(path, OFlags::RDONLY) {
            Ok(file) => file,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Box::new(SharedLock { _file: file }))),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_bytes(&self, _dir: &Path) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.held.folder).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn real_path(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let inside = path.strip_prefix(&self.held.path).map_err(|_| io::ErrorKind::InvalidInput)?;
        // Leads to what the descriptor holds, wherever that is.
        let number = self.held.folder.as_raw_fd();
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{number}"));
        let places = [&by_descriptor, &self.held.absolute];
        match places.into_iter().find(|place| self.held.is_at(place)) {
            Some(place) => Ok(Some(place.join(inside))),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the folder was moved or removed")),
        }
    }
}

#[derive(Debug)]
struct RealLock {
    held: Arc<Held>,
    path: PathBuf,
    file: File,
}

impl LockGuard for RealLock {
    fn check(&self) -> io::Result<()> {
        let (there, own) = (self.held.stat(&self.path)?, rustix::fs::fstat(&self.file)?);
        if is_same(&there, &own) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "the lock file was replaced by another"))
    }

    fn touch(&self) -> io::Result<()> {
        // A write could go to the page cache and be refused later; an inode change needs the file system now.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        Ok(rustix::fs::futimens(&self.file, &times)?)
    }
}

impl Drop for RealLock {
    fn drop(&mut self) {
        // Unlock explicitly: a child process forked meanwhile shares the open files, and then closing ours would not
        // release them. If this fails, closing has to do.
        let _ = rustix::fs::flock(&self.held.folder, FlockOperation::Unlock);
        let _ = self.file.unlock();
    }
}

/// Keeps writers away while a store is read; released when the file is closed.
#[derive(Debug)]
struct SharedLock {
    _file: File,
}

/// Readers write nothing, so there is nothing to check.
impl LockGuard for SharedLock {
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    fn touch(&self) -> io::Result<()> {
        Ok(())
    }
}
