//! Group commit: one sync for all callers that wait.
//!
//! The first caller who finds nobody syncing becomes the leader and syncs everything appended so far;
//! the others wait, and the next of them leads for all that came meanwhile. (DeWitt et al., 1984.)

use crate::error::{Error, Result};
use crate::log::Lsn;
use crate::log::tail::Log;
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, Ordering, thread};

#[derive(Debug)]
pub(crate) struct Commit {
    /// Everything before this place is on disk.
    durable: AtomicU64,
    leading: Mutex<bool>,
    done: Condvar,
    syncs: AtomicU64,
    /// Callers that came to wait so far, those when the last sync began, and those when the last spare was filled.
    came: AtomicU64,
    came_before_sync: AtomicU64,
    came_before_fill: AtomicU64,
}

/// How often a leader looks, and sees nobody, before it goes on.
const LOOKS: u32 = 3;

/// Callers that wait for the disk, while a segment fills, from which on the next segment is made ready for them.
pub(super) const OFTEN: u64 = 64;

impl Commit {
    pub(super) fn new(durable: Lsn) -> Self {
        let leading = Mutex::new(false);
        Self {
            durable: durable.0.into(),
            leading,
            done: Condvar::new(),
            syncs: AtomicU64::new(0),
            came: AtomicU64::new(0),
            came_before_sync: AtomicU64::new(0),
            came_before_fill: AtomicU64::new(0),
        }
    }

    #[inline]
    fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Everything before this place is on disk.
    fn reached(&self, lsn: Lsn) {
        self.durable.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// Whether many have waited since this was asked last.
    pub(super) fn is_asked_often(&self) -> bool {
        let came = self.came.load(Ordering::Relaxed);
        came - self.came_before_fill.swap(came, Ordering::Relaxed) >= OFTEN
    }

    /// Lets those append who were woken by the last sync, so that the next one covers them, too: the first of them would
    /// lead for itself alone otherwise. It waits as long as somebody comes and not by the clock, and a caller who
    /// is alone not at all. (A group commit that waits for its group: Helland et al., 1987.)
    fn gather(&self) {
        let mut came = self.came.load(Ordering::Relaxed);
        if came - self.came_before_sync.load(Ordering::Relaxed) > 1 {
            let mut looks = 0;
            while looks < LOOKS {
                thread::yield_now();
                let now = self.came.load(Ordering::Relaxed);
                looks = if now == came { looks + 1 } else { 0 };
                came = now;
            }
        }
        self.came_before_sync.store(came, Ordering::Relaxed);
    }

    /// Returns when everything before `lsn` is on disk: by the work of somebody else, or by `lead`, which
    /// one caller at a time runs and which says how far it has [`reached`](Self::reached). `check` says
    /// whether there is still something to wait for.
    fn wait_for(
        &self,
        lsn: Lsn,
        check: impl Fn() -> Result<()>,
        lead: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.came.fetch_add(1, Ordering::Relaxed);
        let mut leading = self.leading.lock();
        loop {
            if self.durable() >= lsn {
                return Ok(());
            }
            check()?;
            if !*leading {
                break;
            }
            self.done.wait(&mut leading);
        }
        *leading = true;
        drop(leading);
        self.gather();
        let led = lead();
        *self.leading.lock() = false;
        self.done.notify_all();
        led
    }
}

impl Log {
    /// Up to where the log is on disk.
    #[inline]
    pub(crate) fn durable(&self) -> Lsn {
        self.commit.durable()
    }

    /// How many syncs were made so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.commit.syncs.load(Ordering::Relaxed)
    }

    /// Returns when everything before `lsn` is on disk. A wait ends with the sync that is waited for
    /// (I12); after a failed sync every waiter hears so, and the store has stopped (I7).
    pub(crate) fn sync_to(&self, lsn: Lsn) -> Result<()> {
        self.commit.wait_for(lsn, || self.config.health.check(), || self.lead())
    }

    fn lead(&self) -> Result<()> {
        let (target, active, full) = {
            let mut tail = self.tail.lock();
            let flushed = tail.flush();
            flushed.map_err(|e| self.stop_on(e))?;
            (tail.end(), Arc::clone(&tail.active), tail.unsynced.clone())
        };
        // A full segment is read by others through its own handle, and nobody writes to it any more: the mapping has done
        // its work, and a sync is several times cheaper without it.
        full.iter().for_each(|segment| segment.file.unmap());
        for segment in full.iter().chain([&active]) {
            let synced = segment.file.sync_data();
            // The kernel may have dropped the pages it could not write, and a second sync would lie:
            // a failed one is final. (Rebello et al., "Can Applications Recover from fsync Failures?")
            synced.map_err(|e| self.stop_on(Error::io("sync", &segment.path, e)))?;
        }
        self.commit.syncs.fetch_add(1, Ordering::Relaxed);
        self.commit.reached(target);
        active.note_durable(target);
        let synced = |number| full.iter().any(|segment| segment.header.number == number);
        self.tail.lock().unsynced.retain(|segment| !synced(segment.header.number));
        Ok(())
    }

    /// Syncs full segments, if there are any, so that a later sync has less to do. In the background.
    pub(crate) fn sync_full(&self) -> Result<()> {
        let end = self.tail.lock().unsynced.last().map(|full| Lsn::new(full.header.number + 1, 0));
        end.map_or(Ok(()), |end| self.sync_to(end))
    }

    /// Takes note of what recovery found on disk or has put there.
    pub(crate) fn set_durable(&self, lsn: Lsn) {
        self.commit.reached(lsn);
    }
}

#[cfg(all(test, feature = "loom"))]
mod every_order;
