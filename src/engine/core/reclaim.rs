//! What compaction could free of the log, and the writers that wait for it: rows that are overwritten again and again
//! must not fill the disk faster than compaction empties it.

use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering};

/// Whether compaction is behind the writers, as last looked at: when a segment was full, and after each round of
/// maintenance.
#[derive(Debug, Default)]
pub(in crate::engine) struct Reclaim {
    /// How many full segments had been looked at.
    pub(super) rolls: AtomicU64,
    pub(super) is_behind: AtomicBool,
    pub(super) lock: Mutex<()>,
    pub(super) changed: Condvar,
}

impl Reclaim {
    pub(in crate::engine) fn set(&self, is_behind: bool) {
        self.is_behind.store(is_behind, Ordering::Release);
        if !is_behind {
            self.wake();
        }
    }

    /// Lets waiters check again.
    pub(in crate::engine) fn wake(&self) {
        // Whoever checked before the change waits by then.
        drop(self.lock.lock());
        self.changed.notify_all();
    }
}
