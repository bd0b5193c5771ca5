//! Counters.

use crate::sync::{AtomicU64, Ordering};

/// A number that only grows. Not used on the path of a claim: counters there are plain numbers under a shard's lock.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
