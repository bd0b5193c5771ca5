//! The chunk store: a map from (run, bucket) to a few kilobytes, kept in sled or, in tests, in memory.
//!
//! It is expendable (I10). Nothing rests on what it promises: every chunk is checked when it is read
//! (`exact/chunk.rs`), and one that is missing, stale or damaged is built again from the log. So its
//! faults are no [`Error`](crate::Error): they are reasons to heal.

mod headroom;
mod memory;
mod sled;

pub use memory::MemoryChunks;
pub(crate) use sled::SledChunks;

/// Names one chunk. Runs are never renumbered and never change, so neither does what a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChunkId {
    pub(crate) run: u64,
    pub(crate) bucket: u32,
}

/// The store could not do it; the text is for people.
#[derive(Debug, thiserror::Error)]
#[error("chunk store: {0}")]
pub(crate) struct ChunkFault(pub(crate) String);

impl ChunkFault {
    fn is_no_room(&self) -> bool {
        self.0.contains(NO_ROOM)
    }
}

/// Stands in the text of a fault that is due to a full disk.
pub(crate) const NO_ROOM: &str = "no space left";

/// Stands for the chunk store in errors: its files are sled's own.
const PLACE: &str = "the sled folder of the store";
const DOING: &str = "use";

/// Whether an error comes from the chunk store, which stays as it is until it is opened again.
pub(crate) fn is_chunk_fault(error: &crate::Error) -> bool {
    match error {
        crate::Error::Io { doing, .. } => *doing == DOING,
        crate::Error::StorageFull { path } => path == std::path::Path::new(PLACE),
        _ => false,
    }
}

/// For the few places where a fault cannot be healed because the log cannot be read either.
impl From<ChunkFault> for crate::Error {
    fn from(fault: ChunkFault) -> Self {
        let path = std::path::PathBuf::from(PLACE);
        if fault.is_no_room() {
            return Self::StorageFull { path };
        }
        Self::Io { doing: DOING, path, source: std::io::Error::other(fault) }
    }
}

pub(crate) type ChunkResult<T> = std::result::Result<T, ChunkFault>;

/// A map of chunks. Reads may come from a claim; writes come from background threads only.
pub(crate) trait ChunkStore: std::fmt::Debug + Send + Sync {
    /// Hands the bytes of a chunk to `read`; answers whether there were any.
    fn get(&self, id: ChunkId, read: &mut dyn FnMut(&[u8])) -> ChunkResult<bool>;
    fn put(&self, id: ChunkId, bytes: &[u8]) -> ChunkResult<()>;
    /// The same for somebody who has to go on soon: a caller who heals (I12).
    fn put_in_time(&self, id: ChunkId, bytes: Vec<u8>) -> ChunkResult<()> {
        self.put(id, &bytes)
    }
    /// Removes the chunks of a run that there are: how many it had may be forged, or lost.
    fn remove_run(&self, run: u64) -> ChunkResult<()>;
    /// Removes every chunk of this run and of later ones: what a crash left of unfinished work.
    fn remove_from(&self, run: u64) -> ChunkResult<()>;
    /// The mark last set: tells a folder that was put back or emptied from the one that we left.
    fn mark(&self) -> ChunkResult<Option<u64>>;
    fn set_mark(&self, mark: u64) -> ChunkResult<()>;
    /// Makes what was written survive, as far as the store is able to.
    fn sync(&self) -> ChunkResult<()>;
    /// Opens the store again after a fault; starts empty if that is the only way. One that only lacks room
    /// stays open, and says so.
    fn reopen(&self) -> ChunkResult<()>;
    /// Drops everything and starts empty.
    fn reset(&self) -> ChunkResult<()>;
    /// Bytes on disk.
    fn bytes(&self) -> u64;
    /// Lets go of files and threads.
    fn close(&self);
}
