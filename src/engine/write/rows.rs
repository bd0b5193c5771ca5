//! Rows: keys with a value, each with a version of its own. Everything that the store keeps besides claims is a row.
//!
//! The value stays in the log, where its record is; the index knows version and location. `commit.rs` writes rows.

use crate::engine::core::{Core, Durability, Replay, RowState, ShardCell, note_watermark};
use crate::engine::write::backpressure::{WaitBudget, heal_in_time};
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{Family, IdHash, Key, NsId};
use crate::memtable::Memtable;
use crate::run::{MergeCursor, Merged, Source};
use crate::shard::{KnownRow, RowLookup};
use crate::sync::{Arc, lock_awake};
use crate::time::Timestamp;
use crate::wal::{ItemAt, decode_row};

/// A live row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) value: Vec<u8>,
    /// The number of the write that set it. Numbers only grow, also over restarts and repairs.
    pub(crate) sequence: u64,
    pub(crate) deadline: Timestamp,
}

impl Row {
    pub(super) fn of(value: Vec<u8>, Version { rank: sequence, deadline, .. }: Version) -> Self {
        Self { value, sequence, deadline }
    }
}

/// Returns the key of a row.
pub(in crate::engine) fn row_key(family: Family, ns: NsId, id: &[u8]) -> Result<Key<'_>> {
    let key = Key::of(ns, id, None)?;
    Ok(Key { ns: key.ns.rows(family), ..key })
}

/// Returns the version of a row that counts, live or not.
pub(super) fn known_row(
    core: &Core,
    key: Key<'_>,
    hash: IdHash,
    wait_budget: &mut WaitBudget,
) -> Result<Option<KnownRow>> {
    loop {
        let found = core.look_row(&mut lock_awake(&core.cell(hash).shard), key, hash);
        match found {
            RowLookup::Unknown => return Ok(None),
            RowLookup::Known(known) => return Ok(Some(known)),
            RowLookup::Damaged(run, fault) => {
                heal_in_time(core, &run, &fault, hash, wait_budget)?;
            }
        }
    }
}

/// Returns a live row, as safe as asked; that there is none is as safe, too. A value that cannot be read is an error,
/// never an absent row (I11).
pub(in crate::engine) fn get_row(
    core: &Core,
    key: Key<'_>,
    durability: Durability,
) -> Result<Option<Row>> {
    let (row, rests_on) = get_row_only(core, key)?;
    await_durable(core, durability, rests_on)?;
    Ok(row)
}

/// Returns a live row, and without waiting for it what its durability rests on.
pub(in crate::engine) fn get_row_only(
    core: &Core,
    key: Key<'_>,
) -> Result<(Option<Row>, Option<RestsOn>)> {
    core.health.check()?;
    let hash = core.hash(key);
    let mut wait_budget = WaitBudget::default();
    let mut failed: Option<(ItemAt, Error)> = None;
    loop {
        let Some(known) = known_row(core, key, hash, &mut wait_budget)? else {
            return Ok((None, None));
        };
        if !known.version.is_live(core.horizon()) {
            return Ok((None, rests_on(core, &known)));
        }
        if let Some((_, error)) = failed.take_if(|(at, _)| *at == known.at) {
            return Err(error);
        }
        match read_value(core, key, known.version, known.at) {
            Ok(value) => {
                return Ok((Some(Row::of(value, known.version)), rests_on(core, &known)));
            }
            // Compaction may have moved it since the lookup; if it has not, this is the answer.
            Err(error) => failed = Some((known.at, error)),
        }
    }
}

/// Returns the record that an answer about this row depends on. An item may end before its record does, so it is the
/// end of the log.
pub(super) fn rests_on(core: &Core, known: &KnownRow) -> Option<RestsOn> {
    (!known.is_flushed).then(|| RestsOn::others(core.log.end()))
}

/// Reads the value of a row at its location, and checks that it is that of this write.
pub(super) fn read_value(
    core: &Core,
    key: Key<'_>,
    version: Version,
    at: ItemAt,
) -> Result<Vec<u8>> {
    if !core.log.is_mapped() {
        core.log.flush()?;
    }
    let path = || core.log.segment_path(at.end.segment());
    let (segment_version, mut item) =
        core.ids.read_item(at).map_err(|e| Error::io("read", &path(), e))?;
    match decode_row(&item, segment_version) {
        Some((found, stored, value)) if found == key && stored == version => {
            // The value is the end of the item.
            let begin = item.len() - value.len();
            item.drain(..begin);
            Ok(item)
        }
        _ => {
            let offset = u64::from(at.end.offset()) - u64::from(at.len);
            let what = "the value of a row does not match its checksum";
            Err(Error::corrupt(&path(), offset, what))
        }
    }
}

