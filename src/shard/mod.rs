//! A shard: the memtable, filters and runs for its share of the hash space.
//!
//! A plain struct with no threading of its own: the engine owns its lock. It is the only place that sees both filters
//! and runs, and it keeps them consistent (I2): a run is added together with its filter.

mod reserved;
mod rows;

pub(crate) use reserved::{HeldKey, ReservedSet, is_prepared, prepared_holder};
pub(crate) use rows::{KnownRow, RowLookup};

use crate::blocks::BlockId;
use crate::expiry::{Horizon, Liveness, Version};
use crate::filter::Filter;
use crate::id::{Family, IdHash, IdHasher, Key};
use crate::memtable::{EntryOffset, Memtable, MemtableEntry};
use crate::run::{
    BlockCache, KeptBlocks, LocatorFile, RunAccess, RunIds, RunMeta, Step, find_in_run,
};
use crate::sync::Arc;
use crate::wal::Lsn;

/// A run with its filter and its locators, if any.
#[derive(Debug, Clone)]
pub(crate) struct RunHandle {
    pub(crate) meta: Arc<RunMeta>,
    pub(crate) filter: Filter,
    pub(crate) locators: Option<Arc<LocatorFile>>,
}

/// A freshly built run, and blocks of it to cache.
#[derive(Debug)]
pub(crate) struct BuiltRun {
    pub(crate) run: RunHandle,
    pub(crate) kept: KeptBlocks,
    /// Bytes of its blocks.
    pub(crate) block_bytes: u64,
    /// Bytes of its locators.
    pub(crate) locator_bytes: u64,
}

impl BuiltRun {
    /// Returns how many bytes were written for it.
    pub(crate) fn bytes(&self) -> u64 {
        self.block_bytes + self.locator_bytes + self.run.filter.bytes() as u64
    }
}

/// What is known of an id, live or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) version: Version,
    /// The location just past the id in its record; `None` if it is flushed, since its record is on disk then.
    pub(crate) lsn: Option<Lsn>,
    /// Whether it is in the memtable, where a new version replaces it.
    pub(crate) in_memtable: bool,
}

/// The result of [`Shard::lookup`].
#[derive(Debug)]
pub(crate) enum Lookup {
    Unknown,
    Known(Known),
    /// A block that had to be read is missing or damaged: heal the run and look up again (I10).
    Damaged(Arc<RunMeta>, String),
}

/// What [`Shard::make_space`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Free,
    /// The memtable was full and is frozen now. Whoever froze it has it flushed.
    Froze,
    /// The memtable is full, and the one before it is still being flushed.
    Full,
}

/// Counters that show whether the filters pay off. Plain numbers, guarded by the shard's lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShardCounts {
    /// Filters probed.
    pub(crate) probes: u64,
    /// Blocks read because a filter said "maybe".
    pub(crate) block_reads: u64,
    /// Lookups served by a locator and the log instead of a block.
    pub(crate) log_reads: u64,
    /// Blocks or locators read in vain.
    pub(crate) false_positives: u64,
}

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) memtable: Memtable,
    /// The previous memtable while it is flushed in the background; read-only.
    pub(crate) frozen: Option<FrozenMemtable>,
    /// The runs of claims.
    pub(crate) runs: Vec<RunHandle>,
    /// The runs of rows, of all families.
    pub(crate) row_runs: Vec<RunHandle>,
    pub(crate) reserved: ReservedSet,
    pub(crate) counts: ShardCounts,
    cache: BlockCache,
    /// Reusable buffer for the locator that a lookup reads.
    locator: Vec<u8>,
    /// How many times the memtable was frozen.
    freezes: u64,
    /// An empty memtable with its allocation, for the next freeze.
    spare: Option<Memtable>,
    hasher: IdHasher,
    memtable_bytes_max: usize,
}

