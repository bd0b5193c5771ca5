//! What compaction could free of the log, and the writers that wait for it: rows that are overwritten again and again
//! must not fill the disk faster than compaction empties it.

use crate::engine::core::Core;
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
    fn set(&self, is_behind: bool) {
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
        let rolls = self.log.rolls();
        if self.reclaim.rolls.swap(rolls, Ordering::AcqRel) != rolls && self.note_reclaimable() > 0
        {
            self.signals.maintain.raise();
        }
        self.reclaim.is_behind.load(Ordering::Acquire)
    }

    /// Looks at what compaction could free, and returns it. More than one segment and a half counts as behind: one is
    /// being freed while the next fills up.
    pub(in crate::engine) fn note_reclaimable(&self) -> u64 {
        let bytes = self.log.reclaimable_since(0, self.time.now());
        self.reclaim.set(bytes * 2 > self.log.segment_bytes() * 3);
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

#[cfg(test)]
mod tests {
    use crate::disk::sim::SimDisk;
    use crate::engine::{Engine, Settings, open};
    use crate::sync::{Arc, instant_in};
    use std::path::Path;
    use std::time::Duration;

    fn engine() -> Arc<Engine> {
        let disk = Arc::new(SimDisk::new());
        let settings = Settings { disk, background: false, ..Settings::default() };
        open(Path::new("/s"), settings).expect("opens")
    }

    #[test]
    fn i12_a_writer_waits_for_compaction_until_its_deadline_and_the_next_goes_on() {
        let engine = engine();
        engine.core.reclaim.set(true);
        assert!(engine.core.is_compaction_behind());
        engine.core.wait_for_compaction(instant_in(Duration::from_millis(20)));
        assert!(!engine.core.is_compaction_behind(), "the next writer would wait, too");
    }

    #[test]
    fn i12_a_writer_that_waits_for_compaction_is_woken_when_it_catches_up_and_when_the_store_stops()
    {
        let ways: [fn(&Engine); 2] = [
            |engine| engine.core.reclaim.set(false),
            |engine| {
                engine.core.health.stop("for a test");
                engine.core.wake_waiters();
            },
        ];
        for ends in ways {
            let engine = engine();
            engine.core.reclaim.set(true);
            let waiter = Arc::clone(&engine);
            let waits = std::thread::spawn(move || {
                waiter.core.wait_for_compaction(instant_in(Duration::from_secs(3_600)));
            });
            std::thread::sleep(Duration::from_millis(20));
            ends(&engine);
            waits.join().expect("no panic");
        }
    }
}
