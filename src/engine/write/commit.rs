//! The commit: claims and rows written as one record, all of them or none.
//!
//! No disk is read and nothing is encoded under a shard's lock (I9): what is known of the ids and rows is read first, the
//! record is encoded, and under the locks a commit checks that nothing has moved since.

use crate::engine::core::{Bells, Core, Durability, RowChanged, RowState, TopicEvent};
use crate::engine::write::backpressure::{WaitBudget, keep_to_compaction};
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::engine::write::lock_set::{
    LockSet, Member, Obstacle, are_distinct, lock_for, remove_obstacle,
};
use crate::engine::write::plan::{
    Members, Plan, Planned, PlannedRow, Refusals, SetCommitted, done, is_ahead, plan,
};
use crate::engine::write::prepare::hold;
use crate::engine::write::write_set::{RowChange, RowWrite, WriteSet};
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{Family, IdHash, Key, NsId};
use crate::limits;
use crate::shard::{Known, Lookup, RowLookup, Shard, is_prepared};
use crate::wal::{Commit, ItemAt};

/// The outcome of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(unreachable_pub, reason = "public with the feature `testing`")]
pub enum Committed {
    /// All writes were made; the sequence of each, `None` where a row to be deleted did not exist.
    Done(Vec<Option<u64>>),
    /// None was made, because these did not find what they expect: index, and the sequence of the live row.
    Moved(Vec<(usize, Option<u64>)>),
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
    Ok(match commit(core, WriteSet::of(&[], rows), durability, bells)? {
        SetCommitted::Done(sequences) => Committed::Done(sequences),
        SetCommitted::Refused(refusals) if !refusals.in_doubt.is_empty() => {
            return Err(Error::InDoubt);
        }
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
    let budget = &mut WaitBudget::default();
    let (committed, rests_on) = commit_only(core, set, durability, bells, budget)?;
    await_durable(core, durability, rests_on)?;
    Ok(committed)
}

/// Writes claims and rows as [`commit`] does, and returns without waiting for it what their durability rests on.
pub(in crate::engine) fn commit_only(
    core: &Core,
    set: WriteSet<'_>,
    durability: Durability,
    bells: &mut Bells,
    wait_budget: &mut WaitBudget,
) -> Result<(SetCommitted, Option<RestsOn>)> {
    core.health.check()?;
    let members = checked(core, &set)?;
    let topics = topics(&set, |change| matches!(change, RowChange::Put(_)));
    loop {
        // Before its sequences are taken: they are above what is noted here.
        let flight = core.in_flight.begin(&topics, &core.sequence);
        let step = step(core, &set, &members, durability, wait_budget, bells);
        drop(flight);
        // A reader may have stopped in front of this commit, made or not.
        let ended = topics.iter().map(|topic| TopicEvent::Ended.key(*topic));
        core.watches.add_bells(ended, bells);
        match step? {
            Step::Over(committed, rests_on) => return Ok((committed, rests_on)),
            Step::Moved if wait_budget.is_over(core.settings.wait_max) => {
                let what = "rows or ids that others change again and again";
                return Err(Error::Timeout { what });
            }
            Step::Waited | Step::Moved => {}
        }
    }
}

/// What came of an attempt to commit.
enum Step {
    Over(SetCommitted, Option<RestsOn>),
    /// It has waited for compaction, so what it had read may be old.
    Waited,
    /// Something has moved since it was planned.
    Moved,
}

fn step(
    core: &Core,
    set: &WriteSet<'_>,
    members: &Members<'_>,
    durability: Durability,
    wait_budget: &mut WaitBudget,
    bells: &mut Bells,
) -> Result<Step> {
    check_not_gone(core, set, members)?;
    let planned = match plan(core, set, members, wait_budget)? {
        Plan::Answer(answer, rests_on) => return Ok(Step::Over(answer, rests_on)),
        Plan::Append(planned) => planned,
    };
    // Lease renewals are exempt from backpressure: they must not be late.
    if set.all_rows().any(|write| !write.is_quiet)
        && planned.rows.iter().any(|planned| planned.known.is_some())
        && keep_to_compaction(core, wait_budget)?
    {
        return Ok(Step::Waited);
    }
    let commit = encode(set, members, &planned)?;
    match enter(core, set, members, &planned, &commit, durability, wait_budget)? {
        Entered::Done(rests_on) => {
            let is_loud = |write: &&RowWrite<'_>| !write.is_quiet && !is_message(write);
            let loud = set.all_rows().filter(is_loud);
            core.watches.add_bells(loud.map(|write| write.key), bells);
            let removed = topics(set, |change| matches!(change, RowChange::Delete));
            let removed = removed.into_iter().map(|topic| TopicEvent::Removed.key(topic));
            core.watches.add_bells(removed, bells);
            Ok(Step::Over(done(&planned.rows), Some(rests_on)))
        }
        Entered::Moved => Ok(Step::Moved),
        // The caller waits, without the locks of its own.
        Entered::Reserved(n) => Ok(Step::Over(SetCommitted::Reserved(n), None)),
    }
}

/// Returns whether a row is read in the order of sequences. Who waits for those waits for their topic.
fn is_message(row: &RowWrite<'_>) -> bool {
    row.key.ns.family() == Family::OUTBOX
}

/// Returns the topics of whose messages such a change is made.
fn topics(set: &WriteSet<'_>, is_meant: impl Fn(RowChange<&[u8]>) -> bool) -> Vec<NsId> {
    let mut topics = Vec::new();
    if set.phase.is_prepare() {
        return topics;
    }
    for row in set.rows.iter().filter(|row| is_message(row) && is_meant(row.change)) {
        if topics.last() != Some(&row.key.ns) && !topics.contains(&row.key.ns) {
            topics.push(row.key.ns);
        }
    }
    topics
}

/// Waits until the current holder gives up an id.
pub(in crate::engine) fn await_release(
    core: &Core,
    key: Key<'_>,
    wait_budget: &mut WaitBudget,
) -> Result<()> {
    let hash = core.hash(key);
    let member = Member { key, hash, shard: hash.shard(core.shard_bits) };
    remove_obstacle(core, Obstacle::Reserved(member), wait_budget)
}

/// Returns what speaks against a commit now, and without waiting for it what the durability of that rests on. Writes
/// nothing.
pub(in crate::engine) fn refusals_only(
    core: &Core,
    set: WriteSet<'_>,
    wait_budget: &mut WaitBudget,
) -> Result<(Refusals, Option<RestsOn>)> {
    let members = checked(core, &set)?;
    match plan(core, &set, &members, wait_budget)? {
        Plan::Answer(SetCommitted::Refused(refusals), rests_on) => Ok((refusals, rests_on)),
        _ => Ok((Refusals::default(), None)),
    }
}

fn encode(set: &WriteSet<'_>, members: &Members<'_>, planned: &Planned<'_>) -> Result<Commit> {
    let bytes = members.all.iter().map(|member| member.key.id.len()).sum::<usize>()
        + planned.rows.iter().map(|row| row.value().map_or(0, <[u8]>::len)).sum::<usize>();
    let mut commit = Commit::with_room(members.all.len(), bytes);
    for (write, planned) in set.claims.iter().zip(&planned.claims) {
        if let Some(version) = planned.version {
            commit.push_version(write.key, version);
        }
    }
    for (write, planned) in set.all_rows().zip(&planned.rows) {
        if let Some(version) = planned.version {
            commit.push_row(write.key, version, planned.value().unwrap_or_default());
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

/// Checks what does not depend on the store's contents, and returns the ids and rows of a set.
fn checked<'a>(core: &Core, set: &WriteSet<'a>) -> Result<Members<'a>> {
    let WriteSet { claims, .. } = set;
    let entries = claims.len() + set.all_rows().count();
    if entries > limits::BATCH_IDS_MAX {
        return Err(Error::invalid(format!(
            "a commit has {entries} claims and rows; the limit is {}: split it",
            limits::BATCH_IDS_MAX
        )));
    }
    let members = Members::of(core, set);
    if !are_distinct(&members.all) {
        return Err(Error::invalid("a commit contains the same id or row twice"));
    }
    let mut values = set.all_rows().filter_map(|row| row.change.value());
    if let Some(value) = values.find(|value| value.len() > limits::VALUE_BYTES_MAX) {
        return Err(Error::invalid(format!(
            "a value has {} bytes; the limit is {}",
            value.len(),
            limits::VALUE_BYTES_MAX
        )));
    }
    claims.iter().try_for_each(|claim| claim.ttl.check())?;
    set.all_rows().try_for_each(|row| row.ttl.check())?;
    Ok(members)
}

/// Returns an error if a promotion is replacing, or has replaced, what a commit names or was decided by.
fn check_not_gone(core: &Core, set: &WriteSet<'_>, members: &Members<'_>) -> Result<()> {
    let asked = set.asked.iter().map(|ns| Key { ns: *ns, id: b"-" });
    core.namespaces.check_not_gone(members.all.iter().map(|member| member.key).chain(asked))
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
    let mut locked = lock_for(core, &members.all, |n| planned.is_written(n), wait_budget)?;
    // Again under the locks: whoever is about to promote a scope waits for those who have passed this.
    check_not_gone(core, set, members)?;
    let ids = match still_as_planned(core, set, members, planned, &mut locked) {
        Ok(ids) => ids,
        Err(entered) => return Ok(entered),
    };
    if commit.is_empty() {
        return Ok(Entered::Done(RestsOn::others(core.log.end())));
    }
    let written = || {
        let all = members.rows().iter().zip(&planned.rows);
        all.filter_map(|(member, planned)| Some((member, planned, planned.version?)))
    };
    let superseded: Vec<ItemAt> =
        written().filter_map(|(_, planned, _)| Some(planned.known?.at)).collect();
    let lsn = core.log.append_commit(durability.append_level(), commit, &superseded)?;
    if let Some(prepared) = planned.prepares(set.phase) {
        hold(core, members.held(), prepared, &mut locked);
    }
    let mut places = commit.places(lsn);
    let claims = members.claims().iter().zip(&planned.claims).zip(ids).zip(set.claims);
    let claims = claims.filter_map(|(((member, planned), known), write)| {
        Some((member, planned.version?, known, write))
    });
    for ((member, version, known, write), at) in claims.zip(places.by_ref()) {
        let shard = locked.shard(member.shard);
        shard.enter(member.key, member.hash, version, at.end, known);
        write.ns.count(member.shard, true, 1);
    }
    for ((member, planned, version), at) in written().zip(places) {
        core.scans.note(member.key, member.shard, planned.known);
        locked.shard(member.shard).memtable.put_row(member.key, member.hash, version, at);
    }
    core.families.apply(written().map(|(member, planned, version)| {
        let Version { rank: sequence, deadline, .. } = version;
        let row = planned.value().map(|value| RowState { value, sequence, deadline });
        let replaced = planned.known.map(|known| known.version.rank);
        RowChanged { key: member.key, row, replaced }
    }));
    Ok(Entered::Done(RestsOn::own(lsn)))
}

/// Returns what is known of the ids of a commit, if none of them and none of its rows has moved since it was planned.
fn still_as_planned(
    core: &Core,
    set: &WriteSet<'_>,
    members: &Members<'_>,
    planned: &Planned<'_>,
    locked: &mut LockSet<'_>,
) -> std::result::Result<Vec<Option<Known>>, Entered> {
    let passes = set.phase.passes();
    let mut ids = Vec::with_capacity(planned.claims.len());
    for (n, (member, planned)) in members.claims().iter().zip(&planned.claims).enumerate() {
        let shard = locked.shard(member.shard);
        match shard.reserved.holder(member.key, member.hash) {
            Some(holder) if Some(holder) == passes => {}
            Some(holder) if is_prepared(holder) => return Err(Entered::Moved),
            Some(_) => return Err(Entered::Reserved(n)),
            None => {}
        }
        match (shard.lookup(member.key, member.hash, core.run_access()), planned.known) {
            (Lookup::Unknown, None) => ids.push(None),
            (Lookup::Known(now), Some(before)) if now.version == before => ids.push(Some(now)),
            _ => return Err(Entered::Moved),
        }
    }
    let rows = members.rows().iter().zip(&planned.rows).zip(set.all_rows());
    for ((Member { key, hash, shard }, planned), write) in rows {
        let shard = locked.shard(*shard);
        let holder = shard.reserved.holder(*key, *hash);
        let is_free = holder.is_none() || holder == passes;
        let is_as_planned = is_free && is_as_planned(core, shard, *key, *hash, planned);
        if !is_as_planned || !is_ahead(core, write) {
            return Err(Entered::Moved);
        }
    }
    Ok(ids)
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
