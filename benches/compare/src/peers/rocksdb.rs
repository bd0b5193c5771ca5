//! RocksDB 7.8, as Debian 12 builds it.
//!
//! By its wiki: a full Bloom filter of 10 bits for point lookups, one block cache for memory, `sync` in the write
//! options for durability (concurrent writers share a group commit), `SyncWAL` for earlier writes. Look-then-put needs
//! a lock or a transaction (`striped.rs` says why a lock).

use super::striped::Striped;
use crate::store::{MEMORY_BYTES, Session, Settings, Store};
use crate::workload::Sync;
use anyhow::Result;
use rocksdb::{BlockBasedOptions, Cache, DB, Options, WriteBatch, WriteOptions};
use std::collections::HashSet;

/// As long as the time that firstseen keeps for each id.
const VALUE: [u8; 8] = [0; 8];
const BLOOM_BITS: f64 = 10.0;

struct Rocks {
    db: DB,
    striped: Striped,
    each: bool,
}

pub fn open(settings: &Settings) -> Result<Box<dyn Store>> {
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(BLOOM_BITS, false);
    table.set_block_cache(&Cache::new_lru_cache(MEMORY_BYTES)?);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    // One core for compactions beside the one that claims.
    options.increase_parallelism(2);
    let db = DB::open(&options, &settings.dir)?;
    Ok(Box::new(Rocks { db, striped: Striped::new(), each: settings.sync == Sync::Each }))
}

impl Rocks {
    fn write_options(&self) -> WriteOptions {
        let mut options = WriteOptions::default();
        options.set_sync(self.each);
        options
    }
}

impl Store for Rocks {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle { rocks: self, options: self.write_options() }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }
}

struct Handle<'a> {
    rocks: &'a Rocks,
    options: WriteOptions,
}

impl Session for Handle<'_> {
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        let _held = self.rocks.striped.lock(id);
        if self.rocks.db.get_pinned(id)?.is_some() {
            return Ok(false);
        }
        self.rocks.db.put_opt(id, VALUE, &self.options)?;
        Ok(true)
    }

    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        let _held = self.rocks.striped.lock_batch(ids);
        let mut batch = WriteBatch::default();
        let mut inside = HashSet::with_capacity(ids.len());
        for (id, found) in ids.iter().zip(self.rocks.db.multi_get(ids)) {
            if found?.is_none() && inside.insert(*id) {
                batch.put(id, VALUE);
            }
        }
        if !inside.is_empty() {
            self.rocks.db.write_opt(batch, &self.options)?;
        }
        Ok(inside.len() as u64)
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.rocks.db.flush_wal(true)?)
    }
}
