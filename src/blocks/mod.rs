//! The block store: a map from (run, bucket) to a few kilobytes, kept in sled or, in tests, in memory.
//!
//! It is expendable (I10) and none of its promises are relied on: every block is checked when it is read
//! (`run/block.rs`), and a missing, stale or damaged one is rebuilt from the log. So its faults are not an
//! [`Error`](crate::Error) but a reason to heal.

mod folder;
mod guarded;
mod headroom;
#[allow(unreachable_pub, reason = "public with the feature `testing`")]
mod memory;
mod sled;

pub(crate) use folder::{SledFolder, Whose, empty, is_aside, set_aside, whose};
pub(crate) use guarded::Guarded;
#[allow(unreachable_pub, reason = "public with the feature `testing`")]
pub use memory::MemoryBlocks;
pub(crate) use sled::SledBlocks;

/// Names one block. Runs are immutable and never renumbered, so a name never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockId {
    pub(crate) run: u64,
    pub(crate) bucket: u32,
}

/// A failed operation. The text is for people; the handling depends on the cause.
#[derive(Debug, Clone, thiserror::Error)]
#[error("block store: {what}")]
pub(crate) struct BlockFault {
    pub(crate) what: String,
    cause: Cause,
}

/// What a fault says about the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The disk is full. The store is sound, and space may be freed.
    NoRoom,
    /// The process or machine lacks something, such as descriptors or threads, or may not write. Says nothing about the
    /// store's contents, so none of them are given up.
    Environment,
    /// Another thread still holds the lock of the store.
    Locked,
    /// The store is being opened again: whoever comes meanwhile has done nothing wrong, and learns nothing.
    Reopening,
    /// The store itself: its contents may be damaged, and it cannot be trusted until it is reopened.
    Store,
}

impl BlockFault {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: Cause::Store }
    }

    /// Wraps an error of the operating system.
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

    /// Reports that no thread could be started.
    fn no_thread(doing: &str, error: &std::io::Error) -> Self {
        let limits = "`ulimit -u`, the pids limit of the container";
        let what =
            format!("{doing}: no thread can be started: {error}: raise the limit ({limits})");
        Self { what, cause: Cause::Environment }
    }

    fn reopening() -> Self {
        Self { what: "it is being opened again".to_owned(), cause: Cause::Reopening }
    }

    fn no_room() -> Self {
        Self { what: "no space left".to_owned(), cause: Cause::NoRoom }
    }

    /// Whether the fault says nothing about the contents, so that they are kept.
    fn spares_contents(&self) -> bool {
        matches!(self.cause, Cause::NoRoom | Cause::Environment)
    }

    fn is_no_room(&self) -> bool {
        self.cause == Cause::NoRoom
    }
}

/// Turns a panic of the block store into a fault, so that none reaches a caller.
fn guard<T>(doing: &str, call: impl FnOnce() -> BlockResult<T>) -> BlockResult<T> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(BlockFault::new(format!("{doing}: panicked: {}", text.unwrap_or("no message"))))
    })
}

/// For the few places where a fault cannot be healed because the log cannot be read either.
impl From<BlockFault> for crate::Error {
    fn from(fault: BlockFault) -> Self {
        match fault.cause {
            Cause::Reopening => {
                Self::Timeout { what: "the sled folder, which is being opened again" }
            }
            _ => Self::Blocks { is_full: fault.is_no_room(), what: fault.to_string() },
        }
    }
}

pub(crate) type BlockResult<T> = std::result::Result<T, BlockFault>;

/// A map of blocks. Claims read it; background threads write it, and so does a claim that heals a block it needs.
pub(crate) trait BlockStore: std::fmt::Debug + Send + Sync {
    /// Calls `read` with the bytes of a block; returns whether the block exists.
    fn get(&self, id: BlockId, read: &mut dyn FnMut(&[u8])) -> BlockResult<bool>;
    fn put(&self, id: BlockId, bytes: &[u8]) -> BlockResult<()>;
    /// As `put`, for a caller that heals and must go on soon (I12).
    fn put_in_time(&self, id: BlockId, bytes: Vec<u8>) -> BlockResult<()> {
        self.put(id, &bytes)
    }
    /// Removes the blocks that a run has: its recorded count may be forged or lost.
    fn remove_run(&self, run: u64) -> BlockResult<()>;
    /// Removes every block of this run and later ones, which a crash left of unfinished work.
    fn remove_from(&self, run: u64) -> BlockResult<()>;
    /// Returns the mark last set, which tells a restored or emptied folder from the one we left.
    fn mark(&self) -> BlockResult<Option<u64>>;
    fn set_mark(&self, mark: u64) -> BlockResult<()>;
    /// Makes writes durable, as far as the store can.
    fn sync(&self) -> BlockResult<()>;
    /// Reopens the store after a fault; starts empty if that is the only way. A store that only lacks space stays open
    /// and reports it.
    fn reopen(&self) -> BlockResult<()>;
    /// Drops everything and starts empty.
    fn reset(&self) -> BlockResult<()>;
    /// Returns the bytes on disk.
    fn bytes(&self) -> u64;
    /// Releases files and threads.
    fn close(&self);
}
