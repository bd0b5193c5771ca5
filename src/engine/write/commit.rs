//! The commit: claims and rows written as one record, all of them or none.
//!
//! No disk is read and nothing is encoded under a shard's lock (I9): what is known of the ids and rows is read first, the
//! record is encoded, and under the locks a commit checks that nothing has moved since.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::{Bells, Core, Durability, RowState};
use crate::engine::write::backpressure::{WaitBudget, keep_to_compaction};
use crate::engine::write::claim::{Outcome, outcome};
use crate::engine::write::decide::known;
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::engine::write::lock_set::{Member, Obstacle, lock_all, remove_obstacle};
use crate::engine::write::rows::{known_row, rests_on};
use crate::error::{Error, Result};
use crate::expiry::{Class, Kind, Version};
use crate::id::{IdHash, Key};
use crate::limits;
use crate::shard::{Known, KnownRow, Lookup, RowLookup, Shard};
use crate::time::{Moment, Timestamp, Ttl};
use crate::wal::{Commit, ItemAt};
use std::time::Duration;

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(unreachable_pub, reason = "public with the feature `testing`")]
pub enum Expect {
    /// Whatever is there.
    Anything,
    /// No live row.
    Absent,
    /// The row that this write has set.
    Sequence(u64),
}

/// One row to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowWrite<'a> {
    pub(crate) key: Key<'a>,
    /// `None` deletes the row.
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) ttl: Ttl,
    pub(crate) expect: Expect,
    /// Those who wait for the row are not woken.
    pub(crate) is_quiet: bool,
}

/// The outcome of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(unreachable_pub, reason = "public with the feature `testing`")]
pub enum Committed {
    /// All writes were made; the sequence of each, `None` where a row to be deleted did not exist.
    Done(Vec<Option<u64>>),
    /// None was made, because these did not find what they expect: index, and the sequence of the live row.
    Moved(Vec<(usize, Option<u64>)>),
}

/// One id to claim with a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimWrite<'a> {
    pub(crate) ns: &'a NsInfo,
    pub(crate) key: Key<'a>,
    pub(crate) ttl: Ttl,
}

/// What a commit is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteSet<'a> {
    pub(crate) claims: &'a [ClaimWrite<'a>],
    pub(crate) rows: &'a [RowWrite<'a>],
}

/// Why a commit was not made: all reasons, by index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Refusals {
    /// Ids that have a live claim, with the time of that claim.
    pub(crate) duplicates: Vec<(usize, Timestamp)>,
    /// Rows that are not as expected, with the sequence of the live row.
    pub(crate) moved: Vec<(usize, Option<u64>)>,
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
struct PlannedClaim {
    known: Option<Version>,
    version: Version,
}

/// A write with what is known of its row, and what it will append.
struct PlannedRow<'a> {
    known: Option<KnownRow>,
    /// `None` for a row to be deleted that does not exist.
    version: Option<Version>,
    value: Option<&'a [u8]>,
}

/// What to append, if nothing has moved until then.
struct Planned<'a> {
    claims: Vec<PlannedClaim>,
    rows: Vec<PlannedRow<'a>>,
}

/// What to do about a commit.
enum Plan<'a> {
    /// Return this and write nothing. It depends on the given record, if that may not be on disk.
    Answer(SetCommitted, Option<RestsOn>),
    Append(Planned<'a>),
}

/// The ids and rows of a commit, with their hashes and shards.
struct Members<'a> {
    /// Claims first, then rows.
    all: Vec<Member<'a>>,
    claims: usize,
}

impl<'a> Members<'a> {
    fn of(core: &Core, set: &WriteSet<'a>) -> Self {
        let keys = set.claims.iter().map(|claim| claim.key);
        let keys = keys.chain(set.rows.iter().map(|row| row.key));
        let member = |key| {
            let hash = core.hash(key);
            Member { key, hash, shard: hash.shard(core.shard_bits) }
        };
        Self { all: keys.map(member).collect(), claims: set.claims.len() }
    }

    fn claims(&self) -> &[Member<'a>] {
        &self.all[..self.claims]
    }

    fn rows(&self) -> &[Member<'a>] {
        &self.all[self.claims..]
    }
}

/// What came of an attempt to enter a planned commit.
enum Entered {
    Done(RestsOn),
    /// Something has moved since it was planned.
    Moved,
    /// Another caller holds the id of this claim.
    Reserved(usize),
}

