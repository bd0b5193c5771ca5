//! The spare of a log, and the sync of it.

use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use crate::wal::segment::Segment;

/// The next segment, created ahead of need.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) segment: Arc<Segment>,
    pub(super) is_filled: bool,
}

/// Tracks the sync of a spare, which may become the active segment meanwhile.
#[derive(Debug, Default)]
pub(super) struct SpareSync {
    pub(super) under_way: Mutex<()>,
    /// Number of the segment being synced; zero if none.
    pub(super) number: AtomicU64,
}

impl SpareSync {
    /// Returns once no sync of a spare matching `is_synced` is running; if that sync failed, the log has stopped.
    pub(super) fn wait_for(&self, is_synced: impl Fn(u32) -> bool) {
        if is_synced(self.number.load(Ordering::Acquire) as u32) {
            drop(self.under_way.lock());
        }
    }
}
