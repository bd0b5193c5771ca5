//! The integrity check: reads everything once and checks log, blocks and filters against each other.

use crate::engine::core::{Core, segments};
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{IdHash, Key};
use crate::run::{Merged, RunAccess, RunReader};
use crate::shard::{KnownRow, Lookup, RowLookup, RunHandle};
use crate::wal::{Item, ItemAt};
use serde::Serialize;
use std::fmt;

/// What an integrity check found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Log segments read.
    pub segments: u64,
    /// Records of ids read in the log.
    pub log_records: u64,
    /// Flushed runs read.
    pub runs: u64,
    /// Blocks read.
    pub blocks: u64,
    /// Entries read in blocks.
    pub block_entries: u64,
    /// What is wrong, for people. Empty if the store is sound.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Returns whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "log       {} records in {}", self.log_records, segments(self.segments))?;
        writeln!(
            f,
            "flushed   {} entries in {} blocks of {} runs",
            self.block_entries, self.blocks, self.runs
        )?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "problem   {problem}"))?;
        write!(f, "{}", if self.is_sound() { "sound" } else { "NOT SOUND" })
    }
}

/// What a record or a block says of a key; with the item if that is a row.
#[derive(Debug, Clone, Copy)]
struct Said<'a> {
    key: Key<'a>,
    version: Version,
    item: Option<ItemAt>,
}

/// At most this many problems are listed; further ones are dropped.
const PROBLEMS_MAX: usize = 100;

impl VerifyReport {
    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }
}

/// Reads the whole store while claims go on. Changes nothing and heals nothing.
pub(in crate::engine) fn verify(core: &Core) -> Result<VerifyReport> {
    core.health.check()?;
    let mut report = VerifyReport::default();
    // Keep runs from being replaced while they are read.
    let _structure = core.compaction_lock.lock();
    for cell in &core.shards {
        let runs: Vec<RunHandle> = cell.shard.lock().all_runs().cloned().collect();
        for run in &runs {
            verify_run(core, run, &mut report);
        }
    }
    let _nothing_is_removed = core.segment_gc_lock.read();
    for number in core.log.segments() {
        report.segments += 1;
        match verify_segment(core, number, &mut report) {
            Err(e @ Error::Corrupt { .. }) => report.problem(e.to_string()),
            other => other?,
        }
    }
    Ok(report)
}

/// Checks that every block is there and whole, every id is where its hash says, and the filter covers it (I2). Returns
/// how many ids the filter does not cover.
pub(super) fn verify_run(core: &Core, run: &RunHandle, report: &mut VerifyReport) -> u64 {
    let mut uncovered_in_run = 0;
    report.runs += 1;
    let meta = &run.meta;
    let reader = RunReader::new(&*core.blocks, meta, core.seed, core.hasher);
    for bucket in 0..meta.buckets {
        report.blocks += 1;
        let (mut entries, mut astray) = (0, 0);
        let mut uncovered = Vec::new();
        let read = reader.bucket(bucket, |entry| {
            let Merged { hash, key, .. } = entry;
            entries += 1;
            let here = hash.shard(core.shard_bits) == usize::from(meta.shard)
                && hash.bucket(meta.buckets) == bucket;
            astray += u64::from(!here);
            if !run.filter.may_contain(hash) {
                uncovered.push((hash, key.ns, key.id.to_vec(), entry.version, entry.item()));
            }
        });
        report.block_entries += entries;
        let name = format!("block {bucket} of run {}", meta.id);
        if let Err(fault) = read {
            report.problem(format!("{name}: {} (heals at the next read)", fault.what));
        }
        // A healed block may hold ids that the run never had, because healing reads the log. Such an id is sound if it
        // is found elsewhere, if compaction has dropped it since, or if it has ended: opening keeps no ended ids.
        let (now, gone) = (core.horizon(), core.namespaces.gone());
        uncovered.retain(|(hash, ns, id, version, item)| {
            let said = Said { key: Key { ns: *ns, id }, version: *version, item: *item };
            let is_dropped = item.is_some_and(|at| !core.log.has_segment(at.end.segment()));
            !is_dropped
                && !gone.has(*ns)
                && !version.is_spent(now)
                && is_missing(core, *hash, said, core.run_access())
        });
        let uncovered = uncovered.len() as u64;
        uncovered_in_run += uncovered;
        if astray + uncovered > 0 {
            let what = format!("{astray} ids in the wrong block, {uncovered} not in the filter");
            report.problem(format!("{name}: {what}"));
        }
    }
    uncovered_in_run
}

/// Checks that every record passes its checksum and that none says more than the store would answer.
fn verify_segment(core: &Core, number: u32, report: &mut VerifyReport) -> Result<()> {
    let (now, gone) = (core.horizon(), core.namespaces.gone());
    core.log.scan(number, |at, item| {
        let said = match item {
            Item::Version(key, version) => Said { key, version, item: None },
            Item::Row { key, version, len, .. } => {
                Said { key, version, item: Some(ItemAt { end: at.item, len }) }
            }
            Item::Namespace(_) => return Ok(()),
        };
        report.log_records += 1;
        if said.version.is_spent(now) || gone.has(said.key.ns) {
            return Ok(());
        }
        // Look in the blocks only: comparing the log with itself proves nothing.
        let in_blocks = RunAccess { in_log: None, ..core.run_access() };
        // Expired since: flushing leaves such records out, and expiry drops them.
        if is_missing(core, core.hash(said.key), said, in_blocks)
            && !said.version.is_spent(core.horizon())
        {
            report.problem(format!("a record in segment {number} is in no memtable or run"));
        }
        Ok(())
    })
}

/// Returns whether a lookup finds neither what was said of a key nor what supersedes it. A damaged block is reported
/// with its run.
fn is_missing(core: &Core, hash: IdHash, said: Said<'_>, access: RunAccess<'_>) -> bool {
    let Said { key, version, item } = said;
    let mut shard = core.cell(hash).shard.lock();
    let Some(at) = item else {
        return match shard.lookup(key, hash, access) {
            Lookup::Known(known) => known.version.join(version) != known.version,
            Lookup::Unknown => true,
            Lookup::Damaged(..) => false,
        };
    };
    let here = KnownRow { version, at, is_flushed: true };
    match shard.lookup_row(key, hash, access) {
        RowLookup::Known(known) => known.join(here).at != known.at,
        // A tombstone is dropped together with the oldest segment.
        RowLookup::Unknown => !version.is_tombstone(),
        RowLookup::Damaged(..) => false,
    }
}
