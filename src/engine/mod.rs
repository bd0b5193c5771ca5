//! The engine: owns the locks and the threads, and is the only way to the data.
//!
//! A claim (`claim.rs`) takes its shard's lock, looks up, appends to the log, enters the memtable, unlocks, and then
//! waits for as much durability as was asked (`durability.rs`). Background work enters here too, so there is no second
//! way to the data: flushing (`flush.rs`), merging (`merger.rs`), expiry (`sweeper.rs`), log compaction
//! (`compactor.rs`), healing (`heal.rs`).
//!
//! Lock order: shards (by number), manifest, log. Nothing waits on a condition while holding two of them, and no user
//! code runs under any of them (I9).

mod backpressure;
mod batch;
mod catalog;
mod claim;
mod compactor;
mod decide;
mod durability;
mod failure;
mod flush;
mod folder;
mod forget;
mod heal;
mod held;
mod inspect;
mod lock_set;
mod lookup;
mod merger;
mod namespaces;
mod open;
mod record_rewriter;
mod repair;
mod reserve;
mod run_builder;
mod settings;
mod stats;
mod sweeper;
mod threads;
mod transfer;
mod verify;

pub use durability::Durability;
pub use held::Held;
pub use inspect::{NamespaceSummary, StoreSummary};
pub use repair::{LostBytes, MissingSegment, RepairReport};
pub use stats::{NamespaceStats, Stats};
pub use transfer::{ExportEntry, ImportEntry};
pub use verify::VerifyReport;

pub(crate) use crate::id::LongIds;
#[cfg(feature = "fuzzing")]
pub(crate) use catalog::manifest::{
    MAGIC as MANIFEST_MAGIC, VERSION as MANIFEST_VERSION, fuzz_decode as decode_manifest,
};
pub(crate) use claim::{Answer, ClaimSpec};
pub(crate) use inspect::Inspector;
pub(crate) use lookup::SeenVersion;
pub(crate) use namespaces::NsInfo;
pub(crate) use open::open;
pub(crate) use repair::repair;
pub(crate) use reserve::{Hold, HoldAnswer};
pub(crate) use settings::Settings;
pub(crate) use threads::Threads;

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
use failure::LastFailure;
use namespaces::Registry;
use stats::Counters;
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
    looked: folder::Looked,
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
