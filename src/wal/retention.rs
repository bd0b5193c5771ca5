//! What a segment still holds: enough to know when it can be removed without reading it, and when reading it pays off.

use crate::expiry::{Horizon, Tally};
use crate::wal::segment::DATA_START;
use serde::{Deserialize, Serialize};

/// What a segment holds, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Contents {
    /// All of it, by generation.
    pub(crate) tally: Tally,
    /// Rows that were replaced since. Estimate; restarts at zero for replayed segments. It decides when reading the
    /// segment pays off, never what is dropped.
    pub(crate) superseded: u64,
    /// Tombstones of rows, which only the oldest segment can drop.
    pub(crate) tombstones: u64,
}

/// A segment that takes no more records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentMeta {
    pub(crate) number: u32,
    /// Offset after its last record.
    pub(crate) end: u32,
    pub(crate) contents: Contents,
}

impl SegmentMeta {
    /// Returns whether nothing in it can matter from `now` on.
    pub(crate) fn is_dead(&self, now: Horizon<'_>) -> bool {
        self.contents.tally.live(now) == 0
    }

    /// Returns an estimate of the bytes that would have to be copied to remove it.
    pub(crate) fn live_estimate(&self, now: Horizon<'_>, is_oldest: bool) -> u64 {
        let Contents { tally, superseded, tombstones } = &self.contents;
        let dropped = if is_oldest { *tombstones } else { 0 };
        tally.live(now).saturating_sub(superseded + dropped)
    }

    /// Returns whether copying what is live costs less than it frees. The head of the segment does not count: a small
    /// segment in which all is live would be rewritten for ever.
    pub(crate) fn is_worth_rewriting(&self, now: Horizon<'_>, is_oldest: bool) -> bool {
        self.live_estimate(now, is_oldest) * 2 < self.record_bytes()
    }

    /// Returns the bytes that compaction would free here; zero if it would keep the segment.
    pub(crate) fn reclaimable(&self, now: Horizon<'_>, is_oldest: bool) -> u64 {
        if self.is_dead(now) {
            self.bytes()
        } else if self.is_worth_rewriting(now, is_oldest) {
            self.record_bytes() - self.live_estimate(now, is_oldest)
        } else {
            0
        }
    }

    /// Returns the size of its records.
    fn record_bytes(&self) -> u64 {
        self.bytes().saturating_sub(DATA_START.into())
    }

    /// Returns its size on disk.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.end)
    }
}
