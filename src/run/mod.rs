//! A run: ids of one shard and one generation that were flushed together, in hash order, split into blocks. A run is
//! immutable. Run numbers are never reused and every bucket is written, so a missing block is a lost block (I10).

mod block;
mod block_cache;
mod columns;
mod entry;
mod in_order;
mod locator;
mod locator_file;
mod lookup;
mod merge;
mod meta;
mod reader;
mod writer;

pub(crate) use block::BlockWriter;
#[cfg(feature = "fuzzing")]
pub(crate) use block::fuzz_block;
pub(crate) use block_cache::{BlockCache, Step};
pub(crate) use entry::{Merged, MergedEntries};
pub(crate) use in_order::{GroupOfEntries, InHashOrder};
#[cfg(feature = "fuzzing")]
pub(crate) use locator::fuzz_locator;
pub(crate) use locator_file::{LocatorFile, LocatorFileWriter, LocatorFiles};
pub(crate) use lookup::{InLog, RunAccess, RunIds, find_in_run, find_row_in_run};
pub(crate) use merge::{MergeCursor, Source};
pub(crate) use meta::{RunMeta, RunSize};
pub(crate) use reader::RunReader;
pub(crate) use writer::{KeptBlocks, RunWriter, WrittenRun};
