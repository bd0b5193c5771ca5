//! A run: the ids of one shard and one generation that were sealed together, in hash order, cut into
//! chunks. A run never changes. Its number is never used again, and every bucket of it exists, so a
//! chunk that is not there was lost (I10).

mod block;
mod block_cache;
mod columns;
mod locator;
mod locator_file;
mod merge;

pub(crate) use block::ChunkWriter;
#[cfg(feature = "fuzzing")]
pub(crate) use block::fuzz_chunk;
pub(crate) use block_cache::{ChunkCache, Step};
#[cfg(feature = "fuzzing")]
pub(crate) use locator::fuzz_places;
pub(crate) use locator_file::{PlaceFile, PlaceFiles};
pub(crate) use merge::{MergeCursor, MergeScratch, Merged, Source};

use crate::chunks::{ChunkFault, ChunkId, ChunkStore};
use crate::expiry::{GenId, Version};
use crate::id::{IdHash, IdHasher, Key, Seed, bucket_of_order};
use crate::limits;
use crate::log::IdsInLog;
use crate::run::block::ChunkReader;
use crate::run::columns::ChunkDamage;
use crate::run::locator::{PlaceReader, PlaceWriter, Told};
use crate::run::locator_file::PlaceFileWriter;
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

/// What reading sealed ids needs, for every run the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealedAccess<'a> {
    pub(crate) store: &'a dyn ChunkStore,
    pub(crate) seed: Seed,
    /// Where there is a log, and place files that lead into it.
    pub(crate) in_log: Option<InLog<'a>>,
}

/// Where place blocks are read, and the ids that they speak of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InLog<'a> {
    pub(crate) files: &'a PlaceFiles,
    pub(crate) ids: &'a IdsInLog,
}

/// One run, as it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealedIds<'a> {
    pub(crate) meta: &'a RunMeta,
    /// Small runs have none.
    pub(crate) places: Option<&'a PlaceFile>,
}

/// An answer, and whether it took a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundInRun {
    pub(crate) version: Option<Version>,
    pub(crate) in_log: bool,
}

