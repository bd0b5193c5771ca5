//! Looking rows up.

use crate::engine::core::Core;
use crate::id::{IdHash, Key};
use crate::shard::{KnownRow, RowLookup, Shard};

/// How many keys are looked up under one lock: as many as the processor can wait for at once, and few enough that what was
/// loaded for the last is still in the nearest cache.
pub(in crate::engine) const GROUP: usize = 16;

impl Core {
    /// Passes keys to `visit` by number, those of a shard together: a group at a time, under the lock of their shard.
    pub(in crate::engine) fn in_groups(
        &self,
        hashes: &[IdHash],
        mut visit: impl FnMut(&mut Shard, &[usize]),
    ) {
        let shard_of = |n: &usize| hashes[*n].shard(self.shard_bits);
        let mut order: Vec<usize> = (0..hashes.len()).collect();
        order.sort_by_key(shard_of);
        for same_shard in order.chunk_by(|a, b| shard_of(a) == shard_of(b)) {
            for group in same_shard.chunks(GROUP) {
                visit(&mut self.shards[shard_of(&group[0])].shard.lock(), group);
            }
        }
    }

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
