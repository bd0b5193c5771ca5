//! What may be asked of a snapshot and of a restore.

/// Options of [`Store::snapshot_with`](crate::Store::snapshot_with).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "options do nothing until they are passed"]
pub struct SnapshotOptions {
    pub(crate) keep_last: Option<u64>,
}

impl SnapshotOptions {
    /// Returns the default: every snapshot is kept.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps this many snapshots, the new one included, and removes the others with what only they need; 0 counts as 1.
    ///
    /// Nothing is removed that a snapshot which is being taken elsewhere may still refer to. If the index of one that is
    /// kept cannot be read, no part is removed.
    pub fn keep_last(self, count: u64) -> Self {
        Self { keep_last: Some(count.max(1)) }
    }
}

/// Options of [`Store::restore_with`](crate::Store::restore_with).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "options do nothing until they are passed"]
pub struct RestoreOptions {
    pub(crate) number: Option<u64>,
    pub(crate) epoch: Option<u64>,
}

impl RestoreOptions {
    /// Returns the default: the newest snapshot, with the epoch after its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Restores the snapshot of this number.
    pub fn number(self, number: u64) -> Self {
        Self { number: Some(number), ..self }
    }

    /// Gives the restored store this epoch, from 1 to [`EPOCH_MAX`](crate::limits::EPOCH_MAX).
    ///
    /// It must be greater than that of every other copy of the store that may still be running: take it from where it is
    /// decided who owns the store, such as the assignment of a partition. Fencing tokens and positions of the outbox of the
    /// restored store begin at the epoch times 2^42, so they are greater than all that a copy with a lower epoch gives.
    pub fn epoch(self, epoch: u64) -> Self {
        Self { epoch: Some(epoch), ..self }
    }
}
