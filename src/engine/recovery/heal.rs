//! Healing (I10): missing, stale or damaged blocks are rebuilt from the log.
//!
//! A healed block holds every record of its shard, generation and bucket that is in the log, perhaps more than the run
//! had: records of one id are joined, so extra copies change no answer.

use crate::blocks::{BlockFault, BlockId, BlockResult};
use crate::engine::core::{Core, Healed, Healer, LastFailure};
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{IdHash, Key, NsId};
use crate::run::{BlockWriter, RunMeta, RunReader};
use crate::shard::KnownRow;
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::wal::{Item, ItemAt};
use std::collections::HashMap;
use std::ops::Range;

/// How long to leave a failed block store alone.
const RETRY_MS: u64 = 1000;

/// By key: the bucket, the version that counts and, of a row, where its item is.
type Collected = HashMap<(NsId, Vec<u8>), (u32, Entry)>;

/// An entry of a block that is built again.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Claim(Version),
    Row(KnownRow),
}

impl Entry {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Claim(a), Self::Claim(b)) => Self::Claim(a.join(b)),
            (Self::Row(a), Self::Row(b)) => Self::Row(a.join(b)),
            // The number of the namespace in the key says which of the two it is.
            (own, _) => own,
        }
    }
}

/// Heals runs from the log, one at a time.
#[derive(Debug, Default)]
pub(super) struct LogHealer {
    /// Serialises healing, which reads and writes blocks that others may be about to heal.
    healing: Mutex<()>,
    /// How often the block store was reopened, so that one fault met by two jobs is fixed once.
    reopened: AtomicU64,
    /// When healing in the block store last failed, in the clock's elapsed time; zero if it has not, or has worked
    /// since.
    blocks_failed_at: AtomicU64,
    /// The last failure to heal in the block store, until an attempt succeeds.
    failure: LastFailure,
}

impl Healer for LogHealer {
    /// Makes every block of a run readable. The caller holds no lock and looks up again afterwards. If the block store
    /// takes nothing, as on a full disk, the one block that `asked` leads to is built in memory, so that reads
    /// continue.
    fn heal(
        &self,
        core: &Core,
        run: &RunMeta,
        fault: &str,
        asked: Option<IdHash>,
    ) -> Result<Healed> {
        let _healing = self.healing.lock();
        core.health.check()?;
        let now = core.settings.clock.elapsed_ms();
        let failed_at = self.blocks_failed_at.load(Ordering::Relaxed);
        // Do not retry a block store that has just failed on every read.
        let fresh_failure = failed_at != 0 && now.saturating_sub(failed_at) < RETRY_MS;
        if let Some(hash) = asked
            && fresh_failure
            && heal_in_memory(core, run, hash.bucket(run.buckets))?
        {
            return Ok(Healed::InMemory);
        }
        if damaged_buckets(core, run).is_empty() {
            return Ok(Healed::ForGood); // another thread healed it
        }
        tracing::warn!(run = run.id, fault, "healing a run from the log");
        core.counters.heals.add(1);
        // After a failure, what sled returns can be wrong until it is reopened. Try first without reopening.
        let healed = heal_buckets(core, run).or_else(|_| {
            self.reopen_blocks(core)?;
            heal_buckets(core, run)
        });
        self.failure.note(&healed);
        let Err(error) = healed else {
            self.blocks_failed_at.store(0, Ordering::Relaxed);
            return Ok(Healed::ForGood);
        };
        self.blocks_failed_at.store(now.max(1), Ordering::Relaxed);
        match asked {
            Some(hash) if heal_in_memory(core, run, hash.bucket(run.buckets))? => {
                Ok(Healed::InMemory)
            }
            _ => Err(error),
        }
    }

    fn failure(&self) -> Option<Error> {
        self.failure.any()
    }

    fn reopened(&self) -> u64 {
        self.reopened.load(Ordering::Acquire)
    }

    fn reopen_since(&self, core: &Core, reopened: u64) {
        let _healing = self.healing.lock();
        // Another job may have met the same fault. Reopening once more would close the block store under its users.
        if self.reopened.load(Ordering::Acquire) == reopened {
            self.reopen_blocks(core).ok();
        }
    }
}

