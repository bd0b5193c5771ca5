//! A shard: memtable, filters and runs of the ids whose hash leads here.
//!
//! A plain struct: it knows nothing of threads, and the engine owns its lock. It is the only place that
//! sees both filters and runs, and keeps them in step (I2): a run enters together with its filter.

mod reserved;

pub(crate) use reserved::{HeldKey, ReservedSet};

use crate::blocks::BlockId;
use crate::expiry::{Liveness, Version};
use crate::filter::Filter;
use crate::id::{IdHash, IdHasher, Key};
use crate::memtable::{EntryOffset, Memtable, MemtableEntry};
use crate::run::{
    BlockCache, KeptBlocks, LocatorFile, RunAccess, RunIds, RunMeta, Step, find_in_run,
};
use crate::sync::Arc;
use crate::time::Timestamp;
use crate::wal::Lsn;

/// A run, its filter, and where its ids stand in the log.
#[derive(Debug, Clone)]
pub(crate) struct RunHandle {
    pub(crate) meta: Arc<RunMeta>,
    pub(crate) filter: Filter,
    pub(crate) locators: Option<Arc<LocatorFile>>,
}

/// A run that was just built, and blocks of it to keep in memory.
#[derive(Debug)]
pub(crate) struct BuiltRun {
    pub(crate) run: RunHandle,
    pub(crate) kept: KeptBlocks,
}

/// What is known of an id, live or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) version: Version,
    /// The location after the id in its record; `None` for a flushed one, whose record is on disk already.
    pub(crate) lsn: Option<Lsn>,
    /// Whether it stands in the memtable, so that a new version goes in its place.
    pub(crate) in_open: bool,
}

/// The answer of [`Shard::lookup`].
#[derive(Debug)]
pub(crate) enum Lookup {
    Unknown,
    Known(Known),
    /// A block that had to be read is missing or damaged: heal the run and look again (I10).
    Damaged(Arc<RunMeta>, String),
}

/// Counters that prove the filter earns its place. Plain numbers: the shard's lock guards them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShardCounts {
    /// Filters asked.
    pub(crate) probes: u64,
    /// Blocks read because a filter said "maybe".
    pub(crate) block_reads: u64,
    /// Ids compared in the log instead, where a locator led to.
    pub(crate) log_reads: u64,
    /// Blocks or locators read in vain.
    pub(crate) false_positives: u64,
}

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) memtable: Memtable,
    /// The set before, while it is flushed in the background; it is read, never written.
    pub(crate) frozen: Option<FrozenMemtable>,
    pub(crate) runs: Vec<RunHandle>,
    pub(crate) reserved: ReservedSet,
    pub(crate) counts: ShardCounts,
    cache: BlockCache,
    /// Memory for the locator that a look-up reads.
    locator: Vec<u8>,
    /// How often the memtable was frozen.
    freezes: u64,
    /// An empty set with its memory, for the next freeze.
    spare: Option<Memtable>,
    hasher: IdHasher,
    open_bytes_max: usize,
}

/// A frozen memtable.
#[derive(Debug, Clone)]
pub(crate) struct FrozenMemtable {
    pub(crate) set: Arc<Memtable>,
    /// Every record of this shard before this location is in `set` or in a run.
    pub(crate) upto: Lsn,
}

impl Shard {
    pub(crate) fn new(hasher: IdHasher, open_bytes_max: usize, cache_bytes_max: usize) -> Self {
        Self {
            memtable: Memtable::new(hasher, open_bytes_max),
            frozen: None,
            runs: Vec::new(),
            reserved: ReservedSet::default(),
            counts: ShardCounts::default(),
            cache: BlockCache::new(cache_bytes_max),
            locator: Vec::new(),
            freezes: 0,
            spare: None,
            hasher,
            open_bytes_max,
        }
    }

    /// Finds the record that counts.
    ///
    /// What is in the memtable was put there by somebody who had looked at everything below, so it is
    /// never older than what is flushed, and the search can end there. Among runs the order is not
    /// known, and the records are joined.
    #[inline]
    pub(crate) fn lookup(&mut self, key: Key<'_>, hash: IdHash, access: RunAccess<'_>) -> Lookup {
        self.prefetch(hash);
        self.lookup_prefetched(key, hash, access, 0)
    }

