//! The claim: one id, one winner (I1).

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::decide::Decision;
use crate::engine::{Durability, Engine};
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::Key;
use crate::shard::Known;
use crate::time::{Moment, Timestamp, Ttl};
use std::time::Duration;

/// How an id is claimed: the settings of store and namespace, with the options of the call applied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimSpec {
    pub(crate) ttl: Ttl,
    pub(crate) sliding: bool,
    pub(crate) durability: Durability,
    /// How long the call may wait; `None` uses the store's limit.
    pub(crate) wait: Option<Duration>,
}

/// The answer for one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    FirstSeen,
    Duplicate { first_seen: Timestamp },
}

impl Engine {
    /// Claims one id: one lock, one lookup, one record.
    pub(crate) fn claim(&self, ns: &NsInfo, id: &[u8], spec: ClaimSpec) -> Result<Answer> {
        let digest = self.settings.long_ids.digest(id);
        let key = Key::of(ns.id, id, digest.as_ref())?;
        self.health.check()?;
        let hash = self.hash(key);
        let level = spec.durability.append_level();
        let (answer, rests_on, shard) =
            self.decide(key, hash, level, WaitBudget::of(spec.wait), |known, at| {
                Self::decide_claim(known, at, spec)
            })?;
        ns.count(hash.shard(self.shard_bits), answer == Answer::FirstSeen, 1);
        drop(shard);
        self.await_durable(spec.durability, rests_on)?;
        Ok(answer)
    }

    /// Decides a claim: a duplicate of a live claim, otherwise first seen.
    #[inline]
    fn decide_claim(known: Option<&Known>, at: Moment, spec: ClaimSpec) -> Decision<Answer> {
        if let Some(known) = known
            && known.version.is_live(at.now)
        {
            let answer = Answer::Duplicate { first_seen: known.version.first_seen };
            let extended = if spec.sliding { Self::extended(known, at, spec) } else { None };
            return match extended {
                Some(version) => Decision::Append(answer, version, None),
                None => Decision::Answer(answer, known.lsn),
            };
        }
        let before = known.map(|known| &known.version);
        let version = Version::claim_at(at, spec.ttl).after(before);
        Decision::Append(Answer::FirstSeen, version, Some(spec.ttl))
    }

    /// Returns the version by which a duplicate extends a sliding claim; `None` if the deadline does not move.
    pub(in crate::engine) fn extended(
        known: &Known,
        at: Moment,
        spec: ClaimSpec,
    ) -> Option<Version> {
        let renewed = Version::claim_at(at, spec.ttl);
        let version = Version { first_seen: known.version.first_seen, ..renewed };
        let later = renewed.deadline > known.version.deadline;
        later.then(|| version.after(Some(&known.version)))
    }

    /// Returns the error for a wait that reached its deadline (I12).
    pub(in crate::engine) fn timed_out(what: &'static str) -> Error {
        Error::Timeout { what }
    }
}
