//! What all rooms share: the locks, the handles, and what one room leaves for another.
//!
//! Lock order: shards (by number), manifest, log. Nothing waits on a condition while holding two of them, and no user
//! code runs under any of them (I9).

mod behind;
mod copies;
mod counters;
mod durability;
mod failure;
mod families;
mod folder;
mod in_flight;
mod publish;
mod reclaim;
mod rows;
mod scans;
mod seen;
mod settings;
mod stats;
mod watch;

pub use durability::Durability;
pub use seen::Seen;
pub use stats::{NamespaceStats, Stats};

pub(in crate::engine) use copies::Copies;
pub(in crate::engine) use counters::Counters;
pub(in crate::engine) use failure::LastFailure;
pub(in crate::engine) use families::{Families, note_watermark};
pub(crate) use families::{Replay, RowChanged, RowState, watermark_key};
pub(in crate::engine) use in_flight::InFlight;
pub(crate) use in_flight::TopicEvent;
pub(in crate::engine) use reclaim::Reclaim;
pub(in crate::engine) use rows::GROUP;
pub(in crate::engine) use scans::{ScanGuard, Scans};
pub(crate) use settings::{Format, Settings};
pub(in crate::engine) use stats::segments;
pub(in crate::engine) use watch::Watches;
pub(crate) use watch::{Bell, Bells, Watch};

use crate::blocks::BlockStore;
use crate::disk::{Disk, LockGuard};
use crate::engine::catalog::manifest::Manifest;
use crate::engine::catalog::namespaces::Registry;
use crate::error::{Error, Result};
use crate::expiry::Horizon;
use crate::health::Health;
use crate::id::{Digest, IdHash, IdHasher, Key, NsId, Seed};
use crate::run::{InLog, LocatorFiles, RunAccess, RunMeta, RunReader, Source};
use crate::shard::{RunHandle, Shard};
use crate::sync::{
    Arc, AtomicU64, CachePadded, Condvar, Mutex, RwLock, Signal, Started, Timer, Wakers,
};
use crate::time::{TimeKeeper, Timestamp};
use crate::wal::{IdsInLog, Log};
use std::fmt;
use std::fmt::Debug;
use std::path::PathBuf;

/// A shard, its lock, and those waiting for something in it to change: threads at a condition variable, and futures.
///
/// Whoever changes what they wait for does so under the lock and tells them after it.
#[derive(Debug)]
pub(crate) struct ShardCell {
    pub(crate) number: usize,
    pub(crate) shard: Mutex<Shard>,
    pub(crate) changed: Condvar,
    pub(crate) futures: Wakers<Awaited>,
}

/// What a future waits for in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Awaited {
    /// Memtable space.
    Room,
    /// Compaction to catch up with those who overwrite rows. Asked in the first shard.
    Compaction,
    /// The end of the reservation of the id with this hash.
    Release(IdHash),
}

impl ShardCell {
    pub(crate) fn new(number: usize, shard: Shard) -> Self {
        let (changed, futures) = (Condvar::new(), Wakers::default());
        Self { number, shard: Mutex::new(shard), changed, futures }
    }

    /// Tells those who wait for memtable space that there is some.
    pub(in crate::engine) fn tell_of_room(&self) {
        self.changed.notify_all();
        self.futures.wake(Awaited::Room);
    }

    /// Notifies waiters of a change that the lock does not guard, such as a stopped store. Takes the lock first:
    /// whoever checked before the change is waiting by then, so no wakeup is lost (I12).
    pub(in crate::engine) fn wake(&self) {
        drop(self.shard.lock());
        self.changed.notify_all();
        self.futures.wake_all();
    }
}

