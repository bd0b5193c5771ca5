//! Taking a snapshot (I15): the log at one moment, part by part, then the index, which makes it one.
//!
//! Only the log is copied. Blocks, filters and locator files are built again from it when the restored store is opened,
//! as after the loss of the sled folder (I10): that way is tested at every crash, and a copy of sled's files while sled
//! writes to them would be worth nothing.

mod moment;
mod prune;
mod restore;

pub(crate) use restore::restore;

use crate::engine::catalog::manifest::Origin;
use crate::engine::core::Core;
use crate::engine::recovery::snapshot::moment::Moment;
use crate::error::{Error, Result};
use crate::id::Seed;
use crate::snapshot::{
    Head, Id, Index, Part, SnapshotInfo, SnapshotOptions, SnapshotReport, SnapshotTarget,
    index_name, numbers, part_names, read_index,
};
use std::collections::BTreeSet;
use std::path::Path;

/// Takes a snapshot. Claims go on; no lock is held while the target is called (I9).
pub(in crate::engine) fn snapshot(
    core: &Core,
    target: &dyn SnapshotTarget,
    options: SnapshotOptions,
) -> Result<SnapshotReport> {
    core.health.check()?;
    let base = newest(target)?;
    let origin = core.manifest.lock().body.origin;
    if let Some((_, index)) = &base {
        check_may_follow(&index.head, core.seed, origin)?;
    }
    let (parent, base) = base.map_or(([0; 32], None), |(id, index)| (id, Some(index)));
    let moment = Moment::of(core)?;
    core.log.sync_to(moment.cut.end)?;
    let number = base.as_ref().map_or(0, |base| base.head.number) + 1;
    let (mut parts, mut sent, mut sent_bytes) = (Vec::new(), 0, 0);
    let last = moment.cut.end.segment();
    let there = part_names(target)?;
    let sending = Sending { core, target, base: base.as_ref(), there, number };
    for (segment, end) in moment.cut.segments() {
        core.health.check()?;
        let part = sending.part(segment, end, segment != last)?;
        if part.sent == number {
            sent += 1;
            sent_bytes += u64::from(part.bytes);
        }
        parts.push(part);
    }
    let index =
        Index { head: head(core, &moment, number, parent, origin), manifest: Vec::new(), parts };
    let index = Index { manifest: moment.body.encode(core.settings.format.manifest)?, ..index };
    drop(moment);
    put_index(target, &index)?;
    let removed = match options.keep_last {
        Some(keep) => prune::prune(target, &index, keep)?,
        None => 0,
    };
    let SnapshotInfo { epoch, segments, bytes, .. } = SnapshotInfo::of(&index);
    let (segments_sent, bytes_sent) = (sent, sent_bytes);
    Ok(SnapshotReport { number, epoch, segments, segments_sent, bytes, bytes_sent, removed })
}

fn head(core: &Core, moment: &Moment<'_>, number: u64, parent: Id, origin: Option<Origin>) -> Head {
    Head {
        number,
        parent,
        seed: core.seed.0,
        copy: origin.map_or([0; 16], |origin| origin.copy),
        epoch: origin.map_or(0, |origin| origin.epoch),
        taken_ms: moment.body.time.map_or(0, |mark| mark.high),
        end: (moment.cut.end.segment(), moment.cut.end.offset()),
    }
}

fn newest(target: &dyn SnapshotTarget) -> Result<Option<(Id, Index)>> {
    numbers(target)?.last().map(|number| read_index(target, *number)).transpose()
}

/// Checks that a snapshot of this store may come after the newest one in its place: that of this copy, or of one that it
/// has replaced.
fn check_may_follow(head: &Head, seed: Seed, origin: Option<Origin>) -> Result<()> {
    let (copy, epoch) = origin.map_or(([0; 16], 0), |origin| (origin.copy, origin.epoch));
    if head.seed != seed.0 {
        let what = "the place holds snapshots of another store: give each store a place of its own";
        return Err(Error::invalid(what));
    }
    if head.epoch > epoch {
        return Err(Error::invalid(format!(
            "another copy of this store was restored with epoch {} and has stored a snapshot here; this copy has epoch \
             {epoch} and is not the one that goes on",
            head.epoch
        )));
    }
    if head.epoch == epoch && head.copy != copy {
        return Err(Error::invalid(format!(
            "another copy of this store has the same epoch, {epoch}, and has stored a snapshot here: give each restore \
             an epoch of its own, and each copy that goes on a place of its own"
        )));
    }
    Ok(())
}

/// A snapshot that is being sent.
struct Sending<'a> {
    core: &'a Core,
    target: &'a dyn SnapshotTarget,
    /// The snapshot before it.
    base: Option<&'a Index>,
    there: BTreeSet<String>,
    number: u64,
}

impl Sending<'_> {
    /// Returns a segment as a part that is in the place: the one of the snapshot before if it is the same, byte for byte.
    fn part(&self, segment: u32, end: u32, is_full: bool) -> Result<Part> {
        let Self { core, target, base, ref there, number } = *self;
        let is_same = |part: &&Part| part.bytes == end && there.contains(&part.name());
        let known = base.and_then(|base| base.part(segment)).filter(is_same);
        if let Some(part) =
            known.filter(|part| is_full && core.copies.hash(segment) == Some(part.hash))
        {
            return Ok(part.clone());
        }
        let image = core.log.image(segment, end, is_full)?;
        let hash = *blake3::hash(&image).as_bytes();
        if is_full {
            core.copies.note_hash(segment, hash);
        }
        if let Some(part) = known.filter(|part| part.hash == hash) {
            return Ok(part.clone());
        }
        let part = Part { segment, bytes: end, hash, sent: number };
        let name = part.name();
        let put = target.put_new(&name, &image);
        if !put.map_err(|e| Error::io("write", Path::new(&name), e))? {
            // Sent by a snapshot of this number that was interrupted.
            part.fetch(target)?;
        }
        Ok(part)
    }
}

/// Stores the index. From then on the snapshot exists.
fn put_index(target: &dyn SnapshotTarget, index: &Index) -> Result<()> {
    let (number, name) = (index.head.number, index_name(index.head.number));
    let put = target.put_new(&name, &index.encode()?);
    let is_new = put.map_err(|e| Error::io("write", Path::new(&name), e))?;
    // With `keep_last`, others may have stored later ones meanwhile and removed what was under this number.
    let is_newest = is_new && numbers(target)?.last() == Some(&number);
    if is_newest { Ok(()) } else { Err(Error::SnapshotOvertaken) }
}
