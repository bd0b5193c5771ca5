//! A run: ids of one shard and one generation that were flushed together, in hash order, split into blocks. A run is
//! immutable. Run numbers are never reused and every bucket is written, so a missing block is a lost block (I10).

mod block;
mod block_cache;
mod columns;
mod locator;
mod locator_file;
mod merge;

pub(crate) use block::BlockWriter;
#[cfg(feature = "fuzzing")]
pub(crate) use block::fuzz_block;
pub(crate) use block_cache::{BlockCache, Step};
#[cfg(feature = "fuzzing")]
pub(crate) use locator::fuzz_locator;
pub(crate) use locator_file::{LocatorFile, LocatorFiles};
pub(crate) use merge::{MergeCursor, MergeScratch, Merged, Source};

use crate::blocks::{BlockFault, BlockId, BlockStore};
use crate::expiry::{GenId, Version};
use crate::id::{Family, IdHash, IdHasher, Key, Seed, bucket_of_order};
use crate::limits;
use crate::run::block::BlockReader;
use crate::run::columns::BlockDamage;
use crate::run::locator::{LocatorReader, LocatorWriter, Probe};
use crate::run::locator_file::LocatorFileWriter;
use crate::wal::{IdsInLog, ItemAt};
use serde::{Deserialize, Serialize};

/// Metadata of a run, as stored in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunMeta {
    pub(crate) id: u64,
    pub(crate) shard: u16,
    pub(crate) family: Family,
    pub(crate) generation: GenId,
    /// Number of blocks; all of them exist.
    pub(crate) buckets: u32,
    pub(crate) ids: u64,
    /// Bytes of ids and their times.
    pub(crate) bytes: u64,
    /// Healing reads the log from this segment on: no earlier one has a record of the run's ids.
    pub(crate) from_segment: u32,
}

impl RunMeta {
    pub(crate) fn block(&self, bucket: u32) -> BlockId {
        BlockId { run: self.id, bucket }
    }
}

/// How much goes into a run; determines its number of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunSize {
    pub(crate) ids: u64,
    pub(crate) bytes: u64,
}

impl RunSize {
    /// Returns an upper bound for the size of the run that these are merged into.
    pub(crate) fn of_runs<'a>(runs: impl Iterator<Item = &'a RunMeta>) -> Self {
        runs.fold(Self::default(), |sum, run| Self {
            ids: sum.ids + run.ids,
            bytes: sum.bytes + run.bytes,
        })
    }

    pub(crate) fn add(&mut self, key: Key<'_>) {
        self.ids += 1;
        self.bytes += key.id.len() as u64 + 4;
    }

    /// Returns the number of blocks for a run of this size.
    pub(crate) fn buckets(self) -> u32 {
        let buckets = self.bytes.div_ceil(limits::BLOCK_BYTES).clamp(1, self.ids.max(1));
        u32::try_from(buckets).unwrap_or(u32::MAX).min(limits::RUN_BLOCKS_MAX)
    }
}

/// What reading flushed ids needs, the same for every run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunAccess<'a> {
    pub(crate) store: &'a dyn BlockStore,
    pub(crate) seed: Seed,
    /// `None` if there is no log, or no locator files that point into it.
    pub(crate) in_log: Option<InLog<'a>>,
}

/// The locator files, and the log that they point into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InLog<'a> {
    pub(crate) files: &'a LocatorFiles,
    pub(crate) ids: &'a IdsInLog,
}

/// One run to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunIds<'a> {
    pub(crate) meta: &'a RunMeta,
    /// `None` for small runs.
    pub(crate) locators: Option<&'a LocatorFile>,
}

/// A lookup result, and whether it came from the log rather than from a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundInRun {
    pub(crate) version: Option<Version>,
    pub(crate) in_log: bool,
}

