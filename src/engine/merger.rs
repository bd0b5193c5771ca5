//! Merging runs, so that a claim asks few filters however many ids there are.
//!
//! Size-tiered: four runs of one shard, one generation and about one size become one. Each id is
//! rewritten once per tier, a logarithm of how often the open set was filled. (O'Neil et al., 1996, in
//! the form that Cassandra made common.)

use crate::engine::Engine;
use crate::engine::seal::RunPlan;
use crate::error::Result;
use crate::exact::{MergeCursor, RunMeta, RunReader, RunSize, Source};
use crate::expiry::{GenId, Verdict};
use crate::shard::{BuiltRun, SealedRun};
use crate::sync::Arc;
use std::collections::BTreeMap;

/// Runs of one tier that are merged together.
const FANOUT: usize = 4;

/// Ids of a run in the lowest tier, at most.
const TIER_IDS: u64 = 16 << 10;

fn tier(ids: u64) -> u32 {
    (ids / TIER_IDS).checked_ilog(FANOUT as u64).map_or(0, |tier| tier + 1)
}

/// Runs that should become one.
fn candidates(runs: &[SealedRun]) -> Option<Vec<SealedRun>> {
    let mut tiers: BTreeMap<(u32, GenId), Vec<&SealedRun>> = BTreeMap::new();
    for run in runs {
        tiers.entry((tier(run.meta.ids), run.meta.generation)).or_default().push(run);
    }
    // The smallest tier first: it frees most filters for least work.
    let full = tiers.into_values().find(|runs| runs.len() >= FANOUT)?;
    Some(full.into_iter().cloned().collect())
}

impl Engine {
    /// Merges one group of runs. Answers whether there was one.
    pub(crate) fn merge_one(&self) -> Result<bool> {
        let _structure = self.structure.lock();
        let now = self.time.now();
        for (number, cell) in self.shards.iter().enumerate() {
            let live = |run: &&SealedRun| run.meta.generation.verdict(now) == Verdict::Live;
            let runs: Vec<_> = cell.shard.lock().runs.iter().filter(live).cloned().collect();
            if let Some(group) = candidates(&runs) {
                self.merge(number, &group)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn merge(&self, shard: usize, group: &[SealedRun]) -> Result<()> {
        let size = RunSize::of_runs(group.iter().map(|run| &*run.meta));
        let from_segment = group.iter().map(|run| run.meta.from_segment).min().unwrap_or(0);
        let id = self.begin_run(size);
        let plan = RunPlan { id, shard, generation: group[0].meta.generation, size, from_segment };
        let gone: Vec<u64> = group.iter().map(|run| run.meta.id).collect();
        let merged = self.build_merged(plan, group).and_then(|built| {
            self.commit(|body| {
                body.runs.retain(|meta| !gone.contains(&meta.id));
                body.runs.push((*built.run.meta).clone());
                body.doomed.extend(group.iter().map(|run| (run.meta.id, run.meta.buckets)));
            })?;
            Ok(built)
        });
        self.end_runs(&[id], merged.is_ok());
        let BuiltRun { run, kept } = merged?;
        self.shards[shard].shard.lock().replace_runs(&gone, Some(run));
        self.keep_chunks(shard, kept);
        self.doom(group.iter().map(|run| Arc::clone(&run.meta)));
        self.counters.merges.add(1);
        Ok(())
    }

    /// A source that turns out damaged is healed, and the merge begins again.
    fn build_merged(&self, plan: RunPlan, group: &[SealedRun]) -> Result<BuiltRun> {
        let attempt = || {
            let sources = group.iter().map(|run| self.source(&run.meta)).collect();
            let entries = MergeCursor::new(sources);
            self.builder().build(plan, entries, self.time.now())
        };
        attempt().or_else(|fault| {
            for run in group {
                self.heal(&run.meta, &fault.to_string(), None)?;
            }
            attempt()
        })
    }

    pub(super) fn source<'a>(&'a self, meta: &'a RunMeta) -> Source<'a> {
        Source::run(RunReader::new(&*self.chunks, meta, self.seed, self.hasher))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_grow_by_the_fanout() {
        assert_eq!(tier(0), 0);
        assert_eq!(tier(TIER_IDS - 1), 0);
        assert_eq!(tier(TIER_IDS), 1);
        assert_eq!(tier(TIER_IDS * 4), 2);
        assert_eq!(tier(TIER_IDS * 16), 3);
    }
}