/// An open store: what all rooms share.
pub(in crate::engine) struct Core {
    pub(in crate::engine) dir: PathBuf,
    pub(in crate::engine) settings: Settings,
    pub(in crate::engine) disk: Arc<dyn Disk>,
    pub(in crate::engine) seed: Seed,
    pub(in crate::engine) hasher: IdHasher,
    pub(in crate::engine) shards: Box<[CachePadded<ShardCell>]>,
    pub(in crate::engine) shard_bits: u32,
    pub(in crate::engine) log: Log,
    /// Reads ids in place in the log.
    pub(in crate::engine) ids: IdsInLog,
    pub(in crate::engine) blocks: Box<dyn BlockStore>,
    pub(in crate::engine) locators: LocatorFiles,
    pub(in crate::engine) time: TimeKeeper,
    pub(in crate::engine) health: Arc<Health>,
    pub(in crate::engine) manifest: Mutex<Manifest>,
    pub(in crate::engine) namespaces: Registry,
    pub(in crate::engine) counters: Counters,
    pub(in crate::engine) next_holder: AtomicU64,
    /// The sequence of the next row. Only grows, also over restarts: it orders rows, and fencing tokens are drawn
    /// from it.
    pub(in crate::engine) sequence: AtomicU64,
    /// A manifest on disk says that sequences below this one have been given. None is given before: the rows with the
    /// highest ones may be lost in a power cut, and a token drawn from one must not be given twice.
    pub(in crate::engine) sequences_reserved: AtomicU64,
    /// The first sequence that this opening gives. Rows below it were written by processes that are gone.
    pub(in crate::engine) first_sequence: u64,
    /// Commits whose rows are read in the order of their sequences.
    pub(in crate::engine) in_flight: InFlight,
    /// How many transactions are prepared and neither committed nor rolled back.
    pub(in crate::engine) prepared: AtomicU64,
    /// What families of rows keep in memory.
    pub(in crate::engine) families: Families,
    /// The rows that somebody waits for.
    pub(in crate::engine) watches: Arc<Watches>,
    /// Scans of rows that are under way.
    pub(in crate::engine) scans: Scans,
    /// Segments that snapshots read.
    pub(in crate::engine) copies: Copies,
    /// Whether compaction keeps up with those who overwrite rows.
    pub(in crate::engine) reclaim: Reclaim,
    /// The last flush failure, until an attempt succeeds.
    pub(in crate::engine) flush_failure: LastFailure,
    /// What recovery gave the others to call when a block is damaged.
    pub(in crate::engine) healer: Box<dyn Healer>,
    /// Keeps segments from being removed while the log is read to heal or verify.
    pub(in crate::engine) segment_gc_lock: RwLock<()>,
    /// Lets one thread at a time merge, sweep or verify runs.
    pub(in crate::engine) compaction_lock: Mutex<()>,
    pub(in crate::engine) signals: Signals,
    /// Wakes the futures whose wait has reached its deadline, and those who wait for the end of a lease.
    pub(in crate::engine) alarms: Timer,
    /// Renews leases. Not with `alarms`: a renewal may wait for the disk.
    pub(in crate::engine) renewals: Timer,
    /// Held while the store is open; released by `close`, so that another process may open it.
    pub(in crate::engine) lock: Mutex<Option<Box<dyn LockGuard>>>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Wakeup signals of the background jobs.
#[derive(Debug, Default)]
pub(in crate::engine) struct Signals {
    pub(in crate::engine) flush: Signal,
    pub(in crate::engine) maintain: Signal,
    /// Shared with the log, which raises it when there is work: a spare segment to create, a full one to sync.
    pub(in crate::engine) log: Arc<Signal>,
    pub(in crate::engine) sync: Signal,
}

/// The outcome of healing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Healed {
    /// The blocks of the run are in the block store again.
    ForGood,
    /// The block store took nothing: the requested block is in memory, as long as it fits there.
    InMemory,
}

/// Makes the damaged blocks of a run readable again. Recovery implements it; the other rooms only call it.
pub(in crate::engine) trait Healer: Debug + Send + Sync {
    fn heal(
        &self,
        core: &Core,
        run: &RunMeta,
        fault: &str,
        asked: Option<IdHash>,
    ) -> Result<Healed>;

