//! (f) Flat combining: a thread leaves its record in a place of its own, and whoever gets the lock writes all that it
//! finds. (Hendler, Incze, Shavit, Tzafrir, 2010; the groups of Aether's consolidation array are the same idea.)

use super::one_lock::{Segments, Tail};
use super::{Design, Lane};
use crate::record::Claim;
use crate::segments::Segment;
use crossbeam_utils::{Backoff, CachePadded};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A claim to be appended, as words: nobody reads it before `state` says so.
#[derive(Default)]
struct Place {
    /// 0: nothing; 1: to be appended; else the location after it.
    state: AtomicU64,
    at: AtomicU64,
    id: [AtomicU64; 2],
}

pub struct Combining {
    places: Box<[CachePadded<Place>]>,
    tail: Mutex<Tail>,
}

impl Design for Combining {
    fn new(segments: Vec<Segment>, lanes: usize, releases: bool) -> Self {
        let places = (0..lanes).map(|_| CachePadded::default()).collect();
        Self { places, tail: Mutex::new(Tail::new(Segments::new(segments), releases)) }
    }

    #[inline]
    fn append(&self, lane: &mut Lane, claim: &Claim) -> u64 {
        let own = &self.places[lane.number];
        let (low, high) = claim.id.split_at(8);
        own.at.store(claim.at, Ordering::Relaxed);
        for (word, half) in own.id.iter().zip([low, high]) {
            let half = u64::from_le_bytes(half.try_into().expect("a half"));
            word.store(half, Ordering::Relaxed);
        }
        own.state.store(1, Ordering::Release);
        let backoff = Backoff::new();
        loop {
            if let Some(mut tail) = self.tail.try_lock() {
                self.combine(&mut tail);
            }
            let state = own.state.load(Ordering::Acquire);
            if state != 1 {
                own.state.store(0, Ordering::Relaxed);
                return state;
            }
            backoff.snooze();
        }
    }
}

impl Combining {
    fn combine(&self, tail: &mut Tail) {
        for place in &self.places {
            if place.state.load(Ordering::Acquire) != 1 {
                continue;
            }
            let mut id = [0; 16];
            for (half, word) in id.chunks_mut(8).zip(&place.id) {
                half.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
            }
            let claim = Claim { at: place.at.load(Ordering::Relaxed), id };
            place.state.store(tail.append(&claim), Ordering::Release);
        }
    }
}
