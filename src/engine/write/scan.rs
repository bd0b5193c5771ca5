//! A family of rows as it was at one moment, while commits go on.

use crate::blocks::BlockFault;
use crate::engine::core::{Core, Durability, ScanGuard};
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::engine::write::rows::{Row, read_value};
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{Family, Key, NsId};
use crate::memtable::Memtable;
use crate::run::{MergeCursor, Merged, Source};
use crate::time::Timestamp;
use crate::wal::ItemAt;
use std::ops::ControlFlow;

/// Passes every row under this number, that of a family in a namespace, that is live now to `visit`, as all of them are at this moment, in no
/// meaningful order, until that says stop. One whose value is damaged is passed as an error. What is passed is as safe as
/// asked. No lock is held meanwhile (I9).
///
/// What was superseded since stays in the log until the scan is over: compaction waits.
pub(in crate::engine) fn scan_rows(
    core: &Core,
    of: NsId,
    durability: Durability,
    mut visit: impl FnMut(Key<'_>, Result<Row>) -> ControlFlow<()>,
) -> Result<()> {
    core.health.check()?;
    let (scan, now) = begin(core, of.family());
    let all = AllRows { core, scan: &scan, of, now };
    let scanned = await_durable(core, durability, Some(RestsOn::others(core.log.end())))
        .map_err(Ended::Failed)
        .and_then(|()| {
            (0..core.shards.len()).try_for_each(|shard| all.of_shard(shard, &mut visit))
        });
    drop(scan);
    core.signals.maintain.raise();
    match scanned {
        Ok(()) | Err(Ended::ByVisitor) => Ok(()),
        Err(Ended::Failed(error)) => Err(error),
    }
}

/// Why a scan ended before the last row.
enum Ended {
    ByVisitor,
    Failed(Error),
}

impl From<BlockFault> for Ended {
    fn from(fault: BlockFault) -> Self {
        Self::Failed(fault.into())
    }
}

/// The rows that a scan passes.
struct AllRows<'a> {
    core: &'a Core,
    scan: &'a ScanGuard<'a>,
    /// The namespace in their keys, with the family.
    of: NsId,
    now: Timestamp,
}

fn begin(core: &Core, family: Family) -> (ScanGuard<'_>, Timestamp) {
    // Who is removing segments has not heard of this scan.
    let _nothing_is_removed = core.segment_gc_lock.read();
    let _all: Vec<_> = core.shards.iter().map(|cell| cell.shard.lock()).collect();
    (core.scans.begin(family, core.shards.len()), core.time.now())
}

impl AllRows<'_> {
    fn of_shard(
        &self,
        shard: usize,
        visit: &mut impl FnMut(Key<'_>, Result<Row>) -> ControlFlow<()>,
    ) -> std::result::Result<(), Ended> {
        let (core, family) = (self.core, self.of.family());
        let rows = |set: &Memtable| Source::memtable(set, core.hasher, family);
        let (runs, mut sources, mut before) = {
            let locked = core.shards[shard].shard.lock();
            let frozen = locked.frozen.as_ref().map(|frozen| rows(&frozen.set));
            let sources = std::iter::once(rows(&locked.memtable)).chain(frozen);
            let runs = locked.row_runs.iter().filter(|run| run.meta.family == family);
            let runs: Vec<_> = runs.cloned().collect();
            (runs, sources.collect::<Vec<_>>(), self.scan.take(shard))
        };
        for run in &runs {
            core.heal(&run.meta, "a scan reads everything", None).map_err(Ended::Failed)?;
        }
        sources.extend(runs.iter().map(|run| core.source(run)));
        MergeCursor::new(sources).for_each(|entry: Merged<'_>| {
            if entry.key.ns != self.of {
                return Ok(());
            }
            let known = entry.item().map(|at| (entry.version, at));
            let changed = if before.is_empty() {
                None
            } else {
                before.remove(&(entry.key.ns, entry.key.id.into()))
            };
            self.pass(entry.key, changed.unwrap_or(known), visit)
        })?;
        // Rows that have gone altogether.
        let gone = before.iter().filter(|((ns, _), _)| *ns == self.of);
        for ((ns, id), known) in gone {
            self.pass(Key { ns: *ns, id }, *known, visit)?;
        }
        Ok(())
    }

    /// Passes a row as it was when the scan began.
    fn pass(
        &self,
        key: Key<'_>,
        known: Option<(Version, ItemAt)>,
        visit: &mut impl FnMut(Key<'_>, Result<Row>) -> ControlFlow<()>,
    ) -> std::result::Result<(), Ended> {
        let Some((version, at)) = known else { return Ok(()) };
        // What is not in the log any more was superseded before.
        if !version.is_live(self.now) || !self.core.log.has_segment(at.end.segment()) {
            return Ok(());
        }
        let row = read_value(self.core, key, version, at).map(|value| Row::of(value, version));
        match visit(key, row) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Ended::ByVisitor),
        }
    }
}
