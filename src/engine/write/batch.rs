//! Batches: many ids, one lock set, one log record, all or nothing.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::Core;
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::claim::{Claim, ClaimSpec, Outcome, extended, outcome};
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::engine::write::lock_set::{
    GROUP, LockSet, Member, Obstacle, digests, lock_all, members, remove_obstacle,
};
use crate::error::Result;
use crate::expiry::Version;
use crate::memtable::EntryOffset;
use crate::shard::{Known, Lookup};
use crate::time::Moment;
use crate::wal::Lsn;

/// Placeholder location of a record not yet written.
const PENDING: Lsn = Lsn(u64::MAX);

/// What one pass over a batch has found.
#[derive(Default)]
struct Round<'a> {
    /// One answer per id, in batch order.
    answers: Vec<Claim>,
    /// First-seen ids, with what was known of them and the version that claims them. They enter the memtable before
    /// their record is written, so that copies within the batch are found, and are taken out again if the append is
    /// refused. All locks are held, so nobody sees them in between.
    entered: Vec<(Member<'a>, Option<Known>, EntryOffset, Version)>,
    /// Duplicates whose claim a sliding ttl may extend.
    extend: Vec<(Member<'a>, Known)>,
    /// Indices of the answers for copies of an id first seen in this batch.
    copies: Vec<usize>,
    /// The last record that an answer depends on.
    rests_on: Option<Lsn>,
}

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
    loop {
        let mut locked = lock_all(core, &members, wait_budget)?;
        let at = core.time.moment();
        let mut round = Round::default();
        if let Some(obstacle) = look_at_batch(core, &mut locked, &members, spec, at, &mut round) {
            round.undo(&mut locked);
            drop(locked);
            remove_obstacle(core, obstacle, wait_budget)?;
            continue;
        }
        let rests_on = append_batch(core, &mut locked, spec, at, &mut round)?;
        for (member, answer) in members.iter().zip(&round.answers) {
            ns.count(member.shard, *answer == Claim::FirstSeen, 1);
        }
        return Ok((round.answers, rests_on));
    }
}

/// Looks up all ids and enters the new ones; returns the first obstacle that keeps one from being decided.
fn look_at_batch<'a>(
    core: &Core,
    locked: &mut LockSet<'_>,
    members: &[Member<'a>],
    spec: ClaimSpec,
    at: Moment,
    round: &mut Round<'a>,
) -> Option<Obstacle<'a>> {
    round.answers.reserve(members.len());
    let mut runs = [0; GROUP];
    for (n, member) in members.iter().enumerate() {
        if n % GROUP == 0 {
            runs = locked.prefetch_all(&members[n..members.len().min(n + GROUP)]);
        }
        let first = runs[n % GROUP];
        let shard = locked.shard(member.shard);
        if shard.reserved.holder(member.key, member.hash).is_some() {
            return Some(Obstacle::Reserved(*member));
        }
        let access = core.run_access();
        let known = match shard.lookup_prefetched(member.key, member.hash, access, first) {
            Lookup::Unknown => None,
            Lookup::Known(known) => Some(known),
            Lookup::Damaged(run, fault) => {
                return Some(Obstacle::Damaged(run, fault, member.hash));
            }
        };
        match outcome(known.as_ref(), at, spec.ttl) {
            Outcome::Duplicate(known) => {
                if known.lsn == Some(PENDING) {
                    round.copies.push(round.answers.len());
                } else {
                    round.rests_on = round.rests_on.max(known.lsn);
                    if spec.sliding {
                        round.extend.push((*member, *known));
                    }
                }
                let first_seen = known.version.first_seen();
                round.answers.push(Claim::Duplicate { first_seen });
            }
            Outcome::FirstSeen(version) => {
                // The location is set once it is known for the whole batch.
                let offset = shard.put(member.key, member.hash, version, PENDING, known);
                round.entered.push((*member, known, offset, version));
                round.answers.push(Claim::FirstSeen);
            }
        }
    }
    None
}

/// Writes claims and extensions as one record; on error, neither exists.
fn append_batch(
    core: &Core,
    locked: &mut LockSet<'_>,
    spec: ClaimSpec,
    at: Moment,
    round: &mut Round<'_>,
) -> Result<Option<RestsOn>> {
    let claims = round.entered.iter();
    let claims = claims.map(|(member, _, offset, version)| (*member, *version, Some(*offset)));
    let extended = round
        .extend
        .iter()
        .filter_map(|(member, known)| Some((*member, extended(known, at, spec)?, None)));
    let changes: Vec<(Member<'_>, Version, Option<EntryOffset>)> = claims.chain(extended).collect();
    if changes.is_empty() {
        return Ok(round.rests_on.map(RestsOn::others));
    }
    let versions = changes.iter().map(|(member, version, _)| (member.key, *version));
    let level = spec.durability.append_level();
    let mut lsns = Vec::new();
    let log = &core.log;
    let lsn = match log.append_claims(level, at.now, spec.ttl, versions, &mut lsns) {
        Ok(lsn) => lsn,
        Err(e) => {
            round.undo(locked);
            return Err(e);
        }
    };
    for ((member, version, offset), lsn) in changes.iter().zip(lsns) {
        let memtable = &mut locked.shard(member.shard).memtable;
        match offset {
            Some(offset) => memtable.put_at(*offset, *version, lsn),
            // Not as new: an extended id may occur twice in the batch.
            None => _ = memtable.put(member.key, member.hash, *version, lsn),
        }
    }
    for copy in &round.copies {
        round.answers[*copy] = Claim::Duplicate { first_seen: at.now };
    }
    Ok(Some(RestsOn::own(lsn)))
}

impl Round<'_> {
    /// Takes out what was entered before its record was written.
    fn undo(&self, locked: &mut LockSet<'_>) {
        for (member, known, offset, _) in self.entered.iter().rev() {
            let shard = locked.shard(member.shard);
            match known {
                Some(known) if known.in_memtable => {
                    let lsn = known.lsn.unwrap_or_default();
                    shard.memtable.put_at(*offset, known.version, lsn);
                }
                _ => shard.memtable.remove(member.key, member.hash),
            }
        }
    }
}