impl LogHealer {
    /// Reopens the block store. The caller holds the `healing` lock.
    fn reopen_blocks(&self, core: &Core) -> BlockResult<()> {
        core.blocks.reopen()?;
        self.reopened.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

/// Builds one block from the log and keeps it in its shard's cache. Returns whether it fits.
fn heal_in_memory(core: &Core, run: &RunMeta, bucket: u32) -> Result<bool> {
    let id = run.block(bucket);
    let cell = &core.shards[usize::from(run.shard)];
    if cell.shard.lock().has_block(id) {
        return Ok(true);
    }
    let collected = collect(core, run, bucket..bucket + 1)?;
    let entries = collected.iter().map(|((ns, id), (_, e))| (Key { ns: *ns, id }, *e));
    let block = block_of(core, id, entries.collect()).into();
    let mut shard = cell.shard.lock();
    shard.keep_blocks(std::iter::once((id, block)));
    Ok(shard.has_block(id))
}

fn heal_buckets(core: &Core, run: &RunMeta) -> Result<()> {
    let bad = damaged_buckets(core, run);
    let per_bucket = (run.ids / u64::from(run.buckets)).max(1);
    let buckets_max = (core.settings.heal_ids_max() / per_bucket).max(1) as usize;
    for part in bad.chunks(buckets_max) {
        let Some((first, last)) = part.first().zip(part.last()) else { continue };
        let collected = collect(core, run, *first..*last + 1)?;
        write_buckets(core, run, part, &collected)?;
    }
    core.blocks.sync()?;
    match damaged_buckets(core, run).first() {
        None => Ok(()),
        Some(bucket) => {
            let what =
                format!("block {bucket} of run {} does not read back after rewriting", run.id);
            Err(Error::from(BlockFault::new(what)))
        }
    }
}

/// Returns the buckets that do not read back; all of them if the block store itself fails.
fn damaged_buckets(core: &Core, run: &RunMeta) -> Vec<u32> {
    let reader = RunReader::new(&*core.blocks, run, core.seed, core.hasher);
    (0..run.buckets).filter(|bucket| reader.bucket(*bucket, |_| ()).is_err()).collect()
}

/// Collects every record in the log that belongs in these buckets of the run.
fn collect(core: &Core, run: &RunMeta, buckets: Range<u32>) -> Result<Collected> {
    let mut collected = Collected::new();
    // Take only records that are on disk: a block may outlive what the log loses in a power cut, and flushed
    // records count as on disk.
    let _nothing_is_removed = core.segment_gc_lock.read();
    let end = core.log.end();
    core.log.sync_to(end)?;
    for number in core.log.segments().into_iter().filter(|number| *number >= run.from_segment) {
        core.log.scan(number, |at, item| {
            let (key, version, entry) = match item {
                Item::Version(key, version) => (key, version, Entry::Claim(version)),
                Item::Row { key, version, len, .. } => {
                    let at = ItemAt { end: at.item, len };
                    (key, version, Entry::Row(KnownRow { version, at, is_flushed: true }))
                }
                Item::Namespace(_) => return Ok(()),
            };
            let hash = core.hash(key);
            let bucket = hash.bucket(run.buckets);
            if at.record <= end
                && hash.shard(core.shard_bits) == usize::from(run.shard)
                && buckets.contains(&bucket)
                && key.ns.family() == run.family
                && version.generation() == run.generation
            {
                let known = collected.entry((key.ns, key.id.to_vec()));
                let joined = known.or_insert((bucket, entry));
                joined.1 = joined.1.join(entry);
            }
            Ok(())
        })?;
    }
    Ok(collected)
}

fn write_buckets(core: &Core, run: &RunMeta, part: &[u32], collected: &Collected) -> Result<()> {
    let mut by_bucket: HashMap<u32, Vec<(Key<'_>, Entry)>> = HashMap::new();
    for ((ns, id), (bucket, entry)) in collected {
        by_bucket.entry(*bucket).or_default().push((Key { ns: *ns, id }, *entry));
    }
    for bucket in part {
        let id = run.block(*bucket);
        let entries = by_bucket.remove(bucket).unwrap_or_default();
        core.blocks.put_in_time(id, block_of(core, id, entries))?;
        core.counters.blocks_healed.add(1);
    }
    Ok(())
}

/// Encodes a block with its entries in hash order.
fn block_of(core: &Core, id: BlockId, mut entries: Vec<(Key<'_>, Entry)>) -> Vec<u8> {
    entries.sort_unstable_by_key(|(key, _)| (core.hash(*key).order(), *key));
    let mut writer = BlockWriter::default();
    for (key, entry) in entries {
        match entry {
            Entry::Claim(version) => writer.push(key, version),
            Entry::Row(row) => writer.push_row(key, row.version, row.at),
        }
    }
    writer.finish(id, core.seed)
}
