//! Forgetting: ends a claim by a tombstone.

use crate::engine::Engine;
use crate::engine::backpressure::WaitBudget;
use crate::engine::claim::ClaimSpec;
use crate::engine::namespaces::NsInfo;
use crate::error::Result;
use crate::id::Key;
use crate::shard::Lookup;
use crate::sync::MutexGuard;

impl Engine {
    /// Ends the live claim of an id; answers whether there was one. The next claim is a first.
    pub(crate) fn forget(&self, ns: &NsInfo, id: &[u8], spec: ClaimSpec) -> Result<bool> {
        let digest = self.settings.long_ids.digest(id);
        let key = Key::of(ns.id, id, digest.as_ref())?;
        self.health.check()?;
        self.forget_key(key, spec)
    }

    /// As [`Engine::forget`], of an id as it is stored.
    pub(super) fn forget_key(&self, key: Key<'_>, spec: ClaimSpec) -> Result<bool> {
        let hash = self.hash(key);
        let cell = self.cell(hash);
        let mut wait_budget = WaitBudget::of(spec.wait);
        let mut shard = cell.shard.lock();
        let lsn = loop {
            if shard.reserved.holder(key, hash).is_some() {
                self.wait_for_release(cell, &mut shard, key, hash, &mut wait_budget)?;
                continue;
            }
            let known = match shard.lookup(key, hash, self.run_access()) {
                Lookup::Unknown => return Ok(false),
                Lookup::Known(known) => known,
                Lookup::Damaged(run, fault) => {
                    MutexGuard::unlocked(&mut shard, || {
                        self.heal_in_time(&run, &fault, hash, &mut wait_budget)
                    })?;
                    continue;
                }
            };
            let now = self.time.now();
            if !known.version.is_live(now) {
                return Ok(false);
            }
            if !self.room_for(cell, &mut shard, 1, key.id.len(), &mut wait_budget)? {
                continue;
            }
            let grave = known.version.tombstone(now);
            let level = spec.durability.append_level();
            let entry = std::iter::once((key, grave));
            let lsn = self.log.append_versions(level, grave.generation(), entry)?;
            shard.put(key, hash, grave, lsn, Some(known));
            break lsn;
        };
        drop(shard);
        self.await_durable(spec.durability, lsn, true)?;
        Ok(true)
    }
}
