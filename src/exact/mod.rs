//! The exact set: which ids are claimed, byte for byte (I3). New ids are in memory (`open_set.rs`) until
//! they are sealed into runs of chunks (`run.rs`, `chunk.rs`).

mod chunk;
mod chunk_cache;
mod merge;
mod offset_table;
mod open_set;
mod run;

pub(crate) use chunk::ChunkWriter;
#[cfg(feature = "fuzzing")]
pub(crate) use chunk::fuzz_chunk;
pub(crate) use chunk_cache::ChunkCache;
pub(crate) use merge::{MergeCursor, Source};
pub(crate) use open_set::{EntryPlace, OpenEntry, OpenSet};
pub(crate) use run::{KeptChunks, RunMeta, RunReader, RunSize, RunWriter, find_in_run};
