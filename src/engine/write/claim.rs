//! The claim: one id, one winner (I1).

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::{Core, Durability};
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::decide::{Decision, decide};
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::error::Result;
use crate::expiry::Version;
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

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "whether the event is new is the point of asking"]
pub enum Claim {
    /// The id is first seen: the claim is this caller's.
    FirstSeen,
    /// The id already has a live claim.
    Duplicate {
        /// When that claim was made.
        first_seen: Timestamp,
    },
}

impl Claim {
    /// Returns whether this is [`Claim::FirstSeen`].
    pub fn is_first_seen(self) -> bool {
        self == Self::FirstSeen
    }

    /// Returns whether this is [`Claim::Duplicate`].
    pub fn is_duplicate(self) -> bool {
        !self.is_first_seen()
    }
}

/// Claims one id.
pub(in crate::engine) fn claim(
    core: &Core,
    ns: &NsInfo,
    id: &[u8],
    spec: ClaimSpec,
) -> Result<Claim> {
    let (answer, rests_on) = claim_only(core, ns, id, spec, &mut WaitBudget::of(spec.wait))?;
    await_durable(core, spec.durability, rests_on)?;
    Ok(answer)
}

/// Claims one id without a wait for durability: one lock, one lookup, one record.
#[inline]
pub(super) fn claim_only(
    core: &Core,
    ns: &NsInfo,
    id: &[u8],
    spec: ClaimSpec,
    wait_budget: &mut WaitBudget,
) -> Result<(Claim, Option<RestsOn>)> {
    let mut digest = None;
    let key = core.key(ns.id(), id, &mut digest)?;
    let hash = core.hash(key);
    let level = spec.durability.append_level();
    let (answer, rests_on, shard) =
        decide(core, key, hash, level, wait_budget, |known, at| decide_claim(known, at, spec))?;
    ns.count(hash.shard(core.shard_bits), answer == Claim::FirstSeen, 1);
    drop(shard);
    Ok((answer, rests_on))
}

/// The decision on every claim: single, in a batch, or confirmed.
#[inline]
pub(super) fn decide_claim(known: Option<&Known>, at: Moment, spec: ClaimSpec) -> Decision<Claim> {
    match outcome(known, at, spec.ttl) {
        Outcome::FirstSeen(version) => Decision::Append(Claim::FirstSeen, version, Some(spec.ttl)),
        Outcome::Duplicate(known) => {
            let answer = Claim::Duplicate { first_seen: known.version.first_seen() };
            let extended = if spec.sliding { extended(known, at, spec) } else { None };
            match extended {
                Some(version) => Decision::Append(answer, version, None),
                None => Decision::Answer(answer, known.lsn),
            }
        }
    }
}

/// What a claim of an id comes to.
pub(super) enum Outcome<'a> {
    /// This claim is live.
    Duplicate(&'a Known),
    /// The id is claimed by this version, which ranks above what was known.
    FirstSeen(Version),
}

/// Whether an id may be claimed.
#[inline]
pub(super) fn outcome(known: Option<&Known>, at: Moment, ttl: Ttl) -> Outcome<'_> {
    match known {
        Some(known) if known.version.is_live(at.now) => Outcome::Duplicate(known),
        _ => {
            let before = known.map(|known| &known.version);
            Outcome::FirstSeen(Version::claim_at(at, ttl).after(before))
        }
    }
}

/// Returns the version of a claim that was decided before, and whose id nobody could claim since. Whatever is known of the
/// id had ended then, though it looks live again after an opening with a clock that was set back.
pub(super) fn decided_before(known: Option<&Known>, at: Moment, ttl: Ttl) -> Version {
    let ended = |version: Version| {
        if version.is_live(at.now) { version.tombstone(at.now) } else { version }
    };
    let ended = known.map(|known| ended(known.version));
    Version::claim_at(at, ttl).after(ended.as_ref())
}

/// Returns the version by which a duplicate extends a sliding claim; `None` if the deadline does not move.
fn extended(known: &Known, at: Moment, spec: ClaimSpec) -> Option<Version> {
    let renewed = Version::claim_at(at, spec.ttl);
    let version = Version { rank: known.version.rank, ..renewed };
    let later = renewed.deadline > known.version.deadline;
    later.then(|| version.after(Some(&known.version)))
}