/// Writes rows as one record: all of them, or none. The caller has those who wait for them woken, by dropping `bells`.
pub(in crate::engine) fn commit_rows(
    core: &Core,
    rows: &[RowWrite<'_>],
    durability: Durability,
    bells: &mut Bells,
) -> Result<Committed> {
    let set = WriteSet { claims: &[], rows };
    Ok(match commit(core, set, durability, bells)? {
        SetCommitted::Done(sequences) => Committed::Done(sequences),
        SetCommitted::Refused(refusals) => Committed::Moved(refusals.moved),
        SetCommitted::Reserved(_) => return Err(Error::bug("a row cannot be reserved")),
    })
}

/// Writes claims and rows as one record: all of them, or none. The caller has those who wait for rows woken, by dropping
/// `bells`.
pub(in crate::engine) fn commit(
    core: &Core,
    set: WriteSet<'_>,
    durability: Durability,
    bells: &mut Bells,
) -> Result<SetCommitted> {
    let (committed, rests_on) = commit_only(core, set, durability, bells)?;
    await_durable(core, durability, rests_on)?;
    Ok(committed)
}

/// Writes claims and rows as [`commit`] does, and returns without waiting what their durability rests on.
fn commit_only(
    core: &Core,
    set: WriteSet<'_>,
    durability: Durability,
    bells: &mut Bells,
) -> Result<(SetCommitted, Option<RestsOn>)> {
    core.health.check()?;
    check(&set)?;
    let members = Members::of(core, &set);
    let mut wait_budget = WaitBudget::default();
    let mut has_waited = false;
    loop {
        let planned = match plan(core, &set, &members, &mut wait_budget)? {
            Plan::Answer(answer, rests_on) => return Ok((answer, rests_on)),
            Plan::Append(planned) => planned,
        };
        // Lease renewals are exempt from backpressure: they must not be late.
        if !has_waited
            && set.rows.iter().any(|write| !write.is_quiet)
            && planned.rows.iter().any(|planned| planned.known.is_some())
            && keep_to_compaction(core, &mut wait_budget)
        {
            has_waited = true;
            continue;
        }
        let commit = encode(&set, &planned)?;
        match enter(core, &set, &members, &planned, &commit, durability, &mut wait_budget)? {
            Entered::Done(rests_on) => {
                let loud = set.rows.iter().filter(|write| !write.is_quiet);
                core.watches.add_bells(loud.map(|write| write.key), bells);
                return Ok((done(&planned.rows), Some(rests_on)));
            }
            Entered::Moved => {}
            // The caller waits, without the locks of its own.
            Entered::Reserved(n) => return Ok((SetCommitted::Reserved(n), None)),
        }
        if wait_budget.is_over(core.settings.wait_max) {
            return Err(Error::Timeout { what: "rows or ids that others change again and again" });
        }
    }
}

/// Waits until the current holder gives up an id, for at most `wait`.
pub(in crate::engine) fn await_release(core: &Core, key: Key<'_>, wait: Duration) -> Result<()> {
    let hash = core.hash(key);
    let member = Member { key, hash, shard: hash.shard(core.shard_bits) };
    remove_obstacle(core, Obstacle::Reserved(member), &mut WaitBudget::of(Some(wait)))
}

/// Returns what speaks against a commit now. Writes nothing.
pub(in crate::engine) fn refusals_only(
    core: &Core,
    set: WriteSet<'_>,
    durability: Durability,
) -> Result<Refusals> {
    check(&set)?;
    let members = Members::of(core, &set);
    match plan(core, &set, &members, &mut WaitBudget::default())? {
        Plan::Answer(SetCommitted::Refused(refusals), rests_on) => {
            await_durable(core, durability, rests_on)?;
            Ok(refusals)
        }
        _ => Ok(Refusals::default()),
    }
}

fn done(planned: &[PlannedRow<'_>]) -> SetCommitted {
    SetCommitted::Done(planned.iter().map(|p| p.version.map(|version| version.rank)).collect())
}

fn encode(set: &WriteSet<'_>, planned: &Planned<'_>) -> Result<Commit> {
    let mut commit = Commit::default();
    for (write, planned) in set.claims.iter().zip(&planned.claims) {
        commit.push_version(write.key, planned.version);
    }
    for (write, planned) in set.rows.iter().zip(&planned.rows) {
        if let Some(version) = planned.version {
            commit.push_row(write.key, version, write.value.unwrap_or_default());
        }
    }
    if commit.bytes().len() > limits::COMMIT_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a commit has {} bytes; the limit is {}: split it",
            commit.bytes().len(),
            limits::COMMIT_BYTES_MAX
        )));
    }
    commit.seal();
    Ok(commit)
}

