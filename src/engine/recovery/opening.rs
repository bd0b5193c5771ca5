//! A store being opened: the manifest, the block store and the filters, before the log is replayed into it.

use crate::blocks::{BlockStore, Guarded, SledBlocks, SledFolder};
use crate::disk::Disk;
use crate::engine::catalog::filters;
use crate::engine::catalog::layout::{LOCATORS_DIR, LOG_DIR, SLED_DIR};
use crate::engine::catalog::manifest::{FILE as MANIFEST, Manifest, ManifestBody};
use crate::engine::core::{Format, Settings};
use crate::error::{Error, Result};
use crate::filter::{Filter, FilterOwner};
use crate::id::{IdHasher, Seed};
use crate::run::{LocatorFiles, RunMeta};
use crate::shard::{RunHandle, Shard};
use crate::sync::Arc;
use crate::time::{TimeKeeper, TimeMark};
use crate::wal::{self, IdsInLog};
use std::io;
use std::path::{Path, PathBuf};

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

/// Why opening failed.
pub(super) enum Failed {
    /// A block needed to read the log is damaged: rebuilding everything can fix that.
    Block(Error),
    Other(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Block(error) | Failed::Other(error) => error,
        }
    }
}

/// A store being opened.
pub(super) struct Opening {
    pub(super) dir: PathBuf,
    pub(super) settings: Settings,
    pub(super) body: ManifestBody,
    pub(super) hasher: IdHasher,
    pub(super) blocks: Box<dyn BlockStore>,
    /// Filters read while the block store was being opened, in the order of the runs.
    pub(super) filters: Vec<Option<Filter>>,
    pub(super) locators: LocatorFiles,
    pub(super) ids: IdsInLog,
    pub(super) shards: Vec<Shard>,
    /// Rebuild everything flushed.
    pub(super) rebuild: bool,
    /// The manifest must be written before the store is used.
    pub(super) changed: bool,
    /// The version of segments made before that.
    pub(super) segment_version: u16,
}

impl Opening {
    pub(super) fn create(dir: &Path, settings: Settings) -> Result<Self> {
        let mut seed = [0; 16];
        match settings.seed {
            Some(given) => seed = given,
            None => getrandom::fill(&mut seed)
                .map_err(|e| Error::io("get randomness for", dir, io::Error::other(e)))?,
        }
        let shards = settings.shards_of_new();
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
        let version = opening.settings.format.manifest;
        let (disk, body) = (Arc::clone(&opening.settings.disk), opening.body.clone());
        Manifest::new(disk, dir, version, body).write()?;
        Ok(opening)
    }

    pub(super) fn load(dir: &Path, settings: Settings, start_over: bool) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = settings.disk.read(&path).map_err(|e| Error::io("read", &path, e))?;
        let Format { manifest: newest, segment: newest_segments } = settings.format;
        let (version, body) = ManifestBody::decode(&path, newest, &bytes)?;
        let log = dir.join(LOG_DIR);
        // Before anything is changed: the log is the truth, and this release may not be able to read it.
        let versions = wal::check_headers(&*settings.disk, &log, newest_segments, Some(body.seed))?;
        // The manifest's name may not be on disk yet if its writer was killed, and files will be removed on the
        // strength of it.
        settings.disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        settings.disk.create_dir_all(&log).map_err(|e| Error::io("create", &log, e))?;
        // If these cannot be created, filters are built at each opening, and sled is read.
        for shortcuts in [filters::DIR, LOCATORS_DIR].map(|name| dir.join(name)) {
            if let Err(error) = settings.disk.create_dir_all(&shortcuts) {
                tracing::warn!(%error, folder = %shortcuts.display(), "a folder cannot be made");
            }
        }
        let mut opening = Self::new(dir, settings, body, true)?;
        opening.ids.know(versions);
        // What is of an older version is written again.
        opening.changed = version < newest;
        opening.segment_version = opening.settings.segments_beside(version);
        let stored = usize::from(opening.body.shards);
        let wanted = opening.settings.shards.unwrap_or(stored);
        let marked = opening.blocks.mark().unwrap_or(None).unwrap_or(0);
        let stale = marked < opening.body.edition && !opening.body.runs.is_empty();
        if stale {
            tracing::warn!(
                marked,
                edition = opening.body.edition,
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
        let segment_version = settings.format.segment;
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
            segment_version,
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
            shard.add_run(run);
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
