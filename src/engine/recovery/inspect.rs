//! Reading a store where nothing may be written: a read-only mount, another user's folder.
//!
//! Every live claim is in the log (I10), so the log alone gives exact answers. sled is not opened, because opening it
//! always writes; filters and locator files are not needed.

use crate::disk::LockGuard;
use crate::engine::catalog::layout::{Folder, LOCK, LOG_DIR, identify, nothing_there};
use crate::engine::catalog::manifest::{FILE as MANIFEST, ManifestBody};
use crate::engine::catalog::namespaces::{DEFAULT_NAME, Registry};
use crate::engine::catalog::scopes::{marks, read_mark};
use crate::engine::core::{Format, Seen, Settings, segments};
use crate::engine::recovery::export::ExportEntry;
use crate::engine::recovery::history::{Collector, History};
use crate::engine::recovery::opening::keeper;
use crate::engine::recovery::repair::LostBytes;
use crate::engine::recovery::verify::VerifyReport;
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{Key, NsId};
use crate::sync::Arc;
use crate::time::{Timestamp, Ttl};
use crate::wal::{self, At, Item, LogConfig, LogRead, ReplayPlan, UseLanes};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A store opened for reading only.
pub(crate) struct Inspector {
    dir: PathBuf,
    settings: Settings,
    body: ManifestBody,
    /// Keeps others from opening the store for writing; `None` if there is no readable lock file.
    _lock: Option<Box<dyn LockGuard>>,
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A namespace as the store records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NamespaceSummary {
    /// Its name.
    pub name: String,
    /// How long its claims live, in milliseconds; `None` if they never end. Not recorded for the default namespace,
    /// whose ttl is set by the program that opens the store.
    pub ttl_ms: Option<u64>,
    /// Whether a duplicate moves the end of a claim.
    pub sliding: bool,
}

/// What a store holds, according to its manifest and the end of its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoreSummary {
    /// The namespaces, by name.
    pub namespaces: Vec<NamespaceSummary>,
    /// Entries in flushed runs (live or not; an extended id may count twice).
    pub ids_flushed: u64,
    /// Records of ids in the part of the log that is not flushed yet.
    pub records_unflushed: u64,
    /// Flushed runs.
    pub runs: u64,
    /// Generations with flushed ids.
    pub generations: u64,
    /// Shards.
    pub shards: u64,
    /// Log segments.
    pub log_segments: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
}

impl fmt::Display for StoreSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.log_bytes as f64 / f64::from(1 << 20);
        writeln!(f, "ids flushed       {} in {} runs", self.ids_flushed, self.runs)?;
        writeln!(f, "records unflushed {}", self.records_unflushed)?;
        writeln!(f, "generations       {}", self.generations)?;
        writeln!(f, "shards            {}", self.shards)?;
        writeln!(f, "log               {mib:.1} MiB in {}", segments(self.log_segments))?;
        write!(f, "namespaces        {}", self.namespaces.len())?;
        for ns in &self.namespaces {
            write!(f, "\n  {:?}", ns.name)?;
            if ns.name == DEFAULT_NAME {
                continue;
            }
            let ttl = ns.ttl_ms.map_or(Ttl::FOREVER, Ttl::from_millis);
            write!(f, ", ttl {ttl}{}", if ns.sliding { ", sliding" } else { "" })?;
        }
        Ok(())
    }
}

/// The marks of replay scopes, as the log is read: of each the row that counts.
#[derive(Default)]
struct Marks(BTreeMap<Vec<u8>, (u64, Vec<u8>)>);

impl Marks {
    fn visit(&mut self, item: &Item<'_>) {
        if let Item::Row { key, version, value, .. } = item
            && key.ns == marks()
            && !version.is_tombstone()
        {
            let known = self.0.entry(key.id.to_vec()).or_default();
            if version.rank >= known.0 {
                *known = (version.rank, value.to_vec());
            }
        }
    }

    fn apply(self, dir: &Path, registry: &Registry) -> Result<()> {
        let mut found = Vec::with_capacity(self.0.len());
        for (id, (_, value)) in self.0 {
            found.push(read_mark(dir, &id, &value)?);
        }
        found.sort_by_key(|(_, mark)| mark.order);
        found.into_iter().for_each(|(scope, mark)| registry.apply_mark(scope, mark));
        Ok(())
    }
}

