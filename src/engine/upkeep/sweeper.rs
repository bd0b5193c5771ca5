//! Expiry: a generation dies as a whole. Its runs leave the shards, and their filters and blocks are removed without
//! reading any id. Answers do not depend on it (I4): a claim ends at its deadline, swept or not.

use crate::engine::core::Core;
use crate::engine::upkeep::flush::freeze_all;
use crate::engine::upkeep::garbage::Garbage;
use crate::error::Result;
use crate::run::RunMeta;
use crate::sync::Arc;

/// Drops runs in which nothing is live. Returns whether there was one.
pub(super) fn sweep(core: &Core, garbage: &Garbage) -> Result<bool> {
    let _structure = core.compaction_lock.lock();
    let now = core.horizon();
    let dead: Vec<(usize, Vec<Arc<RunMeta>>)> = (core.shards.iter().enumerate())
        .map(|(number, cell)| (number, cell.shard.lock().dead_runs(now)))
        .filter(|(_, runs)| !runs.is_empty())
        .collect();
    if dead.is_empty() {
        return Ok(false);
    }
    let all = dead.iter().flat_map(|(_, runs)| runs);
    let (runs, ids) = all.fold((0, 0), |(runs, ids), meta| (runs + 1, ids + meta.ids));
    remove_runs(core, garbage, dead)?;
    core.counters.runs_expired.add(runs);
    core.counters.ids_expired.add(ids);
    Ok(true)
}

/// Drops runs of these shards. The caller holds the lock of compaction.
pub(super) fn remove_runs(
    core: &Core,
    garbage: &Garbage,
    dead: Vec<(usize, Vec<Arc<RunMeta>>)>,
) -> Result<()> {
    let all: Vec<&Arc<RunMeta>> = dead.iter().flat_map(|(_, runs)| runs).collect();
    let gone = |id: u64| all.iter().any(|meta| meta.id == id);
    core.publish_manifest(|body| {
        body.runs.retain(|meta| !gone(meta.id));
        body.obsolete.extend(all.iter().map(|meta| (meta.id, meta.buckets)));
    })?;
    for (number, runs) in &dead {
        let ids: Vec<u64> = runs.iter().map(|meta| meta.id).collect();
        core.shards[*number].shard.lock().replace_runs(&ids, None);
    }
    garbage.mark_obsolete(dead.into_iter().flat_map(|(_, runs)| runs));
    Ok(())
}

/// Freezes memtables that are mostly expired: flushing leaves out what has expired. Freezes all of them if opening
/// would have to replay much, or if compaction could free segments, were they flushed: rows that are overwritten again
/// and again never fill a memtable.
pub(super) fn freeze_stale(core: &Core) {
    let now = core.horizon();
    let first = core.manifest.lock().body.first_segment();
    let is_long = core.log.active().saturating_sub(first) >= core.settings.replay_segments_max();
    if is_long || core.log.reclaimable_since(first, now) > 0 {
        freeze_all(core);
        return;
    }
    for cell in &core.shards {
        let mut shard = cell.shard.lock();
        if shard.frozen.is_none() && shard.memtable.is_mostly_dead(now) {
            shard.freeze(core.log.end());
            core.signals.flush.raise();
        }
    }
}
