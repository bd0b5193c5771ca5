//! SQLite: four tables and prepared statements in one SQL transaction. WAL; `synchronous` FULL to be on disk, otherwise
//! NORMAL, which survives the process.

use super::{Event, Pipeline};
use crate::store::MEMORY_BYTES;
use anyhow::Result;
use rusqlite::{Connection, params};
use std::path::Path;

const CLAIM: &str = "INSERT OR IGNORE INTO seen (id) VALUES (?1)";
const ADD: &str = "INSERT INTO points (user, points) VALUES (?1, 1)
    ON CONFLICT (user) DO UPDATE SET points = points + 1 RETURNING points";
const EMIT: &str = "INSERT INTO outbox (user, payload) VALUES (?1, ?2)";
const ADVANCE: &str = "INSERT INTO offsets (partition, next) VALUES (0, ?1)
    ON CONFLICT (partition) DO UPDATE SET next = ?1";

pub fn open(dir: &Path, disk: bool) -> Result<Box<dyn Pipeline>> {
    let connection = Connection::open(dir.join("events.sqlite"))?;
    let synchronous = if disk { "FULL" } else { "NORMAL" };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {synchronous};
         PRAGMA cache_size = -{};
         CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID;
         CREATE TABLE points (user INTEGER PRIMARY KEY, points INTEGER);
         CREATE TABLE offsets (partition INTEGER PRIMARY KEY, next INTEGER);
         CREATE TABLE outbox (position INTEGER PRIMARY KEY AUTOINCREMENT, user INTEGER, payload BLOB);",
        MEMORY_BYTES / 1024
    ))?;
    Ok(Box::new(Sqlite(connection)))
}

struct Sqlite(Connection);

impl Pipeline for Sqlite {
    fn apply(&mut self, events: &[Event]) -> Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut claim = transaction.prepare_cached(CLAIM)?;
            let mut add = transaction.prepare_cached(ADD)?;
            let mut emit = transaction.prepare_cached(EMIT)?;
            for event in events {
                if claim.execute(params![event.id])? == 1 {
                    let user = event.user.cast_signed();
                    let points: i64 = add.query_row(params![user], |row| row.get(0))?;
                    emit.execute(params![user, points.to_le_bytes()])?;
                }
            }
            // One statement for all of a batch, as the last offset counts.
            if let Some(last) = events.last() {
                let next = last.offset.cast_signed() + 1;
                transaction.prepare_cached(ADVANCE)?.execute(params![next])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn totals(&mut self) -> Result<(u64, u64, u64)> {
        let one = |sql: &str| -> Result<u64> {
            let number: i64 = self.0.query_row(sql, [], |row| row.get(0))?;
            Ok(number as u64)
        };
        Ok((
            one("SELECT sum(points) FROM points")?,
            one("SELECT next FROM offsets")?,
            one("SELECT count(*) FROM outbox")?,
        ))
    }
}
