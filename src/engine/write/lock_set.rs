//! The lock set: the shards of many ids, locked in order of their numbers, each with enough memtable space.

use crate::engine::catalog::namespaces::NsInfo;
pub(super) use crate::engine::core::GROUP;
use crate::engine::core::{Core, ShardCell};
use crate::engine::write::backpressure::{WaitBudget, heal_in_time, room_for, wait_for_release};
use crate::error::{Error, Result};
use crate::id::{Digest, IdHash, Key};
use crate::limits;
use crate::run::{RunMeta, Step};
use crate::shard::{Shard, Space};
use crate::sync::{Arc, MutexGuard};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// One id of a batch, with its hash and shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) key: Key<'a>,
    pub(super) hash: IdHash,
    pub(super) shard: usize,
}

/// The locks of the shards of some ids, taken in order of shard number so that two sets cannot deadlock.
pub(super) struct LockSet<'a> {
    guards: Vec<Option<MutexGuard<'a, Shard>>>,
}

impl LockSet<'_> {
    pub(super) fn shard(&mut self, number: usize) -> &mut Shard {
        self.guards[number].as_mut().expect("the set holds the locks of its shards")
    }

    /// Returns how often the memtable of each shard was frozen; zero for shards not in the set.
    pub(super) fn freezes(&self) -> Vec<u64> {
        self.guards.iter().map(|guard| guard.as_ref().map_or(0, |shard| shard.freezes())).collect()
    }

    /// Prefetches what `prefetch` covers for all members of a group at once: one wait for memory serves the whole
    /// group, which is why a batch is looked up group by group.
    #[inline]
    pub(super) fn prefetch(&self, group: &[Member<'_>], prefetch: impl Fn(&Shard, IdHash)) {
        for member in group {
            if let Some(shard) = &self.guards[member.shard] {
                prefetch(shard, member.hash);
            }
        }
    }

    /// Prefetches what looking up these members will read: first what all of them read, then the ids of those that may
    /// be unflushed, then, step by step, the cached blocks of those that may be flushed, since each step needs what the
    /// one before it has loaded. A few successive waits for memory thus serve the whole group. Returns, for each
    /// member, the first run that may have it.
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

/// What keeps ids from being decided. It is removed with no lock held, and then all ids are looked up again.
pub(super) enum Obstacle<'a> {
    /// A block that was needed is damaged: the run, the fault, and the hash of the id that needed it.
    Damaged(Arc<RunMeta>, String, IdHash),
    /// Another caller holds this id.
    Reserved(Member<'a>),
}

/// Returns the digests of the long ids of a batch, in order.
pub(super) fn digests<I: AsRef<[u8]>>(core: &Core, ids: &[I]) -> Vec<Digest> {
    ids.iter().filter_map(|id| core.settings.long_ids.digest(id.as_ref())).collect()
}

/// Checks and hashes the ids of a batch; `digests` are those of its long ids.
pub(super) fn members<'a, I: AsRef<[u8]>>(
    core: &Core,
    ns: &NsInfo,
    ids: &'a [I],
    digests: &'a [Digest],
) -> Result<Vec<Member<'a>>> {
    let mut digests = digests.iter();
    let mut bytes = 0;
    // Once: a promotion may give the name another number meanwhile.
    let number = ns.id();
    let mut members = Vec::with_capacity(ids.len());
    for id in ids {
        let id = id.as_ref();
        let digest = if id.len() > limits::ID_BYTES_MAX { digests.next() } else { None };
        let key = Key::of(number, id, digest)?;
        bytes += key.id.len();
        let hash = core.hash(key);
        members.push(Member { key, hash, shard: hash.shard(core.shard_bits) });
    }
    if ids.len() > limits::BATCH_IDS_MAX || bytes > limits::BATCH_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the batch has {} ids and {bytes} bytes; the limits are {} ids and {} bytes",
            ids.len(),
            limits::BATCH_IDS_MAX,
            limits::BATCH_BYTES_MAX
        )));
    }
    Ok(members)
}

/// Returns whether no id or row is there twice.
pub(super) fn are_distinct(members: &[Member<'_>]) -> bool {
    if members.len() < 2 {
        return true;
    }
    let mut seen = HashTable::with_capacity(members.len());
    members.iter().all(|member| {
        let is_it = |other: &&Member<'_>| other.hash == member.hash && other.key == member.key;
        match seen.entry(member.hash.table(), is_it, |other| other.hash.table()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(member);
                true
            }
        }
    })
}

/// Locks all shards of the members, each with memtable space for its members.
pub(super) fn lock_all<'a>(
    core: &'a Core,
    members: &[Member<'_>],
    wait_budget: &mut WaitBudget,
) -> Result<LockSet<'a>> {
    lock_for(core, members, |_| true, wait_budget)
}

/// Locks all shards of the members, each with memtable space for those of its members that will be entered.
pub(super) fn lock_for<'a>(
    core: &'a Core,
    members: &[Member<'_>],
    is_entered: impl Fn(usize) -> bool,
    wait_budget: &mut WaitBudget,
) -> Result<LockSet<'a>> {
    let mut need: Vec<Option<(usize, usize)>> = vec![None; core.shards.len()];
    for (n, member) in members.iter().enumerate() {
        let (ids, bytes) = need[member.shard].get_or_insert_default();
        if is_entered(n) {
            *ids += 1;
            *bytes += member.key.id.len();
        }
    }
    'again: loop {
        let mut guards: Vec<Option<MutexGuard<'_, Shard>>> = Vec::new();
        for (number, need) in need.iter().copied().enumerate() {
            let Some((ids, bytes)) = need else {
                guards.push(None);
                continue;
            };
            let cell = &core.shards[number];
            let mut guard = cell.shard.lock();
            if ids == 0 {
                guards.push(Some(guard));
                continue;
            }
            match guard.make_space(ids, bytes, || core.log.end()) {
                Space::Free => {}
                Space::Froze => core.signals.flush.raise(),
                Space::Full => {
                    // Do not wait while holding the others: it would block them too.
                    drop(guards);
                    wait_for_room(core, cell, guard, ids, bytes, wait_budget)?;
                    continue 'again;
                }
            }
            guards.push(Some(guard));
        }
        return Ok(LockSet { guards });
    }
}

fn wait_for_room(
    core: &Core,
    cell: &ShardCell,
    mut guard: MutexGuard<'_, Shard>,
    ids: usize,
    bytes: usize,
    wait_budget: &mut WaitBudget,
) -> Result<()> {
    room_for(core, cell, &mut guard, ids, bytes, wait_budget).map(drop)
}

/// Heals, or waits for a reservation to end. The caller has released its locks.
pub(super) fn remove_obstacle(
    core: &Core,
    obstacle: Obstacle<'_>,
    wait_budget: &mut WaitBudget,
) -> Result<()> {
    match obstacle {
        Obstacle::Damaged(run, fault, hash) => heal_in_time(core, &run, &fault, hash, wait_budget),
        Obstacle::Reserved(Member { key, hash, shard }) => {
            let cell = &core.shards[shard];
            let mut shard = cell.shard.lock();
            wait_for_release(core, cell, &mut shard, key, hash, wait_budget)
        }
    }
}
