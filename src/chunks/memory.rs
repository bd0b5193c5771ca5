//! Chunks in memory, for stores on a simulated disk: gone with the process, so every open rebuilds.

use crate::chunks::{ChunkId, ChunkResult, ChunkStore};
use crate::sync::Mutex;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct MemoryChunks {
    chunks: Mutex<BTreeMap<ChunkId, Vec<u8>>>,
    mark: Mutex<Option<u64>>,
}

impl ChunkStore for MemoryChunks {
    fn get(&self, id: ChunkId, read: &mut dyn FnMut(&[u8])) -> ChunkResult<bool> {
        let chunks = self.chunks.lock();
        let found = chunks.get(&id);
        found.into_iter().for_each(|bytes| read(bytes));
        Ok(found.is_some())
    }

    fn put(&self, id: ChunkId, bytes: &[u8]) -> ChunkResult<()> {
        self.chunks.lock().insert(id, bytes.to_vec());
        Ok(())
    }

    fn remove(&self, id: ChunkId) -> ChunkResult<()> {
        self.chunks.lock().remove(&id);
        Ok(())
    }

    fn remove_from(&self, run: u64) -> ChunkResult<()> {
        self.chunks.lock().retain(|id, _| id.run < run);
        Ok(())
    }

    fn mark(&self) -> ChunkResult<Option<u64>> {
        Ok(*self.mark.lock())
    }

    fn set_mark(&self, mark: u64) -> ChunkResult<()> {
        *self.mark.lock() = Some(mark);
        Ok(())
    }

    fn sync(&self) -> ChunkResult<()> {
        Ok(())
    }

    fn reopen(&self) -> ChunkResult<()> {
        Ok(())
    }

    fn reset(&self) -> ChunkResult<()> {
        self.chunks.lock().clear();
        *self.mark.lock() = None;
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.chunks.lock().values().map(|bytes| bytes.len() as u64).sum()
    }

    fn close(&self) {}
}
