//! (d) A log for each group of shards: today's log eight times, with eight files that fill at once.

use super::one_lock::{Segments, Tail};
use super::{Design, Lane};
use crate::record::Claim;
use crate::segments::Segment;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::sync::Arc;

const LOGS: usize = 8;

pub struct Lanes {
    logs: Vec<CachePadded<Mutex<Tail>>>,
    starts: Vec<u32>,
}

impl Design for Lanes {
    fn new(segments: Vec<Segment>, _lanes: usize, releases: bool) -> Self {
        let segments = Segments::new(segments);
        let tails = (0..LOGS).map(|_| Tail::new(Arc::clone(&segments), releases));
        let tails: Vec<Tail> = tails.collect();
        let starts = tails.iter().map(Tail::active).collect();
        Self {
            logs: tails.into_iter().map(|tail| CachePadded::new(Mutex::new(tail))).collect(),
            starts,
        }
    }

    #[inline]
    fn append(&self, lane: &mut Lane, claim: &Claim) -> u64 {
        self.logs[lane.number % LOGS].lock().append(claim)
    }

    fn starts(&self) -> Vec<u32> {
        self.starts.clone()
    }
}
