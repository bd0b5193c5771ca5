//! The walk over a lock set: many ids are looked up and decided at one moment, under the locks of all their shards.
//!
//! Batches, reservations and their confirmation differ in what they decide about each id, which is a pure function, and
//! in how they look it up.

use crate::engine::core::Core;
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::decide::Decision;
use crate::engine::write::durability::RestsOn;
use crate::engine::write::lock_set::{GROUP, LockSet, Member, Obstacle, lock_all, remove_obstacle};
use crate::engine::write::pending::Pending;
use crate::error::Result;
use crate::expiry::Version;
use crate::run::RunAccess;
use crate::shard::{Known, Lookup, Shard};
use crate::time::{Moment, Ttl};
use crate::wal::{AppendLevel, Lsn};

/// What the walk finds of an id.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found {
    /// It is reserved, by this holder.
    Held(u64),
    /// Nobody holds it, and this is the version that counts, live or not.
    Known(Option<Known>),
}

impl Found {
    #[inline]
    fn known(self) -> Option<Known> {
        match self {
            Self::Known(known) => known,
            Self::Held(_) => None,
        }
    }

    /// Decides as a single call does: waits for whoever holds the id.
    #[inline]
    pub(super) fn or_wait<T>(self, decide: impl FnOnce(Option<&Known>) -> Decision<T>) -> Step<T> {
        let Self::Known(known) = self else { return Step::Wait };
        match decide(known.as_ref()) {
            Decision::Answer(answer, lsn) => Step::Answer(answer, lsn),
            Decision::Append(answer, version, _) => Step::Append(answer, version),
        }
    }
}

/// What to do about an id of a set.
pub(super) enum Step<T> {
    /// Answer without writing. The answer rests on the record at this location, if one may not be on disk yet.
    Answer(T, Option<Lsn>),
    /// Append this version, in one record with those of the others.
    Append(T, Version),
    /// Hold the id for this holder, in memory only.
    Reserve(T, Holder),
    /// Wait until the id is released, and begin again.
    Wait,
}

/// Who reserves, and since when in milliseconds of the clock's elapsed time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub(super) number: u64,
    pub(super) since_ms: u64,
}

/// How the ids of a set are looked up. The defaults look everywhere; a confirmation knows more.
pub(super) trait LookUp {
    /// Prefetches what the lookups of a group read. Returns, for each, the first run that may have it.
    #[inline]
    fn prefetch(&self, locked: &LockSet<'_>, group: &[Member<'_>]) -> [usize; GROUP] {
        locked.prefetch_all(group)
    }

    /// Returns who holds the id; `None` for the caller's own.
    #[inline]
    fn holder(&self, shard: &Shard, member: &Member<'_>) -> Option<u64> {
        shard.reserved.holder(member.key, member.hash)
    }

    /// Looks up the `n`-th id of the set.
    #[inline]
    fn look_up(
        &self,
        _n: usize,
        shard: &mut Shard,
        member: &Member<'_>,
        first_run: usize,
        access: RunAccess<'_>,
    ) -> Lookup {
        shard.lookup_prefetched(member.key, member.hash, access, first_run)
    }
}

/// Looks up everything: who holds an id, and all memtables and runs that may have it.
pub(super) struct Full;

impl LookUp for Full {}

/// All ids of a set decided at one moment, their shards still locked.
pub(super) struct Decided<'a, T> {
    pub(super) locked: LockSet<'a>,
    at: Moment,
    /// One answer for each member, in their order.
    pub(super) answers: Vec<T>,
    /// The last record that an answer depends on.
    pub(super) rests_on: Option<Lsn>,
    pending: Pending<'a>,
    /// The ids that are held now.
    pub(super) reserved: Vec<NewlyHeld<'a>>,
}

/// An id that the walk has reserved.
pub(super) struct NewlyHeld<'a> {
    pub(super) member: Member<'a>,
    /// Nothing was known of it, not even an ended claim.
    pub(super) is_unknown: bool,
    holder: u64,
}

