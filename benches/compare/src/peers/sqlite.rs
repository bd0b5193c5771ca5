//! SQLite through rusqlite, bundled.
//!
//! By its documentation: WAL mode, one transaction around many inserts for speed, prepared statements, a WITHOUT ROWID
//! table for a non-integer key, and `synchronous` FULL to survive a power cut at each commit. OFF and NORMAL survive a
//! kill. With NORMAL, a power cut loses the tail but leaves the file intact, as firstseen promises at `Process`; OFF
//! promises less and is faster. There is one writer at a time: threads share a connection, because waiting for SQLite's
//! own lock means sleeping in steps.

use crate::store::{GROUP_CLAIMS, MEMORY_BYTES, Session, Settings, Store};
use crate::workload::Sync;
use anyhow::Result;
use rusqlite::{Connection, params};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `synchronous` in runs without syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    Off,
    Normal,
}

const INSERT: &str = "INSERT OR IGNORE INTO seen (id, at) VALUES (?1, 0)";

struct Sqlite {
    connection: Mutex<Connection>,
    grouped: bool,
}

pub fn open(settings: &Settings, grouped: bool, unsynced: Unsynced) -> Result<Box<dyn Store>> {
    let connection = Connection::open(settings.dir.join("seen.sqlite"))?;
    let synchronous = match (settings.sync, unsynced) {
        (Sync::Never, Unsynced::Off) => "OFF",
        (Sync::Never, Unsynced::Normal) => "NORMAL",
        // With a sync every thousand claims, a grouped session commits only when told to sync.
        (Sync::Thousand | Sync::Each, _) => "FULL",
    };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {synchronous};
         PRAGMA cache_size = -{};
         CREATE TABLE IF NOT EXISTS seen (id BLOB PRIMARY KEY, at INTEGER) WITHOUT ROWID;",
        MEMORY_BYTES / 1024
    ))?;
    Ok(Box::new(Sqlite { connection: Mutex::new(connection), grouped }))
}

impl Sqlite {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Sqlite {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle { sqlite: self, claims: 0, is_open: false }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        let connection = self.connection.into_inner().unwrap_or_else(PoisonError::into_inner);
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        connection.close().map_err(|(_, error)| error.into())
    }
}

struct Handle<'a> {
    sqlite: &'a Sqlite,
    claims: u64,
    /// Whether a group's transaction is open.
    is_open: bool,
}

impl Session for Handle<'_> {
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        if self.sqlite.grouped {
            if self.claims.is_multiple_of(GROUP_CLAIMS) {
                self.finish()?;
            }
            self.claims += 1;
            if !self.is_open {
                self.sqlite.lock().execute_batch("BEGIN IMMEDIATE")?;
                self.is_open = true;
            }
        }
        let connection = self.sqlite.lock();
        Ok(connection.prepare_cached(INSERT)?.execute(params![id])? == 1)
    }

    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        let mut connection = self.sqlite.lock();
        let txn = connection.transaction()?;
        let mut firsts = 0;
        {
            let mut insert = txn.prepare_cached(INSERT)?;
            for id in ids {
                firsts += insert.execute(params![id])? as u64;
            }
        }
        txn.commit()?;
        Ok(firsts)
    }

    /// With FULL, a commit is a sync.
    fn sync(&mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        if self.is_open {
            self.sqlite.lock().execute_batch("COMMIT")?;
            self.is_open = false;
        }
        Ok(())
    }
}
