//! Log compaction: a segment is removed once nothing in it is live. If little is live, that is first copied to the
//! tail, so that one year-long claim does not pin a year of segments.
//!
//! A copy at the tail changes no answer: records are joined, and a copy equals its original. A row is copied only while
//! it counts, and then the index leads to the copy: its value is nowhere else.
//!
//! A tombstone of a row is kept as long as the log may hold an older version of the row. Older versions are at lower
//! locations: only the version that counts is ever copied to the tail. So tombstones in the oldest segment are dropped, and
//! those in the next ones if all before them are removed at the same moment.
//!
//! A row may have ended and still be kept, because an earlier version of it lives longer. It is copied as a tombstone.

use crate::engine::core::Core;
use crate::engine::upkeep::latest_rows::{FoundRow, LatestRows};
use crate::error::Result;
use crate::expiry::{Horizon, Version};
use crate::id::{IdHash, Key};
use crate::shard::{RowLookup, Space};
use crate::sync::MutexGuard;
use crate::wal::{
    AppendLevel, Commit, Item, ItemAt, NamespaceRecord, ReadSegment, RecordRewriter, SegmentMeta,
};

/// What to do with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SegmentAction {
    Keep,
    /// Copy what is live to the tail, then remove.
    Rewrite,
    Remove,
}

/// Decides what to do with a segment.
fn action(segment: &SegmentMeta, is_oldest: bool, now: Horizon<'_>) -> SegmentAction {
    if segment.is_dead(now) {
        SegmentAction::Remove
    } else if segment.is_worth_rewriting(now, is_oldest) {
        SegmentAction::Rewrite
    } else {
        SegmentAction::Keep
    }
}

/// Bytes copied to the tail before the manifest is written: the tail should not grow in a burst. A manifest costs a
/// sync, so segments with little left in them share one.
const COPIED_AT_ONCE: u64 = 1 << 20;

/// Removes or rewrites segments whose ids are all flushed. Returns whether there was one.
pub(super) fn compact(core: &Core) -> Result<bool> {
    if core.scans.is_any() {
        return Ok(false);
    }
    let first = core.manifest.lock().body.first_segment();
    let now = core.horizon();
    let (mut gone, mut copied) = (Vec::new(), 0);
    let closed = core.log.closed();
    for (n, segment) in closed.iter().filter(|segment| segment.number < first).enumerate() {
        // Of those that will be left: they go together.
        let is_oldest = gone.len() == n;
        match action(segment, is_oldest, now) {
            SegmentAction::Keep => {}
            SegmentAction::Remove => gone.push(segment.number),
            SegmentAction::Rewrite if copied < COPIED_AT_ONCE => {
                copied += segment.live_estimate(now, is_oldest);
                let read = core.log.read(segment.number)?;
                let mut others = Others::default();
                if rewrite_rows(core, &read, &mut others, is_oldest, now)? == Rewritten::InPart {
                    core.signals.flush.raise();
                    break;
                }
                rewrite_others(core, &read, others, now)?;
                gone.push(segment.number);
            }
            SegmentAction::Rewrite => break,
        }
    }
    if gone.is_empty() {
        return Ok(false);
    }
    // Copies first (`publish_manifest` syncs the log), then the manifest without the segments, then the files: a crash
    // in between leaves a segment too many, never one too few.
    let _nobody_reads = core.segment_gc_lock.write();
    if core.scans.is_any() {
        // It began meanwhile, and may read what is superseded now.
        return Ok(false);
    }
    let closed = core.log.closed();
    // Forget them only inside this publication, after its sync. A manifest synced before the copies were made would
    // drop the segments while their copies are not on disk.
    if let Err(e) = core.publish_manifest(|_| core.log.forget(&gone)) {
        core.log.remember(&closed);
        return Err(e);
    }
    for number in &gone {
        // A snapshot that is still to copy it removes it then.
        if core.copies.may_go(*number) {
            core.log.remove_file(*number)?;
        }
        core.ids.forget(*number);
    }
    core.counters.segments_removed.add(gone.len() as u64);
    Ok(true)
}

/// How much of a segment was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rewritten {
    All,
    /// The memtables are full: the rest is copied after a flush. What was copied counts at its new location.
    InPart,
}

/// Copies the rows that count. Each is entered at its new location, so this may stop early and begin again.
fn rewrite_rows<'a>(
    core: &Core,
    segment: &'a ReadSegment,
    others: &mut Others<'a>,
    is_oldest: bool,
    now: Horizon<'_>,
) -> Result<Rewritten> {
    let mut rewritten = Rewritten::All;
    let gone = core.namespaces.gone();
    let mut latest = LatestRows::default();
    segment.scan(|at, item| match item {
        Item::Version(..) | Item::Namespace(_) => {
            others.add(item);
            Ok(())
        }
        Item::Row { version, .. } if version.is_spent(now) => Ok(()),
        Item::Row { key, .. } if gone.has(key.ns) => Ok(()),
        Item::Row { .. } if rewritten == Rewritten::InPart => Ok(()),
        Item::Row { key, version, value, len } => {
            let (hash, at) = (core.hash(key), ItemAt { end: at.item, len });
            latest.add(FoundRow { key, hash, version, value, at });
            if latest.is_full() {
                rewritten = rewrite_latest(core, latest.take(), is_oldest, now)?;
            }
            Ok(())
        }
    })?;
    match rewritten {
        Rewritten::All => rewrite_latest(core, latest.take(), is_oldest, now),
        Rewritten::InPart => Ok(Rewritten::InPart),
    }
}

