//! How a store is opened.

#[cfg(feature = "testing")]
use crate::blocks::MemoryBlocks;
use crate::disk::Disk;
use crate::engine::{self, Durability, Inspector, LongIds, RepairReport, Settings};
use crate::error::Result;
use crate::snapshot::{RestoreOptions, RestoreReport, SnapshotTarget};
use crate::store::handle::{Store, check_process};
use crate::store::read_only::ReadOnly;
use crate::sync::Arc;
use crate::time::{Clock, Ttl};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings for opening a store. [`open`](Self::open) checks their bounds.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `open` is called"]
pub struct Builder {
    path: PathBuf,
    settings: Settings,
}

impl Builder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), settings: Settings::default() }
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Sets how long new claims live: [`days(7)`](crate::days), a [`Duration`], or [`Ttl::FOREVER`], the default.
    /// Existing claims keep their end.
    pub fn ttl(self, ttl: impl Into<Ttl>) -> Self {
        let ttl = ttl.into();
        self.set(|s| s.ttl = ttl)
    }

    /// Sets whether a duplicate moves the end of the claim to a full ttl from then. Off by default, because a steady
    /// trickle of duplicates would keep an id forever. When on, every duplicate writes a record.
    pub fn sliding(self, sliding: bool) -> Self {
        self.set(|s| s.sliding = sliding)
    }

    /// Sets what a returned answer guarantees. [`Durability::Process`] by default.
    pub fn durability(self, durability: Durability) -> Self {
        self.set(|s| s.durability = durability)
    }

    /// Sets the number of shards, a power of two up to 256. By default, a new store has four for each processor, but 8 at
    /// least and 64 at most. An existing store keeps its number; if another one is set, it is rebuilt from its log, which
    /// takes time.
    pub fn shards(self, shards: usize) -> Self {
        self.set(|s| s.shards = Some(shards))
    }

    /// Sets the memory in bytes for unflushed ids and for blocks cached for later duplicates; 256 MiB by default, 4
    /// MiB at least. Nothing is allocated before it is used.
    ///
    /// This does not bound the process's memory. Not included are filters, 2.5 bytes for each flushed id; what sled
    /// keeps beyond its share and what flushing, merging and the allocator need, some 60 to 80 MB with a small budget
    /// and more with many ids; and mapped pages of the log, which the operating system can reclaim.
    pub fn memory_budget(self, bytes: usize) -> Self {
        self.set(|s| s.memory_budget = bytes)
    }

    /// Sets how much time of claims at [`Durability::Buffered`] may be lost when the process dies; 100 ms by default.
    pub fn flush_interval(self, interval: Duration) -> Self {
        self.set(|s| s.flush_interval = interval)
    }

    /// Sets how long a call waits for another caller's reservation or for memory before it fails with
    /// [`Retry`](crate::ErrorKind::Retry); 30 s by default. [`ClaimOptions::wait`](crate::ClaimOptions::wait)
    /// overrides it for one call. If memory is full because flushing fails, the call returns that error, and sooner.
    pub fn wait_max(self, wait: Duration) -> Self {
        self.set(|s| s.wait_max = wait)
    }

    /// Sets how far the wall clock may jump forward and be trusted at once, in one step or in several within a day;
    /// one hour by default. A greater jump is followed after [`clock_settle`](Self::clock_settle), if the clock stays
    /// there (I5). Until then new deadlines count from the later of the two times.
    pub fn clock_jump_max(self, jump: Duration) -> Self {
        self.set(|s| s.clock_jump_max = jump)
    }

    /// Sets how long a clock that has jumped must stay there before it is followed; 60 s by default.
    pub fn clock_settle(self, settle: Duration) -> Self {
        self.set(|s| s.clock_settle = settle)
    }

    /// Sets the clock. The system clock by default; tests use a [`ManualClock`](crate::ManualClock).
    pub fn clock(self, clock: impl Clock + 'static) -> Self {
        self.set(|s| s.clock = Arc::new(clock))
    }

    /// Sets the disk. The real one by default; tests use the simulated one of the feature `testing`, which can lose and
    /// tear writes.
    pub fn disk(self, disk: impl Disk + 'static) -> Self {
        self.set(|s| s.disk = Arc::new(disk))
    }

    /// Sets whether a missing store is created. On by default; when off, a missing store is an error.
    pub fn create(self, create: bool) -> Self {
        self.set(|s| s.create = create)
    }

    /// Sets whether ids longer than [`ID_BYTES_MAX`](crate::limits::ID_BYTES_MAX) (1,024 bytes) are accepted. Off by
    /// default: such ids are rejected.
    ///
    /// When on, the store keeps the BLAKE3 hash (256 bits) of a long id instead, separate from all ids stored as they
    /// are. This is the one case in which ids are not compared byte for byte: two long ids with the same hash would
    /// be one id. Nobody knows how to find two. Ids in a batch may then have any length; only their hashes count
    /// towards its bytes. When the store is opened without this setting, claims of long ids are kept but cannot be
    /// queried.
    pub fn hash_long_ids(self, hash: bool) -> Self {
        let long_ids = if hash { LongIds::Hashed } else { LongIds::Refused };
        self.set(|s| s.long_ids = long_ids)
    }

    /// Opens the store, creating it if it is missing.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], and [`FixCall`](crate::ErrorKind::FixCall) for a setting out of bounds.
    pub fn open(self) -> Result<Store> {
        Store::start(&self.path, self.settings)
    }

    /// Opens the store read-only: nothing is written to its folder, so it may be on a read-only mount or belong to
    /// another user. Settings about claims have no effect.
    ///
    /// # Errors
    ///
    /// [`Locked`](crate::ErrorKind::Locked) while another process has it open for writing, as far as the lock can be
    /// read; otherwise as [`Store::open`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("seen.db");
    /// # let store = firstseen::Store::open(&path)?;
    /// # assert!(store.claim("evt-1")?.is_first_seen());
    /// # store.close()?;
    /// let store = firstseen::Store::builder(&path).open_read_only()?;
    /// assert!(store.get("default", "evt-1")?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_read_only(self) -> Result<ReadOnly> {
        Ok(ReadOnly::new(Inspector::open(&self.path, self.settings)?))
    }

    /// Restores a snapshot into the folder; see [`Store::restore`]. Of the settings only the disk matters.
    ///
    /// # Errors
    ///
    /// As [`Store::restore_with`].
    pub fn restore(
        self,
        target: &dyn SnapshotTarget,
        options: RestoreOptions,
    ) -> Result<RestoreReport> {
        engine::restore(&self.path, &self.settings, target, options)
    }

    /// Repairs the store; see [`Store::repair`].
    ///
    /// # Errors
    ///
    /// As [`Store::repair`].
    pub fn repair(self) -> Result<RepairReport> {
        check_process(&self.path, &self.settings)?;
        engine::repair(&self.path, &self.settings)
    }
}

