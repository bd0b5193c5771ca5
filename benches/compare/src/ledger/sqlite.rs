//! SQLite: one row an id. `begin` inserts it or takes over an ended lease, in one statement; `complete` is an update that
//! names the token. WAL; `synchronous` FULL to be on disk at each call, otherwise NORMAL, which survives the process.

use super::{LEASE_MS, Ledger, Session, Setting};
use crate::store::MEMORY_BYTES;
use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

const BEGIN: &str =
    "INSERT INTO ledger (id, state, token, lease, attempts) VALUES (?1, 0, 1, ?3, 1)
    ON CONFLICT (id) DO UPDATE SET token = token + 1, lease = ?3, attempts = attempts + 1
    WHERE state = 0 AND lease <= ?2
    RETURNING token";
const COMPLETE: &str =
    "UPDATE ledger SET state = 1, result = ?3 WHERE id = ?1 AND state = 0 AND token = ?2";

pub fn open(setting: Setting<'_>) -> Result<Box<dyn Ledger>> {
    let connection = Connection::open(setting.dir.join("ledger.sqlite"))?;
    let synchronous = if setting.disk { "FULL" } else { "NORMAL" };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {synchronous};
         PRAGMA cache_size = -{};
         CREATE TABLE ledger (id BLOB PRIMARY KEY, state INTEGER, token INTEGER, lease INTEGER,
             attempts INTEGER, result BLOB) WITHOUT ROWID;",
        MEMORY_BYTES / 1024
    ))?;
    Ok(Box::new(Sqlite(Mutex::new(connection))))
}

/// There is one writer at a time: waiting for SQLite's own lock means sleeping in steps.
struct Sqlite(Mutex<Connection>);

impl Sqlite {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for Sqlite {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle(self)))
    }
}

struct Handle<'a>(&'a Sqlite);

impl Session for Handle<'_> {
    fn begin(&mut self, id: &[u8]) -> Result<Option<u64>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
        let connection = self.0.lock();
        let mut begin = connection.prepare_cached(BEGIN)?;
        let token: Option<i64> = begin
            .query_row(params![id, now, now + LEASE_MS.cast_signed()], |row| row.get(0))
            .optional()?;
        Ok(token.map(|token| token as u64))
    }

    fn complete(&mut self, id: &[u8], token: u64, result: &[u8]) -> Result<bool> {
        let connection = self.0.lock();
        let mut complete = connection.prepare_cached(COMPLETE)?;
        Ok(complete.execute(params![id, token.cast_signed(), result])? == 1)
    }
}
