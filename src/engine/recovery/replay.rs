//! Replaying the log into a store being opened.

use crate::engine::catalog::namespaces::Registry;
use crate::engine::catalog::run_builder::RunBuilder;
use crate::engine::catalog::scopes::Gone;
use crate::engine::core::note_watermark;
use crate::engine::recovery::opening::{Failed, Opening};
use crate::error::{Error, Result};
use crate::expiry::Watermarks;
use crate::run::{InHashOrder, InLog, RunAccess};
use crate::shard::RunHandle;
use crate::time::Timestamp;
use crate::wal::{At, Item, ItemAt, Log, LogConfig, Lsn, Recovered, ReplayPlan};

/// What was replayed.
pub(super) struct Replayed {
    pub(super) log: Log,
    /// Bytes of a torn tail that were cut off.
    pub(super) cut_bytes: u64,
    /// The highest time in any record, or else in the manifest.
    pub(super) newest: u64,
    pub(super) records: u64,
    /// The sequence of the next row.
    pub(super) sequence: u64,
    /// The watermarks in the records that were read.
    pub(super) watermarks: Watermarks,
}

/// Applies the log to the store being opened.
struct Replay<'a> {
    opening: &'a mut Opening,
    shard_bits: u32,
    /// The highest time in any record: the engine's time does not start before it (I5).
    newest: u64,
    /// Above that of every row.
    sequence: u64,
    /// Watermarks only grow, so it does not matter which of a namespace's counts.
    watermarks: Watermarks,
    /// Items of rows that others replaced.
    superseded: Vec<ItemAt>,
    /// The engine's time when the manifest was written: anything swept had expired by then.
    ended_by: Timestamp,
    records: u64,
    /// Whether a block needed to look a key up cannot be read.
    is_block_unreadable: bool,
    /// The end of the record being read.
    last: Lsn,
    /// Shards whose memtable is full.
    full: Vec<usize>,
}

impl Replay<'_> {
    fn apply(&mut self, at: At, item: Item<'_>, registry: &Registry) -> Result<()> {
        self.record_begins(at.record)?;
        self.records += 1;
        let (key, version, row) = match item {
            Item::Version(key, version) => {
                self.newest = self.newest.max(version.first_seen().as_millis());
                (key, version, None)
            }
            Item::Row { key, version, value, len } => {
                self.sequence = self.sequence.max(version.rank.saturating_add(1));
                note_watermark(&self.watermarks, key, value);
                (key, version, Some(ItemAt { end: at.item, len }))
            }
            Item::Namespace(record) => {
                let name = String::from_utf8_lossy(record.name);
                registry.restore(record.ns, &name, record.ttl, record.sliding);
                self.opening.changed = true;
                return Ok(());
            }
        };
        let hash = self.opening.hasher.hash(key);
        let number = hash.shard(self.shard_bits);
        if at.record <= self.opening.body.flushed[number] {
            return Ok(()); // already in a run
        }
        // Skip spent records: they were left out of runs and swept from them. Replaying one could hide a claim that was
        // imported after that with an earlier first-seen time.
        if version.is_spent(self.ended_by) {
            return Ok(());
        }
        let opening = &mut *self.opening;
        let access = RunAccess {
            store: &*opening.blocks,
            seed: opening.body.seed,
            in_log: Some(InLog { files: &opening.locators, ids: &opening.ids }),
        };
        let shard = &mut opening.shards[number];
        let applied = match row {
            None => shard.apply(key, hash, version, at.item, access),
            Some(item) => shard
                .apply_row(key, hash, version, item, access)
                .map(|superseded| self.superseded.extend(superseded)),
        };
        applied.map_err(|what| {
            self.is_block_unreadable = true;
            Error::Blocks { what, is_full: false }
        })?;
        if shard.memtable.is_full_for(0, 0) && !self.full.contains(&number) {
            self.full.push(number);
        }
        Ok(())
    }

    /// Flushes full shards, only between two records: a batch is many items at one location, and a run flushed up to
    /// that location must hold all of them.
    fn record_begins(&mut self, lsn: Lsn) -> Result<()> {
        if lsn == self.last {
            return Ok(());
        }
        for number in std::mem::take(&mut self.full) {
            self.opening.flush(number, self.last)?;
        }
        self.last = lsn;
        Ok(())
    }
}

