//! What families of rows keep in memory.
//!
//! Pending messages, holds of prepared transactions, offsets: each is rebuilt from its rows, and from nothing else, so
//! it needs no recovery of its own. A family that keeps something implements [`Replay`].
//!
//! The watermarks of namespaces with event time are kept by the engine itself, from its opening on: they say which rows
//! have ended.

use crate::expiry::Watermarks;
use crate::id::{Family, Key, NsId};
use crate::sync::{Arc, AtomicBool, Mutex, MutexGuard, Ordering, RwLock};
use crate::time::Timestamp;
use std::any::Any;
use std::fmt::Debug;

/// A row as a family is notified of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowState<'a> {
    pub(crate) value: &'a [u8],
    pub(crate) sequence: u64,
    /// Nobody tells the family when this has passed: it compares with the engine's time.
    pub(crate) deadline: Timestamp,
}

/// What a commit makes of a row; see [`Replay::apply`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowChanged<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) row: Option<RowState<'a>>,
    pub(crate) replaced: Option<u64>,
}

/// The state that a family keeps in memory.
pub(crate) trait Replay: Any + Debug + Send + Sync {
    /// The family of whose rows it is notified.
    fn family(&self) -> Family;

    /// Is notified of what a row is now; `None`: it was deleted. `replaced` is the sequence of what it replaces. Called
    /// for every live row when the family is attached, and then with each commit, in the order of the commits of a row.
    /// Locks of shards are held: it must be short and call nothing of the engine (I9).
    fn apply(&self, key: Key<'_>, row: Option<RowState<'_>>, replaced: Option<u64>);

    /// Is notified of the rows of a commit, as [`apply`](Self::apply) is of each.
    fn apply_all(&self, changes: &mut dyn Iterator<Item = RowChanged<'_>>) {
        changes.for_each(|RowChanged { key, row, replaced }| self.apply(key, row, replaced));
    }

    /// Is notified that namespaces are gone for ever, with all rows under them. No lock of a shard is held.
    fn forget(&self, is_gone: &dyn Fn(NsId) -> bool) {
        let _ = is_gone;
    }
}

/// The attached families.
#[derive(Debug, Default)]
pub(in crate::engine) struct Families {
    attached: RwLock<Vec<Arc<dyn Replay>>>,
    /// Whether there is one. Each row that is entered asks, and most stores have none.
    has_any: AtomicBool,
    /// Held while a family that is attached only once is, and is told its rows.
    attaching: Mutex<()>,
    watermarks: Watermarks,
}

impl Families {
    /// `watermarks` are those that opening has read.
    pub(in crate::engine) fn new(watermarks: Watermarks) -> Self {
        Self { watermarks, ..Self::default() }
    }

    pub(in crate::engine) fn attach(&self, family: Arc<dyn Replay>) {
        let mut attached = self.attached.write();
        attached.push(family);
        self.has_any.store(true, Ordering::Release);
    }

    /// Lets one thread at a time attach a family.
    pub(in crate::engine) fn lock(&self) -> MutexGuard<'_, ()> {
        self.attaching.lock()
    }

    /// Returns what is attached of this type.
    pub(in crate::engine) fn find<T: Replay>(&self) -> Option<Arc<T>> {
        let attached = self.attached.read();
        attached.iter().find_map(|family| {
            let family: Arc<dyn Any + Send + Sync> = Arc::<dyn Replay>::clone(family);
            family.downcast().ok()
        })
    }

    /// Notifies all of them of the rows of a commit.
    pub(in crate::engine) fn apply<'a>(
        &self,
        changes: impl Iterator<Item = RowChanged<'a>> + Clone,
    ) {
        for RowChanged { key, row, .. } in changes.clone() {
            if let Some(row) = row {
                note_watermark(&self.watermarks, key, row.value);
            }
        }
        if !self.has_any.load(Ordering::Acquire) {
            return;
        }
        for family in self.attached.read().iter() {
            let is_own = |change: &RowChanged<'_>| change.key.ns.family() == family.family();
            family.apply_all(&mut changes.clone().filter(is_own));
        }
    }

    /// Has all families forget what they keep of namespaces that are gone.
    pub(in crate::engine) fn forget(&self, is_gone: &dyn Fn(NsId) -> bool) {
        // A copy: what is dropped meanwhile may be large.
        let attached = self.attached.read().clone();
        attached.iter().for_each(|family| family.forget(is_gone));
    }

    pub(in crate::engine) fn watermarks(&self) -> &Watermarks {
        &self.watermarks
    }
}

/// Key of the row with the watermark of a namespace, in the family of watermarks.
const WATERMARK: &[u8] = &[0];

/// The version of the value of such a row. After it come the watermark, eight bytes in milliseconds, and what only
/// event time reads.
const WATERMARK_VERSION: u8 = 1;

/// Returns the key of the row with the watermark of a namespace.
pub(crate) fn watermark_key(ns: NsId) -> Key<'static> {
    Key { ns: ns.rows(Family::WATERMARKS), id: WATERMARK }
}

/// Raises the watermark of a namespace, if this row holds one. What cannot be decoded ends nothing.
pub(in crate::engine) fn note_watermark(watermarks: &Watermarks, key: Key<'_>, value: &[u8]) {
    if key.ns.family() != Family::WATERMARKS || key.id != WATERMARK {
        return;
    }
    if let Some((&[WATERMARK_VERSION, ref ms @ ..], _)) = value.split_first_chunk::<9>() {
        watermarks.raise(key.ns.listed().0, Timestamp::from_millis(u64::from_le_bytes(*ms)));
    }
}
