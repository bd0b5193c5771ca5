//! Whether compaction is behind those who overwrite rows, and waiting until it is not.

use crate::engine::core::{Awaited, Core};
use crate::sync::Ordering;
use std::time::Instant;

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
