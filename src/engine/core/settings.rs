//! Settings: plain, checkable values, plus the components (disk, clock) that come with them.

use crate::blocks::MemoryBlocks;
use crate::disk::{Disk, RealDisk};
use crate::engine::catalog::manifest;
use crate::engine::core::durability::Durability;
use crate::error::{Error, Result};
use crate::id::LongIds;
use crate::limits;
use crate::sync::Arc;
use crate::time::{Clock, SystemClock, Ttl};
use crate::wal::{self, UseLanes};
use std::num::NonZero;
use std::time::Duration;

/// The versions of manifest and segments to write. What is of an older version is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) manifest: u16,
    pub(crate) segment: u16,
}

impl Format {
    pub(crate) const CURRENT: Self = Self { manifest: manifest::VERSION, segment: wal::VERSION };

    /// The format after that of this release, which exists in tests only.
    #[cfg(feature = "testing")]
    pub(crate) const NEXT: Self = Self { manifest: manifest::NEXT, segment: wal::NEXT_VERSION };
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) ttl: Ttl,
    pub(crate) sliding: bool,
    pub(crate) durability: Durability,
    /// `None`: as stored, or the default for a new store.
    pub(crate) shards: Option<usize>,
    pub(crate) memory_budget: usize,
    pub(crate) flush_interval: Duration,
    pub(crate) wait_max: Duration,
    pub(crate) clock_jump_max: Duration,
    pub(crate) clock_settle: Duration,
    pub(crate) create: bool,
    pub(crate) long_ids: LongIds,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disk: Arc<dyn Disk>,
    /// For tests: small segments roll often.
    pub(crate) segment_bytes: u32,
    /// For tests: a fixed seed, so that hashes are the same in every run.
    pub(crate) seed: Option<[u8; 16]>,
    /// For tests: `false` starts no background work; the test runs it.
    pub(crate) background: bool,
    /// For tests: the bound of one memtable, instead of its share of the memory budget.
    pub(crate) memtable_bytes: Option<usize>,
    /// For tests: runs with fewer ids get no locator file.
    pub(crate) locator_ids_min: u64,
    /// For tests: single claims go into lanes, also where no thread waits for another.
    pub(crate) use_lanes: UseLanes,
    /// For tests: another format than that of this release.
    pub(crate) format: Format,
    /// For tests on a simulated disk: blocks that outlive the store.
    pub(crate) block_memory: Option<MemoryBlocks>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Ttl::FOREVER,
            sliding: false,
            durability: Durability::Process,
            shards: None,
            memory_budget: limits::MEMORY_BUDGET_DEFAULT,
            flush_interval: Duration::from_millis(100),
            wait_max: Duration::from_millis(limits::WAIT_MS_DEFAULT),
            clock_jump_max: Duration::from_secs(3600),
            clock_settle: Duration::from_secs(60),
            create: true,
            long_ids: LongIds::Refused,
            clock: Arc::new(SystemClock),
            disk: Arc::new(RealDisk::default()),
            segment_bytes: limits::SEGMENT_BYTES,
            seed: None,
            background: true,
            memtable_bytes: None,
            locator_ids_min: limits::LOCATOR_IDS_MIN,
            use_lanes: UseLanes::default(),
            format: Format::CURRENT,
            block_memory: None,
        }
    }
}

impl Settings {
    /// Returns the version of the segments beside a manifest of this version. A release that reads the one reads the
    /// other.
    pub(crate) fn segments_beside(&self, manifest: u16) -> u16 {
        // There is only one older version.
        if manifest < self.format.manifest { wal::VERSION } else { self.format.segment }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.ttl.check()?;
        if let Some(shards) = self.shards
            && !(shards.is_power_of_two() && shards <= limits::SHARDS_MAX)
        {
            return Err(Error::invalid(format!(
                "the number of shards must be a power of two from 1 to {}, not {shards}",
                limits::SHARDS_MAX
            )));
        }
        if self.memory_budget < limits::MEMORY_BUDGET_MIN {
            return Err(Error::invalid(format!(
                "the memory budget must be at least {} MiB, not {} bytes",
                limits::MEMORY_BUDGET_MIN >> 20,
                self.memory_budget
            )));
        }
        if self.flush_interval.is_zero() {
            return Err(Error::invalid(
                "a flush interval of zero: use Durability::Process instead",
            ));
        }
        Ok(())
    }

    /// Picks smaller segments if the disk is small or nearly full, unless a size was set.
    pub(crate) fn fit_segments(&mut self, free: Option<u64>) {
        if let Some(free) = free
            && self.segment_bytes == limits::SEGMENT_BYTES
        {
            let part = u32::try_from(free / limits::SEGMENT_PART).unwrap_or(u32::MAX);
            let fitting = 1_u32 << part.max(1).ilog2();
            self.segment_bytes = fitting.clamp(limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES);
        }
    }

    /// Returns the number of shards of a store that is created.
    pub(crate) fn shards_of_new(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        self.shards.unwrap_or_else(|| limits::shards_default(processors))
    }

    /// Returns the bytes of one shard's memtable. A shard may have two, one filling and one being flushed; all together
    /// get three tenths of the budget.
    pub(crate) fn memtable_bytes(&self, shards: usize) -> usize {
        let fair = (self.memory_budget / 20 * 3 / shards).clamp(32 << 10, 2 << 30);
        self.memtable_bytes.unwrap_or(fair)
    }

    /// Returns the bytes of one shard's block cache; all together get half the budget. It saves more than sled's own
    /// cache: a hit spares sled the reading of sixteen blocks for one.
    pub(crate) fn block_cache_bytes(&self, shards: usize) -> usize {
        self.memory_budget / 2 / shards
    }

    /// Returns sled's cache capacity. sled runs well past it, so it gets a twentieth. The rest of the budget goes to
    /// the mapped segments of the log and to flush and merge buffers.
    pub(crate) fn sled_cache_bytes(&self) -> u64 {
        self.memory_budget as u64 / 20
    }

    /// Returns how many segments may hold unflushed records before they are flushed to keep opening fast.
    pub(crate) fn replay_segments_max(&self) -> u32 {
        let segments = self.memory_budget as u64 / u64::from(self.segment_bytes);
        u32::try_from(segments).unwrap_or(u32::MAX).max(4)
    }

    /// Returns how many entries healing collects in one pass over the log.
    pub(crate) fn heal_ids_max(&self) -> u64 {
        (self.memory_budget as u64 / 64).max(1 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_fit_what_is_free_and_a_size_that_was_asked_for_stays() {
        let of = |free| {
            let mut settings = Settings::default();
            settings.fit_segments(free);
            settings.segment_bytes
        };
        assert_eq!(of(None), 16 << 20);
        assert_eq!(of(Some(u64::MAX)), 16 << 20);
        assert_eq!(of(Some(128 << 20)), 16 << 20);
        assert_eq!(of(Some((128 << 20) - 1)), 8 << 20);
        assert_eq!(of(Some(12 << 20)), 1 << 20);
        assert_eq!(of(Some(0)), 1 << 20);
        let mut asked = Settings { segment_bytes: 2 << 20, ..Settings::default() };
        asked.fit_segments(Some(0));
        assert_eq!(asked.segment_bytes, 2 << 20);
    }
}
