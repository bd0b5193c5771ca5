//! Merging runs, so that a claim probes few filters however many ids there are.
//!
//! Size-tiered: runs of one shard, one family, one generation and about one size become one. Each id is rewritten once
//! per tier, a logarithm of how often the memtable was filled. (O'Neil et al., 1996, in the form that Cassandra made
//! common.)
//!
//! A filter costs a claim less than a merge costs the background: what a claim probes is loaded all at once, while a
//! merge goes through sled, which writes it several times over. So runs above the lowest tier are merged by sixteen,
//! and by four only if a shard has many.

use crate::engine::catalog::run_builder::RunPlan;
use crate::engine::core::Core;
use crate::engine::upkeep::flush::{begin_run, builder, end_runs, keep_blocks, note_blocks};
use crate::engine::upkeep::garbage::Garbage;
use crate::error::Result;
use crate::expiry::{GenId, Liveness};
use crate::id::Family;
use crate::run::{MergeCursor, RunMeta, RunSize};
use crate::shard::{BuiltRun, RunHandle};
use crate::sync::Arc;
use std::collections::BTreeMap;

/// How many runs of a tier are merged at once if it is the lowest, where merging is cheap, or if the shard has many
/// runs.
const FEW: usize = 4;

/// How many runs of a tier are merged at once otherwise.
const SEVERAL: usize = 16;

/// A shard with more runs than this has many.
const MANY: usize = 32;

/// Runs with fewer ids than this are in the lowest tier.
const TIER_IDS: u64 = 16 << 10;

fn tier(ids: u64) -> u32 {
    (ids / TIER_IDS).checked_ilog(FEW as u64).map_or(0, |tier| tier + 1)
}

/// Returns the runs that should become one.
fn candidates(runs: &[RunHandle]) -> Option<Vec<RunHandle>> {
    let mut tiers: BTreeMap<(u32, Family, GenId), Vec<&RunHandle>> = BTreeMap::new();
    for run in runs {
        tiers
            .entry((tier(run.meta.ids), run.meta.family, run.meta.generation))
            .or_default()
            .push(run);
    }
    let fanout = |tier| if tier == 0 || runs.len() > MANY { FEW } else { SEVERAL };
    // Smallest tier first: it saves the most filters for the least work.
    let (_, full) = tiers.into_iter().find(|((tier, ..), runs)| runs.len() >= fanout(*tier))?;
    Some(full.into_iter().cloned().collect())
}

