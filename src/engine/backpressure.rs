//! What a claim may wait for, and how long: room in memory, when the bound on unflushed ids is reached, and
//! the end of a reservation.

use crate::engine::{Engine, ShardCell};
use crate::error::{Error, Result};
use crate::health::Health;
use crate::id::{IdHash, Key};
use crate::shard::Shard;
use crate::sync::MutexGuard;
use std::time::{Duration, Instant};

/// How long one call may wait, over everything that it has to wait for one after the other (I12): others may
/// take the room or the id each time before the call gets its turn.
#[derive(Debug, Default)]
pub(super) struct WaitBudget {
    /// What the call asks for; without it the store's `wait_max` holds.
    wait: Option<Duration>,
    /// Set by the first wait; most calls never wait, and never ask for the time.
    until: Option<Instant>,
}

impl WaitBudget {
    pub(super) fn of(wait: Option<Duration>) -> Self {
        Self { wait, until: None }
    }

    fn until(&mut self, wait_max: Duration) -> Instant {
        let wait = self.wait.unwrap_or(wait_max);
        *self.until.get_or_insert_with(|| deadline(wait))
    }

    /// Whether it has come to its end. Begins with the first question, to which the answer is no: a call
    /// that may not wait still uses what it has just healed.
    pub(super) fn is_over(&mut self, wait_max: Duration) -> bool {
        let has_begun = self.until.is_some();
        let until = self.until(wait_max);
        has_begun && until < deadline(Duration::ZERO)
    }
}

impl Engine {
    /// Makes sure that the memtable takes `ids` more ids of `bytes` bytes in all. Answers `false` after
    /// the lock was released in between: what was looked up before is stale then.
    #[inline]
    pub(super) fn room_for(
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
        // A batch larger than a whole memtable is let in on its own: batches are bounded.
        if shard.memtable.is_empty() {
            return Ok(true);
        }
        if shard.frozen.is_none() {
            // Under this lock no record of this shard can be appended, so all of them are before this.
            shard.freeze(self.log.end());
            self.signals.flush.raise();
            return Ok(true);
        }
        // Looked at under the lock, like what follows: whoever changes it rings with the lock, or the bell
        // could go between this look and the wait.
        self.health.check()?;
        // Flushing has just failed and will be tried again, but there is no use in waiting for that.
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

    /// A full disk is told by the folder of the store: whoever waits for room in memory knows of no other file.
    fn in_store(&self, error: Error) -> Error {
        match error {
            Error::StorageFull { .. } => Error::StorageFull { path: self.dir.clone() },
            other => other,
        }
    }

    /// Waits until nobody holds the id any more. The caller looks again.
    pub(super) fn wait_for_release(
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

    /// Lets everybody who waits in a shard look again: the store was closed or has stopped, or flushing has
    /// failed.
    pub(super) fn wake_waiters(&self) {
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
            // Under the lock and before the wait: see `wake`.
            health.check()?;
            if self.changed.wait_until(shard, until).timed_out() {
                return Err(Engine::timed_out(
                    "the reservation of this id to be confirmed or dropped",
                ));
            }
        }
        health.check()
    }

    /// Rings for a change that the lock does not guard, such as a store that has stopped. So the lock is
    /// taken once: who has looked before the change is waiting by then, and hears the bell (I12).
    fn wake(&self) {
        drop(self.shard.lock());
        self.changed.notify_all();
    }
}

const FAR: Duration = Duration::from_secs(1 << 30);

/// The only use of the machine's instant: how long a thread sleeps, never what an answer is.
#[expect(
    clippy::disallowed_methods,
    reason = "a deadline for a condition variable, not engine time"
)]
fn deadline(wait: Duration) -> Instant {
    let now = Instant::now();
    // A wait that the machine's clock cannot express is one that nobody will see the end of.
    now.checked_add(wait).unwrap_or_else(|| now + FAR)
}

#[cfg(all(test, feature = "loom"))]
mod every_order;