/// Checks what does not depend on the store's contents.
fn check(set: &WriteSet<'_>) -> Result<()> {
    let WriteSet { claims, rows } = set;
    let entries = claims.len() + rows.len();
    if entries > limits::BATCH_IDS_MAX {
        return Err(Error::invalid(format!(
            "a commit has {entries} claims and rows; the limit is {}: split it",
            limits::BATCH_IDS_MAX
        )));
    }
    let mut keys: Vec<Key<'_>> = claims.iter().map(|claim| claim.key).collect();
    keys.extend(rows.iter().map(|row| row.key));
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::invalid("a commit contains the same id or row twice"));
    }
    let values = rows.iter().filter_map(|row| row.value);
    if let Some(value) = values.into_iter().find(|v| v.len() > limits::VALUE_BYTES_MAX) {
        return Err(Error::invalid(format!(
            "a value has {} bytes; the limit is {}",
            value.len(),
            limits::VALUE_BYTES_MAX
        )));
    }
    claims.iter().try_for_each(|claim| claim.ttl.check())?;
    rows.iter().try_for_each(|row| row.ttl.check())
}

/// Reads what is known of each id and row, and decides its next version.
fn plan<'a>(
    core: &Core,
    set: &WriteSet<'a>,
    members: &Members<'_>,
    wait_budget: &mut WaitBudget,
) -> Result<Plan<'a>> {
    let mut ids = Vec::with_capacity(set.claims.len());
    for member in members.claims() {
        ids.push(known(core, member.key)?);
    }
    let mut rows = Vec::with_capacity(set.rows.len());
    for member in members.rows() {
        rows.push(known_row(core, member.key, member.hash, wait_budget)?);
    }
    let at = core.time.moment();
    // Also that a row is not there: a power cut must not bring it back.
    let told_rows = rows.iter().flatten().find_map(|known| rests_on(core, known));
    let told_ids = ids.iter().flatten().find_map(|known| known.lsn);
    let told = told_rows.or_else(|| told_ids.map(|_| RestsOn::others(core.log.end())));
    let decided = set.claims.iter().zip(&ids);
    let decided: Vec<_> =
        decided.map(|(write, known)| outcome(known.as_ref(), at, write.ttl)).collect();
    let refusals = refusals(set, &decided, &rows, at.now);
    if refusals != Refusals::default() {
        return Ok(Plan::Answer(SetCommitted::Refused(refusals), told));
    }
    // After the lookups: so each is above the sequence of the row that it replaces.
    let first = if rows.is_empty() { 0 } else { core.take_sequences(rows.len())? };
    let next = |((write, known), sequence)| plan_row(write, known, sequence, at);
    let rows: Vec<_> = set.rows.iter().zip(rows).zip(first..).map(next).collect();
    if set.claims.is_empty() && rows.iter().all(|planned| planned.version.is_none()) {
        return Ok(Plan::Answer(done(&rows), told));
    }
    let first_seen = |(known, outcome): (&Option<Known>, &Outcome<'_>)| match outcome {
        Outcome::FirstSeen(version) => {
            Some(PlannedClaim { known: known.map(|known| known.version), version: *version })
        }
        Outcome::Duplicate(_) => None,
    };
    let claims = ids.iter().zip(&decided).filter_map(first_seen).collect();
    Ok(Plan::Append(Planned { claims, rows }))
}

