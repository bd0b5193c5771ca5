//! What every subject of the comparison can do.

use crate::workload::Sync as SyncEvery;
use anyhow::Result;
use serde_json::Value;
use std::path::PathBuf;

/// The memory budget of firstseen by default, and the size of every peer's cache.
pub const MEMORY_BYTES: usize = 256 << 20;

/// Claims in one transaction of a store that is measured "grouped".
pub const GROUP_CLAIMS: u64 = 1_000;

/// How a subject is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A folder of the subject's own. It may not be there yet.
    pub dir: PathBuf,
    pub sync: SyncEvery,
    pub id_bytes: usize,
    pub threads: u64,
    pub ttl_s: u64,
}

/// A subject that is open. Threads share it, and each works in a session of its own.
pub trait Store: Sync {
    fn session(&self) -> Result<Box<dyn Session + '_>>;

    /// Ends in order: what was claimed is on disk, as far as the subject keeps anything.
    fn close(self: Box<Self>) -> Result<()>;

    /// Processes other than this one that do the work: the servers.
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    /// What the subject says of itself, kept with the result.
    fn details(&self) -> Value {
        Value::Null
    }
}

/// One thread's way to the subject: a connection, an open transaction, or nothing but the handle.
pub trait Session {
    /// Whether the id is seen for the first time. With [`SyncEvery::Each`], on disk when it returns.
    fn claim(&mut self, id: &[u8]) -> Result<bool>;

    /// How many of the ids are seen for the first time. With [`SyncEvery::Each`], all on disk when it
    /// returns.
    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64>;

    /// What this session has claimed before is on disk when it returns.
    fn sync(&mut self) -> Result<()>;

    /// After the last claim: ends a transaction that is open.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
