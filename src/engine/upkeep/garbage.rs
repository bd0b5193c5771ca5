//! Collecting garbage: blocks, filters and locator files of runs that nothing uses any more.

use crate::engine::catalog::filters;
use crate::engine::core::Core;
use crate::error::Result;
use crate::run::RunMeta;
use crate::sync::{Arc, Mutex};

/// Runs that no shard uses any more; their blocks are removed once nobody reads them.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    obsolete: Mutex<Vec<Arc<RunMeta>>>,
}

impl Garbage {
    /// Queues runs that no shard uses any more for removal.
    pub(super) fn mark_obsolete(&self, runs: impl Iterator<Item = Arc<RunMeta>>) {
        self.obsolete.lock().extend(runs);
    }

    /// Removes blocks and filters of obsolete runs that nobody reads any more.
    pub(super) fn collect_garbage(&self, core: &Core) -> Result<()> {
        let (ready, busy): (Vec<_>, Vec<_>) =
            self.obsolete.lock().drain(..).partition(|meta| Arc::strong_count(meta) == 1);
        self.obsolete.lock().extend(busy);
        for meta in ready {
            let obsolete = (meta.id, meta.buckets);
            remove_run(core, obsolete)?;
            core.manifest.lock().body.obsolete.retain(|other| *other != obsolete);
        }
        Ok(())
    }

    /// Removes runs that the manifest lists as obsolete and nobody in this process knows: leftovers of a crash or of a
    /// failed flush.
    pub(super) fn collect_leftovers(&self, core: &Core) -> Result<()> {
        let known: Vec<u64> = self.obsolete.lock().iter().map(|meta| meta.id).collect();
        let leftovers: Vec<(u64, u32)> = {
            let manifest = core.manifest.lock();
            manifest.body.obsolete.iter().copied().filter(|(id, _)| !known.contains(id)).collect()
        };
        for obsolete in leftovers {
            remove_run(core, obsolete)?;
            core.manifest.lock().body.obsolete.retain(|other| *other != obsolete);
        }
        Ok(())
    }
}

fn remove_run(core: &Core, (run, buckets): (u64, u32)) -> Result<()> {
    core.blocks.remove_run(run)?;
    core.counters.blocks_removed.add(buckets.into());
    filters::remove(&*core.disk, &core.dir, run)?;
    // Expendable, and a stray at the next opening: nothing has to wait for it.
    if let Err(error) = core.locators.remove(run) {
        tracing::warn!(%error, run, "a locator file was not removed");
    }
    Ok(())
}
