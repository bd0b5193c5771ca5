//! Salvage: every whole record that is still in a folder of segments, for repair.

use crate::error::{Error, Result};
use crate::time::Timestamp;
use crate::wal::folder::{noted_durable, segment_numbers};
use crate::wal::holes;
use crate::wal::item::Item;
use crate::wal::recover::ReplayPlan;
use crate::wal::segment::{DATA_START, Header, Segment, SegmentBytes};
use crate::wal::writer::{Log, LogConfig};
use crate::wal::{At, Lsn};
use std::path::{Path, PathBuf};

/// A range of a segment without a whole record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScanDamage {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// What salvage could not read.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    pub(crate) damages: Vec<ScanDamage>,
    /// Segments that are gone; also listed in `damages`.
    pub(crate) missing: Vec<SalvagedMissing>,
    /// Bytes of the records that were read.
    pub(crate) read_bytes: u64,
}

/// A segment that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SalvagedMissing {
    pub(crate) number: u32,
    pub(crate) path: PathBuf,
    /// Bytes of records it held, if the plan knows.
    pub(crate) bytes: Option<u64>,
}

/// Reads every whole record still in a folder of segments, for repair (I11).
///
/// Continues after damage: the checksum covers a record's location, so the next one can be found by it. The seed of
/// `config` is tried where a segment's own header is damaged. If its base time cannot be restored either, that of the
/// previous segment is used: such claims expire early, as if lost, and none blocks a new id. With a plan, also reports
/// missing segments.
pub(crate) fn salvage(
    config: &LogConfig,
    plan: Option<&ReplayPlan>,
    mut visit: impl FnMut(At, Item<'_>) -> Result<()>,
) -> Result<Salvaged> {
    let Salvaged { mut damages, mut missing, mut read_bytes } = Salvaged::default();
    let mut base = Timestamp::default();
    let numbers = segment_numbers(config)?;
    let mut expected: Vec<u32> =
        plan.map_or(Vec::new(), |plan| plan.known.iter().map(|meta| meta.number).collect());
    let mut durable = plan.map_or(Lsn(0), |plan| plan.durable);
    durable = noted_durable(config, &numbers, durable);
    if durable >= Lsn::new(durable.segment(), DATA_START) {
        expected.push(durable.segment());
    }
    // Only the plan can name the first segment.
    expected.extend(plan.map(|p| p.first).filter(|n| durable >= Lsn::new(*n, DATA_START)));
    for number in numbers.iter().copied() {
        let path = Segment::path(&config.dir, number);
        let raw = config.disk.read(&path).map_err(|e| Error::io("read", &path, e))?;
        let header = match Header::decode(&path, &raw) {
            // It was claimed in another store.
            Ok(header) if header.seed != config.seed => {
                damages.push(ScanDamage { path, offset: 0, bytes: raw.len() as u64 });
                continue;
            }
            Ok(header) if header.number == number => header,
            Err(e) if e.is_of_another_release() => return Err(e),
            _ => {
                let bytes = u64::from(DATA_START).min(raw.len() as u64);
                damages.push(ScanDamage { path: path.clone(), offset: 0, bytes });
                let unknown = config.header(number, base);
                Header::restore(number, config.seed, &raw).unwrap_or(unknown)
            }
        };
        base = header.base;
        if (Header::BYTES..DATA_START as usize).contains(&raw.len()) {
            // As at open: the segment has lost everything it held.
            damages.push(ScanDamage { path: path.clone(), offset: raw.len() as u64, bytes: 0 });
        }
        let mut bytes = SegmentBytes::from_file(header, raw);
        holes::close_all(&mut bytes, durable);
        let (next, read) = salvage_segment(&path, &bytes, durable, &mut visit, &mut damages)?;
        read_bytes += read;
        let first = plan.map_or(0, |plan| plan.first);
        expected.extend(next.filter(|next| *next >= first));
    }
    expected.sort_unstable();
    expected.dedup();
    for number in expected.into_iter().filter(|n| !numbers.contains(n)) {
        let path = Segment::path(&config.dir, number);
        let known = plan.and_then(|plan| plan.known.iter().find(|meta| meta.number == number));
        let held = known.map(|meta| meta.bytes().saturating_sub(u64::from(DATA_START)));
        damages.push(ScanDamage { path: path.clone(), offset: 0, bytes: held.unwrap_or(0) });
        missing.push(SalvagedMissing { number, path, bytes: held });
    }
    Ok(Salvaged { damages, missing, read_bytes })
}

impl Log {
    /// Reads every whole record of one segment, up to the end of what was appended, and goes on after damage. Returns what
    /// could not be read.
    pub(crate) fn salvage(
        &self,
        number: u32,
        mut visit: impl FnMut(At, Item<'_>) -> Result<()>,
    ) -> Result<Vec<ScanDamage>> {
        let path = Segment::path(&self.config.dir, number);
        let mut damages = Vec::new();
        let (bytes, durable) = match self.read_segment(number) {
            // A full segment is on disk as far as its end mark.
            Ok((bytes, None)) => (bytes, Lsn::new(number + 1, 0)),
            Ok((bytes, Some(_))) => (bytes, Lsn(0)),
            Err(Error::Corrupt { path, offset, .. }) => {
                return Ok(vec![ScanDamage { path, offset, bytes: 0 }]);
            }
            Err(error) => return Err(error),
        };
        salvage_segment(&path, &bytes, durable, &mut visit, &mut damages)?;
        Ok(damages)
    }
}

/// Returns the next segment's number, if the end mark was found, and the bytes of the records read.
fn salvage_segment(
    path: &Path,
    bytes: &SegmentBytes,
    durable: Lsn,
    visit: &mut impl FnMut(At, Item<'_>) -> Result<()>,
    damages: &mut Vec<ScanDamage>,
) -> Result<(Option<u32>, u64)> {
    let mut read = 0;
    let mut damage = |from: u32, to: u32| {
        let (offset, bytes) = (u64::from(from), u64::from(to - from));
        damages.push(ScanDamage { path: path.to_owned(), offset, bytes });
    };
    let mut offset = DATA_START;
    while let Some((at, record)) = bytes.next_record(offset) {
        if at > offset {
            damage(offset, at);
        }
        offset = at + record.len as u32;
        if let Some(next) = record.end_mark() {
            return Ok((Some(next), read));
        }
        let number = bytes.header.number;
        let visited = record.items(|item, behind| {
            let item_end = Lsn::new(number, offset - behind as u32);
            visit(At { record: Lsn::new(number, offset), item: item_end }, item)
        });
        match visited {
            Some(visited) => {
                visited?;
                read += record.len as u64;
            }
            None => match record.unreadable(path, at) {
                e if e.is_of_another_release() => return Err(e),
                _ => damage(at, offset),
            },
        }
    }
    let was_durable = durable.segment() > bytes.header.number
        || (durable.segment() == bytes.header.number && durable.offset() > offset);
    if bytes.written_after(offset) || was_durable {
        damage(offset, bytes.end().max(offset));
    }
    Ok((None, read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::wal::record;
    use crate::wal::recover::tests::{of_a_newer_release, opening, written};

    /// Open reported damage, yet repair found nothing to do.
    #[test]
    fn i11_repair_called_a_log_sound_that_could_not_be_opened() {
        for (body, expected) in [(&[1, 0][..], 1), (&[1, 0, b'x'], 0)] {
            let put = |out: &mut Vec<u8>, context| record::put_raw(out, context, body);
            assert_eq!(opening(put).is_err(), expected > 0, "{body:?}");
            let (_, segment) = written(put);
            let bytes = segment.read(DATA_START, None).expect("reads");
            let mut damages = Vec::new();
            salvage_segment(&segment.path, &bytes, Lsn(0), &mut |_, _| Ok(()), &mut damages)
                .expect("visits");
            assert_eq!(damages.len(), expected, "{body:?}: {damages:?}");
        }
    }

    /// Opening advised a repair, and the repair left out what it did not know.
    #[test]
    fn i11_repair_refuses_what_a_newer_release_wrote() {
        for body in of_a_newer_release() {
            let (_, segment) = written(|out, context| record::put_raw(out, context, &body));
            let bytes = segment.read(DATA_START, None).expect("reads");
            let visit = &mut |_: At, _: Item<'_>| Ok(());
            let error = salvage_segment(&segment.path, &bytes, Lsn(0), visit, &mut Vec::new())
                .expect_err("it would be lost");
            assert_eq!(error.kind(), ErrorKind::FixCall, "{body:?}: {error}");
        }
    }
}