fn refusals(
    set: &WriteSet<'_>,
    claims: &[Outcome<'_>],
    rows: &[Option<KnownRow>],
    now: Timestamp,
) -> Refusals {
    let duplicate = |(n, outcome): (usize, &Outcome<'_>)| match outcome {
        Outcome::Duplicate(known) => Some((n, known.version.first_seen())),
        Outcome::FirstSeen(_) => None,
    };
    let duplicates = claims.iter().enumerate().filter_map(duplicate).collect();
    let moved = |(n, (write, known)): (usize, (&RowWrite<'_>, &Option<KnownRow>))| {
        let found = known.filter(|known| known.version.is_live(now));
        let found = found.map(|known| known.version.rank);
        let is_as_expected = match write.expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Sequence(expected) => found == Some(expected),
        };
        (!is_as_expected).then_some((n, found))
    };
    let moved = set.rows.iter().zip(rows).enumerate().filter_map(moved).collect();
    Refusals { duplicates, moved }
}

fn plan_row<'a>(
    write: &RowWrite<'a>,
    known: Option<KnownRow>,
    sequence: u64,
    at: Moment,
) -> PlannedRow<'a> {
    let before = known.as_ref().map(|known| &known.version);
    let version = match (write.value, before.filter(|version| version.is_live(at.now))) {
        (Some(_), _) => {
            let class = write.ttl.as_millis().map_or(Class::FOREVER, Class::of_ttl);
            let deadline = write.ttl.deadline(at.latest);
            Some(Version::row(sequence, Kind::Value, deadline, class).after(before))
        }
        (None, Some(live)) => {
            Some(Version::row(sequence, Kind::Tombstone, live.deadline, live.class))
        }
        (None, None) => None,
    };
    PlannedRow { known, version, value: write.value }
}

/// Appends the commit and enters its claims and rows, if none has moved since it was planned, the rows that it leaves as
/// they are included.
fn enter(
    core: &Core,
    set: &WriteSet<'_>,
    members: &Members<'_>,
    planned: &Planned<'_>,
    commit: &Commit,
    durability: Durability,
    wait_budget: &mut WaitBudget,
) -> Result<Entered> {
    let mut locked = lock_all(core, &members.all, wait_budget)?;
    let mut ids = Vec::with_capacity(planned.claims.len());
    for (n, (member, planned)) in members.claims().iter().zip(&planned.claims).enumerate() {
        let shard = locked.shard(member.shard);
        if shard.reserved.holder(member.key, member.hash).is_some() {
            return Ok(Entered::Reserved(n));
        }
        match (shard.lookup(member.key, member.hash, core.run_access()), planned.known) {
            (Lookup::Unknown, None) => ids.push(None),
            (Lookup::Known(now), Some(before)) if now.version == before => ids.push(Some(now)),
            _ => return Ok(Entered::Moved),
        }
    }
    for (Member { key, hash, shard }, planned) in members.rows().iter().zip(&planned.rows) {
        if !is_as_planned(core, locked.shard(*shard), *key, *hash, planned) {
            return Ok(Entered::Moved);
        }
    }
    let written = || {
        let all = members.rows().iter().zip(&planned.rows);
        all.filter_map(|(member, planned)| Some((member, planned, planned.version?)))
    };
    let superseded: Vec<ItemAt> =
        written().filter_map(|(_, planned, _)| Some(planned.known?.at)).collect();
    let lsn = core.log.append_commit(durability.append_level(), commit, &superseded)?;
    let mut places = commit.places(lsn);
    let claims = members.claims().iter().zip(&planned.claims).zip(ids).zip(set.claims);
    for ((((member, planned), known), write), at) in claims.zip(places.by_ref()) {
        let shard = locked.shard(member.shard);
        shard.put(member.key, member.hash, planned.version, at.end, known);
        write.ns.count(member.shard, true, 1);
    }
    for ((member, planned, version), at) in written().zip(places) {
        locked.shard(member.shard).memtable.put_row(member.key, member.hash, version, at);
        let Version { rank: sequence, deadline, .. } = version;
        let row = planned.value.map(|value| RowState { value, sequence, deadline });
        core.families.apply(member.key, row);
    }
    Ok(Entered::Done(RestsOn::own(lsn)))
}

/// Returns whether a row is as it was when its write was planned. Not if a block was lost since.
fn is_as_planned(
    core: &Core,
    shard: &mut Shard,
    key: Key<'_>,
    hash: IdHash,
    planned: &PlannedRow<'_>,
) -> bool {
    match (shard.lookup_row(key, hash, core.run_access()), planned.known) {
        (RowLookup::Unknown, None) => true,
        (RowLookup::Known(now), Some(before)) => now.at == before.at,
        // What compaction has dropped counts as unknown, but it must not outrank what is entered: others may have
        // written the row and deleted it since.
        (RowLookup::Known(now), None) => {
            core.is_dropped(&now)
                && planned.version.is_none_or(|version| now.version.rank < version.rank)
        }
        (RowLookup::Unknown, Some(_)) | (RowLookup::Damaged(..), _) => false,
    }
}
