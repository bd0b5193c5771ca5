//! The exact set: which ids are claimed, byte for byte (I3). New ids are in memory (`open_set.rs`) until
//! they are sealed into runs of chunks (`run.rs`, `chunk.rs`).

mod chunk;
mod chunk_cache;
mod columns;
mod merge;
mod offset_table;
mod open_set;
mod place_file;
mod places;
mod run;

pub(crate) use chunk::ChunkWriter;
#[cfg(feature = "fuzzing")]
pub(crate) use chunk::fuzz_chunk;
pub(crate) use chunk_cache::{ChunkCache, Step};
pub(crate) use merge::{MergeCursor, MergeScratch, Merged, Source};
pub(crate) use open_set::{EntryPlace, OpenEntry, OpenSet};
pub(crate) use place_file::{PlaceFile, PlaceFiles};
#[cfg(feature = "fuzzing")]
pub(crate) use places::fuzz_places;
pub(crate) use run::{
    InLog, KeptChunks, RunMeta, RunReader, RunSize, RunWriter, SealedAccess, SealedIds, WrittenRun,
    find_in_run,
};
