//! Forgetting: ends a claim with a tombstone.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::Core;
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::claim::ClaimSpec;
use crate::engine::write::decide::{Decision, decide};
use crate::engine::write::durability::await_durable;
use crate::error::Result;
use crate::id::Key;
use crate::shard::Known;
use crate::time::Moment;

/// Ends the live claim of an id; returns whether there was one. The next claim is first seen.
pub(in crate::engine) fn forget(
    core: &Core,
    ns: &NsInfo,
    id: &[u8],
    spec: ClaimSpec,
) -> Result<bool> {
    let digest = core.settings.long_ids.digest(id);
    let key = Key::of(ns.id, id, digest.as_ref())?;
    core.health.check()?;
    forget_key(core, key, spec)
}

/// Does the same as [`forget`] for an id in its stored form.
pub(in crate::engine) fn forget_key(core: &Core, key: Key<'_>, spec: ClaimSpec) -> Result<bool> {
    let hash = core.hash(key);
    let level = spec.durability.append_level();
    let budget = WaitBudget::of(spec.wait);
    let (was_live, rests_on, shard) = decide(core, key, hash, level, budget, decide_forget)?;
    drop(shard);
    await_durable(core, spec.durability, rests_on)?;
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
