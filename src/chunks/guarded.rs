//! A chunk store whose panics end here: each call that panics is one that failed, and so is the end of the store, on
//! whatever thread it comes and whoever lets go of it last.

use crate::chunks::{ChunkId, ChunkResult, ChunkStore, guard};

#[derive(Debug)]
pub(crate) struct Guarded {
    /// Gone only while it is dropped.
    inner: Option<Box<dyn ChunkStore>>,
}

impl Guarded {
    pub(crate) fn new(inner: impl ChunkStore + 'static) -> Self {
        Self { inner: Some(Box::new(inner)) }
    }

    fn run<T>(
        &self,
        doing: &str,
        call: impl FnOnce(&(dyn ChunkStore + 'static)) -> ChunkResult<T>,
    ) -> ChunkResult<T> {
        let gone = || crate::chunks::ChunkFault::new(format!("{doing}: is gone"));
        guard(doing, || call(&**self.inner.as_ref().ok_or_else(gone)?))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let inner = self.inner.take();
        let dropped = guard("drop", || {
            drop(inner);
            Ok(())
        });
        if let Err(fault) = dropped {
            tracing::warn!(%fault, "the chunk store did not end in order");
        }
    }
}

impl ChunkStore for Guarded {
    fn get(&self, id: ChunkId, read: &mut dyn FnMut(&[u8])) -> ChunkResult<bool> {
        self.run("get", |chunks| chunks.get(id, read))
    }

    fn put(&self, id: ChunkId, bytes: &[u8]) -> ChunkResult<()> {
        self.run("put", |chunks| chunks.put(id, bytes))
    }

    fn put_in_time(&self, id: ChunkId, bytes: Vec<u8>) -> ChunkResult<()> {
        self.run("put", |chunks| chunks.put_in_time(id, bytes))
    }

    fn remove_run(&self, run: u64) -> ChunkResult<()> {
        self.run("remove", |chunks| chunks.remove_run(run))
    }

    fn remove_from(&self, run: u64) -> ChunkResult<()> {
        self.run("remove", |chunks| chunks.remove_from(run))
    }

    fn mark(&self) -> ChunkResult<Option<u64>> {
        self.run("read the mark", ChunkStore::mark)
    }

    fn set_mark(&self, mark: u64) -> ChunkResult<()> {
        self.run("set the mark", |chunks| chunks.set_mark(mark))
    }

    fn sync(&self) -> ChunkResult<()> {
        self.run("sync", ChunkStore::sync)
    }

    fn reopen(&self) -> ChunkResult<()> {
        self.run("reopen", ChunkStore::reopen)
    }

    fn reset(&self) -> ChunkResult<()> {
        self.run("reset", ChunkStore::reset)
    }

    fn bytes(&self) -> u64 {
        self.run("size", |chunks| Ok(chunks.bytes())).unwrap_or(0)
    }

    fn close(&self) {
        let closed = self.run("close", |chunks| {
            chunks.close();
            Ok(())
        });
        if let Err(fault) = closed {
            tracing::warn!(%fault, "the chunk store did not close in order");
        }
    }
}
