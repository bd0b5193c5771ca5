//! The plan of a commit: what is known of its ids and rows, what speaks against it, and what it will append.

use crate::engine::core::Core;
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::claim::{Outcome, decided_before, outcome};
use crate::engine::write::commit_lookup::{known_ids, known_rows};
use crate::engine::write::durability::RestsOn;
use crate::engine::write::lock_set::Member;
use crate::engine::write::rows::rests_on;
use crate::engine::write::write_set::{Expect, Phase, RowChange, RowWrite, WriteSet};
use crate::error::Result;
use crate::expiry::{Class, EventEnd, Horizon, Kind, Version};
use crate::id::Key;
use crate::shard::{Known, KnownRow, is_prepared};
use crate::sync::Ordering;
use crate::time::{Moment, Timestamp};

/// Why a commit was not made: all reasons, by index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Refusals {
    /// Ids that have a live claim, with the time of that claim.
    pub(crate) duplicates: Vec<(usize, Timestamp)>,
    /// Rows that are not as expected, with the sequence of the live row.
    pub(crate) moved: Vec<(usize, Option<u64>)>,
    /// What a prepared transaction holds: claims first, then rows.
    pub(crate) in_doubt: Vec<usize>,
}

/// The outcome of a commit of claims and rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SetCommitted {
    /// The sequence of each row, `None` where a row to be deleted did not exist.
    Done(Vec<Option<u64>>),
    Refused(Refusals),
    /// Nothing was decided: another caller holds the id of this claim.
    Reserved(usize),
}

/// A claim with what is known of its id, and what it will append.
pub(super) struct PlannedClaim {
    pub(super) known: Option<Version>,
    /// `None`: it is only held.
    pub(super) version: Option<Version>,
}

/// A write with what is known of its row, and what it will append.
pub(super) struct PlannedRow<'a> {
    pub(super) known: Option<KnownRow>,
    /// `None` for a row that stays as it is.
    pub(super) version: Option<Version>,
    change: RowChange<&'a [u8]>,
}

impl<'a> PlannedRow<'a> {
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        self.change.value()
    }
}

/// What to append, if nothing has moved until then.
pub(super) struct Planned<'a> {
    pub(super) claims: Vec<PlannedClaim>,
    pub(super) rows: Vec<PlannedRow<'a>>,
}

impl Planned<'_> {
    /// Returns whether a member is written: claims come first, then rows.
    pub(super) fn is_written(&self, n: usize) -> bool {
        match n.checked_sub(self.claims.len()) {
            None => self.claims[n].version.is_some(),
            Some(row) => self.rows[row].version.is_some(),
        }
    }

    /// Returns the sequence of the row that says that all the others are prepared.
    pub(super) fn prepares(&self, phase: Phase<'_>) -> Option<u64> {
        let row = self.rows.last().filter(|_| phase.is_prepare())?;
        row.version.map(|version| version.rank)
    }
}

/// What to do about a commit.
pub(super) enum Plan<'a> {
    /// Return this and write nothing. It depends on the given record, if that may not be on disk.
    Answer(SetCommitted, Option<RestsOn>),
    Append(Planned<'a>),
}

/// The ids and rows of a commit, with their hashes and shards.
pub(super) struct Members<'a> {
    /// Claims first, then rows.
    pub(super) all: Vec<Member<'a>>,
    claims: usize,
}

impl<'a> Members<'a> {
    pub(super) fn of(core: &Core, set: &WriteSet<'a>) -> Self {
        let keys = set.claims.iter().map(|claim| claim.key);
        let keys = keys.chain(set.all_rows().map(|row| row.key));
        let member = |key| {
            let hash = core.hash(key);
            Member { key, hash, shard: hash.shard(core.shard_bits) }
        };
        Self { all: keys.map(member).collect(), claims: set.claims.len() }
    }

    pub(super) fn claims(&self) -> &[Member<'a>] {
        &self.all[..self.claims]
    }

    /// Returns the rows, that of the phase last.
    pub(super) fn rows(&self) -> &[Member<'a>] {
        &self.all[self.claims..]
    }

    /// Returns what a prepared transaction holds: all but its own row.
    pub(super) fn held(&self) -> &[Member<'a>] {
        &self.all[..self.all.len() - 1]
    }
}

