//! The engine: owns the locks and the threads, and is the only way to the data.
//!
//! A claim (`write/claim.rs`) takes its shard's lock, looks up, appends to the log, enters the memtable, unlocks, and
//! then waits for as much durability as was asked (`write/durability.rs`). Background work enters here too, so there is
//! no second way to the data.
//!
//! Lock order: shards (by number), manifest, log. Nothing waits on a condition while holding two of them, and no user
//! code runs under any of them (I9).

mod catalog;
mod core;
mod recovery;
mod threads;
mod upkeep;
mod write;

pub use self::core::stats::{NamespaceStats, Stats};
pub use recovery::inspect::{NamespaceSummary, StoreSummary};
pub use recovery::repair::{LostBytes, MissingSegment, RepairReport};
pub use recovery::verify::VerifyReport;
pub use write::durability::Durability;
pub use write::held::Held;
pub use write::import::{ExportEntry, ImportEntry};

pub(crate) use self::core::settings::Settings;
pub(crate) use crate::id::LongIds;
#[cfg(feature = "fuzzing")]
pub(crate) use catalog::manifest::{
    MAGIC as MANIFEST_MAGIC, VERSION as MANIFEST_VERSION, fuzz_decode as decode_manifest,
};
pub(crate) use catalog::namespaces::NsInfo;
pub(crate) use recovery::inspect::Inspector;
pub(crate) use recovery::open::open;
pub(crate) use recovery::repair::repair;
pub(crate) use threads::Threads;
pub(crate) use write::claim::{Answer, ClaimSpec};
pub(crate) use write::lookup::SeenVersion;
pub(crate) use write::reserve::{Hold, HoldAnswer};

use self::core::failure::LastFailure;
use self::core::stats::Counters;
use crate::blocks::BlockStore;
use crate::disk::{Disk, LockGuard};
use crate::error::{Error, Result};
use crate::health::Health;
use crate::id::{IdHash, IdHasher, Key, Seed};
use crate::run::{InLog, LocatorFiles, MergeScratch, RunAccess, RunMeta};
use crate::shard::Shard;
use crate::sync::{Arc, AtomicU64, CachePadded, Condvar, Mutex, RwLock, Signal};
use crate::time::TimeKeeper;
use crate::wal::{IdsInLog, Log};
use catalog::manifest::Manifest;
use catalog::namespaces::Registry;
use std::path::PathBuf;

/// A shard, its lock, and the condition variable for those waiting for something in it to change.
#[derive(Debug)]
pub(crate) struct ShardCell {
    pub(crate) shard: Mutex<Shard>,
    pub(crate) changed: Condvar,
}

/// An open store.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) dir: PathBuf,
    pub(crate) settings: Settings,
    disk: Arc<dyn Disk>,
    seed: Seed,
    hasher: IdHasher,
    shards: Box<[CachePadded<ShardCell>]>,
    shard_bits: u32,
    log: Log,
    /// Reads ids in place in the log.
    ids: IdsInLog,
    blocks: Box<dyn BlockStore>,
    locators: LocatorFiles,
    time: TimeKeeper,
    health: Arc<Health>,
    manifest: Mutex<Manifest>,
    pub(crate) namespaces: Registry,
    counters: Counters,
    next_holder: AtomicU64,
    /// Runs that no shard uses any more; their blocks are removed once nobody reads them.
    obsolete: Mutex<Vec<Arc<RunMeta>>>,
    /// The last flush failure, until an attempt succeeds.
    flush_failure: LastFailure,
    /// The last failure to heal in the block store, until an attempt succeeds.
    heal_failure: LastFailure,
    /// When healing in the block store last failed, in the clock's elapsed time; zero if it has not, or has worked
    /// since.
    blocks_failed_at: AtomicU64,
    /// Serialises healing, which reads and writes blocks that others may be about to heal.
    healing: Mutex<()>,
    /// How often the block store was reopened, so that one fault met by two jobs is fixed once.
    reopened: AtomicU64,
    /// Kept between flushes; empty during one.
    flush_scratch: Mutex<MergeScratch>,
    looked: upkeep::folder::Looked,
    /// Keeps segments from being removed while the log is read to heal or verify.
    segment_gc_lock: RwLock<()>,
    /// Lets one thread at a time merge, sweep or verify runs.
    compaction_lock: Mutex<()>,
    signals: Signals,
    /// Held while the store is open; released by `close`, so that another process may open it.
    lock: Mutex<Option<Box<dyn LockGuard>>>,
}

/// Wakeup signals of the background jobs.
#[derive(Debug, Default)]
struct Signals {
    flush: Signal,
    maintain: Signal,
    /// Shared with the log, which raises it when there is work: a spare segment to create, a full one to sync.
    log: Arc<Signal>,
}

impl Engine {
    /// Returns an error in a forked child, which must not touch anything of the store.
    pub(crate) fn check_home(&self) -> Result<()> {
        if self.health.is_home() { Ok(()) } else { Err(Error::Forked) }
    }

    #[inline]
    fn cell(&self, hash: IdHash) -> &ShardCell {
        &self.shards[hash.shard(self.shard_bits)]
    }

    #[inline]
    fn hash(&self, key: Key<'_>) -> IdHash {
        self.hasher.hash(key)
    }

    #[inline]
    fn run_access(&self) -> RunAccess<'_> {
        let in_log = InLog { files: &self.locators, ids: &self.ids };
        RunAccess { store: &*self.blocks, seed: self.seed, in_log: Some(in_log) }
    }
}
