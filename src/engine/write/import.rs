//! Export and import: live claims, one by one, with their times.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::decide::Decision;
use crate::engine::write::durability::RestsOn;
use crate::engine::{ClaimSpec, Durability, Engine};
use crate::error::{Error, Result};
use crate::expiry::{Class, Version};
use crate::id::{Key, NsId};
use crate::run::{MergeCursor, Merged, Source};
use crate::shard::Known;
use crate::time::Timestamp;
use crate::wal::Lsn;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// A live claim as exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportEntry<'a> {
    /// Name of the namespace.
    pub namespace: &'a str,
    /// The id, byte for byte.
    pub id: &'a [u8],
    /// Whether the id exceeded the length limit, so that `id` is its BLAKE3 hash.
    pub is_hash: bool,
    /// When it was claimed.
    pub first_seen: Timestamp,
    /// When the claim ends; [`Timestamp::NEVER`] if it does not.
    pub deadline: Timestamp,
}

/// A claim to import.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportEntry {
    /// The id, byte for byte.
    pub id: Vec<u8>,
    /// Whether `id` is the BLAKE3 hash of an id above the limit, as in an export.
    pub is_hash: bool,
    /// When it was claimed. A time in the future counts as now.
    pub first_seen: Timestamp,
    /// When the claim ends; [`Timestamp::NEVER`] if it does not.
    pub deadline: Timestamp,
}

impl ImportEntry {
    /// Creates a claim of an id as it is; `deadline` is [`Timestamp::NEVER`] if it does not end.
    #[must_use]
    pub fn new(id: impl Into<Vec<u8>>, first_seen: Timestamp, deadline: Timestamp) -> Self {
        Self { id: id.into(), is_hash: false, first_seen, deadline }
    }

    /// Marks `id` as the 32-byte BLAKE3 hash of an id above the limit, the id itself being unknown.
    #[must_use]
    pub fn hashed(self) -> Self {
        Self { is_hash: true, ..self }
    }
}

impl Engine {
    /// Passes every live claim to `visit`, in no meaningful order. No lock is held while `visit` runs (I9); claims made
    /// meanwhile may or may not be seen.
    pub(crate) fn export(
        &self,
        mut visit: impl FnMut(ExportEntry<'_>) -> io::Result<()>,
    ) -> Result<u64> {
        self.health.check()?;
        let mut exported = 0;
        let names: BTreeMap<NsId, String> =
            self.namespaces.all().iter().map(|info| (info.id, info.name.clone())).collect();
        for cell in &self.shards {
            let (runs, mut sources) = {
                let shard = cell.shard.lock();
                let mut sources = vec![Source::memtable(&shard.memtable, self.hasher)];
                if let Some(frozen) = &shard.frozen {
                    sources.push(Source::memtable(&frozen.set, self.hasher));
                }
                (shard.runs.clone(), sources)
            };
            for run in &runs {
                self.heal(&run.meta, "export reads everything", None)?;
            }
            sources.extend(runs.iter().map(|run| self.source(run)));
            let now = self.time.now();
            MergeCursor::new(sources).for_each(|Merged { key, version, .. }| -> Result<()> {
                if !version.is_live(now) {
                    return Ok(());
                }
                exported += 1;
                let Version { first_seen, deadline, .. } = version;
                let namespace = names.get(&key.ns.listed()).map_or("", String::as_str);
                let (id, is_hash) = (key.id, key.ns.is_hashed());
                visit(ExportEntry { namespace, id, is_hash, first_seen, deadline })
                    .map_err(|e| Error::io("write the export of", Path::new(&self.dir), e))
            })?;
        }
        Ok(exported)
    }

    /// Forgets every id of a namespace, one by one; returns how many had a live claim.
    pub(crate) fn forget_all(&self, ns: &NsInfo, spec: ClaimSpec) -> Result<u64> {
        // One sync for all of them is enough.
        let durability = match spec.durability {
            Durability::Disk => Durability::Process,
            other => other,
        };
        let one = ClaimSpec { durability, ..spec };
        let (mut forgotten, mut failed) = (0, None);
        let visited = self.export(|entry| {
            if entry.namespace == ns.name {
                // An id above the limit is exported as its hash, which is how it is stored.
                let key = if entry.is_hash {
                    Key::of_digest(ns.id, entry.id)
                } else {
                    Key::of(ns.id, entry.id, None)
                };
                match key.and_then(|key| self.forget_key(key, one)) {
                    Ok(was_live) => forgotten += u64::from(was_live),
                    Err(error) => {
                        failed = Some(error);
                        return Err(io::ErrorKind::Other.into());
                    }
                }
            }
            Ok(())
        });
        if let Some(error) = failed {
            return Err(error);
        }
        visited?;
        if spec.durability == Durability::Disk {
            self.sync()?;
        }
        Ok(forgotten)
    }

    /// Imports the claims of ids that are not live here; returns how many. Claims that have ended are left out.
    pub(crate) fn import(
        &self,
        ns: &NsInfo,
        entries: &[ImportEntry],
        durability: Durability,
    ) -> Result<u64> {
        self.health.check()?;
        let (mut added, mut last) = (0, None);
        for entry in entries {
            let digest = self.settings.long_ids.digest(&entry.id);
            let key = if entry.is_hash {
                Key::of_digest(ns.id, &entry.id)?
            } else {
                Key::of(ns.id, &entry.id, digest.as_ref())?
            };
            if entry.deadline <= entry.first_seen {
                return Err(Error::invalid("an imported claim ends before it begins"));
            }
            let (new, lsn) = self.import_one(key, entry, durability)?;
            added += u64::from(new);
            last = last.max(lsn);
        }
        // What was live here already counts as imported, so it must be as safe as the rest (I6).
        self.await_durable(durability, last.map(RestsOn::others))?;
        Ok(added)
    }

    /// Imports one claim. Returns whether it is new here, and the location of its record unless that is on disk.
    fn import_one(
        &self,
        key: Key<'_>,
        entry: &ImportEntry,
        durability: Durability,
    ) -> Result<(bool, Option<Lsn>)> {
        let hash = self.hash(key);
        let (is_new, rests_on, _) = self.decide(
            key,
            hash,
            durability.append_level(),
            WaitBudget::default(),
            |known, at| Self::decide_import(known, at.now, entry),
        )?;
        Ok((is_new, rests_on.map(|rests_on| rests_on.lsn)))
    }

    /// Decides an import: what is live here stays, and what has ended is left out.
    fn decide_import(known: Option<&Known>, now: Timestamp, entry: &ImportEntry) -> Decision<bool> {
        if let Some(known) = known
            && known.version.is_live(now)
        {
            return Decision::Answer(false, known.lsn);
        }
        if entry.deadline <= now {
            return Decision::Answer(false, None);
        }
        // Not before an earlier, ended claim or a tombstone: the import would rank below it.
        let first_seen = entry.first_seen.min(now);
        let first_seen = known.map_or(first_seen, |k| first_seen.max(k.version.first_seen));
        let version = Version {
            first_seen,
            deadline: entry.deadline,
            class: class_of(first_seen, entry.deadline),
            step: 0,
        };
        let version = version.after(known.map(|known| &known.version));
        Decision::Append(true, version, None)
    }
}

fn class_of(first_seen: Timestamp, deadline: Timestamp) -> Class {
    if deadline == Timestamp::NEVER {
        return Class::FOREVER;
    }
    Class::of_ttl(deadline.as_millis().saturating_sub(first_seen.as_millis()))
}
