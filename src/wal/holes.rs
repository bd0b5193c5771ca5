//! Holes: extents of lanes that a crash left open, and what of such a log is kept.
//!
//! - **After a kill** all that was written is there, whether the machine went on or was then shut down in order: each lane ends
//!   where its words in the head of the segment say (`slots.rs`). All is kept, and fillers close the extents.
//! - **After a power cut** some of what was not synced is there. Records of one lane may have lost records of another
//!   that were appended before them, so nothing is kept of what lanes wrote since the last record beside them: it closed
//!   all of them, so the log up to it is the store at one moment. A sync leaves such a record, and is not over before it is
//!   on disk.
//! - A hole before a location that was on disk is damage (I11).

use crate::wal::Lsn;
use crate::wal::record::{self, FILLER_BYTES_MIN, Found};
use crate::wal::segment::{DATA_START, SegmentBytes};
use crate::wal::slots::{LANES_MAX, Slots};

/// An extent of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    lane: u32,
    /// Offset of its head.
    head: u32,
    /// Where its records end.
    at: u32,
    end: u32,
    /// Whether nothing whole follows them: a hole.
    is_open: bool,
}

/// How a segment is laid out.
#[derive(Debug, Default)]
struct Layout {
    /// Where the chain of records, fillers and extents ends.
    end: u32,
    /// Up to here it is the log of one moment, whatever is missing of its end.
    sure: u32,
    /// The extents behind that.
    extents: Vec<Extent>,
    /// Whether the head of an extent is the last that can be read.
    is_cut_short: bool,
    is_full: bool,
}

impl Layout {
    fn of(bytes: &SegmentBytes) -> Self {
        let mut layout = Self { end: DATA_START, sure: DATA_START, ..Self::default() };
        let (mut within, mut has_hole) = (false, false);
        loop {
            let at = layout.end;
            let last = layout.extents.last_mut().filter(|last| within && at < last.end);
            within = last.is_some();
            match (bytes.at(at), last) {
                (Found::Record(record), None) => {
                    layout.end += record.len as u32;
                    if let Some((lane, len)) = record.extent() {
                        let (begin, end) = (layout.end, layout.end.saturating_add(len));
                        layout.extents.push(Extent {
                            lane,
                            head: at,
                            at: begin,
                            end,
                            is_open: false,
                        });
                        within = true;
                        if end > bytes.end() {
                            layout.is_cut_short = true;
                            return layout;
                        }
                        continue;
                    }
                    // It was written when all extents before it were closed.
                    if !has_hole {
                        layout.extents.clear();
                        layout.sure = layout.end;
                    }
                    layout.is_full = record.end_mark().is_some();
                    if layout.is_full {
                        return layout;
                    }
                }
                (Found::Record(record), Some(extent))
                    if record.len <= (extent.end - at) as usize && record.extent().is_none() =>
                {
                    layout.end += record.len as u32;
                    if !record.is_skip() {
                        extent.at = layout.end;
                    }
                }
                // No lane leaves less than a filler needs.
                (_, Some(extent)) if extent.end - at >= FILLER_BYTES_MIN => {
                    (extent.is_open, has_hole) = (true, true);
                    layout.end = extent.end;
                }
                (_, Some(_)) => {
                    layout.is_cut_short = true;
                    return layout;
                }
                (_, None) => return layout,
            }
        }
    }

    fn holes(&self) -> impl Iterator<Item = &Extent> {
        self.extents.iter().filter(|extent| extent.is_open)
    }

    /// Returns whether nothing is missing: each lane ends where it noted, in the last of its extents, and no extent was begun
    /// behind those.
    fn is_complete(&self, slots: Slots<'_>) -> bool {
        let mut lanes_seen = [false; LANES_MAX];
        let ends_as_noted = |extent: &Extent| match lanes_seen.get_mut(extent.lane as usize) {
            None => false,
            Some(true) => !extent.is_open,
            Some(seen) => {
                *seen = true;
                slots.end_extent_at(extent.lane, extent.head, extent.at)
                    || (!extent.is_open && slots.begin_extent_at(extent.lane, self.end))
            }
        };
        self.extents.is_empty()
            || (!self.is_cut_short
                && slots.end_chain_at(self.end)
                && self.extents.iter().rev().all(ends_as_noted))
    }
}

/// Closes extents that were left open, or cuts what may lack something that was appended before it, in memory. Returns
/// whether it cut. What is kept ends with a record beside extents, so that it is kept again whatever is lost behind it.
///
/// `head`: the bytes before the records. `durable`: the log was on disk up to there, so a hole before it stays.
pub(super) fn close(bytes: &mut SegmentBytes, head: &[u8], durable: Lsn) -> bool {
    let layout = Layout::of(bytes);
    let was_durable = |at| Lsn::new(bytes.header.number, at) < durable;
    if was_durable(layout.end) || layout.holes().any(|hole| was_durable(hole.at)) {
        // The walk ends there or at the first hole, and that is an error.
        return false;
    }
    if !layout.is_complete(Slots::of(head)) {
        bytes.truncate(layout.sure);
        return true;
    }
    fill(bytes, layout.holes());
    if layout.extents.is_empty() || layout.is_full {
        return false;
    }
    let mut mark = Vec::new();
    record::mark(&mut mark);
    bytes.put(layout.end, &mut mark);
    let end = layout.end + mark.len() as u32;
    // Records behind one that was lost must not follow the mark in its place.
    let is_cut = bytes.written_after(end);
    bytes.truncate(end);
    is_cut
}

/// Closes extents that were left open behind `durable`, in memory, whatever may be missing: for repair, which keeps all
/// that is whole. What is neither whole nor zeros is damage, and stays.
pub(super) fn close_all(bytes: &mut SegmentBytes, durable: Lsn) {
    let layout = Layout::of(bytes);
    let was_durable = |at| Lsn::new(bytes.header.number, at) < durable;
    let at_end = |hole: &Extent| Extent { at: end_of_records(bytes, hole), ..*hole };
    let has_room = |hole: &Extent| hole.end - hole.at >= FILLER_BYTES_MIN;
    let is_unwritten = |hole: &Extent| bytes.part(hole.at, hole.end).iter().all(|byte| *byte == 0);
    let holes = layout.holes().filter(|hole| !was_durable(hole.at)).map(at_end);
    let holes: Vec<Extent> = holes.filter(|hole| has_room(hole) && is_unwritten(hole)).collect();
    fill(bytes, holes.iter());
}

/// Returns where the last whole record of an extent ends, also if a hole is before it.
fn end_of_records(bytes: &SegmentBytes, hole: &Extent) -> u32 {
    let mut end = hole.at;
    while let Some((at, record)) = bytes.next_record(end) {
        if at >= hole.end || record.len > (hole.end - at) as usize {
            break;
        }
        end = at + record.len as u32;
    }
    end
}

fn fill<'a>(bytes: &mut SegmentBytes, holes: impl Iterator<Item = &'a Extent>) {
    for hole in holes {
        let mut filler = Vec::new();
        record::filler(&mut filler, hole.end - hole.at);
        bytes.put(hole.at, &mut filler);
    }
}
