//! Reservations: an id is held while its effect is carried out, and becomes a claim when that is done.
//!
//! Nothing is in the log before `confirm`, so a crash releases everything: the event comes again and is processed
//! again. While an id is held, a claim of it waits and a second reservation gets `InProgress`.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::{Awaited, Core};
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::claim::{ClaimSpec, Outcome, outcome};
use crate::engine::write::durability::RestsOn;
use crate::engine::write::lock_set::{
    GROUP, Member, Obstacle, digests, lock_all, members, remove_obstacle,
};
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{IdHash, Key, NsId};
use crate::shard::{Known, Lookup, Shard};
use crate::sync::Ordering;
use crate::time::Timestamp;
use crate::wal::Lsn;

/// The answer for one id of a [`BatchReservation`](crate::BatchReservation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reserved {
    /// The id is new and this reservation holds it.
    FirstSeen,
    /// The id already has a live claim.
    Duplicate {
        /// When that claim was made.
        first_seen: Timestamp,
    },
    /// The id occurs earlier in this batch and is held there.
    SameBatch,
    /// Another caller holds the id.
    InProgress,
}

/// The ids that one reservation holds.
#[derive(Debug)]
pub(crate) struct Hold {
    holder: u64,
    bytes: Vec<u8>,
    ids: Vec<HeldId>,
    /// How often the memtable of each shard had been frozen before any of the ids was looked up.
    freezes: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct HeldId {
    hash: IdHash,
    /// The namespace number in its key: of its namespace, or of the space of hashed ids.
    ns: NsId,
    /// Its end in `bytes`.
    end: usize,
    /// Nothing was known of it, not even an ended claim.
    is_unknown: bool,
}

impl Hold {
    /// Returns the first id, or an empty slice.
    pub(crate) fn first_id(&self) -> &[u8] {
        self.ids.first().map_or(&[], |first| &self.bytes[..first.end])
    }

    fn push(&mut self, member: &Member<'_>, is_unknown: bool) {
        self.bytes.extend_from_slice(member.key.id);
        let (ns, end) = (member.key.ns, self.bytes.len());
        self.ids.push(HeldId { hash: member.hash, ns, end, is_unknown });
    }

    fn members(&self, core: &Core) -> Vec<Member<'_>> {
        let mut from = 0;
        let member = |held: &HeldId| {
            let id = &self.bytes[from..held.end];
            from = held.end;
            let key = Key { ns: held.ns, id };
            Member { key, hash: held.hash, shard: held.hash.shard(core.shard_bits) }
        };
        self.ids.iter().map(member).collect()
    }
}

/// Reserves the ids of the batch that are neither claimed nor held.
pub(in crate::engine) fn reserve<I: AsRef<[u8]>>(
    core: &Core,
    ns: &NsInfo,
    ids: &[I],
    wait_budget: &mut WaitBudget,
) -> Result<(Hold, Vec<Reserved>, Option<RestsOn>)> {
    core.health.check()?;
    let digests = digests(core, ids);
    let members = members(core, ns, ids, &digests)?;
    let holder = core.next_holder.fetch_add(1, Ordering::Relaxed);
    let (bytes, ids, freezes) = (Vec::new(), Vec::new(), Vec::new());
    let mut hold = Hold { holder, bytes, ids, freezes };
    let held = hold_all(core, &members, &mut hold, wait_budget);
    let (answers, rests_on) = held.inspect_err(|_| {
        // If a heal came before the failure, some ids are already held.
        release(core, &hold);
    })?;
    for (member, answer) in members.iter().zip(&answers) {
        if matches!(answer, Reserved::Duplicate { .. } | Reserved::SameBatch) {
            ns.count(member.shard, false, 1);
        }
    }
    Ok((hold, answers, rests_on.map(RestsOn::others)))
}

