//! Scans of a family of rows as it was at one moment.
//!
//! A scan reads one shard after the other, while commits go on. Whoever changes a row of a shard that was not read yet
//! notes for the scan what the row was, once.

use crate::expiry::Version;
use crate::id::{Family, Key, NsId};
use crate::shard::KnownRow;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, RwLock};
use crate::wal::ItemAt;
use std::collections::HashMap;

/// What rows were when a scan began, by key; `None`: not there.
pub(in crate::engine) type Before = HashMap<(NsId, Box<[u8]>), Option<(Version, ItemAt)>>;

/// The scans under way.
#[derive(Debug, Default)]
pub(in crate::engine) struct Scans {
    open: RwLock<Vec<Arc<Scan>>>,
    /// How many there are: every row that is entered asks.
    count: AtomicU64,
}

/// A scan under way.
#[derive(Debug)]
pub(in crate::engine) struct Scan {
    family: Family,
    /// Of each shard what has changed; `None` once it was read. Each is used under the lock of its shard.
    shards: Box<[Mutex<Option<Before>>]>,
}

/// Ends a scan when dropped.
#[derive(Debug)]
pub(in crate::engine) struct ScanGuard<'a> {
    all: &'a Scans,
    scan: Arc<Scan>,
}

impl Scans {
    /// Begins a scan. The locks of all shards are held: each commit is wholly before it, or wholly after it.
    pub(in crate::engine) fn begin(&self, family: Family, shards: usize) -> ScanGuard<'_> {
        let shards = (0..shards).map(|_| Mutex::new(Some(Before::new()))).collect();
        let scan = Arc::new(Scan { family, shards });
        self.open.write().push(Arc::clone(&scan));
        self.count.fetch_add(1, Ordering::AcqRel);
        ScanGuard { all: self, scan }
    }

    /// Returns whether a scan is under way: what it reads must stay in the log.
    pub(in crate::engine) fn is_any(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    /// Notes what a row was. The lock of its shard is held, and the row is about to change.
    #[inline]
    pub(in crate::engine) fn note(&self, key: Key<'_>, shard: usize, known: Option<KnownRow>) {
        if self.is_any() {
            self.note_for_all(key, shard, known);
        }
    }

    #[cold]
    fn note_for_all(&self, key: Key<'_>, shard: usize, known: Option<KnownRow>) {
        let open = self.open.read();
        for scan in open.iter().filter(|scan| scan.family == key.ns.family()) {
            if let Some(before) = &mut *scan.shards[shard].lock() {
                let known = known.map(|known| (known.version, known.at));
                before.entry((key.ns, key.id.into())).or_insert(known);
            }
        }
    }
}

impl ScanGuard<'_> {
    /// Returns what has changed in a shard since the scan began. Nothing more is noted: the lock of the shard is held, and
    /// the caller copies what it holds now.
    pub(in crate::engine) fn take(&self, shard: usize) -> Before {
        self.scan.shards[shard].lock().take().unwrap_or_default()
    }
}

impl Drop for ScanGuard<'_> {
    fn drop(&mut self) {
        self.all.open.write().retain(|scan| !Arc::ptr_eq(scan, &self.scan));
        self.all.count.fetch_sub(1, Ordering::AcqRel);
    }
}
