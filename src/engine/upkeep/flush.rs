//! Background flushing: frozen memtables become runs.
//!
//! The order, chosen for what a crash after each step leaves (docs/DESIGN.md, "Crash points"): write blocks and
//! filters, sync the log, sync the block store, write the manifest, then let the shards use the runs. Until the
//! manifest is written, a crash has the records replayed from the log as if nothing had been done.

use crate::engine::Engine;
use crate::engine::catalog::manifest::ManifestBody;
use crate::engine::catalog::namespaces::NsMeta;
use crate::engine::catalog::run_builder::RunBuilder;
use crate::error::Result;
use crate::run::{KeptBlocks, RunSize};
use crate::shard::{BuiltRun, FrozenMemtable};
use crate::sync::Arc;

impl Engine {
    pub(in crate::engine) fn builder(&self) -> RunBuilder<'_> {
        RunBuilder {
            blocks: &*self.blocks,
            seed: self.seed,
            hasher: self.hasher,
            disk: &*self.disk,
            dir: &self.dir,
            locators: &self.locators,
            locator_ids_min: self.settings.locator_ids_min,
            keep_bytes: self.settings.block_cache_bytes(self.shards.len()) / 2,
        }
    }

    /// Flushes every frozen memtable. Returns whether there was one.
    pub(crate) fn flush_frozen(&self) -> Result<bool> {
        let frozen: Vec<(usize, FrozenMemtable)> = (self.shards.iter().enumerate())
            .filter_map(|(n, cell)| Some((n, cell.shard.lock().frozen.clone()?)))
            .collect();
        if frozen.is_empty() {
            return Ok(false);
        }
        let now = self.time.now();
        let mut scratch = std::mem::take(&mut *self.flush_scratch.lock());
        let mut built: Vec<(usize, Vec<BuiltRun>)> = Vec::new();
        let mut begun = Vec::new();
        let result = (|| {
            for (shard, frozen) in &frozen {
                let begin = |size| {
                    let id = self.begin_run(size);
                    begun.push(id);
                    id
                };
                let runs =
                    self.builder().flush_memtable(*shard, &frozen.set, now, &mut scratch, begin)?;
                built.push((*shard, runs));
            }
            self.commit(|body| {
                for ((shard, runs), (_, frozen)) in built.iter().zip(&frozen) {
                    body.flushed[*shard] = frozen.upto;
                    body.runs.extend(runs.iter().map(|built| (*built.run.meta).clone()));
                }
            })
        })();
        self.end_runs(&begun, result.is_ok());
        *self.flush_scratch.lock() = scratch;
        result?;
        for ((shard, runs), (_, frozen)) in built.into_iter().zip(frozen) {
            self.counters.runs_flushed.add(runs.len() as u64);
            let cell = &self.shards[shard];
            let (runs, kept): (Vec<_>, Vec<_>) =
                runs.into_iter().map(|built| (built.run, built.kept)).unzip();
            cell.shard.lock().flushed(runs);
            cell.changed.notify_all();
            // Keep its memory for the next freeze: zeroing new pages would slow down a claim.
            if let Ok(mut set) = Arc::try_unwrap(frozen.set) {
                set.clear();
                cell.shard.lock().reuse(set);
            }
            kept.into_iter().for_each(|kept| self.keep_blocks(shard, kept));
        }
        Ok(true)
    }

    /// Freezes every shard that is not being flushed; one without unflushed ids only advances its flushed location.
    /// After the flush, opening has little to replay.
    pub(crate) fn freeze_all(&self) {
        for cell in &self.shards {
            let mut shard = cell.shard.lock();
            if shard.frozen.is_none() {
                shard.freeze(self.log.end());
            }
        }
        self.signals.flush.raise();
    }

    /// Adds blocks to a shard's cache in small portions, so that no claim waits long.
    pub(in crate::engine) fn keep_blocks(&self, shard: usize, kept: KeptBlocks) {
        let mut kept = kept.into_iter().peekable();
        while kept.peek().is_some() {
            self.shards[shard].shard.lock().keep_blocks(kept.by_ref().take(32));
        }
    }

    /// Assigns a run its number and marks it in flight.
    pub(in crate::engine) fn begin_run(&self, size: RunSize) -> u64 {
        let mut manifest = self.manifest.lock();
        let id = manifest.body.next_run;
        manifest.body.next_run += 1;
        manifest.in_flight.push((id, size.buckets()));
        id
    }

    /// Ends runs in flight: they are in the manifest now or, if not `done`, obsolete.
    pub(in crate::engine) fn end_runs(&self, begun: &[u64], done: bool) {
        let mut manifest = self.manifest.lock();
        let (over, rest): (Vec<_>, Vec<_>) =
            manifest.in_flight.drain(..).partition(|(id, _)| begun.contains(id));
        manifest.in_flight = rest;
        if !done {
            manifest.body.obsolete.extend(over);
        }
    }

    /// Writes a new manifest. Syncs the log first: what is flushed, copied or named is on disk before a manifest builds
    /// on it (I6). Syncs the block store too, which carries the epoch of that manifest, so that an older copy of it is
    /// recognised (I10).
    pub(in crate::engine) fn commit(&self, edit: impl FnOnce(&mut ManifestBody)) -> Result<()> {
        let mut manifest = self.manifest.lock();
        // Their records are synced below, too: a repair without this manifest finds them only in the log.
        let namespaces = self.namespaces.metas();
        self.log.sync_to(self.log.end())?;
        self.blocks.set_mark(manifest.body.epoch + 1)?;
        self.blocks.sync()?;
        let before = manifest.body.clone();
        edit(&mut manifest.body);
        // A run listed by the edit is no longer in flight.
        let listed: Vec<u64> = manifest.body.runs.iter().map(|run| run.id).collect();
        let in_flight = manifest.in_flight.clone();
        manifest.in_flight.retain(|(id, _)| !listed.contains(id));
        self.fill_in(&mut manifest.body, namespaces);
        let written = manifest.write();
        if written.is_err() {
            let epoch = manifest.body.epoch;
            manifest.body = ManifestBody { epoch, ..before };
            manifest.in_flight = in_flight;
        }
        written
    }

    /// Fills in what the manifest says of log, namespaces and time.
    fn fill_in(&self, body: &mut ManifestBody, namespaces: Vec<NsMeta>) {
        let first = body.first_segment();
        body.durable = self.log.durable();
        body.full_segments = self.log.closed();
        body.full_segments.retain(|meta| meta.number < first);
        body.next_segment = self.log.active() + 1;
        body.namespaces = namespaces;
        body.time = Some(self.time.mark());
    }
}
