//! fjall 3, an LSM tree.
//!
//! By its README, a write goes to the system's buffers by default, `persist` with `SyncData` is an fdatasync, memory is
//! set by the block cache, and look-then-insert needs a lock or a transaction (`striped.rs` says why a lock). Filters
//! are on by default.

use super::striped::Striped;
use crate::store::{MEMORY_BYTES, Session, Settings, Store};
use crate::workload::Sync;
use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::collections::HashSet;

/// As long as the time that firstseen keeps for each id.
const VALUE: [u8; 8] = [0; 8];

struct Fjall {
    db: Database,
    seen: Keyspace,
    striped: Striped,
    each: bool,
}

pub fn open(settings: &Settings) -> Result<Box<dyn Store>> {
    let db = Database::builder(&settings.dir).cache_size(MEMORY_BYTES as u64).open()?;
    let seen = db.keyspace("seen", KeyspaceCreateOptions::default)?;
    let each = settings.sync == Sync::Each;
    Ok(Box::new(Fjall { db, seen, striped: Striped::new(), each }))
}

impl Store for Fjall {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}

impl Session for &Fjall {
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        let _held = self.striped.lock(id);
        if self.seen.contains_key(id)? {
            return Ok(false);
        }
        self.seen.insert(id, VALUE)?;
        if self.each {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(true)
    }

    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        let _held = self.striped.lock_batch(ids);
        let mode = if self.each { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.db.batch().durability(Some(mode));
        let mut inside = HashSet::with_capacity(ids.len());
        for id in ids {
            if !self.seen.contains_key(id)? && inside.insert(*id) {
                batch.insert(&self.seen, *id, VALUE);
            }
        }
        if !inside.is_empty() {
            batch.commit()?;
        }
        Ok(inside.len() as u64)
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncData)?)
    }
}
