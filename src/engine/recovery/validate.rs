//! Recounts what the engine knows, for tests: whatever is kept twice must agree.

use crate::engine::catalog::manifest::Manifest;
use crate::engine::core::Core;
use crate::engine::recovery::verify::{VerifyReport, verify_run};
use crate::error::Result;
use crate::expiry::Version;
use crate::id::Family;
use crate::memtable::MemtableEntry;
use crate::run::RunMeta;
use crate::shard::{RunHandle, Shard};
use crate::sync::Ordering;
use std::collections::BTreeMap;

/// Runs of at most this many ids are compared with their filter; `verify` does it with all of them.
const SMALL_RUN_IDS: u64 = 64;

/// Returns what contradicts itself, of a store that nobody uses meanwhile. Reads no file.
pub(in crate::engine) fn validate(core: &Core) -> Vec<String> {
    let _structure = core.compaction_lock.lock();
    let mut complaints = core.log.validate();
    let mut in_shards: BTreeMap<u64, RunMeta> = BTreeMap::new();
    for (number, cell) in core.shards.iter().enumerate() {
        let shard = cell.shard.lock();
        let mut complain = |what: String| complaints.push(format!("shard {number}: {what}"));
        validate_memory(core, number, &shard, &mut complain);
        for (runs, is_of_rows) in [(&shard.runs, false), (&shard.row_runs, true)] {
            for run in runs {
                let meta = &*run.meta;
                if usize::from(meta.shard) != number {
                    complain(format!("has a run of another shard: {meta:?}"));
                }
                if (meta.family != Family::CLAIMS) != is_of_rows {
                    complain(format!("a run is among those of another kind: {meta:?}"));
                }
                if in_shards.insert(meta.id, meta.clone()).is_some() {
                    complain(format!("a run is in two places: {meta:?}"));
                }
            }
        }
    }
    validate_manifest(core, &core.manifest.lock(), &in_shards, &mut complaints);
    complaints
}

/// Reads small runs and the full segments of the log, and returns what holds something else than is believed.
pub(in crate::engine) fn recount_files(core: &Core) -> Result<Vec<String>> {
    let _structure = core.compaction_lock.lock();
    let mut complaints = validate_filters(core);
    let _nothing_is_removed = core.segment_gc_lock.read();
    complaints.extend(core.log.recount()?);
    Ok(complaints)
}

/// Checks the memtables of a shard: with themselves, with the log and with each other.
fn validate_memory(core: &Core, number: usize, shard: &Shard, complain: &mut impl FnMut(String)) {
    let frozen = shard.frozen.as_ref().map(|frozen| &*frozen.set);
    let end = core.log.end();
    if shard.frozen.as_ref().is_some_and(|frozen| frozen.upto > end) {
        complain(format!("is frozen past the end of the log at {end:?}"));
    }
    for set in [Some(&shard.memtable), frozen].into_iter().flatten() {
        set.validate().into_iter().for_each(&mut *complain);
        for entry in set.iter() {
            let MemtableEntry { key, version, lsn, .. } = entry;
            if core.hash(key).shard(core.shard_bits) != number {
                complain(format!("holds a key of another shard: {entry:?}"));
            }
            // What is in memory is not flushed, so no segment that holds it can have been removed.
            if lsn > end || !core.log.has_segment(lsn.segment()) {
                complain(format!("an entry leads out of the log: {entry:?}"));
            }
            if key.ns.is_row() && version.rank >= core.sequence.load(Ordering::Acquire) {
                complain(format!("a row has a sequence that is still to be given: {entry:?}"));
            }
        }
    }
    let Some(frozen) = frozen else { return };
    for entry in shard.memtable.iter() {
        // A lookup stops at the memtable, so what is there must count.
        let below = frozen.get(entry.key, core.hash(entry.key));
        let hides = |below: &MemtableEntry<'_>| counts_more(below, &entry);
        if let Some(below) = below.filter(hides) {
            complain(format!("{entry:?} hides {below:?}, which counts"));
        }
    }
}

/// Whether the first of two entries of one key counts: a higher version or, of a row, the later of two copies.
fn counts_more(one: &MemtableEntry<'_>, other: &MemtableEntry<'_>) -> bool {
    let joined: Version = other.version.join(one.version);
    joined != other.version
        || (one.key.ns.is_row() && one.version == other.version && one.lsn > other.lsn)
}

/// Checks that the filters of small runs cover their ids (I2). A block that cannot be read is left to healing.
fn validate_filters(core: &Core) -> Vec<String> {
    let mut complaints = Vec::new();
    for cell in &core.shards {
        let runs: Vec<RunHandle> = cell.shard.lock().all_runs().cloned().collect();
        for run in runs.iter().filter(|run| run.meta.ids <= SMALL_RUN_IDS) {
            let uncovered = verify_run(core, run, &mut VerifyReport::default());
            if uncovered > 0 {
                let id = run.meta.id;
                complaints.push(format!("run {id}: {uncovered} ids are not in its filter"));
            }
        }
    }
    complaints
}

/// Checks the manifest as it would be written next, and that it lists exactly the runs in use.
fn validate_manifest(
    core: &Core,
    manifest: &Manifest,
    in_shards: &BTreeMap<u64, RunMeta>,
    complaints: &mut Vec<String>,
) {
    let body = &manifest.body;
    if let Err(what) = body.check() {
        complaints.push(format!("the manifest contradicts itself: {what}"));
    }
    let listed: BTreeMap<u64, RunMeta> =
        body.runs.iter().map(|run| (run.id, run.clone())).collect();
    if listed != *in_shards {
        let (listed, used) = (listed.keys(), in_shards.keys());
        complaints.push(format!("the manifest lists runs {listed:?}, and {used:?} are in use"));
    }
    if !manifest.in_flight.is_empty() {
        complaints.push(format!("nobody writes the runs in flight: {:?}", manifest.in_flight));
    }
    let end = core.log.end();
    if body.flushed.iter().any(|flushed| *flushed > end) {
        complaints.push(format!("flushed up to {:?}, and the log ends at {end:?}", body.flushed));
    }
    let gone = body.full_segments.iter().find(|meta| !core.log.has_segment(meta.number));
    if let Some(meta) = gone {
        complaints.push(format!("the manifest lists a segment that is gone: {meta:?}"));
    }
    let (sequence, reserved) = (&core.sequence, &core.sequences_reserved);
    let (sequence, reserved) = (sequence.load(Ordering::Acquire), reserved.load(Ordering::Acquire));
    if body.sequence != reserved || sequence > reserved {
        let said = body.sequence;
        complaints
            .push(format!("sequences below {reserved} reserved, {said} written, {sequence} next"));
    }
}
