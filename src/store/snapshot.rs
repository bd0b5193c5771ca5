//! Snapshots of an open store, and stores made of them.

use crate::error::Result;
use crate::snapshot::{
    RestoreOptions, RestoreReport, SnapshotOptions, SnapshotReport, SnapshotTarget,
};
use crate::store::handle::Store;
use std::path::Path;

impl Store {
    /// Takes a snapshot: copies the store as it is at one moment to a place from which it can be restored (I15).
    ///
    /// Claims go on meanwhile, on all other threads. The moment is in this call: what was answered before the call is in
    /// the snapshot, at every durability, and of what is answered later each record is in it as a whole or not at all:
    /// claims, batches, ledgers, tables, offsets, messages, transactions and prepared ones, each with all that belongs to
    /// its commit.
    ///
    /// Only what is not in the place yet is sent: the log segments that were filled since the last snapshot there, and the
    /// one that is being filled, up to its end. The snapshot exists when its index is stored, which is the last step. If the
    /// call fails or the process dies before that, the snapshots before it are as they were.
    ///
    /// Blocks until all is sent; async callers use a blocking thread of their runtime. The first snapshot of an opening reads
    /// the whole log to compare it. Compaction goes on, and segments that it frees stay on the disk until they are copied.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) if the place belongs to another store, or to another copy of this one that
    ///   has a greater or the same epoch.
    /// - [`Retry`](crate::ErrorKind::Retry) if somebody else has stored a snapshot there meanwhile.
    /// - [`Environment`](crate::ErrorKind::Environment) or [`StorageFull`](crate::ErrorKind::StorageFull) if the place
    ///   returns an error.
    /// - [`Repair`](crate::ErrorKind::Repair) if a segment of the log, or the newest index in the place, is damaged: a
    ///   snapshot never spreads damage.
    /// - [`Reopen`](crate::ErrorKind::Reopen) if the store has stopped or is closed meanwhile.
    pub fn snapshot(&self, target: &dyn SnapshotTarget) -> Result<SnapshotReport> {
        self.snapshot_with(target, SnapshotOptions::new())
    }

    /// Takes a snapshot as [`snapshot`](Self::snapshot) does, and removes older ones if the options say so.
    ///
    /// ```
    /// use firstseen::Store;
    /// use firstseen::snapshot::{FolderTarget, SnapshotOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path().join("seen.db"))?;
    /// let target = FolderTarget::new(dir.path().join("copies"));
    /// for _ in 0..5 {
    ///     store.snapshot_with(&target, SnapshotOptions::new().keep_last(3))?;
    /// }
    /// assert_eq!(firstseen::snapshot::list(&target)?.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot). If removing fails, the new snapshot is stored all the same.
    pub fn snapshot_with(
        &self,
        target: &dyn SnapshotTarget,
        options: SnapshotOptions,
    ) -> Result<SnapshotReport> {
        self.engine().check_home()?;
        self.engine().snapshot(target, options)
    }

    /// Restores the newest snapshot of a place into a folder that is missing or empty.
    ///
    /// Every byte is checked against the hashes in the index. When this returns, the folder holds the store as it was at
    /// the moment of the snapshot, on disk; before that it is no store, and opening it is an error. The first opening
    /// builds everything flushed again from the log, which takes time.
    ///
    /// The restored store is a copy of its own, with a greater epoch: see [`RestoreOptions::epoch`]. Claims end at their
    /// deadlines. **It knows nothing of what happened after the snapshot**: if the original goes on, both grant ids.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) if the folder is not empty, there is no such snapshot, a newer release
    ///   wrote it, or the epoch is too small.
    /// - [`Repair`](crate::ErrorKind::Repair) if any part of the snapshot is missing or damaged.
    /// - [`Locked`](crate::ErrorKind::Locked) if another process restores into the folder.
    /// - [`Environment`](crate::ErrorKind::Environment) or [`StorageFull`](crate::ErrorKind::StorageFull) if the place or
    ///   the disk returns an error.
    ///
    /// After an error the folder may hold parts of the snapshot; restoring into it again is allowed.
    pub fn restore(target: &dyn SnapshotTarget, path: impl AsRef<Path>) -> Result<RestoreReport> {
        Self::restore_with(target, path, RestoreOptions::new())
    }

    /// Restores a snapshot as [`restore`](Self::restore) does, with options.
    ///
    /// # Errors
    ///
    /// As [`restore`](Self::restore).
    pub fn restore_with(
        target: &dyn SnapshotTarget,
        path: impl AsRef<Path>,
        options: RestoreOptions,
    ) -> Result<RestoreReport> {
        Self::builder(path).restore(target, options)
    }

    /// Returns the epoch of the store: 0 unless it was restored from a snapshot; see
    /// [`RestoreOptions::epoch`](crate::snapshot::RestoreOptions::epoch).
    pub fn epoch(&self) -> u64 {
        if self.engine().check_home().is_ok() { self.engine().epoch() } else { 0 }
    }
}
