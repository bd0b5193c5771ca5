//! Repair (I11): saves the whole records that a damaged log still holds, and reports what it could not save.
//!
//! The old log is kept beside the new one; nothing is thrown away. The steps are ordered so that a crash in between
//! loses nothing either: write a new log beside the old one, move the manifest away (from here on the store does not
//! open, and asks for a repair), move the old log away, move the new one in, write a manifest without runs. Opening
//! then rebuilds everything flushed from the log.

use crate::blocks;
use crate::disk::Disk;
use crate::engine::catalog::layout::{
    LOG_DIR, NEW_LOG_DIR, OLD_LOG_DIR, OLD_MANIFEST, SLED_DIR, UNREADABLE_MANIFEST,
    check_is_restored, files_in, lock,
};
use crate::engine::catalog::manifest::{FILE as MANIFEST, Manifest, ManifestBody};
use crate::engine::core::{Format, Settings};
use crate::error::{Error, Result};
use crate::health::Health;
use crate::id::Seed;
use crate::limits;
use crate::sync::{Arc, Signal};
use crate::wal::{self, Item, LogConfig, UseLanes};
use std::io;
use std::path::{Path, PathBuf};

mod report;
mod rescue;
mod rewrite;

pub use report::{LostBytes, MissingSegment, RepairReport};
use rescue::Rescue;
use rewrite::{Rewritten, rewrite};

/// Repairs a store that nobody has open.
pub(crate) fn repair(dir: &Path, settings: &Settings) -> Result<RepairReport> {
    let settings = &Settings { disk: hold(dir, settings)?, ..settings.clone() };
    let disk = &*settings.disk;
    // Check before taking the lock: a folder that is something else is left as it is.
    check_is_store(disk, dir)?;
    let _lock = lock(dir, disk)?;
    let found = Found::look(disk, dir, settings.format)?;
    // Read only, at first: a sound store is left alone.
    let mut report = found.examine(settings)?;
    if report.lost.is_empty() && !report.manifest_rebuilt && found.source == dir.join(LOG_DIR) {
        return Ok(report);
    }
    report.forgotten_may_return = !report.lost.is_empty();
    found.replace(dir, settings, &mut report)?;
    Ok(report)
}

fn not_a_store(dir: &Path, why: &str) -> Error {
    Error::NotAStore { path: dir.to_owned(), why: why.to_owned() }
}

/// Holds the folder, so that its path cannot come to mean another one.
fn hold(dir: &Path, settings: &Settings) -> Result<Arc<dyn Disk>> {
    settings.disk.hold(dir).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            not_a_store(dir, "there is no such folder")
        }
        _ => Error::io("open", dir, e),
    })
}

fn check_is_store(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let names = disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
    check_is_restored(dir, &names)?;
    let ours = |name: &PathBuf| {
        let name = name.to_string_lossy();
        name == MANIFEST || name.starts_with(OLD_LOG_DIR)
    };
    let has_log =
        || files_in(disk, &dir.join(LOG_DIR)).map(|names| names.iter().any(|n| wal::is_segment(n)));
    if !names.iter().any(ours) && !has_log()? {
        let why = "it holds neither a manifest nor a log, and nothing can be saved without either; put \
                   back a copy of the store, or remove the folder to begin anew";
        return Err(not_a_store(dir, why));
    }
    Ok(())
}

/// What there is to repair.
struct Found {
    /// The log to save from.
    source: PathBuf,
    manifest: Option<ManifestBody>,
    /// The manifest, if any, was set aside by an earlier repair: it may describe another log than this one.
    is_aside: bool,
    seed: Seed,
}

impl Found {
    fn look(disk: &dyn Disk, dir: &Path, format: Format) -> Result<Self> {
        let Format { manifest: newest, segment: newest_segments } = format;
        let found = read_manifest(disk, &dir.join(MANIFEST), newest)?;
        let source = source_dir(disk, dir, found.is_some())?;
        // Another version is not damage.
        wal::check_headers(disk, &source, newest_segments, None)?;
        let seeds = wal::seeds(disk, &source)?;
        let is_of_log = |body: &ManifestBody| seeds.is_empty() || seeds.contains(&body.seed);
        // The log is the truth: ignore the manifest of another store.
        let manifest = found.filter(is_of_log);
        let is_aside = manifest.is_none();
        let manifest = match manifest {
            Some(body) => Some(body),
            None => set_aside_before(disk, dir, newest, &source)?,
        };
        let seed = match &manifest {
            Some(body) => Some(body.seed),
            None => wal::find_seed(disk, &source)?,
        };
        let Some(seed) = seed else {
            let why = "neither its manifest nor any segment of its log can be read";
            return Err(not_a_store(dir, why));
        };
        Ok(Self { source, manifest, is_aside, seed })
    }

