//! Decides one id: looks it up under its shard's lock, decides, appends one record, enters it. `walk.rs` decides many.
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
use crate::sync::{MutexGuard, lock_awake};
use crate::time::{Moment, Ttl};
use crate::wal::{AppendLevel, Lsn};

/// What to do about an id.
#[derive(Debug)]
pub(super) enum Decision<T> {
    /// Answer without writing. The answer rests on the record at this location, if one may not be on disk yet.
    Answer(T, Option<Lsn>),
    /// Append this version and enter it. With a ttl it is a claim, written in short form if possible.
    Append(T, Version, Option<Ttl>),
}

/// What is known of an id, or that the lock was released to heal a block.
enum Looked {
    Here(Option<Known>),
    Healed,
}

/// Decides one id. Returns with the lock still held, so that the caller can count the answer under it.
#[inline]
pub(super) fn decide<'a, T>(
    core: &'a Core,
    key: Key<'_>,
    hash: IdHash,
    level: AppendLevel,
    wait_budget: &mut WaitBudget,
    decision: impl Fn(Option<&Known>, Moment) -> Decision<T>,
) -> Result<(T, Option<RestsOn>, MutexGuard<'a, Shard>)> {
    let cell = core.cell(hash);
    let mut shard = lock_awake(&cell.shard);
    loop {
        if !shard.reserved.is_empty() && shard.reserved.holder(key, hash).is_some() {
            wait_for_release(core, cell, &mut shard, key, hash, wait_budget)?;
            continue;
        }
        let at = core.time.moment();
        let Looked::Here(known) = look(core, &mut shard, key, hash, wait_budget)? else {
            continue;
        };
        let (answer, version, ttl) = match decision(known.as_ref(), at) {
            Decision::Answer(answer, lsn) => {
                let rests_on = lsn.map(RestsOn::others);
                return Ok((answer, rests_on, shard));
            }
            Decision::Append(answer, version, ttl) => (answer, version, ttl),
        };
        // False: it waited and let the lock go, so look up again.
        if !room_for(core, cell, &mut shard, 1, key.id.len(), wait_budget)? {
            continue;
        }
        // Entered after its record: a refused append leaves nothing to undo (I7). A set undoes: `pending.rs`.
        let lsn = match ttl {
            Some(ttl) => core.log.append_claim(cell.number, level, at.now, ttl, key, version)?,
            None => core.log.append_version(cell.number, level, key, version)?,
        };
        shard.enter(key, hash, version, lsn, known);
        return Ok((answer, Some(RestsOn::own(lsn)), shard));
    }
}

/// Returns the version of an id that counts, live or not. Writes nothing, but may heal a damaged block.
pub(super) fn known(core: &Core, key: Key<'_>) -> Result<Option<Known>> {
    let hash = core.hash(key);
    let mut wait_budget = WaitBudget::default();
    let mut shard = lock_awake(&core.cell(hash).shard);
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
