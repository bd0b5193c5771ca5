//! Opening: identify the folder, take the lock, read the manifest, then the unflushed tail of the log. If the block
//! store is not the one that the manifest describes, or a filter can be neither read nor rebuilt, everything flushed is
//! rebuilt from the log (I10): only time is lost.

use crate::blocks::{BlockStore, Guarded, SledBlocks, SledFolder};
use crate::disk::{Disk, LockGuard};
use crate::engine::catalog::filters;
use crate::engine::catalog::layout::{
    Folder, LOCATORS_DIR, LOG_DIR, SLED_DIR, identify, lock, nothing_there,
};
use crate::engine::catalog::manifest::{FILE as MANIFEST, Manifest, ManifestBody};
use crate::engine::catalog::namespaces::Registry;
use crate::engine::catalog::run_builder::RunBuilder;
use crate::engine::core::{Core, Counters, LastFailure, Settings, ShardCell, Signals};
use crate::engine::recovery::heal::LogHealer;
use crate::error::{Error, Result};
use crate::filter::{Filter, FilterOwner};
use crate::health::Health;
use crate::id::{IdHasher, Seed};
use crate::limits;
use crate::run::{InLog, LocatorFiles, MergeScratch, RunAccess, RunMeta};
use crate::shard::{RunHandle, Shard};
use crate::sync::{Arc, CachePadded, Condvar, Mutex, RwLock};
use crate::time::{TimeKeeper, TimeMark, Timestamp, Ttl};
use crate::wal::{At, IdsInLog, Item, Log, LogConfig, Lsn, Recovered};
use std::io;
use std::path::{Path, PathBuf};

/// Opens a store, or creates a new one.
pub(in crate::engine) fn open(dir: &Path, settings: Settings) -> Result<Core> {
    settings.check()?;
    if dir.as_os_str().is_empty() {
        return Err(Error::invalid("an empty path: a store is a folder, and needs a name"));
    }
    // From here on, use the folder, not its path: another folder may take that name, or the path may come to mean
    // another place.
    let above = Arc::clone(&settings.disk);
    let mut settings = Settings { disk: hold(dir, &settings)?, ..settings };
    let folder = identify(dir, &*settings.disk)?;
    if folder == Folder::New && !settings.create {
        return Err(nothing_there(dir));
    }
    if folder == Folder::New {
        for dir in [LOG_DIR, filters::DIR, LOCATORS_DIR].map(|name| dir.join(name)) {
            settings.disk.create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
        }
    }
    let lock = lock(dir, &*settings.disk)?;
    settings.fit_segments(settings.disk.free_bytes(dir));
    // Somebody may have created or removed a store before we got the lock.
    let mut lock = Some(lock);
    if identify(dir, &*settings.disk)? == Folder::New {
        sync_above(dir, &*above)?;
        return Opening::create(dir, settings)?.finish(&mut lock);
    }
    let opened = Opening::load(dir, settings.clone(), false)?.finish(&mut lock);
    match opened {
        // A block needed to read the log is damaged, and healing needs an open store: rebuild everything.
        Err(Error::Io { doing: BLOCK_UNREADABLE, .. }) => {
            Opening::load(dir, settings, true)?.finish(&mut lock)
        }
        other => other,
    }
}

/// Holds the folder of the store, creating it if missing and allowed.
fn hold(dir: &Path, settings: &Settings) -> Result<Arc<dyn Disk>> {
    let held = match settings.disk.hold(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if !settings.create {
                return Err(nothing_there(dir));
            }
            settings.disk.create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
            settings.disk.hold(dir)
        }
        other => other,
    };
    held.map_err(|e| match e.kind() {
        io::ErrorKind::NotADirectory => {
            Error::NotAStore { path: dir.to_owned(), why: "it is a file".to_owned() }
        }
        _ => Error::io("open", dir, e),
    })
}

