//! What a segment still holds: enough to know when it can be removed without reading it.

use crate::expiry::Tally;
use serde::{Deserialize, Serialize};

/// A segment that takes no more records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentMeta {
    pub(crate) number: u32,
    /// Offset after its last record.
    pub(crate) end: u32,
    /// Its bytes, by generation.
    pub(crate) tally: Tally,
}

impl SegmentMeta {
    /// Returns its size on disk.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.end)
    }
}
