//! Reading a run, block after block.

use crate::blocks::{BlockFault, BlockStore};
use crate::id::{Family, IdHasher, Seed};
use crate::run::block::BlockReader;
use crate::run::entry::Merged;
use crate::run::locator::LocatorReader;
use crate::run::locator_file::{LocatorFile, LocatorFiles};
use crate::run::meta::RunMeta;

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
