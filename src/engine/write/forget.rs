//! Forgetting: ends a claim with a tombstone.

use crate::engine::Engine;
use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::claim::ClaimSpec;
use crate::engine::write::decide::Decision;
use crate::error::Result;
use crate::id::Key;
use crate::shard::Known;
use crate::time::Moment;

impl Engine {
    /// Ends the live claim of an id; returns whether there was one. The next claim is first seen.
    pub(crate) fn forget(&self, ns: &NsInfo, id: &[u8], spec: ClaimSpec) -> Result<bool> {
        let digest = self.settings.long_ids.digest(id);
        let key = Key::of(ns.id, id, digest.as_ref())?;
        self.health.check()?;
        self.forget_key(key, spec)
    }

    /// Does the same as [`Engine::forget`] for an id in its stored form.
    pub(in crate::engine) fn forget_key(&self, key: Key<'_>, spec: ClaimSpec) -> Result<bool> {
        let hash = self.hash(key);
        let level = spec.durability.append_level();
        let budget = WaitBudget::of(spec.wait);
        let (was_live, rests_on, shard) =
            self.decide(key, hash, level, budget, Self::decide_forget)?;
        drop(shard);
        self.await_durable(spec.durability, rests_on)?;
        Ok(was_live)
    }

    fn decide_forget(known: Option<&Known>, at: Moment) -> Decision<bool> {
        match known {
            Some(known) if known.version.is_live(at.now) => {
                Decision::Append(true, known.version.tombstone(at.now), None)
            }
            _ => Decision::Answer(false, None),
        }
    }
}
