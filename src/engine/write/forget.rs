//! Forgetting: ends a claim with a tombstone.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::Core;
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::claim::ClaimSpec;
use crate::engine::write::decide::{Decision, decide};
use crate::engine::write::durability::{RestsOn, await_durable};
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
    let (was_live, rests_on) = forget_only(core, ns, id, spec, &mut WaitBudget::of(spec.wait))?;
    await_durable(core, spec.durability, rests_on)?;
    Ok(was_live)
}

/// Does the same without a wait for durability.
pub(super) fn forget_only(
    core: &Core,
    ns: &NsInfo,
    id: &[u8],
    spec: ClaimSpec,
    wait_budget: &mut WaitBudget,
) -> Result<(bool, Option<RestsOn>)> {
    let mut digest = None;
    let key = core.key(ns.id(), id, &mut digest)?;
    end(core, key, spec, wait_budget)
}

/// Does the same as [`forget`] for an id in its stored form.
pub(in crate::engine) fn forget_key(core: &Core, key: Key<'_>, spec: ClaimSpec) -> Result<bool> {
    let (was_live, rests_on) = end(core, key, spec, &mut WaitBudget::of(spec.wait))?;
    await_durable(core, spec.durability, rests_on)?;
    Ok(was_live)
}

fn end(
    core: &Core,
    key: Key<'_>,
    spec: ClaimSpec,
    wait_budget: &mut WaitBudget,
) -> Result<(bool, Option<RestsOn>)> {
    let hash = core.hash(key);
    let level = spec.durability.append_level();
    let (was_live, rests_on, shard) = decide(core, key, hash, level, wait_budget, decide_forget)?;
    drop(shard);
    Ok((was_live, rests_on))
}

fn decide_forget(known: Option<&Known>, at: Moment) -> Decision<bool> {
    match known {
        Some(known) if known.version.is_live(at.now) => {
            Decision::Append(true, known.version.tombstone(at.now), None)
        }
        _ => Decision::Answer(false, None),
    }
}
