//! Locks for stores whose lookup and insert are two calls.
//!
//! RocksDB and fjall offer transactions for this, but both cost more than striped locks. An application that cares for
//! speed would use locks, and they are in the peers' favour.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Enough that threads which hold a lock during a sync rarely block each other.
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

    /// Locks all ids of a batch, in one order so that batches cannot deadlock.
    pub fn lock_batch(&self, ids: &[&[u8]]) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<_> = ids.iter().map(|id| self.stripe(id)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.into_iter().map(|stripe| self.hold(stripe)).collect()
    }
}
