//! Counters of an open store.

use crate::metrics::{Counter, ProcessorTime};

/// Counters of an open store.
#[derive(Debug, Default)]
pub(in crate::engine) struct Counters {
    /// Of all jobs; the next four are parts of it.
    pub(in crate::engine) background_time: ProcessorTime,
    pub(in crate::engine) flush_time: ProcessorTime,
    pub(in crate::engine) merge_time: ProcessorTime,
    pub(in crate::engine) publish_time: ProcessorTime,
    pub(in crate::engine) log_time: ProcessorTime,
    pub(in crate::engine) entries_flushed: Counter,
    pub(in crate::engine) bytes_flushed: Counter,
    pub(in crate::engine) entries_merged: Counter,
    pub(in crate::engine) bytes_merged: Counter,
    pub(in crate::engine) blocks_written: Counter,
    pub(in crate::engine) block_bytes_written: Counter,
    pub(in crate::engine) blocks_removed: Counter,
    pub(in crate::engine) manifests_written: Counter,
    pub(in crate::engine) runs_merged: Counter,
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
