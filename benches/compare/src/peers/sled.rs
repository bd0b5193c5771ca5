//! sled 0.34.7, one key per id.
//!
//! By its documentation: `compare_and_swap` for "set if absent", `HighThroughput` for write-heavy use, and `flush` for
//! durability; without a flush it writes every 500 ms. On Linux, `flush` is a write and a `sync_file_range`, which is
//! no sync, so a second variant adds an fdatasync of sled's file.

use crate::store::{MEMORY_BYTES, Session, Settings, Store};
use crate::workload::Sync;
use anyhow::Result;
use std::fs::File;

/// How to sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    AsItIs,
    AndFdatasync,
}

/// As long as the time that firstseen keeps for each id.
const VALUE: [u8; 8] = [0; 8];

struct Sled {
    db: sled::Db,
    /// The file that `flush` does not sync.
    file: Option<File>,
    each: bool,
}

pub fn open(settings: &Settings, flush: Flush) -> Result<Box<dyn Store>> {
    let config = sled::Config::new()
        .path(&settings.dir)
        .mode(sled::Mode::HighThroughput)
        .cache_capacity(MEMORY_BYTES as u64);
    // Runs that flush themselves need no flush thread.
    let config = if settings.sync == Sync::Never { config } else { config.flush_every_ms(None) };
    let db = config.open()?;
    let file = match flush {
        Flush::AsItIs => None,
        Flush::AndFdatasync => Some(File::open(settings.dir.join("db"))?),
    };
    Ok(Box::new(Sled { db, file, each: settings.sync == Sync::Each }))
}

impl Store for Sled {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn close(self: Box<Self>) -> Result<()> {
        (&*self).sync()
    }
}

impl Sled {
    fn swap(&self, id: &[u8]) -> Result<bool> {
        Ok(self.db.compare_and_swap(id, None::<&[u8]>, Some(&VALUE))?.is_ok())
    }
}

impl Session for &Sled {
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        let first = self.swap(id)?;
        if self.each {
            // For duplicates too: the claim behind one may not be flushed yet.
            self.sync()?;
        }
        Ok(first)
    }

    /// sled's own batches cannot tell which keys existed, so a batch is many claims and one flush.
    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        let mut firsts = 0;
        for id in ids {
            firsts += u64::from(self.swap(id)?);
        }
        if self.each {
            self.sync()?;
        }
        Ok(firsts)
    }

    fn sync(&mut self) -> Result<()> {
        self.db.flush()?;
        if let Some(file) = &self.file {
            file.sync_data()?;
        }
        Ok(())
    }
}