/// Attaches what a family keeps in memory, and tells it every live row. Commits of the family must not run meanwhile.
pub(in crate::engine) fn attach(core: &Core, family: Arc<dyn Replay>) -> Result<()> {
    list_rows(core, family.family(), |key, row| {
        let Row { value, sequence, deadline } = &row?;
        let (sequence, deadline) = (*sequence, *deadline);
        family.apply(key, Some(RowState { value, sequence, deadline }), None);
        Ok(())
    })?;
    core.families.attach(family);
    Ok(())
}

/// Notes the watermarks that are in runs: opening has read those in the log.
pub(in crate::engine) fn note_flushed_watermarks(core: &Core) -> Result<()> {
    let is_flushed = |cell: &ShardCell| {
        cell.shard.lock().row_runs.iter().any(|run| run.meta.family == Family::WATERMARKS)
    };
    if !core.shards.iter().any(|cell| is_flushed(cell)) {
        return Ok(());
    }
    list_rows(core, Family::WATERMARKS, |key, row| {
        // One that cannot be read ends nothing: rows live longer.
        let value = row.map(|row| row.value).unwrap_or_default();
        note_watermark(core.families.watermarks(), key, &value);
        Ok(())
    })
}

/// Returns what is attached of this type. If nothing is, attaches what `new` returns, as [`attach`] does: who writes rows
/// of the family calls this first.
pub(in crate::engine) fn attach_once<T: Replay>(
    core: &Core,
    new: impl FnOnce() -> T,
) -> Result<Arc<T>> {
    if let Some(found) = core.families.find() {
        return Ok(found);
    }
    let _attaching = core.families.lock();
    if let Some(found) = core.families.find() {
        return Ok(found);
    }
    let family = Arc::new(new());
    attach(core, Arc::<T>::clone(&family))?;
    Ok(family)
}

/// Passes every live row of a family to `visit`, in no meaningful order: key, value and sequence. One whose value is
/// damaged is passed as an error. No lock is held meanwhile (I9); rows written since may or may not be seen. Reads the
/// runs of this family only.
pub(in crate::engine) fn list_rows(
    core: &Core,
    family: Family,
    mut visit: impl FnMut(Key<'_>, Result<Row>) -> Result<()>,
) -> Result<()> {
    core.health.check()?;
    let rows = |set: &Memtable| Source::memtable(set, core.hasher, family);
    for cell in &core.shards {
        let (runs, mut sources) = {
            let shard = cell.shard.lock();
            let frozen = shard.frozen.as_ref().map(|frozen| rows(&frozen.set));
            let sources = std::iter::once(rows(&shard.memtable)).chain(frozen);
            let runs = shard.row_runs.iter().filter(|run| run.meta.family == family);
            (runs.cloned().collect::<Vec<_>>(), sources.collect::<Vec<_>>())
        };
        for run in &runs {
            core.heal(&run.meta, "a list reads everything", None)?;
        }
        sources.extend(runs.iter().map(|run| core.source(run)));
        let gone = core.namespaces.gone();
        MergeCursor::new(sources).for_each(|entry: Merged<'_>| -> Result<()> {
            if !entry.version.is_live(core.horizon()) || gone.has(entry.key.ns) {
                return Ok(());
            }
            let found =
                entry.item().and_then(|at| read_value(core, entry.key, entry.version, at).ok());
            if let Some(value) = found {
                return visit(entry.key, Ok(Row::of(value, entry.version)));
            }
            // Compaction may have moved it since.
            match get_row(core, entry.key, Durability::Buffered) {
                Ok(Some(row)) => visit(entry.key, Ok(row)),
                Ok(None) => Ok(()),
                // One row is damaged; the others are not.
                Err(error @ Error::Corrupt { .. }) => visit(entry.key, Err(error)),
                Err(error) => Err(error),
            }
        })?;
    }
    Ok(())
}
