//! redb: four tables in one write transaction. On disk: `Immediate`. Otherwise `None`, which is less than the others give:
//! a kill loses it.

use super::{Event, Pipeline};
use crate::store::MEMORY_BYTES;
use anyhow::Result;
use redb::{Database, Durability, ReadableTable, ReadableTableMetadata, TableDefinition};
use std::path::Path;

const SEEN: TableDefinition<'_, &[u8], ()> = TableDefinition::new("seen");
const POINTS: TableDefinition<'_, u64, u64> = TableDefinition::new("points");
const OFFSETS: TableDefinition<'_, u64, u64> = TableDefinition::new("offsets");
const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox");

pub fn open(dir: &Path, disk: bool) -> Result<Box<dyn Pipeline>> {
    let path = dir.join("events.redb");
    let db = Database::builder().set_cache_size(MEMORY_BYTES).create(path)?;
    Ok(Box::new(Redb { db, disk, position: 0 }))
}

struct Redb {
    db: Database,
    disk: bool,
    /// Of the next message: there is one writer.
    position: u64,
}

impl Pipeline for Redb {
    fn apply(&mut self, events: &[Event]) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(if self.disk { Durability::Immediate } else { Durability::None })?;
        {
            let mut seen = txn.open_table(SEEN)?;
            let mut points = txn.open_table(POINTS)?;
            let mut outbox = txn.open_table(OUTBOX)?;
            for event in events {
                if seen.insert(&event.id[..], ())?.is_none() {
                    let before = points.get(event.user)?.map_or(0, |value| value.value());
                    points.insert(event.user, before + 1)?;
                    let (user, sum) = (event.user.to_le_bytes(), (before + 1).to_le_bytes());
                    outbox.insert(self.position, &[user, sum].concat()[..])?;
                    self.position += 1;
                }
            }
            if let Some(last) = events.last() {
                txn.open_table(OFFSETS)?.insert(0, last.offset + 1)?;
            }
        }
        Ok(txn.commit()?)
    }

    fn totals(&mut self) -> Result<(u64, u64, u64)> {
        let txn = self.db.begin_write()?;
        let mut sum = 0;
        for entry in txn.open_table(POINTS)?.iter()? {
            sum += entry?.1.value();
        }
        let next = txn.open_table(OFFSETS)?.get(0)?.map_or(0, |value| value.value());
        let messages = txn.open_table(OUTBOX)?.len()?;
        Ok((sum, next, messages))
    }
}