/// Decides all ids of a set. Locks all their shards and walks over the ids; if one cannot be decided yet, takes back what
/// was done, unlocks, removes the obstacle and begins again. So no decision uses a stale lookup.
pub(super) fn decide_all<'a, T>(
    core: &'a Core,
    members: &'a [Member<'a>],
    look: &impl LookUp,
    wait_budget: &mut WaitBudget,
    decide: impl Fn(Found, Moment) -> Step<T>,
) -> Result<Decided<'a, T>> {
    loop {
        let mut decided = Decided {
            locked: lock_all(core, members, wait_budget)?,
            at: core.time.moment(),
            answers: Vec::with_capacity(members.len()),
            rests_on: None,
            pending: Pending::default(),
            reserved: Vec::new(),
        };
        let Some(obstacle) = decided.walk(core, members, look, &decide) else {
            return Ok(decided);
        };
        decided.undo();
        drop(decided);
        remove_obstacle(core, obstacle, wait_budget)?;
    }
}

impl<'a, T> Decided<'a, T> {
    /// Looks up and decides one id after the other. Returns the first obstacle that keeps one from being decided.
    #[inline]
    fn walk(
        &mut self,
        core: &Core,
        members: &[Member<'a>],
        look: &impl LookUp,
        decide: impl Fn(Found, Moment) -> Step<T>,
    ) -> Option<Obstacle<'a>> {
        let mut runs = [0; GROUP];
        for (n, &member) in members.iter().enumerate() {
            if n % GROUP == 0 {
                runs = look.prefetch(&self.locked, &members[n..members.len().min(n + GROUP)]);
            }
            let Member { key, hash, .. } = member;
            let shard = self.locked.shard(member.shard);
            let found = match look.holder(shard, &member) {
                Some(holder) => Found::Held(holder),
                None => match look.look_up(n, shard, &member, runs[n % GROUP], core.run_access()) {
                    Lookup::Unknown => Found::Known(None),
                    Lookup::Known(known) => Found::Known(Some(known)),
                    Lookup::Damaged(run, fault) => {
                        return Some(Obstacle::Damaged(run, fault, hash));
                    }
                },
            };
            let known = found.known();
            self.answers.push(match decide(found, self.at) {
                Step::Answer(answer, lsn) => {
                    self.rests_on = self.rests_on.max(lsn);
                    answer
                }
                Step::Append(answer, version) => {
                    self.pending.enter(shard, member, version, known);
                    answer
                }
                Step::Reserve(answer, Holder { number: holder, since_ms }) => {
                    shard.reserved.insert(key, hash, holder, since_ms, &core.hasher);
                    let is_unknown = known.is_none();
                    self.reserved.push(NewlyHeld { member, is_unknown, holder });
                    answer
                }
                Step::Wait => return Some(Obstacle::Reserved(member)),
            });
        }
        None
    }

    /// Appends what was decided, as one record. Returns what the answers rest on. On error nothing was decided.
    pub(super) fn append(
        &mut self,
        core: &Core,
        level: AppendLevel,
        ttl: Ttl,
    ) -> Result<Option<RestsOn>> {
        if self.pending.is_empty() {
            return Ok(self.rests_on.map(RestsOn::others));
        }
        // Its own record is the last one, so all that the answers rest on is written and synced with it (I6).
        let lsn = self.pending.append(&core.log, level, self.at.now, ttl, &mut self.locked)?;
        Ok(Some(RestsOn::own(lsn)))
    }

    /// Takes back what was decided. Nobody has seen it: the locks are still held.
    pub(super) fn undo(&mut self) {
        self.pending.undo(&mut self.locked);
        for NewlyHeld { member, holder, .. } in self.reserved.drain(..) {
            let reserved = &mut self.locked.shard(member.shard).reserved;
            reserved.remove(member.key, member.hash, holder);
        }
    }
}
