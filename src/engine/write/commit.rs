//! The commit: rows written as one record, all of them or none.
//!
//! No disk is read and nothing is encoded under a shard's lock (I9): what is known of the rows is read first, the record
//! is encoded, and under the locks a commit checks that nothing has moved since.

use crate::engine::core::{Bells, Core, Durability, RowState};
use crate::engine::write::backpressure::{WaitBudget, keep_to_compaction};
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::engine::write::lock_set::{Member, lock_all};
use crate::engine::write::rows::{known_row, rests_on};
use crate::error::{Error, Result};
use crate::expiry::{Class, Kind, Version};
use crate::id::{IdHash, Key};
use crate::limits;
use crate::shard::{KnownRow, RowLookup, Shard};
use crate::time::Ttl;
use crate::wal::{Commit, ItemAt};

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

/// A write with what is known of its row, and what it will append.
struct Planned<'a> {
    known: Option<KnownRow>,
    /// `None` for a row to be deleted that does not exist.
    version: Option<Version>,
    value: Option<&'a [u8]>,
}

/// What to do about a commit.
enum Plan<'a> {
    /// Return this and write nothing. It depends on the given record, if that may not be on disk.
    Answer(Committed, Option<RestsOn>),
    /// Append these, if nothing has moved until then.
    Append(Vec<Planned<'a>>),
}

/// Writes rows as one record: all of them, or none. The caller has those who wait for them woken, by dropping `bells`.
pub(in crate::engine) fn commit_rows(
    core: &Core,
    writes: &[RowWrite<'_>],
    durability: Durability,
    bells: &mut Bells,
) -> Result<Committed> {
    let (committed, rests_on) = commit_rows_at(core, writes, durability, bells)?;
    await_durable(core, durability, rests_on)?;
    Ok(committed)
}

/// Writes rows as [`commit_rows`] does, and returns without waiting what their durability rests
/// on.
pub(in crate::engine) fn commit_rows_at(
    core: &Core,
    writes: &[RowWrite<'_>],
    durability: Durability,
    bells: &mut Bells,
) -> Result<(Committed, Option<RestsOn>)> {
    core.health.check()?;
    let members = row_members(core, writes)?;
    let mut wait_budget = WaitBudget::default();
    let mut has_waited = false;
    loop {
        let planned = match plan(core, writes, &members, &mut wait_budget)? {
            Plan::Answer(answer, rests_on) => return Ok((answer, rests_on)),
            Plan::Append(planned) => planned,
        };
        // What is quiet keeps a lease: it must not be late.
        if !has_waited
            && writes.iter().any(|write| !write.is_quiet)
            && planned.iter().any(|planned| planned.known.is_some())
            && keep_to_compaction(core, &mut wait_budget)
        {
            has_waited = true;
            continue;
        }
        let mut commit = Commit::default();
        for (write, planned) in writes.iter().zip(&planned) {
            if let Some(version) = planned.version {
                commit.push_row(write.key, version, write.value.unwrap_or_default());
            }
        }
        if commit.bytes().len() > limits::COMMIT_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a commit of {} bytes: it has at most {}; split it",
                commit.bytes().len(),
                limits::COMMIT_BYTES_MAX
            )));
        }
        commit.seal();
        if let Some(rests_on) =
            enter(core, &members, &planned, &commit, durability, &mut wait_budget)?
        {
            let loud = writes.iter().filter(|write| !write.is_quiet);
            core.watches.add_bells(loud.map(|write| write.key), bells);
            return Ok((done(&planned), Some(rests_on)));
        }
        if wait_budget.is_over(core.settings.wait_max) {
            return Err(Error::Timeout { what: "rows that others change again and again" });
        }
    }
}

fn done(planned: &[Planned<'_>]) -> Committed {
    Committed::Done(planned.iter().map(|p| p.version.map(|version| version.rank)).collect())
}

fn row_members<'a>(core: &Core, writes: &[RowWrite<'a>]) -> Result<Vec<Member<'a>>> {
    if writes.len() > limits::BATCH_IDS_MAX {
        return Err(Error::invalid(format!(
            "a commit of {} rows: it has at most {}; split it",
            writes.len(),
            limits::BATCH_IDS_MAX
        )));
    }
    let mut keys: Vec<Key<'_>> = writes.iter().map(|write| write.key).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::invalid("a commit writes one row twice"));
    }
    if let Some(write) =
        writes.iter().find(|w| w.value.is_some_and(|v| v.len() > limits::VALUE_BYTES_MAX))
    {
        return Err(Error::invalid(format!(
            "a value of {} bytes: it has at most {}",
            write.value.map_or(0, <[u8]>::len),
            limits::VALUE_BYTES_MAX
        )));
    }
    writes.iter().try_for_each(|write| write.ttl.check())?;
    let member = |write: &RowWrite<'a>| {
        let hash = core.hash(write.key);
        Member { key: write.key, hash, shard: hash.shard(core.shard_bits) }
    };
    Ok(writes.iter().map(member).collect())
}

