//! The ways to append. Each one appends the same bytes; what differs is who waits for whom.

mod combining;
mod extents;
mod lanes;
mod one_lock;
mod reserve;

pub use combining::Combining;
pub use extents::Extents;
pub use lanes::Lanes;
pub use one_lock::{EncodeOutside, OneLock};
pub use reserve::{Reserve, Wait};

use crate::record::Claim;
use crate::segments::Segment;

/// Bytes of each generation, as the tally of a segment counts them.
#[derive(Default)]
pub struct Tally {
    last: u64,
    bytes: u64,
}

impl Tally {
    #[inline]
    pub fn add(&mut self, generation: u64, bytes: u64) {
        if self.last == generation {
            self.bytes += bytes;
        } else {
            self.last = generation;
            self.bytes = bytes;
        }
    }
}

/// What belongs to whoever appends: a shard, or in the runs without shards a thread. Only its owner touches it.
pub struct Lane {
    pub number: usize,
    pub scratch: Vec<u8>,
    pub tally: Tally,
    /// The extent that it fills, if the design has such.
    pub extent: (u64, u64),
}

impl Lane {
    pub fn new(number: usize) -> Self {
        let tally = Tally::default();
        Self { number, scratch: Vec::with_capacity(256), tally, extent: (0, 0) }
    }
}

pub trait Design: Sync {
    /// Makes an empty log.
    fn new(segments: Vec<Segment>, lanes: usize, releases: bool) -> Self;

    /// Appends one record; returns the location after it.
    fn append(&self, lane: &mut Lane, claim: &Claim) -> u64;

    /// Returns a location before which everything is written, and which is not before what was reserved at the call: what
    /// a sync, a scan or a heal asks for. Zero where the lock says so.
    fn settled(&self) -> u64 {
        0
    }

    /// Returns where the walk over the log begins, once nobody appends: segment numbers of its files.
    fn starts(&self) -> Vec<u32> {
        vec![0]
    }

    /// Whether parts of this many bytes are filled by one lane each, so that they may end early.
    const EXTENT: Option<u32> = None;
}

pub fn lsn(segment: u32, offset: u32) -> u64 {
    u64::from(segment) << 32 | u64::from(offset)
}

pub fn generation(claim: &Claim) -> u64 {
    claim.at >> 10
}
