//! What a store reports about itself.

use crate::engine::core::Core;
use crate::engine::core::counters::Counters;
use serde::Serialize;
use std::fmt;

/// Claim counts of one namespace since the store was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamespaceStats {
    /// Its name; `default` is the one used by calls on the store itself.
    pub name: String,
    /// Claims that were first seen.
    pub first_seen: u64,
    /// Claims that were duplicates.
    pub duplicates: u64,
}

/// A snapshot of an open store: current sizes, and counters since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Claims that were first seen.
    pub first_seen: u64,
    /// Claims that were duplicates.
    pub duplicates: u64,
    /// The same for each namespace.
    pub namespaces: Vec<NamespaceStats>,
    /// Ids in memory, not flushed yet (live or not, tombstones included).
    pub ids_unflushed: u64,
    /// Entries in flushed runs (live or not; an extended id may count twice).
    pub ids_flushed: u64,
    /// Ids reserved and neither confirmed nor released.
    pub ids_reserved: u64,
    /// Shards.
    pub shards: u64,
    /// Flushed runs.
    pub runs: u64,
    /// Generations with flushed ids.
    pub generations: u64,
    /// Memory used by unflushed ids, in bytes.
    pub memory_unflushed_bytes: u64,
    /// Memory used by cached blocks, in bytes.
    pub memory_block_bytes: u64,
    /// Memory used by filters and by the in-memory part of locator files, in bytes.
    pub memory_filter_bytes: u64,
    /// Log segments.
    pub log_segments: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Size of the log's files, preallocated space included, in bytes.
    pub log_file_bytes: u64,
    /// Size of the sled folder as sled counts it, in bytes.
    pub sled_bytes: u64,
    /// Filters probed by claims.
    pub filter_probes: u64,
    /// Blocks read, in memory or from the block store, because a filter said "maybe".
    pub block_reads: u64,
    /// Times a locator file and the log were read instead, because the block was not in memory.
    pub log_reads: u64,
    /// Reads of either kind that found nothing: the cost of the filters.
    pub filter_false_positives: u64,
    /// Syncs of the log.
    pub log_syncs: u64,
    /// Runs made from memtables.
    pub runs_flushed: u64,
    /// Merges of runs.
    pub merges: u64,
    /// Runs that were merged; one that is written again without what is spent is one, too.
    pub runs_merged: u64,
    /// Entries that flushes wrote into runs.
    pub entries_flushed: u64,
    /// Bytes that flushes wrote: blocks, filters and locator files.
    pub bytes_flushed: u64,
    /// Entries that merges wrote again.
    pub entries_merged: u64,
    /// Bytes that merges wrote.
    pub bytes_merged: u64,
    /// Blocks given to sled. It writes each several times.
    pub blocks_written: u64,
    /// Bytes of those blocks.
    pub block_bytes_written: u64,
    /// Blocks of runs whose removal from sled was asked for.
    pub blocks_removed: u64,
    /// Manifests written. Log and sled are synced for each.
    pub manifests_written: u64,
    /// Processor time of all work in the background, in nanoseconds, without sled's own threads. The next four are parts of it.
    pub background_processor_ns: u64,
    /// Processor time of making runs from memtables, in nanoseconds.
    pub flush_processor_ns: u64,
    /// Processor time of making runs from runs, in nanoseconds.
    pub merge_processor_ns: u64,
    /// Processor time of publishing, in nanoseconds: syncing log and sled, writing the manifest. Callers seldom do it, too.
    pub publish_processor_ns: u64,
    /// Processor time of the job of the log, in nanoseconds: preparing segments, filling them with zeros, syncing.
    pub log_processor_ns: u64,
    /// Entries dropped with their generation.
    pub ids_expired: u64,
    /// Runs dropped with their generation.
    pub runs_expired: u64,
    /// Log segments removed.
    pub segments_removed: u64,
    /// Records copied to the tail so that a segment could be removed.
    pub ids_rewritten: u64,
    /// Claims that had to wait for a flush.
    pub waits_for_flush: u64,
    /// Writes that waited, because rows were overwritten faster than compaction frees their space.
    pub waits_for_compaction: u64,
    /// Times blocks were rebuilt from the log.
    pub heals: u64,
    /// Blocks rebuilt from the log.
    pub blocks_healed: u64,
    /// Background steps that failed and were retried.
    pub background_failures: u64,
    /// Records read from the log when the store was opened.
    pub replayed_records: u64,
    /// Bytes of a torn tail cut off when the store was opened.
    pub cut_bytes: u64,
    /// Whether opening had to rebuild everything from the log: 0 or 1.
    pub rebuilds: u64,
    /// Forward jumps of the wall clock that were not followed at once (I5).
    pub clock_jumps: u64,
    /// How far the wall clock is ahead of the engine's time while a jump is not followed, in milliseconds.
    pub clock_held_ms: u64,
}

