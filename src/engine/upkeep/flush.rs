//! Background flushing: frozen memtables become runs.
//!
//! The order, chosen for what a crash after each step leaves (docs/CRASH_POINTS.md, section 5): write blocks and
//! filters, sync the log, sync the block store, write the manifest, then let the shards use the runs. Until the
//! manifest is written, a crash has the records replayed from the log as if nothing had been done.

use crate::engine::catalog::run_builder::RunBuilder;
use crate::engine::catalog::scopes::Gone;
use crate::engine::core::Core;
use crate::error::Result;
use crate::run::{InHashOrder, KeptBlocks, RunSize};
use crate::shard::{BuiltRun, FrozenMemtable};
use crate::sync::{Arc, Mutex};

pub(super) fn builder<'a>(core: &'a Core, gone: &'a Gone) -> RunBuilder<'a> {
    RunBuilder {
        blocks: &*core.blocks,
        seed: core.seed,
        hasher: core.hasher,
        disk: &*core.disk,
        dir: &core.dir,
        locators: &core.locators,
        gone,
        log: Some(&core.log),
        locator_ids_min: core.settings.locator_ids_min,
        keep_bytes: core.settings.block_cache_bytes(core.shards.len()) / 2,
    }
}

/// Flushes every frozen memtable. Returns whether there was one.
pub(super) fn flush_frozen(core: &Core, kept_order: &Mutex<InHashOrder>) -> Result<bool> {
    let frozen: Vec<(usize, FrozenMemtable)> = (core.shards.iter().enumerate())
        .filter_map(|(n, cell)| Some((n, cell.shard.lock().frozen.clone()?)))
        .collect();
    if frozen.is_empty() {
        return Ok(false);
    }
    let (now, gone) = (core.horizon(), core.namespaces.gone());
    let mut order = std::mem::take(&mut *kept_order.lock());
    let mut built: Vec<(usize, Vec<BuiltRun>)> = Vec::new();
    let mut begun = Vec::new();
    let result = (|| {
        for (shard, frozen) in &frozen {
            let begin = |size| {
                let id = begin_run(core, size);
                begun.push(id);
                id
            };
            let builder = builder(core, &gone);
            let build = || builder.flush_memtable(*shard, &frozen.set, now, &mut order, begin);
            built.push((*shard, core.counters.flush_time.of(build)?));
        }
        core.publish_manifest(|body| {
            for ((shard, runs), (_, frozen)) in built.iter().zip(&frozen) {
                body.flushed[*shard] = frozen.upto;
                body.runs.extend(runs.iter().map(|built| (*built.run.meta).clone()));
            }
        })
    })();
    end_runs(core, &begun, result.is_ok());
    *kept_order.lock() = order;
    result?;
    for ((shard, runs), (_, frozen)) in built.into_iter().zip(frozen) {
        core.counters.runs_flushed.add(runs.len() as u64);
        for built in &runs {
            core.counters.entries_flushed.add(built.run.meta.ids);
            core.counters.bytes_flushed.add(built.bytes());
            note_blocks(core, built);
        }
        let cell = &core.shards[shard];
        let (runs, kept): (Vec<_>, Vec<_>) =
            runs.into_iter().map(|built| (built.run, built.kept)).unzip();
        cell.shard.lock().flushed(runs);
        cell.tell_of_room();
        // Keep its memory for the next freeze: zeroing new pages would slow down a claim.
        if let Ok(mut set) = Arc::try_unwrap(frozen.set) {
            set.clear();
            cell.shard.lock().reuse(set);
        }
        kept.into_iter().for_each(|kept| keep_blocks(core, shard, kept));
    }
    Ok(true)
}

/// Freezes every shard that is not being flushed; one without unflushed ids only advances its flushed location.
/// After the flush, opening has little to replay.
pub(in crate::engine) fn freeze_all(core: &Core) {
    for cell in &core.shards {
        let mut shard = cell.shard.lock();
        if shard.frozen.is_none() {
            shard.freeze(core.log.end());
        }
    }
    core.signals.flush.raise();
}

/// Adds blocks to a shard's cache in small portions, so that no claim waits long.
pub(super) fn keep_blocks(core: &Core, shard: usize, kept: KeptBlocks) {
    let mut kept = kept.into_iter().peekable();
    while kept.peek().is_some() {
        core.shards[shard].shard.lock().keep_blocks(kept.by_ref().take(32));
    }
}

/// Counts the blocks of a run that was written.
pub(super) fn note_blocks(core: &Core, built: &BuiltRun) {
    core.counters.blocks_written.add(built.run.meta.buckets.into());
    core.counters.block_bytes_written.add(built.block_bytes);
}

/// Assigns a run its number and marks it in flight.
pub(super) fn begin_run(core: &Core, size: RunSize) -> u64 {
    let mut manifest = core.manifest.lock();
    let id = manifest.body.next_run;
    manifest.body.next_run += 1;
    manifest.in_flight.push((id, size.buckets()));
    id
}

/// Ends runs in flight: they are in the manifest now or, if not `done`, obsolete.
pub(super) fn end_runs(core: &Core, begun: &[u64], done: bool) {
    let mut manifest = core.manifest.lock();
    let (over, rest): (Vec<_>, Vec<_>) =
        manifest.in_flight.drain(..).partition(|(id, _)| begun.contains(id));
    manifest.in_flight = rest;
    if !done {
        manifest.body.obsolete.extend(over);
    }
}
