//! The engine: owns the locks and the threads, and is the one way to the data.
//!
//! A claim goes right and down (`claim.rs`): shard lock, look, log record, memtable, unlock, and then it
//! waits for as much durability as was asked (`durability.rs`). Background work enters here too, so no
//! second way to the data exists: flushing (`flush.rs`), merging (`merger.rs`), expiry (`sweeper.rs`), log
//! compaction (`compactor.rs`), healing (`heal.rs`).
//!
//! Locks, in the order in which they may be taken: shards (by number), manifest, log. Nothing waits for
//! a condition while it holds two of them, and no code of the user runs under any of them (I9).

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

/// A shard, its lock, and the bell for those who wait for something in it to change.
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
    /// Reads ids where they stand in the log.
    ids: IdsInLog,
    blocks: Box<dyn BlockStore>,
    locators: LocatorFiles,
    time: TimeKeeper,
    health: Arc<Health>,
    manifest: Mutex<Manifest>,
    pub(crate) namespaces: Registry,
    counters: Counters,
    next_holder: AtomicU64,
    /// Runs that no shard uses any more; their blocks go when nobody reads them.
    obsolete: Mutex<Vec<Arc<RunMeta>>>,
    /// What flushing failed with, until an attempt succeeds.
    flush_failure: LastFailure,
    /// What healing failed with in the block store, until an attempt succeeds.
    heal_failure: LastFailure,
    /// When the block store last refused to be healed, on the clock's elapsed time; zero: it did not.
    blocks_failed_at: AtomicU64,
    /// Healing reads and writes blocks that others may be about to heal.
    healing: Mutex<()>,
    /// How often the block store was opened again, so that one fault that two jobs meet is mended once.
    reopened: AtomicU64,
    /// Kept between flushes; empty while one is under way.
    flush_scratch: Mutex<MergeScratch>,
    looked: folder::Looked,
    /// Segments are not removed while somebody reads the log to heal or to verify.
    segment_gc_lock: RwLock<()>,
    /// Runs are merged, swept and listed by one thread at a time.
    compaction_lock: Mutex<()>,
    signals: Signals,
    /// Held as long as the store is open; gone after `close`, so that another process may open it.
    lock: Mutex<Option<Box<dyn LockGuard>>>,
}

/// Bells of the background threads.
#[derive(Debug, Default)]
struct Signals {
    flush: Signal,
    maintain: Signal,
    /// Shared with the log, which rings it for a spare segment.
    log: Arc<Signal>,
}

impl Engine {
    /// An error in a forked child, which must not touch anything of the store.
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
