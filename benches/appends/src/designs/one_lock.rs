//! Today's log, and the same with the encoding before the lock.

use super::{Design, Lane, Tally, generation, lsn};
use crate::record::{self, Claim, DATA_START};
use crate::segments::{LIMIT, RELEASE, Segment};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct Tail {
    offset: u32,
    active: usize,
    mapped_from: u32,
    tally: Tally,
    scratch: Vec<u8>,
    segments: Arc<Segments>,
    releases: bool,
}

/// All segments, and the number of the first that is not in use.
pub struct Segments {
    all: Vec<Segment>,
    next: AtomicUsize,
}

impl Segments {
    pub fn new(all: Vec<Segment>) -> Arc<Self> {
        Arc::new(Self { all, next: AtomicUsize::new(0) })
    }

    fn take(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl Tail {
    pub fn new(segments: Arc<Segments>, releases: bool) -> Self {
        let (tally, scratch) = (Tally::default(), Vec::with_capacity(256));
        let (offset, active) = (DATA_START, segments.take());
        Self { offset, active, mapped_from: offset, tally, scratch, segments, releases }
    }

    pub fn active(&self) -> u32 {
        self.active as u32
    }

    #[inline]
    pub fn append(&mut self, claim: &Claim) -> u64 {
        if self.offset + record::CLAIM_BYTES + 40 > LIMIT {
            self.roll();
        }
        let segment = &self.segments.all[self.active];
        record::encode(&mut self.scratch, segment.context, claim);
        record::finish(&mut self.scratch, segment.context, self.offset);
        self.tally.add(generation(claim), self.scratch.len() as u64);
        segment.write_guarded(&self.scratch, self.offset);
        self.offset += self.scratch.len() as u32;
        self.after_write()
    }

    #[inline]
    pub fn after_write(&mut self) -> u64 {
        if self.releases && self.offset - self.mapped_from >= RELEASE {
            self.segments.all[self.active].release(self.mapped_from, self.offset);
            self.mapped_from = self.offset;
        }
        lsn(self.active(), self.offset)
    }

    #[cold]
    fn roll(&mut self) {
        let next = self.segments.take();
        record::encode_end(&mut self.scratch, next as u32);
        let segment = &self.segments.all[self.active];
        record::finish(&mut self.scratch, segment.context, self.offset);
        segment.write_guarded(&self.scratch, self.offset);
        (self.active, self.offset, self.mapped_from) = (next, DATA_START, DATA_START);
    }
}

/// (a) One lock, held over everything.
pub struct OneLock(Mutex<Tail>);

impl Design for OneLock {
    fn new(segments: Vec<Segment>, _lanes: usize, releases: bool) -> Self {
        Self(Mutex::new(Tail::new(Segments::new(segments), releases)))
    }

    #[inline]
    fn append(&self, _lane: &mut Lane, claim: &Claim) -> u64 {
        self.0.lock().append(claim)
    }
}

/// (b) One lock, held over position, checksum and copy. The checksum starts from the offset, so it cannot come earlier.
pub struct EncodeOutside(Mutex<Tail>);

impl Design for EncodeOutside {
    fn new(segments: Vec<Segment>, _lanes: usize, releases: bool) -> Self {
        Self(Mutex::new(Tail::new(Segments::new(segments), releases)))
    }

    #[inline]
    fn append(&self, lane: &mut Lane, claim: &Claim) -> u64 {
        record::encode(&mut lane.scratch, crate::segments::context(0), claim);
        lane.tally.add(generation(claim), lane.scratch.len() as u64);
        let mut tail = self.0.lock();
        if tail.offset + lane.scratch.len() as u32 > LIMIT {
            tail.roll();
        }
        let segment = &tail.segments.all[tail.active];
        record::finish(&mut lane.scratch, segment.context, tail.offset);
        segment.write(&lane.scratch, tail.offset);
        tail.offset += lane.scratch.len() as u32;
        tail.after_write()
    }
}
