//! Building runs, from a frozen memtable or from runs being merged.

use crate::blocks::BlockStore;
use crate::disk::Disk;
use crate::engine::catalog::filters;
use crate::engine::catalog::scopes::Gone;
use crate::error::{Error, Result};
use crate::expiry::{GenId, Horizon};
use crate::filter::{FilterBuilder, FilterOwner};
use crate::id::{Family, IdHasher, Seed};
use crate::memtable::{Memtable, MemtableEntry};
use crate::run::{
    GroupOfEntries, InHashOrder, LocatorFileWriter, LocatorFiles, MergedEntries, RunSize,
    RunWriter, WrittenRun,
};
use crate::shard::{BuiltRun, RunHandle};
use crate::sync::Arc;
use crate::wal::Log;
use std::path::Path;

/// What building a run needs. Exists before the engine does, because opening may have to rebuild.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct RunBuilder<'a> {
    pub(in crate::engine) blocks: &'a dyn BlockStore,
    pub(in crate::engine) seed: Seed,
    pub(in crate::engine) hasher: IdHasher,
    pub(in crate::engine) disk: &'a dyn Disk,
    pub(in crate::engine) dir: &'a Path,
    pub(in crate::engine) locators: &'a LocatorFiles,
    /// Runs with fewer ids get no locator file.
    pub(in crate::engine) locator_ids_min: u64,
    /// `None` while the log is being read.
    pub(in crate::engine) log: Option<&'a Log>,
    /// What ended replay scopes have left behind. Nothing while the log is being read: it is swept later.
    pub(in crate::engine) gone: &'a Gone,
    /// Bytes of each run's blocks to keep for the cache.
    pub(in crate::engine) keep_bytes: usize,
}

/// The parameters of a run to be built.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct RunPlan {
    pub(in crate::engine) id: u64,
    pub(in crate::engine) shard: usize,
    pub(in crate::engine) family: Family,
    pub(in crate::engine) generation: GenId,
    pub(in crate::engine) size: RunSize,
    pub(in crate::engine) from_segment: u32,
}

impl RunBuilder<'_> {
    /// Writes the blocks of a run and its filter in the same pass, so they cannot differ (I2). Leaves out what is spent
    /// by `now`.
    pub(in crate::engine) fn build(
        &self,
        plan: RunPlan,
        entries: impl MergedEntries,
        now: Horizon<'_>,
    ) -> Result<BuiltRun> {
        let RunPlan { id, shard, family, generation, size, from_segment } = plan;
        let mut writer = RunWriter::new(
            self.blocks,
            self.seed,
            id,
            shard,
            (family, generation),
            size,
            from_segment,
            self.keep_bytes,
        );
        if size.ids >= self.locator_ids_min {
            let created = self.locators.create(id, size.buckets());
            writer = writer.with_locators(created.map_err(|e| without_locators(id, &e)).ok());
        }
        let mut filter = FilterBuilder::for_ids(size.ids);
        let segments = self.log.map(Log::segments);
        entries.for_each(|entry| {
            // A row whose segment was removed: something else counts, or its tombstone is not needed any more.
            let is_dropped = entry
                .item()
                .zip(segments.as_ref())
                .is_some_and(|(at, segments)| segments.binary_search(&at.end.segment()).is_err());
            if is_dropped || entry.version.is_spent(now) || self.gone.has(entry.key.ns) {
                return Ok(());
            }
            filter.insert(entry.hash);
            writer.push(entry)
        })?;
        let WrittenRun { meta, kept, locator_file, block_bytes } = writer.finish()?;
        let locator_bytes = locator_file.as_ref().map_or(0, LocatorFileWriter::bytes);
        let locators = locator_file.and_then(|file| match file.finish() {
            Ok(file) => Some(Arc::new(file)),
            Err(error) => {
                without_locators(id, &error);
                // The disk may be full, and half a file is of no use.
                self.locators.remove(id).ok();
                None
            }
        });
        let filter = filter.finish();
        let owner = FilterOwner { store: self.hasher.tag(), run: id };
        // Only a shortcut: without its file, the filter is rebuilt at the next opening.
        if let Err(error) = filters::save(self.disk, self.dir, owner, &filter) {
            tracing::warn!(%error, run = id, "a filter was not saved");
        }
        let run = RunHandle { meta: Arc::new(meta), filter, locators };
        Ok(BuiltRun { run, kept, block_bytes, locator_bytes })
    }

    /// Flushes a memtable into one run per family and generation. `begin` assigns a run its number.
    pub(in crate::engine) fn flush_memtable(
        &self,
        shard: usize,
        set: &Memtable,
        now: Horizon<'_>,
        order: &mut InHashOrder,
        mut begin: impl FnMut(RunSize) -> u64,
    ) -> Result<Vec<BuiltRun>> {
        let matters = |e: &MemtableEntry<'_>| !e.version.is_spent(now) && !self.gone.has(e.key.ns);
        let groups = order.list(set, self.hasher, matters);
        let build = |group: GroupOfEntries| {
            let GroupOfEntries { group: (family, generation), size, from_segment, .. } = group;
            let plan = RunPlan { id: begin(size), shard, family, generation, size, from_segment };
            self.build(plan, order.of(&group, set), now)
        };
        groups.into_iter().map(build).collect()
    }
}

/// Logs that a run has no locator file. Only a shortcut: without it, the run is read from the block store.
fn without_locators(run: u64, error: &Error) {
    tracing::warn!(%error, run, "a locator file was not written");
}
