//! Rows of a shard: the same memtable, runs of their own.

use crate::expiry::Version;
use crate::id::{IdHash, Key};
use crate::run::{RunAccess, RunIds, RunMeta, find_row_in_run};
use crate::shard::Shard;
use crate::sync::Arc;
use crate::wal::ItemAt;

/// What is known of a row, live or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownRow {
    pub(crate) version: Version,
    /// Where its value is. Unlike the location of an id, this is no hint: there is no copy of the value.
    pub(crate) at: ItemAt,
    /// Whether it is flushed, so that its record is on disk.
    pub(crate) is_flushed: bool,
}

impl KnownRow {
    /// Returns which of two findings counts. Of two copies of one version the later one stays longest in the log.
    pub(crate) fn join(self, other: Self) -> Self {
        let counts = self.version.join(other.version);
        match (self.version == counts, other.version == counts) {
            (true, true) => {
                if other.at.end > self.at.end {
                    other
                } else {
                    self
                }
            }
            (true, false) => self,
            _ => other,
        }
    }
}

/// The result of [`Shard::lookup_row`].
#[derive(Debug)]
pub(crate) enum RowLookup {
    Unknown,
    Known(KnownRow),
    /// A block that had to be read is missing or damaged: heal the run and look up again (I10).
    Damaged(Arc<RunMeta>, String),
}

impl Shard {
    /// Finds the version of a row that counts. Like claims, rows enter the memtable only after a lookup of everything
    /// below it, so a hit in memory ends the search.
    pub(crate) fn lookup_row(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        access: RunAccess<'_>,
    ) -> RowLookup {
        let frozen = self.frozen.as_ref().map(|frozen| &frozen.set);
        let in_memory = [Some(&self.memtable), frozen.map(|set| &**set)];
        for set in in_memory.into_iter().flatten() {
            if let Some(entry) = set.get(key, hash) {
                let at = ItemAt { end: entry.lsn, len: entry.len };
                return RowLookup::Known(KnownRow {
                    version: entry.version,
                    at,
                    is_flushed: false,
                });
            }
        }
        let family = key.ns.family();
        let mut found: Option<KnownRow> = None;
        for run in self.row_runs.iter().filter(|run| run.meta.family == family) {
            if !run.filter.may_contain(hash) {
                continue;
            }
            let ids = RunIds { meta: &run.meta, locators: run.locators.as_deref() };
            match find_row_in_run(access, &mut self.cache, &mut self.locator, ids, key, hash) {
                Ok(None) => {}
                Ok(Some((version, at))) => {
                    let here = KnownRow { version, at, is_flushed: true };
                    found = Some(found.map_or(here, |found| found.join(here)));
                }
                Err(fault) => return RowLookup::Damaged(Arc::clone(&run.meta), fault.what),
            }
        }
        found.map_or(RowLookup::Unknown, RowLookup::Known)
    }

    /// Prefetches what [`lookup_row`](Self::lookup_row) reads first, so that one wait for memory serves several rows.
    pub(crate) fn prefetch_row(&self, key: Key<'_>, hash: IdHash) {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.set.prefetch(hash));
        let unflushed = self.memtable.prefetch(hash) ^ frozen;
        let family = key.ns.family();
        let runs = self.row_runs.iter().filter(|run| run.meta.family == family);
        // Use the value, or the compiler drops the loads.
        std::hint::black_box(runs.fold(unflushed, |sum, run| sum ^ run.filter.prefetch(hash)));
    }

    /// Applies a row read from the log and returns the item that it supersedes, if any. Order and repetition do not
    /// matter; of two copies of one version the later one is entered.
    pub(crate) fn apply_row(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        version: Version,
        at: ItemAt,
        access: RunAccess<'_>,
    ) -> Result<Option<ItemAt>, String> {
        let here = KnownRow { version, at, is_flushed: false };
        let known = match self.lookup_row(key, hash, access) {
            RowLookup::Unknown => None,
            RowLookup::Known(known) => Some(known),
            RowLookup::Damaged(_, fault) => return Err(fault),
        };
        match known {
            // A healed block may hold what its run did not, and what is replayed is to be flushed again all the same: the
            // copy of the block beside its locators does not have it.
            Some(known)
                if known.join(here).at == known.at && (known.at != at || !known.is_flushed) =>
            {
                Ok((known.at != at).then_some(at))
            }
            _ => {
                self.memtable.put_row(key, hash, version, at);
                Ok(known.map(|known| known.at).filter(|known| *known != at))
            }
        }
    }
}
