//! Looking a row up.

use crate::engine::core::Core;
use crate::id::{IdHash, Key};
use crate::shard::{KnownRow, RowLookup, Shard};

impl Core {
    /// Looks a row up under its shard's lock. An entry whose segment is no longer part of the log counts as unknown:
    /// compaction removes a segment only after it has entered what counts elsewhere, under this lock.
    pub(in crate::engine) fn look_row(
        &self,
        shard: &mut Shard,
        key: Key<'_>,
        hash: IdHash,
    ) -> RowLookup {
        match shard.lookup_row(key, hash, self.run_access()) {
            RowLookup::Known(known) if self.is_dropped(&known) => RowLookup::Unknown,
            other => other,
        }
    }

    /// Returns whether compaction has removed the segment that this leads to.
    pub(in crate::engine) fn is_dropped(&self, known: &KnownRow) -> bool {
        known.is_flushed && !self.log.has_segment(known.at.end.segment())
    }
}
