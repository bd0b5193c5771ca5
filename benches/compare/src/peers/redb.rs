//! redb 4, a copy-on-write B-tree.
//!
//! By its documentation: many writes per transaction for speed, `Durability::None` for commits that a later `Immediate`
//! one makes durable (until then a kill loses them too), and `set_cache_size`. There is one writer at a time; redb
//! makes the others wait.

use crate::store::{GROUP_CLAIMS, MEMORY_BYTES, Session, Settings, Store};
use crate::workload::Sync;
use anyhow::Result;
use redb::{Database, Durability, TableDefinition, WriteTransaction};

/// The value is as long as the time that firstseen keeps for each id.
const SEEN: TableDefinition<'_, &[u8], &[u8; 8]> = TableDefinition::new("seen");
const VALUE: [u8; 8] = [0; 8];

struct Redb {
    db: Database,
    each: bool,
    grouped: bool,
}

pub fn open(settings: &Settings, grouped: bool) -> Result<Box<dyn Store>> {
    let db =
        Database::builder().set_cache_size(MEMORY_BYTES).create(settings.dir.join("seen.redb"))?;
    Ok(Box::new(Redb { db, each: settings.sync == Sync::Each, grouped }))
}

impl Store for Redb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle { redb: self, open: None, claims: 0 }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.begin_write()?.commit()?)
    }
}

struct Handle<'a> {
    redb: &'a Redb,
    /// The open transaction of a group.
    open: Option<WriteTransaction>,
    claims: u64,
}

/// Counts the new ids. One insert is faster than a lookup and an insert, and does a duplicate no harm, as all values
/// are the same.
fn insert(txn: &WriteTransaction, ids: &[&[u8]]) -> Result<u64> {
    let mut table = txn.open_table(SEEN)?;
    let mut firsts = 0;
    for id in ids {
        firsts += u64::from(table.insert(*id, &VALUE)?.is_none());
    }
    Ok(firsts)
}

impl Handle<'_> {
    fn begin(&self, durability: Durability) -> Result<WriteTransaction> {
        let mut txn = self.redb.db.begin_write()?;
        txn.set_durability(durability)?;
        Ok(txn)
    }

    fn claim_in_group(&mut self, id: &[u8]) -> Result<bool> {
        if self.claims.is_multiple_of(GROUP_CLAIMS) {
            self.finish()?;
        }
        self.claims += 1;
        let txn = match self.open.take() {
            Some(txn) => txn,
            None => self.begin(Durability::None)?,
        };
        let first = insert(&txn, &[id])? == 1;
        self.open = Some(txn);
        Ok(first)
    }
}

impl Session for Handle<'_> {
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        if self.redb.grouped {
            return self.claim_in_group(id);
        }
        Ok(self.claim_batch(&[id])? == 1)
    }

    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        let durability = if self.redb.each { Durability::Immediate } else { Durability::None };
        let txn = self.begin(durability)?;
        let firsts = insert(&txn, ids)?;
        if firsts == 0 {
            // Nothing new, and what was there is already as durable as required.
            txn.abort()?;
        } else {
            txn.commit()?;
        }
        Ok(firsts)
    }

    fn sync(&mut self) -> Result<()> {
        let mut txn = match self.open.take() {
            Some(txn) => txn,
            None => self.redb.db.begin_write()?,
        };
        txn.set_durability(Durability::Immediate)?;
        Ok(txn.commit()?)
    }

    fn finish(&mut self) -> Result<()> {
        self.open.take().map_or(Ok(()), |txn| Ok(txn.commit()?))
    }
}
