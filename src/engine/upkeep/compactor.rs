//! Log compaction: a segment is removed once nothing in it is live. If little is live, that is first copied to the
//! tail, so that one year-long claim does not pin a year of segments.
//!
//! A copy at the tail changes no answer: records are joined, and a copy equals its original.

use crate::engine::core::Core;
use crate::error::Result;
use crate::time::Timestamp;
use crate::wal::RecordRewriter;
use crate::wal::{Item, NamespaceRecord, SegmentMeta};

/// What to do with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SegmentAction {
    Keep,
    /// Copy what is live to the tail, then remove.
    Rewrite,
    Remove,
}

/// Decides what to do with a segment. It is rewritten if less than half is live: copying then costs less than it frees.
fn action(segment: &SegmentMeta, now: Timestamp) -> SegmentAction {
    match segment.tally.live(now) {
        0 => SegmentAction::Remove,
        live if live * 2 < segment.bytes() => SegmentAction::Rewrite,
        _ => SegmentAction::Keep,
    }
}

/// Removes or rewrites segments whose ids are all flushed. Returns whether there was one.
pub(super) fn compact(core: &Core) -> Result<bool> {
    let first = core.manifest.lock().body.first_segment();
    let now = core.time.now();
    let mut gone = Vec::new();
    for segment in core.log.closed().iter().filter(|segment| segment.number < first) {
        match action(segment, now) {
            SegmentAction::Keep => {}
            SegmentAction::Remove => gone.push(segment.number),
            // One at a time: copies go to the tail, which should not grow in a burst.
            SegmentAction::Rewrite if gone.is_empty() => {
                rewrite(core, segment.number, now)?;
                gone.push(segment.number);
                break;
            }
            SegmentAction::Rewrite => break,
        }
    }
    if gone.is_empty() {
        return Ok(false);
    }
    // Copies first (`publish_manifest` syncs the log), then the manifest without the segments, then the files: a crash in
    // between leaves a segment too many, never one too few.
    let _nobody_reads = core.segment_gc_lock.write();
    let closed = core.log.closed();
    core.log.forget(&gone);
    if let Err(e) = core.publish_manifest(|_| ()) {
        core.log.remember(&closed);
        return Err(e);
    }
    for number in &gone {
        core.log.remove_file(*number)?;
        core.ids.forget(*number);
    }
    core.counters.segments_removed.add(gone.len() as u64);
    Ok(true)
}

fn rewrite(core: &Core, number: u32, now: Timestamp) -> Result<()> {
    let mut copies = RecordRewriter::new(&core.log);
    core.log.scan(number, |_, item| match item {
        Item::Version(_, version) if version.is_spent(now) => Ok(()),
        Item::Version(key, version) => copies.push(key, version),
        // Write the current settings: those in the record may be older.
        Item::Namespace(record) => rewrite_namespace(core, &record),
    })?;
    core.counters.ids_rewritten.add(copies.finish()?);
    Ok(())
}

fn rewrite_namespace(core: &Core, record: &NamespaceRecord<'_>) -> Result<()> {
    let current = core.namespaces.all().into_iter().find(|info| info.id == record.ns);
    let Some(info) = current else { return Ok(()) };
    let record = NamespaceRecord {
        ns: info.id,
        ttl: info.ttl(),
        sliding: info.sliding(),
        name: info.name.as_bytes(),
    };
    core.log.append_namespace(&record).map(drop)
}