    fn log_in(&self, dir: PathBuf, settings: &Settings) -> LogConfig {
        LogConfig {
            disk: Arc::clone(&settings.disk),
            dir,
            seed: self.seed,
            health: Arc::new(Health::default()),
            work: Arc::new(Signal::default()),
            segment_bytes: settings.segment_bytes,
            segment_version: settings.format.segment,
            lanes: UseLanes::default(),
        }
    }

    /// Reads what is left of the log, and writes nothing.
    fn examine(&self, settings: &Settings) -> Result<RepairReport> {
        let mut saved_records = 0;
        let known = self.manifest.as_ref().filter(|_| !self.is_aside).map(ManifestBody::plan);
        let source = self.log_in(self.source.clone(), settings);
        let salvaged = wal::salvage(&source, known.as_ref(), |_, item| {
            saved_records += match item {
                Item::Version(..) | Item::Row { .. } => 1,
                Item::Namespace(_) => 0,
            };
            Ok(())
        })?;
        let lost: Vec<LostBytes> = salvaged.damages.into_iter().map(LostBytes::of).collect();
        Ok(RepairReport {
            saved_records,
            rescued_records: 0,
            lost_bytes: lost.iter().map(|lost| lost.bytes).sum(),
            lost,
            missing_segments: MissingSegment::all(
                salvaged.missing,
                report::bytes_per_id(saved_records, salvaged.read_bytes, self.manifest.as_ref()),
            ),
            forgotten_may_return: false,
            manifest_rebuilt: self.is_aside,
            renamed_namespaces: Vec::new(),
            old_log: None,
        })
    }

    /// Puts a new log and a new manifest in the place of what is damaged, and adds to the report what that took.
    fn replace(self, dir: &Path, settings: &Settings, report: &mut RepairReport) -> Result<()> {
        let disk = &*settings.disk;
        // Without its folder, the log is an empty one with all segments missing.
        disk.create_dir_all(&self.source).map_err(|e| Error::io("create", &self.source, e))?;
        let new = dir.join(NEW_LOG_DIR);
        wal::remove_segments(disk, &new)?;
        disk.create_dir_all(&new).map_err(|e| Error::io("create", &new, e))?;
        let old_config = self.log_in(self.source.clone(), settings);
        let new_config = self.log_in(new.clone(), settings);
        let listed = self.manifest.as_ref().map_or(&[][..], |body| &body.namespaces);
        // As a rule, what is left of the log is all that is needed, and blocks would only repeat it.
        let blocks = self.manifest.as_ref().filter(|_| report.saved_records == 0);
        let rescue = blocks.and_then(|body| Rescue::open(dir, settings, body));
        let mut written = rewrite(&old_config, new_config, settings, listed, rescue.as_ref())?;
        drop(rescue);
        report.rescued_records = written.rescued;
        report.renamed_namespaces.append(&mut written.renamed);
        set_manifest_aside(disk, dir, settings.format.manifest)?;
        report.old_log = Some(swap(disk, dir, &self.source, &new)?);
        let body = new_body(self.manifest, self.seed, written, settings);
        // The next opening removes filters and locator files: no run lists them any more.
        let sled = dir.join(SLED_DIR);
        blocks::set_aside(disk, &sled)
            .and_then(|()| blocks::empty(disk, &sled))
            .map_err(|e| Error::io("empty", &sled, e))?;
        Manifest::new(Arc::clone(&settings.disk), dir, settings.format.manifest, body).write()
    }
}

