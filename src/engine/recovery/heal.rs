//! Healing (I10): missing, stale or damaged blocks are rebuilt from the log.
//!
//! A healed block holds every record of its shard, generation and bucket that is in the log, perhaps more than the run
//! had: records of one id are joined, so extra copies change no answer.

use crate::blocks::{BlockFault, BlockId};
use crate::engine::Engine;
use crate::engine::write::backpressure::WaitBudget;
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{IdHash, Key, NsId};
use crate::run::{BlockWriter, RunMeta, RunReader};
use crate::sync::Ordering;
use crate::wal::Item;
use std::collections::HashMap;
use std::ops::Range;

/// How long to leave a failed block store alone.
const RETRY_MS: u64 = 1000;

/// The outcome of healing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Healed {
    /// The blocks of the run are in the block store again.
    ForGood,
    /// The block store took nothing: the requested block is in memory, as long as it fits there.
    InMemory,
}

type Collected = HashMap<(NsId, Vec<u8>), (u32, Version)>;

impl Engine {
    /// Heals as [`heal`](Self::heal) does, for a call that looks up again afterwards and may find the next block
    /// damaged. If the block store takes nothing and the cache is small, a block built for one lookup is gone by the
    /// next, so the wait budget bounds the retries (I12).
    pub(in crate::engine) fn heal_in_time(
        &self,
        run: &RunMeta,
        fault: &str,
        asked: IdHash,
        wait_budget: &mut WaitBudget,
    ) -> Result<()> {
        match self.heal(run, fault, Some(asked))? {
            Healed::InMemory if wait_budget.is_over(self.settings.wait_max) => {
                let fixed =
                    || Self::timed_out("blocks that can be kept: the block store takes none");
                Err(self.heal_failure.any().unwrap_or_else(fixed))
            }
            _ => Ok(()),
        }
    }

    /// Makes every block of a run readable. The caller holds no lock and looks up again afterwards. If the block store
    /// takes nothing, as on a full disk, the one block that `asked` leads to is built in memory, so that reads
    /// continue.
    pub(in crate::engine) fn heal(
        &self,
        run: &RunMeta,
        fault: &str,
        asked: Option<IdHash>,
    ) -> Result<Healed> {
        let _healing = self.healing.lock();
        self.health.check()?;
        let now = self.settings.clock.elapsed_ms();
        let failed_at = self.blocks_failed_at.load(Ordering::Relaxed);
        // Do not retry a block store that has just failed on every read.
        let fresh_failure = failed_at != 0 && now.saturating_sub(failed_at) < RETRY_MS;
        if let Some(hash) = asked
            && fresh_failure
            && self.heal_in_memory(run, hash.bucket(run.buckets))?
        {
            return Ok(Healed::InMemory);
        }
        if self.damaged_buckets(run).is_empty() {
            return Ok(Healed::ForGood); // another thread healed it
        }
        tracing::warn!(run = run.id, fault, "healing a run from the log");
        self.counters.heals.add(1);
        // After a failure, what sled returns can be wrong until it is reopened. Try first without reopening.
        let healed = self.heal_buckets(run).or_else(|_| {
            self.reopen_blocks()?;
            self.heal_buckets(run)
        });
        self.heal_failure.note(&healed);
        let Err(error) = healed else {
            self.blocks_failed_at.store(0, Ordering::Relaxed);
            return Ok(Healed::ForGood);
        };
        self.blocks_failed_at.store(now.max(1), Ordering::Relaxed);
        match asked {
            Some(hash) if self.heal_in_memory(run, hash.bucket(run.buckets))? => {
                Ok(Healed::InMemory)
            }
            _ => Err(error),
        }
    }

