//! Repair (I11): saves the whole records that a damaged log still holds, and reports what it could not save.
//!
//! The old log is kept beside the new one; nothing is thrown away. The steps are ordered so that a crash in between
//! loses nothing either: write a new log beside the old one, move the manifest away (from here on the store does not
//! open, and asks for a repair), move the old log away, move the new one in, write a manifest without runs. Opening
//! then rebuilds everything flushed from the log.

use crate::blocks;
use crate::disk::Disk;
use crate::engine::catalog::layout::{
    LOG_DIR, NEW_LOG_DIR, OLD_LOG_DIR, OLD_MANIFEST, SLED_DIR, UNREADABLE_MANIFEST, files_in, lock,
};
use crate::engine::catalog::manifest::{FILE as MANIFEST, Manifest, ManifestBody};
use crate::engine::catalog::namespaces::NsMeta;
use crate::engine::core::Settings;
use crate::error::{Error, Result};
use crate::health::Health;
use crate::id::{NsId, Seed};
use crate::limits;
use crate::sync::{Arc, Signal};
use crate::time::Ttl;
use crate::wal::RecordRewriter;
use crate::wal::{self, Item, Log, LogConfig, Lsn, NamespaceRecord, ReplayPlan, Salvaged};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

mod report;
mod rescue;

pub use report::{LostBytes, MissingSegment, RepairReport};
use rescue::Rescue;