/// Looks up an id in one run: in a cached block, else in a locator and the log, else in a block from the block store.
/// A fault means that the block must be healed first. `locator` is a reusable buffer.
pub(crate) fn find_in_run(
    access: RunAccess<'_>,
    cache: &mut BlockCache,
    locator: &mut Vec<u8>,
    run: RunIds<'_>,
    key: Key<'_>,
    hash: IdHash,
) -> Result<FoundInRun, BlockFault> {
    let RunIds { meta, locators } = run;
    let (id, position) =
        (meta.block(hash.bucket(meta.buckets)), hash.position_in_block(meta.buckets));
    let class = meta.generation.class();
    let fault = |damage: BlockDamage| BlockFault::new(damage.0);
    let in_block = |version| FoundInRun { version, in_log: false };
    if let Some(bytes) = cache.get(id) {
        let block = BlockReader::open_checked(bytes, id, class).map_err(fault)?;
        return Ok(in_block(block.find(key, position)));
    }
    if let Some((file, in_log)) = locators.zip(access.in_log)
        && in_log.files.read(file, id.bucket, locator)
        && let Ok(reader) = LocatorReader::open(locator, id, class, access.seed)
    {
        match reader.find(key, hash, position, in_log.ids) {
            Probe::Found(version) => {
                return Ok(FoundInRun { version: Some(version), in_log: true });
            }
            Probe::Absent => return Ok(FoundInRun { version: None, in_log: true }),
            Probe::Unknown => {}
        }
    }
    let mut answer = Err(BlockFault::new("the block is missing"));
    access.store.get(id, &mut |bytes| {
        answer = BlockReader::open(bytes, id, class, access.seed).map_err(fault).map(|block| {
            cache.insert(id, bytes);
            in_block(block.find(key, position))
        });
    })?;
    answer
}

/// Looks up a row in one run: in a cached block, else in the copy of the block in the locator file, which takes one
/// read, else in the block store, which may take several.
pub(crate) fn find_row_in_run(
    access: RunAccess<'_>,
    cache: &mut BlockCache,
    copy: &mut Vec<u8>,
    run: RunIds<'_>,
    key: Key<'_>,
    hash: IdHash,
) -> Result<Option<(Version, ItemAt)>, BlockFault> {
    let RunIds { meta, locators } = run;
    let (id, position) =
        (meta.block(hash.bucket(meta.buckets)), hash.position_in_block(meta.buckets));
    let class = meta.generation.class();
    let fault = |damage: BlockDamage| BlockFault::new(damage.0);
    if let Some(bytes) = cache.get(id) {
        let block = BlockReader::open_checked(bytes, id, class).map_err(fault)?;
        return Ok(block.find_row(key, position));
    }
    if let Some((file, in_log)) = locators.zip(access.in_log)
        && in_log.files.read(file, id.bucket, copy)
        && let Ok(block) = BlockReader::open(copy, id, class, access.seed)
    {
        let found = block.find_row(key, position);
        cache.insert(id, &copy[..]);
        return Ok(found);
    }
    let mut found = Err(BlockFault::new("the block is missing"));
    access.store.get(id, &mut |bytes| {
        found = BlockReader::open(bytes, id, class, access.seed).map_err(fault).map(|block| {
            cache.insert(id, bytes);
            block.find_row(key, position)
        });
    })?;
    found
}

/// Writes a run in hash order.
#[derive(Debug)]
pub(crate) struct RunWriter<'a> {
    blocks: &'a dyn BlockStore,
    seed: Seed,
    meta: RunMeta,
    writer: BlockWriter,
    locators: LocatorWriter,
    locator_file: Option<LocatorFileWriter>,
    bucket: u32,
    kept: KeptBlocks,
    keep_bytes: usize,
}

/// The first blocks of a freshly written run, for the cache: the next duplicates would read them.
pub(crate) type KeptBlocks = Vec<(BlockId, Box<[u8]>)>;

/// A freshly written run.
#[derive(Debug)]
pub(crate) struct WrittenRun {
    pub(crate) meta: RunMeta,
    pub(crate) kept: KeptBlocks,
    pub(crate) locator_file: Option<LocatorFileWriter>,
}

impl<'a> RunWriter<'a> {
    /// `size` may be an overestimate. Keeps up to `keep_bytes` of blocks in total.
    #[expect(clippy::too_many_arguments, reason = "each is a part of what a run is")]
    pub(crate) fn new(
        blocks: &'a dyn BlockStore,
        seed: Seed,
        id: u64,
        shard: usize,
        (family, generation): (Family, GenId),
        size: RunSize,
        from_segment: u32,
        keep_bytes: usize,
    ) -> Self {
        let meta = RunMeta {
            id,
            shard: shard as u16,
            family,
            generation,
            buckets: size.buckets(),
            ids: 0,
            bytes: 0,
            from_segment,
        };
        let (writer, locators, kept) =
            (BlockWriter::default(), LocatorWriter::default(), Vec::new());
        let (locator_file, bucket) = (None, 0);
        Self { blocks, seed, meta, writer, locators, locator_file, bucket, kept, keep_bytes }
    }

    /// Writes locators as well.
    pub(crate) fn with_locators(self, locator_file: Option<LocatorFileWriter>) -> Self {
        Self { locator_file, ..self }
    }