    /// Builds one block from the log and keeps it in its shard's cache. Returns whether it fits.
    fn heal_in_memory(&self, run: &RunMeta, bucket: u32) -> Result<bool> {
        let id = run.block(bucket);
        let cell = &self.shards[usize::from(run.shard)];
        if cell.shard.lock().has_block(id) {
            return Ok(true);
        }
        let collected = self.collect(run, bucket..bucket + 1)?;
        let entries = collected.iter().map(|((ns, id), (_, v))| (Key { ns: *ns, id }, *v));
        let block = self.block_of(id, entries.collect()).into();
        let mut shard = cell.shard.lock();
        shard.keep_blocks(std::iter::once((id, block)));
        Ok(shard.has_block(id))
    }

    fn heal_buckets(&self, run: &RunMeta) -> Result<()> {
        let bad = self.damaged_buckets(run);
        let per_bucket = (run.ids / u64::from(run.buckets)).max(1);
        let buckets_max = (self.settings.heal_ids_max() / per_bucket).max(1) as usize;
        for part in bad.chunks(buckets_max) {
            let Some((first, last)) = part.first().zip(part.last()) else { continue };
            let collected = self.collect(run, *first..*last + 1)?;
            self.write_buckets(run, part, &collected)?;
        }
        self.blocks.sync()?;
        match self.damaged_buckets(run).first() {
            None => Ok(()),
            Some(bucket) => {
                let what =
                    format!("block {bucket} of run {} does not keep what is written", run.id);
                Err(Error::from(BlockFault::new(what)))
            }
        }
    }

    /// Returns the buckets that do not read back; all of them if the block store itself fails.
    fn damaged_buckets(&self, run: &RunMeta) -> Vec<u32> {
        let reader = RunReader::new(&*self.blocks, run, self.seed, self.hasher);
        (0..run.buckets).filter(|bucket| reader.bucket(*bucket, |_| ()).is_err()).collect()
    }

    /// Collects every record in the log that belongs in these buckets of the run.
    fn collect(&self, run: &RunMeta, buckets: Range<u32>) -> Result<Collected> {
        let mut collected = Collected::new();
        // Take only records that are on disk: a block may outlive what the log loses in a power cut, and flushed
        // records count as on disk.
        let _nothing_is_removed = self.segment_gc_lock.read();
        let end = self.log.end();
        self.log.sync_to(end)?;
        for number in self.log.segments().into_iter().filter(|number| *number >= run.from_segment) {
            self.log.scan(number, |at, item| {
                let Item::Version(key, version) = item else { return Ok(()) };
                let hash = self.hash(key);
                let bucket = hash.bucket(run.buckets);
                if at.record <= end
                    && hash.shard(self.shard_bits) == usize::from(run.shard)
                    && buckets.contains(&bucket)
                    && version.generation() == run.generation
                {
                    let entry = collected.entry((key.ns, key.id.to_vec()));
                    let joined = entry.or_insert((bucket, version));
                    joined.1 = joined.1.join(version);
                }
                Ok(())
            })?;
        }
        Ok(collected)
    }

    fn write_buckets(&self, run: &RunMeta, part: &[u32], collected: &Collected) -> Result<()> {
        let mut by_bucket: HashMap<u32, Vec<(Key<'_>, Version)>> = HashMap::new();
        for ((ns, id), (bucket, version)) in collected {
            by_bucket.entry(*bucket).or_default().push((Key { ns: *ns, id }, *version));
        }
        for bucket in part {
            let id = run.block(*bucket);
            let entries = by_bucket.remove(bucket).unwrap_or_default();
            self.blocks.put_in_time(id, self.block_of(id, entries))?;
            self.counters.blocks_healed.add(1);
        }
        Ok(())
    }

    /// Encodes a block with its entries in hash order.
    fn block_of(&self, id: BlockId, mut entries: Vec<(Key<'_>, Version)>) -> Vec<u8> {
        entries.sort_unstable_by_key(|(key, _)| (self.hash(*key).order(), *key));
        let mut writer = BlockWriter::default();
        entries.iter().for_each(|(key, version)| writer.push(*key, *version));
        writer.finish(id, self.seed)
    }
}
