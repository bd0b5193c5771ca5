//! Assembling the core of a store being opened.

use crate::disk::LockGuard;
use crate::engine::catalog::layout::LOG_DIR;
use crate::engine::catalog::manifest::Manifest;
use crate::engine::catalog::namespaces::Registry;
use crate::engine::core::{
    Copies, Core, Counters, Families, Format, InFlight, LastFailure, Reclaim, Scans, Settings,
    ShardCell, Signals,
};
use crate::engine::recovery::heal::LogHealer;
use crate::engine::recovery::opening::{Failed, Opening, keeper};
use crate::engine::recovery::replay::Replayed;
use crate::health::Health;
use crate::sync::{Arc, AtomicU64, CachePadded, Mutex, RwLock, Timer};
use crate::time::TimeMark;
use crate::wal::LogConfig;

impl Opening {
    /// Replays the log and assembles the core.
    pub(super) fn finish(mut self, lock: &mut Option<Box<dyn LockGuard>>) -> Result<Core, Failed> {
        let count = self.shards.len();
        let registry = self.registry();
        let health = Arc::new(Health::default());
        let signals = Signals::default();
        let Format { manifest: manifest_version, segment: segment_version } = self.settings.format;
        let config = LogConfig {
            disk: Arc::clone(&self.settings.disk),
            dir: self.dir.join(LOG_DIR),
            seed: self.body.seed,
            health: Arc::clone(&health),
            work: Arc::clone(&signals.log),
            segment_bytes: self.settings.segment_bytes,
            segment_version: self.segment_version,
            lanes: self.settings.use_lanes,
        };
        let Replayed { log, cut_bytes, newest, records, sequence, watermarks } =
            self.replay(config, &registry)?;
        let reserved = self.body.sequence;
        let counters = Counters::default();
        counters.replayed_records.add(records);
        counters.cut_bytes.add(cut_bytes);
        counters.rebuilds.add(u64::from(self.rebuild));
        let time = keeper(&self.settings, self.resume(newest));
        let cell = |(number, shard)| CachePadded::new(ShardCell::new(number, shard));
        let manifest =
            Manifest::new(Arc::clone(&self.settings.disk), &self.dir, manifest_version, self.body);
        let mut core = Core {
            dir: self.dir,
            disk: Arc::clone(&self.settings.disk),
            seed: manifest.body.seed,
            hasher: self.hasher,
            shards: self.shards.into_iter().enumerate().map(cell).collect(),
            shard_bits: count.trailing_zeros(),
            log,
            ids: self.ids,
            blocks: self.blocks,
            locators: self.locators,
            time,
            health,
            manifest: Mutex::new(manifest),
            namespaces: registry,
            counters,
            next_holder: 1.into(),
            sequence: sequence.into(),
            sequences_reserved: reserved.into(),
            first_sequence: sequence,
            families: Families::new(watermarks),
            in_flight: InFlight::default(),
            scans: Scans::default(),
            copies: Copies::default(),
            prepared: AtomicU64::default(),
            watches: Arc::default(),
            reclaim: Reclaim::default(),
            flush_failure: LastFailure::default(),
            healer: Box::<LogHealer>::default(),
            compaction_lock: Mutex::default(),
            segment_gc_lock: RwLock::default(),
            signals,
            alarms: Timer::new(c"firstseen-timer"),
            renewals: Timer::new(c"firstseen-lease"),
            lock: Mutex::new(lock.take()),
            settings: self.settings,
        };
        if self.changed {
            core.publish_manifest(|_| ())?;
        }
        core.log.set_segment_version(segment_version);
        Ok(core)
    }

    /// Returns the namespaces of the manifest.
    fn registry(&self) -> Registry {
        let Settings { ttl, sliding, .. } = self.settings;
        let registry = Registry::new(self.shards.len(), ttl, sliding);
        self.body.namespaces.iter().for_each(|meta| registry.restore_meta(meta));
        registry
    }

    /// Returns the mark from which time goes on, if the manifest or the newest record has one.
    fn resume(&self, newest: u64) -> Option<TimeMark> {
        // The time until the newest record has passed on both clocks; otherwise it would count twice.
        let resume = self.body.time.map(|mark| {
            let ahead = newest.saturating_sub(mark.high);
            TimeMark {
                high: mark.high + ahead,
                elapsed: mark.elapsed.saturating_add(ahead),
                ..mark
            }
        });
        // After a repair without a manifest, only the records show that a clock is behind.
        let behind = newest > self.settings.clock.wall().as_millis();
        resume.or_else(|| behind.then(|| TimeMark::of_record(newest)))
    }
}
