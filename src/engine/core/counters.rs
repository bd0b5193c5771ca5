//! Counters of an open store.

use crate::metrics::Counter;

/// Counters of an open store.
#[derive(Debug, Default)]
pub(in crate::engine) struct Counters {
    pub(in crate::engine) runs_flushed: Counter,
    pub(in crate::engine) runs_expired: Counter,
    pub(in crate::engine) ids_expired: Counter,
    pub(in crate::engine) merges: Counter,
    pub(in crate::engine) heals: Counter,
    pub(in crate::engine) blocks_healed: Counter,
    pub(in crate::engine) segments_removed: Counter,
    pub(in crate::engine) ids_rewritten: Counter,
    pub(in crate::engine) waits_for_flush: Counter,
    pub(in crate::engine) waits_for_compaction: Counter,
    pub(in crate::engine) background_failures: Counter,
    pub(in crate::engine) replayed_records: Counter,
    pub(in crate::engine) cut_bytes: Counter,
    pub(in crate::engine) rebuilds: Counter,
}