impl Opening {
    /// Reads the log, its unflushed part or all of it, into the shards.
    pub(super) fn replay(
        &mut self,
        config: LogConfig,
        registry: &Registry,
    ) -> std::result::Result<Replayed, Failed> {
        let count = self.shards.len();
        let plan = ReplayPlan { rescan: self.rebuild, ..self.body.plan() };
        let first = plan.first;
        if self.rebuild {
            self.body.runs.clear();
            self.body.obsolete.clear();
            self.body.shards = count as u16;
            self.body.flushed = vec![Lsn::new(1, 0); count];
        }
        let (high, sequence) = (self.body.time.map_or(0, |mark| mark.high), self.body.sequence);
        let start = Timestamp::from_millis(high.max(self.settings.clock.wall().as_millis()));
        let mut replay = Replay {
            opening: self,
            shard_bits: count.trailing_zeros(),
            newest: high,
            sequence,
            watermarks: Watermarks::default(),
            superseded: Vec::new(),
            ended_by: Timestamp::from_millis(high),
            records: 0,
            is_block_unreadable: false,
            last: Lsn(0),
            full: Vec::new(),
        };
        let recovered =
            Log::recover(config, plan, start, |at, item| replay.apply(at, item, registry));
        let is_block_unreadable = replay.is_block_unreadable;
        let failed = |e| if is_block_unreadable { Failed::Block(e) } else { Failed::Other(e) };
        let Recovered { log, cut_bytes } = recovered.map_err(failed)?;
        // What is superseded in the segments before these is counted in the manifest.
        replay.superseded.retain(|item| item.end.segment() >= first);
        log.note_superseded(&replay.superseded);
        let (newest, records, sequence) = (replay.newest, replay.records, replay.sequence);
        let watermarks = replay.watermarks;
        if self.rebuild {
            // Compaction has removed segments from the log, so it cannot be read from its beginning again: flush
            // everything in it now.
            (0..count).try_for_each(|number| self.flush(number, log.end()))?;
        }
        Ok(Replayed { log, cut_bytes, newest, records, sequence, watermarks })
    }

    /// Flushes a shard during replay, when the tail does not fit in memory, as when everything is rebuilt. The manifest
    /// lists these runs before the store is used; a crash before that makes them strays.
    fn flush(&mut self, number: usize, lsn: Lsn) -> Result<()> {
        let opening = self;
        let builder = RunBuilder {
            blocks: &*opening.blocks,
            seed: opening.body.seed,
            hasher: opening.hasher,
            disk: &*opening.settings.disk,
            dir: &opening.dir,
            locators: &opening.locators,
            gone: &Gone::default(),
            log: None,
            locator_ids_min: opening.settings.locator_ids_min,
            keep_bytes: 0,
        };
        let shard = &mut opening.shards[number];
        shard.freeze(lsn);
        let Some(frozen) = shard.frozen.clone() else { return Ok(()) };
        // Not the wall clock, which has not been checked yet. At worst, slightly less has expired by this time.
        let now = Timestamp::from_millis(opening.body.time.map_or(0, |mark| mark.high));
        let next_run = &mut opening.body.next_run;
        let runs = builder.flush_memtable(
            number,
            &frozen.set,
            now.into(),
            &mut InHashOrder::default(),
            |_| {
                *next_run += 1;
                *next_run - 1
            },
        )?;
        let runs: Vec<RunHandle> = runs.into_iter().map(|built| built.run).collect();
        opening.body.runs.extend(runs.iter().map(|run| (*run.meta).clone()));
        opening.body.flushed[number] = lsn;
        opening.changed = true;
        shard.flushed(runs);
        Ok(())
    }
}
