//! What a claim may wait for, and for how long: memtable space while the bound on unflushed ids is reached, and the end
//! of a reservation.

use crate::engine::{Engine, ShardCell};
use crate::error::{Error, Result};
use crate::health::Health;
use crate::id::{IdHash, Key};
use crate::shard::Shard;
use crate::sync::MutexGuard;
use std::time::{Duration, Instant};

/// How long one call may wait in total, over all its waits (I12): other callers may take the space or the id before it
/// gets its turn.
#[derive(Debug, Default)]
pub(in crate::engine) struct WaitBudget {
    /// The limit set by the call; `None` uses the store's `wait_max`.
    wait: Option<Duration>,
    /// Set by the first wait. Most calls never wait and never read the clock.
    until: Option<Instant>,
}

impl WaitBudget {
    pub(in crate::engine) fn of(wait: Option<Duration>) -> Self {
        Self { wait, until: None }
    }

    fn until(&mut self, wait_max: Duration) -> Instant {
        let wait = self.wait.unwrap_or(wait_max);
        *self.until.get_or_insert_with(|| deadline(wait))
    }

    /// Returns whether the budget is used up. The first call starts the budget and returns `false`: a call that may not
    /// wait still uses what it has just healed.
    pub(in crate::engine) fn is_over(&mut self, wait_max: Duration) -> bool {
        let has_begun = self.until.is_some();
        let until = self.until(wait_max);
        has_begun && until < deadline(Duration::ZERO)
    }
}

impl Engine {
    /// Ensures memtable space for `ids` more ids of `bytes` bytes in total. Returns `false` if the lock was released
    /// meanwhile, so earlier lookups are stale.
    #[inline]
    pub(in crate::engine) fn room_for(
        &self,
        cell: &ShardCell,
        shard: &mut MutexGuard<'_, Shard>,
        ids: usize,
        bytes: usize,
        wait_budget: &mut WaitBudget,
    ) -> Result<bool> {
        if !shard.memtable.is_full_for(ids, bytes) {
            return Ok(true);
        }
        self.make_room(cell, shard, wait_budget)
    }

    #[cold]
    fn make_room(
        &self,
        cell: &ShardCell,
        shard: &mut MutexGuard<'_, Shard>,
        wait_budget: &mut WaitBudget,
    ) -> Result<bool> {
        // Let a batch larger than a whole memtable in on its own: batches are bounded.
        if shard.memtable.is_empty() {
            return Ok(true);
        }
        if shard.frozen.is_none() {
            // No record of this shard can be appended under this lock, so all of them lie before this location.
            shard.freeze(self.log.end());
            self.signals.flush.raise();
            return Ok(true);
        }
        // Check under the lock, like what follows: whoever changes this state takes the lock before notifying, so no
        // wakeup is lost between this check and the wait.
        self.health.check()?;
        // Flushing keeps failing. It will be retried, but waiting for that is pointless.
        if let Some(error) = self.flush_failure.lasting() {
            return Err(self.in_store(error));
        }
        self.counters.waits_for_flush.add(1);
        let until = wait_budget.until(self.settings.wait_max);
        let timed_out = cell.changed.wait_until(shard, until).timed_out();
        self.health.check()?;
        if timed_out && shard.frozen.is_some() {
            let slow =
                || Self::timed_out("room in memory: flushing cannot keep up with the claims");
            return Err(self.flush_failure.any().map_or_else(slow, |error| self.in_store(error)));
        }
        Ok(false)
    }

    /// Reports a full disk with the store's folder: a caller waiting for memtable space knows of no other file.
    fn in_store(&self, error: Error) -> Error {
        match error {
            Error::StorageFull { .. } => Error::StorageFull { path: self.dir.clone() },
            other => other,
        }
    }

    /// Waits until the current holder gives up the id. The caller looks up again.
    pub(in crate::engine) fn wait_for_release(
        &self,
        cell: &ShardCell,
        shard: &mut MutexGuard<'_, Shard>,
        key: Key<'_>,
        hash: IdHash,
        wait_budget: &mut WaitBudget,
    ) -> Result<()> {
        if shard.reserved.holder(key, hash).is_none() {
            return Ok(());
        }
        let until = wait_budget.until(self.settings.wait_max);
        cell.wait_for_release(shard, key, hash, until, &self.health)
    }

    /// Wakes every waiter to check again: the store was closed or stopped, or flushing failed.
    pub(in crate::engine) fn wake_waiters(&self) {
        self.shards.iter().for_each(|cell| cell.wake());
    }
}

impl ShardCell {
    fn wait_for_release(
        &self,
        shard: &mut MutexGuard<'_, Shard>,
        key: Key<'_>,
        hash: IdHash,
        until: Instant,
        health: &Health,
    ) -> Result<()> {
        let holder = shard.reserved.holder(key, hash);
        while holder.is_some() && shard.reserved.holder(key, hash) == holder {
            // Check under the lock and before the wait: see `wake`.
            health.check()?;
            if self.changed.wait_until(shard, until).timed_out() {
                return Err(Engine::timed_out(
                    "the reservation of this id to be confirmed or dropped",
                ));
            }
        }
        health.check()
    }

    /// Notifies waiters of a change that the lock does not guard, such as a stopped store. Takes the lock first:
    /// whoever checked before the change is waiting by then, so no wakeup is lost (I12).
    fn wake(&self) {
        drop(self.shard.lock());
        self.changed.notify_all();
    }
}

const FAR: Duration = Duration::from_secs(1 << 30);

/// Returns the deadline of a wait. The only use of the machine's `Instant`: it decides how long a thread sleeps, never
/// what a call returns.
#[expect(
    clippy::disallowed_methods,
    reason = "a deadline for a condition variable, not engine time"
)]
fn deadline(wait: Duration) -> Instant {
    let now = Instant::now();
    // A wait too long for the machine's clock to represent is as good as endless.
    now.checked_add(wait).unwrap_or_else(|| now + FAR)
}

#[cfg(all(test, feature = "loom"))]
mod every_order;
