//! All file access. The engine uses a [`Disk`]; tests pass one that loses and tears writes.
//!
//! The trait promises only what the crash argument in docs/DESIGN.md assumes: a write not covered by `sync_data` may be
//! lost, kept in part, or kept out of order, and so may a `rename`, `create` or `remove` not covered by `sync_dir`.

mod handles;
mod mapped;
mod real;
#[cfg(any(test, feature = "testing"))]
pub mod sim;

use crate::sync::Arc;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use handles::Handles;
pub use real::RealDisk;

/// Longest write copied into a mapping. Longer ones go through a system call, which costs less than the page faults of
/// the copy. Both reach the same page cache.
pub const COPIED_MAX: usize = 8 << 10;

/// Tells boots of the machine apart: what was written in this one is still in the page cache, unless it was synced.
pub type BootId = [u8; 16];

/// Files and folders as the engine needs them.
///
/// Paths are absolute or relative to the process, except on a disk returned by [`hold`](Disk::hold).
pub trait Disk: Debug + Send + Sync {
    /// Holds the folder now at `path`.
    ///
    /// On the returned disk, `path` and everything below it refer to that folder, wherever it is moved and whatever
    /// takes its old name; any other path is an error. Symbolic links below it are not followed, and only regular files
    /// are opened.
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
    /// Lists the files and folders in a folder, sorted. A missing folder is `NotFound`.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Creates a folder and its parents, private to the user (mode 0700). Existing ones are fine.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Removes a folder and its contents. A missing folder is fine.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Locks a file (created if missing) and its folder against other processes until the guard is dropped.
    ///
    /// `WouldBlock` if either is already locked.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>>;
    /// Takes the lock for reading, shared with other readers; `WouldBlock` if a writer holds it.
    ///
    /// Writes nothing: `None` if there is no lock file, or none that may be read.
    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.lock(path).map(Some)
    }
    /// Returns where sled may keep its own folder: a real path, or `None` if this disk is simulated and blocks are kept
    /// in memory. Valid while this disk lives.
    fn real_path(&self, path: &Path) -> io::Result<Option<PathBuf>>;
    /// Returns a number that differs between boots of the machine; zeros if it is not known.
    fn boot_id(&self) -> BootId {
        [0; 16]
    }
    /// Returns the free bytes on a folder's file system, if known.
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
    /// Writes all of `buf` at `offset`. Within a mapping and up to [`COPIED_MAX`] bytes, this is a memory copy.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything written durable, with the length needed to read it back (`fdatasync`). `NotFound` if the file
    /// has no name any more, since it could not be read back.
    fn sync_data(&self) -> io::Result<()>;
    /// Returns the length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Truncates or extends (with zeros) the file. Not allowed while it is mapped, also by who has the mapping still.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Allocates disk space for bytes up to `len`; those never written read as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Maps the first `len` bytes so that a small `write_all_at` needs no system call.
    ///
    /// Returns `false`, changing nothing, where a mapping could kill the process (see `mapped.rs`).
    fn map(&self, len: u64) -> io::Result<bool>;
    /// Returns the mapping, if there is one.
    fn mapped(&self) -> Option<Arc<dyn Mapped>>;
    /// Promises not to write this range again while the file is mapped.
    ///
    /// The mapping may drop its pages, so that a later sync need not take each of them from every CPU in turn; nothing
    /// else changes.
    fn release_pages(&self, from: u64, to: u64) {
        let _ = (from, to);
    }
    /// Writes zeros to mapped space that was never written; returns whether it did anything.
    ///
    /// A later write then finds its pages in memory, and a later sync its blocks already written, which makes both
    /// cheaper. What is read stays the same, even after an error.
    fn fill_ahead(&self, from: u64, to: u64) -> io::Result<bool> {
        let _ = (from, to);
        Ok(false)
    }
    /// Ends the mapping, once nobody else has it. Writes go through system calls again.
    fn unmap(&self);
}

/// The mapping of a file, which lasts until its last owner drops it: for one writer that writes often.
pub trait Mapped: Debug + Send + Sync {
    /// Copies `bytes`, of [`COPIED_MAX`] at most, to `offset`, as [`DiskFile::write_all_at`] does, and under its rule: no byte
    /// is written by two threads. `InvalidInput` if they do
    /// not fit into the mapping.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Stores a word, little-endian, at a multiple of eight: all of it or nothing, whenever the process is killed, and neither
    /// before what this thread wrote earlier nor after what it writes later.
    fn store(&self, word: u64, offset: u64) -> io::Result<()>;
}

/// Holds the one-process lock until dropped.
pub trait LockGuard: Debug + Send + Sync {
    /// Fails if the locked file is no longer the one in the folder, because it or the folder was removed.
    fn check(&self) -> io::Result<()>;
    /// Makes a small change without syncing it. Fails if the file system accepts no more writes.
    fn touch(&self) -> io::Result<()>;
}
