//! What every subject of the comparison implements.

use crate::workload::Sync as SyncEvery;
use anyhow::Result;
use serde_json::Value;
use std::path::PathBuf;

/// firstseen's default memory budget, and the cache size of every peer.
pub const MEMORY_BYTES: usize = 256 << 20;

/// Claims per transaction of a "grouped" subject.
pub const GROUP_CLAIMS: u64 = 1_000;

/// How a subject is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The subject's own folder. It may not exist yet.
    pub dir: PathBuf,
    pub sync: SyncEvery,
    pub id_bytes: usize,
    pub threads: u64,
    pub ttl_s: u64,
}

/// An open subject. Threads share it, each with its own session.
pub trait Store: Sync {
    fn session(&self) -> Result<Box<dyn Session + '_>>;

    /// Closes cleanly: what was claimed is on disk, as far as the subject persists anything.
    fn close(self: Box<Self>) -> Result<()>;

    /// Other processes that do the work: the servers.
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    /// The subject's own statistics, stored with the result.
    fn details(&self) -> Value {
        Value::Null
    }
}

/// One thread's access to the subject: a connection, an open transaction, or just the handle.
pub trait Session {
    /// Returns whether the id is first seen. With [`SyncEvery::Each`], it is on disk by then.
    fn claim(&mut self, id: &[u8]) -> Result<bool>;

    /// Returns how many of the ids are first seen. With [`SyncEvery::Each`], all are on disk by then.
    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64>;

    /// Returns once everything this session has claimed is on disk.
    fn sync(&mut self) -> Result<()>;

    /// Called after the last claim: ends an open transaction.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
