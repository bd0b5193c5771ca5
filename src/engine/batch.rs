//! Batches: many ids, one lock round, one log record, all or nothing.

use crate::engine::backpressure::WaitBudget;
use crate::engine::claim::{Answer, ClaimSpec};
use crate::engine::namespaces::NsInfo;
use crate::engine::{Engine, ShardCell};
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{Digest, IdHash, Key};
use crate::limits;
use crate::memtable::EntryOffset;
use crate::run::{RunMeta, Step};
use crate::shard::{Known, Lookup, Shard};
use crate::sync::{Arc, MutexGuard};
use crate::wal::Lsn;

/// The answers for a batch, in its order.
pub(crate) type BatchAnswer = Vec<Answer>;

/// One id of a batch, hashed at the door.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) key: Key<'a>,
    pub(super) hash: IdHash,
    pub(super) shard: usize,
}

/// The locks of the shards of one batch, taken in the order of their numbers so that two batches cannot
/// wait for each other.
pub(super) struct Locked<'a> {
    guards: Vec<Option<MutexGuard<'a, Shard>>>,
}

impl Locked<'_> {
    pub(super) fn shard(&mut self, number: usize) -> &mut Shard {
        self.guards[number].as_mut().expect("the batch holds the locks of its shards")
    }

    /// How often the memtable of each shard was frozen; zero for shards that are not of this batch.
    pub(super) fn freezes(&self) -> Vec<u64> {
        self.guards.iter().map(|guard| guard.as_ref().map_or(0, |shard| shard.freezes())).collect()
    }

    /// Begins to load what `touch` reads for each of these members, all of it at once: one wait for memory serves the
    /// whole group, and a batch is looked up group by group for this.
    #[inline]
    pub(super) fn prefetch(&self, group: &[Member<'_>], prefetch: impl Fn(&Shard, IdHash)) {
        for member in group {
            if let Some(shard) = &self.guards[member.shard] {
                prefetch(shard, member.hash);
            }
        }
    }

    /// Begins to load what looking these members up will read: first what all of them do, then the ids of those that
    /// may be unflushed, and step by step the blocks in memory of those that may be flushed, for each step needs what the
    /// one before it has loaded. So few waits for memory, one after the other, serve the whole group.
    /// Answers for each the first run that may have it.
    #[inline]
    pub(super) fn prefetch_all(&self, group: &[Member<'_>]) -> [usize; GROUP] {
        self.prefetch(group, Shard::prefetch);
        self.prefetch(group, Shard::prefetch_entry);
        let mut runs = [0; GROUP];
        let mut spots = [(0, (0, 0)); GROUP];
        let mut count = 0;
        for (n, member) in group.iter().enumerate() {
            let Some(shard) = &self.guards[member.shard] else { continue };
            runs[n] = shard.first_run(member.hash);
            if let Some(spot) = shard.block_spot(member.hash, runs[n]) {
                spots[count] = (n, spot);
                count += 1;
            }
        }
        for step in Step::ALL {
            for (n, spot) in &spots[..count] {
                let Member { key, shard, .. } = &group[*n];
                if let Some(shard) = &self.guards[*shard] {
                    shard.prefetch_block(step, *spot, key.id.len());
                }
            }
        }
        runs
    }
}

/// Members of a group: as many as the processor can wait for at once, and few enough that what was loaded for the
/// last is still in the nearest cache.
pub(super) const GROUP: usize = 16;

impl Engine {
    /// The hashes of the long ids of a batch, in order.
    pub(super) fn digests<I: AsRef<[u8]>>(&self, ids: &[I]) -> Vec<Digest> {
        ids.iter().filter_map(|id| self.settings.long_ids.digest(id.as_ref())).collect()
    }

    /// Checks and hashes the ids of a batch; `digests` are those of its long ids.
    pub(super) fn members<'a, I: AsRef<[u8]>>(
        &self,
        ns: &NsInfo,
        ids: &'a [I],
        digests: &'a [Digest],
    ) -> Result<Vec<Member<'a>>> {
        let mut digests = digests.iter();
        let mut bytes = 0;
        let mut members = Vec::with_capacity(ids.len());
        for id in ids {
            let id = id.as_ref();
            let digest = if id.len() > limits::ID_BYTES_MAX { digests.next() } else { None };
            let key = Key::of(ns.id, id, digest)?;
            bytes += key.id.len();
            let hash = self.hash(key);
            members.push(Member { key, hash, shard: hash.shard(self.shard_bits) });
        }
        if ids.len() > limits::BATCH_IDS_MAX || bytes > limits::BATCH_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a batch of {} ids and {bytes} bytes: a batch has at most {} ids and {} bytes; split it",
                ids.len(),
                limits::BATCH_IDS_MAX,
                limits::BATCH_BYTES_MAX
            )));
        }
        Ok(members)
    }

    /// Takes the locks of all shards of the members, with room in each of them for those.
    pub(super) fn lock_all(
        &self,
        members: &[Member<'_>],
        wait_budget: &mut WaitBudget,
    ) -> Result<Locked<'_>> {
        let mut need = vec![(0usize, 0usize); self.shards.len()];
        for member in members {
            need[member.shard].0 += 1;
            need[member.shard].1 += member.key.id.len();
        }
        'again: loop {
            let mut guards: Vec<Option<MutexGuard<'_, Shard>>> = Vec::new();
            for (number, (ids, bytes)) in need.iter().copied().enumerate() {
                if ids == 0 {
                    guards.push(None);
                    continue;
                }
                let cell = &self.shards[number];
                let guard = cell.shard.lock();
                let full = guard.memtable.is_full_for(ids, bytes) && !guard.memtable.is_empty();
                if full && guard.frozen.is_some() {
                    // Waiting while holding the others would stop them too.
                    drop(guards);
                    self.wait_for_room(cell, guard, ids, bytes, wait_budget)?;
                    continue 'again;
                }
                guards.push(Some(guard));
            }
            let mut locked = Locked { guards };
            for (number, (ids, bytes)) in need.iter().copied().enumerate() {
                if ids > 0 {
                    let shard = locked.shard(number);
                    if shard.memtable.is_full_for(ids, bytes) && !shard.memtable.is_empty() {
                        shard.freeze(self.log.end());
                        self.signals.flush.raise();
                    }
                }
            }
            return Ok(locked);
        }
    }

    fn wait_for_room(
        &self,
        cell: &ShardCell,
        mut guard: MutexGuard<'_, Shard>,
        ids: usize,
        bytes: usize,
        wait_budget: &mut WaitBudget,
    ) -> Result<()> {
        self.room_for(cell, &mut guard, ids, bytes, wait_budget).map(drop)
    }

    /// Claims all ids of a batch as one record: either every first-seen of it is a claim afterwards, or,
    /// after an error, none. A copy of an id within the batch is a duplicate of the first one.
    pub(crate) fn claim_batch<I: AsRef<[u8]>>(
        &self,
        ns: &NsInfo,
        ids: &[I],
        spec: ClaimSpec,
    ) -> Result<BatchAnswer> {
        self.health.check()?;
        let digests = self.digests(ids);
        let members = self.members(ns, ids, &digests)?;
        let mut wait_budget = WaitBudget::of(spec.wait);
        let (answers, await_lsn) = loop {
            let mut locked = self.lock_all(&members, &mut wait_budget)?;
            match self.try_batch(&mut locked, ns, &members, spec)? {
                Attempt::Done(answers, await_lsn) => break (answers, await_lsn),
                Attempt::Heal(run, fault, hash) => {
                    drop(locked);
                    self.heal_in_time(&run, &fault, hash, &mut wait_budget)?;
                }
                Attempt::Reserved(member) => {
                    drop(locked);
                    let cell = &self.shards[member.shard];
                    let mut shard = cell.shard.lock();
                    self.wait_for_release(
                        cell,
                        &mut shard,
                        member.key,
                        member.hash,
                        &mut wait_budget,
                    )?;
                }
            }
        };
        if let Some((lsn, appended)) = await_lsn {
            self.await_durable(spec.durability, lsn, appended)?;
        }
        Ok(answers)
    }

    fn try_batch<'a>(
        &self,
        locked: &mut Locked<'_>,
        ns: &NsInfo,
        members: &[Member<'a>],
        spec: ClaimSpec,
    ) -> Result<Attempt<'a>> {
        let at = self.time.moment();
        let now = at.now;
        // Entered before the record is written, to find copies within the batch; taken out again if the
        // write is refused. Nobody can look in between: all locks are held.
        let mut entered = Entered { done: Vec::new() };
        let mut answers = Vec::with_capacity(members.len());
        let mut extend = Vec::new();
        let mut copies = Vec::new();
        let mut await_lsn: Option<Lsn> = None;
        let mut runs = [0; GROUP];
        for (n, member) in members.iter().enumerate() {
            if n % GROUP == 0 {
                runs = locked.prefetch_all(&members[n..members.len().min(n + GROUP)]);
            }
            let first = runs[n % GROUP];
            let shard = locked.shard(member.shard);
            if shard.reserved.holder(member.key, member.hash).is_some() {
                entered.undo(locked);
                return Ok(Attempt::Reserved(*member));
            }
            let access = self.run_access();
            let known = match shard.lookup_prefetched(member.key, member.hash, access, first) {
                Lookup::Unknown => None,
                Lookup::Known(known) => Some(known),
                Lookup::Damaged(run, fault) => {
                    entered.undo(locked);
                    return Ok(Attempt::Heal(run, fault, member.hash));
                }
            };
            if let Some(known) = known
                && known.version.is_live(now)
            {
                if known.lsn == Some(PENDING) {
                    copies.push(answers.len());
                } else {
                    await_lsn = await_lsn.max(known.lsn);
                    if spec.sliding {
                        extend.push((*member, known));
                    }
                }
                answers.push(Answer::Duplicate { first_seen: known.version.first_seen });
                continue;
            }
            // Times and offset are filled in below, when they are known for the whole batch.
            let pending = Version::claim_at(at, spec.ttl);
            let offset = shard.put(member.key, member.hash, pending, PENDING, known);
            entered.done.push((*member, known, offset));
            answers.push(Answer::FirstSeen);
        }
        let claim = Version::claim_at(at, spec.ttl);
        let claims = entered.done.iter().map(|(member, known, offset)| {
            let version = claim.after(known.as_ref().map(|known| &known.version));
            (*member, version, Some(*offset))
        });
        let moved = extend
            .iter()
            .filter_map(|(member, known)| Some((*member, Self::extended(known, at, spec)?, None)));
        let changes: Vec<(Member<'_>, Version, Option<EntryOffset>)> =
            claims.chain(moved).collect();
        let appended = !changes.is_empty();
        if appended {
            // One record for claims and extensions: after an error there is none of either.
            let versions = changes.iter().map(|(member, version, _)| (member.key, *version));
            let level = spec.durability.append_level();
            let mut lsns = Vec::new();
            let log = &self.log;
            let lsn = match log.append_claims(level, now, spec.ttl, versions, &mut lsns) {
                Ok(lsn) => lsn,
                Err(e) => {
                    entered.undo(locked);
                    return Err(e);
                }
            };
            for ((member, version, offset), lsn) in changes.iter().zip(lsns) {
                let open = &mut locked.shard(member.shard).memtable;
                match offset {
                    Some(offset) => open.put_at(*offset, *version, lsn),
                    // Not as new: an id that is extended may stand twice in the batch.
                    None => _ = open.put(member.key, member.hash, *version, lsn),
                }
            }
            for copy in copies {
                answers[copy] = Answer::Duplicate { first_seen: now };
            }
            await_lsn = Some(lsn);
        }
        for (member, answer) in members.iter().zip(&answers) {
            ns.count(member.shard, *answer == Answer::FirstSeen, 1);
        }
        Ok(Attempt::Done(answers, await_lsn.map(|lsn| (lsn, appended))))
    }
}

/// Stands for the location of a record that is not written yet.
const PENDING: Lsn = Lsn(u64::MAX);

/// What came of one round of a batch.
enum Attempt<'a> {
    Done(BatchAnswer, Option<(Lsn, bool)>),
    Heal(Arc<RunMeta>, String, IdHash),
    Reserved(Member<'a>),
}

/// Ids that were entered before their record was written.
struct Entered<'a> {
    done: Vec<(Member<'a>, Option<Known>, EntryOffset)>,
}

impl Entered<'_> {
    fn undo(&self, locked: &mut Locked<'_>) {
        for (member, known, offset) in self.done.iter().rev() {
            let shard = locked.shard(member.shard);
            match known {
                Some(known) if known.in_open => {
                    let lsn = known.lsn.unwrap_or_default();
                    shard.memtable.put_at(*offset, known.version, lsn);
                }
                _ => shard.memtable.remove(member.key, member.hash),
            }
        }
    }
}
