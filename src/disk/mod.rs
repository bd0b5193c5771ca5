//! The only door to files. The engine sees a [`Disk`]; tests hand it one that loses and tears writes.
//!
//! What the trait promises is what the crash argument in docs/DESIGN.md assumes, no more:
//! a write that was not covered by `sync_data` may be lost, kept in part, or kept out of order; a
//! `rename`, `create` or `remove` that was not covered by `sync_dir` likewise.

mod handles;
mod mapped;
mod real;
pub mod sim;

use crate::sync::Arc;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use handles::Handles;
pub use real::RealDisk;

/// More bytes than this are not copied into a mapping but written by a system call, which costs less than the faults of
/// the pages that the copy would touch. Both ways lead to the same page cache.
pub const COPIED_MAX: usize = 8 << 10;

/// Files and folders as the engine needs them. Paths are absolute or relative to the process, except on a disk that
/// [`hold`](Disk::hold) has answered.
pub trait Disk: Debug + Send + Sync {
    /// Holds the folder that is at `path` now. On the disk that is answered, `path` and what is below it mean that folder,
    /// wherever it is moved and whatever takes its old name; any other path is an error. Below it no symbolic link is
    /// followed, and only regular files are opened.
    fn hold(&self, path: &Path) -> io::Result<Arc<dyn Disk>>;
    /// Creates a new file for reading and writing, private to its user (mode 0600). Fails if it exists.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Renames a file over another, atomically as seen by readers; durable after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable after `sync_dir`.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder (files and folders), sorted. A missing folder is `NotFound`.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Creates a folder and its parents, private to the user (mode 0700). Existing ones are fine.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Removes a folder and all that is in it. A missing folder is fine.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the one-process lock on a file (created if missing), and on the folder that holds the file, until the guard is
    /// dropped. `WouldBlock` if somebody else holds either.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>>;
    /// Takes the lock for reading, beside others who read; `WouldBlock` if somebody writes. Writes nothing: `None`
    /// where there is no lock file, or none that may be read.
    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.lock(path).map(Some)
    }
    /// Where sled may keep its own folder: a real path, or `None` when this disk is simulated and the
    /// block store is kept in memory. Good for as long as this disk lives.
    fn real_path(&self, path: &Path) -> io::Result<Option<PathBuf>>;
    /// Bytes that are free on the file system of a folder, if that is known.
    fn free_bytes(&self, dir: &Path) -> Option<u64> {
        let _ = dir;
        None
    }
}

/// One open file. All methods take `&self`; the engine never writes the same bytes from two threads.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: Debug + Send + Sync {
    /// Fills `buf` from `offset`; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `buf` at `offset`. On a mapped file, inside the mapping and up to [`COPIED_MAX`] bytes: a memory copy.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes all that was written durable, and the length needed to read it back (`fdatasync`). `NotFound` if the file has
    /// no name any more: nobody could read it back.
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros) the file. Not allowed while the file is mapped.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes sure that bytes up to `len` have room on the disk and read as zeros where never written.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Maps the first `len` bytes so that `write_all_at` of a few bytes needs no system call. Answers `false`, and
    /// changes nothing, where a mapping could kill the process (see `mapped.rs`).
    fn map(&self, len: u64) -> io::Result<bool>;
    /// What stands between will not be written again as long as the file is mapped. The mapping may let go of it, so that
    /// a later sync need not take each of its pages from every processor in turn; nothing else changes.
    fn release_pages(&self, from: u64, to: u64) {
        let _ = (from, to);
    }
    /// Writes zeros into room that is mapped and was never written to. A later write finds its pages in memory, and a later
    /// sync its blocks written once before, which makes both cheaper; what is read is the same, and after an error, too.
    /// Answers whether it did anything.
    fn fill_ahead(&self, from: u64, to: u64) -> io::Result<bool> {
        let _ = (from, to);
        Ok(false)
    }
    /// Ends the mapping. Writes go through system calls again.
    fn unmap(&self);
}

/// Holds the one-process lock until dropped.
pub trait LockGuard: Debug + Send + Sync {
    /// An error says that the file that is locked is not the one in the folder any more: it, or the folder, was removed.
    fn check(&self) -> io::Result<()>;
    /// Changes something small without syncing it. An error says that the file system takes no more writes.
    fn touch(&self) -> io::Result<()>;
}
