//! Batches: many ids, one lock set, one log record, all or nothing.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::Core;
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::claim::{Claim, ClaimSpec, decide_claim};
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::engine::write::lock_set::{digests, members};
use crate::engine::write::walk::{Full, decide_all};
use crate::error::Result;

/// Claims all ids of a batch as one record: either all first-seen ids become claims or, if the record is not
/// written, none. A copy of an id within the batch is a duplicate of the first.
pub(in crate::engine) fn claim_batch<I: AsRef<[u8]>>(
    core: &Core,
    ns: &NsInfo,
    ids: &[I],
    spec: ClaimSpec,
) -> Result<Vec<Claim>> {
    let (answers, rests_on) =
        claim_batch_only(core, ns, ids, spec, &mut WaitBudget::of(spec.wait))?;
    await_durable(core, spec.durability, rests_on)?;
    Ok(answers)
}

/// Does the same without a wait for durability.
pub(super) fn claim_batch_only<I: AsRef<[u8]>>(
    core: &Core,
    ns: &NsInfo,
    ids: &[I],
    spec: ClaimSpec,
    wait_budget: &mut WaitBudget,
) -> Result<(Vec<Claim>, Option<RestsOn>)> {
    core.health.check()?;
    let digests = digests(core, ids);
    let members = members(core, ns, ids, &digests)?;
    let mut decided = decide_all(core, &members, &Full, wait_budget, |found, at| {
        found.or_wait(|known| decide_claim(known, at, spec))
    })?;
    let rests_on = decided.append(core, spec.durability.append_level(), spec.ttl)?;
    // Still under the locks.
    for (member, answer) in members.iter().zip(&decided.answers) {
        ns.count(member.shard, *answer == Claim::FirstSeen, 1);
    }
    Ok((decided.answers, rests_on))
}
