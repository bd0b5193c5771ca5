//! (e) Extents: a lane reserves 16 KiB at a time and fills them alone. Readers go on at the next extent where one ends.

use super::{Design, Lane, generation, lsn};
use crate::record::{self, Claim, DATA_START};
use crate::segments::{RELEASE, SEGMENT, Segment};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const EXTENT: u32 = 16 << 10;

/// `LOCKS`: each lane has a lock, under which whoever ends a segment or takes a cut finds it at rest.
pub struct Extents<const LOCKS: bool> {
    /// Number of the next extent over all segments.
    next: CachePadded<AtomicU64>,
    /// How far each lane has written.
    written: Box<[CachePadded<AtomicU64>]>,
    locks: Box<[CachePadded<Mutex<()>>]>,
    segments: Vec<Segment>,
    releases: bool,
}

impl<const LOCKS: bool> Design for Extents<LOCKS> {
    const EXTENT: Option<u32> = Some(EXTENT);

    fn new(segments: Vec<Segment>, lanes: usize, releases: bool) -> Self {
        let written = (0..lanes).map(|_| CachePadded::new(AtomicU64::new(0))).collect();
        let locks = (0..lanes).map(|_| CachePadded::default()).collect();
        Self { next: CachePadded::new(AtomicU64::new(0)), written, locks, segments, releases }
    }

    #[inline]
    fn append(&self, lane: &mut Lane, claim: &Claim) -> u64 {
        let _locked = LOCKS.then(|| self.locks[lane.number].lock());
        let mut at = lane.extent.0;
        if at + u64::from(record::CLAIM_BYTES) + 16 > lane.extent.1 {
            at = self.take(lane);
        }
        let (number, start) = ((at >> 32) as u32, at as u32);
        let segment = &self.segments[number as usize];
        record::encode(&mut lane.scratch, segment.context, claim);
        record::finish(&mut lane.scratch, segment.context, start);
        segment.write(&lane.scratch, start);
        lane.tally.add(generation(claim), lane.scratch.len() as u64);
        let end = at + lane.scratch.len() as u64;
        lane.extent.0 = end;
        self.written[lane.number].store(end, Ordering::Release);
        end
    }
}

impl<const LOCKS: bool> Extents<LOCKS> {
    #[cold]
    fn take(&self, lane: &mut Lane) -> u64 {
        let number = self.next.fetch_add(1, Ordering::AcqRel);
        let each = u64::from(SEGMENT / EXTENT);
        let (segment, at) = ((number / each) as u32, (number % each) as u32 * EXTENT);
        if self.releases && at.is_multiple_of(RELEASE) && at > 2 * RELEASE {
            self.segments[segment as usize].release(at - 2 * RELEASE, at - RELEASE);
        }
        let begin = lsn(segment, at.max(DATA_START));
        lane.extent = (begin, lsn(segment, at + EXTENT));
        begin
    }
}
