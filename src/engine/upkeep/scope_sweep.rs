//! Takes back the space of what ended replay scopes left behind.
//!
//! Whatever is under a number that is gone answers to nobody, and flushing, merging and compaction leave it out where
//! they meet it. Once after each end of a scope this looks through log and runs, so that they do: it tells the log what is
//! garbage in its segments, and rewrites runs that hold much of it. One segment or one run a step, so that other
//! maintenance goes on in between.

use crate::engine::catalog::scopes::Gone;
use crate::engine::core::Core;
use crate::engine::upkeep::garbage::Garbage;
use crate::engine::upkeep::merger::rewrite;
use crate::engine::upkeep::sweeper::remove_runs;
use crate::error::{Error, Result};
use crate::id::NsId;
use crate::run::{MergeCursor, Merged, RunSize};
use crate::shard::RunHandle;
use crate::sync::{Arc, Mutex};
use crate::wal::{Item, ItemAt, Lsn};

/// Bytes of a claim in the log besides its id: an estimate.
const CLAIM_BYTES: u64 = 8;

/// A run is rewritten if this part of it, or more, is garbage. The rest goes when the run is merged.
const WORTH: u64 = 4;

/// How far the look through log and runs is.
#[derive(Debug, Default)]
pub(super) struct ScopeSweep {
    under_way: Mutex<Option<Progress>>,
    done: Mutex<Vec<NsId>>,
}

#[derive(Debug)]
struct Progress {
    scopes: Vec<NsId>,
    gone: Gone,
    /// The next segment, and the one after the last.
    segments: (u32, u32),
    /// The next run, and the one after the last.
    runs: (u64, u64),
}

impl ScopeSweep {
    /// Does one step. Returns whether there was anything to do.
    pub(super) fn step(&self, core: &Core, garbage: &Garbage) -> Result<bool> {
        let mut under_way = self.under_way.lock();
        if under_way.is_none() {
            *under_way = Progress::begin(core);
        }
        let Some(progress) = under_way.as_mut() else { return Ok(false) };
        if progress.look_at_segment(core)? || progress.look_at_run(core, garbage)? {
            return Ok(true);
        }
        let scopes = under_way.take().map(|progress| progress.scopes).unwrap_or_default();
        scopes.iter().for_each(|scope| core.namespaces.note_swept(*scope));
        self.done.lock().extend(scopes);
        Ok(true)
    }

    /// Returns the scopes that were swept since this was last asked: the next opening is to know.
    pub(super) fn take_done(&self) -> Vec<NsId> {
        std::mem::take(&mut self.done.lock())
    }
}

impl Progress {
    fn begin(core: &Core) -> Option<Self> {
        let (scopes, gone) = core.namespaces.unswept()?;
        let segments = (core.log.oldest(), core.log.active() + 1);
        // What is flushed from here on has left the garbage out.
        let runs = (0, core.manifest.lock().body.next_run);
        Some(Self { scopes, gone, segments, runs })
    }

    fn look_at_segment(&mut self, core: &Core) -> Result<bool> {
        let (from, to) = self.segments;
        let _nothing_is_removed = core.segment_gc_lock.read();
        let Some(number) = core.log.segments().into_iter().find(|n| (from..to).contains(n)) else {
            return Ok(false);
        };
        self.segments.0 = number + 1;
        let mut bytes = 0;
        let scanned = core.log.scan(number, |_, item| {
            bytes += match item {
                Item::Version(key, _) if self.gone.has(key.ns) => key.id.len() as u64 + CLAIM_BYTES,
                Item::Row { key, len, .. } if self.gone.has(key.ns) => u64::from(len),
                Item::Version(..) | Item::Row { .. } | Item::Namespace(_) => 0,
            };
            Ok(())
        });
        match scanned {
            // Whoever needs what is in there reports it.
            Ok(()) | Err(Error::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        let len = u32::try_from(bytes).unwrap_or(u32::MAX);
        core.log.note_superseded(&[ItemAt { end: Lsn::new(number, 0), len }]);
        Ok(true)
    }

    fn look_at_run(&mut self, core: &Core, garbage: &Garbage) -> Result<bool> {
        let (from, to) = self.runs;
        let structure = core.compaction_lock.lock();
        let mut next: Option<(usize, RunHandle)> = None;
        for (number, cell) in core.shards.iter().enumerate() {
            let shard = cell.shard.lock();
            let runs = shard.all_runs().filter(|run| (from..to).contains(&run.meta.id));
            for run in runs {
                if next.as_ref().is_none_or(|(_, known)| run.meta.id < known.meta.id) {
                    next = Some((number, run.clone()));
                }
            }
        }
        let Some((shard, run)) = next else { return Ok(false) };
        let number_of_run = run.meta.id;
        let (kept, dropped) = match self.count(core, &run) {
            Ok(counted) => counted,
            Err(Error::Blocks { what, .. }) => {
                core.heal(&run.meta, &what, None)?;
                self.count(core, &run)?
            }
            Err(error) => return Err(error),
        };
        if kept.ids == 0 && dropped > 0 {
            let dead = vec![(shard, vec![Arc::clone(&run.meta)])];
            drop(run);
            remove_runs(core, garbage, dead)?;
        } else if dropped > 0 && dropped >= (kept.ids + dropped) / WORTH {
            rewrite(core, garbage, shard, run, kept)?;
        }
        self.runs.0 = number_of_run + 1;
        drop(structure);
        Ok(true)
    }

    /// Returns what a run holds besides garbage, and how much garbage.
    fn count(&self, core: &Core, run: &RunHandle) -> Result<(RunSize, u64)> {
        let (mut kept, mut dropped) = (RunSize::default(), 0);
        MergeCursor::new(vec![core.source(run)]).for_each(|Merged { key, .. }| -> Result<()> {
            if self.gone.has(key.ns) {
                dropped += 1;
            } else {
                kept.add(key);
            }
            Ok(())
        })?;
        Ok((kept, dropped))
    }
}
