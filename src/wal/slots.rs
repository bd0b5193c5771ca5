//! How far lanes have written, noted in the head of the active segment beside each record.
//!
//! ```text
//! offset  1024  u64: location of the end of the extents begun, and of those whose heads are written, u32 each
//! offset  1088  of each lane, 64 bytes apart: u64 begun and u64 written, each the head of the lane's extent and an
//!               offset in it, u32 each
//! ```
//!
//! A word is stored whole, and neither before nor after its turn: `begun` before a record is copied, `written` after that.
//! So after a kill, where each lane ends lies between the two, whether the machine was then shut down in order or goes on.
//! After a power cut, only what reached the disk is there, and if that is not what the words say, something is missing.
//!
//! Each lane has a cache line of its own, so that none waits for another's. And all words are in one sector of 512 bytes, which
//! a disk writes whole: what is there of them after a power cut was there at one moment (docs/DESIGN.md, section 13; and 16,
//! if the disk reads them while they are written).

use crate::disk::Mapped;
use crate::wal::segment::DATA_START;
use std::io;

/// Lanes of a log at most: those whose words share a sector with that of the chain.
pub(super) const LANES_MAX: usize = 7;

const SECTOR: u64 = 512;
/// Offset of the first word.
pub(super) const BEGIN: u64 = 1024;
const CHAIN_AT: u64 = BEGIN;
const LANES_AT: u64 = BEGIN + LANE_BYTES;
const LANE_BYTES: u64 = 64;
const END: u64 = LANES_AT + LANES_MAX as u64 * LANE_BYTES;

const _: () = assert!(BEGIN / SECTOR == (END - 1) / SECTOR && END <= DATA_START as u64);

const fn word(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// Notes that the head of an extent is about to be written, which then ends at `end`; or that it is, with `written` = `end`.
pub(super) fn note_chain(mapping: &dyn Mapped, end: u32, written: u32) -> io::Result<()> {
    mapping.store(word(end, written), CHAIN_AT)
}

/// Notes that in this extent a record up to `end` is about to be written.
#[inline]
pub(super) fn note_begun(mapping: &dyn Mapped, lane: u32, extent: u32, end: u32) -> io::Result<()> {
    mapping.store(word(extent, end), LANES_AT + u64::from(lane) * LANE_BYTES)
}

/// Notes that in this extent records up to `end` are written.
#[inline]
pub(super) fn note_written(
    mapping: &dyn Mapped,
    lane: u32,
    extent: u32,
    end: u32,
) -> io::Result<()> {
    mapping.store(word(extent, end), LANES_AT + u64::from(lane) * LANE_BYTES + 8)
}

/// The words in the head of a segment that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots<'a> {
    head: &'a [u8],
}

impl<'a> Slots<'a> {
    pub(super) fn of(head: &'a [u8]) -> Self {
        Self { head }
    }

    fn at(self, offset: u64) -> (u32, u32) {
        let rest = self.head.get(offset as usize..).unwrap_or_default();
        let word = rest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        ((word >> 32) as u32, word as u32)
    }

    /// Returns the bytes to write at [`BEGIN`] that erase all words; `None` if there are none.
    pub(super) fn erased(self) -> Option<Vec<u8>> {
        let words = self.head.get(BEGIN as usize..END as usize)?;
        words.iter().any(|byte| *byte != 0).then(|| vec![0; words.len()])
    }

    /// Returns whether a log that ends here lacks no extent.
    pub(super) fn end_chain_at(self, end: u32) -> bool {
        let (begun, written) = self.at(CHAIN_AT);
        (written..=begun).contains(&end)
    }

    fn of_lane(self, lane: u32) -> [(u32, u32); 2] {
        let at = LANES_AT + u64::from(lane) * LANE_BYTES;
        [self.at(at), self.at(at + 8)]
    }

    /// Returns whether an extent whose records end here lacks none.
    pub(super) fn end_extent_at(self, lane: u32, extent: u32, end: u32) -> bool {
        let [(of_begun, begun), (of_written, written)] = self.of_lane(lane);
        of_begun == extent && of_written == extent && (written..=begun).contains(&end)
    }

    /// Returns whether the lane was about to set aside an extent here, and so had closed the one before.
    pub(super) fn begin_extent_at(self, lane: u32, extent: u32) -> bool {
        let [_, (of_written, _)] = self.of_lane(lane);
        of_written == extent
    }
}
