//! Expiry: a generation dies as a whole. Its runs leave the shards, and their filters and blocks are removed without
//! reading any id. Answers do not depend on it (I4): a claim ends at its deadline, swept or not.

use crate::engine::Engine;
use crate::engine::catalog::filters;
use crate::error::Result;
use crate::run::RunMeta;
use crate::sync::Arc;

impl Engine {
    /// Drops runs in which nothing is live. Returns whether there was one.
    pub(crate) fn sweep(&self) -> Result<bool> {
        let _structure = self.compaction_lock.lock();
        let now = self.time.now();
        let dead: Vec<(usize, Vec<Arc<RunMeta>>)> = (self.shards.iter().enumerate())
            .map(|(number, cell)| (number, cell.shard.lock().dead_runs(now)))
            .filter(|(_, runs)| !runs.is_empty())
            .collect();
        if dead.is_empty() {
            return Ok(false);
        }
        let all: Vec<&Arc<RunMeta>> = dead.iter().flat_map(|(_, runs)| runs).collect();
        let gone = |id: u64| all.iter().any(|meta| meta.id == id);
        self.commit(|body| {
            body.runs.retain(|meta| !gone(meta.id));
            body.obsolete.extend(all.iter().map(|meta| (meta.id, meta.buckets)));
        })?;
        for (number, runs) in &dead {
            let ids: Vec<u64> = runs.iter().map(|meta| meta.id).collect();
            self.shards[*number].shard.lock().replace_runs(&ids, None);
        }
        self.counters.runs_expired.add(all.len() as u64);
        self.counters.ids_expired.add(all.iter().map(|meta| meta.ids).sum());
        self.mark_obsolete(dead.into_iter().flat_map(|(_, runs)| runs));
        Ok(true)
    }

    /// Freezes memtables that are mostly expired, and all of them if opening would have to replay much: flushing leaves
    /// out what has expired.
    pub(crate) fn freeze_stale(&self) {
        let now = self.time.now();
        let first = self.manifest.lock().body.first_segment();
        if self.log.active().saturating_sub(first) >= self.settings.replay_segments_max() {
            self.freeze_all();
            return;
        }
        for cell in &self.shards {
            let mut shard = cell.shard.lock();
            if shard.frozen.is_none() && shard.memtable.is_mostly_dead(now) {
                shard.freeze(self.log.end());
                self.signals.flush.raise();
            }
        }
    }

    /// Queues runs that no shard uses any more for removal.
    pub(in crate::engine) fn mark_obsolete(&self, runs: impl Iterator<Item = Arc<RunMeta>>) {
        self.obsolete.lock().extend(runs);
    }

    /// Removes blocks and filters of obsolete runs that nobody reads any more.
    pub(crate) fn collect_garbage(&self) -> Result<()> {
        let (ready, busy): (Vec<_>, Vec<_>) =
            self.obsolete.lock().drain(..).partition(|meta| Arc::strong_count(meta) == 1);
        self.obsolete.lock().extend(busy);
        for meta in ready {
            let obsolete = (meta.id, meta.buckets);
            self.remove_run(meta.id)?;
            self.manifest.lock().body.obsolete.retain(|other| *other != obsolete);
        }
        Ok(())
    }

    fn remove_run(&self, run: u64) -> Result<()> {
        self.blocks.remove_run(run)?;
        filters::remove(&*self.disk, &self.dir, run)?;
        // Expendable, and a stray at the next opening: nothing has to wait for it.
        if let Err(error) = self.locators.remove(run) {
            tracing::warn!(%error, run, "a locator file was not removed");
        }
        Ok(())
    }

    /// Removes runs that the manifest lists as obsolete and nobody in this process knows: leftovers of a crash or of a
    /// failed flush.
    pub(crate) fn bury_leftovers(&self) -> Result<()> {
        let known: Vec<u64> = self.obsolete.lock().iter().map(|meta| meta.id).collect();
        let leftovers: Vec<(u64, u32)> = {
            let manifest = self.manifest.lock();
            manifest.body.obsolete.iter().copied().filter(|(id, _)| !known.contains(id)).collect()
        };
        for obsolete in leftovers {
            self.remove_run(obsolete.0)?;
            self.manifest.lock().body.obsolete.retain(|other| *other != obsolete);
        }
        Ok(())
    }
}