    /// [`lookup`](Self::lookup) after [`prefetch`](Self::prefetch). The filters of the runs before `first` have said no.
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
            return Lookup::Known(Known { version: entry.version, lsn, in_open: true });
        }
        if let Some(frozen) = &self.frozen
            && let Some(entry) = frozen.set.get(key, hash)
        {
            let lsn = Some(entry.lsn);
            return Lookup::Known(Known { version: entry.version, lsn, in_open: false });
        }
        self.lookup_in_runs(key, hash, access, first)
    }

    /// Begins to load what [`lookup`](Self::lookup) will read for an id that is new, all of it at once: then it waits
    /// for memory once, and not for each filter in turn.
    #[inline]
    pub(crate) fn prefetch(&self, hash: IdHash) {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.set.prefetch(hash));
        let unflushed = self.memtable.prefetch(hash) ^ self.memtable.prefetch_end() ^ frozen;
        let prefetched =
            self.runs.iter().fold(unflushed, |sum, run| sum ^ run.filter.prefetch(hash));
        // It means nothing, but unless it is used the compiler leaves the reading out.
        std::hint::black_box(prefetched);
    }

    /// Begins to load the id that a look-up would compare first in each memtable, after [`prefetch`](Self::prefetch).
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: IdHash) {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.set.prefetch_entry(hash));
        std::hint::black_box(self.memtable.prefetch_entry(hash) ^ frozen);
    }

    /// The first run whose filter says "maybe", or as many as there are: for [`lookup_prefetched`](Self::lookup_prefetched).
    #[inline]
    pub(crate) fn first_run(&self, hash: IdHash) -> usize {
        let first = self.runs.iter().position(|run| run.filter.may_contain(hash));
        first.unwrap_or(self.runs.len())
    }

    /// Where among the blocks in memory that of this run may stand, and where in it the id: for
    /// [`prefetch_block`](Self::prefetch_block).
    #[inline]
    pub(crate) fn block_spot(&self, hash: IdHash, run: usize) -> Option<(u32, u32)> {
        let meta = &self.runs.get(run)?.meta;
        let spot = self.cache.spot(meta.block(hash.bucket(meta.buckets)))?;
        Some((spot, hash.position_in_block(meta.buckets)))
    }

    /// Begins to load one step of what a block in memory takes.
    #[inline]
    pub(crate) fn prefetch_block(&self, step: Step, (spot, position): (u32, u32), id_bytes: usize) {
        std::hint::black_box(self.cache.prefetch(step, spot, position, id_bytes));
    }

    /// Begins to load what [`lookup_again`](Self::lookup_again) will read.
    #[inline]
    pub(crate) fn prefetch_memtable(&self, hash: IdHash) {
        std::hint::black_box(self.memtable.prefetch(hash));
    }

    /// As [`lookup`](Self::lookup), for an id of which nothing was known when there had been so many freezes. What has
    /// come since then stands in the memtable, unless that was frozen in between.
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
            in_open: true,
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
            Some(version) => Lookup::Known(Known { version, lsn: None, in_open: false }),
            None => Lookup::Unknown,
        }
    }

    /// Puts a version that counts. `known` is what [`lookup`](Self::lookup) has just answered. Answers where in the
    /// memtable it stands.
    #[inline]
    pub(crate) fn put(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        version: Version,
        lsn: Lsn,
        known: Option<Known>,
    ) -> EntryOffset {
        if known.is_some_and(|known| known.in_open) {
            self.memtable.put(key, hash, version, lsn)
        } else {
            self.memtable.insert_new(key, hash, version, lsn)
        }
    }

    /// Takes note of a record found in the log. In whatever order and however often records come, the
    /// state is the same: a record that does not count more than what is known changes nothing.
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
            self.put(key, hash, version, lsn, known);
        }
        Ok(())
    }

    /// Freezes the memtable for flushing and starts a new one. Only when no other is being flushed.
    pub(crate) fn freeze(&mut self, upto: Lsn) {
        debug_assert!(self.frozen.is_none(), "one set is flushed at a time");
        let fresh = self.spare.take();
        let fresh = fresh.unwrap_or_else(|| Memtable::new(self.hasher, self.open_bytes_max));
        let set = Arc::new(std::mem::replace(&mut self.memtable, fresh));
        self.frozen = Some(FrozenMemtable { set, upto });
        self.freezes += 1;
    }

    /// How often the memtable was frozen, for [`lookup_again`](Self::lookup_again).
    pub(crate) fn freezes(&self) -> u64 {
        self.freezes
    }

    /// The frozen set is in these runs now.
    pub(crate) fn flushed(&mut self, runs: Vec<RunHandle>) {
        self.runs.extend(runs);
        self.frozen = None;
    }

    /// Takes back a set that is flushed and that nobody reads any more.
    pub(crate) fn reuse(&mut self, set: Memtable) {
        debug_assert!(set.is_empty(), "emptying it takes time, and here a lock is held");
        self.spare = Some(set);
    }

    /// Replaces runs by what they were merged into, or drops them.
    pub(crate) fn replace_runs(&mut self, gone: &[u64], new: Option<RunHandle>) {
        self.runs.retain(|run| !gone.contains(&run.meta.id));
        self.cache.retain_runs(|run| !gone.contains(&run));
        self.runs.extend(new);
    }

    /// Runs of which nothing is live any more.
    pub(crate) fn dead_runs(&self, now: Timestamp) -> Vec<Arc<RunMeta>> {
        let dead = |run: &&RunHandle| run.meta.generation.liveness(now) == Liveness::Expired;
        self.runs.iter().filter(dead).map(|run| Arc::clone(&run.meta)).collect()
    }

    /// Keeps blocks that were just written. A few at a time: the lock is held.
    pub(crate) fn keep_blocks(&mut self, blocks: impl Iterator<Item = (BlockId, Box<[u8]>)>) {
        for (id, bytes) in blocks {
            if self.runs.iter().any(|run| run.meta.id == id.run) {
                self.cache.insert(id, bytes);
            }
        }
    }

    /// Whether a block is in memory.
    pub(crate) fn has_block(&mut self, id: BlockId) -> bool {
        self.cache.get(id).is_some()
    }

    /// Bytes of blocks kept in memory.
    pub(crate) fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Ids in memory, frozen ones included, and the bytes that they take.
    pub(crate) fn unflushed(&self) -> (usize, usize) {
        let frozen = self.frozen.as_ref().map(|s| (s.set.len(), s.set.memory()));
        let (ids, bytes) = frozen.unwrap_or_default();
        (self.memtable.len() + ids, self.memtable.memory() + bytes)
    }
}

#[cfg(test)]
mod tests;