/// A frozen memtable.
#[derive(Debug, Clone)]
pub(crate) struct FrozenMemtable {
    pub(crate) set: Arc<Memtable>,
    /// Every record of this shard before this location is in `set` or in a run.
    pub(crate) upto: Lsn,
}

impl Shard {
    pub(crate) fn new(hasher: IdHasher, memtable_bytes_max: usize, cache_bytes_max: usize) -> Self {
        Self {
            memtable: Memtable::new(hasher, memtable_bytes_max),
            frozen: None,
            runs: Vec::new(),
            row_runs: Vec::new(),
            reserved: ReservedSet::default(),
            counts: ShardCounts::default(),
            cache: BlockCache::new(cache_bytes_max),
            locator: Vec::new(),
            freezes: 0,
            spare: None,
            hasher,
            memtable_bytes_max,
        }
    }

    /// Finds the record that counts.
    ///
    /// Every memtable entry was written after a lookup of everything below it, so it is never older than what is
    /// flushed, and the search can stop there. Runs have no such order, so their records are joined.
    #[inline]
    pub(crate) fn lookup(&mut self, key: Key<'_>, hash: IdHash, access: RunAccess<'_>) -> Lookup {
        self.prefetch(hash);
        self.lookup_prefetched(key, hash, access, 0)
    }

    /// Does a [`lookup`](Self::lookup) after [`prefetch`](Self::prefetch). The filters of the runs before `first`
    /// have already said no.
    #[inline]
    pub(crate) fn lookup_prefetched(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        access: RunAccess<'_>,
        first: usize,
    ) -> Lookup {
        if let Some(entry) = self.memtable.get(key, hash) {
            let lsn = Some(entry.lsn);
            return Lookup::Known(Known { version: entry.version, lsn, in_memtable: true });
        }
        if let Some(frozen) = &self.frozen
            && let Some(entry) = frozen.set.get(key, hash)
        {
            let lsn = Some(entry.lsn);
            return Lookup::Known(Known { version: entry.version, lsn, in_memtable: false });
        }
        self.lookup_in_runs(key, hash, access, first)
    }