/// Repairs a store that nobody has open.
pub(crate) fn repair(dir: &Path, settings: &Settings) -> Result<RepairReport> {
    let not = |why: &str| Err(Error::NotAStore { path: dir.to_owned(), why: why.to_owned() });
    let disk = match settings.disk.hold(dir) {
        Ok(disk) => disk,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return not("there is no such folder");
        }
        Err(e) => return Err(Error::io("open", dir, e)),
    };
    let settings = &Settings { disk, ..settings.clone() };
    let disk = &*settings.disk;
    let names = disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
    // Check before taking the lock: a folder that is something else is left as it is.
    let ours = |name: &PathBuf| {
        let name = name.to_string_lossy();
        name == MANIFEST || name.starts_with(OLD_LOG_DIR)
    };
    let has_log =
        || files_in(disk, &dir.join(LOG_DIR)).map(|names| names.iter().any(|n| wal::is_segment(n)));
    if !names.iter().any(ours) && !has_log()? {
        let why = "it holds neither a manifest nor a log, and nothing can be saved without either; put \
                   back a copy of the store, or remove the folder to begin anew";
        return not(why);
    }
    let _lock = lock(dir, disk)?;
    let found = read_manifest(disk, &dir.join(MANIFEST))?;
    let source = source_dir(disk, dir, found.is_some())?;
    let seeds = wal::seeds(disk, &source)?;
    let is_of_log = |body: &ManifestBody| seeds.is_empty() || seeds.contains(&body.seed);
    // The log is the truth: ignore the manifest of another store.
    let manifest = found.filter(is_of_log);
    let is_aside = manifest.is_none();
    let manifest = match manifest {
        Some(body) => Some(body),
        None => set_aside_before(disk, dir, &source)?,
    };
    let seed = match &manifest {
        Some(body) => Some(body.seed),
        None => wal::find_seed(disk, &source)?,
    };
    let Some(seed) = seed else {
        return not("neither its manifest nor any segment of its log can be read");
    };
    let config = |dir: PathBuf| LogConfig {
        disk: Arc::clone(&settings.disk),
        dir,
        seed,
        health: Arc::new(Health::default()),
        work: Arc::new(Signal::default()),
        segment_bytes: settings.segment_bytes,
    };

    // Read only, at first: a sound store is left alone.
    let source_config = config(source.clone());
    let mut saved_records = 0;
    // A manifest set aside may describe another log than this one.
    let known = manifest.as_ref().filter(|_| !is_aside).map(ManifestBody::plan);
    let salvaged = wal::salvage(&source_config, known.as_ref(), |item| {
        saved_records += u64::from(matches!(item, Item::Version(..)));
        Ok(())
    })?;
    let lost: Vec<LostBytes> = (salvaged.damages.into_iter())
        .map(|d| LostBytes { file: d.path, offset: d.offset, bytes: d.bytes })
        .collect();
    let mut report = RepairReport {
        saved_records,
        rescued_records: 0,
        lost_bytes: lost.iter().map(|lost| lost.bytes).sum(),
        lost,
        missing_segments: MissingSegment::all(
            salvaged.missing,
            report::bytes_per_id(saved_records, salvaged.read_bytes, manifest.as_ref()),
        ),
        forgotten_may_return: false,
        manifest_rebuilt: is_aside,
        renamed_namespaces: Vec::new(),
        old_log: None,
    };
    if report.lost.is_empty() && !report.manifest_rebuilt && source == dir.join(LOG_DIR) {
        return Ok(report);
    }
    report.forgotten_may_return = !report.lost.is_empty();

    // Without its folder, the log is an empty one with all segments missing.
    disk.create_dir_all(&source).map_err(|e| Error::io("create", &source, e))?;
    let new = dir.join(NEW_LOG_DIR);
    wal::remove_segments(disk, &new)?;
    disk.create_dir_all(&new).map_err(|e| Error::io("create", &new, e))?;
    let listed = manifest.as_ref().map_or(&[][..], |body| &body.namespaces);
    // As a rule, what is left of the log is all that is needed, and blocks would only repeat it.
    let blocks = manifest.as_ref().filter(|_| saved_records == 0);
    let rescue = blocks.and_then(|body| Rescue::open(dir, settings, body));
    let mut written =
        rewrite(&source_config, config(new.clone()), settings, listed, rescue.as_ref())?;
    drop(rescue);
    report.rescued_records = written.rescued;
    report.renamed_namespaces.append(&mut written.renamed);
    set_manifest_aside(disk, dir)?;
    let old_log = swap(disk, dir, &source, &new)?;
    let body = new_body(manifest, seed, written, settings);
    // The next opening removes filters and locator files: no run lists them any more.
    let sled = dir.join(SLED_DIR);
    blocks::set_aside(disk, &sled)
        .and_then(|()| blocks::empty(disk, &sled))
        .map_err(|e| Error::io("empty", &sled, e))?;
    Manifest::new(Arc::clone(&settings.disk), dir, body).write()?;
    report.old_log = Some(old_log);
    Ok(report)
}

