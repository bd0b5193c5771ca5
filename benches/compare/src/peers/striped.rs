//! Locks for stores whose look and put are two calls.
//!
//! RocksDB and fjall offer transactions for this, and both cost more than a lock on a stripe of the ids: what an
//! application would do that cares for speed, and in the peers' favour.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Enough that threads which wait for a sync, each with a lock in hand, rarely stand in each other's way.
const STRIPES: usize = 1_024;

#[derive(Debug)]
pub struct Striped {
    locks: Vec<Mutex<()>>,
    hash: RandomState,
}

impl Striped {
    pub fn new() -> Self {
        Self { locks: (0..STRIPES).map(|_| Mutex::new(())).collect(), hash: RandomState::new() }
    }

    fn stripe(&self, id: &[u8]) -> usize {
        self.hash.hash_one(id) as usize % STRIPES
    }

    fn hold(&self, stripe: usize) -> MutexGuard<'_, ()> {
        self.locks[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lock(&self, id: &[u8]) -> MutexGuard<'_, ()> {
        self.hold(self.stripe(id))
    }

    /// Holds the locks of all ids of a batch, taken in one order so that batches cannot wait in a ring.
    pub fn lock_batch(&self, ids: &[&[u8]]) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<_> = ids.iter().map(|id| self.stripe(id)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.into_iter().map(|stripe| self.hold(stripe)).collect()
    }
}