/// Syncs the parents of the folder, which must survive a power cut too: all of them, because existing ones may come
/// from a process that was killed before it could sync them.
fn sync_above(dir: &Path, disk: &dyn Disk) -> Result<()> {
    for parent in dir.ancestors().skip(1) {
        // The last ancestor of a relative path is empty: the current folder.
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match disk.sync_dir(parent) {
            // A file system that cannot sync folders returns `InvalidInput`.
            Err(e)
                if !matches!(
                    e.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
                ) =>
            {
                return Err(Error::io("sync", parent, e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads the filters of all runs.
fn load_filters(
    disk: &dyn Disk,
    dir: &Path,
    body: &ManifestBody,
    hasher: IdHasher,
) -> Vec<Option<Filter>> {
    let owner = |run: &RunMeta| FilterOwner { store: hasher.tag(), run: run.id };
    body.runs.iter().map(|run| filters::load(disk, dir, owner(run))).collect()
}

/// Runs two closures at once: opening sled and reading filters take about as long. The second result is `None` if it
/// panicked or no thread could be started.
fn beside<A, B: Send>(
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> B + Send,
) -> (A, Option<B>) {
    std::thread::scope(|scope| {
        let there = std::thread::Builder::new().spawn_scoped(scope, there);
        (here(), there.ok().and_then(|there| there.join().ok()))
    })
}

/// Marks the one replay error that rebuilding everything can fix.
const BLOCK_UNREADABLE: &str = "read a block in";

/// A store being opened.
struct Opening {
    dir: PathBuf,
    settings: Settings,
    body: ManifestBody,
    hasher: IdHasher,
    blocks: Box<dyn BlockStore>,
    /// Filters read while the block store was being opened, in the order of the runs.
    filters: Vec<Option<Filter>>,
    locators: LocatorFiles,
    ids: IdsInLog,
    shards: Vec<Shard>,
    /// Rebuild everything flushed.
    rebuild: bool,
    /// The manifest must be written before the store is used.
    changed: bool,
}

impl Opening {
    fn create(dir: &Path, settings: Settings) -> Result<Self> {
        let mut seed = [0; 16];
        match settings.seed {
            Some(given) => seed = given,
            None => getrandom::fill(&mut seed)
                .map_err(|e| Error::io("get randomness for", dir, io::Error::other(e)))?,
        }
        let shards = settings.shards.unwrap_or(limits::SHARDS_DEFAULT);
        let mut body = ManifestBody::new(Seed(seed), shards);
        body.time = Some(keeper(&settings, None).mark());
        let mut opening = Self::new(dir, settings, body, false)?;
        // The mark is set only after the first manifest is on disk, so this is no interrupted creation.
        if let Ok(Some(_)) = opening.blocks.mark() {
            let what = "the manifest and the log are missing, but there was a store here";
            return Err(Error::corrupt(&dir.join(MANIFEST), 0, what));
        }
        opening.blocks.reset()?;
        opening.changed = true;
        // Before the log: a log without a manifest counts as damage, and a crash in between must not look like it.
        let (disk, body) = (Arc::clone(&opening.settings.disk), opening.body.clone());
        Manifest::new(disk, dir, body).write()?;
        Ok(opening)
    }

    fn load(dir: &Path, settings: Settings, start_over: bool) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = settings.disk.read(&path).map_err(|e| Error::io("read", &path, e))?;
        let body = ManifestBody::decode(&path, &bytes)?;
        // The manifest's name may not be on disk yet if its writer was killed, and files will be removed on the
        // strength of it.
        settings.disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        let log = dir.join(LOG_DIR);
        settings.disk.create_dir_all(&log).map_err(|e| Error::io("create", &log, e))?;
        // If these cannot be created, filters are built at each opening, and sled is read.
        for shortcuts in [filters::DIR, LOCATORS_DIR].map(|name| dir.join(name)) {
            if let Err(error) = settings.disk.create_dir_all(&shortcuts) {
                tracing::warn!(%error, folder = %shortcuts.display(), "a folder cannot be made");
            }
        }
        let mut opening = Self::new(dir, settings, body, true)?;
        let stored = usize::from(opening.body.shards);
        let wanted = opening.settings.shards.unwrap_or(stored);
        let marked = opening.blocks.mark().unwrap_or(None).unwrap_or(0);
        let stale = marked < opening.body.epoch && !opening.body.runs.is_empty();
        if stale {
            tracing::warn!(
                marked,
                epoch = opening.body.epoch,
                "the sled folder is not ours any more"
            );
        }
        if start_over || stale || wanted != stored || !opening.load_runs() {
            opening.start_over(wanted)?;
        } else {
            // Remove the runs that a crash left unlisted.
            opening
                .blocks
                .remove_from(opening.body.next_run)
                .or_else(|_| opening.start_over(stored))?;
        }
        opening.remove_strays();
        opening.skip_run_ids()?;
        Ok(opening)
    }

    /// Moves on to run numbers that no earlier opening can have used. Runs that a crash left unlisted have numbers
    /// unknown to the manifest, and a power cut may bring back a removed filter or block of theirs, with a good
    /// checksum and the wrong ids (I2).
    fn skip_run_ids(&mut self) -> Result<()> {
        let mut gap = [0; 4];
        getrandom::fill(&mut gap)
            .map_err(|e| Error::io("get randomness for", &self.dir, io::Error::other(e)))?;
        self.body.next_run += u64::from(u32::from_le_bytes(gap));
        Ok(())
    }

    fn new(dir: &Path, settings: Settings, body: ManifestBody, is_strict: bool) -> Result<Self> {
        let hasher = IdHasher::new(body.seed);
        let sled = dir.join(SLED_DIR);
        let real = settings.disk.real_path(&sled).map_err(|e| Error::io("find", &sled, e))?;
        let (blocks, filters): (Box<dyn BlockStore>, _) = match real {
            Some(_) => {
                let folder = SledFolder::new(&settings.disk, sled, hasher.tag(), is_strict);
                let cache_bytes = settings.sled_cache_bytes();
                let filters = || load_filters(&*settings.disk, dir, &body, hasher);
                let (blocks, filters) =
                    beside(|| SledBlocks::open_in(folder, cache_bytes), filters);
                (Box::new(Guarded::new(blocks?)), filters.unwrap_or_default())
            }
            // Sequentially, so that a fault at the n-th call is the same in every run.
            None => {
                let memory = settings.block_memory.clone().unwrap_or_default();
                (Box::new(Guarded::new(memory.opened())), Vec::new())
            }
        };
        let count = usize::from(body.shards);
        let shards = empty_shards(hasher, &settings, count);
        let disk = || Arc::clone(&settings.disk);
        let locators = LocatorFiles::new(disk(), dir.join(LOCATORS_DIR), hasher.tag());
        let ids = IdsInLog::new(disk(), dir.join(LOG_DIR));
        let (dir, rebuild, changed) = (dir.to_owned(), false, false);
        Ok(Self {
            dir,
            settings,
            body,
            hasher,
            blocks,
            filters,
            locators,
            ids,
            shards,
            rebuild,
            changed,
        })
    }

    /// Gives every run its filter. Returns whether that was possible.
    fn load_runs(&mut self) -> bool {
        let mut read = std::mem::take(&mut self.filters).into_iter();
        for meta in &self.body.runs {
            let disk = &*self.settings.disk;
            let owner = FilterOwner { store: self.hasher.tag(), run: meta.id };
            let filter = read.next().flatten();
            let filter = match filter.or_else(|| filters::load(disk, &self.dir, owner)) {
                Some(filter) => filter,
                None => {
                    let built = filters::rebuild(&*self.blocks, meta, self.body.seed, self.hasher);
                    let Ok(filter) = built else { return false };
                    filters::save(disk, &self.dir, owner, &filter).ok();
                    filter
                }
            };
            let locators = self.locators.open(meta.id, meta.buckets).map(Arc::new);
            let run = RunHandle { meta: Arc::new(meta.clone()), filter, locators };
            let Some(shard) = self.shards.get_mut(usize::from(meta.shard)) else { return false };
            shard.runs.push(run);
        }
        true
    }

    /// Drops everything flushed; the log will be read from its beginning.
    fn start_over(&mut self, shards: usize) -> Result<()> {
        tracing::warn!("building everything flushed again from the log");
        self.blocks.reset()?;
        self.shards = empty_shards(self.hasher, &self.settings, shards);
        self.filters = Vec::new();
        self.rebuild = true;
        self.changed = true;
        Ok(())
    }

    fn remove_strays(&self) {
        let runs: &[RunMeta] = if self.rebuild { &[] } else { &self.body.runs };
        let filters: Vec<PathBuf> =
            runs.iter().map(|run| filters::path(&self.dir, run.id)).collect();
        let dir = self.dir.join(filters::DIR);
        for name in self.settings.disk.list(&dir).unwrap_or_default() {
            let path = dir.join(&name);
            if filters::is_ours(&name) && !filters.contains(&path) {
                self.settings.disk.remove(&path).ok();
            }
        }
        let paths: Vec<PathBuf> = runs.iter().map(|run| self.locators.path(run.id)).collect();
        self.locators.retain(|path| paths.iter().any(|kept| kept == path));
    }

    /// Replays the log and assembles the core.
    fn finish(mut self, lock: &mut Option<Box<dyn LockGuard>>) -> Result<Core> {
        let count = self.shards.len();
        let shard_bits = count.trailing_zeros();
        let registry = Registry::new(count, self.settings.ttl, self.settings.sliding);
        for meta in &self.body.namespaces {
            let ttl = if meta.ttl_ms == 0 { Ttl::FOREVER } else { Ttl::from_millis(meta.ttl_ms) };
            registry.restore(meta.id, &meta.name, ttl, meta.sliding);
        }
        let plan = self.body.plan();
        let plan = crate::wal::ReplayPlan { rescan: self.rebuild, ..plan };
        if self.rebuild {
            self.body.runs.clear();
            self.body.obsolete.clear();
            self.body.shards = count as u16;
            self.body.flushed = vec![Lsn::new(1, 0); count];
        }
        let health = Arc::new(Health::default());
        let signals = Signals::default();
        let config = LogConfig {
            disk: Arc::clone(&self.settings.disk),
            dir: self.dir.join(LOG_DIR),
            seed: self.body.seed,
            health: Arc::clone(&health),
            work: Arc::clone(&signals.log),
            segment_bytes: self.settings.segment_bytes,
        };
        let counters = Counters::default();
        let high = self.body.time.map_or(0, |mark| mark.high);
        let start = Timestamp::from_millis(high.max(self.settings.clock.wall().as_millis()));
        let mut replay = Replay {
            opening: &mut self,
            shard_bits,
            newest: high,
            ended_by: Timestamp::from_millis(high),
            records: 0,
            last: Lsn(0),
            full: Vec::new(),
        };
        let Recovered { log, cut_bytes } =
            Log::recover(config, plan, start, |at, item| replay.apply(at, item, &registry))?;
        let (newest, records) = (replay.newest, replay.records);
        if self.rebuild {
            // Compaction has removed segments from the log, so it cannot be read from its beginning again: flush
            // everything in it now.
            (0..count).try_for_each(|number| self.flush(number, log.end()))?;
        }
        counters.replayed_records.add(records);
        counters.cut_bytes.add(cut_bytes);
        counters.rebuilds.add(u64::from(self.rebuild));
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
        let resume = resume.or_else(|| behind.then(|| TimeMark::of_record(newest)));
        let time = keeper(&self.settings, resume);
        let cell = |shard| {
            CachePadded::new(ShardCell { shard: Mutex::new(shard), changed: Condvar::new() })
        };
        let manifest = Manifest::new(Arc::clone(&self.settings.disk), &self.dir, self.body);
        let core = Core {
            dir: self.dir,
            disk: Arc::clone(&self.settings.disk),
            seed: manifest.body.seed,
            hasher: self.hasher,
            shards: self.shards.into_iter().map(cell).collect(),
            shard_bits,
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
            flush_failure: LastFailure::default(),
            healer: Box::<LogHealer>::default(),
            compaction_lock: Mutex::default(),
            segment_gc_lock: RwLock::default(),
            signals,
            lock: Mutex::new(lock.take()),
            settings: self.settings,
        };
        if self.changed {
            core.publish_manifest(|_| ())?;
        }
        Ok(core)
    }
}

fn empty_shards(hasher: IdHasher, settings: &Settings, count: usize) -> Vec<Shard> {
    let (open, cache) = (settings.memtable_bytes(count), settings.block_cache_bytes(count));
    (0..count).map(|_| Shard::new(hasher, open, cache)).collect()
}

pub(super) fn keeper(settings: &Settings, resume: Option<TimeMark>) -> TimeKeeper {
    TimeKeeper::new(
        Arc::clone(&settings.clock),
        resume,
        settings.clock_jump_max.as_millis() as u64,
        settings.clock_settle.as_millis() as u64,
    )
}

/// Applies the log to the store being opened.
struct Replay<'a> {
    opening: &'a mut Opening,
    shard_bits: u32,
    /// The highest time in any record: the engine's time does not start before it (I5).
    newest: u64,
    /// The engine's time when the manifest was written: anything swept had expired by then.
    ended_by: Timestamp,
    records: u64,
    /// The end of the record being read.
    last: Lsn,
    /// Shards whose memtable is full.
    full: Vec<usize>,
}

impl Replay<'_> {
    fn apply(&mut self, at: At, item: Item<'_>, registry: &Registry) -> Result<()> {
        self.record_begins(at.record)?;
        self.records += 1;
        let (key, version) = match item {
            Item::Version(key, version) => (key, version),
            Item::Namespace(record) => {
                let name = String::from_utf8_lossy(record.name);
                registry.restore(record.ns, &name, record.ttl, record.sliding);
                self.opening.changed = true;
                return Ok(());
            }
        };
        self.newest = self.newest.max(version.first_seen.as_millis());
        let hash = self.opening.hasher.hash(key);
        let number = hash.shard(self.shard_bits);
        if at.record <= self.opening.body.flushed[number] {
            return Ok(()); // already in a run
        }
        // Skip spent records: they were left out of runs and swept from them. Replaying one could hide a claim that was
        // imported after that with an earlier first-seen time.
        if version.is_spent(self.ended_by) {
            return Ok(());
        }
        let opening = &mut *self.opening;
        let access = RunAccess {
            store: &*opening.blocks,
            seed: opening.body.seed,
            in_log: Some(InLog { files: &opening.locators, ids: &opening.ids }),
        };
        let shard = &mut opening.shards[number];
        shard.apply(key, hash, version, at.item, access).map_err(|fault| {
            let (path, source) = (opening.dir.join(SLED_DIR), io::Error::other(fault));
            Error::Io { doing: BLOCK_UNREADABLE, path, source }
        })?;
        if shard.memtable.is_full_for(0, 0) && !self.full.contains(&number) {
            self.full.push(number);
        }
        Ok(())
    }

    /// Flushes full shards, only between two records: a batch is many items at one location, and a run flushed up to
    /// that location must hold all of them.
    fn record_begins(&mut self, lsn: Lsn) -> Result<()> {
        if lsn == self.last {
            return Ok(());
        }
        for number in std::mem::take(&mut self.full) {
            self.opening.flush(number, self.last)?;
        }
        self.last = lsn;
        Ok(())
    }
}

impl Opening {
    /// Flushes a shard during replay, when the tail does not fit in memory, as when everything is rebuilt. The manifest
    /// lists these runs before the store is used; a crash before that makes them strays.
    fn flush(&mut self, number: usize, lsn: Lsn) -> Result<()> {
        let opening = self;
        let builder = RunBuilder {
            blocks: &*opening.blocks,
            seed: opening.body.seed,
            hasher: opening.hasher,
            disk: &*opening.settings.disk,
            dir: &opening.dir,
            locators: &opening.locators,
            locator_ids_min: opening.settings.locator_ids_min,
            keep_bytes: 0,
        };
        let shard = &mut opening.shards[number];
        shard.freeze(lsn);
        let Some(frozen) = shard.frozen.clone() else { return Ok(()) };
        // Not the wall clock, which has not been checked yet. At worst, slightly less has expired by this time.
        let now = Timestamp::from_millis(opening.body.time.map_or(0, |mark| mark.high));
        let next_run = &mut opening.body.next_run;
        let runs = builder.flush_memtable(
            number,
            &frozen.set,
            now,
            &mut MergeScratch::default(),
            |_| {
                *next_run += 1;
                *next_run - 1
            },
        )?;
        let runs: Vec<RunHandle> = runs.into_iter().map(|built| built.run).collect();
        opening.body.runs.extend(runs.iter().map(|run| (*run.meta).clone()));
        opening.body.flushed[number] = lsn;
        opening.changed = true;
        shard.flushed(runs);
        Ok(())
    }
}