/// Reads a manifest of this version or an older one; returns `None` if there is none or it is damaged.
fn read_manifest(disk: &dyn Disk, path: &Path, newest: u16) -> Result<Option<ManifestBody>> {
    match disk.read(path).map(|bytes| ManifestBody::decode(path, newest, &bytes)) {
        Ok(Ok((_, body))) => Ok(Some(body)),
        Ok(Err(e)) if e.is_of_another_release() => Err(e),
        Ok(Err(_)) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// Returns the manifest set aside by an interrupted or earlier repair. Its namespace names and numbers, time and number
/// of shards stay valid; what it says of the log does not.
fn set_aside_before(
    disk: &dyn Disk,
    dir: &Path,
    newest: u16,
    source: &Path,
) -> Result<Option<ManifestBody>> {
    let aside = read_manifest(disk, &dir.join(OLD_MANIFEST), newest)?;
    let seed = wal::find_seed(disk, source)?;
    Ok(aside.filter(|body| seed.is_none_or(|seed| seed == body.seed)))
}

/// Sets the manifest aside. Until the new one is written, the folder has none and does not open: with a manifest that
/// is not its own, existing log records could be ignored.
fn set_manifest_aside(disk: &dyn Disk, dir: &Path, newest: u16) -> Result<()> {
    let manifest = dir.join(MANIFEST);
    let names = list(disk, dir)?.unwrap_or_default();
    if names.contains(&PathBuf::from(MANIFEST)) {
        // Do not overwrite what the next repair may need if this one is interrupted.
        let is_readable = read_manifest(disk, &manifest, newest)?.is_some();
        let aside = if is_readable || !names.contains(&PathBuf::from(OLD_MANIFEST)) {
            dir.join(OLD_MANIFEST)
        } else {
            dir.join(UNREADABLE_MANIFEST)
        };
        disk.rename(&manifest, &aside).map_err(|e| Error::io("move away", &manifest, e))?;
    }
    disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}

/// Lists a folder; returns `None` if there is none. A disk error is returned as such: what it hides would be taken for
/// lost.
fn list(disk: &dyn Disk, dir: &Path) -> Result<Option<Vec<PathBuf>>> {
    match disk.list(dir) {
        Ok(names) => Ok(Some(names)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(Error::io("list", dir, e)),
    }
}

/// Returns the log to save from: the current one or, after an interrupted repair, the one moved away last. With a
/// manifest it is always the current one: what an older repair moved away lacks the claims made since.
fn source_dir(disk: &dyn Disk, dir: &Path, has_manifest: bool) -> Result<PathBuf> {
    let log = dir.join(LOG_DIR);
    if has_manifest || list(disk, &log)?.is_some_and(|names| !names.is_empty()) {
        return Ok(log);
    }
    let names = disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
    let moved = names.iter().filter(|n| n.to_string_lossy().starts_with(OLD_LOG_DIR)).max();
    Ok(moved.map_or(log, |name| dir.join(name)))
}

/// Moves the old log away and the new one in.
fn swap(disk: &dyn Disk, dir: &Path, source: &Path, new: &Path) -> Result<PathBuf> {
    let log = dir.join(LOG_DIR);
    let mut old = source.to_owned();
    if source == log {
        let names = disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
        let taken = |n: &u32| names.contains(&PathBuf::from(format!("{OLD_LOG_DIR}-{n:03}")));
        let number = (1..1000).find(|n| !taken(n)).unwrap_or(1000);
        old = dir.join(format!("{OLD_LOG_DIR}-{number:03}"));
        disk.rename(&log, &old).map_err(|e| Error::io("move away", &log, e))?;
    } else {
        disk.remove_dir_all(&log).map_err(|e| Error::io("remove", &log, e))?;
    }
    disk.rename(new, &log).map_err(|e| Error::io("move in", new, e))?;
    disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
    Ok(old)
}

/// Builds a manifest without runs for the new log. It records how far that log is on disk; otherwise, damage before the
/// first flush would look like a log that was never written (I11). Run numbers continue where they are known.
fn new_body(
    manifest: Option<ManifestBody>,
    seed: Seed,
    written: Rewritten,
    settings: &Settings,
) -> ManifestBody {
    let known = manifest.as_ref().map(|body| usize::from(body.shards));
    let shards = known.unwrap_or_else(|| settings.shards_of_new());
    let Rewritten { namespaces, durable, sequence, .. } = written;
    let mut body = ManifestBody::new(seed, shards);
    body.durable = durable;
    body.next_segment = durable.segment() + 1;
    let known = manifest.as_ref().map_or(1, |old| old.sequence);
    body.sequence =
        known.max(sequence).saturating_add(limits::SEQUENCES_AHEAD).min(limits::SEQUENCE_END);
    if let Some(old) = manifest {
        body.edition = old.edition;
        body.next_run = old.next_run;
        body.time = old.time;
        body.origin = old.origin;
    }
    body.namespaces = namespaces;
    body
}
