//! The block store: a map from (run, bucket) to a few kilobytes, kept in sled or, in tests, in memory.
//!
//! It is expendable (I10). Nothing rests on what it promises: every block is checked when it is read
//! (`run/block.rs`), and one that is missing, stale or damaged is built again from the log. So its
//! faults are no [`Error`](crate::Error): they are reasons to heal.

mod folder;
mod guarded;
mod headroom;
mod memory;
mod sled;

pub(crate) use folder::{SledFolder, Whose, empty, is_aside, set_aside, whose};
pub(crate) use guarded::Guarded;
pub use memory::MemoryBlocks;
pub(crate) use sled::SledBlocks;

/// Names one block. Runs are never renumbered and never change, so neither does what a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockId {
    pub(crate) run: u64,
    pub(crate) bucket: u32,
}

/// The store could not do it. The text is for people; what to do about it follows from the rest.
#[derive(Debug, Clone, thiserror::Error)]
#[error("block store: {what}")]
pub(crate) struct BlockFault {
    pub(crate) what: String,
    cause: Cause,
}

/// What a fault says about the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The disk is full. The store is sound, and there may be room again.
    NoRoom,
    /// The process or the machine lacks something, as descriptors or threads, or may not write. It says nothing about what
    /// the store holds, so nothing of that is given up for it.
    Environment,
    /// The store itself: what it holds may be damaged, and it cannot be trusted until it is opened again.
    Store,
}

impl BlockFault {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: Cause::Store }
    }

    /// What the operating system refused, in its own words.
    fn io(doing: &str, error: &std::io::Error) -> Self {
        let code = error.raw_os_error();
        let cause = match error.kind() {
            _ if crate::error::is_full(error) => Cause::NoRoom,
            _ if crate::error::is_shortage(error) => Cause::Environment,
            std::io::ErrorKind::ReadOnlyFilesystem => Cause::Environment,
            _ => Cause::Store,
        };
        Self { what: format!("{doing}: {error}{}", crate::error::advice(code)), cause }
    }

    /// No thread could be started.
    fn no_thread(doing: &str, error: &std::io::Error) -> Self {
        let limits = "`ulimit -u`, the pids limit of the container";
        let what =
            format!("{doing}: no thread can be started: {error}: raise the limit ({limits})");
        Self { what, cause: Cause::Environment }
    }

    fn no_room() -> Self {
        Self { what: "no space left".to_owned(), cause: Cause::NoRoom }
    }

    fn is_no_room(&self) -> bool {
        self.cause == Cause::NoRoom
    }
}

/// Makes a panic of the block store a fault: none reaches a caller.
fn guard<T>(doing: &str, call: impl FnOnce() -> BlockResult<T>) -> BlockResult<T> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(BlockFault::new(format!("{doing}: panicked: {}", text.unwrap_or("no message"))))
    })
}

/// Stands for the block store in errors: its files are sled's own.
const PLACE: &str = "the sled folder of the store";
const DOING: &str = "use";

/// Whether an error comes from the block store, which stays as it is until it is opened again.
pub(crate) fn is_block_fault(error: &crate::Error) -> bool {
    match error {
        crate::Error::Io { doing, .. } => *doing == DOING,
        crate::Error::StorageFull { path } => path == std::path::Path::new(PLACE),
        _ => false,
    }
}

/// For the few places where a fault cannot be healed because the log cannot be read either.
impl From<BlockFault> for crate::Error {
    fn from(fault: BlockFault) -> Self {
        let path = std::path::PathBuf::from(PLACE);
        if fault.is_no_room() {
            return Self::StorageFull { path };
        }
        Self::Io { doing: DOING, path, source: std::io::Error::other(fault) }
    }
}

pub(crate) type BlockResult<T> = std::result::Result<T, BlockFault>;

/// A map of blocks. Reads may come from a claim; writes come from background threads only.
pub(crate) trait BlockStore: std::fmt::Debug + Send + Sync {
    /// Hands the bytes of a block to `read`; answers whether there were any.
    fn get(&self, id: BlockId, read: &mut dyn FnMut(&[u8])) -> BlockResult<bool>;
    fn put(&self, id: BlockId, bytes: &[u8]) -> BlockResult<()>;
    /// The same for somebody who has to go on soon: a caller who heals (I12).
    fn put_in_time(&self, id: BlockId, bytes: Vec<u8>) -> BlockResult<()> {
        self.put(id, &bytes)
    }
    /// Removes the blocks of a run that there are: how many it had may be forged, or lost.
    fn remove_run(&self, run: u64) -> BlockResult<()>;
    /// Removes every block of this run and of later ones: what a crash left of unfinished work.
    fn remove_from(&self, run: u64) -> BlockResult<()>;
    /// The mark last set: tells a folder that was put back or emptied from the one that we left.
    fn mark(&self) -> BlockResult<Option<u64>>;
    fn set_mark(&self, mark: u64) -> BlockResult<()>;
    /// Makes what was written survive, as far as the store is able to.
    fn sync(&self) -> BlockResult<()>;
    /// Opens the store again after a fault; starts empty if that is the only way. One that only lacks room
    /// stays open, and says so.
    fn reopen(&self) -> BlockResult<()>;
    /// Drops everything and starts empty.
    fn reset(&self) -> BlockResult<()>;
    /// Bytes on disk.
    fn bytes(&self) -> u64;
    /// Lets go of files and threads.
    fn close(&self);
}