    pub(crate) fn push(&mut self, entry: Merged<'_>) -> Result<(), BlockFault> {
        let bucket = bucket_of_order(entry.hash.order(), self.meta.buckets);
        debug_assert!(bucket >= self.bucket, "ids come in hash order");
        self.finish_buckets(bucket)?;
        self.meta.ids += 1;
        self.meta.bytes += entry.key.id.len() as u64 + 4;
        match entry.item() {
            Some(at) => self.writer.push_row(entry.key, entry.version, at),
            None => self.writer.push(entry.key, entry.version),
        }
        if self.locator_file.is_some() && self.meta.family == Family::CLAIMS {
            self.locators.push(entry.key, entry.hash, entry.location);
        }
        Ok(())
    }

    /// Writes the buckets before `bucket`, including empty ones.
    fn finish_buckets(&mut self, bucket: u32) -> Result<(), BlockFault> {
        while self.bucket < bucket {
            let id = self.meta.block(self.bucket);
            let (block, entries) = self.writer.block(id, self.seed);
            if let Some(file) = &mut self.locator_file {
                // A block of rows says itself where they are in the log.
                if self.meta.family == Family::CLAIMS {
                    file.put(id, &self.locators.finish(entries, id, self.seed, &block));
                } else {
                    file.put(id, &block);
                }
            }
            self.writer.clear();
            self.blocks.put(id, &block)?;
            if block.len() <= self.keep_bytes {
                self.keep_bytes -= block.len();
                self.kept.push((id, block.into()));
            }
            self.bucket += 1;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<WrittenRun, BlockFault> {
        self.finish_buckets(self.meta.buckets)?;
        Ok(WrittenRun { meta: self.meta, kept: self.kept, locator_file: self.locator_file })
    }
}

/// Reads a whole run in hash order, holding one block at a time.
#[derive(Debug)]
pub(crate) struct RunReader<'a> {
    blocks: &'a dyn BlockStore,
    meta: &'a RunMeta,
    seed: Seed,
    hasher: IdHasher,
    locators: Option<(&'a LocatorFiles, &'a LocatorFile)>,
}

impl<'a> RunReader<'a> {
    pub(crate) fn new(
        blocks: &'a dyn BlockStore,
        meta: &'a RunMeta,
        seed: Seed,
        hasher: IdHasher,
    ) -> Self {
        Self { blocks, meta, seed, hasher, locators: None }
    }

    /// Reads locators as well.
    pub(crate) fn with_locators(
        self,
        files: &'a LocatorFiles,
        file: Option<&'a LocatorFile>,
    ) -> Self {
        // Of a run of rows, the file has copies of the blocks, which say no more than the blocks.
        let file = file.filter(|_| self.meta.family == Family::CLAIMS);
        Self { locators: file.map(|file| (files, file)), ..self }
    }

    pub(crate) fn buckets(&self) -> u32 {
        self.meta.buckets
    }

    /// Passes every entry of one block to `visit`.
    pub(crate) fn bucket(
        &self,
        bucket: u32,
        mut visit: impl FnMut(Merged<'_>),
    ) -> Result<(), BlockFault> {
        let id = self.meta.block(bucket);
        let class = self.meta.generation.class();
        let mut locator = Vec::new();
        let is_read =
            self.locators.is_some_and(|(files, file)| files.read(file, bucket, &mut locator));
        let reader = is_read.then(|| LocatorReader::open(&locator, id, class, self.seed).ok());
        let mut answer = Err(BlockFault::new("the block is missing"));
        self.blocks.get(id, &mut |bytes| {
            answer = match BlockReader::open(bytes, id, class, self.seed) {
                Ok(block) => {
                    let reader = reader.as_ref().and_then(Option::as_ref);
                    // A healed block may hold other entries than the locator.
                    let is_beside = |reader: &&LocatorReader<'_>| {
                        reader.is_of(bytes) && reader.count() == block.count()
                    };
                    let reader = reader.filter(is_beside);
                    for (i, (key, version, item)) in block.iter().enumerate() {
                        let in_log = || reader.and_then(|locator| locator.location_at(i));
                        let location = item.map(|at| at.end).or_else(in_log);
                        let (hash, item_len) = (self.hasher.hash(key), item.map_or(0, |at| at.len));
                        visit(Merged { hash, key, version, location, item_len });
                    }
                    Ok(())
                }
                Err(damage) => Err(BlockFault::new(damage.0)),
            };
        })?;
        answer
    }
}