/// Reads what is known of each id and row, and decides its next version.
pub(super) fn plan<'a>(
    core: &Core,
    set: &WriteSet<'a>,
    members: &Members<'_>,
    wait_budget: &mut WaitBudget,
) -> Result<Plan<'a>> {
    let ids = known_ids(core, members.claims())?;
    let rows = known_rows(core, members.rows(), wait_budget)?;
    let at = core.time.moment();
    // Also that a row is not there: a power cut must not bring it back.
    let told_rows = rows.iter().flatten().find_map(|known| rests_on(core, known));
    let told_ids = ids.iter().flatten().find_map(|known| known.lsn);
    let told = told_rows.or_else(|| told_ids.map(|_| RestsOn::others(core.log.end())));
    let decided = set.claims.iter().zip(&ids);
    let decide = |known, ttl| match set.phase {
        Phase::Finish { .. } => Outcome::FirstSeen(decided_before(known, at, ttl)),
        Phase::Only | Phase::Prepare(_) => outcome(known, at, ttl),
    };
    let decided: Vec<_> = decided.map(|(write, known)| decide(known.as_ref(), write.ttl)).collect();
    let in_doubt = in_doubt(core, members, set.phase.passes());
    let horizon = core.horizon_at(at.now);
    let refusals = refusals(core, set, &decided, &rows, in_doubt, horizon);
    if refusals != Refusals::default() {
        count_duplicates(core, set, members, &refusals);
        return Ok(Plan::Answer(SetCommitted::Refused(refusals), told));
    }
    // After the lookups: so each is above the sequence of the row that it replaces.
    let first = if rows.is_empty() { 0 } else { core.take_sequences(rows.len())? };
    let is_held = |n: usize| set.phase.is_prepare() && n < set.rows.len();
    let next = |(n, ((write, known), sequence)): (usize, ((&RowWrite<'a>, _), u64))| {
        if is_held(n) {
            PlannedRow { known, version: None, change: RowChange::Keep }
        } else {
            plan_row(write, known, sequence, at, horizon)
        }
    };
    let rows: Vec<_> = set.all_rows().zip(rows).zip(first..).enumerate().map(next).collect();
    let is_nothing = set.claims.is_empty() && rows.iter().all(|planned| planned.version.is_none());
    // What several rows were at one moment is only seen under the locks of all.
    if is_nothing && rows.len() < 2 {
        return Ok(Plan::Answer(done(&rows), told));
    }
    let is_written = !set.phase.is_prepare();
    let first_seen = |(known, outcome): (&Option<Known>, &Outcome<'_>)| match outcome {
        Outcome::FirstSeen(version) => Some(PlannedClaim {
            known: known.map(|known| known.version),
            version: is_written.then_some(*version),
        }),
        Outcome::Duplicate(_) => None,
    };
    let claims = ids.iter().zip(&decided).filter_map(first_seen).collect();
    Ok(Plan::Append(Planned { claims, rows }))
}

/// Returns which members prepared transactions hold, except for those that `passes` holds.
fn in_doubt(core: &Core, members: &Members<'_>, passes: Option<u64>) -> Vec<usize> {
    if core.prepared.load(Ordering::Acquire) == 0 {
        return Vec::new();
    }
    let is_held = |member: &Member<'_>| {
        let shard = core.shards[member.shard].shard.lock();
        let holder = shard.reserved.holder(member.key, member.hash);
        holder.is_some_and(|holder| is_prepared(holder) && Some(holder) != passes)
    };
    let all = members.all.iter().enumerate();
    all.filter(|(_, member)| is_held(member)).map(|(n, _)| n).collect()
}

/// Counts the duplicates of a commit that was refused for them.
fn count_duplicates(core: &Core, set: &WriteSet<'_>, members: &Members<'_>, refusals: &Refusals) {
    for (n, _) in &refusals.duplicates {
        let shard = members.claims()[*n].shard;
        let _counting = core.shards[shard].shard.lock();
        set.claims[*n].ns.count(shard, false, 1);
    }
}

fn refusals(
    core: &Core,
    set: &WriteSet<'_>,
    claims: &[Outcome<'_>],
    rows: &[Option<KnownRow>],
    in_doubt: Vec<usize>,
    horizon: Horizon<'_>,
) -> Refusals {
    let duplicate = |(n, outcome): (usize, &Outcome<'_>)| match outcome {
        Outcome::Duplicate(known) => Some((n, known.version.first_seen())),
        Outcome::FirstSeen(_) => None,
    };
    let duplicates = claims.iter().enumerate().filter_map(duplicate).collect();
    let moved = |(n, (write, known)): (usize, (&RowWrite<'_>, &Option<KnownRow>))| {
        let found = known.filter(|known| known.version.is_live(horizon));
        let found = found.map(|known| known.version.rank);
        let is_as_expected = match write.expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Sequence(expected) => found == Some(expected),
            Expect::Ahead { sequence, .. } => found == sequence && is_ahead(core, write),
        };
        (!is_as_expected).then_some((n, found))
    };
    let moved = set.all_rows().zip(rows).enumerate().filter_map(moved).collect();
    Refusals { duplicates, moved, in_doubt }
}

fn plan_row<'a>(
    write: &RowWrite<'a>,
    known: Option<KnownRow>,
    sequence: u64,
    at: Moment,
    horizon: Horizon<'_>,
) -> PlannedRow<'a> {
    let before = known.as_ref().map(|known| &known.version);
    let version = match (write.change, before.filter(|version| version.is_live(horizon))) {
        (RowChange::Put(_) | RowChange::PutUntil(..), _) => {
            let class = write.ttl.as_millis().map_or(Class::FOREVER, Class::of_ttl);
            let (class, deadline) = match write.change.event_end() {
                None => (class, write.ttl.deadline(at.latest)),
                Some(end) => (class.by_event_time(), event_deadline(write.key, end)),
            };
            Some(Version::row(sequence, Kind::Value, deadline, class).after(before))
        }
        (RowChange::Delete, Some(live)) => {
            Some(Version::row(sequence, Kind::Tombstone, live.deadline, live.class))
        }
        (RowChange::Delete, None) | (RowChange::Keep, _) => None,
    };
    PlannedRow { known, version, change: write.change }
}

/// Returns the deadline of a row that ends when the watermark of its namespace has reached `end`.
fn event_deadline(key: Key<'_>, end: Timestamp) -> Timestamp {
    match end {
        Timestamp::NEVER => end,
        end => EventEnd::of(key.ns.listed().0, end).as_deadline(),
    }
}

/// Returns whether the watermark that a write must not be behind is where it should be (I14). Under the lock of the row's
/// shard: a row that has ended by a watermark leaves its shard under this lock, after the watermark has moved.
pub(super) fn is_ahead(core: &Core, write: &RowWrite<'_>) -> bool {
    match write.expect {
        Expect::Ahead { watermark_max, .. } => {
            core.families.watermarks().of(write.key.ns.listed().0) <= watermark_max
        }
        Expect::Anything | Expect::Absent | Expect::Sequence(_) => true,
    }
}

pub(super) fn done(planned: &[PlannedRow<'_>]) -> SetCommitted {
    SetCommitted::Done(planned.iter().map(|p| p.version.map(|version| version.rank)).collect())
}
