//! What a store brings to be tested.

use firstseen_shared::DedupStore;
use std::future::Future;
use std::time::Duration;

/// A store to be tested, with a clock that the test sets.
///
/// Each rule has a fixture of its own, and namespaces that no other rule uses: the data behind two fixtures may be the same.
pub trait Fixture: Send + Sync + 'static {
    /// The store.
    type Store: DedupStore;

    /// Returns a handle to the data, as a machine of its own has one. All handles of a fixture see the same.
    fn store(&self) -> impl Future<Output = Self::Store> + Send;

    /// Lets this much time pass on the clock by which the store counts, for all handles. Up to two thousand years in all.
    fn advance(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// Returns how far the clock may move by itself while a rule is tested. Zero if it stands still: then the rules test the very
    /// millisecond at which something ends. At most ten seconds.
    fn slack(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns whether the store remembers calls, so that one whose answer was lost can be repeated. Every store has to that is
    /// not in the process of its callers.
    fn remembers_calls(&self) -> bool {
        true
    }

    /// Kills the store without warning, and starts it again with what it has kept. Handles from before may be of no use after it.
    /// Returns whether that was done; `false` if there is nothing to be killed.
    fn restart(&self) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }

    /// Returns how many random histories are tried. One takes about three hundred calls.
    fn histories(&self) -> u32 {
        8
    }
}
