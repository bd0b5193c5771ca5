//! The one way to decide an id: look it up under its shard's lock, decide, append one record, enter it. `walk.rs` does
//! so with many.
//!
//! The decision is a pure function of what is known and of the time. Anything that may release the lock in between (a
//! reservation, a damaged block, a full memtable) leads back to the lookup, so no decision uses a stale one.

use crate::engine::core::Core;
use crate::engine::write::backpressure::{WaitBudget, heal_in_time, room_for, wait_for_release};
use crate::engine::write::durability::RestsOn;
use crate::error::Result;
use crate::expiry::Version;
use crate::id::{IdHash, Key};
use crate::shard::{Known, Lookup, Shard};
use crate::sync::MutexGuard;
use crate::time::{Moment, Ttl};
use crate::wal::{AppendLevel, Lsn};

/// What to do about an id.
#[derive(Debug)]
pub(super) enum Decision<T> {
    /// Return this and write nothing. It depends on the given record; `None` if that is on disk or there is none.
    Answer(T, Option<Lsn>),
    /// Append this version and enter it. With a ttl it is a claim, written in short form if possible.
    Append(T, Version, Option<Ttl>),
}

/// What is known of an id, or that the lock was released to heal a block.
enum Looked {
    Here(Option<Known>),
    Healed,
}

/// Decides one id. Returns with the lock still held, so that the caller can count.
#[inline]
pub(super) fn decide<'a, T>(
    core: &'a Core,
    key: Key<'_>,
    hash: IdHash,
    level: AppendLevel,
    wait_budget: &mut WaitBudget,
    decide: impl Fn(Option<&Known>, Moment) -> Decision<T>,
) -> Result<(T, Option<RestsOn>, MutexGuard<'a, Shard>)> {
    let cell = core.cell(hash);
    let mut shard = cell.shard.lock();
    loop {
        if !shard.reserved.is_empty() && shard.reserved.holder(key, hash).is_some() {
            wait_for_release(core, cell, &mut shard, key, hash, wait_budget)?;
            continue;
        }
        let at = core.time.moment();
        let Looked::Here(known) = look(core, &mut shard, key, hash, wait_budget)? else {
            continue;
        };
        let (answer, version, ttl) = match decide(known.as_ref(), at) {
            Decision::Answer(answer, lsn) => {
                let rests_on = lsn.map(RestsOn::others);
                return Ok((answer, rests_on, shard));
            }
            Decision::Append(answer, version, ttl) => (answer, version, ttl),
        };
        if !room_for(core, cell, &mut shard, 1, key.id.len(), wait_budget)? {
            continue;
        }
        // Entered after its record: nobody can find a claim that is not in the log (I1, I6, I7).
        let lsn = match ttl {
            Some(ttl) => core.log.append_claim(level, at.now, ttl, key, version)?,
            None => {
                let one = std::iter::once((key, version));
                core.log.append_versions(level, version.generation(), one)?
            }
        };
        shard.enter(key, hash, version, lsn, known);
        return Ok((answer, Some(RestsOn::own(lsn)), shard));
    }
}

/// Returns the version of an id that counts, live or not. Reads only.
pub(super) fn known(core: &Core, key: Key<'_>) -> Result<Option<Known>> {
    let hash = core.hash(key);
    let mut wait_budget = WaitBudget::default();
    let mut shard = core.cell(hash).shard.lock();
    loop {
        if let Looked::Here(known) = look(core, &mut shard, key, hash, &mut wait_budget)? {
            return Ok(known);
        }
    }
}

#[inline]
fn look(
    core: &Core,
    shard: &mut MutexGuard<'_, Shard>,
    key: Key<'_>,
    hash: IdHash,
    wait_budget: &mut WaitBudget,
) -> Result<Looked> {
    match shard.lookup(key, hash, core.run_access()) {
        Lookup::Unknown => Ok(Looked::Here(None)),
        Lookup::Known(known) => Ok(Looked::Here(Some(known))),
        Lookup::Damaged(run, fault) => {
            MutexGuard::unlocked(shard, || heal_in_time(core, &run, &fault, hash, wait_budget))?;
            Ok(Looked::Healed)
        }
    }
}