/// Reads what is known of each row and decides its next version.
fn plan<'a>(
    core: &Core,
    writes: &[RowWrite<'a>],
    members: &[Member<'_>],
    wait_budget: &mut WaitBudget,
) -> Result<Plan<'a>> {
    let mut all = Vec::with_capacity(writes.len());
    for member in members {
        all.push(known_row(core, member.key, member.hash, wait_budget)?);
    }
    let at = core.time.moment();
    let live = |known: &Option<KnownRow>| known.filter(|known| known.version.is_live(at.now));
    // Also that a row is not there: a power cut must not bring it back.
    let told = all.iter().flatten().find_map(|known| rests_on(core, known));
    let moved = |(n, (write, known)): (usize, (&RowWrite<'_>, &Option<KnownRow>))| {
        let found = live(known).map(|known| known.version.rank);
        let is_as_expected = match write.expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Sequence(expected) => found == Some(expected),
        };
        (!is_as_expected).then_some((n, found))
    };
    let moved: Vec<_> = writes.iter().zip(&all).enumerate().filter_map(moved).collect();
    if !moved.is_empty() {
        return Ok(Plan::Answer(Committed::Moved(moved), told));
    }
    // After the lookups: so each is above the sequence of the row that it replaces.
    let first = core.take_sequences(writes.len())?;
    let next = |((write, known), sequence): ((&RowWrite<'a>, &Option<KnownRow>), u64)| {
        let before = known.as_ref().map(|known| &known.version);
        let version = match (write.value, live(known)) {
            (Some(_), _) => {
                let class = write.ttl.as_millis().map_or(Class::FOREVER, Class::of_ttl);
                let deadline = write.ttl.deadline(at.latest);
                Some(Version::row(sequence, Kind::Value, deadline, class).after(before))
            }
            (None, Some(KnownRow { version: Version { deadline, class, .. }, .. })) => {
                Some(Version::row(sequence, Kind::Tombstone, deadline, class))
            }
            (None, None) => None,
        };
        Planned { known: *known, version, value: write.value }
    };
    let planned: Vec<_> = writes.iter().zip(&all).zip(first..).map(next).collect();
    if planned.iter().all(|planned| planned.version.is_none()) {
        return Ok(Plan::Answer(done(&planned), told));
    }
    Ok(Plan::Append(planned))
}

/// Appends the commit and enters its rows, if no row of it has moved since it was planned, those that it leaves as they
/// are included.
fn enter(
    core: &Core,
    members: &[Member<'_>],
    planned: &[Planned<'_>],
    commit: &Commit,
    durability: Durability,
    wait_budget: &mut WaitBudget,
) -> Result<Option<RestsOn>> {
    let mut locked = lock_all(core, members, wait_budget)?;
    for (Member { key, hash, shard }, planned) in members.iter().zip(planned) {
        if !is_as_planned(core, locked.shard(*shard), *key, *hash, planned) {
            return Ok(None);
        }
    }
    let written = || {
        let all = members.iter().zip(planned);
        all.filter_map(|(member, planned)| Some((member, planned, planned.version?)))
    };
    let superseded: Vec<ItemAt> =
        written().filter_map(|(_, planned, _)| Some(planned.known?.at)).collect();
    let lsn = core.log.append_commit(durability.append_level(), commit, &superseded)?;
    for ((member, planned, version), at) in written().zip(commit.places(lsn)) {
        locked.shard(member.shard).memtable.put_row(member.key, member.hash, version, at);
        let Version { rank: sequence, deadline, .. } = version;
        let row = planned.value.map(|value| RowState { value, sequence, deadline });
        core.families.apply(member.key, row);
    }
    Ok(Some(RestsOn::own(lsn)))
}

/// Returns whether a row is as it was when its write was planned. Not if a block was lost since.
fn is_as_planned(
    core: &Core,
    shard: &mut Shard,
    key: Key<'_>,
    hash: IdHash,
    planned: &Planned<'_>,
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
