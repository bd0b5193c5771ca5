//! The commit: claims and rows written as one record, all of them or none.
//!
//! No disk is read and nothing is encoded under a shard's lock (I9): what is known of the ids and rows is read first, the
//! record is encoded, and under the locks a commit checks that nothing has moved since.

use crate::engine::core::{Bells, Core, Durability, RowState, TopicEvent};
use crate::engine::write::backpressure::{WaitBudget, keep_to_compaction};
use crate::engine::write::claim::{Outcome, outcome};
use crate::engine::write::decide::known;
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::engine::write::lock_set::{LockSet, Member, Obstacle, lock_for, remove_obstacle};
use crate::engine::write::prepare::hold;
use crate::engine::write::rows::{known_row, rests_on};
use crate::engine::write::write_set::{Expect, Phase, RowChange, RowWrite, WriteSet};
use crate::error::{Error, Result};
use crate::expiry::{Class, EventEnd, Horizon, Kind, Version};
use crate::id::{Family, IdHash, Key, NsId};
use crate::limits;
use crate::shard::{Known, KnownRow, Lookup, RowLookup, Shard, is_prepared};
use crate::sync::Ordering;
use crate::time::{Moment, Timestamp};
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
struct PlannedClaim {
    known: Option<Version>,
    /// `None`: it is only held.
    version: Option<Version>,
}

/// A write with what is known of its row, and what it will append.
struct PlannedRow<'a> {
    known: Option<KnownRow>,
    /// `None` for a row that stays as it is.
    version: Option<Version>,
    change: RowChange<&'a [u8]>,
}

impl<'a> PlannedRow<'a> {
    fn value(&self) -> Option<&'a [u8]> {
        self.change.value()
    }
}

/// What to append, if nothing has moved until then.
struct Planned<'a> {
    claims: Vec<PlannedClaim>,
    rows: Vec<PlannedRow<'a>>,
}

impl Planned<'_> {
    /// Returns whether a member is written: claims come first, then rows.
    fn is_written(&self, n: usize) -> bool {
        match n.checked_sub(self.claims.len()) {
            None => self.claims[n].version.is_some(),
            Some(row) => self.rows[row].version.is_some(),
        }
    }

    /// Returns the sequence of the row that says that all the others are prepared.
    fn prepares(&self, phase: Phase<'_>) -> Option<u64> {
        let row = self.rows.last().filter(|_| phase.is_prepare())?;
        row.version.map(|version| version.rank)
    }
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
        let keys = keys.chain(set.all_rows().map(|row| row.key));
        let member = |key| {
            let hash = core.hash(key);
            Member { key, hash, shard: hash.shard(core.shard_bits) }
        };
        Self { all: keys.map(member).collect(), claims: set.claims.len() }
    }

    fn claims(&self) -> &[Member<'a>] {
        &self.all[..self.claims]
    }

    /// Returns the rows, that of the phase last.
    fn rows(&self) -> &[Member<'a>] {
        &self.all[self.claims..]
    }

    /// Returns what a prepared transaction holds: all but its own row.
    fn held(&self) -> &[Member<'a>] {
        &self.all[..self.all.len() - 1]
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
    check(&set)?;
    let members = Members::of(core, &set);
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
    core.namespaces.check_not_gone(members.all.iter().map(|member| member.key))?;
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
    let commit = encode(set, &planned)?;
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
    check(&set)?;
    let members = Members::of(core, &set);
    match plan(core, &set, &members, wait_budget)? {
        Plan::Answer(SetCommitted::Refused(refusals), rests_on) => Ok((refusals, rests_on)),
        _ => Ok((Refusals::default(), None)),
    }
}

fn done(planned: &[PlannedRow<'_>]) -> SetCommitted {
    SetCommitted::Done(planned.iter().map(|p| p.version.map(|version| version.rank)).collect())
}

fn encode(set: &WriteSet<'_>, planned: &Planned<'_>) -> Result<Commit> {
    let mut commit = Commit::default();
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

/// Checks what does not depend on the store's contents.
fn check(set: &WriteSet<'_>) -> Result<()> {
    let WriteSet { claims, .. } = set;
    let entries = claims.len() + set.all_rows().count();
    if entries > limits::BATCH_IDS_MAX {
        return Err(Error::invalid(format!(
            "a commit has {entries} claims and rows; the limit is {}: split it",
            limits::BATCH_IDS_MAX
        )));
    }
    let mut keys: Vec<Key<'_>> = claims.iter().map(|claim| claim.key).collect();
    keys.extend(set.all_rows().map(|row| row.key));
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
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
    set.all_rows().try_for_each(|row| row.ttl.check())
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
    let mut rows = Vec::with_capacity(set.rows.len() + 1);
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
fn is_ahead(core: &Core, write: &RowWrite<'_>) -> bool {
    match write.expect {
        Expect::Ahead { watermark_max, .. } => {
            core.families.watermarks().of(write.key.ns.listed().0) <= watermark_max
        }
        Expect::Anything | Expect::Absent | Expect::Sequence(_) => true,
    }
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
    core.namespaces.check_not_gone(members.all.iter().map(|member| member.key))?;
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
        shard.put(member.key, member.hash, version, at.end, known);
        write.ns.count(member.shard, true, 1);
    }
    for ((member, planned, version), at) in written().zip(places) {
        core.scans.note(member.key, member.shard, planned.known);
        locked.shard(member.shard).memtable.put_row(member.key, member.hash, version, at);
        let Version { rank: sequence, deadline, .. } = version;
        let row = planned.value().map(|value| RowState { value, sequence, deadline });
        let replaced = planned.known.map(|known| known.version.rank);
        core.families.apply(member.key, row, replaced);
    }
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
