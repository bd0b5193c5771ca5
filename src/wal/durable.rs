//! How far the log is on disk, and waiting until it is.

use crate::error::{Error, Result};
use crate::sync::{Arc, Ordering};
use crate::wal::Lsn;
use crate::wal::writer::Log;

impl Log {
    /// Returns the location up to which the log is on disk.
    #[inline]
    pub(crate) fn durable(&self) -> Lsn {
        self.commit.durable()
    }

    /// Returns the number of syncs so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.commit.syncs.load(Ordering::Relaxed)
    }

    /// Returns once everything before `lsn` is on disk.
    ///
    /// A wait ends with the sync it waits for (I12); after a failed sync every waiter gets an error and the store has
    /// stopped (I7).
    pub(crate) fn sync_to(&self, lsn: Lsn) -> Result<()> {
        self.commit.wait_for(lsn, || self.config.health.check(), || self.lead())
    }

    /// As [`sync_to`](Self::sync_to), for a caller waiting for a result rather than background work.
    pub(crate) fn sync_for_caller(&self, lsn: Lsn) -> Result<()> {
        // Read first: a store would take the cache line from every other caller.
        if !self.commit.asked.load(Ordering::Relaxed) {
            self.commit.asked.store(true, Ordering::Relaxed);
        }
        self.sync_to(lsn)
    }

    fn lead(&self) -> Result<()> {
        let (target, active, full, resident) = {
            let mut tail = self.tail.lock();
            self.settle(&mut tail)?;
            let resident = tail.take_resident();
            (tail.end(), Arc::clone(&tail.active), tail.rest.unsynced.clone(), resident)
        };
        // Full segments are read through separate handles and never written again. Without a mapping their sync is
        // several times cheaper.
        full.iter().for_each(|segment| segment.file.unmap());
        active.file.release_pages(resident.start, resident.end);
        for segment in full.iter().chain([&active]) {
            let synced = segment.file.sync_data();
            // The kernel may drop the pages it could not write, and a second sync would succeed falsely: a failure is
            // final. (Rebello et al., "Can Applications Recover from fsync Failures?")
            synced.map_err(|e| self.stop_on(Error::io("sync", &segment.path, e)))?;
        }
        // Linux reports a writeback error to only one of the callers that fsync a file.
        let is_synced = |number| full.iter().chain([&active]).any(|s| s.header.number == number);
        self.spare_sync.wait_for(is_synced);
        self.config.health.check()?;
        self.commit.syncs.fetch_add(1, Ordering::Relaxed);
        self.commit.reached(target);
        active.note_durable(target);
        let synced = |number| full.iter().any(|segment| segment.header.number == number);
        self.tail.lock().rest.unsynced.retain(|segment| !synced(segment.header.number));
        Ok(())
    }

    /// Releases the written pages of the active segment, so that no sync finds many of them. Called in the background.
    pub(crate) fn release_written(&self) -> Result<()> {
        let (active, resident) = {
            let mut tail = self.tail.lock();
            self.settle(&mut tail)?;
            (Arc::clone(&tail.active), tail.take_resident())
        };
        active.file.release_pages(resident.start, resident.end);
        Ok(())
    }

    /// Syncs full segments, if any, so that a later sync has less to do. Called in the background.
    pub(crate) fn sync_full(&self) -> Result<()> {
        let end =
            self.tail.lock().rest.unsynced.last().map(|full| Lsn::new(full.header.number + 1, 0));
        end.map_or(Ok(()), |end| self.sync_to(end))
    }

    /// Records what recovery found on disk or put there.
    pub(crate) fn set_durable(&self, lsn: Lsn) {
        self.commit.reached(lsn);
    }
}