    /// Returns the last failure to heal in the block store; `None` if an attempt has succeeded since.
    fn failure(&self) -> Option<Error>;

    /// Returns how often the block store was reopened.
    fn reopened(&self) -> u64;

    /// Reopens the block store, unless that was done since [`reopened`](Self::reopened) returned this number.
    fn reopen_since(&self, core: &Core, reopened: u64);
}

impl Core {
    /// Returns an error in a forked child, which must not touch anything of the store.
    pub(crate) fn check_home(&self) -> Result<()> {
        if self.health.is_home() { Ok(()) } else { Err(Error::Forked) }
    }

    #[inline]
    pub(in crate::engine) fn cell(&self, hash: IdHash) -> &ShardCell {
        &self.shards[hash.shard(self.shard_bits)]
    }

    /// Returns the key of an incoming id, unless the store has stopped. `digest` takes the hash of a long one.
    #[inline]
    pub(in crate::engine) fn key<'a>(
        &self,
        ns: NsId,
        id: &'a [u8],
        digest: &'a mut Option<Digest>,
    ) -> Result<Key<'a>> {
        *digest = self.settings.long_ids.digest(id);
        let key = Key::of(ns, id, digest.as_ref())?;
        self.health.check()?;
        Ok(key)
    }

    /// Returns the times by which it is judged now whether something has ended.
    pub(in crate::engine) fn horizon(&self) -> Horizon<'_> {
        self.horizon_at(self.time.now())
    }

    /// Returns the times by which it is judged whether something has ended at this time of the engine.
    pub(in crate::engine) fn horizon_at(&self, now: Timestamp) -> Horizon<'_> {
        Horizon::new(now, self.families.watermarks())
    }

    #[inline]
    pub(in crate::engine) fn hash(&self, key: Key<'_>) -> IdHash {
        self.hasher.hash(key)
    }

    #[inline]
    pub(in crate::engine) fn run_access(&self) -> RunAccess<'_> {
        let in_log = InLog { files: &self.locators, ids: &self.ids };
        RunAccess { store: &*self.blocks, seed: self.seed, in_log: Some(in_log) }
    }

    /// Reads a run from its beginning to its end.
    pub(in crate::engine) fn source<'a>(&'a self, run: &'a RunHandle) -> Source<'a> {
        let reader = RunReader::new(&*self.blocks, &run.meta, self.seed, self.hasher);
        Source::run(reader.with_locators(&self.locators, run.locators.as_deref()))
    }

    /// Makes the blocks of a run readable. The caller holds no lock and looks up again afterwards. `asked` is the id that
    /// met the damage, if one did.
    pub(in crate::engine) fn heal(
        &self,
        run: &RunMeta,
        fault: &str,
        asked: Option<IdHash>,
    ) -> Result<Healed> {
        self.healer.heal(self, run, fault, asked)
    }

    /// Starts a timer. Without a thread nothing would end a wait (I12).
    pub(in crate::engine) fn start<'a>(&self, timer: &'a Timer) -> Result<Started<'a>> {
        timer.start().map_err(|e| Error::io("start a thread for", &self.dir, e))
    }

    /// Wakes every waiter to check again: the store was closed or stopped, or flushing failed.
    pub(in crate::engine) fn wake_waiters(&self) {
        self.shards.iter().for_each(|cell| cell.wake());
        self.watches.tell_all();
        self.reclaim.wake();
        self.log.wake_futures();
    }

    /// Closes the store in order. The background threads have stopped.
    pub(crate) fn close(&self) -> Result<()> {
        // A folder that is gone is neither synced nor written to, and the caller gets that error.
        let checked = self.check_folder_now();
        let Some(lock) = self.lock.lock().take() else { return Ok(()) };
        let closed = checked.and_then(|()| self.health.check()).and_then(|()| {
            self.log.close()?;
            self.publish_manifest(|_| ())
        });
        self.health.close();
        self.wake_waiters();
        self.blocks.close();
        drop(lock);
        closed
    }
}
