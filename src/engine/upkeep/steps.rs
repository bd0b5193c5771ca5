//! The steps of the background work.

use crate::engine::core::Core;
use crate::engine::upkeep::compactor::compact;
use crate::engine::upkeep::flush::flush_frozen;
use crate::engine::upkeep::folder::FolderCheck;
use crate::engine::upkeep::garbage::Garbage;
use crate::engine::upkeep::merger::merge_one;
use crate::engine::upkeep::scope_sweep::ScopeSweep;
use crate::engine::upkeep::sweeper::{freeze_stale, sweep};
use crate::error::{Error, Result};
use crate::id::NsId;
use crate::limits;
use crate::run::InHashOrder;
use crate::sync::Mutex;

/// What upkeep keeps between its steps.
#[derive(Debug, Default)]
pub(in crate::engine) struct Upkeep {
    /// Kept between flushes; empty during one.
    flush_order: Mutex<InHashOrder>,
    garbage: Garbage,
    scope_sweep: ScopeSweep,
    folder_check: FolderCheck,
}

impl Upkeep {
    pub(in crate::engine) fn flush_step(&self, core: &Core) -> Result<()> {
        loop {
            let flushed = flush_frozen(core, &self.flush_order);
            if core.flush_failure.note(&flushed) {
                // Tell callers waiting for memtable space the cause now, not at their deadline.
                core.wake_waiters();
            }
            if !flushed? {
                return Ok(());
            }
            core.signals.maintain.raise();
        }
    }

    pub(in crate::engine) fn maintain_step(&self, core: &Core) -> Result<()> {
        while self.maintain(core)? {}
        Ok(())
    }

    pub(in crate::engine) fn log_step(&self, core: &Core) -> Result<()> {
        self.folder_check.check_folder(core)?;
        // First do what `Buffered` promises (I6): on a full disk, preparing a spare fails again and again.
        core.log.flush()?;
        core.log.release_written()?;
        // A store that nobody writes to needs no spare segment: it costs a descriptor and 16 MiB.
        if !core.log.is_written_to() {
            return core.log.sync_full();
        }
        let reopened = core.healer.reopened();
        let spare = core.log.prepare_spare(core.time.now());
        if let Err(error) = spare.and_then(|()| core.log.fill_spare()) {
            note_trouble(core, &error, reopened);
        }
        core.log.sync_full()
    }

    /// Syncs the log for the futures that wait for it. A job of its own: the steps of the log's job may take long.
    pub(in crate::engine) fn sync_step(core: &Core) -> Result<()> {
        core.log.sync_for_futures()
    }

    /// Runs one round of maintenance. Returns whether anything was swept, merged or compacted.
    fn maintain(&self, core: &Core) -> Result<bool> {
        if core.health.check().is_err() {
            return Ok(false);
        }
        freeze_stale(core);
        let swept = sweep(core, &self.garbage)?;
        let merged = merge_one(core, &self.garbage)?;
        let looked = self.scope_sweep.step(core, &self.garbage)?;
        let compacted = compact(core)?;
        core.note_reclaimable();
        self.garbage.collect_garbage(core)?;
        self.garbage.collect_leftovers(core)?;
        mark_time(core)?;
        Ok(swept || merged || looked || compacted)
    }

    /// Returns the scopes whose space has been looked for since this was last asked.
    pub(in crate::engine) fn take_swept_scopes(&self) -> Vec<NsId> {
        self.scope_sweep.take_done()
    }

    /// Runs all background work of a store without threads, until none is left.
    #[cfg(feature = "testing")]
    pub(in crate::engine) fn run_background(&self, core: &Core) -> Result<()> {
        self.log_step(core)?;
        loop {
            self.flush_step(core)?;
            // The last maintenance step may have frozen something.
            if !self.maintain(core)? && !flush_frozen(core, &self.flush_order)? {
                return Ok(());
            }
        }
    }
}

/// Writes a manifest if the time in the last one is long past (I5). Records tell the time, too, but a store may
/// only be read, and a clock jump may have been followed meanwhile.
fn mark_time(core: &Core) -> Result<()> {
    let marked = core.manifest.lock().body.time.map_or(0, |mark| mark.high);
    if core.time.now().as_millis() - marked > limits::TIME_MARK_MS_MAX {
        core.publish_manifest(|_| ())?;
    }
    Ok(())
}

/// Handles failed background work. Nothing is lost, and it will be retried; a block store that failed stays so
/// until it is reopened, so that is done here. `reopened` was read before the work began.
pub(in crate::engine) fn note_trouble(core: &Core, error: &Error, reopened: u64) {
    if core.health.check().is_err() {
        // Callers waiting for this work wait in vain: wake them.
        return core.wake_waiters();
    }
    tracing::warn!(%error, "background work failed and will be tried again");
    core.counters.background_failures.add(1);
    if matches!(error, Error::Blocks { .. }) {
        core.healer.reopen_since(core, reopened);
    }
}
