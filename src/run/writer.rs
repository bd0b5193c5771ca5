//! Writing a run, block after block.

use crate::blocks::{BlockFault, BlockId, BlockStore};
use crate::expiry::GenId;
use crate::id::{Family, Seed, bucket_of_order};
use crate::run::block::BlockWriter;
use crate::run::entry::Merged;
use crate::run::locator::LocatorWriter;
use crate::run::locator_file::LocatorFileWriter;
use crate::run::meta::{RunMeta, RunSize};

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
    block_bytes: u64,
}

/// The first blocks of a freshly written run, for the cache: the next duplicates would read them.
pub(crate) type KeptBlocks = Vec<(BlockId, Box<[u8]>)>;

/// A freshly written run.
#[derive(Debug)]
pub(crate) struct WrittenRun {
    pub(crate) meta: RunMeta,
    pub(crate) kept: KeptBlocks,
    pub(crate) locator_file: Option<LocatorFileWriter>,
    /// Bytes of all blocks.
    pub(crate) block_bytes: u64,
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
        let (locator_file, bucket, block_bytes) = (None, 0, 0);
        Self {
            blocks,
            seed,
            meta,
            writer,
            locators,
            locator_file,
            bucket,
            kept,
            keep_bytes,
            block_bytes,
        }
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
                    file.put(id, &self.locators.finish(entries, self.seed, &block));
                } else {
                    file.put(id, &block);
                }
            }
            self.writer.clear();
            self.blocks.put(id, &block)?;
            self.block_bytes += block.len() as u64;
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
        let Self { meta, kept, locator_file, block_bytes, .. } = self;
        Ok(WrittenRun { meta, kept, locator_file, block_bytes })
    }
}
