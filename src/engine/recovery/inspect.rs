//! Reading a store where nothing may be written: a read-only mount, another user's folder.
//!
//! Every live claim is in the log (I10), so the log alone gives exact answers. sled is not opened, because opening it
//! always writes; filters and locator files are not needed.

use crate::disk::LockGuard;
use crate::engine::catalog::layout::{Folder, LOCK, LOG_DIR, identify, nothing_there};
use crate::engine::catalog::manifest::{FILE as MANIFEST, ManifestBody};
use crate::engine::catalog::namespaces::DEFAULT_NAME;
use crate::engine::core::{Format, Seen, Settings, segments};
use crate::engine::recovery::export::ExportEntry;
use crate::engine::recovery::opening::keeper;
use crate::engine::recovery::verify::VerifyReport;
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{Key, NsId};
use crate::time::{Timestamp, Ttl};
use crate::wal::{self, Item, LogRead, ReplayPlan};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A store opened for reading only.
#[derive(Debug)]
pub(crate) struct Inspector {
    dir: PathBuf,
    settings: Settings,
    body: ManifestBody,
    /// Keeps others from opening the store for writing; `None` if there is no readable lock file.
    _lock: Option<Box<dyn LockGuard>>,
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

    /// Returns the names of the namespaces in the manifest. Newer ones are in the log, before their ids.
    fn names(&self) -> BTreeMap<NsId, String> {
        let named = self.body.namespaces.iter().map(|ns| (ns.id, ns.name.clone()));
        std::iter::once((NsId(0), DEFAULT_NAME.to_owned())).chain(named).collect()
    }

    /// Returns the live claim of an id, found by reading the whole log.
    pub(crate) fn get(&self, namespace: &str, id: &[u8]) -> Result<Option<Seen>> {
        let digest = self.settings.long_ids.digest(id);
        // The key of the id in the namespace with this number.
        let key_in = |ns| Key::of(ns, id, digest.as_ref());
        let names = self.names();
        let known = names.iter().find(|(_, name)| *name == namespace).map(|(ns, _)| *ns);
        let mut sought = key_in(known.unwrap_or_default())?;
        let mut is_known = known.is_some();
        let mut found: Option<Version> = None;
        let mut newest = Timestamp::from_millis(0);
        self.read(true, |item| match item {
            Item::Namespace(ns) if ns.name == namespace.as_bytes() => {
                is_known = true;
                sought = key_in(ns.ns).unwrap_or(sought);
            }
            // Rows are no claims, and their ranks are no times.
            Item::Namespace(_) | Item::Row { .. } => {}
            Item::Version(key, version) => {
                newest = newest.max(version.first_seen());
                if is_known && key == sought {
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
        let mut names = self.names();
        let mut ids: BTreeMap<(NsId, Box<[u8]>), Version> = BTreeMap::new();
        let mut newest = Timestamp::from_millis(0);
        self.read(true, |item| match item {
            Item::Namespace(ns) => {
                names.insert(ns.ns, String::from_utf8_lossy(ns.name).into_owned());
            }
            Item::Row { .. } => {}
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
            let namespace = names.get(&ns.listed()).map_or("", String::as_str);
            let is_hash = ns.is_hashed();
            exported += 1;
            visit(ExportEntry { namespace, id, is_hash, first_seen, deadline })
                .map_err(|e| Error::io("write the export of", &self.dir, e))?;
        }
        Ok(exported)
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
        let mut namespaces: BTreeMap<String, (Option<u64>, bool)> = BTreeMap::new();
        for ns in &self.body.namespaces {
            let ttl_ms = (ns.ttl_ms > 0).then_some(ns.ttl_ms);
            namespaces.insert(ns.name.clone(), (ttl_ms, ns.sliding));
        }
        namespaces.insert(DEFAULT_NAME.to_owned(), (None, false));
        let mut records_unflushed = 0;
        let read = self.read(false, |item| match item {
            Item::Version(..) | Item::Row { .. } => records_unflushed += 1,
            Item::Namespace(ns) => {
                let name = String::from_utf8_lossy(ns.name).into_owned();
                namespaces.insert(name, (ns.ttl.as_millis(), ns.sliding));
            }
        })?;
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
