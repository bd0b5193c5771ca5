//! What a snapshot and a restore did.

use serde::Serialize;
use std::fmt;

/// What [`Store::snapshot`](crate::Store::snapshot) did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// Its number in its place.
    pub number: u64,
    /// The epoch of the store.
    pub epoch: u64,
    /// Log segments in it.
    pub segments: u64,
    /// Of those, the ones that were not in the place before.
    pub segments_sent: u64,
    /// Bytes of log in it.
    pub bytes: u64,
    /// Bytes of log that were sent.
    pub bytes_sent: u64,
    /// Snapshots removed, as [`keep_last`](crate::snapshot::SnapshotOptions::keep_last) asked.
    pub removed: u64,
}

impl fmt::Display for SnapshotReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, epoch, segments, segments_sent, bytes, bytes_sent, removed } = self;
        writeln!(f, "snapshot  {number} (epoch {epoch})")?;
        writeln!(f, "segments  {segments}, of which {segments_sent} were sent")?;
        write!(f, "bytes     {bytes}, of which {bytes_sent} were sent")?;
        if *removed > 0 {
            write!(f, "\nremoved   {removed} older snapshots")?;
        }
        Ok(())
    }
}

/// What [`Store::restore`](crate::Store::restore) did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The number of the snapshot.
    pub number: u64,
    /// When it was taken, by the time of the store: milliseconds since 1970.
    pub taken_ms: u64,
    /// The epoch of the restored store.
    pub epoch: u64,
    /// Log segments written.
    pub segments: u64,
    /// Bytes of log written.
    pub bytes: u64,
}

impl fmt::Display for RestoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, taken_ms: _, epoch, segments, bytes } = self;
        writeln!(f, "snapshot  {number}")?;
        writeln!(f, "epoch     {epoch}")?;
        write!(f, "log       {bytes} bytes in {segments} segments")
    }
}
