//! What a source has met that a consumer should know of.

use crate::entry::EntryId;
use crate::error::RedisError;
use crate::lock::lock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// What a source has met so far; see [`RedisWatch::counters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisCounters {
    /// Entries that were delivered to somebody, and trimmed or deleted before they were acknowledged: they are lost, unless
    /// another process still has them. Each was told by an error of the source, too.
    pub trimmed: u64,
    /// Entries that were trimmed or deleted while this process had them: they are worked on to their end, and lost only if
    /// it dies meanwhile. Not among `trimmed`.
    pub trimmed_in_hand: u64,
    /// Entries that were trimmed or deleted before they were delivered to anybody: at least so many. It is looked for
    /// whenever the loop asks for the lag, and not seen where the group has moved on meanwhile.
    pub skipped: u64,
    /// How often the group was gone and was made again.
    pub groups_made_again: u64,
    /// Consumers without pending entries that were removed from the group.
    pub consumers_removed: u64,
    /// Entries that were taken over after nothing was heard of them for so long.
    pub claimed: u64,
}

/// Reads the counters of a source, also when a loop has it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RedisWatch {
    live: Arc<Live>,
}

#[derive(Debug, Default)]
struct Live {
    trimmed: AtomicU64,
    trimmed_in_hand: AtomicU64,
    skipped: AtomicU64,
    groups_made_again: AtomicU64,
    consumers_removed: AtomicU64,
    claimed: AtomicU64,
    /// What is lost and was not told: how many, the lowest and the highest id.
    untold: Mutex<Option<(u64, EntryId, EntryId)>>,
}

impl RedisWatch {
    /// Returns what the source has met so far.
    pub fn counters(&self) -> RedisCounters {
        let Live { trimmed, trimmed_in_hand, skipped, .. } = &*self.live;
        RedisCounters {
            trimmed: trimmed.load(Relaxed),
            trimmed_in_hand: trimmed_in_hand.load(Relaxed),
            skipped: skipped.load(Relaxed),
            groups_made_again: self.live.groups_made_again.load(Relaxed),
            consumers_removed: self.live.consumers_removed.load(Relaxed),
            claimed: self.live.claimed.load(Relaxed),
        }
    }

    /// These entries are lost.
    pub(crate) fn trimmed(&self, ids: &[EntryId]) {
        let (Some(&first), Some(&last)) = (ids.iter().min(), ids.iter().max()) else { return };
        self.live.trimmed.fetch_add(ids.len() as u64, Relaxed);
        self.is_lost(ids.len() as u64, first, last);
    }

    /// So many entries between these two were never delivered.
    pub(crate) fn skipped(&self, count: u64, after: EntryId, before: EntryId) {
        self.live.skipped.fetch_add(count, Relaxed);
        self.is_lost(count, after, before);
    }

    pub(crate) fn trimmed_in_hand(&self, id: EntryId) {
        self.live.trimmed_in_hand.fetch_add(1, Relaxed);
        tracing::warn!(%id, "an entry was trimmed while it is worked on: it is lost if this process dies now");
    }

    pub(crate) fn group_made_again(&self) {
        self.live.groups_made_again.fetch_add(1, Relaxed);
    }

    pub(crate) fn consumers_removed(&self, count: u64) {
        self.live.consumers_removed.fetch_add(count, Relaxed);
    }

    pub(crate) fn claimed(&self, count: usize) {
        self.live.claimed.fetch_add(count as u64, Relaxed);
    }

    /// Returns what is lost since the last call, as the error that tells it.
    pub(crate) fn tell(&self, stream: &str) -> Result<(), RedisError> {
        let untold = lock(&self.live.untold).take();
        untold.map_or(Ok(()), |(count, first, last)| {
            Err(RedisError::Trimmed { stream: stream.to_owned(), count, first, last })
        })
    }

    fn is_lost(&self, more: u64, from: EntryId, to: EntryId) {
        let mut untold = lock(&self.live.untold);
        let (count, first, last) = untold.unwrap_or((0, from, to));
        *untold = Some((count + more, first.min(from), last.max(to)));
    }
}
