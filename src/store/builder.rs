//! How a store is opened.

use crate::blocks::MemoryBlocks;
use crate::disk::Disk;
use crate::engine::{self, Durability, Inspector, LongIds, RepairReport, Settings};
use crate::error::Result;
use crate::store::{ReadOnly, Store};
use crate::sync::Arc;
use crate::time::{Clock, Ttl};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings of a store that is about to be opened. Numbers are checked by [`open`](Self::open).
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

    /// How long claims live from now on: [`days(7)`](crate::days), a [`Duration`], or [`Ttl::FOREVER`],
    /// the default. Every claim keeps the end that it was given.
    pub fn ttl(self, ttl: impl Into<Ttl>) -> Self {
        let ttl = ttl.into();
        self.set(|s| s.ttl = ttl)
    }

    /// Whether a duplicate moves the end of the claim to a full ttl from then. Off by default: a steady
    /// trickle of duplicates would keep an id for ever. When on, every duplicate writes a record.
    pub fn sliding(self, sliding: bool) -> Self {
        self.set(|s| s.sliding = sliding)
    }

    /// What an answer promises when it is heard. [`Durability::Process`] by default.
    pub fn durability(self, durability: Durability) -> Self {
        self.set(|s| s.durability = durability)
    }

    /// Number of shards, a power of two up to 256; 8 for a new store. An existing store that has another
    /// number is built again from its log, which takes time.
    pub fn shards(self, shards: usize) -> Self {
        self.set(|s| s.shards = Some(shards))
    }

    /// Bytes of memory for unflushed ids and for blocks that are kept for the next duplicate; 256 MiB by default, 4 MiB at
    /// least. Nothing of it is taken before it is used.
    ///
    /// It is no bound on what the process takes. On top come filters, 2.5 bytes for each flushed id; what sled keeps beyond
    /// its share and what flushing, merging and the allocator need, some 60 to 80 MB with a small budget and more with many ids;
    /// and pages of the log that are mapped, which the system can take back.
    pub fn memory_budget(self, bytes: usize) -> Self {
        self.set(|s| s.memory_budget = bytes)
    }

    /// How much time of claims at [`Durability::Buffered`] may be lost when the process dies; 100 ms by
    /// default.
    pub fn flush_interval(self, interval: Duration) -> Self {
        self.set(|s| s.flush_interval = interval)
    }

    /// How long a call waits for a reservation of somebody else or for room in memory before it says
    /// [`Retry`](crate::ErrorKind::Retry); 30 s by default. [`ClaimOptions::wait`](crate::ClaimOptions::wait) sets it
    /// for one call. Where there is no room because the background cannot write, the call says why, and sooner.
    pub fn wait_max(self, wait: Duration) -> Self {
        self.set(|s| s.wait_max = wait)
    }

    /// How far the wall clock may jump forward and be believed at once, in one step or in several within a
    /// day; one hour by default. A greater jump is followed after [`clock_settle`](Self::clock_settle), if the
    /// clock stays there (I5). Until then new deadlines count from the later of the two times.
    pub fn clock_jump_max(self, jump: Duration) -> Self {
        self.set(|s| s.clock_jump_max = jump)
    }

    /// How long a clock that has jumped must stay where it is before it is followed; 60 s by default.
    pub fn clock_settle(self, settle: Duration) -> Self {
        self.set(|s| s.clock_settle = settle)
    }

    /// Where the time comes from. The system's clock by default; a test gives a
    /// [`ManualClock`](crate::ManualClock).
    pub fn clock(self, clock: impl Clock + 'static) -> Self {
        self.set(|s| s.clock = Arc::new(clock))
    }

    /// Where the files are. The real disk by default; a test gives a
    /// [`SimDisk`](crate::disk::sim::SimDisk), which can lose and tear writes.
    pub fn disk(self, disk: impl Disk + 'static) -> Self {
        self.set(|s| s.disk = Arc::new(disk))
    }

    /// Whether a store is made where there is none. On by default; when off, that is an error.
    pub fn create(self, create: bool) -> Self {
        self.set(|s| s.create = create)
    }

    /// Whether ids above [`ID_BYTES_MAX`](crate::limits::ID_BYTES_MAX) (1,024 bytes) are taken, too. Off by default: such
    /// an id is refused.
    ///
    /// When on, the store keeps the BLAKE3 hash (256 bits) of a long id in its place, apart from all ids that are stored
    /// as they are. This is the one place where ids are not compared byte for byte: two long ids with the same hash
    /// would be one. Nobody knows how to find two. A batch may be given ids of any length; their hashes count towards its
    /// bytes. Claims of long ids stay when a store is opened without this, but cannot be asked for.
    pub fn hash_long_ids(self, hash: bool) -> Self {
        let long_ids = if hash { LongIds::Hashed } else { LongIds::Refused };
        self.set(|s| s.long_ids = long_ids)
    }

    /// For tests: the size of log segments in bytes. Small ones are full often.
    #[doc(hidden)]
    pub fn segment_bytes(self, bytes: u32) -> Self {
        self.set(|s| s.segment_bytes = bytes)
    }

    /// For tests: the seed of a new store, instead of a random one.
    #[doc(hidden)]
    pub fn seed(self, seed: [u8; 16]) -> Self {
        self.set(|s| s.seed = Some(seed))
    }

    /// For tests: no background threads; [`Store::run_background`] does their work when it is called.
    #[doc(hidden)]
    pub fn background(self, background: bool) -> Self {
        self.set(|s| s.background = background)
    }

    /// For tests: the bound of one memtable in bytes. Small ones are flushed often.
    #[doc(hidden)]
    pub fn memtable_bytes(self, bytes: usize) -> Self {
        self.set(|s| s.memtable_bytes = Some(bytes))
    }

    /// For tests: the ids from which a run gets a locator file on.
    #[doc(hidden)]
    pub fn locator_ids_min(self, ids: u64) -> Self {
        self.set(|s| s.locator_ids_min = ids)
    }

    /// For tests on a simulated disk: the blocks that stand for the sled folder.
    #[doc(hidden)]
    pub fn block_memory(self, blocks: &MemoryBlocks) -> Self {
        let blocks = blocks.clone();
        self.set(|s| s.block_memory = Some(blocks))
    }

    /// Opens the store, or makes a new one.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], and [`FixCall`](crate::ErrorKind::FixCall) for a setting out of bounds.
    pub fn open(self) -> Result<Store> {
        Store::start(&self.path, self.settings)
    }

    /// Opens the store to read it only: nothing is written to its folder, so it may be on a read-only mount or belong
    /// to another user. Settings that are about claims mean nothing here.
    ///
    /// # Errors
    ///
    /// [`Locked`](crate::ErrorKind::Locked) while somebody has it open to write, as far as the lock can be read;
    /// otherwise as [`Store::open`].
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

    /// Repairs the store; see [`Store::repair`].
    ///
    /// # Errors
    ///
    /// As [`Store::repair`].
    pub fn repair(self) -> Result<RepairReport> {
        super::check_process(&self.path, &self.settings)?;
        engine::repair(&self.path, &self.settings)
    }
}
