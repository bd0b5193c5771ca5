//! Reservations: an id is held while its effect is carried out, and becomes a claim when that is done.
//!
//! Nothing is in the log before `confirm`, so a crash releases everything: the event comes again and is processed
//! again. While an id is held, a claim of it waits and a second reservation gets `InProgress`.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::{Awaited, Core};
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::claim::{ClaimSpec, decide_claim};
use crate::engine::write::durability::RestsOn;
use crate::engine::write::lock_set::{GROUP, LockSet, Member, digests, members};
use crate::engine::write::walk::{Decided, Found, Full, Holder, LookUp, Step, decide_all};
use crate::error::{Error, Result};
use crate::id::{IdHash, Key, NsId, ShortId};
use crate::run::RunAccess;
use crate::shard::{Lookup, Shard};
use crate::sync::{Ordering, lock_awake};
use crate::time::Timestamp;
use std::fmt;

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
pub(crate) struct Hold {
    holder: u64,
    bytes: Vec<u8>,
    ids: Vec<HeldId>,
    /// How often the memtable of each shard had been frozen before any of the ids was looked up.
    freezes: Vec<u64>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = (!self.ids.is_empty()).then(|| ShortId(self.first_id()));
        f.debug_struct("Hold")
            .field("ids", &self.ids.len())
            .field("first", &first)
            .finish_non_exhaustive()
    }
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

/// The holder of the ids looks them up again: nobody else has claimed them since.
impl LookUp for Hold {
    #[inline]
    fn prefetch(&self, locked: &LockSet<'_>, group: &[Member<'_>]) -> [usize; GROUP] {
        locked.prefetch(group, Shard::prefetch_memtable);
        [0; GROUP]
    }

    #[inline]
    fn holder(&self, _: &Shard, _: &Member<'_>) -> Option<u64> {
        None
    }

    #[inline]
    fn look_up(
        &self,
        n: usize,
        shard: &mut Shard,
        member: &Member<'_>,
        _first_run: usize,
        access: RunAccess<'_>,
    ) -> Lookup {
        let Member { key, hash, shard: number } = *member;
        if self.ids[n].is_unknown {
            shard.lookup_again(key, hash, self.freezes[number], access)
        } else {
            shard.lookup(key, hash, access)
        }
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
    let number = core.next_holder.fetch_add(1, Ordering::Relaxed);
    let holder = Holder { number, since_ms: core.settings.clock.elapsed_ms() };
    let decided = decide_all(core, &members, &Full, wait_budget, |found, at| {
        decide_reservation(found, at.now, holder)
    })?;
    for (member, answer) in members.iter().zip(&decided.answers) {
        if matches!(answer, Reserved::Duplicate { .. } | Reserved::SameBatch) {
            ns.count(member.shard, false, 1);
        }
    }
    let freezes = decided.locked.freezes();
    let Decided { locked, answers, rests_on, reserved, .. } = decided;
    drop(locked);
    let mut hold = Hold { holder: number, bytes: Vec::new(), ids: Vec::new(), freezes };
    for held in &reserved {
        hold.push(&held.member, held.is_unknown);
    }
    Ok((hold, answers, rests_on.map(RestsOn::others)))
}

/// Decides about one id. A reservation does not wait for another.
#[inline]
fn decide_reservation(found: Found, now: Timestamp, holder: Holder) -> Step<Reserved> {
    match found {
        Found::Held(by) if by == holder.number => Step::Answer(Reserved::SameBatch, None),
        Found::Held(_) => Step::Answer(Reserved::InProgress, None),
        Found::Known(Some(known)) if known.version.is_live(now) => {
            let first_seen = known.version.first_seen();
            Step::Answer(Reserved::Duplicate { first_seen }, known.lsn)
        }
        Found::Known(_) => Step::Reserve(Reserved::FirstSeen, holder),
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
    let mut decided = decide_all(core, &members, hold, wait_budget, |found, at| {
        found.or_wait(|known| decide_claim(known, at, spec))
    })?;
    if decided.answers.iter().any(|answer| answer.is_duplicate()) {
        // Nobody claims an id that is held.
        decided.undo();
        return Err(Error::bug("a reserved id has a live claim"));
    }
    let rests_on = decided.append(core, spec.durability.append_level(), spec.ttl)?;
    for member in &members {
        let shard = decided.locked.shard(member.shard);
        shard.reserved.remove(member.key, member.hash, hold.holder);
        ns.count(member.shard, true, 1);
    }
    drop(decided);
    ring(core, &members);
    Ok(rests_on)
}

/// Releases the ids without a claim. Harmless after `confirm`.
pub(in crate::engine) fn release(core: &Core, hold: &Hold) {
    let members = hold.members(core);
    for member in &members {
        let mut shard = lock_awake(&core.shards[member.shard].shard);
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
