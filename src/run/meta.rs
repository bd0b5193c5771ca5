//! What the manifest says of a run, and how large one becomes.

use crate::blocks::BlockId;
use crate::expiry::GenId;
use crate::id::{Family, Key};
use crate::limits;
use serde::{Deserialize, Serialize};

/// Metadata of a run, as stored in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunMeta {
    pub(crate) id: u64,
    pub(crate) shard: u16,
    pub(crate) family: Family,
    pub(crate) generation: GenId,
    /// Number of blocks; all of them exist.
    pub(crate) buckets: u32,
    pub(crate) ids: u64,
    /// Bytes of ids and their times.
    pub(crate) bytes: u64,
    /// Healing reads the log from this segment on: no earlier one has a record of the run's ids.
    pub(crate) from_segment: u32,
}

impl RunMeta {
    pub(crate) fn block(&self, bucket: u32) -> BlockId {
        BlockId { run: self.id, bucket }
    }
}

/// How much goes into a run; determines its number of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunSize {
    pub(crate) ids: u64,
    pub(crate) bytes: u64,
}

impl RunSize {
    /// Returns an upper bound for the size of the run that these are merged into.
    pub(crate) fn of_runs<'a>(runs: impl Iterator<Item = &'a RunMeta>) -> Self {
        runs.fold(Self::default(), |sum, run| Self {
            ids: sum.ids + run.ids,
            bytes: sum.bytes + run.bytes,
        })
    }

    pub(crate) fn add(&mut self, key: Key<'_>) {
        self.ids += 1;
        self.bytes += key.id.len() as u64 + 4;
    }

    /// Returns the number of blocks for a run of this size.
    pub(crate) fn buckets(self) -> u32 {
        let buckets = self.bytes.div_ceil(limits::BLOCK_BYTES).clamp(1, self.ids.max(1));
        u32::try_from(buckets).unwrap_or(u32::MAX).min(limits::RUN_BLOCKS_MAX)
    }
}