    /// Prefetches everything that [`lookup`](Self::lookup) reads for a new id, so that it waits for memory once
    /// rather than once per filter.
    #[inline]
    pub(crate) fn prefetch(&self, hash: IdHash) {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.set.prefetch(hash));
        let unflushed = self.memtable.prefetch(hash) ^ self.memtable.prefetch_end() ^ frozen;
        let prefetched =
            self.runs.iter().fold(unflushed, |sum, run| sum ^ run.filter.prefetch(hash));
        // Use the value, or the compiler drops the loads.
        std::hint::black_box(prefetched);
    }

    /// Prefetches the id that a lookup compares first in each memtable. Call it after [`prefetch`](Self::prefetch).
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: IdHash) {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.set.prefetch_entry(hash));
        std::hint::black_box(self.memtable.prefetch_entry(hash) ^ frozen);
    }

    /// Returns the first run whose filter says "maybe", or the number of runs if none does. For
    /// [`lookup_prefetched`](Self::lookup_prefetched).
    #[inline]
    pub(crate) fn first_run(&self, hash: IdHash) -> usize {
        let first = self.runs.iter().position(|run| run.filter.may_contain(hash));
        first.unwrap_or(self.runs.len())
    }

    /// Returns the likely cache slot of the run's block for this id, and the id's position in that block. For
    /// [`prefetch_block`](Self::prefetch_block).
    #[inline]
    pub(crate) fn block_spot(&self, hash: IdHash, run: usize) -> Option<(u32, u32)> {
        let meta = &self.runs.get(run)?.meta;
        let spot = self.cache.spot(meta.block(hash.bucket(meta.buckets)))?;
        Some((spot, hash.position_in_block(meta.buckets)))
    }

    /// Prefetches one step of a lookup in a cached block.
    #[inline]
    pub(crate) fn prefetch_block(&self, step: Step, (spot, position): (u32, u32), id_bytes: usize) {
        std::hint::black_box(self.cache.prefetch(step, spot, position, id_bytes));
    }

    /// Prefetches what [`lookup_again`](Self::lookup_again) reads.
    #[inline]
    pub(crate) fn prefetch_memtable(&self, hash: IdHash) {
        std::hint::black_box(self.memtable.prefetch(hash));
    }

    /// Repeats a [`lookup`](Self::lookup) that found nothing when the freeze count was `freezes`. Anything added
    /// since is in the memtable, unless that was frozen meanwhile.
    pub(crate) fn lookup_again(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        freezes: u64,
        access: RunAccess<'_>,
    ) -> Lookup {
        if self.freezes != freezes {
            return self.lookup(key, hash, access);
        }
        let known = |entry: MemtableEntry<'_>| Known {
            version: entry.version,
            lsn: Some(entry.lsn),
            in_memtable: true,
        };
        self.memtable.get(key, hash).map(known).map_or(Lookup::Unknown, Lookup::Known)
    }

    #[inline]
    fn lookup_in_runs(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        access: RunAccess<'_>,
        first: usize,
    ) -> Lookup {
        self.counts.probes += self.runs.len() as u64;
        let mut found: Option<Version> = None;
        for run in &self.runs[first..] {
            if !run.filter.may_contain(hash) {
                continue;
            }
            let ids = RunIds { meta: &run.meta, locators: run.locators.as_deref() };
            let looked = find_in_run(access, &mut self.cache, &mut self.locator, ids, key, hash);
            let here = match looked {
                Ok(here) => here,
                Err(fault) => return Lookup::Damaged(Arc::clone(&run.meta), fault.what),
            };
            self.counts.log_reads += u64::from(here.in_log);
            self.counts.block_reads += u64::from(!here.in_log);
            match here.version {
                Some(version) => found = Some(found.map_or(version, |f| f.join(version))),
                None => self.counts.false_positives += 1,
            }
        }
        match found {
            Some(version) => Lookup::Known(Known { version, lsn: None, in_memtable: false }),
            None => Lookup::Unknown,
        }
    }

    /// Stores a version that counts and returns its offset in the memtable. `known` is the result of a
    /// [`lookup`](Self::lookup) just made.
    #[inline]
    pub(crate) fn enter(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        version: Version,
        lsn: Lsn,
        known: Option<Known>,
    ) -> EntryOffset {
        if known.is_some_and(|known| known.in_memtable) {
            self.memtable.put(key, hash, version, lsn)
        } else {
            self.memtable.insert_new(key, hash, version, lsn)
        }
    }

    /// Applies a record read from the log. Order and repetition do not matter: a record that does not outrank what is
    /// known changes nothing.
    pub(crate) fn apply(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        version: Version,
        lsn: Lsn,
        access: RunAccess<'_>,
    ) -> Result<(), String> {
        let known = match self.lookup(key, hash, access) {
            Lookup::Unknown => None,
            Lookup::Known(known) => Some(known),
            Lookup::Damaged(_, fault) => return Err(fault),
        };
        if known.is_none_or(|known| known.version.join(version) != known.version) {
            self.enter(key, hash, version, lsn, known);
        }
        Ok(())
    }

    /// Makes space in the memtable for `ids` more ids of `bytes` bytes in total, by freezing a full one unless another is
    /// being flushed. `end` is the end of the log: no record of this shard can be appended while its lock is held, so all
    /// of them lie before it.
    #[inline]
    pub(crate) fn make_space(
        &mut self,
        ids: usize,
        bytes: usize,
        end: impl FnOnce() -> Lsn,
    ) -> Space {
        if self.memtable.is_full_for(ids, bytes) { self.freeze_if_free(end) } else { Space::Free }
    }

    #[cold]
    fn freeze_if_free(&mut self, end: impl FnOnce() -> Lsn) -> Space {
        // Let a batch larger than a whole memtable in on its own: batches are bounded.
        if self.memtable.is_empty() {
            return Space::Free;
        }
        if self.frozen.is_some() {
            return Space::Full;
        }
        self.freeze(end());
        Space::Froze
    }

    /// Freezes the memtable for flushing and starts a new one. Allowed only when no other is being flushed.
    pub(crate) fn freeze(&mut self, upto: Lsn) {
        debug_assert!(self.frozen.is_none(), "one set is flushed at a time");
        let fresh = self.spare.take();
        let fresh = fresh.unwrap_or_else(|| Memtable::new(self.hasher, self.memtable_bytes_max));
        let set = Arc::new(std::mem::replace(&mut self.memtable, fresh));
        self.frozen = Some(FrozenMemtable { set, upto });
        self.freezes += 1;
    }

    /// Returns how many times the memtable was frozen, for [`lookup_again`](Self::lookup_again).
    pub(crate) fn freezes(&self) -> u64 {
        self.freezes
    }

    /// Replaces the frozen memtable by the runs that it was flushed to.
    pub(crate) fn flushed(&mut self, runs: Vec<RunHandle>) {
        runs.into_iter().for_each(|run| self.add_run(run));
        self.frozen = None;
    }

    /// Takes back a flushed memtable that has no readers left.
    pub(crate) fn reuse(&mut self, set: Memtable) {
        debug_assert!(set.is_empty(), "emptying it takes time, and here a lock is held");
        self.spare = Some(set);
    }

    /// Removes obsolete runs and adds the run they were merged into, if any.
    pub(crate) fn replace_runs(&mut self, gone: &[u64], new: Option<RunHandle>) {
        self.runs.retain(|run| !gone.contains(&run.meta.id));
        self.row_runs.retain(|run| !gone.contains(&run.meta.id));
        self.cache.retain_runs(|run| !gone.contains(&run));
        new.into_iter().for_each(|run| self.add_run(run));
    }

    /// Adds a run to those of its family.
    pub(crate) fn add_run(&mut self, run: RunHandle) {
        let is_of_rows = run.meta.family != Family::CLAIMS;
        if is_of_rows { self.row_runs.push(run) } else { self.runs.push(run) }
    }

    /// Iterates over the runs of all families.
    pub(crate) fn all_runs(&self) -> impl Iterator<Item = &RunHandle> {
        self.runs.iter().chain(&self.row_runs)
    }

    /// Returns the runs in which nothing is live any more.
    pub(crate) fn dead_runs(&self, now: Horizon<'_>) -> Vec<Arc<RunMeta>> {
        let dead = |run: &&RunHandle| run.meta.generation.liveness(now) == Liveness::Expired;
        self.all_runs().filter(dead).map(|run| Arc::clone(&run.meta)).collect()
    }

    /// Caches freshly written blocks. Pass a few at a time: the lock is held.
    pub(crate) fn keep_blocks(&mut self, blocks: impl Iterator<Item = (BlockId, Box<[u8]>)>) {
        for (id, bytes) in blocks {
            if self.all_runs().any(|run| run.meta.id == id.run) {
                self.cache.insert(id, bytes);
            }
        }
    }

    /// Returns whether a block is cached.
    pub(crate) fn has_block(&mut self, id: BlockId) -> bool {
        self.cache.get(id).is_some()
    }

    /// Returns the size of the cached blocks in bytes.
    pub(crate) fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Returns the number of unflushed ids, frozen ones included, and the memory they use in bytes.
    pub(crate) fn unflushed(&self) -> (usize, usize) {
        let frozen = self.frozen.as_ref().map(|s| (s.set.len(), s.set.memory()));
        let (ids, bytes) = frozen.unwrap_or_default();
        (self.memtable.len() + ids, self.memtable.memory() + bytes)
    }
}

#[cfg(test)]
mod tests;
