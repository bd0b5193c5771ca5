//! A run: the ids of one shard and one generation that were sealed together, in hash order, cut into
//! chunks. A run never changes. Its number is never used again, and every bucket of it exists, so a
//! chunk that is not there was lost (I10).

use crate::chunks::{ChunkFault, ChunkId, ChunkStore};
use crate::exact::chunk::{ChunkDamage, ChunkReader, ChunkWriter};
use crate::exact::chunk_cache::ChunkCache;
use crate::expiry::{GenId, Version};
use crate::id::{IdHash, IdHasher, Key, Seed, bucket_of_order};
use crate::limits;
use serde::{Deserialize, Serialize};

/// What the manifest keeps of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunMeta {
    pub(crate) id: u64,
    pub(crate) shard: u16,
    pub(crate) generation: GenId,
    /// Chunks; all of them exist.
    pub(crate) buckets: u32,
    pub(crate) ids: u64,
    /// Bytes of ids and their times.
    pub(crate) bytes: u64,
    /// No record of its ids stands in a segment before this one: where healing begins to read.
    pub(crate) from_segment: u32,
}

impl RunMeta {
    pub(crate) fn chunk(&self, bucket: u32) -> ChunkId {
        ChunkId { run: self.id, bucket }
    }
}

/// How much goes into a run: decides how many chunks it is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunSize {
    pub(crate) ids: u64,
    pub(crate) bytes: u64,
}

impl RunSize {
    /// The size of a run in which all of these are merged, at most.
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

    /// Into how many chunks a run of this size is cut.
    pub(crate) fn buckets(self) -> u32 {
        let buckets = self.bytes.div_ceil(limits::CHUNK_BYTES).clamp(1, self.ids.max(1));
        u32::try_from(buckets).unwrap_or(u32::MAX).min(limits::RUN_CHUNKS_MAX)
    }
}

/// Looks an id up in one run: one chunk, from the cache or from the chunk store. A fault says that the
/// chunk must be healed first.
pub(crate) fn find_in_run(
    chunks: &dyn ChunkStore,
    cache: &mut ChunkCache,
    meta: &RunMeta,
    seed: Seed,
    key: Key<'_>,
    hash: IdHash,
) -> Result<Option<Version>, ChunkFault> {
    let (id, place) = (meta.chunk(hash.bucket(meta.buckets)), hash.place(meta.buckets));
    let class = meta.generation.class();
    let fault = |damage: ChunkDamage| ChunkFault(damage.0.to_owned());
    if let Some(bytes) = cache.get(id) {
        return Ok(ChunkReader::open_checked(bytes, id, class).map_err(fault)?.find(key, place));
    }
    let mut answer = Err(ChunkFault("the chunk is missing".to_owned()));
    chunks.get(id, &mut |bytes| {
        answer = ChunkReader::open(bytes, id, class, seed).map_err(fault).map(|chunk| {
            cache.insert(id, bytes);
            chunk.find(key, place)
        });
    })?;
    answer
}

/// Writes a run, in hash order.
#[derive(Debug)]
pub(crate) struct RunWriter<'a> {
    chunks: &'a dyn ChunkStore,
    seed: Seed,
    meta: RunMeta,
    writer: ChunkWriter,
    bucket: u32,
    kept: KeptChunks,
    keep_bytes: usize,
}

/// The first chunks of a run that was just written, for the cache: the next duplicates would read them.
pub(crate) type KeptChunks = Vec<(ChunkId, Box<[u8]>)>;

impl<'a> RunWriter<'a> {
    /// `size` may be more than will come. Chunks of up to `keep_bytes` in all are kept.
    #[expect(clippy::too_many_arguments, reason = "each is a part of what a run is")]
    pub(crate) fn new(
        chunks: &'a dyn ChunkStore,
        seed: Seed,
        id: u64,
        shard: usize,
        generation: GenId,
        size: RunSize,
        from_segment: u32,
        keep_bytes: usize,
    ) -> Self {
        let meta = RunMeta {
            id,
            shard: shard as u16,
            generation,
            buckets: size.buckets(),
            ids: 0,
            bytes: 0,
            from_segment,
        };
        let (writer, kept) = (ChunkWriter::default(), Vec::new());
        Self { chunks, seed, meta, writer, bucket: 0, kept, keep_bytes }
    }

    pub(crate) fn push(
        &mut self,
        order: u32,
        key: Key<'_>,
        version: Version,
    ) -> Result<(), ChunkFault> {
        let bucket = bucket_of_order(order, self.meta.buckets);
        debug_assert!(bucket >= self.bucket, "ids come in hash order");
        self.finish_buckets(bucket)?;
        self.meta.ids += 1;
        self.meta.bytes += key.id.len() as u64 + 4;
        self.writer.push(key, version);
        Ok(())
    }

    /// Writes the buckets before `bucket`, empty ones too.
    fn finish_buckets(&mut self, bucket: u32) -> Result<(), ChunkFault> {
        while self.bucket < bucket {
            let id = self.meta.chunk(self.bucket);
            let chunk = self.writer.finish(id, self.seed);
            self.chunks.put(id, &chunk)?;
            if chunk.len() <= self.keep_bytes {
                self.keep_bytes -= chunk.len();
                self.kept.push((id, chunk.into()));
            }
            self.bucket += 1;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(RunMeta, KeptChunks), ChunkFault> {
        self.finish_buckets(self.meta.buckets)?;
        Ok((self.meta, self.kept))
    }
}

/// Reads a run from end to end, in hash order, holding one chunk at a time.
#[derive(Debug)]
pub(crate) struct RunReader<'a> {
    chunks: &'a dyn ChunkStore,
    meta: &'a RunMeta,
    seed: Seed,
    hasher: IdHasher,
}

impl<'a> RunReader<'a> {
    pub(crate) fn new(
        chunks: &'a dyn ChunkStore,
        meta: &'a RunMeta,
        seed: Seed,
        hasher: IdHasher,
    ) -> Self {
        Self { chunks, meta, seed, hasher }
    }

    pub(crate) fn buckets(&self) -> u32 {
        self.meta.buckets
    }

    /// Hands every entry of one chunk to `visit`.
    pub(crate) fn bucket(
        &self,
        bucket: u32,
        mut visit: impl FnMut(IdHash, Key<'_>, Version),
    ) -> Result<(), ChunkFault> {
        let id = self.meta.chunk(bucket);
        let mut answer = Err(ChunkFault("the chunk is missing".to_owned()));
        self.chunks.get(id, &mut |bytes| {
            answer = match ChunkReader::open(bytes, id, self.meta.generation.class(), self.seed) {
                Ok(chunk) => {
                    chunk.iter().for_each(|(k, v)| visit(self.hasher.hash(k), k, v));
                    Ok(())
                }
                Err(damage) => Err(ChunkFault(damage.0.to_owned())),
            };
        })?;
        answer
    }
}