/// Merges one group of runs. Returns whether there was one.
pub(super) fn merge_one(core: &Core, garbage: &Garbage) -> Result<bool> {
    let _structure = core.compaction_lock.lock();
    let now = core.horizon();
    for (number, cell) in core.shards.iter().enumerate() {
        let live = |run: &&RunHandle| run.meta.generation.liveness(now) == Liveness::Live;
        let runs: Vec<_> = cell.shard.lock().all_runs().filter(live).cloned().collect();
        if let Some(group) = candidates(&runs) {
            let size = RunSize::of_runs(group.iter().map(|run| &*run.meta));
            merge(core, garbage, number, &group, size)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes one run again without what is spent or garbage; `size` is what remains of it. The caller holds the lock of
/// compaction.
pub(super) fn rewrite(
    core: &Core,
    garbage: &Garbage,
    shard: usize,
    run: RunHandle,
    size: RunSize,
) -> Result<()> {
    merge(core, garbage, shard, &[run], size)
}

fn merge(
    core: &Core,
    garbage: &Garbage,
    shard: usize,
    group: &[RunHandle],
    size: RunSize,
) -> Result<()> {
    let from_segment = group.iter().map(|run| run.meta.from_segment).min().unwrap_or(0);
    let id = begin_run(core, size);
    let RunMeta { family, generation, .. } = *group[0].meta;
    let plan = RunPlan { id, shard, family, generation, size, from_segment };
    let gone: Vec<u64> = group.iter().map(|run| run.meta.id).collect();
    let counters = &core.counters;
    let merged = counters.merge_time.of(|| build_merged(core, plan, group)).and_then(|built| {
        core.publish_manifest(|body| {
            body.runs.retain(|meta| !gone.contains(&meta.id));
            body.runs.push((*built.run.meta).clone());
            body.obsolete.extend(group.iter().map(|run| (run.meta.id, run.meta.buckets)));
        })?;
        Ok(built)
    });
    end_runs(core, &[id], merged.is_ok());
    let built = merged?;
    counters.runs_merged.add(group.len() as u64);
    counters.entries_merged.add(built.run.meta.ids);
    counters.bytes_merged.add(built.bytes());
    note_blocks(core, &built);
    let BuiltRun { run, kept, .. } = built;
    core.shards[shard].shard.lock().replace_runs(&gone, Some(run));
    keep_blocks(core, shard, kept);
    garbage.mark_obsolete(group.iter().map(|run| Arc::clone(&run.meta)));
    core.counters.merges.add(1);
    Ok(())
}

/// Builds the merged run. After a failure, heals the sources and tries once more.
fn build_merged(core: &Core, plan: RunPlan, group: &[RunHandle]) -> Result<BuiltRun> {
    let gone = core.namespaces.gone();
    let attempt = || {
        let sources = group.iter().map(|run| core.source(run)).collect();
        let entries = MergeCursor::new(sources);
        builder(core, &gone).build(plan, entries, core.horizon())
    };
    attempt().or_else(|fault| {
        for run in group {
            core.heal(&run.meta, &fault.to_string(), None)?;
        }
        attempt()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::FilterBuilder;

    fn runs(sizes: &[u64]) -> Vec<RunHandle> {
        let run = |(id, ids): (usize, &u64)| RunHandle {
            meta: Arc::new(RunMeta {
                id: id as u64,
                shard: 0,
                family: Family::CLAIMS,
                generation: GenId::FOREVER,
                buckets: 1,
                ids: *ids,
                bytes: 20 * ids,
                from_segment: 1,
            }),
            filter: FilterBuilder::for_ids(1).finish(),
            locators: None,
        };
        sizes.iter().enumerate().map(run).collect()
    }

    fn merged(sizes: &[u64]) -> Option<Vec<u64>> {
        Some(candidates(&runs(sizes))?.iter().map(|run| run.meta.ids).collect())
    }

    #[test]
    fn tiers_grow_by_four() {
        assert_eq!(tier(0), 0);
        assert_eq!(tier(TIER_IDS - 1), 0);
        assert_eq!(tier(TIER_IDS), 1);
        assert_eq!(tier(TIER_IDS * 4), 2);
        assert_eq!(tier(TIER_IDS * 16), 3);
    }

    #[test]
    fn four_small_runs_are_merged_and_sixteen_larger_ones() {
        assert_eq!(merged(&[9, 8, 7]), None);
        assert_eq!(merged(&[9, 8, 7, 6]), Some(vec![9, 8, 7, 6]));
        let large = TIER_IDS * 5;
        assert_eq!(merged(&[large; 15]), None);
        assert_eq!(merged(&[large; 16]), Some(vec![large; 16]));
        let mixed = [&[large; 15][..], &[1; 4]].concat();
        assert_eq!(merged(&mixed), Some(vec![1; 4]), "the smallest first");
    }

    #[test]
    fn the_number_of_runs_is_bounded_whatever_their_sizes() {
        let mut sizes: Vec<u64> = Vec::new();
        let mut most = 0;
        for _ in 0..20_000 {
            sizes.push(TIER_IDS * 5);
            while let Some(gone) = merged(&sizes) {
                for ids in &gone {
                    let at = sizes.iter().position(|size| size == ids).expect("is one of them");
                    sizes.swap_remove(at);
                }
                sizes.push(gone.iter().sum());
            }
            most = most.max(sizes.len());
        }
        assert_eq!(most, MANY, "with one more, four are merged");
    }
}
