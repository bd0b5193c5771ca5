//! Commits on their way whose rows are read in the order of their sequences.
//!
//! A commit takes its sequences before it locks its shards, so a higher one may be entered first. Who reads in order stops
//! at the horizon: what is below it is entered, or never will be.

use crate::sync::{AtomicU64, Mutex, Ordering};
use std::collections::BTreeMap;

/// The commits on their way: how many of them take sequences from this number on.
#[derive(Debug, Default)]
pub(in crate::engine) struct InFlight {
    begun: Mutex<BTreeMap<u64, usize>>,
}

/// A commit on its way. It ends when this is dropped.
#[derive(Debug)]
pub(in crate::engine) struct Flight<'a> {
    all: &'a InFlight,
    from: u64,
}

impl InFlight {
    /// Notes a commit that will take its sequences from here on.
    pub(in crate::engine) fn begin(&self, next: &AtomicU64) -> Flight<'_> {
        let mut begun = self.begun.lock();
        let from = next.load(Ordering::Acquire);
        *begun.entry(from).or_default() += 1;
        Flight { all: self, from }
    }

    /// Returns the sequence below which nothing is on its way any more.
    #[cfg_attr(not(test), allow(dead_code, reason = "readers of the outbox come next"))]
    pub(in crate::engine) fn horizon(&self, next: &AtomicU64) -> u64 {
        let begun = self.begun.lock();
        begun.keys().next().copied().unwrap_or_else(|| next.load(Ordering::Acquire))
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut begun = self.all.begun.lock();
        if let Some(count) = begun.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                begun.remove(&self.from);
            }
        }
    }
}

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_is_the_begin_of_the_oldest_commit_on_its_way() {
        let (all, next) = (InFlight::default(), AtomicU64::new(7));
        assert_eq!(all.horizon(&next), 7);
        let first = all.begin(&next);
        next.store(9, Ordering::Release);
        let (second, third) = (all.begin(&next), all.begin(&next));
        next.store(12, Ordering::Release);
        assert_eq!(all.horizon(&next), 7);
        drop(first);
        assert_eq!(all.horizon(&next), 9);
        drop(second);
        assert_eq!(all.horizon(&next), 9, "another one has begun there");
        drop(third);
        assert_eq!(all.horizon(&next), 12);
    }
}
