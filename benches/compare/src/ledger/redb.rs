//! redb: one value an id, read and written in one write transaction. On disk at each call: `Immediate`. Otherwise
//! `None`, which is less than the others give: a kill loses it.

use super::{LEASE_MS, Ledger, Session, Setting};
use crate::store::MEMORY_BYTES;
use anyhow::Result;
use redb::{Database, Durability, ReadableTable, TableDefinition};
use std::time::{SystemTime, UNIX_EPOCH};

/// State, token and end of the lease, then the result.
const LEDGER: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("ledger");
const HEAD: usize = 17;

pub fn open(setting: Setting<'_>) -> Result<Box<dyn Ledger>> {
    let path = setting.dir.join("ledger.redb");
    let db = Database::builder().set_cache_size(MEMORY_BYTES).create(path)?;
    Ok(Box::new(Redb { db, disk: setting.disk }))
}

struct Redb {
    db: Database,
    disk: bool,
}

impl Ledger for Redb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle(self)))
    }
}

struct Handle<'a>(&'a Redb);

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

impl Handle<'_> {
    /// Replaces the value of an id by what `change` makes of it; returns whether it does.
    fn update(
        &self,
        id: &[u8],
        change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>> {
        let mut txn = self.0.db.begin_write()?;
        txn.set_durability(if self.0.disk { Durability::Immediate } else { Durability::None })?;
        let new = {
            let mut table = txn.open_table(LEDGER)?;
            let new = change(table.get(id)?.as_ref().map(redb::AccessGuard::value));
            if let Some(new) = &new {
                table.insert(id, new.as_slice())?;
            }
            new
        };
        if new.is_some() {
            txn.commit()?;
        } else {
            txn.abort()?;
        }
        Ok(new)
    }
}

impl Session for Handle<'_> {
    fn begin(&mut self, id: &[u8]) -> Result<Option<u64>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        let new = self.update(id, |old| {
            let token = match old {
                None => 1,
                Some(old) if old[0] == 0 && number(&old[9..HEAD]) <= now => number(&old[1..9]) + 1,
                Some(_) => return None,
            };
            Some([&[0][..], &token.to_le_bytes(), &(now + LEASE_MS).to_le_bytes()].concat())
        })?;
        Ok(new.map(|new| number(&new[1..9])))
    }

    fn complete(&mut self, id: &[u8], token: u64, result: &[u8]) -> Result<bool> {
        let new = self.update(id, |old| {
            let old = old.filter(|old| old[0] == 0 && number(&old[1..9]) == token)?;
            Some([&[1], &old[1..HEAD], result].concat())
        })?;
        Ok(new.is_some())
    }
}