/// Reads a manifest; returns `None` if there is none or it is damaged.
fn read_manifest(disk: &dyn Disk, path: &Path) -> Result<Option<ManifestBody>> {
    match disk.read(path).map(|bytes| ManifestBody::decode(path, &bytes)) {
        Ok(Ok(body)) => Ok(Some(body)),
        Ok(Err(e @ Error::FromTheFuture { .. })) => Err(e),
        Ok(Err(_)) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// Returns the manifest set aside by an interrupted or earlier repair. Its namespace names and numbers, time and number
/// of shards stay valid; what it says of the log does not.
fn set_aside_before(disk: &dyn Disk, dir: &Path, source: &Path) -> Result<Option<ManifestBody>> {
    let aside = read_manifest(disk, &dir.join(OLD_MANIFEST))?;
    let seed = wal::find_seed(disk, source)?;
    Ok(aside.filter(|body| seed.is_none_or(|seed| seed == body.seed)))
}

/// Sets the manifest aside. Until the new one is written, the folder has none and does not open: with a manifest that
/// is not its own, existing log records could be ignored.
fn set_manifest_aside(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let manifest = dir.join(MANIFEST);
    let names = list(disk, dir)?.unwrap_or_default();
    if names.contains(&PathBuf::from(MANIFEST)) {
        // Do not overwrite what the next repair may need if this one is interrupted.
        let is_readable = read_manifest(disk, &manifest)?.is_some();
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

/// What a repair wrote.
struct Rewritten {
    namespaces: Vec<NsMeta>,
    /// Names given to namespaces whose own are lost.
    renamed: Vec<String>,
    /// Records that only the block store still had.
    rescued: u64,
    /// The new log is on disk up to here.
    durable: Lsn,
}

/// Writes a new log from what is left of the old one and of the manifest. Every namespace number with claims keeps a
/// name; otherwise the next new namespace would get that number, and the claims with it.
fn rewrite(
    old: &LogConfig,
    new: LogConfig,
    settings: &Settings,
    listed: &[NsMeta],
    rescue: Option<&Rescue<'_>>,
) -> Result<Rewritten> {
    let now = settings.clock.wall();
    let recovered =
        Log::recover(new, ReplayPlan { first: 1, ..ReplayPlan::default() }, now, |_, _| Ok(()))?;
    let mut rewriter = RecordRewriter::new(&recovered.log);
    let mut namespaces: BTreeMap<u32, NsMeta> = BTreeMap::new();
    let mut used = BTreeSet::new();
    let _: Salvaged = wal::salvage(old, None, |item| match item {
        Item::Version(key, version) => {
            used.insert(key.ns.listed().0);
            rewriter.push(key, version)
        }
        Item::Namespace(record) => {
            let meta = NsMeta {
                id: record.ns,
                name: String::from_utf8_lossy(record.name).into_owned(),
                ttl_ms: record.ttl.as_millis().unwrap_or(0),
                sliding: record.sliding,
            };
            namespaces.insert(meta.id.0, meta);
            Ok(())
        }
    })?;
    let mut rescued = 0;
    if let Some(rescue) = rescue {
        rescue.for_each(|key, version| {
            used.insert(key.ns.0);
            rescued += 1;
            rewriter.push(key, version)
        })?;
    }
    rewriter.finish()?;
    let mut names: HashSet<String> = namespaces.values().map(|meta| meta.name.clone()).collect();
    for meta in listed {
        // Two of one name would merge, so keep what the log says: it is newer.
        if !names.contains(&meta.name) && !namespaces.contains_key(&meta.id.0) {
            names.insert(meta.name.clone());
            namespaces.insert(meta.id.0, meta.clone());
        }
    }
    let mut renamed = Vec::new();
    used.remove(&0);
    for number in
        used.into_iter().filter(|number| !namespaces.contains_key(number)).collect::<Vec<_>>()
    {
        let mut name = format!("recovered-{number}");
        while !names.insert(name.clone()) {
            name.push('x');
        }
        renamed.push(name.clone());
        namespaces.insert(number, NsMeta { id: NsId(number), name, ttl_ms: 0, sliding: false });
    }
    for meta in namespaces.values() {
        let ttl = if meta.ttl_ms == 0 { Ttl::FOREVER } else { Ttl::from_millis(meta.ttl_ms) };
        let (ns, sliding, name) = (meta.id, meta.sliding, meta.name.as_bytes());
        recovered.log.append_namespace(&NamespaceRecord { ns, ttl, sliding, name })?;
    }
    recovered.log.close()?;
    let namespaces = namespaces.into_values().collect();
    Ok(Rewritten { namespaces, renamed, rescued, durable: recovered.log.durable() })
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
    let shards = match (&manifest, settings.shards) {
        (Some(body), _) => usize::from(body.shards),
        (None, asked) => asked.unwrap_or(limits::SHARDS_DEFAULT),
    };
    let Rewritten { namespaces, durable, .. } = written;
    let mut body = ManifestBody::new(seed, shards);
    body.durable = durable;
    body.next_segment = durable.segment() + 1;
    if let Some(old) = manifest {
        body.epoch = old.epoch;
        body.next_run = old.next_run;
        body.time = old.time;
    }
    body.namespaces = namespaces;
    body
}