/// Copies those of some rows that count.
fn rewrite_latest(
    core: &Core,
    mut rows: Vec<FoundRow<'_>>,
    is_oldest: bool,
    now: Horizon<'_>,
) -> Result<Rewritten> {
    rows.retain(|row| !is_oldest || row.version.is_live(now));
    for FoundRow { key, version, value, at, .. } in still_counting(core, rows) {
        let is_live = version.is_live(now);
        let (version, value) =
            if is_live { (version, value) } else { (version.without_value(), &[][..]) };
        if rewrite_row(core, key, version, value, at)? == Rewritten::InPart {
            return Ok(Rewritten::InPart);
        }
    }
    Ok(Rewritten::All)
}

/// Returns those of some rows that may count: it is looked at again under their locks.
fn still_counting<'a>(core: &Core, rows: Vec<FoundRow<'a>>) -> Vec<FoundRow<'a>> {
    let hashes: Vec<IdHash> = rows.iter().map(|row| row.hash).collect();
    let mut counts = vec![true; rows.len()];
    core.in_groups(&hashes, |shard, group| {
        group.iter().for_each(|n| shard.prefetch_row(rows[*n].key, hashes[*n]));
        group.iter().for_each(|n| shard.prefetch_entry(hashes[*n]));
        for n in group {
            let known = core.look_row(shard, rows[*n].key, hashes[*n]);
            counts[*n] = !matches!(known, RowLookup::Known(known) if known.at != rows[*n].at);
        }
    });
    rows.into_iter().zip(counts).filter_map(|(row, counts)| counts.then_some(row)).collect()
}

/// Copies a row to the tail if it is the one that counts.
fn rewrite_row(
    core: &Core,
    key: Key<'_>,
    version: Version,
    value: &[u8],
    item: ItemAt,
) -> Result<Rewritten> {
    let hash = core.hash(key);
    let mut commit = Commit::default();
    commit.push_row(key, version, value);
    commit.seal();
    let mut shard = core.cell(hash).shard.lock();
    loop {
        match core.look_row(&mut shard, key, hash) {
            RowLookup::Known(known) if known.at != item => return Ok(Rewritten::All),
            RowLookup::Damaged(run, fault) => {
                MutexGuard::unlocked(&mut shard, || core.heal(&run, &fault, None))?;
            }
            // Where nothing else is known of it, the log is the truth.
            RowLookup::Known(_) | RowLookup::Unknown => break,
        }
    }
    match shard.make_space(1, key.id.len(), || core.log.end()) {
        Space::Free => {}
        Space::Froze => core.signals.flush.raise(),
        Space::Full => return Ok(Rewritten::InPart),
    }
    let lsn = core.log.append_commit(AppendLevel::Process, &commit, &[item])?;
    for at in commit.places(lsn) {
        shard.memtable.put_row(key, hash, version, at);
    }
    core.counters.ids_rewritten.add(1);
    Ok(Rewritten::All)
}

/// Most items other than rows that are kept from one pass over a segment. With more, another pass reads them.
const OTHERS_MAX: usize = 4_096;

/// The items of a segment that are not rows, while they are few.
#[derive(Debug, Default)]
struct Others<'a> {
    items: Vec<Item<'a>>,
    are_more: bool,
}

impl<'a> Others<'a> {
    fn add(&mut self, item: Item<'a>) {
        if self.items.len() < OTHERS_MAX {
            self.items.push(item);
        } else {
            self.are_more = true;
        }
    }
}

/// Copies claims and namespaces, once all rows are: a rewrite that begins again copies none of them twice.
fn rewrite_others(
    core: &Core,
    segment: &ReadSegment,
    others: Others<'_>,
    now: Horizon<'_>,
) -> Result<()> {
    let mut copies = RecordRewriter::new(&core.log);
    let gone = core.namespaces.gone();
    let mut rewrite = |item: Item<'_>| match item {
        Item::Version(_, version) if version.is_spent(now) => Ok(()),
        Item::Version(key, _) if gone.has(key.ns) => Ok(()),
        Item::Version(key, version) => copies.push(key, version),
        Item::Row { .. } => Ok(()),
        // Write the current settings: those in the record may be older.
        Item::Namespace(record) => rewrite_namespace(core, &record),
    };
    if others.are_more {
        segment.scan(|_, item| rewrite(item))?;
    } else {
        others.items.into_iter().try_for_each(rewrite)?;
    }
    core.counters.ids_rewritten.add(copies.finish()?);
    Ok(())
}

fn rewrite_namespace(core: &Core, record: &NamespaceRecord<'_>) -> Result<()> {
    let Some(meta) = core.namespaces.registration(record.ns) else { return Ok(()) };
    let (ns, ttl, name) = (meta.id, meta.ttl(), meta.name.as_bytes());
    let record = NamespaceRecord { ns, ttl, sliding: meta.sliding, name };
    core.log.append_namespace(&record).map(drop)
}