impl Inspector {
    /// Opens a store for reading, and writes nothing.
    pub(crate) fn open(dir: &Path, settings: Settings) -> Result<Self> {
        settings.check()?;
        let disk = settings.disk.hold(dir).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => nothing_there(dir),
            _ => Error::io("open", dir, e),
        })?;
        let settings = Settings { disk, ..settings };
        if identify(dir, &*settings.disk)? == Folder::New {
            return Err(nothing_there(dir));
        }
        let path = dir.join(LOCK);
        let lock = settings.disk.lock_shared(&path).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => Error::Locked { path: dir.to_owned() },
            _ => Error::io("lock", &path, e),
        })?;
        let path = dir.join(MANIFEST);
        let bytes = settings.disk.read(&path).map_err(|e| Error::io("read", &path, e))?;
        let Format { manifest: newest, segment: newest_segments } = settings.format;
        let (_, body) = ManifestBody::decode(&path, newest, &bytes)?;
        let log = dir.join(LOG_DIR);
        wal::check_headers(&*settings.disk, &log, newest_segments, None)?;
        Ok(Self { dir: dir.to_owned(), settings, body, _lock: lock })
    }

    /// Passes log records to `visit`: all, or only the unflushed part of the log.
    fn read(&self, all: bool, mut visit: impl FnMut(Item<'_>)) -> Result<LogRead> {
        let plan = ReplayPlan { rescan: all, ..self.body.plan() };
        let (disk, dir) = (&*self.settings.disk, self.dir.join(LOG_DIR));
        wal::read_only(disk, &dir, self.body.seed, &plan, |_, item| {
            visit(item);
            Ok(())
        })
    }

    /// Returns the engine's time, which is never before a claim that was made (I5).
    fn now(&self, newest: Timestamp) -> Timestamp {
        keeper(&self.settings, self.body.time).now().max(newest)
    }

    /// Returns the namespaces as an open store would know them. Reads the unflushed part of the log, and all of it if there
    /// are replay scopes.
    fn registry(&self) -> Result<(Registry, u64, LogRead)> {
        let Settings { ttl, sliding, .. } = self.settings;
        let registry = Registry::new(1, ttl, sliding);
        self.body.namespaces.iter().for_each(|meta| registry.restore_meta(meta));
        let mut records = 0;
        let read = self.read(false, |item| match item {
            Item::Version(..) | Item::Row { .. } => records += 1,
            Item::Namespace(ns) => {
                let name = String::from_utf8_lossy(ns.name);
                registry.restore(ns.ns, &name, ns.ttl, ns.sliding);
            }
        })?;
        if !registry.scopes().is_empty() {
            self.apply_marks(&registry)?;
        }
        Ok((registry, records, read))
    }

    /// Applies how replay scopes ended.
    fn apply_marks(&self, registry: &Registry) -> Result<()> {
        let mut marks = Marks::default();
        self.read(true, |item| marks.visit(&item))?;
        marks.apply(&self.dir, registry)
    }

    /// Returns the live claim of an id, found by reading the whole log.
    pub(crate) fn get(&self, namespace: &str, id: &[u8]) -> Result<Option<Seen>> {
        let digest = self.settings.long_ids.digest(id);
        // The key of the id in the namespace with this number.
        let key_in = |ns| Key::of(ns, id, digest.as_ref());
        let known = self.registry()?.0.find(namespace).map(|info| info.id());
        let sought = key_in(known.unwrap_or_default())?;
        let mut found: Option<Version> = None;
        let mut newest = Timestamp::from_millis(0);
        self.read(true, |item| match item {
            // Rows are no claims, and their ranks are no times.
            Item::Namespace(_) | Item::Row { .. } => {}
            Item::Version(key, version) => {
                newest = newest.max(version.first_seen());
                if known.is_some() && key == sought {
                    found = Some(found.map_or(version, |known| known.join(version)));
                }
            }
        })?;
        let now = self.now(newest);
        let live = found.filter(|version| version.is_live(now));
        Ok(live.map(|v| Seen { first_seen: v.first_seen(), deadline: v.deadline }))
    }

    /// Passes every live claim to `visit`. All ids are in memory meanwhile.
    pub(crate) fn export(
        &self,
        mut visit: impl FnMut(ExportEntry<'_>) -> io::Result<()>,
    ) -> Result<u64> {
        let registry = self.registry()?.0;
        let listed = registry.listed();
        let names: BTreeMap<NsId, &str> =
            listed.iter().map(|info| (info.id(), info.name.as_str())).collect();
        let mut ids: BTreeMap<(NsId, Box<[u8]>), Version> = BTreeMap::new();
        let mut newest = Timestamp::from_millis(0);
        self.read(true, |item| match item {
            Item::Namespace(_) | Item::Row { .. } => {}
            Item::Version(key, version) => {
                newest = newest.max(version.first_seen());
                let known = ids.entry((key.ns, key.id.into())).or_insert(version);
                *known = known.join(version);
            }
        })?;
        let now = self.now(newest);
        let mut exported = 0;
        for ((ns, id), version) in ids.iter().filter(|(_, version)| version.is_live(now)) {
            let (first_seen, deadline) = (version.first_seen(), version.deadline);
            // What is in a replay scope is not exported.
            let Some(namespace) = names.get(&ns.listed()) else { continue };
            let is_hash = ns.is_hashed();
            exported += 1;
            visit(ExportEntry { namespace, id, is_hash, first_seen, deadline })
                .map_err(|e| Error::io("write the export of", &self.dir, e))?;
        }
        Ok(exported)
    }

    /// Reads the whole log for what it knows of an id.
    pub(crate) fn history(&self, namespace: &str, id: &[u8]) -> Result<History> {
        // Names and scopes first, and whatever is damaged is passed over.
        let Settings { ttl, sliding, .. } = self.settings;
        let registry = Registry::new(1, ttl, sliding);
        self.body.namespaces.iter().for_each(|meta| registry.restore_meta(meta));
        let mut marks = Marks::default();
        self.salvage(|_, item| {
            marks.visit(item);
            if let Item::Namespace(ns) = item {
                let name = String::from_utf8_lossy(ns.name);
                registry.restore(ns.ns, &name, ns.ttl, ns.sliding);
            }
        })?;
        marks.apply(&self.dir, &registry)?;
        let digest = self.settings.long_ids.digest(id);
        let ns = registry.find(namespace).map(|info| info.id());
        let key = Key::of(ns.unwrap_or_default(), id, digest.as_ref())?;
        let names = registry.names();
        let mut collector = Collector::new(key, &names);
        let damage = self.salvage(|at, item| {
            if ns.is_some() {
                collector.visit(at, item);
            }
        })?;
        Ok(collector.finish(damage))
    }

    /// Passes every whole record of the log to `visit`, and returns where there is none.
    fn salvage(&self, mut visit: impl FnMut(At, &Item<'_>)) -> Result<Vec<LostBytes>> {
        let config = LogConfig {
            disk: Arc::clone(&self.settings.disk),
            dir: self.dir.join(LOG_DIR),
            seed: self.body.seed,
            health: Arc::default(),
            work: Arc::default(),
            segment_bytes: self.settings.segment_bytes,
            segment_version: self.settings.format.segment,
            lanes: UseLanes::default(),
        };
        let salvaged = wal::salvage(&config, Some(&self.body.plan()), |at, item| {
            visit(at, &item);
            Ok(())
        })?;
        Ok(salvaged.damages.into_iter().map(LostBytes::of).collect())
    }

    /// Reads the whole log, which is all that counts; blocks and filters are not checked.
    pub(crate) fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let read = self.read(true, |item| {
            report.log_records += match item {
                Item::Version(..) | Item::Row { .. } => 1,
                Item::Namespace(_) => 0,
            };
        });
        match read {
            Ok(read) => report.segments = read.segments,
            Err(error @ Error::Corrupt { .. }) => report.problems.push(error.to_string()),
            Err(other) => return Err(other),
        }
        Ok(report)
    }

    /// Returns what the store holds, without reading what is flushed.
    pub(crate) fn summary(&self) -> Result<StoreSummary> {
        let (registry, records_unflushed, read) = self.registry()?;
        let listed = registry.listed();
        let named = listed.iter().map(|info| {
            let settings = match info.name.as_str() {
                DEFAULT_NAME => (None, false),
                _ => (info.ttl().as_millis(), info.sliding()),
            };
            (info.name.clone(), settings)
        });
        let namespaces: BTreeMap<String, (Option<u64>, bool)> = named.collect();
        let generations: BTreeSet<_> = self.body.runs.iter().map(|run| run.generation).collect();
        let summary = |(name, (ttl_ms, sliding))| NamespaceSummary { name, ttl_ms, sliding };
        Ok(StoreSummary {
            namespaces: namespaces.into_iter().map(summary).collect(),
            ids_flushed: self.body.runs.iter().map(|run| run.ids).sum(),
            records_unflushed,
            runs: self.body.runs.len() as u64,
            generations: generations.len() as u64,
            shards: u64::from(self.body.shards),
            log_segments: read.segments,
            log_bytes: read.bytes,
        })
    }
}