fn hold_all(
    core: &Core,
    members: &[Member<'_>],
    hold: &mut Hold,
    wait_budget: &mut WaitBudget,
) -> Result<(Vec<Reserved>, Option<Lsn>)> {
    let mut answers = Vec::with_capacity(members.len());
    let mut rests_on: Option<Lsn> = None;
    let since_ms = core.settings.clock.elapsed_ms();
    'again: loop {
        let mut locked = lock_all(core, members, wait_budget)?;
        if hold.freezes.is_empty() {
            hold.freezes = locked.freezes();
        }
        let now = core.time.now();
        // After a heal the loop resumes within a group, for which nothing was prefetched.
        let mut runs = [0; GROUP];
        for (n, member) in members.iter().enumerate().skip(answers.len()) {
            if n % GROUP == 0 {
                runs = locked.prefetch_all(&members[n..members.len().min(n + GROUP)]);
            }
            let first = runs[n % GROUP];
            let shard = locked.shard(member.shard);
            if let Some(holder) = shard.reserved.holder(member.key, member.hash) {
                let is_ours = holder == hold.holder;
                let (ours, others) = (Reserved::SameBatch, Reserved::InProgress);
                answers.push(if is_ours { ours } else { others });
                continue;
            }
            let access = core.run_access();
            match shard.lookup_prefetched(member.key, member.hash, access, first) {
                Lookup::Known(Known { version, lsn, .. }) if version.is_live(now) => {
                    rests_on = rests_on.max(lsn);
                    answers.push(Reserved::Duplicate { first_seen: version.first_seen() });
                }
                Lookup::Damaged(run, fault) => {
                    drop(locked);
                    let damage = Obstacle::Damaged(run, fault, member.hash);
                    remove_obstacle(core, damage, wait_budget)?;
                    continue 'again;
                }
                ended @ (Lookup::Known(_) | Lookup::Unknown) => {
                    let (key, hash) = (member.key, member.hash);
                    shard.reserved.insert(key, hash, hold.holder, since_ms, &core.hasher);
                    hold.push(member, matches!(ended, Lookup::Unknown));
                    answers.push(Reserved::FirstSeen);
                }
            }
        }
        return Ok((answers, rests_on));
    }
}

/// Turns all held ids into claims, as one record, and wakes waiters. If the record is not written, the ids stay
/// held. The caller waits for durability, and meanwhile they are claims.
pub(in crate::engine) fn confirm(
    core: &Core,
    ns: &NsInfo,
    hold: &Hold,
    spec: ClaimSpec,
    wait_budget: &mut WaitBudget,
) -> Result<Option<RestsOn>> {
    core.health.check()?;
    let members = hold.members(core);
    let Some(first) = members.first() else { return Ok(None) };
    if first.key.ns.listed() != ns.id() {
        return Err(Error::invalid(
            "a replay scope has taken the place of the namespace since the ids were reserved; reserve them again",
        ));
    }
    let lsn = 'again: loop {
        let mut locked = lock_all(core, &members, wait_budget)?;
        let at = core.time.moment();
        let mut decided: Vec<(Option<Known>, Version)> = Vec::with_capacity(members.len());
        for (n, (member, held)) in members.iter().zip(&hold.ids).enumerate() {
            if n % GROUP == 0 {
                locked
                    .prefetch(&members[n..members.len().min(n + GROUP)], Shard::prefetch_memtable);
            }
            let (key, hash, shard) = (member.key, member.hash, locked.shard(member.shard));
            let lookup = if held.is_unknown {
                shard.lookup_again(key, hash, hold.freezes[member.shard], core.run_access())
            } else {
                shard.lookup(key, hash, core.run_access())
            };
            let known = match lookup {
                Lookup::Unknown => None,
                Lookup::Known(known) => Some(known),
                Lookup::Damaged(run, fault) => {
                    drop(locked);
                    let damage = Obstacle::Damaged(run, fault, member.hash);
                    remove_obstacle(core, damage, wait_budget)?;
                    continue 'again;
                }
            };
            match outcome(known.as_ref(), at, spec.ttl) {
                Outcome::FirstSeen(version) => decided.push((known, version)),
                // Nobody claims an id that is held.
                Outcome::Duplicate(_) => return Err(Error::bug("a reserved id has a live claim")),
            }
        }
        let versions = members.iter().zip(&decided);
        let versions = versions.map(|(member, (_, version))| (member.key, *version));
        let level = spec.durability.append_level();
        let (log, mut lsns) = (&core.log, Vec::new());
        let lsn = log.append_claims(level, at.now, spec.ttl, versions, &mut lsns)?;
        for ((member, (known, version)), lsn) in members.iter().zip(decided).zip(lsns) {
            let shard = locked.shard(member.shard);
            shard.put(member.key, member.hash, version, lsn, known);
            shard.reserved.remove(member.key, member.hash, hold.holder);
            ns.count(member.shard, true, 1);
        }
        break lsn;
    };
    ring(core, &members);
    Ok(Some(RestsOn::own(lsn)))
}

/// Releases the ids without a claim. Harmless after `confirm`.
pub(in crate::engine) fn release(core: &Core, hold: &Hold) {
    let members = hold.members(core);
    for member in &members {
        let mut shard = core.shards[member.shard].shard.lock();
        shard.reserved.remove(member.key, member.hash, hold.holder);
    }
    ring(core, &members);
}

fn ring(core: &Core, members: &[Member<'_>]) {
    let mut rung = vec![false; core.shards.len()];
    for member in members {
        let cell = &core.shards[member.shard];
        if !std::mem::replace(&mut rung[member.shard], true) {
            cell.changed.notify_all();
        }
        cell.futures.wake(Awaited::Release(member.hash));
    }
}
