//! Two-phase commit: what is prepared is held until somebody says how it ends.
//!
//! A prepared transaction is a row with everything that it will write. Ids and rows that it will write are held in memory
//! meanwhile, as reserved ones are, in the name of that row. Opening holds them again.

use crate::engine::core::Core;
use crate::engine::write::intent::{Intent, Prepared, PreparedState};
use crate::engine::write::lock_set::{LockSet, Member};
use crate::engine::write::rows::list_rows;
use crate::error::Result;
use crate::id::Family;
use crate::shard::prepared_holder;
use crate::sync::Ordering;

/// Holds what a transaction has prepared.
pub(super) fn hold(core: &Core, members: &[Member<'_>], sequence: u64, locked: &mut LockSet<'_>) {
    let since_ms = core.settings.clock.elapsed_ms();
    for Member { key, hash, shard } in members {
        let reserved = &mut locked.shard(*shard).reserved;
        reserved.insert(*key, *hash, prepared_holder(sequence), since_ms, &core.hasher);
    }
    core.prepared.fetch_add(1, Ordering::AcqRel);
}

/// Holds again what was prepared before the store was opened.
pub(in crate::engine) fn hold_prepared(core: &Core) -> Result<()> {
    list_rows(core, Family::PREPARED, |key, row| {
        let row = row?;
        let Prepared { state, intent, .. } = Prepared::decode(&core.dir, key.id, &row.value)?;
        if state != PreparedState::InDoubt {
            return Ok(());
        }
        let since_ms = core.settings.clock.elapsed_ms();
        for key in intent.keys() {
            let hash = core.hash(key);
            let mut shard = core.cell(hash).shard.lock();
            let reserved = &mut shard.reserved;
            reserved.insert(key, hash, prepared_holder(row.sequence), since_ms, &core.hasher);
        }
        core.prepared.fetch_add(1, Ordering::AcqRel);
        Ok(())
    })
}

/// Lets go of what a prepared transaction holds, once its end is stored.
pub(in crate::engine) fn release_prepared(core: &Core, intent: &Intent, sequence: u64) {
    for key in intent.keys() {
        let hash = core.hash(key);
        core.cell(hash).shard.lock().reserved.remove(key, hash, prepared_holder(sequence));
    }
    core.prepared.fetch_sub(1, Ordering::AcqRel);
}