/// For tests of this crate.
#[cfg(feature = "testing")]
#[doc(hidden)]
impl Builder {
    /// Sets the size of log segments in bytes. Small ones fill up often.
    pub fn segment_bytes(self, bytes: u32) -> Self {
        self.set(|s| s.segment_bytes = bytes)
    }

    /// Sets the seed of a new store, instead of a random one.
    pub fn seed(self, seed: [u8; 16]) -> Self {
        self.set(|s| s.seed = Some(seed))
    }

    /// Turns background threads off; [`Store::run_background`] then does their work.
    pub fn background(self, background: bool) -> Self {
        self.set(|s| s.background = background)
    }

    /// Sets the bound of one memtable in bytes. Small ones are flushed often.
    pub fn memtable_bytes(self, bytes: usize) -> Self {
        self.set(|s| s.memtable_bytes = Some(bytes))
    }

    /// Writes the format after that of this release, and upgrades a store to it.
    pub fn next_format(self) -> Self {
        self.set(|s| s.format = crate::engine::Format::NEXT)
    }

    /// Lets single claims go into lanes of the log, also where no thread waits for another.
    pub fn lanes_always(self, always: bool) -> Self {
        use crate::engine::UseLanes;
        let when = if always { UseLanes::InTurn } else { UseLanes::WhereThreadsMeet };
        self.set(|s| s.use_lanes = when)
    }

    /// Sets the smallest number of ids for which a run gets a locator file.
    pub fn locator_ids_min(self, ids: u64) -> Self {
        self.set(|s| s.locator_ids_min = ids)
    }

    /// Sets the blocks that replace the sled folder on a simulated disk.
    pub fn block_memory(self, blocks: &MemoryBlocks) -> Self {
        let blocks = blocks.clone();
        self.set(|s| s.block_memory = Some(blocks))
    }
}
