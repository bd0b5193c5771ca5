//! What a call may wait for, and for how long: memtable space while the bound on unflushed ids is reached, the end of a
//! reservation, and compaction of what is overwritten.

use crate::engine::core::{Awaited, Core, Healed, ShardCell};
use crate::error::{Error, ErrorKind, Result};
use crate::health::Health;
use crate::id::{IdHash, Key};
use crate::run::RunMeta;
use crate::shard::{Shard, Space, is_prepared};
use crate::sync::{MutexGuard, instant_in};
use std::time::{Duration, Instant};

/// How long one call may wait in total, over all its waits (I12): other callers may take the space or the id before it
/// gets its turn.
#[derive(Debug, Default)]
pub(crate) struct WaitBudget {
    /// The limit set by the call; `None` uses the store's `wait_max`.
    wait: Option<Duration>,
    /// Set by the first wait. Most calls never wait and never read the clock.
    until: Option<Instant>,
    /// The call gives up where it would have to wait, and is made again: see `future.rs`.
    gives_up: bool,
    /// A future makes the call.
    is_future: bool,
    /// What the call gave up for, and until when it would have waited.
    obstruction: Option<(Obstruction, Instant)>,
    /// Until when the call lets itself be slowed down by compaction. Set by the first such wait.
    slowed_until: Option<Instant>,
}

/// What a call that gave up would have waited for: the number of a shard, and what has to change in it.
pub(super) type Obstruction = (usize, Awaited);

impl WaitBudget {
    pub(in crate::engine) fn of(wait: Option<Duration>) -> Self {
        Self { wait, ..Self::default() }
    }

    /// As [`of`](Self::of), for a call that gives up instead of waiting. The deadline counts over all its attempts.
    pub(super) fn of_attempts(wait: Option<Duration>) -> Self {
        Self { wait, gives_up: true, ..Self::default() }
    }

    /// As [`of_attempts`](Self::of_attempts), for a call that a future makes.
    pub(super) fn of_future(wait: Option<Duration>) -> Self {
        Self { is_future: true, ..Self::of_attempts(wait) }
    }

    /// Returns the budget of a call that gives up instead of waiting, and is not made again.
    pub(crate) fn of_one_attempt() -> Self {
        Self::of_attempts(None)
    }

    /// Returns whether a future makes the call: it must not block its thread.
    pub(crate) fn is_future(&self) -> bool {
        self.is_future
    }

    /// Returns whether the last attempt gave up instead of waiting. It is made again, unless the future is dropped.
    pub(crate) fn has_given_up(&self) -> bool {
        self.obstruction.is_some()
    }

    /// Takes the reason the last attempt gave up. The call is to be made again when that has changed, and at the
    /// deadline.
    pub(super) fn take_obstruction(&mut self) -> Option<(Obstruction, Instant)> {
        self.obstruction.take()
    }

    /// Returns whether the call must give up now, and notes what for unless its time is over.
    fn gives_up(&mut self, cell: &ShardCell, what: Awaited, until: Instant) -> bool {
        if self.gives_up && instant_in(Duration::ZERO) < until {
            self.obstruction = Some(((cell.number, what), until));
        }
        self.gives_up
    }

    fn until(&mut self, wait_max: Duration) -> Instant {
        let wait = self.wait.unwrap_or(wait_max);
        *self.until.get_or_insert_with(|| instant_in(wait))
    }

    fn has_begun(&self) -> bool {
        self.until.is_some()
    }

    /// Returns whether the budget is used up. The first call starts the budget and returns `false`: a call that may not
    /// wait still uses what it has just healed.
    pub(super) fn is_over(&mut self, wait_max: Duration) -> bool {
        let has_begun = self.has_begun();
        let until = self.until(wait_max);
        has_begun && until < instant_in(Duration::ZERO)
    }
}

/// Ensures memtable space for `ids` more ids of `bytes` bytes in total. Returns `false` if the lock was released
/// meanwhile, so earlier lookups are stale.
#[inline]
pub(super) fn room_for(
    core: &Core,
    cell: &ShardCell,
    shard: &mut MutexGuard<'_, Shard>,
    ids: usize,
    bytes: usize,
    wait_budget: &mut WaitBudget,
) -> Result<bool> {
    match shard.make_space(ids, bytes, || core.log.end()) {
        Space::Free => Ok(true),
        Space::Froze => {
            core.signals.flush.raise();
            Ok(true)
        }
        Space::Full => wait_for_flush(core, cell, shard, wait_budget),
    }
}

