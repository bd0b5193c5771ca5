//! Looking up one key in one run.

use crate::blocks::{BlockFault, BlockStore};
use crate::expiry::Version;
use crate::id::{IdHash, Key, Seed};
use crate::run::block::BlockReader;
use crate::run::block_cache::BlockCache;
use crate::run::columns::BlockDamage;
use crate::run::locator::{LocatorReader, Probe};
use crate::run::locator_file::{LocatorFile, LocatorFiles};
use crate::run::meta::RunMeta;
use crate::wal::{IdsInLog, ItemAt};

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
