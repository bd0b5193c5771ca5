//! What is in a place, without a store.

use crate::error::Result;
use crate::snapshot::index::{Index, numbers, read_index};
use crate::snapshot::target::SnapshotTarget;
use serde::Serialize;

/// A snapshot, as its index tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its number; the newest of a place has the highest.
    pub number: u64,
    /// When it was taken, by the time of the store: milliseconds since 1970.
    pub taken_ms: u64,
    /// The epoch of the store that took it; 0 if that was never restored.
    pub epoch: u64,
    /// Log segments in it.
    pub segments: u64,
    /// Bytes in it, those that it shares with other snapshots included.
    pub bytes: u64,
}

impl SnapshotInfo {
    pub(crate) fn of(index: &Index) -> Self {
        let head = &index.head;
        Self {
            number: head.number,
            taken_ms: head.taken_ms,
            epoch: head.epoch,
            segments: index.parts.len() as u64,
            bytes: index.parts.iter().map(|part| u64::from(part.bytes)).sum(),
        }
    }
}

/// Returns the snapshots in a place, the newest last. Reads their indexes only.
///
/// # Errors
///
/// [`Repair`](crate::ErrorKind::Repair) if an index is damaged, [`FixCall`](crate::ErrorKind::FixCall) if a newer release
/// wrote it, [`Environment`](crate::ErrorKind::Environment) if the place cannot be read.
pub fn list(target: &dyn SnapshotTarget) -> Result<Vec<SnapshotInfo>> {
    let numbers = numbers(target)?;
    numbers.into_iter().map(|n| Ok(SnapshotInfo::of(&read_index(target, n)?.1))).collect()
}

/// Reads all of a snapshot and checks every byte of it against the hashes in its index.
///
/// # Errors
///
/// [`Repair`](crate::ErrorKind::Repair) if a part is missing or differs, [`FixCall`](crate::ErrorKind::FixCall) if there is
/// no snapshot of this number; otherwise as [`list`].
pub fn verify(target: &dyn SnapshotTarget, number: u64) -> Result<SnapshotInfo> {
    let (_, index) = read_index(target, number)?;
    index.parts.iter().try_for_each(|part| part.fetch(target).map(drop))?;
    Ok(SnapshotInfo::of(&index))
}
