//! A family of rows as it was at one moment, while commits go on.

use crate::engine::core::{Core, ScanGuard};
use crate::engine::write::rows::{Row, read_value};
use crate::error::Result;
use crate::expiry::Version;
use crate::id::{Family, Key};
use crate::memtable::Memtable;
use crate::run::{MergeCursor, Merged, Source};
use crate::time::Timestamp;
use crate::wal::ItemAt;

/// Passes every row of a family that is live now to `visit`, as all of them are at this moment, in no meaningful order.
/// One whose value is damaged is passed as an error. No lock is held meanwhile (I9).
///
/// What was superseded since stays in the log until the scan is over: compaction waits.
pub(in crate::engine) fn scan_rows(
    core: &Core,
    family: Family,
    mut visit: impl FnMut(Key<'_>, Result<Row>) -> Result<()>,
) -> Result<()> {
    core.health.check()?;
    let (scan, now) = begin(core, family);
    let mut shards = 0..core.shards.len();
    let scanned =
        shards.try_for_each(|shard| scan_shard(core, &scan, shard, family, now, &mut visit));
    drop(scan);
    core.signals.maintain.raise();
    scanned
}

fn begin(core: &Core, family: Family) -> (ScanGuard<'_>, Timestamp) {
    // Who is removing segments has not heard of this scan.
    let _nothing_is_removed = core.segment_gc_lock.read();
    let _all: Vec<_> = core.shards.iter().map(|cell| cell.shard.lock()).collect();
    (core.scans.begin(family, core.shards.len()), core.time.now())
}

fn scan_shard(
    core: &Core,
    scan: &ScanGuard<'_>,
    shard: usize,
    family: Family,
    now: Timestamp,
    visit: &mut impl FnMut(Key<'_>, Result<Row>) -> Result<()>,
) -> Result<()> {
    let rows = |set: &Memtable| Source::memtable(set, core.hasher, family);
    let (runs, mut sources, mut before) = {
        let locked = core.shards[shard].shard.lock();
        let frozen = locked.frozen.as_ref().map(|frozen| rows(&frozen.set));
        let sources = std::iter::once(rows(&locked.memtable)).chain(frozen);
        let runs = locked.row_runs.iter().filter(|run| run.meta.family == family);
        (runs.cloned().collect::<Vec<_>>(), sources.collect::<Vec<_>>(), scan.take(shard))
    };
    for run in &runs {
        core.heal(&run.meta, "a scan reads everything", None)?;
    }
    sources.extend(runs.iter().map(|run| core.source(run)));
    let mut pass = |key: Key<'_>, version: Version, at: ItemAt| {
        // What is not in the log any more was superseded before.
        if !version.is_live(now) || !core.log.has_segment(at.end.segment()) {
            return Ok(());
        }
        visit(key, read_value(core, key, version, at).map(|value| Row::of(value, version)))
    };
    MergeCursor::new(sources).for_each(|entry: Merged<'_>| -> Result<()> {
        let known = entry.item().map(|at| (entry.version, at));
        let changed = if before.is_empty() {
            None
        } else {
            before.remove(&(entry.key.ns, entry.key.id.into()))
        };
        match changed.unwrap_or(known) {
            Some((version, at)) => pass(entry.key, version, at),
            None => Ok(()),
        }
    })?;
    // Rows that have gone altogether.
    for ((ns, id), known) in before {
        if let Some((version, at)) = known {
            pass(Key { ns, id: &id }, version, at)?;
        }
    }
    Ok(())
}