/// Waits until the frozen memtable is flushed. Returns `false`: the lock was released.
#[cold]
fn wait_for_flush(
    core: &Core,
    cell: &ShardCell,
    shard: &mut MutexGuard<'_, Shard>,
    wait_budget: &mut WaitBudget,
) -> Result<bool> {
    // Check under the lock, like what follows: whoever changes this state takes the lock before notifying, so no
    // wakeup is lost between this check and the wait.
    core.health.check()?;
    // Flushing keeps failing. It will be retried, but waiting for that is pointless.
    if let Some(error) = core.flush_failure.lasting() {
        return Err(in_store(core, error));
    }
    if !wait_budget.has_begun() || !wait_budget.gives_up {
        core.counters.waits_for_flush.add(1);
    }
    let until = wait_budget.until(core.settings.wait_max);
    let timed_out = wait_budget.gives_up(cell, Awaited::Room, until)
        || cell.changed.wait_until(shard, until).timed_out();
    core.health.check()?;
    if timed_out && shard.frozen.is_some() {
        let slow = || Error::Timeout { what: "memtable space: flushing is slower than claims" };
        return Err(core.flush_failure.any().map_or_else(slow, |error| in_store(core, error)));
    }
    Ok(false)
}

/// Waits while compaction is far behind, for at most this long (I12): a call that overwrites rows makes it work.
const SLOWED_MAX: Duration = Duration::from_secs(1);

/// Slows down a call that overwrites rows to what compaction frees. Returns whether it has waited, after which lookups
/// are stale.
#[inline]
pub(super) fn keep_to_compaction(core: &Core, wait_budget: &mut WaitBudget) -> Result<bool> {
    if core.is_compaction_behind() { wait_for_compaction(core, wait_budget) } else { Ok(false) }
}

#[cold]
fn wait_for_compaction(core: &Core, wait_budget: &mut WaitBudget) -> Result<bool> {
    // Nobody compacts a store without background work, and one that cannot flush does not get that far.
    if !core.settings.background || core.flush_failure.lasting().is_some() {
        return Ok(false);
    }
    let until = wait_budget.until(core.settings.wait_max);
    let slowed_until = || {
        core.counters.waits_for_compaction.add(1);
        until.min(instant_in(SLOWED_MAX))
    };
    let until = *wait_budget.slowed_until.get_or_insert_with(slowed_until);
    if until <= instant_in(Duration::ZERO) {
        return Ok(false);
    }
    // Any shard will do: whoever looks at what compaction could free wakes those who wait in the first.
    if wait_budget.gives_up(&core.shards[0], Awaited::Compaction, until) {
        return Err(Error::Timeout { what: "compaction" });
    }
    core.wait_for_compaction(until);
    Ok(true)
}

/// Reports a full disk with the store's folder: a caller waiting for memtable space knows of no other file.
fn in_store(core: &Core, error: Error) -> Error {
    match error {
        full if full.kind() == ErrorKind::StorageFull => {
            Error::StorageFull { path: core.dir.clone() }
        }
        other => other,
    }
}

/// Waits until the current holder gives up the id. The caller looks up again.
pub(super) fn wait_for_release(
    core: &Core,
    cell: &ShardCell,
    shard: &mut MutexGuard<'_, Shard>,
    key: Key<'_>,
    hash: IdHash,
    wait_budget: &mut WaitBudget,
) -> Result<()> {
    let Some(holder) = shard.reserved.holder(key, hash) else { return Ok(()) };
    // For as long as nobody ends it, which may be for ever (I12).
    if is_prepared(holder) {
        return Err(Error::InDoubt);
    }
    let until = wait_budget.until(core.settings.wait_max);
    core.health.check()?;
    if wait_budget.gives_up(cell, Awaited::Release(hash), until) {
        return Err(still_reserved());
    }
    cell.wait_for_release(shard, key, hash, until, &core.health)
}

/// Heals as [`Core::heal`] does, for a call that looks up again afterwards and may find the next block
/// damaged. If the block store takes nothing and the cache is small, a block built for one lookup is gone by the
/// next, so the wait budget bounds the retries (I12).
pub(super) fn heal_in_time(
    core: &Core,
    run: &RunMeta,
    fault: &str,
    asked: IdHash,
    wait_budget: &mut WaitBudget,
) -> Result<()> {
    match core.heal(run, fault, Some(asked))? {
        Healed::InMemory if wait_budget.is_over(core.settings.wait_max) => {
            let fixed =
                || Error::Timeout { what: "healed blocks: the block store does not keep them" };
            Err(core.healer.failure().unwrap_or_else(fixed))
        }
        _ => Ok(()),
    }
}

fn still_reserved() -> Error {
    Error::Timeout { what: "the reservation of this id to be confirmed or dropped" }
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
                return Err(still_reserved());
            }
        }
        health.check()
    }
}

#[cfg(all(test, feature = "loom"))]
mod every_order;
