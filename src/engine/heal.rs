//! Healing (I10): chunks that are missing, stale or damaged are built again from the log.
//!
//! A healed chunk holds every record of its shard, generation and bucket that the log has, which may be
//! more than the run had: records of one id are joined, so more copies of the truth change no answer.

use crate::chunks::ChunkFault;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::exact::{ChunkWriter, RunMeta, RunReader};
use crate::expiry::Version;
use crate::id::{Key, NsId};
use crate::log::Item;
use std::collections::HashMap;
use std::ops::Range;

type Collected = HashMap<(NsId, Vec<u8>), (u32, Version)>;

impl Engine {
    /// Makes every chunk of a run readable. The caller holds no lock and looks again afterwards.
    pub(crate) fn heal(&self, run: &RunMeta, fault: &str) -> Result<()> {
        let _healing = self.healing.lock();
        self.health.check()?;
        if self.damaged_buckets(run).is_empty() {
            return Ok(()); // somebody was faster
        }
        tracing::warn!(run = run.id, fault, "healing a run from the log");
        self.counters.heals.add(1);
        // What sled says after a failure can be wrong until it is opened again: first try without.
        self.heal_buckets(run).or_else(|_| {
            self.chunks.reopen()?;
            self.heal_buckets(run)
        })
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
        self.chunks.sync()?;
        match self.damaged_buckets(run).first() {
            None => Ok(()),
            Some(bucket) => {
                let what =
                    format!("chunk {bucket} of run {} does not keep what is written", run.id);
                Err(Error::from(ChunkFault(what)))
            }
        }
    }

    /// Buckets that do not read back; all of them when the chunk store itself fails.
    fn damaged_buckets(&self, run: &RunMeta) -> Vec<u32> {
        let reader = RunReader::new(&*self.chunks, run, self.seed, self.hasher);
        (0..run.buckets).filter(|bucket| reader.bucket(*bucket, |_, _, _| ()).is_err()).collect()
    }

    /// Everything in the log that belongs into these buckets of the run.
    fn collect(&self, run: &RunMeta, buckets: Range<u32>) -> Result<Collected> {
        let mut collected = Collected::new();
        // A chunk may outlive what the log loses in a power cut, and what is sealed counts as being on
        // disk: only records that are may enter.
        let _nothing_is_removed = self.retention.read();
        let end = self.log.end();
        self.log.sync_to(end)?;
        let mut segments: Vec<u32> = self.log.closed().iter().map(|meta| meta.number).collect();
        segments.push(self.log.active());
        for number in segments.into_iter().filter(|number| *number >= run.from_segment) {
            self.log.scan(number, |lsn, item| {
                let Item::Version(key, version) = item else { return Ok(()) };
                let hash = self.hash(key);
                let bucket = hash.bucket(run.buckets);
                if lsn <= end
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
        let mut writer = ChunkWriter::default();
        for bucket in part {
            let mut entries = by_bucket.remove(bucket).unwrap_or_default();
            entries.sort_unstable_by_key(|(key, _)| (self.hash(*key).order(), *key));
            entries.iter().for_each(|(key, version)| writer.push(*key, *version));
            let id = run.chunk(*bucket);
            self.chunks.put(id, &writer.finish(id, self.seed))?;
            self.counters.chunks_healed.add(1);
        }
        Ok(())
    }
}