impl Core {
    /// Takes a snapshot. Each shard's lock is held briefly.
    pub(crate) fn stats(&self) -> Stats {
        let mut unflushed = (0, 0);
        let (mut filters, mut cached) = (0, 0);
        let mut reserved = 0;
        let mut runs = Vec::new();
        let (mut probes, mut reads, mut in_log, mut false_positives) = (0, 0, 0, 0);
        for cell in &self.shards {
            let shard = cell.shard.lock();
            let (ids, bytes) = shard.unflushed();
            unflushed = (unflushed.0 + ids as u64, unflushed.1 + bytes as u64);
            reserved += shard.reserved.len() as u64;
            cached += shard.cached_bytes() as u64;
            for run in shard.all_runs() {
                let locators = run.locators.as_ref().map_or(0, |locators| locators.bytes());
                filters += (run.filter.bytes() + locators) as u64;
            }
            runs.extend(shard.all_runs().map(|run| (run.meta.generation, run.meta.ids)));
            probes += shard.counts.probes;
            reads += shard.counts.block_reads;
            in_log += shard.counts.log_reads;
            false_positives += shard.counts.false_positives;
        }
        let mut generations: Vec<_> = runs.iter().map(|(generation, _)| *generation).collect();
        generations.sort_unstable();
        generations.dedup();
        let namespaces: Vec<NamespaceStats> = (self.namespaces.listed().iter())
            .map(|info| {
                let (first_seen, duplicates) = info.counts();
                NamespaceStats { name: info.name.clone(), first_seen, duplicates }
            })
            .collect();
        let (log_file_bytes, log_bytes) = self.log.bytes();
        let c = &self.counters;
        Stats {
            first_seen: namespaces.iter().map(|ns| ns.first_seen).sum(),
            duplicates: namespaces.iter().map(|ns| ns.duplicates).sum(),
            namespaces,
            ids_unflushed: unflushed.0,
            ids_flushed: runs.iter().map(|(_, ids)| ids).sum(),
            ids_reserved: reserved,
            shards: self.shards.len() as u64,
            runs: runs.len() as u64,
            generations: generations.len() as u64,
            memory_unflushed_bytes: unflushed.1,
            memory_block_bytes: cached,
            memory_filter_bytes: filters,
            log_segments: self.log.closed().len() as u64 + 1,
            log_bytes,
            log_file_bytes,
            sled_bytes: self.blocks.bytes(),
            filter_probes: probes,
            block_reads: reads,
            log_reads: in_log,
            filter_false_positives: false_positives,
            log_syncs: self.log.syncs(),
            runs_flushed: c.runs_flushed.get(),
            merges: c.merges.get(),
            ids_expired: c.ids_expired.get(),
            runs_expired: c.runs_expired.get(),
            segments_removed: c.segments_removed.get(),
            ids_rewritten: c.ids_rewritten.get(),
            waits_for_flush: c.waits_for_flush.get(),
            waits_for_compaction: c.waits_for_compaction.get(),
            heals: c.heals.get(),
            blocks_healed: c.blocks_healed.get(),
            background_failures: c.background_failures.get(),
            replayed_records: c.replayed_records.get(),
            cut_bytes: c.cut_bytes.get(),
            rebuilds: c.rebuilds.get(),
            clock_jumps: self.time.jumps(),
            clock_held_ms: self.time.held_ms(),
            ..work_of(c)
        }
    }
}

/// Returns what work in the background has cost, and nothing else.
fn work_of(c: &Counters) -> Stats {
    Stats {
        runs_merged: c.runs_merged.get(),
        entries_flushed: c.entries_flushed.get(),
        bytes_flushed: c.bytes_flushed.get(),
        entries_merged: c.entries_merged.get(),
        bytes_merged: c.bytes_merged.get(),
        blocks_written: c.blocks_written.get(),
        block_bytes_written: c.block_bytes_written.get(),
        blocks_removed: c.blocks_removed.get(),
        manifests_written: c.manifests_written.get(),
        background_processor_ns: c.background_time.ns(),
        flush_processor_ns: c.flush_time.ns(),
        merge_processor_ns: c.merge_time.ns(),
        publish_processor_ns: c.publish_time.ns(),
        log_processor_ns: c.log_time.ns(),
        ..Stats::default()
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let mut line = |name: &str, value: String| writeln!(f, "{name:<22} {value}");
        line("ids unflushed", self.ids_unflushed.to_string())?;
        line("ids flushed", format!("{} in {} runs", self.ids_flushed, self.runs))?;
        line("generations", self.generations.to_string())?;
        line("ids reserved", self.ids_reserved.to_string())?;
        line("namespaces", self.namespaces.len().to_string())?;
        line("shards", self.shards.to_string())?;
        line("memory, unflushed ids", mib(self.memory_unflushed_bytes))?;
        line("memory, blocks", mib(self.memory_block_bytes))?;
        line("memory, filters", mib(self.memory_filter_bytes))?;
        let log = format!("{} in {}", mib(self.log_bytes), segments(self.log_segments));
        line("disk, log", log)?;
        line("disk, sled", mib(self.sled_bytes))?;
        line("replayed at open", format!("{} records", self.replayed_records))?;
        line("cut from torn tail", format!("{} bytes", self.cut_bytes))?;
        line("clock held back", format!("{} ms", self.clock_held_ms))
    }
}

/// Formats a number of segments for people.
pub(in crate::engine) fn segments(count: u64) -> String {
    format!("{count} segment{}", if count == 1 { "" } else { "s" })
}