/// Looks an id up in one run: in one chunk that is in memory, or else in a place block and in the log, or else in one
/// chunk of the chunk store. A fault says that the chunk must be healed first. `block` is memory to be used again.
pub(crate) fn find_in_run(
    access: SealedAccess<'_>,
    cache: &mut ChunkCache,
    block: &mut Vec<u8>,
    run: SealedIds<'_>,
    key: Key<'_>,
    hash: IdHash,
) -> Result<FoundInRun, ChunkFault> {
    let SealedIds { meta, places } = run;
    let (id, place) = (meta.chunk(hash.bucket(meta.buckets)), hash.place(meta.buckets));
    let class = meta.generation.class();
    let fault = |damage: ChunkDamage| ChunkFault::new(damage.0);
    let in_chunk = |version| FoundInRun { version, in_log: false };
    if let Some(bytes) = cache.get(id) {
        let chunk = ChunkReader::open_checked(bytes, id, class).map_err(fault)?;
        return Ok(in_chunk(chunk.find(key, place)));
    }
    if let Some((places, in_log)) = places.zip(access.in_log)
        && in_log.files.read(places, id.bucket, block)
        && let Ok(places) = PlaceReader::open(block, id, class, access.seed)
    {
        match places.find(key, hash, place, in_log.ids) {
            Told::Here(version) => {
                return Ok(FoundInRun { version: Some(version), in_log: true });
            }
            Told::NotHere => return Ok(FoundInRun { version: None, in_log: true }),
            Told::Unsure => {}
        }
    }
    let mut answer = Err(ChunkFault::new("the chunk is missing"));
    access.store.get(id, &mut |bytes| {
        answer = ChunkReader::open(bytes, id, class, access.seed).map_err(fault).map(|chunk| {
            cache.insert(id, bytes);
            in_chunk(chunk.find(key, place))
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
    places: PlaceWriter,
    place_file: Option<PlaceFileWriter>,
    bucket: u32,
    kept: KeptChunks,
    keep_bytes: usize,
}

/// The first chunks of a run that was just written, for the cache: the next duplicates would read them.
pub(crate) type KeptChunks = Vec<(ChunkId, Box<[u8]>)>;

/// A run that was written.
#[derive(Debug)]
pub(crate) struct WrittenRun {
    pub(crate) meta: RunMeta,
    pub(crate) kept: KeptChunks,
    pub(crate) place_file: Option<PlaceFileWriter>,
}

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
        let (writer, places, kept) = (ChunkWriter::default(), PlaceWriter::default(), Vec::new());
        let (place_file, bucket) = (None, 0);
        Self { chunks, seed, meta, writer, places, place_file, bucket, kept, keep_bytes }
    }

    /// Writes place blocks, too.
    pub(crate) fn with_places(self, place_file: Option<PlaceFileWriter>) -> Self {
        Self { place_file, ..self }
    }

    pub(crate) fn push(&mut self, entry: Merged<'_>) -> Result<(), ChunkFault> {
        let bucket = bucket_of_order(entry.hash.order(), self.meta.buckets);
        debug_assert!(bucket >= self.bucket, "ids come in hash order");
        self.finish_buckets(bucket)?;
        self.meta.ids += 1;
        self.meta.bytes += entry.key.id.len() as u64 + 4;
        self.writer.push(entry.key, entry.version);
        if self.place_file.is_some() {
            self.places.push(entry.key, entry.hash, entry.place);
        }
        Ok(())
    }

    /// Writes the buckets before `bucket`, empty ones too.
    fn finish_buckets(&mut self, bucket: u32) -> Result<(), ChunkFault> {
        while self.bucket < bucket {
            let id = self.meta.chunk(self.bucket);
            let (chunk, entries) = self.writer.chunk(id, self.seed);
            if let Some(file) = &mut self.place_file {
                file.put(id, &self.places.finish(entries, id, self.seed, &chunk));
            }
            self.writer.clear();
            self.chunks.put(id, &chunk)?;
            if chunk.len() <= self.keep_bytes {
                self.keep_bytes -= chunk.len();
                self.kept.push((id, chunk.into()));
            }
            self.bucket += 1;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<WrittenRun, ChunkFault> {
        self.finish_buckets(self.meta.buckets)?;
        Ok(WrittenRun { meta: self.meta, kept: self.kept, place_file: self.place_file })
    }
}

/// Reads a run from end to end, in hash order, holding one chunk at a time.
#[derive(Debug)]
pub(crate) struct RunReader<'a> {
    chunks: &'a dyn ChunkStore,
    meta: &'a RunMeta,
    seed: Seed,
    hasher: IdHasher,
    places: Option<(&'a PlaceFiles, &'a PlaceFile)>,
}

impl<'a> RunReader<'a> {
    pub(crate) fn new(
        chunks: &'a dyn ChunkStore,
        meta: &'a RunMeta,
        seed: Seed,
        hasher: IdHasher,
    ) -> Self {
        Self { chunks, meta, seed, hasher, places: None }
    }

    /// Reads place blocks, too.
    pub(crate) fn with_places(self, files: &'a PlaceFiles, file: Option<&'a PlaceFile>) -> Self {
        Self { places: file.map(|file| (files, file)), ..self }
    }

    pub(crate) fn buckets(&self) -> u32 {
        self.meta.buckets
    }

    /// Hands every entry of one chunk to `visit`.
    pub(crate) fn bucket(
        &self,
        bucket: u32,
        mut visit: impl FnMut(Merged<'_>),
    ) -> Result<(), ChunkFault> {
        let id = self.meta.chunk(bucket);
        let class = self.meta.generation.class();
        let mut block = Vec::new();
        let has_block =
            self.places.is_some_and(|(files, file)| files.read(file, bucket, &mut block));
        let places = has_block.then(|| PlaceReader::open(&block, id, class, self.seed).ok());
        let mut answer = Err(ChunkFault::new("the chunk is missing"));
        self.chunks.get(id, &mut |bytes| {
            answer = match ChunkReader::open(bytes, id, class, self.seed) {
                Ok(chunk) => {
                    let places = places.as_ref().and_then(Option::as_ref);
                    // A chunk that was healed may hold other entries than were written together with the block.
                    let is_beside = |places: &&PlaceReader<'_>| {
                        places.is_of(bytes) && places.count() == chunk.count()
                    };
                    let places = places.filter(is_beside);
                    for (i, (key, version)) in chunk.iter().enumerate() {
                        let place = places.and_then(|places| places.place_at(i));
                        visit(Merged { hash: self.hasher.hash(key), key, version, place });
                    }
                    Ok(())
                }
                Err(damage) => Err(ChunkFault::new(damage.0)),
            };
        })?;
        answer
    }
}
