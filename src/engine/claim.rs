//! The claim: one id, one winner (I1).

use crate::engine::backpressure::WaitBudget;
use crate::engine::namespaces::NsInfo;
use crate::engine::{Durability, Engine};
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::Key;
use crate::shard::{Known, Lookup, Shard};
use crate::sync::MutexGuard;
use crate::time::{Moment, Timestamp, Ttl};
use crate::wal::Lsn;
use std::time::Duration;

/// How an id is claimed: the settings of store and namespace, and what the call says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimSpec {
    pub(crate) ttl: Ttl,
    pub(crate) sliding: bool,
    pub(crate) durability: Durability,
    /// How long the call may wait; `None`: as long as the store says.
    pub(crate) wait: Option<Duration>,
}

/// The answer for one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    FirstSeen,
    Duplicate { first_seen: Timestamp },
}

impl Engine {
    /// Claims one id. Under the shard's lock: look, write the record, enter it. The record is in the log
    /// before the id is in the set and before anyone hears of it, so a refused write leaves no claim.
    pub(crate) fn claim(&self, ns: &NsInfo, id: &[u8], spec: ClaimSpec) -> Result<Answer> {
        let digest = self.settings.long_ids.digest(id);
        let key = Key::of(ns.id, id, digest.as_ref())?;
        self.health.check()?;
        let hash = self.hash(key);
        let cell = self.cell(hash);
        let mut wait_budget = WaitBudget::of(spec.wait);
        let mut shard = cell.shard.lock();
        let (answer, await_lsn) = loop {
            if !shard.reserved.is_empty() && shard.reserved.holder(key, hash).is_some() {
                self.wait_for_release(cell, &mut shard, key, hash, &mut wait_budget)?;
                continue;
            }
            let at = self.time.moment();
            let now = at.now;
            let known = match shard.lookup(key, hash, self.run_access()) {
                Lookup::Unknown => None,
                Lookup::Known(known) => Some(known),
                Lookup::Damaged(run, fault) => {
                    MutexGuard::unlocked(&mut shard, || {
                        self.heal_in_time(&run, &fault, hash, &mut wait_budget)
                    })?;
                    continue;
                }
            };
            if let Some(known) = known
                && known.version.is_live(now)
            {
                let first_seen = known.version.first_seen;
                let extended = if spec.sliding {
                    if !self.room_for(cell, &mut shard, 1, key.id.len(), &mut wait_budget)? {
                        continue;
                    }
                    self.extend(&mut shard, key, known, at, spec)?
                } else {
                    None
                };
                let await_lsn =
                    extended.map(|lsn| (lsn, true)).or(known.lsn.map(|lsn| (lsn, false)));
                break (Answer::Duplicate { first_seen }, await_lsn);
            }
            if !self.room_for(cell, &mut shard, 1, key.id.len(), &mut wait_budget)? {
                continue; // the lock was released: look again
            }
            let before = known.as_ref().map(|known| &known.version);
            let version = Version::claim_at(at, spec.ttl).after(before);
            let level = spec.durability.append_level();
            let lsn = self.log.append_claim(level, now, spec.ttl, key, version)?;
            shard.put(key, hash, version, lsn, known);
            break (Answer::FirstSeen, Some((lsn, true)));
        };
        ns.count(hash.shard(self.shard_bits), answer == Answer::FirstSeen, 1);
        drop(shard);
        if let Some((lsn, appended)) = await_lsn {
            self.await_durable(spec.durability, lsn, appended)?;
        }
        Ok(answer)
    }

    /// Sliding ttl: a duplicate moves the end of the claim, if that makes it later.
    fn extend(
        &self,
        shard: &mut Shard,
        key: Key<'_>,
        known: Known,
        at: Moment,
        spec: ClaimSpec,
    ) -> Result<Option<Lsn>> {
        let Some(version) = Self::extended(&known, at, spec) else { return Ok(None) };
        let level = spec.durability.append_level();
        let entry = std::iter::once((key, version));
        let lsn = self.log.append_versions(level, version.generation(), entry)?;
        shard.put(key, self.hash(key), version, lsn, Some(known));
        Ok(Some(lsn))
    }

    /// What a duplicate makes of a claim with sliding ttl; `None` if its end does not move.
    pub(super) fn extended(known: &Known, at: Moment, spec: ClaimSpec) -> Option<Version> {
        let renewed = Version::claim_at(at, spec.ttl);
        let version = Version { first_seen: known.version.first_seen, ..renewed };
        let later = renewed.deadline > known.version.deadline;
        later.then(|| version.after(Some(&known.version)))
    }

    /// The message for a wait that ended at its deadline (I12).
    pub(super) fn timed_out(what: &'static str) -> Error {
        Error::Timeout { what }
    }
}
