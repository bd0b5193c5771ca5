//! What compaction could free of the log, and the writers that wait for it: rows that are overwritten again and again
//! must not fill the disk faster than compaction empties it.

use crate::engine::core::{Awaited, Core};
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering};
use std::time::Instant;

/// Whether compaction is behind the writers, as last looked at: when a segment was full, and after each round of
/// maintenance.
#[derive(Debug, Default)]
pub(in crate::engine) struct Reclaim {
    /// How many full segments had been looked at.
    rolls: AtomicU64,
    is_behind: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
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

impl Core {
    /// Returns whether compaction is so far behind that those who overwrite rows should wait. Looks again when a
    /// segment has been filled since.
    #[inline]
    pub(in crate::engine) fn is_compaction_behind(&self) -> bool {
        let (seen, rolls) = (&self.reclaim.rolls, self.log.rolls());
        // Written once a segment: every commit that replaces a row reads it.
        if seen.load(Ordering::Acquire) != rolls {
            seen.store(rolls, Ordering::Release);
            if self.note_reclaimable() > 0 {
                self.signals.maintain.raise();
            }
        }
        self.reclaim.is_behind.load(Ordering::Acquire)
    }

    /// Looks at what compaction could free, and returns it. More than one segment and a half counts as behind: one is
    /// being freed while the next fills up.
    pub(in crate::engine) fn note_reclaimable(&self) -> u64 {
        let bytes = self.log.reclaimable_since(0, self.horizon());
        // Compaction waits for scans, and writers do not wait for those.
        let is_behind = bytes * 2 > self.log.segment_bytes() * 3 && !self.scans.is_any();
        self.reclaim.set(is_behind);
        if !is_behind {
            self.shards[0].futures.wake(Awaited::Compaction);
        }
        bytes
    }

    /// Waits until compaction is not behind any more, and not past `until`. Then writers go on until somebody has
    /// looked again: a long merge or a failing disk slows them down, but does not stop them.
    pub(in crate::engine) fn wait_for_compaction(&self, until: Instant) {
        let mut guard = self.reclaim.lock.lock();
        while self.reclaim.is_behind.load(Ordering::Acquire) && self.health.check().is_ok() {
            if self.reclaim.changed.wait_until(&mut guard, until).timed_out() {
                return self.reclaim.is_behind.store(false, Ordering::Release);
            }
        }
    }
}
