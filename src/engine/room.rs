//! Room in memory: claims wait for a seal only when the bound on unsealed memory is reached.

use crate::engine::{Engine, ShardCell};
use crate::error::{Error, Result};
use crate::id::{IdHash, Key};
use crate::shard::Shard;
use crate::sync::{MutexGuard, Ordering};

impl Engine {
    /// Makes sure that the open set takes `ids` more ids of `bytes` bytes in all. Answers `false` after
    /// the lock was released in between: what was looked up before is stale then.
    #[inline]
    pub(super) fn room_for(
        &self,
        cell: &ShardCell,
        shard: &mut MutexGuard<'_, Shard>,
        ids: usize,
        bytes: usize,
    ) -> Result<bool> {
        if !shard.open.is_full_for(ids, bytes) {
            return Ok(true);
        }
        self.make_room(cell, shard)
    }

    #[cold]
    fn make_room(&self, cell: &ShardCell, shard: &mut MutexGuard<'_, Shard>) -> Result<bool> {
        // A batch larger than a whole open set is let in on its own: batches are bounded.
        if shard.open.is_empty() {
            return Ok(true);
        }
        if shard.sealing.is_none() {
            // Under this lock no record of this shard can be appended, so all of them are before this.
            shard.freeze(self.log.end());
            self.signals.seal.raise();
            return Ok(true);
        }
        // Sealing has just failed for want of room and will be tried again: no use in waiting for it.
        if self.seal_is_full.load(Ordering::Acquire) {
            return Err(Error::StorageFull { path: self.dir.clone() });
        }
        self.counters.waits_for_seal.add(1);
        let timed_out = cell.changed.wait_for(shard, self.settings.wait_max).timed_out();
        self.health.check()?;
        if timed_out && shard.sealing.is_some() {
            return Err(Self::timed_out("room in memory: sealing cannot keep up or cannot write"));
        }
        Ok(false)
    }

    /// Waits until nobody holds the id any more. The caller looks again.
    pub(super) fn wait_for_release(
        &self,
        cell: &ShardCell,
        shard: &mut MutexGuard<'_, Shard>,
        key: Key<'_>,
        hash: IdHash,
    ) -> Result<()> {
        let Some(holder) = shard.reserved.holder(key, hash) else { return Ok(()) };
        // Others may be released meanwhile and ring the same bell, so the deadline is kept here.
        let deadline = parking_lot_deadline(self.settings.wait_max);
        while shard.reserved.holder(key, hash) == Some(holder) {
            if cell.changed.wait_until(shard, deadline).timed_out() {
                return Err(Self::timed_out(
                    "the reservation of this id to be confirmed or dropped",
                ));
            }
            self.health.check()?;
        }
        Ok(())
    }
}

/// The only use of the machine's instant: how long a thread sleeps, never what an answer is.
#[expect(
    clippy::disallowed_methods,
    reason = "a deadline for a condition variable, not engine time"
)]
fn parking_lot_deadline(wait: std::time::Duration) -> std::time::Instant {
    let now = std::time::Instant::now();
    now.checked_add(wait).unwrap_or(now)
}
